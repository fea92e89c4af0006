"""A table as accessible HTML: caption, scopes, and bars drawn beside estimates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from voxfide.report.markup import escape, inline
from voxfide.report.svg import interval_bar
from voxfide.report.tables import MISSING, Column, Estimate, Spread, Table, is_number, number, plain, show

_MOST_ON_ONE_LINE = 6
"""Columns of means beyond which their deviations go below them, so that the table fits the page."""


def table_html(table: Table, label: str, anchor: str) -> str:
    """See :meth:`voxfide.report.tables.Table.to_html`."""
    right = table.right_aligned()
    scales = [_bar_scale(table.rows, i) if c.bar else 0.0 for i, c in enumerate(table.columns)]
    widths = [_estimate_widths(table.rows, i, c) for i, c in enumerate(table.columns)]
    head = "".join(
        f'<th scope="col"{_class(r, c)}>{inline(c.heading)}</th>'
        for c, r in zip(table.columns, right, strict=True)
    )
    body = []
    best, starts = table.best_rows(), table.group_starts()
    for place, row in enumerate(table.rows):
        cells = zip(row, table.columns, right, scales, widths, strict=True)
        tds = "".join(_td(i, *cell, marked=place in best[i]) for i, cell in enumerate(cells))
        body.append(f'<tr class="group">{tds}</tr>' if place in starts else f"<tr>{tds}</tr>")
    name = f'<b class="label">{escape(label)}</b> ' if label else ""
    caption = f'<caption id="{escape(anchor)}">{name}{inline(table.caption)}</caption>'
    stacks = len(table.columns) <= 4 and bool(table.columns) and table.columns[-1].wrap
    dense = sum(column.spread for column in table.columns) > _MOST_ON_ONE_LINE
    kinds = (("sortable", table.sortable), ("stack", stacks), ("dense", dense))
    names = [name for name, on in kinds if on]
    kind = f' class="{" ".join(names)}"' if names else ""
    return (
        f'<div class="scroll" role="region" aria-labelledby="{anchor}" tabindex="0"><table{kind}>'
        f"{caption}<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _class(right: bool, column: Column) -> str:
    names = [name for name, on in (("num", right), ("wrap", column.wrap)) if on]
    return f' class="{" ".join(names)}"' if names else ""


def _td(
    index: int, cell: Any, column: Column, right: bool, scale: float, widths: tuple[int, int], *, marked: bool
) -> str:
    value = plain(cell)
    key = f' data-value="{value!r}"' if is_number(value) else ""
    content = _estimate_html(cell, column, widths) if column.estimate else _cell_html(cell, column)
    content = f"<b>{content}</b>" if marked else content
    if column.bar and isinstance(cell, Estimate) and value is not None:
        content = interval_bar(value, cell.interval, scale, column.reference) + content
    if index == 0:
        return f'<th scope="row"{_class(right, column)}{key}>{content}</th>'
    return f"<td{_class(right, column)}{key}>{content}</td>"


def _cell_html(cell: Any, column: Column) -> str:
    text = show(cell, column)
    if isinstance(cell, Spread):
        mean, sign, sd = text.partition(" ±")
        return escape(mean.replace("-", "−")) + (f' <span class="ci">±{escape(sd)}</span>' if sign else "")
    if isinstance(cell, str):
        return inline(text) if column.wrap else f"<bdi>{escape(text)}</bdi>"
    return escape(text.replace("-", "−"))


def _estimate_html(cell: Any, column: Column, widths: tuple[int, int]) -> str:
    # Figure spaces are as wide as digits: values stand under values, intervals under intervals.
    value = plain(cell)
    if value is None:
        return MISSING
    text = number(value, column.spec).rjust(widths[0], "\u2007")
    if widths[1] == 0:
        return text.replace("-", "−")
    interval = cell.interval
    ends = [number(end, column.spec).rjust(widths[1], "\u2007") for end in interval] if interval else []
    bounds = f"[{ends[0]}, {ends[1]}]" if ends else ""
    return f'{text} <span class="ci">{bounds}</span>'.replace("-", "−")


def _estimate_widths(rows: Sequence[Sequence[Any]], index: int, column: Column) -> tuple[int, int]:
    """Characters of the widest value and of the widest interval end in a column."""
    cells = [row[index] for row in rows if isinstance(row[index], Estimate)]
    values = [len(number(cell.value, column.spec)) for cell in cells]
    ends = [len(number(end, column.spec)) for cell in cells for end in cell.interval or ()]
    return max(values, default=0), max(ends, default=0)


def _bar_scale(rows: Sequence[Sequence[Any]], index: int) -> float:
    """The largest value or interval end of a column: where its bars end."""
    cells = [row[index] for row in rows if isinstance(row[index], Estimate)]
    ends = [end for cell in cells for end in (cell.value, *(cell.interval or ())) if math.isfinite(end)]
    return max(ends, default=0.0)
