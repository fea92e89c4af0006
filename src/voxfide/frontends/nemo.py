"""NeMo's ``.nemo`` archives: configuration and weights, read from the tar file without unpacking it."""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import Any, Self

from torch import Tensor

from voxfide.errors import CheckpointError
from voxfide.frontends.released import read_pickled

CONFIG, WEIGHTS = "model_config.yaml", "model_weights.ckpt"
LARGEST = {CONFIG: 2**20, WEIGHTS: 2**31}
"""Bytes that a member may have: a compressed archive can hold far more than it weighs."""


@dataclass(frozen=True)
class NemoArchive:
    """What is in an archive.

    Attributes:
        path: the archive, for messages.
        config: the parsed ``model_config.yaml``.
        state: the tensors of ``model_weights.ckpt``.
    """

    path: Path
    config: dict[str, Any]
    state: dict[str, Tensor]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads an archive, compressed or not.

        Nothing is written to disk, whatever names the members have, and no code in it runs.

        Raises:
            CheckpointError: not such an archive.
        """
        import yaml

        members = _members(path)
        try:
            config = yaml.safe_load(members[CONFIG])
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{path}: {CONFIG} is not plain YAML ({error})") from None
        if not isinstance(config, dict):
            raise CheckpointError(f"{path}: {CONFIG} holds {type(config).__name__}, expected a mapping")
        content = read_pickled(path, io.BytesIO(members[WEIGHTS]))
        return cls(path, config, {str(k): v for k, v in content.items() if isinstance(v, Tensor)})

    def value(self, key: str) -> Any:
        """The entry at a dotted key of the configuration; None where there is none."""
        at: Any = self.config
        for part in key.split("."):
            at = at.get(part) if isinstance(at, Mapping) else None
        return at


def _members(path: Path) -> dict[str, bytes]:
    """Content of the two members, by file name."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                if not member.isreg() or name not in LARGEST or name in found:
                    continue
                if member.size > LARGEST[name]:
                    raise CheckpointError(f"{path}: {name} has {member.size} bytes (at most {LARGEST[name]})")
                file = archive.extractfile(member)
                found[name] = file.read() if file else b""
    except (tarfile.TarError, OSError, EOFError, zlib.error, LZMAError) as error:
        raise CheckpointError(
            f"{path}: not a readable .nemo archive, which is a tar file ({error})"
        ) from error
    missing = [name for name in LARGEST if name not in found]
    if missing:
        raise CheckpointError(f"{path}: the archive holds no {' and no '.join(missing)}")
    return found
