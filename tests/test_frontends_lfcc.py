"""LFCC against an independent computation from its definition, and its contract."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.fft import dct
from scipy.signal import get_window, lfilter

from voxfide.errors import AudioTooShortError, UsageError
from voxfide.frontends import create_frontend


def by_definition(x: np.ndarray) -> np.ndarray:
    """ASVspoof 2019 B1 in float64, frame by frame, as its paper describes."""
    x = lfilter([1, -0.97], 1, x.astype(np.float64))
    frames = []
    for start in range(0, max(1, len(x) - 320 + 160), 160):
        frame = np.zeros(320)
        part = x[start : start + 320]
        frame[: len(part)] = part
        frames.append(frame * get_window("hamming", 320, fftbins=False))
    power = np.abs(np.fft.rfft(frames, 512)) ** 2
    bins = np.linspace(0, 8000, 257)
    edges = np.linspace(0, 8000, 22)
    bank = np.stack([np.interp(bins, edges[i : i + 3], [0, 1, 0], 0, 0) for i in range(20)], axis=1)
    static = dct(np.log10(power @ bank + np.finfo(float).eps), norm="ortho", axis=1)

    def delta(c):
        padded = np.concatenate([c[:1], c, c[-1:]])
        return padded[2:] - padded[:-2]

    return np.concatenate([static, delta(static), delta(delta(static))], axis=1)


@pytest.mark.parametrize("n_samples", [320, 321, 480, 481, 7999, 16000])
def test_equals_the_definition(n_samples):
    rng = np.random.default_rng(n_samples)
    x = (0.1 * np.sin(np.arange(n_samples) * 0.05) + 0.01 * rng.standard_normal(n_samples)).astype(np.float32)
    frontend = create_frontend("lfcc")
    (features,) = frontend.hidden_states([torch.from_numpy(x)])
    expected = by_definition(x)
    assert features.shape == (1, frontend.n_frames(n_samples), 60) == (1, len(expected), 60)
    assert np.allclose(features[0].numpy(), expected, atol=2e-4)


def test_batch_invariance():
    frontend = create_frontend("lfcc")
    waveforms = [torch.randn(n, generator=torch.Generator().manual_seed(n)) for n in (320, 5000, 16001, 700)]
    padded = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True, padding_value=9.0)
    batch = frontend(padded, torch.tensor([len(w) for w in waveforms]))
    pooled = frontend.pooled(waveforms, "mean_std")
    for i, waveform in enumerate(waveforms):
        (alone,) = frontend.hidden_states([waveform])
        assert torch.allclose(batch.hidden_states[i, :, : batch.lengths[i]], alone, rtol=1e-4, atol=1e-5)
        assert not batch.hidden_states[i, :, batch.lengths[i] :].any()
        assert torch.allclose(pooled[i, 0, :60], alone[0].mean(0), atol=1e-5)
        assert torch.allclose(pooled[i, 0, 60:], alone[0].std(0, correction=0), rtol=1e-4, atol=1e-5)


def test_digital_silence_is_finite():
    (features,) = create_frontend("lfcc").hidden_states([torch.zeros(1600)])
    assert torch.isfinite(features).all()


def test_static_only_and_other_settings():
    frontend = create_frontend("lfcc", window_ms=30, hop_ms=15, n_fft=1024, n_filters=70, deltas=False)
    (features,) = frontend.hidden_states([torch.randn(16000)])
    assert features.shape == (1, 66, 20)
    assert frontend.fingerprint() != create_frontend("lfcc").fingerprint()


def test_bad_input():
    frontend = create_frontend("lfcc")
    with pytest.raises(AudioTooShortError, match="319 samples .* at least 320"):
        frontend(torch.zeros(1, 319))
    with pytest.raises(UsageError, match="hop <= window <= n_fft"):
        create_frontend("lfcc", n_fft=128)
    with pytest.raises(UsageError, match="2 layers asked for"):
        create_frontend("lfcc", 2)
    with pytest.raises(UsageError, match="colour"):
        create_frontend("lfcc", colour="red")
