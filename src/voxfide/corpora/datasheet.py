"""Data sheets: what a corpus is, where it comes from, what it should hold, and what to beware of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Count:
    """How many utterances a part of a corpus should have.

    Attributes:
        split: as in the manifest; empty for the whole corpus.
        total: utterances.
        bonafide, spoof: of each label, where the source says.
    """

    split: str
    total: int
    bonafide: int | None = None
    spoof: int | None = None

    def __str__(self) -> str:
        labels = "" if self.bonafide is None else f" ({self.bonafide:,} bona fide, {self.spoof:,} spoof)"
        return f"{self.split or 'all'} {self.total:,}{labels}"


@dataclass(frozen=True)
class DataSheet:
    """What there is to know about a corpus before it is used.

    Attributes:
        name: canonical name.
        title: its full name.
        citation: the paper to cite.
        licence: as its owners state it; "see link" where we could not make sure.
        link: where to get it.
        layout: what is looked for on disk.
        splits: those that ``prepare`` may give.
        columns: of the manifest, beside the required ones and ``split``.
        counts: utterances that should be there.
        counts_source: who says so.
        options: settings of its ``prepare`` and what they do.
        traps: what has misled people.
    """

    name: str
    title: str
    layout: str
    citation: str = "-"
    licence: str = "-"
    link: str = "-"
    splits: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    counts: tuple[Count, ...] = ()
    counts_source: str = "-"
    options: dict[str, str] = field(default_factory=dict)
    traps: tuple[str, ...] = ()

    def count(self, split: str) -> Count | None:
        """What the split should hold, where known."""
        return next((c for c in self.counts if c.split == split), None)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """The sheet as text."""
        for key, value in self._items():
            yield f"{key:14} {value}"

    def _items(self) -> Iterator[tuple[str, str]]:
        yield "name", self.name
        yield "title", self.title
        yield "citation", self.citation
        yield "licence", self.licence
        yield "link", self.link
        yield "layout", self.layout
        yield "splits", ", ".join(self.splits) or "-"
        yield "columns", ", ".join(self.columns) or "-"
        for count in self.counts:
            yield "expected", str(count)
        if self.counts:
            yield "according to", self.counts_source
        for option, meaning in self.options.items():
            yield "option", f"{option}: {meaning}"
        for trap in self.traps:
            yield "beware", trap


def to_markdown(sheets: Iterable[DataSheet]) -> str:
    """The table of all corpora, then each data sheet, as the documentation holds them."""
    sheets = list(sheets)
    lines = ["| name | corpus | splits | utterances | licence |", "|---|---|---|---|---|"]
    for s in sheets:
        total = sum(c.total for c in s.counts)
        name = f"[`{s.name}`](#{_anchor(s.name)})"
        splits = ", ".join(s.splits) or "-"
        lines.append(f"| {name} | {s.title} | {splits} | {f'{total:,}' if total else '-'} | {s.licence} |")
    for s in sheets:
        lines += ["", f"## {s.name}", ""]
        lines += [f"- **{key}**: {value}" for key, value in s._items() if key != "name" and value != "-"]
    return "\n".join(lines) + "\n"


def _anchor(name: str) -> str:
    return name.replace(".", "")
