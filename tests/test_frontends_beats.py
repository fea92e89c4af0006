"""BEATs against the authors' code, from checkpoints in the form of the release."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from checkpoints_beats import BEATS_CFG, beats_shapes, write_beats
from conftest import GOLDEN, needs_shared
from voxfide.errors import AudioTooShortError, CheckpointError
from voxfide.frontends import FRONTENDS, create_frontend
from voxfide.frontends.beats import BeatsConfig, BeatsEncoder
from voxfide.frontends.fairseq import renamed

FOLDER = GOLDEN / "beats_reference"
LENGTHS = (2800, 5360, 16400, 40_000, 16400)


def speech_like(n_samples: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n_samples, generator=generator)
    return 0.05 * noise.cumsum(0).sin() + 0.01 * noise + 0.02


@needs_shared("golden/beats_reference")
class TestParity:
    @pytest.fixture
    def frontend(self, tmp_path):
        weights = np.load(FOLDER / "weights.npz")
        path = tmp_path / "tiny.pt"
        content = {
            "cfg": json.loads((FOLDER / "cfg.json").read_text()),
            "model": {k: torch.from_numpy(weights[k]) for k in weights.files},
            "label_dict": {i: f"/m/{i}" for i in range(5)},
        }
        torch.save(content, path)
        return create_frontend("beats", weights=path)

    @pytest.fixture
    def golden(self):
        return np.load(FOLDER / "outputs.npz")

    def test_features(self, frontend, golden):
        waveform = torch.from_numpy(golden["waveforms"][0])
        expected = golden["fbank_normalised_utt0"]
        bands = frontend.encoder.features(waveform).numpy()
        assert bands.shape == (96, 128)  # 101 frames, of which 96 fill whole patches
        worst = float(np.abs(bands - expected[:96]).max())
        print(f"BEATs filter bank: largest difference {worst:.1e} (normalised natural logarithms)")
        assert worst < 1e-4
        tokens = frontend.encoder.patches([waveform]).detach().numpy()
        worst = float(np.abs(tokens - golden["patch_tokens"][0]).max())
        print(f"BEATs patch tokens: largest difference {worst:.1e}")
        assert worst < 5e-5

    @torch.inference_mode()
    def test_layers(self, frontend, golden):
        waveforms = list(torch.from_numpy(golden["waveforms"]))
        worst = 0.0
        for i, waveform in enumerate(waveforms):
            layers = [layer.numpy() for layer in frontend.encoder.tokens([waveform])]
            worst = max(worst, float(np.abs(layers[-1] - golden["unmasked_layers"][i, 0]).max()))
            if golden["lengths"][i] == len(waveform):
                for layer, expected in zip(layers, golden["masked_layers"][i, 1:], strict=True):
                    worst = max(worst, float(np.abs(layer - expected).max()))
        scale = float(np.abs(golden["unmasked_layers"]).max())
        print(f"BEATs blocks: largest difference {worst:.1e}, of values up to {scale:.1f}")
        assert worst < 1e-4

    def test_frames_are_means_over_the_bands(self, frontend, golden):
        waveforms = list(torch.from_numpy(golden["waveforms"]))
        expected = golden["unmasked_layers"][:, 0].reshape(2, 6, 8, 48).mean(axis=2)
        for features, frames in zip(frontend.hidden_states(waveforms), expected, strict=True):
            assert np.abs(features[-1].numpy() - frames).max() < 1e-4
        means = golden["unmasked_layers"][:, 0].mean(axis=1)
        assert np.abs(frontend.pooled(waveforms)[:, -1].numpy() - means).max() < 1e-4

    def test_the_full_size_checkpoint_fits(self):
        facts = json.loads((FOLDER / "official_checkpoint_format.json").read_text())
        cfg = facts["official_cfg_of_iter3_checkpoints_as_quoted_by_users_not_verified_here"]
        shapes = {k: tuple(v) for k, v in facts["state_dict_shapes"].items()}
        assert beats_shapes(cfg) == shapes
        with torch.device("meta"):
            model = BeatsEncoder(BeatsConfig.from_dict(cfg))
            state = renamed({k: torch.empty(shape) for k, shape in shapes.items()})
        assert {k: v.shape for k, v in model.state_dict().items()}.items() <= {
            k: v.shape for k, v in state.items()
        }.items()


def test_parameters_of_the_spec():
    with torch.device("meta"):
        model = BeatsEncoder(BeatsConfig())
    assert sum(p.numel() for p in model.parameters()) == FRONTENDS["beats"].n_parameters
    assert model.n_layers == FRONTENDS["beats"].n_layers


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("beats") / "small.pt"
    write_beats(path)
    return path


@pytest.mark.parametrize("n_layers", [1, 2])
def test_truncation_cuts_the_model_and_nothing_else(path, n_layers):
    """DeepNorm's scale follows the depth that the model was trained at, not what is built."""
    full, cut = create_frontend("beats", weights=path), create_frontend("beats", n_layers, weights=path)
    assert len(cut.encoder.encoder.layers) == n_layers == cut.n_layers
    waveforms = [speech_like(n, i) for i, n in enumerate(LENGTHS)]
    for a, b in zip(full.hidden_states(waveforms), cut.hidden_states(waveforms), strict=True):
        assert torch.equal(a[:n_layers], b)


def test_alone_equals_in_a_batch(path):
    frontend = create_frontend("beats", weights=path)
    waveforms = [speech_like(n, i) for i, n in enumerate(LENGTHS)]
    padded = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True, padding_value=0.7)
    with torch.inference_mode():
        batch = frontend(padded, torch.tensor(LENGTHS))
    for i, waveform in enumerate(waveforms):
        (alone,) = frontend.hidden_states([waveform])
        assert alone.shape == (3, frontend.n_frames(len(waveform)), 48)
        assert torch.allclose(batch.hidden_states[i, :, : batch.lengths[i]], alone, atol=1e-5)
        assert not batch.hidden_states[i, :, batch.lengths[i] :].any()


@torch.inference_mode()
def test_the_route_of_accelerators_gives_the_same(path):
    attention = create_frontend("beats", weights=path).encoder.encoder.layers[0].attention
    transformer = create_frontend("beats", weights=path).encoder.encoder
    frames = [8, 24, 24]
    q, k, v = torch.randn(3, sum(frames), 48, generator=torch.Generator().manual_seed(0))
    gate = attention._gate(q)
    biases = {n: transformer.position_bias(n) for n in frames}
    runs = attention._by_runs(q, k, v, gate, frames, biases)
    assert torch.allclose(runs, attention._padded(q, k, v, gate, frames, biases), atol=1e-6)


def test_a_fine_tuned_model_is_looked_through(tmp_path, path):
    write_beats(tmp_path / "tuned.pt", finetuned_model=True, predictor_class=5)
    tuned, plain = (create_frontend("beats", weights=p) for p in (tmp_path / "tuned.pt", path))
    waveform = speech_like(8000, 0)
    assert torch.equal(tuned.pooled([waveform]), plain.pooled([waveform]))
    assert tuned.fingerprint() == plain.fingerprint()


def test_long_input_is_windowed(path):
    frontend = create_frontend("beats", 1, weights=path)
    waveform = speech_like(480_000 + 16_400, 5)
    (features,) = frontend.hidden_states([waveform])
    pieces = frontend.hidden_states([waveform[:480_000], waveform[480_000:]])
    assert torch.allclose(features, torch.cat(pieces, dim=1), atol=1e-5)
    assert features.shape[1] == frontend.total_frames(len(waveform))


def test_half_precision_stays_near(path):
    waveforms = [speech_like(8000, 0), speech_like(3000, 1)]
    exact = create_frontend("beats", weights=path).pooled(waveforms)
    half = create_frontend("beats", weights=path, precision="bf16").pooled(waveforms)
    assert half.dtype == torch.float32
    assert not torch.equal(half, exact)
    assert torch.allclose(half, exact, atol=0.1 * float(exact.abs().max()))


def test_digital_silence_is_finite(path):
    assert torch.isfinite(create_frontend("beats", weights=path).pooled([torch.zeros(4000)])).all()


class TestBadInput:
    def test_too_short(self, path):
        with pytest.raises(AudioTooShortError, match="2799 samples .* at least 2800"):
            create_frontend("beats", weights=path)(torch.zeros(1, 2799))

    @pytest.mark.parametrize(
        ("key", "value"), [("deep_norm", False), ("input_patch_size", 8), ("layer_norm_first", True)]
    )
    def test_another_architecture(self, tmp_path, key, value):
        torch.save({"cfg": {**BEATS_CFG, key: value}, "model": {}}, tmp_path / "x.pt")
        with pytest.raises(CheckpointError, match=f"not a supported BEATs model: {key} is {value}"):
            create_frontend("beats", weights=tmp_path / "x.pt")

    def test_a_tokeniser_is_no_model(self, tmp_path):
        torch.save(
            {"cfg": BEATS_CFG, "model": {"quantize.embedding.weight": torch.ones(2)}}, tmp_path / "x.pt"
        )
        with pytest.raises(CheckpointError, match="weights do not fit: missing"):
            create_frontend("beats", weights=tmp_path / "x.pt")

    def test_sizes_that_cannot_be(self, tmp_path):
        torch.save({"cfg": {**BEATS_CFG, "encoder_attention_heads": 5}, "model": {}}, tmp_path / "x.pt")
        with pytest.raises(CheckpointError, match="48 is no multiple of 5 heads"):
            create_frontend("beats", weights=tmp_path / "x.pt")
