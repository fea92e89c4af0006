"""Augmentation: waveform in, waveform out, seeded by utterance; names, and what they are made from.

To add a family, write a module with a frozen dataclass on
:class:`~voxfide.augment.base.Augmentation` and a line here; the contract tests pick it up.
"""

from __future__ import annotations

from voxfide.augment.base import Augmentation, Drawn, Spread
from voxfide.augment.policy import Plan, Policy
from voxfide.augment.registry import AUGMENTATIONS, AugmentationSpec
from voxfide.augment.seeds import utterance_chance, utterance_rng
from voxfide.augment.specification import parse

__all__ = [
    "AUGMENTATIONS",
    "Augmentation",
    "AugmentationSpec",
    "Drawn",
    "Plan",
    "Policy",
    "Spread",
    "parse",
    "utterance_chance",
    "utterance_rng",
]
