"""Names of members: keys that WebDataset reads back, whatever an utterance id holds."""

from __future__ import annotations

import hashlib
import re
from pathlib import PurePath
from typing import Final
from urllib.parse import quote

_MAX_KEY: Final = 88
"""With a suffix below 100 bytes, which is what the header of a tar member takes in all of its dialects."""

_SUFFIX: Final = re.compile(r"\.[a-z0-9]{1,8}")
_UNKNOWN: Final = ".audio"


def member_key(utterance_id: str) -> str:
    """ASCII letters, digits, ``-`` and ``_`` as they are, all else as ``%XX`` of its UTF-8.

    WebDataset takes a member's name up to the first dot of its last part for the key of a sample, so
    neither dots nor slashes may stay. Keys are as different as ids are; one that would become longer than
    88 characters is cut and ends in a digest.
    """
    key = quote(utterance_id, safe="").replace(".", "%2E").replace("~", "%7E")
    if len(key) <= _MAX_KEY:
        return key
    digest = hashlib.blake2b(utterance_id.encode(), digest_size=8).hexdigest()
    return f"{key[: _MAX_KEY - 1 - len(digest)]}~{digest}"


def member_suffix(path: PurePath) -> str:
    """The suffix of a file in small letters; ``.audio`` where it has none that could be one of audio."""
    suffix = path.suffix.lower()
    return suffix if _SUFFIX.fullmatch(suffix) and suffix != ".json" else _UNKNOWN
