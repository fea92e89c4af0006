"""AASIST on the waveform: parity with the official weights, and `voxfide convert aasist`."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from command_line import run_here
from conftest import GOLDEN, needs_shared
from voxfide.backends import create_backend
from voxfide.backends.raw_aasist import OFFICIAL, RawAasistBackend
from voxfide.backends.sinc import band_pass_filters, mel_edges
from voxfide.backends.weights import read_state
from voxfide.detector import Detector
from voxfide.errors import CheckpointError, UsageError
from voxfide.frontends import create_frontend

FOLDER = GOLDEN / "clovaai_aasist"
MODELS = {"AASIST": "aasist", "AASIST-L": "aasist_l"}
SMALL = {
    "first_conv": 16,
    "filts": [9, [1, 8], [8, 8], [8, 12], [12, 12]],
    "gat_dims": [12, 8],
    "pool_ratios": [0.5, 0.7, 0.5, 0.5],
    "temperatures": [2.0, 2.0, 100.0, 100.0],
}


@pytest.fixture(scope="module")
def outputs():
    with np.load(FOLDER / "outputs.npz") as file:
        return {k: file[k] for k in file.files}


def model_config(name: str) -> dict:
    return json.loads((FOLDER / f"{name}.model_config.json").read_text())


@needs_shared("golden/clovaai_aasist")
@pytest.mark.parametrize("name", MODELS)
def test_official_weights_give_the_official_outputs(name, outputs):
    backend = RawAasistBackend.from_official(read_state(FOLDER / f"{name}.safetensors"))
    assert backend.architecture == name
    waveforms = torch.from_numpy(outputs["waveforms"])
    features, lengths = waveforms[:, None, :, None], torch.full((3,), waveforms.shape[1])
    with torch.inference_mode():
        spectral, temporal = backend.head.nodes(features, lengths)
        pooled, _ = backend.head.pooled_bands(waveforms, lengths)
        found = {
            "logits": backend.head.graph(spectral, temporal),
            "embedding": backend.head.graph.embedding(spectral, temporal),
            "e_S": spectral.values,
            "e_T": temporal.values,
            "sinc_pooled_first20": pooled[:, 0, :, :20],
        }
    differences = {}
    for key, tensor in found.items():
        expected = outputs[f"{MODELS[name]}_{key}"]
        differences[key] = float(np.abs(tensor.numpy() - expected).max())
    print(f"\n{name}: " + ", ".join(f"{k} {v:.1e}" for k, v in differences.items()))
    assert max(differences.values()) < 1e-4
    assert np.allclose(
        backend.score_padded(features[:1], lengths[:1]), outputs[f"{MODELS[name]}_logits"][0, 1], atol=1e-4
    )


@needs_shared("golden/clovaai_aasist")
def test_sinc_filters_are_the_official_ones(outputs):
    difference = np.abs(band_pass_filters(70, 128) - outputs["sinc_band_pass"]).max()
    print(f"\nsinc filters: {difference:.1e}")
    assert difference < 1e-9


def test_sinc_filters_pass_their_band():
    filters = band_pass_filters(20, 512)
    assert filters.shape == (20, 513)
    response = np.abs(np.fft.rfft(filters, n=16_000))  # one bin a Hz
    edges = mel_edges(20)
    assert (edges[0], edges[-1]) == (0, pytest.approx(8000))
    for band in range(5, 20):
        low, high = float(edges[band]), float(edges[band + 1])
        middle = round((low + high) / 2)
        assert response[band, middle] == pytest.approx(1, abs=0.02)
        outside = np.concatenate([response[band, : int(low) - 70], response[band, int(high) + 70 :]])
        assert outside.max() < 0.01


@needs_shared("golden/clovaai_aasist")
@pytest.mark.parametrize("name", MODELS)
def test_the_official_configuration_is_the_built_in_one(name):
    assert RawAasistBackend(architecture=model_config(name))._sizes == OFFICIAL[name]


@needs_shared("golden/clovaai_aasist")
@pytest.mark.parametrize("kind", ["pth", "safetensors", "nested"])
def test_convert_makes_a_detector_that_scores_as_the_official_evaluation(
    kind, tmp_path, outputs, monkeypatch, capsys
):
    weights = FOLDER / "AASIST-L.safetensors"
    arguments = []
    if kind != "safetensors":
        state = {f"module.{k}": v for k, v in read_state(weights).items()}
        weights = tmp_path / "AASIST-L.pth"
        torch.save({"state_dict": state, "epoch": 3} if kind == "nested" else state, weights)
    if kind == "nested":
        config = tmp_path / "AASIST-L.conf"
        config.write_text(json.dumps({"batch_size": 24, "model_config": model_config("AASIST-L")}))
        arguments = ["--config", config]
    assert run_here(monkeypatch, "convert", "aasist", weights, "-o", tmp_path / "detector", *arguments) == 0
    assert "detector waveform + aasist-raw" in capsys.readouterr().out
    detector = Detector.from_pretrained(tmp_path / "detector")
    assert detector.crop.n_samples == 64_600
    long, _, tiled = outputs["waveforms"]
    short = tiled[: int(outputs["short_length"])]
    longer = np.concatenate([long, long[:999]])
    scores = detector.score_waveforms([longer, short])
    assert np.allclose(scores, outputs["aasist_l_logits"][[0, 2], 1], atol=1e-4)


def test_weights_that_do_not_fit_are_refused(tmp_path, monkeypatch, capsys):
    def refused(weights, message):
        assert run_here(monkeypatch, "convert", "aasist", weights, "-o", tmp_path / "out") == 2
        assert message in capsys.readouterr().err

    file = tmp_path / "weights.safetensors"
    refused(file, "no such file")
    file.write_bytes(b"nonsense")
    refused(file, "not a readable safetensors file")
    pickled = tmp_path / "weights.pth"
    torch.save({"pos_S": torch.zeros(1, 23, 64)}, pickled)
    refused(pickled, "fit no official architecture")
    torch.save({"epoch": 1}, pickled)
    refused(pickled, "holds no tensors")
    assert not (tmp_path / "out").exists()


def official_name(name: str) -> str:
    """The official code's name of a tensor here, found by trying all of them."""
    candidates = {RawAasistBackend.own_name(k): k for k in official_names()}
    return candidates[name]


def official_names() -> list[str]:
    parts = ["att_proj.", "att_weight", "proj_with_att.", "proj_without_att.", "bn."]
    graphs = {f"GAT_layer_{kind}.": parts for kind in "ST"}
    mixed = [
        *parts, "proj_type1.", "proj_type2.", "att_projM.", "att_weight11", "att_weight22", "att_weight12",
        "att_weightM", "proj_with_attM.", "proj_without_attM.",
    ]  # fmt: skip
    graphs |= {f"HtrgGAT_layer_ST{i}.": mixed for i in ("11", "12", "21", "22")}
    graphs |= {f"pool_{kind}.": ["proj."] for kind in ("S", "T", "hS1", "hT1", "hS2", "hT2")}
    graphs |= {f"encoder.{i}.0.": ["bn1.", "bn2.", "conv1.", "conv2.", "conv_downsample."] for i in range(6)}
    graphs |= {"": ["first_bn.", "out_layer.", "pos_S", "master1", "master2"]}
    tails = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    return [
        prefix + part + tail
        for prefix, some in graphs.items()
        for part in some
        for tail in (tails if part.endswith(".") else [""])
    ]


def test_another_architecture_needs_its_configuration():
    torch.manual_seed(0)
    backend = create_backend("aasist-raw", architecture=SMALL, variant="reference")
    backend.build(1, 1)
    state = {official_name(k): t for k, t in backend.head.state_dict().items()}
    assert len(state) == len(backend.head.state_dict())
    read = RawAasistBackend.from_official(state, SMALL)
    waveform = np.random.default_rng(0).standard_normal((1, 4000, 1)).astype(np.float32)
    assert read.score([waveform]) == backend.score([waveform])
    with pytest.raises(CheckpointError, match="model_config is needed"):
        RawAasistBackend.from_official(state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first_conv": 0}, "first_conv 0"),
        ({"filts": [2, [1, 8], [8, 8], [8, 12], [12, 12]]}, "filts"),
        ({"filts": [9, [1, 8], [4, 8], [8, 12], [12, 12]]}, "filts"),
        ({"filts": [9, [1, 8], [8, 8], [8, 12], [12, 16]]}, "filts"),
        ({"filts": [9, [1, 8]]}, "filts"),
        ({"filts": "wide"}, "filts"),
        ({"gat_dims": [12]}, "gat_dims"),
        ({"pool_ratios": [0.5, 1.2, 0.5]}, "pool_ratios"),
        ({"temperatures": [2.0, "warm", 100.0]}, "temperatures"),
    ],
)
def test_sizes_that_cannot_be(change, message):
    with pytest.raises(UsageError, match=message):
        create_backend("aasist-raw", architecture={**SMALL, **change})


def test_all_problems_of_an_architecture_at_once():
    with pytest.raises(UsageError, match="gat_dims .*; temperatures "):
        create_backend("aasist-raw", architecture={**SMALL, "gat_dims": 3, "temperatures": None})
    with pytest.raises(UsageError, match="without gat_dims, temperatures"):
        create_backend(
            "aasist-raw", architecture={k: SMALL[k] for k in ("first_conv", "filts", "pool_ratios")}
        )
    with pytest.raises(UsageError, match="expected AASIST or AASIST-L"):
        create_backend("aasist-raw", architecture="AASIST-XL")


def test_it_takes_the_waveform_front_end_only():
    with pytest.raises(UsageError, match="front-end waveform"):
        create_backend("aasist-raw").build(12, 768)


def test_the_waveform_front_end_changes_nothing():
    frontend = create_frontend("waveform")
    waveform = torch.randn(500_001)  # longer than one window
    (states,) = frontend.hidden_states([waveform])
    assert torch.equal(states, waveform[None, :, None])
    with pytest.raises(UsageError, match="do not apply"):
        create_frontend("waveform", precision="bf16")
