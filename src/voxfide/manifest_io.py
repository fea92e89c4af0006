"""Reading and writing manifest tables; see :mod:`voxfide.manifest` for what they mean."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from voxfide.errors import ManifestError

STRING_COLUMNS = ("utterance_id", "path", "label")


def read_table(path: Path) -> pa.Table:
    """A manifest file as a table: CSV and TSV columns as strings, Parquet as typed.

    Raises:
        ManifestError: no such file, an unreadable one, or rows of the wrong width.
    """
    if not path.is_file():
        raise ManifestError(str(path), ["no such file (expected a .csv, .tsv or .parquet manifest)"])
    try:
        if path.suffix.lower() == ".parquet":
            table = pq.read_table(path)
        else:
            table = _read_csv(path, "\t" if path.suffix.lower() == ".tsv" else ",")
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError, UnicodeDecodeError) as error:
        raise ManifestError(str(path), [f"not readable as a table: {error}"]) from error
    for name in STRING_COLUMNS:
        if name in table.column_names:
            position = table.column_names.index(name)
            table = table.set_column(position, name, table.column(name).cast(pa.string()))
    return table


def _read_csv(path: Path, delimiter: str) -> pa.Table:
    with path.open("rb") as file:
        header = file.readline()
    if not header.strip():
        raise ManifestError(str(path), ["empty file (expected a header line with utterance_id, path, label)"])
    problems: list[str] = []

    def on_invalid(row: pacsv.InvalidRow) -> str:
        # Row numbers count the header, and only serial reading knows them.
        number = "?" if row.number is None else row.number - 1
        problems.append(f"row {number}: {row.actual_columns} cells (expected {row.expected_columns})")
        return "skip"

    parse = pacsv.ParseOptions(
        delimiter=delimiter, newlines_in_values=True, invalid_row_handler=on_invalid, ignore_empty_lines=True
    )
    names = pacsv.read_csv(
        pa.BufferReader(header.rstrip(b"\r\n") + b"\n"), parse_options=pacsv.ParseOptions(delimiter=delimiter)
    ).column_names
    repeated = sorted({n for n in names if names.count(n) > 1})
    if repeated:
        raise ManifestError(str(path), [f"column {n!r} occurs more than once" for n in repeated])
    convert = pacsv.ConvertOptions(
        column_types={n: pa.string() for n in names}, strings_can_be_null=True, null_values=[""], quoted_strings_can_be_null=False
    )  # fmt: skip
    table = pacsv.read_csv(
        path, read_options=pacsv.ReadOptions(use_threads=False), parse_options=parse, convert_options=convert
    )
    if problems:
        raise ManifestError(str(path), problems)
    return table


def write_table(table: pa.Table, path: Path) -> None:
    """Writes CSV, TSV or Parquet by suffix, to a temporary name first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if path.suffix.lower() == ".parquet":
            pq.write_table(table, temporary, compression="zstd")
        else:
            delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
            options = pacsv.WriteOptions(delimiter=delimiter, quoting_style="needed", quoting_header="needed")
            pacsv.write_csv(table, temporary, options)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
