"""What was found of a corpus, beside what its data sheet expects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from voxfide.corpora.datasheet import Count, DataSheet
from voxfide.types import BONAFIDE, UNKNOWN


@dataclass(frozen=True)
class SplitFound:
    """One split as it lies on disk.

    Attributes:
        rows: utterances that protocol or folders list.
        n_missing: of these, utterances without an audio file.
        labels: rows of each label.
    """

    split: str
    rows: int
    n_missing: int
    labels: dict[str, int]

    @property
    def name(self) -> str:
        return self.split or "all"


@dataclass(frozen=True)
class Surplus:
    """Audio files that no protocol lists."""

    folder: str
    files: int
    example: str
    hint: str = ""


@dataclass
class Inventory:
    """Filled in by ``prepare``; what it found, in which form, and what is missing or too much.

    Attributes:
        kept_missing: rows without audio are in the manifest nonetheless.
        notes: which of several forms was found, and what else is worth knowing.
    """

    sheet: DataSheet | None = None
    root: str = ""
    splits: list[SplitFound] = field(default_factory=list)
    surplus: list[Surplus] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    kept_missing: bool = False

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    @property
    def n_missing(self) -> int:
        """Rows without audio."""
        return sum(s.n_missing for s in self.splits)

    def shortfalls(self) -> Iterator[str]:
        """What keeps this copy from being the whole corpus as its data sheet has it."""
        for found in self.splits:
            if found.n_missing:
                yield self._missing(found)
            if disagreement := self._disagreement(found):
                yield f"{found.name}: {found.rows:,} utterances listed, {disagreement}"
        yield from self._others()

    def lines(self) -> Iterator[str]:
        """The inventory as text."""
        for found in self.splits:
            labels = ", ".join(
                f"{n:,} {'bona fide' if name == BONAFIDE else name}"
                for name, n in found.labels.items()
                if n or name != UNKNOWN
            )
            expected = self._disagreement(found) or ("as expected" if self._expected(found.split) else "")
            yield f"{found.name}: {found.rows:,} utterances ({labels}){', ' * bool(expected)}{expected}"
            if found.n_missing:
                yield self._missing(found)
        yield from self._others()
        yield from self.notes

    def to_json(self) -> dict[str, Any]:
        """For the file that records it."""
        name = self.sheet.name if self.sheet else ""
        expected = [asdict(c) for c in self.sheet.counts] if self.sheet else []
        return {
            "corpus": name,
            "n_missing": self.n_missing,
            "kept_missing": self.kept_missing,
            "splits": [asdict(s) for s in self.splits],
            "expected": expected,
            "surplus": [asdict(s) for s in self.surplus],
            "notes": self.notes,
        }

    def _expected(self, split: str) -> Count | None:
        return self.sheet.count(split) if self.sheet else None

    def _missing(self, found: SplitFound) -> str:
        what = "kept without it" if self.kept_missing else "left out"
        here = f"audio of {found.rows - found.n_missing:,} of {found.rows:,} utterances found"
        return f"{found.name}: {here}, {found.n_missing:,} missing, {what}"

    def _disagreement(self, found: SplitFound) -> str:
        """Between what is listed and what the data sheet expects."""
        expected = self._expected(found.split)
        if expected is None:
            return ""
        if expected.total != found.rows:
            more = found.rows - expected.total
            return f"{expected.total:,} expected ({f'{more:,} more' if more > 0 else f'{-more:,} fewer'})"
        if expected.bonafide not in (None, found.labels[BONAFIDE]):
            return f"{expected.bonafide:,} bona fide and {expected.spoof:,} spoof expected"
        return ""

    def _others(self) -> Iterator[str]:
        """What does not belong to one split."""
        whole = self._expected("")
        rows = sum(s.rows for s in self.splits)
        is_whole = self.sheet is not None and [s.split for s in self.splits] == list(self.sheet.splits)
        if whole is not None and is_whole and rows != whole.total:
            yield f"{rows:,} utterances listed in all, {whole.total:,} expected"
        for s in self.surplus:
            hint = f"; {s.hint}" if s.hint else ""
            yield f"{s.folder or '.'}: {s.files:,} audio file(s) that no row names, such as {s.example}{hint}"
