"""GE2E against its definition in plain NumPy, and against Resemblyzer itself where that is installed."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from checkpoints_speaker import write_ge2e
from conftest import CORPUS, needs_shared
from voxfide.errors import CheckpointError
from voxfide.frontends import FRONTENDS, create_frontend
from voxfide.frontends.ge2e import Ge2e, Ge2eConfig, n_partials


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("ge2e") / "pretrained.pt"
    write_ge2e(path)
    return path


def starts(n_samples: int) -> list[int]:
    """First mel frames of the partials, as Resemblyzer finds them: 1.3 a second, 3/4 covered."""
    n_frames = int(np.ceil((n_samples + 1) / 160))
    step = round(16000 / 1.3 / 160)
    found = list(range(0, max(1, n_frames - 160 + step + 1), step))
    covered = (n_samples - 160 * found[-1]) / (160 * 160)
    return found[:-1] if covered < 0.75 and len(found) > 1 else found


def slaney_edges() -> np.ndarray:
    """Hz of the corners of 40 triangles from 0 to 8 kHz."""
    mel = np.linspace(0, 15 + 27 * np.log(8) / np.log(6.4), 42)
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp(np.log(6.4) / 27 * (mel - 15)))


def mel_energies(x: np.ndarray) -> np.ndarray:
    """Slaney mel, triangles of unit area in Hz, of the power spectrum, ``(frames, 40)``."""
    padded = np.pad(x.astype(np.float64), 200)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = np.stack([padded[i : i + 400] * window for i in range(0, len(x) + 1, 160)])
    power = np.abs(np.fft.rfft(frames)) ** 2
    edges, bins = slaney_edges(), np.linspace(0, 8000, 201)
    area = (edges[2:] - edges[:-2]) / 2
    bank = np.stack([np.interp(bins, edges[i : i + 3], [0, 1, 0], 0, 0) for i in range(40)], axis=1) / area
    return power @ bank


def lstm(x: np.ndarray, state: dict[str, np.ndarray], layers: int) -> np.ndarray:
    """The last output of an LSTM, ``(frames, in)`` to ``(hidden,)``."""

    def sigmoid(z: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-z))

    for i in range(layers):
        w, u = state[f"lstm.weight_ih_l{i}"], state[f"lstm.weight_hh_l{i}"]
        b = state[f"lstm.bias_ih_l{i}"] + state[f"lstm.bias_hh_l{i}"]
        h = c = np.zeros(u.shape[1])
        outputs = []
        for frame in x:
            enter, forget, new, leave = np.split(w @ frame + u @ h + b, 4)
            c = sigmoid(forget) * c + sigmoid(enter) * np.tanh(new)
            h = sigmoid(leave) * np.tanh(c)
            outputs.append(h)
        x = np.stack(outputs)
    return x[-1]


@pytest.mark.parametrize("n_samples", [400, 9_000, 25_599, 31_519, 31_520, 60_000])
@pytest.mark.parametrize("level", [0.3, 0.01])
def test_equals_the_definition(small, n_samples, level):
    frontend = create_frontend("ge2e", weights=small)
    content = torch.load(small, weights_only=True)["model_state"]
    state = {k: v.double().numpy() for k, v in content.items()}
    x = level * np.random.default_rng(n_samples).standard_normal(n_samples)
    (ours,) = frontend.hidden_states([torch.from_numpy(x).float()])
    louder = x * max(1, 10 ** (-30 / 20) / np.sqrt(np.mean(x**2)))
    firsts = starts(n_samples)
    energies = mel_energies(np.pad(louder, (0, max(0, (firsts[-1] + 160) * 160 - n_samples))))
    expected = []
    for first in firsts:
        hidden = lstm(energies[first : first + 160], state, 2)
        raw = np.maximum(state["linear.weight"] @ hidden + state["linear.bias"], 0)
        expected.append(raw / np.linalg.norm(raw))
    assert ours.shape == (1, len(firsts), 8)
    assert np.abs(ours[0].numpy() - np.stack(expected)).max() < 1e-5
    assert np.ptp(np.stack(expected), axis=0).max() > 1e-3 or len(firsts) == 1


@given(st.integers(400, 480_000))
def test_number_of_partials(n_samples):
    assert n_partials(n_samples) == len(starts(n_samples))


@needs_shared("corpus/bonafide_dev")
def test_equals_resemblyzer():
    """The package itself, on real speech; its voice activity detector is left out on both sides."""
    pytest.importorskip("resemblyzer", reason="Resemblyzer and what it depends on are not installed")
    import soundfile as sf
    from resemblyzer import VoiceEncoder
    from resemblyzer.audio import normalize_volume

    original = VoiceEncoder("cpu", verbose=False)
    frontend = create_frontend("ge2e")
    worst = 0.0
    for path in sorted((CORPUS / "bonafide_dev").iterdir())[:5]:
        waveform, rate = sf.read(path, dtype="float32")
        assert rate == 16000
        embedding, partials, _ = original.embed_utterance(
            normalize_volume(waveform, -30, increase_only=True), return_partials=True
        )
        (ours,) = frontend.hidden_states([torch.from_numpy(waveform)])
        mean = frontend.pooled([torch.from_numpy(waveform)])[0, 0].numpy()
        worst = max(worst, np.abs(ours[0].numpy() - partials).max())
        worst = max(worst, np.abs(mean / np.linalg.norm(mean) - embedding).max())
    print(f"largest difference to Resemblyzer {worst:.1e}")
    assert worst < 1e-5


def test_parameter_count_of_the_registry():
    with torch.device("meta"):
        count = sum(p.numel() for p in Ge2e(Ge2eConfig()).parameters())
    assert count == FRONTENDS["ge2e"].n_parameters


def test_silence_is_finite(small):
    assert torch.isfinite(create_frontend("ge2e", weights=small).pooled([torch.zeros(8000)])).all()


class TestWeights:
    def test_of_the_installed_package_without_importing_it(self, tmp_path, monkeypatch, small):
        package = tmp_path / "resemblyzer"
        package.mkdir()
        (package / "__init__.py").write_text("raise ImportError('no librosa here')")
        (package / "pretrained.pt").write_bytes(small.read_bytes())
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "resemblyzer", raising=False)
        assert create_frontend("ge2e").fingerprint() == create_frontend("ge2e", weights=small).fingerprint()

    def test_without_the_package_the_error_says_how_to_get_it(self, monkeypatch):
        monkeypatch.setattr("voxfide.frontends.ge2e.find_spec", lambda name: None)
        with pytest.raises(CheckpointError, match="pip install --no-deps resemblyzer.*weights=PATH"):
            create_frontend("ge2e")

    @pytest.mark.parametrize("content", [{"model_state": {"a": torch.zeros(1)}}, {"step": 1}])
    def test_another_checkpoint(self, tmp_path, content):
        torch.save(content, tmp_path / "x.pt")
        with pytest.raises(CheckpointError, match="x.pt: (not the weights of a GE2E|no state dict)"):
            create_frontend("ge2e", weights=tmp_path / "x.pt")
