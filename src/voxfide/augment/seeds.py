"""Chance that belongs to an utterance, not to a process: neither order nor worker count changes it."""

from __future__ import annotations

import hashlib

import numpy as np


def utterance_rng(seed: int, utterance_id: str, epoch: int = 0) -> np.random.Generator:
    """The random generator of one utterance in one epoch.

    The same three arguments give the same stream on every machine; others an independent one.
    """
    return np.random.default_rng(int.from_bytes(_digest("draw", seed, epoch, utterance_id)))


def utterance_chance(seed: int, utterance_id: str) -> float:
    """A number in ``[0, 1)`` that belongs to the utterance: below ``p`` for a fraction ``p`` of all."""
    return (int.from_bytes(_digest("choose", seed, 0, utterance_id)[:8]) >> 11) / 2**53


def _digest(purpose: str, seed: int, epoch: int, utterance_id: str) -> bytes:
    text = f"{purpose}\0{seed}\0{epoch}\0{utterance_id}"
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).digest()
