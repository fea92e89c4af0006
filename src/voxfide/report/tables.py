"""One small table, written as HTML, Markdown, CSV, LaTeX or terminal text.

A cell is ``None``, a string, a number, an *estimate*: anything with a ``value`` and an
``interval`` such as :class:`voxfide.evaluation.Metric`, or a :class:`Spread`. CSV keeps full
precision and spreads an estimate over three columns and a :class:`Spread` over two; the other
forms show what a reader wants to see.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from voxfide.report.markup import printable

MISSING = "–"
"""Shown where there is no value."""

_MOST_IN_A_COLUMN = 10
"""Columns beyond which a LaTeX table takes the page's whole width."""


@runtime_checkable
class Estimate(Protocol):
    """A value and, where it was computed, its confidence interval."""

    @property
    def value(self) -> float: ...

    @property
    def interval(self) -> tuple[float, float] | None: ...


@dataclass(frozen=True)
class Spread:
    """The mean of several runs and their sample standard deviation; ``sd`` ``None``: there was one run."""

    value: float
    sd: float | None = None


@dataclass(frozen=True)
class Column:
    """How one column is named and printed.

    Attributes:
        key: the name in CSV; an estimate adds ``<key>_low`` and ``<key>_high``.
        title: the heading; ``key`` if empty.
        spec: format specification of numbers, as in ``format(value, spec)``.
        estimate: the cells are estimates (or ``None``).
        spread: the cells are :class:`Spread` (or ``None``); CSV has ``<key>`` and ``<key>_sd``.
        best: which end is better, ``low`` or ``high``: the best value is set in bold.
        bar: in HTML, a drawing of value and interval on a scale shared by the column.
        reference: a value marked in every bar (the pooled figure, say).
        right: text that is set like numbers.
        wrap: in HTML, long text may break; for prose columns.
    """

    key: str
    title: str = ""
    spec: str = ""
    estimate: bool = False
    spread: bool = False
    best: Literal["", "low", "high"] = ""
    bar: bool = False
    reference: float | None = None
    right: bool = False
    wrap: bool = False

    @property
    def heading(self) -> str:
        return self.title or self.key


@dataclass(frozen=True)
class Table:
    """Columns and rows of equal length; the first column names the row.

    Attributes:
        caption: one or two sentences; shown by every form except CSV.
        sortable: in HTML, a click on a heading sorts (without scripts it stays as given).
        group_by: where any of this many leading cells changes, HTML and LaTeX draw a rule.

    Raises:
        ValueError: a row with more or fewer cells than there are columns.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    sortable: bool = False
    group_by: int = 0

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows, 1):
            if len(row) != len(self.columns):
                raise ValueError(f"row {number} has {len(row)} cells, the table {len(self.columns)} columns")

    def right_aligned(self) -> list[bool]:
        """For each column, whether it is set flush right: numbers and nothing else."""
        aligned = []
        for index, column in enumerate(self.columns):
            cells = [plain(row[index]) for row in self.rows]
            given = [cell for cell in cells if cell is not None]
            numbers = bool(given) and all(map(is_number, given))
            aligned.append(column.estimate or column.spread or column.right or numbers)
        return aligned

    def best_rows(self) -> list[set[int]]:
        """For each column, the rows whose value is the best as it is shown; none without a rival."""
        return [_best_rows([row[i] for row in self.rows], c) for i, c in enumerate(self.columns)]

    def group_starts(self) -> set[int]:
        """Rows above which a rule is drawn."""
        keys = [[plain(cell) for cell in row[: self.group_by]] for row in self.rows]
        return {i for i in range(1, len(keys)) if keys[i] != keys[i - 1]}

    def texts(self) -> list[list[str]]:
        """The cells as shown in text forms, with strings made printable."""
        return [[show(cell, c) for cell, c in zip(row, self.columns, strict=True)] for row in self.rows]

    def to_csv(self) -> str:
        """RFC 4180 with ``\\n`` line ends and a heading row of keys; floats to full precision."""
        lines = [[name for column in self.columns for name in _csv_names(column)]]
        for row in self.rows:
            fields = (_csv_fields(cell, column) for cell, column in zip(row, self.columns, strict=True))
            lines.append([field for group in fields for field in group])
        return "".join(map(_csv_line, lines))

    def to_markdown(self) -> str:
        """A GitHub-flavoured pipe table, padded so that the source reads well too."""
        right = self.right_aligned()
        head = [_markdown(printable(c.heading)) for c in self.columns]
        best = self.best_rows()
        body = [
            [f"**{_markdown(text)}**" if i in best[j] else _markdown(text) for j, text in enumerate(row)]
            for i, row in enumerate(self.texts())
        ]
        widths = [max(3, *(_width(row[i]) for row in [head, *body])) for i in range(len(head))]
        rule = ["-" * (w - 1) + ":" if r else "-" * w for w, r in zip(widths, right, strict=True)]
        lines = [
            "| " + " | ".join(_pad(c, w, r) for c, w, r in zip(row, widths, right, strict=True)) + " |"
            for row in [head, rule, *body]
        ]
        caption = [_markdown(printable(self.caption)), ""] if self.caption else []
        return "\n".join([*caption, *lines]) + "\n"

    def to_latex(self) -> str:
        """A ``booktabs`` tabular; inside a float where there is a caption, over the full width if wide."""
        right = self.right_aligned()
        spec = "".join("r" if r else "l" for r in right)
        lines = [f"\\begin{{tabular}}{{{spec}}}", "\\toprule"]
        lines.append(" & ".join(_latex(printable(c.heading)) for c in self.columns) + " \\\\")
        lines.append("\\midrule")
        best, starts = self.best_rows(), self.group_starts()
        for i, row in enumerate(self.texts()):
            cells = [_latex(text, minus=r) for text, r in zip(row, right, strict=True)]
            cells = [f"\\textbf{{{cell}}}" if i in best[j] else cell for j, cell in enumerate(cells)]
            lines += ["\\midrule"] if i in starts else []
            lines.append(" & ".join(cells) + " \\\\")
        lines += ["\\bottomrule", "\\end{tabular}"]
        if self.caption:
            caption = f"\\caption{{{_latex(printable(self.caption))}}}"
            wide = len(self.columns) > _MOST_IN_A_COLUMN
            if wide:  # needs the package graphicx beside booktabs
                lines = ["\\resizebox{\\textwidth}{!}{%", *lines, "}"]
            float_ = "table*" if wide else "table"
            lines = [f"\\begin{{{float_}}}[t]", "\\centering", caption, *lines, f"\\end{{{float_}}}"]
        return "\n".join(lines) + "\n"

    def to_html(self, *, label: str = "", anchor: str = "") -> str:
        """A ``<table>`` with caption and scopes, in a box that scrolls sideways on small screens.

        Args:
            label: "Table 3", put before the caption.
            anchor: ``id`` of the caption; unique in the page.
        """
        from voxfide.report.table_html import table_html

        return table_html(self, label, anchor)

    def to_text(self) -> str:
        """Aligned columns for a terminal, two spaces apart; wide characters count double."""
        right = self.right_aligned()
        head = [printable(c.heading) for c in self.columns]
        body = self.texts()
        widths = [max(_width(row[i]) for row in [head, *body]) for i in range(len(head))]
        rule = ["─" * w for w in widths]
        lines = [
            "  ".join(_pad(c, w, r) for c, w, r in zip(row, widths, right, strict=True)).rstrip()
            for row in [head, rule, *body]
        ]
        return "\n".join([*([printable(self.caption)] if self.caption else []), *lines]) + "\n"


def plain(cell: Any) -> Any:
    """The cell itself, or what it is an estimate or mean of; NumPy scalars as Python's; NaN as ``None``."""
    value = cell.value if isinstance(cell, (Spread, Estimate)) else cell
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value


def show(cell: Any, column: Column) -> str:
    """A cell as text: ``12.34 [11.02, 13.60]`` for an estimate, ``12.34 ± 0.56``, ``–`` for nothing."""
    value = plain(cell)
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not is_number(value):
        return printable(str(value))
    text = number(value, column.spec)
    if isinstance(cell, Spread):
        return text if cell.sd is None else f"{text} ± {number(cell.sd, column.spec)}"
    interval = cell.interval if isinstance(cell, Estimate) else None
    if interval is None:
        return text
    return f"{text} [{number(interval[0], column.spec)}, {number(interval[1], column.spec)}]"


def number(value: float, spec: str = "") -> str:
    """A number by ``spec``; without one, thousands separated or four significant digits."""
    if math.isnan(value):
        return MISSING
    return format(value, spec or ("," if isinstance(value, int) else ".4g"))


def is_number(value: Any) -> bool:
    """Whether a plain cell is a number (``bool`` is none)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _best_rows(cells: Sequence[Any], column: Column) -> set[int]:
    values = {i: v for i, cell in enumerate(cells) if is_number(v := plain(cell))}
    if not column.best or len(values) < 2:
        return set()
    best = (min if column.best == "low" else max)(values.values())
    return {i for i, v in values.items() if number(v, column.spec) == number(best, column.spec)}


def _csv_line(fields: Sequence[str]) -> str:
    # Only with its own line end "\r\n" does every version of the writer quote a lone "\r".
    out = io.StringIO()
    csv.writer(out).writerow(fields)
    return out.getvalue().removesuffix("\r\n") + "\n"


def _csv_names(column: Column) -> list[str]:
    if column.spread:
        return [column.key, f"{column.key}_sd"]
    return [column.key, f"{column.key}_low", f"{column.key}_high"] if column.estimate else [column.key]


def _csv_fields(cell: Any, column: Column) -> list[str]:
    value = plain(cell)
    first = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    if column.spread:
        sd = cell.sd if isinstance(cell, Spread) else None
        return [first, "" if sd is None else str(float(sd))]
    if not column.estimate:
        return [first]
    interval = cell.interval if isinstance(cell, Estimate) else None
    ends = ["" if math.isnan(end) else str(float(end)) for end in interval] if interval else ["", ""]
    return [first, *ends]


def _markdown(text: str) -> str:
    # An underscore inside a word starts no emphasis; escaping it would only spoil the source.
    text = re.sub(r"([\\`*<|]|\[(?![-\d.]))", r"\\\1", text)
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "±": r"$\pm$",
    "×": r"$\times$",
    **{c: "\\" + c for c in "&%$#_{}"},
}


def _latex(text: str, *, minus: bool = False) -> str:
    # A "[" at the start of a row would be read as the optional argument of the "\\" before it.
    escaped = "".join(_LATEX.get(c, c) for c in text)
    escaped = re.sub(r"-(?=\d)", "$-$", escaped) if minus else escaped
    return "{[}" + escaped[1:] if escaped.startswith("[") else escaped


def _width(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def _pad(text: str, width: int, right: bool) -> str:
    gap = " " * (width - _width(text))
    return gap + text if right else text + gap
