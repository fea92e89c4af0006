"""Archives as others make them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def write_tar(path: Path, files: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def write_parquet(path: Path, files: dict[str, bytes], **options: int) -> Path:
    cells = [{"bytes": data, "path": name} for name, data in files.items()]
    pq.write_table(pa.table({"n": range(len(cells)), "audio": cells}), path, **options)
    return path
