"""Padded forms of front-ends and back-ends against the originals, before anything is traced."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from checkpoints import SMALL, VARIANTS
from voxfide.backends import BACKENDS, create_backend, restore_backend
from voxfide.backends.neural import NeuralBackend
from voxfide.calibration import create_calibration
from voxfide.calibration.registry import CALIBRATIONS
from voxfide.detector import Detector
from voxfide.errors import UsageError
from voxfide.exporting import compact, graphs
from voxfide.exporting.heads import CalibrationHead, KernelHead, LogisticHead
from voxfide.exporting.padded_ssl import windows_of
from voxfide.frontends import KINDS, create_frontend
from voxfide.frontends.ssl import SSLFrontend
from voxfide.frontends.ssl_config import SSLConfig
from voxfide.frontends.ssl_model import SSLEncoder

LENGTHS = (400, 401, 719, 720, 3000, 16000, 16001, 40000)


def ssl_frontend(variant: str, n_layers: int | None = None, head_states: bool = False) -> SSLFrontend:
    family, extra, do_normalize = VARIANTS[variant]
    config = SSLConfig.from_dict({**SMALL, **extra, "model_type": family, "do_normalize": do_normalize})
    torch.manual_seed(0)
    encoder = SSLEncoder(config, n_layers, head_states).eval().requires_grad_(False)
    for tensor in encoder.parameters():
        tensor.add_(torch.randn_like(tensor) * 0.1)
    return SSLFrontend(encoder, variant)


def neural(name: str, frontend: torch.nn.Module, **options: object) -> NeuralBackend:
    """A head of random weights and statistics."""
    torch.manual_seed(1)
    backend = create_backend(name, **options)
    assert isinstance(backend, NeuralBackend)
    backend.build(frontend.n_layers, frontend.dim)
    for module in backend.head.eval().modules():
        if getattr(module, "running_mean", None) is not None:
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return backend


def of_averages(name: str, frontend: torch.nn.Module, pool: str = "mean", **options: object):
    """A back-end on time averages, fitted to the features of noise."""
    rng = np.random.default_rng(0)
    shape = (40, frontend.n_layers, frontend.pooled_dim(pool))
    if name == "classifier":
        dim = shape[2]
        numbers = {
            "projector.weight": rng.standard_normal((8, dim)), "projector.bias": rng.standard_normal(8),
            "classifier.weight": rng.standard_normal((3, 8)), "classifier.bias": rng.standard_normal(3),
            "layer_weights": rng.standard_normal(shape[1]),
        }  # fmt: skip
        config = {"labels": ["a", "b", "c"], "classes": ["spoof", "bonafide", "spoof"]}
        return restore_backend("classifier", config, {k: v.astype(np.float32) for k, v in numbers.items()})
    features = rng.standard_normal(shape).astype(np.float32)
    return create_backend(name, **options).fit(features, rng.random(40) < 0.5)


def waves(lengths: tuple[int, ...] = LENGTHS) -> list[np.ndarray]:
    """Noise whose low frequencies are a thousand times as strong as its high ones, as of voices."""
    rng = np.random.default_rng(0)
    return [(0.01 * np.cumsum(rng.standard_normal(n))).astype(np.float32) for n in lengths]


def padded(waveforms: list[np.ndarray], beyond: float = 7.0) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([len(w) for w in waveforms])
    batch = torch.full((len(waveforms), int(lengths.max()) + 77), beyond)
    for row, waveform in zip(batch, waveforms, strict=True):
        row[: len(waveform)] = torch.from_numpy(waveform)
    return batch, lengths


FRONTENDS = {
    **{name: (lambda name=name: ssl_frontend(name)) for name in VARIANTS},
    "states of a classifier": lambda: ssl_frontend("xls-r", 2, head_states=True),
    "lfcc": lambda: create_frontend("lfcc"),
    "lfcc without deltas": lambda: create_frontend("lfcc", deltas=False, n_filters=30, hop_ms=7.0),
    "waveform": lambda: create_frontend("waveform"),
}


@pytest.mark.parametrize("name", FRONTENDS)
def test_padded_layers_are_those_of_every_utterance_alone(name):
    frontend = FRONTENDS[name]()
    waveforms = waves()
    expected = frontend.hidden_states([torch.from_numpy(w) for w in waveforms])
    with torch.inference_mode():
        layers, frames = graphs.FRONTENDS[frontend.kind](frontend)(*padded(waveforms))
    assert frames.tolist() == [e.shape[1] for e in expected]
    for row, n, reference in zip(torch.stack(layers, 1), frames, expected, strict=True):
        torch.testing.assert_close(row[:, :n], reference, atol=3e-5, rtol=1e-4)


def test_padded_moments_are_those_of_every_utterance_alone():
    frontend = create_frontend("lfcc-moments")
    waveforms = waves((960, 961, 5000, 16000, 40000))
    expected = frontend.hidden_states([torch.from_numpy(w) for w in waveforms])
    with torch.inference_mode():
        layers, frames = graphs.FRONTENDS["lfcc-moments"](frontend)(*padded(waveforms))
    assert frames.tolist() == [1] * 5
    torch.testing.assert_close(layers[0], torch.stack(expected)[:, 0], atol=1e-4, rtol=1e-4)


@given(st.integers(1, 12), st.integers(1, 7), st.integers(0, 30))
def test_windows_are_those_of_a_convolution(kernel, stride, more):
    x = torch.arange(2 * (kernel + more) * 3).reshape(2, kernel + more, 3)
    expected = x.unfold(1, kernel, stride).transpose(2, 3).flatten(2)
    assert windows_of(x, kernel, stride).equal(expected)


CHAINS = {
    "logistic": lambda: (
        f := ssl_frontend("wavlm-base", 2), of_averages("logistic", f, layer="mean"), "mean"
    ),
    "logistic, mean_std": lambda: (
        f := create_frontend("lfcc"), of_averages("logistic", f, "mean_std", layer="all"), "mean_std"
    ),
    "kernel": lambda: (f := create_frontend("lfcc"), of_averages("kernel", f, landmarks=20), "mean"),
    "classifier": lambda: (
        f := ssl_frontend("hubert-large", 2, head_states=True), of_averages("classifier", f), "mean"
    ),
    "ffn": lambda: (f := ssl_frontend("hubert-base", 2), neural("ffn", f), "none"),
    "ffn, reference": lambda: (f := create_frontend("lfcc"), neural("ffn", f, variant="reference"), "none"),
    "aasist": lambda: (f := ssl_frontend("wav2vec2-base", 2), neural("aasist", f), "none"),
    "aasist-raw": lambda: (
        f := create_frontend("waveform"), neural("aasist-raw", f, architecture="AASIST-L"), "none"
    ),
    "frames": lambda: (f := create_frontend("lfcc"), neural("frames", f), "none"),
}  # fmt: skip


def test_every_back_end_is_tried():
    assert {name.partition(",")[0] for name in CHAINS} == set(BACKENDS.names()) == set(graphs.BACKENDS)


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_scores_as_the_detector_does(name):
    detector = Detector(*CHAINS[name]())
    waveforms = waves()
    expected = detector.score_waveforms(waveforms)
    whole = graphs.chain(detector)
    with torch.inference_mode():
        found = dict(zip(whole.outputs, whole.module(*padded(waveforms)), strict=True))
    np.testing.assert_allclose(found["raw_score"], expected, atol=1e-4)
    np.testing.assert_allclose(found["score"], expected, atol=1e-4)
    assert np.ptp(expected) > 1e-3  # equal scores would show nothing
    head = graphs.head(detector, whole)
    assert (head is None) == (detector.pool == "none")
    if head is not None:
        features = found["features"]
        if detector.pool == "mean_std":
            spread = (found["deviations"] / found["frames"][:, None, None]).sqrt()
            features = torch.cat([features, spread], dim=2)
        np.testing.assert_allclose(head.module(features)[1], expected, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_every_front_end_is_exported_or_refused(kind):
    frontend = SimpleNamespace(kind=kind, name=f"some {kind}")
    detector = Detector(frontend, create_backend("logistic"))
    if kind in graphs.FRONTENDS:
        assert graphs.check_exportable(detector) is detector
        return
    with pytest.raises(UsageError, match=rf"some {kind} is of kind {kind} \(expected ssl, lfcc, "):
        graphs.check_exportable(detector)


def test_other_back_ends_and_ensembles_are_refused():
    detector = Detector(SimpleNamespace(kind="ssl", name="x"), create_backend("logistic"))
    detector.backend = SimpleNamespace(name="nearest")
    with pytest.raises(UsageError, match="back-end nearest .expected logistic, kernel"):
        graphs.check_exportable(detector)
    with pytest.raises(UsageError, match="cannot be exported .*members of an ensemble one by one"):
        graphs.check_exportable(object())


@pytest.mark.parametrize("name", CALIBRATIONS.names())
def test_calibrations_are_those_of_numpy(name):
    rng = np.random.default_rng(3)
    is_bonafide = rng.random(80) < 0.5
    scores = rng.standard_normal(80) + is_bonafide
    calibration = create_calibration(name).fit(scores, is_bonafide)
    tried = np.concatenate([rng.uniform(-6, 6, 50), [scores.min(), scores.max()]]).astype(np.float32)
    found = CalibrationHead(calibration)(torch.from_numpy(tried))
    np.testing.assert_allclose(found, calibration.apply(tried), atol=1e-4)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["last", "mean", "all", 1, 2]))
def test_logistic_heads_score_as_the_back_end_does(seed, layer):
    rng = np.random.default_rng(seed)
    features = (5 + rng.standard_normal((30, 3, 7))).astype(np.float32)
    backend = create_backend("logistic", C=1.0, layer=layer).fit(features, np.arange(30) % 3 == 0)
    np.testing.assert_allclose(
        LogisticHead(backend)(torch.from_numpy(features)), backend.score(features), atol=1e-4
    )


def test_kernel_heads_of_large_coefficients_score_as_the_back_end_does():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((300, 1, 50)).astype(np.float32)
    backend = create_backend("kernel", landmarks=250, C=1e4).fit(features, rng.random(300) < 0.5)
    assert np.abs(backend.tensors()["coefficients"]).sum() > 1e3
    np.testing.assert_allclose(
        KernelHead(backend)(torch.from_numpy(features)), backend.score(features), atol=1e-3
    )


@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 0, 1]), st.floats(1e-6, 1e6))
def test_eight_bits_are_half_a_step_away_at_most(seed, axis, size):
    values = (size * np.random.default_rng(seed).standard_normal((5, 9))).astype(np.float32)
    whole, step = compact.rounded(values, axis)
    assert whole.dtype == np.int8
    assert (np.abs(whole * step - values) <= 0.5001 * step).all()
    again, _ = compact.rounded(whole * step, axis)
    assert np.array_equal(again, whole)


def test_coefficients_make_up_for_rounded_landmarks():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((300, 1, 50)).astype(np.float32)
    backend = create_backend("kernel", landmarks=250, C=1e3).fit(features, rng.random(300) < 0.5)
    made = compact.rounded_landmarks(backend)
    landmarks = made.tensors()["landmarks"]
    whole, step = compact.rounded(landmarks, axis=0)
    assert np.array_equal(whole * step, landmarks)
    unchanged = {**made.tensors(), "coefficients": backend.tensors()["coefficients"]}
    rounded_only = restore_backend("kernel", backend.config(), unchanged)
    expected = backend.score(features)
    error, without = (np.abs(b.score(features) - expected).max() for b in (made, rounded_only))
    assert error < 0.5 * without


def test_landmarks_that_stand_twice_do_no_harm():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((40, 1, 9)).astype(np.float32)
    backend = create_backend("kernel", landmarks=40).fit(features, rng.random(40) < 0.5)
    tensors = {
        k: np.concatenate([v, v]) for k, v in backend.tensors().items() if k in ("landmarks", "coefficients")
    }
    tensors["coefficients"] = tensors["coefficients"] / 2
    twice = restore_backend("kernel", backend.config(), {**backend.tensors(), **tensors})
    np.testing.assert_allclose(
        compact.rounded_landmarks(twice).score(features), backend.score(features), atol=0.05
    )


def test_a_matrix_of_zeros_stays_one():
    whole, step = compact.rounded(np.zeros((3, 4), np.float32), 0)
    assert not whole.any()
    assert np.isfinite(step).all()
