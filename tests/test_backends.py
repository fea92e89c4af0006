"""The contract that every registered back-end keeps, and what the logistic one computes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxfide.backends import BACKENDS, create_backend, restore_backend
from voxfide.errors import CheckpointError, UnknownNameError, UsageError

LAYERS, DIM = 3, 5
NAMES = BACKENDS.names()


def examples(n: int = 60, seed: int = 0, shift: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping Gaussian classes with uneven proportions and scales, ``(n, LAYERS, DIM)`` float32."""
    random = np.random.default_rng(seed)
    is_bonafide = np.arange(n) % 3 == 0
    features = random.standard_normal((n, LAYERS, DIM)) + shift * is_bonafide[:, None, None] * np.array(
        [0.2, 1.0, 0.5]
    )[None, :, None] * random.uniform(0.5, 1, DIM)
    return (features * np.geomspace(1e-2, 1e2, DIM) + 7).astype(np.float32), is_bonafide


@pytest.fixture(scope="module", params=NAMES)
def trained(request):
    return create_backend(request.param).fit(*examples())


@pytest.mark.parametrize("name", NAMES)
def test_fit_returns_the_backend_and_scores_are_finite_floats(name):
    backend = create_backend(name)
    features, is_bonafide = examples()
    assert backend.fit(features, is_bonafide) is backend
    scores = backend.score(features)
    assert scores.shape == (len(features),)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    assert backend.score(features[:0]).shape == (0,)


def test_higher_means_more_bona_fide(trained):
    features, is_bonafide = examples(200, seed=1)
    scores = trained.score(features)
    pairs = scores[is_bonafide][:, None] > scores[~is_bonafide][None]
    assert pairs.mean() > 0.8


def test_scores_do_not_depend_on_order_or_batch(trained):
    features, _ = examples(37, seed=2)
    scores = trained.score(features)
    alone = np.concatenate([trained.score(f[None]) for f in features])
    assert np.array_equal(scores, alone)
    order = np.random.default_rng(0).permutation(len(features))
    assert np.array_equal(trained.score(features[order]), scores[order])


def test_training_does_not_depend_on_the_order_of_the_utterances(trained):
    features, is_bonafide = examples()
    order = np.random.default_rng(0).permutation(len(features))
    other = create_backend(trained.name).fit(features[order], is_bonafide[order])
    assert np.allclose(other.score(features), trained.score(features), rtol=1e-3, atol=1e-3)


def test_fit_and_score_leave_the_features_alone(trained):
    features, is_bonafide = examples()
    before = features.copy()
    create_backend(trained.name).fit(features, is_bonafide).score(features)
    assert np.array_equal(features, before)


def test_state_restores_the_same_scores_bit_for_bit(trained):
    config = json.loads(json.dumps(trained.config()))
    tensors = {k: np.frombuffer(v.tobytes(), v.dtype).reshape(v.shape) for k, v in trained.tensors().items()}
    restored = restore_backend(trained.name, config, tensors)
    features, _ = examples(50, seed=3)
    assert np.array_equal(restored.score(features), trained.score(features))
    assert restored.config() == trained.config()


@pytest.mark.parametrize("kind", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", NAMES)
def test_features_that_are_not_finite_are_refused(name, kind):
    features, is_bonafide = examples()
    features[7, 1, 2] = kind
    with pytest.raises(UsageError, match=r"1 utterance\(s\) are not finite \(first: number 7"):
        create_backend(name).fit(features, is_bonafide)
    fine, classes = examples()
    backend = create_backend(name).fit(fine, classes)
    with pytest.raises(UsageError, match="not finite"):
        backend.score(features)


@pytest.mark.parametrize("name", NAMES)
def test_wrong_shapes_and_classes_are_refused(name):
    features, is_bonafide = examples()
    backend = create_backend(name)
    with pytest.raises(UsageError, match="not trained"):
        backend.score(features)
    with pytest.raises(UsageError, match="not trained"):
        backend.tensors()
    with pytest.raises(UsageError, match="expected floats of shape"):
        backend.fit(features[:, 0], is_bonafide)
    with pytest.raises(UsageError, match="expected floats of shape"):
        backend.fit(features.astype(np.int64), is_bonafide)
    for classes in (is_bonafide[:-1], is_bonafide.astype(int), is_bonafide[:, None]):
        with pytest.raises(UsageError, match="expected booleans of shape"):
            backend.fit(features, classes)
    for classes in (np.ones(len(features), bool), np.zeros(len(features), bool)):
        with pytest.raises(UsageError, match="at least one of each"):
            backend.fit(features, classes)
    with pytest.raises(UsageError, match="at least one of each"):
        backend.fit(features[:0], is_bonafide[:0])
    backend.fit(features, is_bonafide)
    with pytest.raises(UsageError, match="trained on"):
        backend.score(features[:, :, :-1])


@pytest.mark.parametrize("name", NAMES)
def test_options_are_checked_before_anything_is_computed(name):
    with pytest.raises(UsageError, match="no option nonsense"):
        create_backend(name, nonsense=1)


def test_damaged_state_is_a_checkpoint_error(trained):
    config, tensors = trained.config(), trained.tensors()
    for name in tensors:
        with pytest.raises(CheckpointError, match=f"{name} are missing"):
            restore_backend(trained.name, config, {k: v for k, v in tensors.items() if k != name})
        with pytest.raises(CheckpointError, match="NaN or infinity"):
            restore_backend(trained.name, config, {**tensors, name: tensors[name] * np.nan})
        with pytest.raises(CheckpointError, match="expected"):
            restore_backend(trained.name, config, {**tensors, name: np.ones((2, 2, 2))})


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UnknownNameError, match="did you mean 'logistic'"):
        create_backend("logistik")


def test_registry_says_what_it_takes():
    for spec in BACKENDS:
        assert spec.pool in create_backend(spec.name).pools
        assert spec.summary
        assert create_backend(spec.name).name == spec.name


# The logistic back-end


def reference(x: np.ndarray, is_bonafide: np.ndarray, **options):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(**{"C": 1e3, "max_iter": 2000, **options}))
    return model.fit(x.astype(np.float64), is_bonafide)


@given(seed=st.integers(0, 10**6), shift=st.floats(0, 4), n=st.integers(6, 80))
def test_logistic_is_scikit_learn_less_the_training_prior(seed, shift, n):
    features, is_bonafide = examples(n, seed, shift)
    model = reference(features[:, -1], is_bonafide)
    prior = np.log(is_bonafide.sum() / (~is_bonafide).sum())
    ours = create_backend("logistic").fit(features, is_bonafide)
    new, _ = examples(20, seed + 1, shift)
    expected = model.decision_function(new[:, -1].astype(np.float64)) - prior
    assert np.allclose(ours.score(new), expected, rtol=1e-9, atol=1e-9)


def test_balanced_weights_have_no_prior_to_take_off():
    features, is_bonafide = examples()
    ours = create_backend("logistic", class_weight="balanced", C=0.5).fit(features, is_bonafide)
    model = reference(features[:, -1], is_bonafide, class_weight="balanced", C=0.5)
    assert np.allclose(ours.score(features), model.decision_function(features[:, -1].astype(np.float64)))


def test_scores_are_log_likelihood_ratios_whatever_the_proportions_in_training():
    random = np.random.default_rng(0)
    n = 40_000
    bonafide, spoof = random.standard_normal((2, n, 1, 1)).astype(np.float32)
    bonafide += 2
    for n_bonafide in (n, n // 20):
        features = np.concatenate([bonafide[:n_bonafide], spoof])
        backend = create_backend("logistic").fit(features, np.arange(len(features)) < n_bonafide)
        grid = np.linspace(-1, 3, 5).astype(np.float32)
        # Two unit Gaussians at 0 and 2: the ratio of their densities is exp(2 x - 2).
        assert np.allclose(backend.score(grid[:, None, None]), 2 * grid - 2, atol=0.15)


@pytest.mark.parametrize(
    ("layer", "select"),
    [
        ("last", lambda f: f[:, -1]),
        ("mean", lambda f: f.mean(axis=1, dtype=np.float64)),
        ("all", lambda f: f.reshape(len(f), -1)),
        (1, lambda f: f[:, 0]),
        ("2", lambda f: f[:, 1]),
    ],
)
def test_layer_choices(layer, select):
    features, is_bonafide = examples()
    prior = np.log(is_bonafide.sum() / (~is_bonafide).sum())
    ours = create_backend("logistic", layer=layer).fit(features, is_bonafide)
    x = select(features)
    expected = reference(x, is_bonafide).decision_function(x.astype(np.float64)) - prior
    assert np.allclose(ours.score(features), expected, rtol=1e-6, atol=1e-6)


def test_a_layer_that_the_features_do_not_have():
    with pytest.raises(UsageError, match="layer=4, but the features have 3"):
        create_backend("logistic", layer=4).fit(*examples())


@pytest.mark.parametrize(
    "options",
    [
        {"C": 0}, {"C": -1}, {"C": "many"}, {"C": float("nan")}, {"C": float("inf")}, {"C": None},
        {"layer": 0}, {"layer": -1}, {"layer": "first"}, {"layer": 1.5}, {"layer": None},
        {"class_weight": "heavy"}, {"max_iter": 0}, {"max_iter": float("inf")}, {"max_iter": "x"},
    ],
)  # fmt: skip
def test_bad_values_of_options(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        create_backend("logistic", **options)


def test_a_constant_feature_does_not_blow_up_new_values():
    features, is_bonafide = examples(77)
    features[:, :, 0] = [0.1, 0.2, 0.4]  # whose mean varies by rounding, if anything
    backend = create_backend("logistic", layer="mean").fit(features, is_bonafide)
    before = backend.score(features)
    features[:, :, 0] += 0.001
    assert np.allclose(backend.score(features), before, atol=1e-2)


def test_a_solver_that_did_not_settle_says_so(caplog):
    create_backend("logistic", max_iter=1).fit(*examples())
    assert "not settled after 1 iterations" in caplog.text
