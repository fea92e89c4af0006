"""TitaNet against NeMo's own outputs, and the reading of ``.nemo`` archives."""

from __future__ import annotations

import io
import json
import os
import tarfile

import numpy as np
import pytest
import torch
import yaml

from checkpoints_speaker import (
    TITANET_PREPROCESSOR,
    drawn,
    golden_outputs,
    golden_weights,
    titanet_config,
    titanet_shapes,
    write_archive,
    write_titanet,
)
from conftest import GOLDEN, needs_shared
from voxfide.errors import CheckpointError, UsageError
from voxfide.frontends import FRONTENDS, create_frontend
from voxfide.frontends.nemo import LARGEST, NemoArchive
from voxfide.frontends.titanet import TitaNet, TitaNetConfig, renamed


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("titanet") / "small.nemo"
    write_titanet(path)
    return path


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The reference model, read from the official format, and its outputs."""
    path = tmp_path_factory.mktemp("golden") / "reference.nemo"
    config = json.loads((GOLDEN / "titanet_reference" / "cfg.json").read_text(encoding="utf-8"))
    config["preprocessor"] = TITANET_PREPROCESSOR  # the reference's says the same in words
    write_titanet(path, config, golden_weights("titanet_reference"))
    return create_frontend("titanet-large", weights=path), golden_outputs("titanet_reference")


@needs_shared("golden/titanet_reference")
class TestParity:
    def test_features(self, reference):
        frontend, outputs = reference
        worst = 0.0
        for waveform, length, theirs in zip(
            outputs["waveforms"], outputs["lengths"], outputs["features"], strict=True
        ):
            ours = frontend.encoder.features(torch.from_numpy(waveform[:length])).numpy().T
            assert ours.shape[1] == length // 160
            worst = max(worst, np.abs(ours - theirs[:, : ours.shape[1]]).max())
            assert not theirs[:, ours.shape[1] :].any()
        level = frontend.encoder.log_mel(torch.from_numpy(outputs["waveforms"][0])).numpy().T[:, :30]
        plain = np.abs(level - outputs["log_mel_unnormalised_utt0_first30"]).max()
        print(f"largest difference to NeMo: log mel {plain:.1e}, normalised {worst:.1e}")
        assert plain < 1e-4
        assert worst < 2e-4

    def test_encoder(self, reference):
        frontend, outputs = reference
        worst = 0.0
        for waveform, length, theirs in zip(
            outputs["waveforms"], outputs["lengths"], outputs["encoder_output_first20"], strict=True
        ):
            features = frontend.encoder.features(torch.from_numpy(waveform[:length]))
            worst = max(worst, np.abs(frontend.encoder.encode(features)[0, :, :20].numpy() - theirs).max())
        print(f"encoder: largest difference to NeMo {worst:.1e}")
        assert worst < 1e-5

    def test_embeddings(self, reference):
        frontend, outputs = reference
        first, second = torch.from_numpy(outputs["waveforms"])
        ours = frontend.pooled([first, second[:9600]])[:, 0].numpy()
        for number, case in enumerate(("full length", "shorter")):
            worst = np.abs(ours[number] - outputs["embedding"][number]).max()
            largest = np.abs(outputs["embedding"][number]).max()
            print(f"{case}: largest difference to NeMo {worst:.1e}, largest value {largest:.2f}")
            assert worst < 1e-5
        assert np.abs(ours[1] - outputs["embedding_utt1_alone"][0]).max() < 1e-5

    def test_length_is_the_whole_utterance(self, reference):
        """NeMo's decoder without lengths pools the first frame only; ours never does."""
        frontend, outputs = reference
        ours = frontend.pooled([torch.from_numpy(outputs["waveforms"][0])])[0, 0].numpy()
        assert np.abs(ours - outputs["embedding_decoder_without_lengths"][0]).max() > 1e-2

    def test_official_names_and_shapes(self):
        official = json.loads(
            (GOLDEN / "titanet_reference" / "official_checkpoint_format.json").read_text(encoding="utf-8")
        )
        large = official["titanet_large_config"]
        config = {
            "preprocessor": TITANET_PREPROCESSOR,
            "encoder": {"activation": "relu", "jasper": large["encoder_jasper"]},
            "decoder": large["decoder"],
        }
        assert TitaNetConfig.of(NemoArchive("large.nemo", config, {})) == TitaNetConfig()
        with torch.device("meta"):
            state = {k: torch.empty(s) for k, s in official["state_dict_shapes"].items()}
            own = TitaNet(TitaNetConfig()).state_dict()
        ours = renamed(state, TitaNetConfig())
        assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in own.items()}


def test_parameter_count_of_the_registry():
    with torch.device("meta"):
        count = sum(p.numel() for p in TitaNet(TitaNetConfig()).parameters())
    assert count == FRONTENDS["titanet-large"].n_parameters


def test_two_frames_are_enough_and_gain_hardly_matters(small):
    frontend = create_frontend("titanet-large", weights=small)
    waveform = 0.1 * torch.randn(16000, generator=torch.Generator().manual_seed(0))
    assert frontend.min_samples == 320
    assert torch.isfinite(frontend.pooled([waveform[:320], torch.zeros(16000)])).all()
    loud, quiet = frontend.pooled([waveform, waveform / 2])
    assert torch.allclose(loud, quiet, atol=1e-3)


class TestArchive:
    def make(self, path):
        return create_frontend("titanet-large", weights=path)

    @pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
    def test_compressed_or_not(self, tmp_path, small, mode):
        write_titanet(tmp_path / "x.nemo", mode=mode)
        assert self.make(tmp_path / "x.nemo").fingerprint() == self.make(small).fingerprint()

    def test_nothing_is_unpacked(self, tmp_path, small, monkeypatch):
        """Member names that would leave the folder, links and devices are never acted on."""
        with tarfile.open(small) as archive:
            content = {m.name: archive.extractfile(m).read() for m in archive}
        path = tmp_path / "inner" / "x.nemo"
        path.parent.mkdir()
        with tarfile.open(path, "w") as archive:
            for name in ("../outside.txt", str(tmp_path / "absolute.txt")):
                info = tarfile.TarInfo(name)
                info.size = 4
                archive.addfile(info, io.BytesIO(b"evil"))
            link = tarfile.TarInfo("model_config.yaml")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
            for name, data in content.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        monkeypatch.chdir(path.parent)
        assert self.make(path).fingerprint() == self.make(small).fingerprint()
        assert [p.name for p in tmp_path.rglob("*")] == ["inner", "x.nemo"]

    @pytest.mark.parametrize("content", [b"", b"no tar file", b"\x1f\x8b\x08damaged"])
    def test_no_archive(self, tmp_path, content):
        (tmp_path / "x.nemo").write_bytes(content)
        with pytest.raises(CheckpointError, match="not a readable .nemo archive"):
            self.make(tmp_path / "x.nemo")

    @pytest.mark.parametrize("mode", ["w", "w:gz"])
    @pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
    def test_broken_off(self, tmp_path, mode, share):
        write_titanet(tmp_path / "x.nemo", mode=mode)
        data = (tmp_path / "x.nemo").read_bytes()
        (tmp_path / "x.nemo").write_bytes(data[: int(share * len(data))])
        with pytest.raises(CheckpointError, match="x.nemo"):
            self.make(tmp_path / "x.nemo")

    def test_missing_members(self, tmp_path):
        write_archive(tmp_path / "x.nemo", {"model_config.yaml": b"{}"})
        with pytest.raises(CheckpointError, match="holds no model_weights.ckpt"):
            self.make(tmp_path / "x.nemo")

    def test_oversized_member(self, tmp_path):
        write_archive(
            tmp_path / "x.nemo", {"model_config.yaml": bytes(LARGEST["model_config.yaml"] + 1)}, "w:gz"
        )
        with pytest.raises(CheckpointError, match="model_config.yaml has 1048577 bytes"):
            self.make(tmp_path / "x.nemo")

    @pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1, 2", "a: !!python/object/apply:os.getcwd []\n"])
    def test_configuration_that_is_none(self, tmp_path, text):
        write_archive(tmp_path / "x.nemo", {"model_config.yaml": text.encode(), "model_weights.ckpt": b""})
        with pytest.raises(CheckpointError, match="model_config.yaml"):
            self.make(tmp_path / "x.nemo")

    def test_code_in_the_weights_does_not_run(self, tmp_path):
        class Evil:
            def __reduce__(self):
                return os.system, (f"touch {tmp_path / 'owned'}",)

        weights = io.BytesIO()
        torch.save({"x": Evil()}, weights)
        config = yaml.safe_dump(titanet_config()).encode()
        members = {"model_config.yaml": config, "model_weights.ckpt": weights.getvalue()}
        write_archive(tmp_path / "x.nemo", members)
        with pytest.raises(CheckpointError):
            self.make(tmp_path / "x.nemo")
        assert not (tmp_path / "owned").exists()


class TestConfiguration:
    def test_every_entry_that_differs_is_named(self, tmp_path):
        config = titanet_config()
        config["preprocessor"] |= {"window_size": 0.02, "normalize": "all_features"}
        config["decoder"]["pool_mode"] = "xvector"
        config["encoder"]["jasper"][1]["stride"] = [2]
        write_titanet(tmp_path / "x.nemo", config)
        with pytest.raises(CheckpointError) as caught:
            create_frontend("titanet-large", weights=tmp_path / "x.nemo")
        for said in (
            "preprocessor.window_size is 0.02, expected 0.025",
            "preprocessor.normalize is 'all_features', expected 'per_feature'",
            "decoder.pool_mode is 'xvector', expected 'attention'",
            "encoder.jasper[1].stride is [2], expected [1]",
        ):
            assert said in str(caught.value)

    def test_another_model(self, tmp_path):
        write_titanet(tmp_path / "x.nemo", {"encoder": {"d_model": 4}}, {"w": torch.zeros(1)})
        with pytest.raises(CheckpointError, match="no list encoder.jasper"):
            create_frontend("titanet-large", weights=tmp_path / "x.nemo")

    def test_weights_of_another_size(self, tmp_path):
        state = drawn(titanet_shapes(titanet_config((16, 16, 32))))
        write_titanet(tmp_path / "x.nemo", titanet_config(), state)
        with pytest.raises(CheckpointError, match="weights do not fit.*has shape"):
            create_frontend("titanet-large", weights=tmp_path / "x.nemo")

    def test_tensors_without_a_place(self, tmp_path):
        config = titanet_config()
        state = drawn(titanet_shapes(config)) | {
            "encoder.encoder.0.res.0.0.conv.weight": torch.zeros(16, 80, 1)
        }
        write_titanet(tmp_path / "x.nemo", config, state)
        with pytest.raises(CheckpointError, match="no place.*blocks.0.shortcut.weight"):
            create_frontend("titanet-large", weights=tmp_path / "x.nemo")


def test_options(small):
    with pytest.raises(UsageError, match="precision 'fp16'"):
        create_frontend("titanet-large", weights=small, precision="fp16")
