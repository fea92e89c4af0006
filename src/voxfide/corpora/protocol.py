"""Protocol files: one line an utterance, columns split at blanks or at a delimiter.

Read in blocks straight into Arrow columns, so that 680,774 lines take little time and
memory. What is wrong with a file is collected, with line numbers, to be told all at once.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from voxfide.corpora.folder import AUDIO_SUFFIXES
from voxfide.errors import ManifestError
from voxfide.types import UNKNOWN, IntArray

MAX_PROBLEMS: Final = 1000
"""More than these are counted no further: the file is of another kind."""

_BLOCK: Final = 1 << 15
_SNIFFED: Final = 200
_BOM: Final = b"\xef\xbb\xbf"
_HEADER_WORDS: Final = {
    b"file", b"filename", b"file_name", b"flac_file_name", b"audio_file_name", b"utterance", b"utterance_id",
    b"trial", b"speaker_id", b"key", b"label", b"cm-label",
}  # fmt: skip
_SUFFIX: Final = r"(?i)\.(?:" + "|".join(s[1:] for s in sorted(AUDIO_SUFFIXES)) + r")$"

Split = Callable[[bytes], list[bytes]]


@dataclass
class Problems:
    """What is wrong with the files of a corpus, by file and line."""

    root: Path
    found: list[str] = field(default_factory=list)

    @property
    def full(self) -> bool:
        return len(self.found) >= MAX_PROBLEMS

    def add(self, path: Path, line: int, text: str) -> None:
        if not self.full:
            where = path.relative_to(self.root) if path.is_relative_to(self.root) else path
            self.found.append(f"{where}, line {line}: {text}")

    def check(self) -> None:
        """Raises all of them, if any, as a :class:`ManifestError`."""
        if self.found:
            if self.full:
                self.found.append(f"more than {MAX_PROBLEMS} problems: the rest was not looked at")
            raise ManifestError(str(self.root), self.found)


@dataclass(frozen=True)
class Form:
    """One form that the lines of a protocol may have.

    Attributes:
        columns: names from left to right; ``file`` is needed, those named ``_`` are skipped.
        labels: what the words of column ``label`` mean; without that column labels are unknown.
        delimiter: what separates columns; None is any run of blanks.
    """

    columns: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    delimiter: bytes | None = None

    def __str__(self) -> str:
        names = ", ".join(c for c in self.columns if c != "_")
        return f"{len(self.columns)} column{'s' * (len(self.columns) != 1)} ({names})"


@dataclass(frozen=True)
class Protocol:
    """A protocol that was read.

    Attributes:
        columns: name to strings, ``(rows,)``; ``utterance_id`` is the file's name without
            folder and audio suffix, ``label`` one of voxfide's.
        form: the one that fitted.
        has_header: whether the first line names the columns.
        lines: in which line of the file each row stands, ``(rows,)``, from 1.
    """

    path: Path
    columns: dict[str, pa.ChunkedArray]
    form: Form
    has_header: bool
    lines: IntArray

    def __len__(self) -> int:
        return len(self.columns["utterance_id"])

    def __str__(self) -> str:
        return f"{self.path.name}: {self.form}, {'with' if self.has_header else 'no'} header line"


def read_protocol(path: Path, forms: Sequence[Form], problems: Problems) -> Protocol | None:
    """Reads a protocol in whichever of ``forms`` has as many columns as its lines.

    Byte order mark, CRLF, blank lines and blanks around columns do not matter. None where
    nothing could be read; ``problems`` then says why. They also hold every line with too few
    or too many columns, every unknown label and every id that occurs again.
    """
    lines = _lines(path, problems)
    if lines is None:
        return None
    start, has_header = _after_header(lines, forms[0].delimiter)
    form = _fitting(lines[start:], forms)
    if form is None:
        number = next((n for n, line in enumerate(lines[start:], start + 1) if line.strip()), 1)
        if number > len(lines) or not any(line.strip() for line in lines[start:]):
            problems.add(path, number, "no rows")
        else:
            width = len(_splitter(forms[0].delimiter)(lines[number - 1]))
            problems.add(path, number, f"{width} columns (expected {' or '.join(map(str, forms))})")
        return None
    return _read(path, lines, start, form, has_header, problems)


def read_headed(
    path: Path, delimiter: bytes, required: Sequence[str], labels: Mapping[str, str], problems: Problems,
    *, quoted: bool = False,
) -> Protocol | None:  # fmt: skip
    """Reads a table whose first line names its columns, of which ``required`` must be there.

    Args:
        labels: what the words of column ``label`` mean; none where there is no such column.
        quoted: cells may be quoted as in CSV; else a quote is a character like any other.
    """
    lines = _lines(path, problems)
    if lines is None:
        return None
    split = _quoted_splitter(delimiter) if quoted else _splitter(delimiter)
    names = [cell.decode().strip() for cell in split(lines[0])] if lines else []
    missing = [name for name in required if name not in names]
    if missing or len(set(names)) < len(names):
        wrong = f"no column {', '.join(map(repr, missing))}" if missing else "a column occurs twice"
        problems.add(path, 1, f"{wrong} (found: {', '.join(map(repr, names)) or 'nothing'})")
        return None
    form = Form(tuple("file" if name == required[0] else name for name in names), labels, delimiter)
    return _read(path, lines, 1, form, True, problems, split)


def head_rows(path: Path, delimiter: bytes | None = None) -> list[list[str]]:
    """The columns of some first lines, header or not; for telling files of one name apart."""
    with path.open("rb") as file:
        lines = file.read(1 << 14).removeprefix(_BOM).splitlines()
    split = _splitter(delimiter)
    return [[cell.decode("utf-8", "replace") for cell in split(line)] for line in lines[:20] if line.strip()]


def _lines(path: Path, problems: Problems) -> list[bytes] | None:
    try:
        data = path.read_bytes().removeprefix(_BOM)
    except OSError as error:
        problems.add(path, 1, f"cannot be read ({error.strerror})")
        return None
    lines = data.splitlines()
    if not data.isascii():
        for number, line in enumerate(lines, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                problems.add(path, number, "not UTF-8 text")
                return None
    return lines


def _splitter(delimiter: bytes | None) -> Split:
    if delimiter is None:
        return bytes.split
    return lambda line: [cell.strip() for cell in line.split(delimiter)]


def _quoted_splitter(delimiter: bytes) -> Split:
    mark = delimiter.decode()
    return lambda line: [
        cell.strip().encode() for row in csv.reader([line.decode()], delimiter=mark) for cell in row
    ]


def _after_header(lines: list[bytes], delimiter: bytes | None) -> tuple[int, bool]:
    """Index of the first line of data, and whether a header stands before it."""
    split = _splitter(delimiter)
    for index, line in enumerate(lines):
        if cells := split(line):
            has_header = bool(_HEADER_WORDS & {cell.lower() for cell in cells})
            return index + has_header, has_header
    return 0, False


def _fitting(lines: list[bytes], forms: Sequence[Form]) -> Form | None:
    """The form of most of the first lines, so that one bad line does not decide."""
    split = _splitter(forms[0].delimiter)
    widths = Counter(len(cells) for line in lines[:_SNIFFED] if (cells := split(line)))
    fitting = [form for form in forms if widths[len(form.columns)]]
    return max(fitting, key=lambda form: widths[len(form.columns)], default=None)


def _read(
    path: Path,
    lines: list[bytes],
    start: int,
    form: Form,
    has_header: bool,
    problems: Problems,
    split: Split | None = None,
) -> Protocol:
    """All lines from ``start`` on; bad ones are told and left out."""
    columns = _regular(lines[start:], form) if form.delimiter is None else None
    at = np.arange(start + 1, len(lines) + 1)
    if columns is None:
        columns, at = _irregular(path, lines, start, form, problems, split or _splitter(form.delimiter))
    names = columns.pop("file")
    # Looking first is much faster than replacing what is not there.
    for sign, pattern in ((r"[/\\]", r"^.*[/\\]"), (r"\.", _SUFFIX)):
        if pc.any(pc.match_substring_regex(names, sign)).as_py():
            names = pc.replace_substring_regex(names, pattern, "")
    read = {"utterance_id": names} | columns
    _check_ids(path, read["utterance_id"], at, problems)
    read["label"] = _labels(path, read.get("label"), form, at, problems)
    return Protocol(path, read, form, has_header, at)


def _regular(lines: list[bytes], form: Form) -> dict[str, pa.ChunkedArray] | None:
    """The columns of lines with a single space between them, the fast way; None for any others."""
    data = b"\n".join(lines)
    if any(blank in data for blank in (b"\t", b"\v", b"\f", b"\r")):
        return None
    names = [str(i) for i in range(len(form.columns))]
    try:
        table = pacsv.read_csv(
            pa.BufferReader(data),
            read_options=pacsv.ReadOptions(column_names=names),
            parse_options=pacsv.ParseOptions(delimiter=" ", quote_char=False),
            convert_options=pacsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        )
    except pa.ArrowInvalid:
        return None
    # Several blanks in a row, or at an end, make empty cells; blank lines are skipped.
    if table.num_rows != len(lines) or any(pc.any(pc.equal(c, "")).as_py() for c in table.columns):
        return None
    return {name: table.column(i) for i, name in enumerate(form.columns) if name != "_"}


def _irregular(
    path: Path, lines: list[bytes], start: int, form: Form, problems: Problems, split: Split
) -> tuple[dict[str, pa.ChunkedArray], IntArray]:
    """The columns of lines of any kind and the numbers of those that are good."""
    width = len(form.columns)
    kept = {name: i for i, name in enumerate(form.columns) if name != "_"}
    blocks: dict[str, list[pa.Array]] = {name: [] for name in kept}
    numbers: list[IntArray] = []
    for first in range(start, len(lines), _BLOCK):
        rows = [split(line) for line in lines[first : first + _BLOCK]]
        good = np.fromiter((len(row) == width for row in rows), bool, len(rows))
        for i in np.flatnonzero(~good).tolist():
            if any(rows[i]):
                problems.add(path, first + 1 + i, f"{len(rows[i])} columns (expected {form})")
        numbers.append(first + 1 + np.flatnonzero(good))
        cells = list(zip(*(row for row in rows if len(row) == width), strict=True)) or [()] * width
        for name, i in kept.items():
            blocks[name].append(pa.array(cells[i], pa.binary()))
    columns = {name: pa.chunked_array(b, pa.binary()).cast(pa.string()) for name, b in blocks.items()}
    return columns, np.concatenate(numbers) if numbers else np.zeros(0, np.int64)


def _check_ids(path: Path, ids: pa.ChunkedArray, at: np.ndarray, problems: Problems) -> None:
    counts = pc.value_counts(ids)
    repeated = pc.filter(counts.field("values"), pc.greater(counts.field("counts"), 1))
    empty = pc.equal(ids, "").to_numpy()
    for row in np.flatnonzero(empty).tolist():
        problems.add(path, int(at[row]), "no file name")
    first: dict[str, int] = {}
    again = np.flatnonzero(pc.is_in(ids, value_set=repeated).to_numpy() & ~empty)
    for row, name in zip(again.tolist(), ids.take(pa.array(again, pa.int64())).to_pylist(), strict=True):
        if name in first:
            problems.add(path, int(at[row]), f"{name!r} again (first on line {first[name]})")
        else:
            first[name] = int(at[row])


def _labels(
    path: Path, words: pa.ChunkedArray | None, form: Form, at: np.ndarray, problems: Problems
) -> pa.ChunkedArray:
    if words is None or not form.labels:
        return pa.chunked_array([pa.array([UNKNOWN]).take(pa.array(np.zeros(len(at), np.int64)))])
    known = pa.array(list(form.labels), pa.string())
    meant = pa.array(list(form.labels.values()), pa.string())
    position = pc.index_in(words, value_set=known)
    for row in np.flatnonzero(pc.is_null(position).to_numpy()).tolist():
        if problems.full:
            break
        word = words[row].as_py()
        problems.add(path, int(at[row]), f"label {word!r} (expected {', '.join(form.labels)})")
    return pa.chunked_array([meant.take(chunk) for chunk in position.chunks], pa.string())
