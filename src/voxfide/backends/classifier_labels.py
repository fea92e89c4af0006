"""Which labels of a public classifier mean bona fide, and which mean spoof."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from voxfide.errors import UsageError
from voxfide.types import BONAFIDE, SPOOF

WORDS = {
    BONAFIDE: frozenset({"bonafide", "genuine", "real", "human", "authentic", "original", "natural"}),
    SPOOF: frozenset({
        "spoof", "spoofed", "fake", "deepfake", "ai", "generated", "synthetic", "synthesized", "synthesised",
        "artificial", "cloned", "machine", "tts", "vc",
    }),
}  # fmt: skip
"""Words that labels of public classifiers are made of."""

NEGATIONS = frozenset({"no", "non", "not"})


def class_of(label: str) -> str | None:
    """``bonafide`` or ``spoof``; None where the label does not say which, or says both."""
    text = re.sub(r"bona[\s_-]*fide", "bonafide", label.casefold())
    words = {re.sub(r"(?<=.)(voice|audio|speech)$", "", word) for word in re.findall(r"[a-z]+", text)}
    found = [name for name, known in WORDS.items() if words & known]
    return found[0] if len(found) == 1 and not words & NEGATIONS else None


def resolve_classes(
    labels: Sequence[str], asked: Mapping[str, str] | None = None, where: str = "the classifier"
) -> tuple[str, ...]:
    """``bonafide`` or ``spoof`` for each label, in order.

    Args:
        labels: names of the classifier's outputs.
        asked: ``{"bonafide": LABEL}`` or ``{"spoof": LABEL}`` or both; labels that are not named are
            of the other class, or spoof where both are given. Without it, names such as ``real`` and
            ``fake`` speak for themselves.
        where: names the classifier in messages.

    Raises:
        UsageError: labels that say nothing, an asked-for label that is not there, or one class only.
    """
    named = ", ".join(labels)
    if not asked:
        classes = [class_of(label) for label in labels]
        if None in classes or len(set(classes)) < 2:
            raise UsageError(
                f"{where}: its labels are {named}: which of them means bona fide? "
                f"(--labels bonafide=LABEL says it, here for example --labels bonafide={labels[-1]})"
            )
        return tuple(str(c) for c in classes)
    problems = [f"{key!r} is no class (expected bonafide or spoof)" for key in asked if key not in WORDS]
    problems += [f"there is no label {label!r}" for label in asked.values() if label not in labels]
    if len(set(asked.values())) < len(asked):
        problems.append("one label is named for both classes")
    if problems:
        raise UsageError(f"{where}: its labels are {named}: " + "; ".join(problems))
    rest = BONAFIDE if set(asked) == {SPOOF} else SPOOF
    class_by_label = {label: name for name, label in asked.items()}
    found = tuple(class_by_label.get(label, rest) for label in labels)
    if len(set(found)) < 2:
        raise UsageError(f"{where}: its labels are {named}: all would mean {found[0]}")
    return found
