"""Score files: one score an utterance, higher meaning more bona fide.

voxfide writes what the ASVspoof 5 evaluation package reads, tab-separated with the header
``filename<TAB>cm-score``, and reads these forms, told apart by the first line:

- ``asvspoof5``: the form above.
- ``csv``, ``tsv``, ``text``: separated by commas or semicolons, tabs, or white space, with a
  header that names an utterance column and a score column (:data:`ID_COLUMNS`,
  :data:`SCORE_COLUMNS`, or what the caller says); further columns are ignored.
- ``asvspoof2021``: ``utterance score``, no header.
- ``asvspoof2019``: ``utterance attack key score``, no header.
"""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxfide.errors import ScoreFileError, UsageError
from voxfide.files import write_atomic
from voxfide.types import Float64Array, PathLike

_log = logging.getLogger(__name__)

ID_COLUMNS: Final = ("utterance_id", "filename", "utterance", "utt_id", "utt", "trial", "file", "path")
"""Header names of the utterance column, the first present one being taken."""

SCORE_COLUMNS: Final = ("score", "cm-score", "cm_score")
"""Header names of the score column, the first present one being taken."""

PROBLEMS_SHOWN: Final = 20

_QUOTING: Final = ",;"
"""Delimiters whose fields may be in quotation marks."""

_ASVSPOOF5_HEADER: Final = ("filename", "cm-score")


@dataclass(frozen=True)
class Scores:
    """A score file's content, in file order.

    Attributes:
        utterance_id: ``(trials,)`` str objects, all different.
        score: ``(trials,)`` float64, all finite.
        form: which of the forms above was read.
        source: where it came from, for messages.
    """

    utterance_id: NDArray[np.object_]
    score: Float64Array
    form: str = "asvspoof5"
    source: str = "scores"

    def __len__(self) -> int:
        return len(self.score)


@dataclass(frozen=True)
class _Layout:
    form: str
    delimiter: str | None  # None: any run of white space
    columns: int
    id_column: int
    score_column: int
    has_header: bool


def problem_list(source: str, problems: Sequence[str]) -> ScoreFileError:
    """One error that lists the first problems and counts them all."""
    lines = [f"{source}: {len(problems):,} problem(s)", *(f"  {p}" for p in problems[:PROBLEMS_SHOWN])]
    if len(problems) > PROBLEMS_SHOWN:
        lines.append(f"  … and {len(problems) - PROBLEMS_SHOWN:,} more")
    return ScoreFileError("\n".join(lines))


def read_scores(path: PathLike, *, id_column: str | None = None, score_column: str | None = None) -> Scores:
    """Reads a score file of any known form; see the module's text.

    UTF-8 with or without byte order mark; line ends of any system; empty lines are skipped.

    Args:
        path: the file.
        id_column: header name of the utterance column, where it is none of :data:`ID_COLUMNS`.
        score_column: header name of the score column, where it is none of
            :data:`SCORE_COLUMNS` or there are several. Its scores must be higher for bona fide.

    Raises:
        ScoreFileError: no such file, unknown form, or malformed, duplicate or non-finite
            rows: all of them, with line numbers.
    """
    source = str(path)
    lines = read_lines(Path(path))
    first = next((i for i, line in enumerate(lines) if line.strip()), None)
    if first is None:
        raise ScoreFileError(f"{source}: the file is empty; expected one score an utterance")
    layout = _find_layout(lines[first], f"{source}, line {first + 1}", id_column, score_column)
    body = first + 1 if layout.has_header else first
    numbers = [i for i in range(body, len(lines)) if lines[i] and not lines[i].isspace()]
    if not numbers:
        raise ScoreFileError(f"{source}: a header but no scores")
    ids, scores = _parse([lines[i] for i in numbers], [i + 1 for i in numbers], layout, source)
    _log.info("%s: %d scores, read as %s", source, len(ids), layout.form)
    return Scores(_as_objects(ids), scores, layout.form, source)


def write_scores(path: PathLike, utterance_id: Iterable[str], score: ArrayLike) -> None:
    """Writes ``filename<TAB>cm-score``; the scores read back are exactly the same.

    The file appears under its name only when it is complete.

    Args:
        path: replaced if it exists; its folder must exist.
        utterance_id: ``(trials,)``, all different.
        score: ``(trials,)``, finite, higher means more bona fide.

    Raises:
        UsageError: lengths that differ, duplicate ids, ids that a line cannot hold, scores
            that are not finite, or a folder that does not exist.
    """
    content = score_text(utterance_id, score)
    target = Path(path)
    if not target.parent.is_dir():
        raise UsageError(f"{target}: there is no folder {target.parent} to write it into")
    try:
        write_atomic(target, content)
    except UnicodeEncodeError as error:
        raise UsageError(f"{target}: an utterance id cannot be written as UTF-8: {error}") from error


def score_text(utterance_id: Iterable[str], score: ArrayLike) -> str:
    """The text that :func:`write_scores` writes, with the same arguments and errors."""
    ids = [str(i) for i in utterance_id]
    values = np.asarray(score, dtype=np.float64)
    _check_writable(ids, values)
    rows = "".join(f"{i}\t{s!r}\n" for i, s in zip(ids, values.tolist(), strict=True))
    return "\t".join(_ASVSPOOF5_HEADER) + "\n" + rows


def _check_writable(ids: list[str], values: Float64Array) -> None:
    if values.ndim != 1 or len(ids) != len(values):
        raise UsageError(f"{len(ids):,} utterance ids with scores of shape {values.shape}: expected one each")
    if len(set(ids)) != len(ids):
        raise UsageError(f"{len(ids) - len(set(ids)):,} utterance ids occur more than once")
    unusable = [i for i in ids if not i or i != i.strip() or "\t" in i or "\n" in i or "\r" in i or "\0" in i]
    if unusable:
        raise UsageError(
            f"{len(unusable):,} utterance ids are empty or hold tabs, line breaks or white space at an end "
            f"(first: {unusable[0]!r})"
        )
    n_bad = int(np.count_nonzero(~np.isfinite(values)))
    if n_bad:
        raise UsageError(f"{n_bad:,} of {len(values):,} scores are NaN or infinite")


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, UTF-8 with or without byte order mark, line ends of any system.

    Raises:
        ScoreFileError: no such file, or it cannot be read as text.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise ScoreFileError(f"{path}: no such file") from error
    except OSError as error:
        raise ScoreFileError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ScoreFileError(
            f"{path}: not UTF-8 text (byte {error.start:,}); expected a score file"
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _find_layout(line: str, where: str, id_column: str | None, score_column: str | None) -> _Layout:
    """Tells the form from the first line that is not empty."""
    id_names = (id_column,) if id_column else ID_COLUMNS
    score_names = (score_column,) if score_column else SCORE_COLUMNS
    for delimiter, form in (("\t", "tsv"), (",", "csv"), (";", "csv"), (None, "text")):
        fields = [field.strip() for field in _split(line, delimiter)]
        ids, scores = _position(fields, id_names), _position(fields, score_names)
        if ids is not None and scores is not None and ids != scores:
            official = delimiter == "\t" and tuple(fields) == _ASVSPOOF5_HEADER
            name = "asvspoof5" if official else form
            return _Layout(name, delimiter, len(fields), ids, scores, has_header=True)
    if id_column or score_column:
        raise ScoreFileError(
            f"{where}: {line.strip()[:80]!r} is no header with an utterance column ({', '.join(id_names)}) "
            f"and a score column ({', '.join(score_names)})"
        )
    separator = "\t" if "\t" in line else None
    fields = line.split(separator)
    if len(fields) == 2 and _is_number(fields[1]):
        return _Layout("asvspoof2021", separator, 2, 0, 1, has_header=False)
    if len(fields) == 4 and _is_number(fields[3]):
        return _Layout("asvspoof2019", separator, 4, 0, 3, has_header=False)
    raise ScoreFileError(
        f"{where}: {line.strip()[:80]!r} begins no known form of score file. Expected a header, "
        f"tab- or comma-separated, with an utterance column ({', '.join(ID_COLUMNS)}) and a score "
        f"column ({', '.join(SCORE_COLUMNS)}); or, without a header, 'utterance score' "
        "(ASVspoof 2021) or 'utterance attack key score' (ASVspoof 2019)"
    )


def _position(fields: list[str], names: Sequence[str]) -> int | None:
    lowered = [field.lower() for field in fields]
    exact = (fields.index(name) for name in names if name in fields)
    return next(exact, next((lowered.index(n.lower()) for n in names if n.lower() in lowered), None))


def _is_number(text: str) -> bool:
    """Whether ``text`` is a float as files write them; NaN and infinity count, to be named later."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # which Python allows and no score file means


def _split(line: str, delimiter: str | None) -> list[str]:
    if delimiter is None or delimiter not in _QUOTING:
        return line.split(delimiter)
    try:
        return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:  # a field beyond the csv module's limit: no score file
        return [line]


def _parse(
    lines: list[str], line_numbers: list[int], layout: _Layout, source: str
) -> tuple[list[str], Float64Array]:
    """Takes the two columns at once; only where that fails are the problems searched row by row."""
    columns = _two_columns(lines, layout)
    if columns is not None:
        ids, texts = list(map(str.strip, columns[0])), columns[1]
        try:
            scores = np.array(list(map(float, texts)))
        except ValueError:
            raise problem_list(source, _problems(lines, line_numbers, layout)) from None
        sound = np.isfinite(scores).all() and len(set(ids)) == len(ids) and "" not in ids
        if sound and "_" not in "".join(texts):
            return ids, scores
    raise problem_list(source, _problems(lines, line_numbers, layout))


def _two_columns(lines: list[str], layout: _Layout) -> tuple[list[str], list[str]] | None:
    """Ids and scores as text, or None if a row has not the right number of columns."""
    delimiter, width = layout.delimiter, layout.columns
    if delimiter is not None and delimiter in _QUOTING:
        try:
            rows = list(csv.reader(lines, delimiter=delimiter, skipinitialspace=True))
        except csv.Error:
            return None
        if len(rows) != len(lines) or any(len(row) != width for row in rows):
            return None
        return [row[layout.id_column] for row in rows], [row[layout.score_column] for row in rows]
    if any(len(line.split(delimiter)) != width for line in lines):
        return None
    fields = (delimiter or " ").join(lines).split(delimiter)
    return fields[layout.id_column :: width], fields[layout.score_column :: width]


def _problems(lines: list[str], line_numbers: list[int], layout: _Layout) -> list[str]:
    found = []
    seen: dict[str, int] = {}
    for line, number in zip(lines, line_numbers, strict=True):
        row = _split(line, layout.delimiter)
        if len(row) != layout.columns:
            found.append(f"line {number}: {len(row)} column(s), expected {layout.columns}")
            continue
        name, text = row[layout.id_column].strip(), row[layout.score_column].strip()
        if not name:
            found.append(f"line {number}: the utterance id is empty")
        elif name in seen:
            found.append(f"line {number}: utterance {name!r} occurs again (first on line {seen[name]})")
        else:
            seen[name] = number
        if not _is_number(text):
            found.append(f"line {number}: score {text!r} is not a number")
        elif not math.isfinite(float(text)):
            found.append(f"line {number}: score {text!r} is not finite")
    return found


def _as_objects(strings: list[str]) -> NDArray[np.object_]:
    array = np.empty(len(strings), dtype=object)
    array[:] = strings
    return array
