"""Kernel logistic regression: what it can tell apart, its weights, its landmarks, and shrunk detectors."""

from __future__ import annotations

import numpy as np
import pytest

from voxfide.backends import create_backend
from voxfide.detector import Detector
from voxfide.errors import UsageError
from voxfide.frontends import create_frontend
from voxfide.shrinking import shrink


def rings(n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """An inner disc of bona fide within a ring of spoof, ``(n, 1, 2)``: no line parts them."""
    rng = np.random.default_rng(seed)
    is_bonafide = rng.random(n) < 0.4
    radius = np.where(is_bonafide, rng.uniform(0, 1, n), rng.uniform(1.5, 2.5, n))
    angle = rng.uniform(0, 2 * np.pi, n)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)[:, None], is_bonafide


def test_it_parts_what_no_line_parts():
    (x, y), (tx, ty) = rings(), rings(seed=1)
    accuracy = {
        name: ((create_backend(name).fit(x, y).score(tx) > 0) == ty).mean() for name in ("logistic", "kernel")
    }
    assert accuracy["logistic"] < 0.75
    assert accuracy["kernel"] > 0.98


def test_it_equals_logistic_regression_on_the_kernel():
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics.pairwise import rbf_kernel
    from sklearn.preprocessing import StandardScaler

    x, y = rings(80)
    ours = create_backend("kernel", C=2.0, gamma=0.6).fit(x, y)
    z = StandardScaler().fit_transform(x[:, 0])
    gram = rbf_kernel(z, gamma=0.6 / 2)
    values, vectors = np.linalg.eigh(gram)
    kept = values > 1e-12
    whitened = gram @ (vectors[:, kept] / np.sqrt(values[kept]))
    model = LogisticRegression(C=2.0, max_iter=5000).fit(whitened, y)
    expected = model.decision_function(whitened) - np.log(y.sum() / (~y).sum())
    assert np.allclose(ours.score(x), expected, atol=0.02)


def test_landmarks_follow_from_content_and_seed_not_from_order():
    x, y = rings(200)
    order = np.random.default_rng(3).permutation(len(x))
    one = create_backend("kernel", landmarks=20).fit(x, y)
    same = create_backend("kernel", landmarks=20).fit(x[order], y[order])
    other = create_backend("kernel", landmarks=20, seed=1).fit(x, y)
    assert np.allclose(np.sort(one.tensors()["landmarks"], 0), np.sort(same.tensors()["landmarks"], 0))
    assert not np.allclose(np.sort(one.tensors()["landmarks"], 0), np.sort(other.tensors()["landmarks"], 0))
    assert len(one.tensors()["landmarks"]) == 20


@pytest.mark.parametrize("name", ["logistic", "kernel"])
def test_a_weight_of_two_is_an_utterance_given_twice(name):
    x, y = rings(120)
    weights = np.where(np.arange(120) % 3 == 0, 2.0, 1.0)
    twice = np.concatenate([x, x[::3]]), np.concatenate([y, y[::3]])
    weighted = create_backend(name).fit(x, y, weights)
    repeated = create_backend(name).fit(*twice)
    # Means and scales of standardisation are those of the utterances, not of their weights.
    assert np.corrcoef(weighted.score(x), repeated.score(x))[0, 1] > 0.995
    assert np.allclose(np.median(weighted.score(x) - repeated.score(x)), 0, atol=0.3)


@pytest.mark.parametrize("weights", [np.ones(3), np.zeros(120), np.full(120, np.nan)])
def test_weights_that_cannot_be_are_refused(weights):
    with pytest.raises(UsageError, match="weights"):
        create_backend("kernel").fit(*rings(120), weights)


@pytest.mark.parametrize(
    "options", [{"landmarks": 0}, {"gamma": 0}, {"C": -1}, {"gamma": "wide"}, {"seed": -1}]
)
def test_options_that_cannot_be_are_refused(options):
    with pytest.raises(UsageError, match="kernel"):
        create_backend("kernel", **options)


def test_a_shrunk_detector_is_smaller_and_says_the_same(tmp_path):
    rng = np.random.default_rng(0)
    frontend = create_frontend("lfcc-moments")
    features = rng.standard_normal((300, 1, frontend.dim)).astype(np.float32)
    is_bonafide = features[:, 0, 0] > 0
    detector = Detector(frontend, create_backend("kernel").fit(features, is_bonafide))
    detector.save(tmp_path / "full")
    small = shrink(detector)
    small.save(tmp_path / "small")
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("full", "small")]
    assert sizes[1] < 0.3 * sizes[0]  # float64 landmarks to float16
    loaded = Detector.load(tmp_path / "small")
    assert np.array_equal(loaded.score_features(features), small.score_features(features))
    assert loaded.fingerprint() == small.fingerprint()
    assert np.allclose(loaded.score_features(features), detector.score_features(features), atol=0.05)
