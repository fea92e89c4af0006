"""The back-end that judges frames: what a frame sees, how frames make an utterance, what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from voxfide.backends import create_backend, restore_backend
from voxfide.backends.frames import DILATIONS, KERNEL
from voxfide.errors import UsageError

LAYERS, DIM = 3, 6
LENGTHS = [60, 59, 30, 4, 1]


def built(**options):
    backend = create_backend("frames", hidden=16, **options)
    torch.manual_seed(0)
    backend.build(LAYERS, DIM)
    with torch.no_grad():
        for _ in range(3):
            backend.head(torch.randn(4, LAYERS, 20, DIM), torch.full((4,), 20))
        backend.head.offset.copy_(torch.tensor([0.3, -0.2]))
    backend.head.eval()
    return backend


def batch(fill: float = 0.0):
    features = torch.randn(
        len(LENGTHS), LAYERS, max(LENGTHS), DIM, generator=torch.Generator().manual_seed(1)
    )
    for row, n in zip(features, LENGTHS, strict=True):
        row[:, n:] = fill
    return features, torch.tensor(LENGTHS)


@pytest.mark.parametrize("fill", [0.0, 1e4, np.nan])
def test_a_frame_gets_the_same_score_alone_and_in_any_batch(fill):
    backend = built()
    features, lengths = batch(fill)
    together = backend.frame_scores(features, lengths)
    assert together.shape == features[:, 0, :, 0].shape
    for row, n in enumerate(LENGTHS):
        alone = backend.frame_scores(features[row : row + 1, :, :n], lengths[row : row + 1])[0]
        assert np.abs(together[row, :n] - alone).max() < 1e-5
        assert np.isnan(together[row, n:]).all()
    assert np.nanstd(together) > 1e-2


def test_the_utterance_is_spoofed_as_far_as_any_frame_and_bona_fide_as_far_as_all():
    backend = built()
    features, lengths = batch()
    with torch.no_grad():
        pooled, frames = backend.head(features, lengths, with_frames=True)
        plain = backend.head(features, lengths)
    assert torch.equal(pooled, plain)
    for row, n in enumerate(LENGTHS):
        spoof, bonafide = frames[row, :n].numpy().astype(np.float64).T
        expected = [np.log(np.exp(spoof).mean()) + 0.3, -np.log(np.exp(-bonafide).mean()) - 0.2]
        assert np.allclose(pooled[row], expected, atol=1e-5)
        assert np.allclose(backend.frame_scores(features, lengths)[row, :n], bonafide - spoof, atol=1e-5)


def test_a_frame_is_judged_by_its_neighbourhood_alone():
    reach = sum(d * (KERNEL // 2) for d in DILATIONS)
    backend = built()
    features, lengths = batch()
    before = backend.frame_scores(features, lengths)[0]
    features[0, :, 30] += 5
    changed = np.flatnonzero(np.abs(backend.frame_scores(features, lengths)[0] - before) > 1e-6)
    assert changed.min() >= 30 - reach
    assert changed.max() <= 30 + reach
    assert 30 in changed
    assert len(changed) > 1


def test_scoring_frames_changes_nothing():
    backend = built()
    backend.head.train()
    before = backend.tensors()
    backend.frame_scores(*batch())
    assert backend.head.training
    assert all(np.array_equal(before[k], v) for k, v in backend.tensors().items())


def test_the_threshold_of_frames_is_kept():
    backend = built(frame_weight="0.5")
    assert backend.config()["frame_threshold"] is None
    backend.frame_threshold = 0.25
    config = json.loads(json.dumps(backend.config()))
    restored = restore_backend("frames", config, backend.tensors())
    assert (restored.frame_threshold, restored.frame_weight) == (0.25, 0.5)
    assert np.array_equal(restored.frame_scores(*batch()), backend.frame_scores(*batch()), equal_nan=True)


@pytest.mark.parametrize(
    "options", [{"frame_weight": -1}, {"frame_weight": "much"}, {"frame_threshold": "x"}, {"hidden": 2}]
)
def test_options_that_cannot_be(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        create_backend("frames", **options)


def test_frames_of_an_untrained_head():
    with pytest.raises(UsageError, match="not trained"):
        create_backend("frames").frame_scores(*batch())
