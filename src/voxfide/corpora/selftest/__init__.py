"""The self-test corpus: speech-like signals and attacks on them, made from nothing but a seed.

**A plumbing corpus.** It proves that the pipeline works: that manifests, features, training, scores,
metrics and reports fit together, and that something learnable is learnt. It says nothing about real
speech or real attacks; no figure measured on it means anything elsewhere.

The bona fide class comes from a source-filter synthesiser with the irregularities of a voice: jitter,
shimmer, creak, aspiration, moving formants, wandering pitch, recorded in random rooms. The attacks are
other such recordings through the copy-synthesis routes of :mod:`voxfide.resynthesis`. Both classes then
pass through one channel. Speakers do not cross splits; the evaluation part has attacks that training
has not.
"""

from __future__ import annotations

from voxfide.corpora.selftest.generate import ATTACKS, SPLIT_ATTACKS, generate_selftest
from voxfide.corpora.selftest.speaker import Speaker
from voxfide.corpora.selftest.synthesis import synthesise_utterance

__all__ = ["ATTACKS", "SPLIT_ATTACKS", "Speaker", "generate_selftest", "synthesise_utterance"]
