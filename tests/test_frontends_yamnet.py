"""YAMNet against the outputs of its own code under TensorFlow, and the reading of ``yamnet.h5``."""

from __future__ import annotations

import gzip
import json
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from checkpoints_speaker import (
    YAMNET_WIDTHS,
    drawn,
    golden_outputs,
    golden_weights,
    write_yamnet,
    yamnet_shapes,
)
from conftest import GOLDEN, needs_shared
from voxfide.errors import CheckpointError, MissingDependencyError, UsageError
from voxfide.frontends import FRONTENDS, create_frontend
from voxfide.frontends.mel import audioset_bank
from voxfide.frontends.yamnet import Yamnet, YamnetConfig, n_patches, renamed


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("yamnet") / "yamnet.h5"
    write_yamnet(path)
    return path


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The narrow reference model from the HDF5 file that Keras itself wrote, and its outputs."""
    path = tmp_path_factory.mktemp("golden") / "yamnet.h5"
    path.write_bytes(gzip.decompress((GOLDEN / "yamnet_reference" / "tiny_weights.h5.gz").read_bytes()))
    return create_frontend("yamnet", weights=path), golden_outputs("yamnet_reference")


@needs_shared("golden/yamnet_reference")
class TestParity:
    def test_filter_bank(self, reference):
        _, outputs = reference
        ours = audioset_bank(512, 64, 125.0, 7500.0).numpy()
        theirs = np.zeros_like(ours)
        theirs[tuple(outputs["mel_matrix_nonzero_index"].T)] = outputs["mel_matrix_nonzero"]
        worst = np.abs(ours - theirs).max()
        print(f"mel matrix: largest difference to TensorFlow {worst:.1e}")
        assert worst < 1e-5

    def test_log_mel(self, reference):
        frontend, outputs = reference
        ours = frontend.encoder.log_mel(torch.from_numpy(outputs["waveform"])).numpy()
        worst = np.abs(ours - outputs["log_mel"]).max()
        print(f"log mel: largest difference to TensorFlow {worst:.1e}")
        assert worst < 1e-4

    def test_embeddings_and_predictions(self, reference):
        frontend, outputs = reference
        weights = golden_weights("yamnet_reference")
        waveform = torch.from_numpy(outputs["waveform"])
        for key, samples in (("", waveform), ("short_8000_", waveform[:8000])):
            ours = frontend.hidden_states([samples])[0][0]
            theirs = outputs[f"{key}embeddings"]
            assert ours.shape == theirs.shape
            worst = np.abs(ours.numpy() - theirs).max()
            classes = torch.sigmoid(ours @ weights["dense_1|kernel:0"] + weights["dense_1|bias:0"]).numpy()
            of_classes = np.abs(classes - outputs[f"{key}predictions"]).max()
            print(
                f"{len(samples)} samples: largest difference to TensorFlow {worst:.1e} (largest value "
                f"{np.abs(theirs).max():.2f}), of the class probabilities {of_classes:.1e}"
            )
            assert worst < 1e-5
            assert of_classes < 1e-6

    def test_official_names_and_shapes(self):
        official = json.loads((GOLDEN / "yamnet_reference" / "architecture.json").read_text(encoding="utf-8"))
        with torch.device("meta"):
            state = {k: torch.empty(s) for k, s in official["weight_shapes_official"].items()}
            own = Yamnet(YamnetConfig()).state_dict()
        assert sum(t.numel() for t in state.values()) == official["n_parameters_official"]
        assert {k: v.shape for k, v in renamed(state).items()} == {k: v.shape for k, v in own.items()}


def test_parameter_count_of_the_registry():
    with torch.device("meta"):
        count = sum(p.numel() for p in Yamnet(YamnetConfig()).parameters())
    assert count == FRONTENDS["yamnet"].n_parameters


@given(st.integers(400, 480_000))
def test_patches_cover_the_signal_and_no_more(n_samples):
    n = n_patches(n_samples)
    covered = 15_600 + 7_680 * (n - 1)
    assert covered >= n_samples
    assert n == 1 or covered - 7_680 < n_samples


def test_a_frame_sees_its_patch_only(small):
    frontend = create_frontend("yamnet", weights=small)
    waveform = 0.1 * torch.randn(40_000, generator=torch.Generator().manual_seed(0))
    (frames,) = frontend.hidden_states([waveform])
    assert frames.shape == (1, n_patches(40_000), frontend.dim)
    for number, frame in enumerate(frames[0]):
        start = number * frontend.hop_samples
        (alone,) = frontend.hidden_states([waveform[start : start + 15_600]])
        assert torch.allclose(frame, alone[0, 0], atol=1e-5)


class TestBadInput:
    def test_no_weights(self):
        with pytest.raises(
            CheckpointError, match=r"on no model hub: download https:\S+/yamnet\.h5 .*weights=PATH"
        ):
            create_frontend("yamnet")

    def test_no_h5py(self, small, monkeypatch):
        monkeypatch.setitem(sys.modules, "h5py", None)
        with pytest.raises(MissingDependencyError, match=r"voxfide\[yamnet\]"):
            create_frontend("yamnet", weights=small)

    @pytest.mark.parametrize("content", [b"", b"not HDF5", b"\x89HDF\r\n\x1a\n damaged"])
    def test_no_hdf5(self, tmp_path, content):
        (tmp_path / "x.h5").write_bytes(content)
        with pytest.raises(CheckpointError, match="x.h5: not a readable HDF5 file of Keras weights"):
            create_frontend("yamnet", weights=tmp_path / "x.h5")

    def test_hdf5_without_keras_weights(self, tmp_path):
        import h5py

        with h5py.File(tmp_path / "x.h5", "w") as file:
            file["a"] = np.zeros(3)
        with pytest.raises(CheckpointError, match="layer_names"):
            create_frontend("yamnet", weights=tmp_path / "x.h5")

    def test_another_keras_model(self, tmp_path):
        write_yamnet(tmp_path / "x.h5", {"dense/kernel:0": torch.zeros(3, 3)})
        with pytest.raises(CheckpointError, match="not the weights of YAMNet"):
            create_frontend("yamnet", weights=tmp_path / "x.h5")

    def test_weights_that_do_not_fit(self, tmp_path):
        state = drawn(yamnet_shapes(YAMNET_WIDTHS))
        state["layer3/depthwise_conv/depthwise_kernel:0"] = torch.zeros(5, 5, 4, 1)
        write_yamnet(tmp_path / "x.h5", state)
        with pytest.raises(
            CheckpointError, match=r"layers.2.depthwise_conv.conv.weight has shape \(4, 1, 5, 5\)"
        ):
            create_frontend("yamnet", weights=tmp_path / "x.h5")

    def test_revision(self, small):
        with pytest.raises(UsageError, match="revision"):
            create_frontend("yamnet", weights=small, revision="main")
