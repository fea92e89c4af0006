"""Reading and writing manifest tables, and their columns as text; see :mod:`voxfide.manifest`."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from voxfide.errors import ManifestError, UsageError
from voxfide.files import write_atomic

REQUIRED_COLUMNS: Final = ("utterance_id", "path", "label")
DELIMITERS: Final = {".csv": ",", ".tsv": "\t"}
SUFFIXES: Final = (*DELIMITERS, ".parquet")


def read_table(path: Path, delimiter: str | None = None) -> pa.Table:
    """A manifest file as a table: CSV and TSV columns as strings, empty cells null; Parquet as typed.

    Args:
        path: ends in one of :data:`SUFFIXES`, or in anything where ``delimiter`` is given.
        delimiter: reads text with this delimiter, whatever the suffix.

    Raises:
        ManifestError: no such file, an unreadable one, repeated columns, or rows of the
            wrong width, all of them.
    """
    suffix = path.suffix.lower()
    if not path.is_file():
        raise ManifestError(str(path), [f"no such file (expected a manifest: {', '.join(SUFFIXES)})"])
    if delimiter is None and suffix not in SUFFIXES:
        raise ManifestError(str(path), [f"unknown kind of file {suffix!r} (expected {', '.join(SUFFIXES)})"])
    try:
        if delimiter is None and suffix == ".parquet":
            table = pq.ParquetFile(path).read()
            _require_distinct(table.column_names, path)
            return table
        return _read_text(path, delimiter or DELIMITERS[suffix])
    except (pa.ArrowException, csv.Error, OSError, UnicodeDecodeError) as error:
        encoding = isinstance(error, UnicodeDecodeError) or "invalid UTF8 data" in str(error)
        problem = _not_utf8(path) if encoding else f"not readable as a table: {error}"
        raise ManifestError(str(path), [problem]) from error


def _read_text(path: Path, delimiter: str) -> pa.Table:
    names, has_rows = _read_header(path, delimiter)
    _require_distinct(names, path)
    if not has_rows:
        return pa.table({name: pa.array([], pa.string()) for name in names})
    _require_closed_quotes(path, delimiter)
    problems: list[str] = []

    def on_invalid(row: pacsv.InvalidRow) -> str:
        # Counted with the header, without empty lines; only serial reading knows the number.
        number = "?" if row.number is None else row.number - 1
        problems.append(f"row {number}: {row.actual_columns} cells (expected {row.expected_columns})")
        return "skip"

    table = pacsv.read_csv(
        path,
        # A row must fit into one block.
        read_options=pacsv.ReadOptions(use_threads=False, block_size=8 << 20),
        parse_options=pacsv.ParseOptions(
            delimiter=delimiter, newlines_in_values=True, invalid_row_handler=on_invalid
        ),
        convert_options=pacsv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
        ),
    )
    if problems:
        raise ManifestError(str(path), problems)
    return table


def _read_header(path: Path, delimiter: str) -> tuple[list[str], bool]:
    """The first line that is not empty, as column names, and whether anything follows it."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        for names in csv.reader(file, delimiter=delimiter):
            if names:
                return names, file.read(1) != ""
    raise ManifestError(str(path), ["empty file (expected a header line with utterance_id, path, label)"])


def _not_utf8(path: Path) -> str:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return f"line {number}: not UTF-8 text (expected UTF-8, with or without byte order mark)"
    return "text that is not UTF-8"


def _require_distinct(names: Sequence[str], path: Path) -> None:
    repeated = [n for n in dict.fromkeys(names) if names.count(n) > 1]
    if repeated:
        raise ManifestError(str(path), [f"column {n!r} occurs more than once" for n in repeated])


def _require_closed_quotes(path: Path, delimiter: str) -> None:
    """Refuses quotes that Arrow would repair silently, by joining cells or swallowing rows."""
    with path.open("rb") as file:
        if not any(b'"' in block for block in iter(lambda: file.read(1 << 20), b"")):
            return
    row = -1
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            for cells in csv.reader(file, delimiter=delimiter, strict=True):
                row += bool(cells)
        except csv.Error as error:
            where = f"row {row + 1}" if row >= 0 else "header"
            problem = f"{where}: a quoted cell does not end as it should ({error})"
            raise ManifestError(str(path), [problem]) from error


def as_column(name: str, values: Iterable[Any], source: str) -> pa.ChunkedArray:
    """A column from Python values, or an Arrow array as it is.

    Raises:
        ManifestError: values that have no type in common.
    """
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values])
    items = list(values)
    if name in REQUIRED_COLUMNS:
        items = [None if v is None else str(v) for v in items]
    try:
        return pa.chunked_array([pa.array(items)])
    except (pa.ArrowException, UnicodeEncodeError, OverflowError) as error:
        raise ManifestError(source, [f"column {name!r}: {error}"]) from error


def normalised(table: pa.Table) -> pa.Table:
    """Ids, paths and labels as strings, other text as plain strings too, empty text as null."""
    for position, field in enumerate(table.schema):
        column = table.column(position)
        if field.name in REQUIRED_COLUMNS or any(is_(field.type) for is_ in (*_TEXT, *_BINARY)):
            column = _decoded(column)
        if field.name in REQUIRED_COLUMNS and not pa.types.is_string(column.type):
            column = as_text(column)
        if pa.types.is_string(column.type):
            empty = pc.equal(column, "")
            if pc.any(empty).as_py():
                column = pc.if_else(empty, pa.scalar(None, pa.string()), column)
        table = table.set_column(position, field.name, column)
    return table


_TEXT: Final = (pa.types.is_large_string, pa.types.is_string_view)
_BINARY: Final = (
    pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary
)  # fmt: skip


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text that is stored in another way, or as bytes without saying so; what is no text stays."""
    try:
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return column


def as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Any column as strings, the way CSV holds it; nulls stay. What has no plain form becomes JSON."""
    if not any(is_(column.type) for is_ in (pa.types.is_nested, *_BINARY)):
        try:
            return column.cast(pa.string())
        except pa.ArrowNotImplementedError:
            pass
    return pa.chunked_array([pa.array(map(_json, column.to_pylist()), pa.string())])


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False, default=str)


def concatenate(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables below each other; absent cells are null.

    Numbers widen to fit; a column whose types have nothing else in common becomes text.
    """
    for name in dict.fromkeys(n for table in tables for n in table.column_names):
        fields = [pa.schema([t.schema.field(name)]) for t in tables if name in t.column_names]
        try:
            pa.unify_schemas(fields, promote_options="permissive")
        except pa.ArrowTypeError:
            tables = [_with_text(t, name) for t in tables]
    return pa.concat_tables(tables, promote_options="permissive")


def _with_text(table: pa.Table, name: str) -> pa.Table:
    if name not in table.column_names:
        return table
    return table.set_column(table.column_names.index(name), name, as_text(table.column(name)))


def write_table(table: pa.Table, path: Path) -> None:
    """Writes CSV, TSV or Parquet by suffix; the file appears whole or not at all.

    Raises:
        UsageError: another suffix.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"{path}: unknown kind of file {suffix!r} (expected {', '.join(SUFFIXES)})")
    if suffix == ".parquet":
        content = pa.BufferOutputStream()
        pq.write_table(table, content, compression="zstd")
        write_atomic(path, content.getvalue())
    else:
        write_atomic(path, "".join(f"{line}\n" for line in _lines(table, DELIMITERS[suffix])))


def _lines(table: pa.Table, delimiter: str) -> Iterator[str]:
    """Lines of CSV with quotes around those cells only that need them; Arrow's writer quotes all text."""

    def cells(text: pa.ChunkedArray) -> pa.ChunkedArray:
        escaped = pc.replace_substring(text, '"', '""')
        quoted = pc.binary_join_element_wise('"', escaped, '"', "")
        return pc.if_else(pc.match_substring_regex(text, f'[{delimiter}"\r\n\ufeff]'), quoted, text)

    yield delimiter.join(cells(pa.array(table.column_names, pa.string())).to_pylist())
    columns = [cells(pc.fill_null(as_text(column), "")) for column in table.columns]
    yield from pc.binary_join_element_wise(*columns, delimiter).to_pylist()
