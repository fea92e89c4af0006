"""DeCoAR 2.0 against s3prl, from checkpoints in the form of the release."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from checkpoints_beats import SMALL, decoar2_shapes, write_decoar2
from conftest import GOLDEN, needs_shared
from voxfide.errors import AudioTooShortError
from voxfide.frontends import FRONTENDS, create_frontend
from voxfide.frontends.decoar2 import SIZES, Decoar2Encoder, normalise
from voxfide.frontends.fairseq import Sizes, renamed
from voxfide.frontends.kaldi_fbank import KaldiFbank

FOLDER = GOLDEN / "decoar2_reference"
LENGTHS = (560, 719, 16400, 9600, 16400)


def speech_like(n_samples: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n_samples, generator=generator)
    return 0.05 * noise.cumsum(0).sin() + 0.01 * noise + 0.02


@needs_shared("golden/decoar2_reference")
class TestParity:
    @pytest.fixture
    def frontend(self, tmp_path, monkeypatch):
        weights = np.load(FOLDER / "weights.npz")
        torch.save({"model": {k: torch.from_numpy(weights[k]) for k in weights.files}}, tmp_path / "x.pt")
        sizes = Sizes.from_dict(json.loads((FOLDER / "cfg.json").read_text()))
        monkeypatch.setattr("voxfide.frontends.decoar2.SIZES", sizes)
        return create_frontend("decoar2", weights=tmp_path / "x.pt")

    @pytest.fixture
    def golden(self):
        return np.load(FOLDER / "outputs.npz")

    def waveforms(self, golden):
        return [torch.from_numpy(w[:n]) for w, n in zip(golden["waveforms"], golden["lengths"], strict=True)]

    def test_features(self, frontend, golden):
        waveforms = self.waveforms(golden)
        bank = frontend.encoder.fbank(waveforms[0]).numpy()
        worst = float(np.abs(bank - golden["fbank_raw_utt0"]).max())
        print(f"Kaldi filter bank, 80 bands: largest difference {worst:.1e} (natural logarithms)")
        assert worst < 2e-4
        exact = KaldiFbank(80, "hamming").double()
        for index, waveform in enumerate(waveforms):
            theirs = golden[f"features_utt{index}"]
            ours = frontend.encoder.features(waveform).numpy()
            assert ours.shape == theirs.shape
            difference = np.abs(ours - theirs)
            noise = np.abs(normalise(exact(waveform.double()))[::2].numpy() - theirs).max()
            print(
                f"DeCoAR 2.0 features, utterance {index}: largest difference {difference.max():.1e}, mean "
                f"{difference.mean():.1e}; the reference is itself within {noise:.1e} of double precision"
            )
            assert difference.mean() < 5e-6
            assert difference.max() < 2 * max(noise, 5e-5)

    @torch.inference_mode()
    def test_blocks_from_the_reference_features(self, frontend, golden):
        """The network alone, without the rounding of the filter bank."""
        encoder = frontend.encoder
        x = encoder.post_extract_proj(torch.from_numpy(golden["features_utt0"]))
        worst = max(
            float(np.abs(layer.numpy() - expected).max())
            for layer, expected in zip(encoder.encoder(x, [51]), golden["masked_layers"][0], strict=True)
        )
        print(f"DeCoAR 2.0 blocks from equal features: largest difference {worst:.1e}")
        assert worst < 5e-6

    def test_layers(self, frontend, golden):
        first, second = (h.numpy() for h in frontend.hidden_states(self.waveforms(golden)))
        differences = (
            first - golden["masked_layers"][0],
            second - golden["masked_layers"][1, :, :29],
            second[-1] - golden["alone1_last"][0],
        )
        worst = max(float(np.abs(d).max()) for d in differences)
        scale = float(np.abs(golden["masked_layers"]).max())
        print(f"DeCoAR 2.0 blocks: largest difference {worst:.1e}, of values up to {scale:.1f}")
        assert worst < 3e-4

    def test_the_full_size_checkpoint_fits(self):
        facts = json.loads((FOLDER / "official_checkpoint_format.json").read_text())
        shapes = {k: tuple(v) for k, v in facts["state_dict_shapes"].items()}
        assert Sizes.from_dict(facts["hard_coded_cfg"]) == SIZES
        assert decoar2_shapes(SIZES) == shapes
        with torch.device("meta"):
            model = Decoar2Encoder(SIZES)
            state = renamed({k: torch.empty(shape) for k, shape in shapes.items()})
        assert {k: v.shape for k, v in model.state_dict().items()} == {k: v.shape for k, v in state.items()}


def test_parameters_of_the_spec():
    with torch.device("meta"):
        model = Decoar2Encoder(SIZES)
    assert sum(p.numel() for p in model.parameters()) == FRONTENDS["decoar2"].n_parameters
    assert model.n_layers == FRONTENDS["decoar2"].n_layers


@pytest.fixture
def load(tmp_path, monkeypatch):
    write_decoar2(tmp_path / "small.pt")
    monkeypatch.setattr("voxfide.frontends.decoar2.SIZES", SMALL)
    return lambda n_layers=None, **more: create_frontend(
        "decoar2", n_layers, weights=tmp_path / "small.pt", **more
    )


@pytest.mark.parametrize("n_layers", [1, 2])
def test_truncation_cuts_the_model_and_nothing_else(load, n_layers):
    full, cut = load(), load(n_layers)
    assert len(cut.encoder.encoder.layers) == n_layers == cut.n_layers
    waveforms = [speech_like(n, i) for i, n in enumerate(LENGTHS)]
    for a, b in zip(full.hidden_states(waveforms), cut.hidden_states(waveforms), strict=True):
        assert torch.equal(a[:n_layers], b)


def test_alone_equals_in_a_batch(load):
    frontend = load()
    waveforms = [speech_like(n, i) for i, n in enumerate(LENGTHS)]
    padded = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True, padding_value=0.7)
    with torch.inference_mode():
        batch = frontend(padded, torch.tensor(LENGTHS))
    for i, waveform in enumerate(waveforms):
        (alone,) = frontend.hidden_states([waveform])
        assert alone.shape == (3, frontend.n_frames(len(waveform)), 48)
        assert torch.allclose(batch.hidden_states[i, :, : batch.lengths[i]], alone, atol=1e-5)


def test_loudness_does_not_matter(load):
    """Each band is normalised over the utterance."""
    frontend = load()
    waveform = speech_like(16000, 0)
    assert torch.allclose(frontend.pooled([waveform]), frontend.pooled([0.5 * waveform]), atol=1e-3)


@pytest.mark.parametrize(("n_samples", "frames"), [(559, 0), (560, 1), (719, 1), (720, 2), (16400, 51)])
def test_frames(load, n_samples, frames):
    frontend = load(1)
    assert frontend.n_frames(n_samples) == frames
    if frames:
        assert frontend.hidden_states([speech_like(n_samples, 0)])[0].shape == (1, frames, 48)


def test_half_precision_stays_near(load):
    waveforms = [speech_like(8000, 0), speech_like(3000, 1)]
    exact, half = load().pooled(waveforms), load(precision="bf16").pooled(waveforms)
    assert not torch.equal(half, exact)
    assert torch.allclose(half, exact, atol=0.1 * float(exact.abs().max()))


def test_digital_silence_is_finite(load):
    assert torch.isfinite(load().pooled([torch.zeros(4000)])).all()


def test_too_short(load):
    with pytest.raises(AudioTooShortError, match="559 samples .* at least 560"):
        load()(torch.zeros(1, 559))
