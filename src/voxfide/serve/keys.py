"""API keys: made here, kept as hashes, compared in constant time.

A key holds 256 random bits, so that a plain SHA-256 of it cannot be searched; passwords, which would
need a slow hash, are not taken. The file has one ``NAME:sha256:HEX`` a line; ``#`` starts a comment.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from pathlib import Path
from typing import Final

from voxfide.errors import UsageError
from voxfide.files import replacing

PREFIX: Final = "vxf_"
_LINE: Final = re.compile(r"([A-Za-z0-9._@-]{1,64}):sha256:([0-9a-f]{64})")


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


class KeyRing:
    """The keys of a file.

    Args:
        hashes: name to hex digest.
    """

    def __init__(self, hashes: dict[str, str]) -> None:
        self._hashes = dict(hashes)

    def __len__(self) -> int:
        return len(self._hashes)

    @classmethod
    def read(cls, path: Path) -> KeyRing:
        """Reads a file of keys.

        Raises:
            UsageError: not readable, a line that is no key, a name twice, or no key at all.
        """
        hashes = _read(path)
        if not hashes:
            raise UsageError(f"{path}: holds no key (`voxfide serve-key {path} NAME` makes one)")
        return cls(hashes)

    def owner(self, key: str) -> str | None:
        """The name that a key was made for; ``None`` for a wrong one.

        Every hash is compared, each in constant time: how long it takes tells nothing.
        """
        given, found = _digest(key), None
        for name, expected in self._hashes.items():
            if hmac.compare_digest(given, expected):
                found = name
        return found


def add_key(path: Path, name: str) -> str:
    """Makes a key, adds its hash to the file, and returns the key, which is stored nowhere.

    A file that does not exist is made, readable by its owner alone.

    Raises:
        UsageError: a name that is taken or cannot be, or a file that is none of keys.
    """
    hashes = _read(path) if path.exists() else {}
    if name in hashes:
        raise UsageError(f"{path}: {name!r} has a key already; delete its line to withdraw it")
    key = PREFIX + secrets.token_urlsafe(32)
    line = f"{name}:sha256:{_digest(key)}"
    if not _LINE.fullmatch(line):
        raise UsageError(f"{name!r}: expected a name of 1 to 64 letters, digits and . _ @ -")
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    if before and not before.endswith("\n"):
        before += "\n"
    with replacing(path) as temporary:
        temporary.chmod(0o600)
        temporary.write_text(f"{before}{line}\n", encoding="utf-8")
    path.chmod(0o600)
    return key


def _read(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not readable as a file of keys: {error}") from error
    hashes: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = _LINE.fullmatch(text)
        if match is None:
            raise UsageError(f"{path}, line {number}: expected NAME:sha256:HEX")
        if match[1] in hashes:
            raise UsageError(f"{path}, line {number}: a second key of {match[1]!r}")
        hashes[match[1]] = match[2]
    return hashes
