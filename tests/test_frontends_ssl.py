"""SSL front-ends against ``transformers`` and the original WavLM code."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from checkpoints import VARIANTS, write_checkpoint
from conftest import GOLDEN, needs_shared
from voxfide.errors import CheckpointError, UnknownNameError, UsageError
from voxfide.frontends import FRONTENDS, create_frontend
from voxfide.frontends.checkpoint import load_encoder, save_encoder
from voxfide.frontends.ssl_config import SSLConfig
from voxfide.frontends.ssl_layers import Attention, PositionalConv
from voxfide.frontends.ssl_model import SSLEncoder

LENGTHS = (400, 719, 4321, 16000, 9999, 16000)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkpoints")
    return {name: (root / name, write_checkpoint(root / name, name)) for name in VARIANTS}


def speech_like(n_samples: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n_samples, generator=generator)
    return 0.05 * noise.cumsum(0).sin() + 0.01 * noise + 0.02


def reference_states(model, waveform: torch.Tensor, do_normalize: bool) -> list[torch.Tensor]:
    import transformers

    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=do_normalize)
    values = extractor(waveform.numpy(), sampling_rate=16000, return_tensors="pt").input_values
    with torch.inference_mode():
        return [h[0] for h in model(values, output_hidden_states=True).hidden_states]


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("n_layers", [1, 2, None])
def test_first_layers_equal_transformers(checkpoints, name, n_layers):
    folder, model = checkpoints[name]
    frontend = create_frontend(str(folder), n_layers)
    waveforms = [speech_like(n, i) for i, n in enumerate(LENGTHS)]
    ours = frontend.hidden_states(waveforms)
    assert (
        len(frontend.encoder.encoder.layers)
        == frontend.n_layers
        == (n_layers or model.config.num_hidden_layers)
    )
    worst = 0.0
    for waveform, features in zip(waveforms, ours, strict=True):
        theirs = reference_states(model, waveform, VARIANTS[name][2])[1:]
        for ours_n, theirs_n in zip(features, theirs[: frontend.n_layers], strict=True):
            assert ours_n.shape == theirs_n.shape
            worst = max(worst, float((ours_n - theirs_n).abs().max() / theirs_n.abs().max()))
    print(f"{name} n={n_layers}: largest difference to transformers {worst:.1e} of the largest value")
    assert worst < 1e-5


@pytest.mark.parametrize("name", VARIANTS)
def test_batch_invariance(checkpoints, name):
    frontend = create_frontend(str(checkpoints[name][0]))
    waveforms = [speech_like(n, i) for i, n in enumerate(LENGTHS)]
    padded = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True, padding_value=0.7)
    with torch.inference_mode():
        batch = frontend(padded, torch.tensor(LENGTHS))
    pooled = frontend.pooled(waveforms, "mean_std")
    for i, waveform in enumerate(waveforms):
        (alone,) = frontend.hidden_states([waveform])
        inside = batch.hidden_states[i, :, : batch.lengths[i]]
        assert inside.shape == alone.shape
        assert torch.allclose(inside, alone, rtol=1e-4, atol=1e-4 * float(alone.abs().max()))
        assert not batch.hidden_states[i, :, batch.lengths[i] :].any()
        assert torch.allclose(pooled[i], frontend.pooled([waveform], "mean_std")[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("file_format", ["sharded", "bin"])
@pytest.mark.parametrize("name", ["wav2vec2-base", "wavlm-large"])
def test_every_on_disk_format_gives_the_same_model(tmp_path, checkpoints, name, file_format):
    write_checkpoint(tmp_path / "m", name, file_format=file_format)
    _assert_same_weights(load_encoder(tmp_path / "m", 2), load_encoder(checkpoints[name][0], 2))


@pytest.mark.parametrize("name", ["hubert-base", "wavlm-base"])
def test_task_heads_and_prefixes_are_looked_through(tmp_path, checkpoints, name):
    write_checkpoint(tmp_path / "m", name, headed=True)
    _assert_same_weights(load_encoder(tmp_path / "m"), load_encoder(checkpoints[name][0]))


def _assert_same_weights(a: SSLEncoder, b: SSLEncoder) -> None:
    assert a.state_dict().keys() == b.state_dict().keys()
    for key, value in a.state_dict().items():
        assert torch.allclose(value, b.state_dict()[key], rtol=1e-6, atol=1e-7), key


@pytest.mark.parametrize("name", VARIANTS)
def test_saved_encoder_loads_in_transformers(tmp_path, checkpoints, name):
    import transformers

    frontend = create_frontend(str(checkpoints[name][0]), 2)
    save_encoder(frontend.encoder, tmp_path / "cut")
    model = transformers.AutoModel.from_pretrained(tmp_path / "cut").eval()
    waveform = speech_like(8000, 3)
    theirs = reference_states(model, waveform, VARIANTS[name][2])
    assert len(theirs) == 3
    ours = frontend.hidden_states([waveform])[0]
    again = create_frontend(str(tmp_path / "cut")).hidden_states([waveform])[0]
    assert torch.allclose(ours, torch.stack(theirs[1:]), rtol=1e-4, atol=1e-4)
    assert torch.allclose(ours, again, rtol=1e-5, atol=1e-5)


@needs_shared("golden/wavlm_reference")
@pytest.mark.parametrize("style", ["base_like", "large_like"])
def test_wavlm_equals_the_original_code(style):
    golden = GOLDEN / "wavlm_reference"
    cfg = json.loads((golden / f"{style}.cfg.json").read_text())
    config = SSLConfig(
        model_type="wavlm",
        hidden_size=cfg["encoder_embed_dim"],
        num_hidden_layers=cfg["encoder_layers"],
        num_attention_heads=cfg["encoder_attention_heads"],
        intermediate_size=cfg["encoder_ffn_embed_dim"],
        feat_extract_norm="layer" if cfg["extractor_mode"] == "layer_norm" else "group",
        do_stable_layer_norm=cfg["layer_norm_first"],
        conv_dim=(32,) * 7,
        conv_bias=cfg["conv_bias"],
        num_buckets=cfg["num_buckets"],
        max_bucket_distance=cfg["max_distance"],
        do_normalize=False,
    )
    names = json.loads((golden / "comparison_with_transformers.json").read_text())[style][
        "transformers_key_map"
    ]
    weights = np.load(golden / f"{style}_weights.npz")
    model = SSLEncoder(config).eval()
    state = {names[k]: torch.from_numpy(weights[k]) for k in weights.files if k in names}
    g, v = (state.pop(f"encoder.pos_conv_embed.conv.parametrizations.weight.original{i}") for i in (0, 1))
    state["encoder.pos_conv_embed.conv.weight"] = v * (g / v.norm(dim=(0, 1), keepdim=True))
    wanted = model.state_dict().keys()
    model.load_state_dict({k: t for k, t in state.items() if k in wanted})
    outputs = np.load(golden / f"{style}_outputs.npz")
    waveform = torch.from_numpy(outputs["waveforms"][1, : outputs["lengths"][1]])
    if cfg["normalize"]:
        waveform = torch.nn.functional.layer_norm(waveform, waveform.shape)
    with torch.inference_mode():
        layers = torch.stack(list(model([waveform])))
    expected = torch.from_numpy(outputs["alone1_layers"][0, 1:])
    worst = float((layers - expected).abs().max())
    print(f"{style}: largest difference to the original WavLM {worst:.1e}")
    assert worst < 1e-5


@pytest.mark.parametrize("name", ["wavlm-base", "wav2vec2-base"])
def test_padded_attention_equals_the_packed_one(checkpoints, name):
    """The route that accelerators take, exercised on the CPU."""
    encoder = load_encoder(checkpoints[name][0])
    attention = encoder.encoder.layers[0].attention
    assert isinstance(attention, Attention)
    frames = [7, 20, 20, 3]
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(sum(frames), 48, generator=generator) for _ in range(3))
    wavlm = name.startswith("wavlm")
    gate = torch.rand(sum(frames), 4, generator=generator) if wavlm else None
    biases = {n: encoder.encoder.position_bias(n) for n in frames} if wavlm else {}
    with torch.inference_mode():
        packed = attention._by_runs(q, k, v, gate, frames, biases)
        padded = attention._padded(q, k, v, gate, frames, biases)
    assert torch.allclose(packed, padded, atol=1e-6)


@pytest.mark.parametrize("kernel", [16, 15, 128])
def test_fft_convolution_equals_the_direct_one(kernel):
    config = SSLConfig(
        "wavlm", hidden_size=24, num_attention_heads=4, num_conv_pos_embeddings=kernel,
        num_conv_pos_embedding_groups=3,
    )  # fmt: skip
    layer = PositionalConv(config).eval().requires_grad_(False)
    x = torch.randn(1300, 24, generator=torch.Generator().manual_seed(1))
    frames = [1, 17, 700, 500, 82]
    direct = layer(x, frames)  # gradients enabled: the convolution itself
    with torch.no_grad():
        by_fft = layer(x, frames)
    assert torch.allclose(direct, by_fft, atol=1e-5)


def test_gradients_flow_when_asked(checkpoints):
    encoder = load_encoder(checkpoints["wavlm-base"][0]).requires_grad_(True)
    last = list(encoder([speech_like(4000, 0), speech_like(1600, 1)]))[-1]
    last.square().sum().backward()
    missing = [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    # key biases cannot matter: softmax is invariant to a constant a query
    assert all("k_proj.bias" in n for n in missing), missing


def test_frozen_front_end_stays_in_eval_mode(checkpoints):
    frontend = create_frontend(str(checkpoints["wav2vec2-base"][0]), 1)
    frontend.train()
    assert not any(module.training for module in frontend.modules())
    assert not any(p.requires_grad for p in frontend.parameters())


def test_long_input_is_windowed_in_bounded_memory(checkpoints):
    frontend = create_frontend(str(checkpoints["wavlm-base"][0]), 1)
    waveform = speech_like(16000 * 61 + 30, 5)  # the rest of 30 samples is too short for a window
    (features,) = frontend.hidden_states([waveform])
    pieces = [waveform[:480000], waveform[480000:]]
    expected = torch.cat(
        [frontend.hidden_states([p])[0] for p in (pieces[0], pieces[1][:480000], pieces[1][480000:])], 1
    )
    assert torch.allclose(features, expected, atol=1e-5)
    pooled = frontend.pooled([waveform], "mean_std")[0]
    assert torch.allclose(pooled[:, :48], features.mean(1), atol=1e-5)
    assert torch.allclose(pooled[:, 48:], features.std(1, correction=0), atol=1e-5)


def test_half_precision_stays_near(checkpoints):
    folder = str(checkpoints["wav2vec2-base"][0])
    waveforms = [speech_like(8000, 0), speech_like(3000, 1)]
    exact = create_frontend(folder).pooled(waveforms)
    half = create_frontend(folder, precision="bf16").pooled(waveforms)
    assert half.dtype == torch.float32
    assert not torch.equal(half, exact)
    assert torch.allclose(half, exact, atol=0.1 * float(exact.abs().max()))


def test_parameter_counts_of_the_registry():
    for spec in FRONTENDS:
        if spec.architecture:
            with torch.device("meta"):
                model = SSLEncoder(SSLConfig(**spec.architecture))
            assert sum(p.numel() for p in model.parameters()) == spec.n_parameters, spec.name


def test_fingerprint_follows_weights_and_layers(tmp_path, checkpoints):
    folder = checkpoints["hubert-base"][0]
    one, two = create_frontend(str(folder), 1), create_frontend(str(folder), 2)
    assert one.fingerprint() == create_frontend(str(folder), 1).fingerprint()
    assert one.fingerprint() != two.fingerprint()
    with torch.no_grad():
        one.encoder.feature_projection.projection.bias[0] += 1e-6
    assert one.fingerprint() != create_frontend(str(folder), 1).fingerprint()


class TestBadInput:
    def test_too_many_layers(self, checkpoints):
        with pytest.raises(UsageError, match="9 layers asked for, but the model has 4"):
            create_frontend(str(checkpoints["xls-r"][0]), 9)

    def test_unknown_name(self):
        with pytest.raises(UnknownNameError, match="wavlm-bas.*known|unknown front-end 'wavlm-bas'"):
            create_frontend("wavlm-bas")

    def test_unsupported_model_type(self, tmp_path):
        (tmp_path / "config.json").write_text('{"model_type": "bert"}')
        with pytest.raises(CheckpointError, match="model_type 'bert'.*wav2vec2, hubert, wavlm"):
            create_frontend(str(tmp_path))

    def test_missing_weights(self, tmp_path):
        (tmp_path / "config.json").write_text('{"model_type": "hubert"}')
        with pytest.raises(CheckpointError, match=r"no weights.*model\.safetensors"):
            create_frontend(str(tmp_path))

    def test_damaged_weights(self, tmp_path):
        (tmp_path / "config.json").write_text('{"model_type": "hubert"}')
        (tmp_path / "model.safetensors").write_bytes(b"not a safetensors file at all")
        with pytest.raises(CheckpointError, match="not a readable safetensors file"):
            create_frontend(str(tmp_path))

    def test_wrong_shapes(self, tmp_path, checkpoints):
        write_checkpoint(tmp_path, "hubert-base")
        config = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({**config, "intermediate_size": 65}))
        with pytest.raises(CheckpointError, match="weights do not fit config.json.*shape"):
            create_frontend(str(tmp_path))

    def test_pickle_with_code_is_refused(self, tmp_path, checkpoints):
        import os
        import pickle

        class Evil:
            def __reduce__(self):
                return os.system, ("touch " + str(tmp_path / "owned"),)

        write_checkpoint(tmp_path, "hubert-base")
        (tmp_path / "model.safetensors").unlink()
        (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
        with pytest.raises(CheckpointError):
            create_frontend(str(tmp_path))
        assert not (tmp_path / "owned").exists()
