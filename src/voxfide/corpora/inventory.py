"""What was found of a corpus, beside what its data sheet expects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from voxfide.corpora.datasheet import DataSheet


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
                what = "kept without it" if self.kept_missing else "left out"
                with_audio = found.rows - found.n_missing
                yield (
                    f"{found.split or 'all'}: audio of {with_audio:,} of {found.rows:,} utterances is here; "
                    f"{found.n_missing:,} missing, {what}"
                )
            expected = self.sheet.count(found.split) if self.sheet else None
            if expected is not None and expected.total != found.rows:
                much = f"{abs(expected.total - found.rows):,} {'fewer' if found.rows < expected.total else 'more'}"
                yield f"{found.split or 'all'}: {found.rows:,} utterances listed, {expected.total:,} expected ({much})"
            elif expected is not None and expected.bonafide is not None and not self._agree(found):
                yield (
                    f"{found.split or 'all'}: {found.labels['bonafide']:,} bona fide and "
                    f"{found.labels['spoof']:,} spoof, expected {expected.bonafide:,} and {expected.spoof:,}"
                )
        whole = self.sheet.count("") if self.sheet else None
        rows = sum(s.rows for s in self.splits)
        if whole is not None and all(s.split for s in self.splits) and rows != whole.total:
            yield f"{rows:,} utterances listed in all, {whole.total:,} expected"
        for s in self.surplus:
            hint = f"; {s.hint}" if s.hint else ""
            yield f"{s.folder or '.'}: {s.files:,} audio file(s) that no protocol lists, such as {s.example}{hint}"

    def lines(self) -> Iterator[str]:
        """The inventory as text."""
        for found in self.splits:
            labels = ", ".join(
                f"{n:,} {name}" for name, n in _named(found.labels).items() if n or name != "unknown"
            )
            expected = self.sheet.count(found.split) if self.sheet else None
            complete = expected is not None and expected.total == found.rows and self._agree(found)
            yield f"{found.split or 'all'}: {found.rows:,} utterances ({labels}){', as expected' if complete else ''}"
        yield from self.shortfalls()
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

    def _agree(self, found: SplitFound) -> bool:
        expected = self.sheet.count(found.split) if self.sheet else None
        if expected is None or expected.bonafide is None:
            return True
        return (found.labels["bonafide"], found.labels["spoof"]) == (expected.bonafide, expected.spoof)


def _named(labels: dict[str, int]) -> dict[str, int]:
    return {"bona fide" if name == "bonafide" else name: n for name, n in labels.items()}
