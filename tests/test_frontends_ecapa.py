"""ECAPA-TDNN against SpeechBrain's own outputs, and what all embeddings of whole utterances promise."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from checkpoints_speaker import WRITERS, drawn, ecapa_shapes, golden_outputs, golden_weights, write_ecapa
from conftest import GOLDEN, needs_shared
from fake_hub import commit_of, serve
from voxfide.errors import CheckpointError, UsageError
from voxfide.frontends import FRONTENDS, create_frontend
from voxfide.frontends.base import tensors_digest
from voxfide.frontends.ecapa import Ecapa, EcapaConfig, plain_names

HUB_ID = "speechbrain/spkrec-ecapa-voxceleb"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("ecapa") / "embedding_model.ckpt"
    write_ecapa(path)
    return path


def noise(n_samples: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(n_samples, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The reference model, read from the official format, and its outputs."""
    path = tmp_path_factory.mktemp("golden") / "embedding_model.ckpt"
    write_ecapa(path, golden_weights("ecapa_reference"))
    return create_frontend("ecapa-tdnn", weights=path), golden_outputs("ecapa_reference")


@needs_shared("golden/ecapa_reference")
class TestParity:
    def test_filter_banks(self, reference):
        frontend, outputs = reference
        for index, key in ((0, "fbank_utt0"), (1, "fbank_utt1_first20")):
            ours = frontend.encoder.filterbanks(torch.from_numpy(outputs["waveforms"][index])).numpy()
            worst = np.abs(ours[: len(outputs[key])] - outputs[key]).max()
            print(f"{key}: largest difference to SpeechBrain {worst:.1e} dB")
            assert worst < 1e-3

    def test_embeddings(self, reference):
        frontend, outputs = reference
        first, second = torch.from_numpy(outputs["waveforms"])
        cases = {
            "full length": (first, outputs["embedding_with_lengths"][0, 0]),
            "shorter, alone": (second[:9600], outputs["embedding_utt1_alone"][0, 0]),
            "with zeros that count as signal": (second, outputs["embedding_lengths_ones"][1, 0]),
        }
        together = frontend.pooled([w for w, _ in cases.values()])[:, 0].numpy()
        for (case, (_, theirs)), ours in zip(cases.items(), together, strict=True):
            worst = np.abs(ours - theirs).max()
            largest = np.abs(theirs).max()
            print(f"{case}: largest difference to SpeechBrain {worst:.1e}, largest value {largest:.2f}")
            assert worst < 1e-5

    def test_padding_changes_the_originals_embedding_but_not_ours(self, reference):
        frontend, outputs = reference
        alone = outputs["embedding_utt1_alone"][0, 0]
        theirs = np.abs(outputs["embedding_with_lengths"][1, 0] - alone).max()
        padded = torch.from_numpy(outputs["waveforms"]).clone()
        padded[1, 9600:] = 0.7
        ours = frontend(padded, torch.tensor([16000, 9600])).hidden_states[1, 0, 0].numpy()
        worst = np.abs(ours - alone).max()
        print(f"padding moves SpeechBrain's embedding by {theirs:.1e}, ours by {worst:.1e}")
        assert worst < 1e-5 < 1e-3 < theirs

    def test_official_names_and_shapes(self):
        official = json.loads(
            (GOLDEN / "ecapa_reference" / "official_checkpoint_format.json").read_text(encoding="utf-8")
        )
        with torch.device("meta"):
            state = plain_names({k: torch.empty(s) for k, s in official["state_dict_shapes"].items()})
            config = EcapaConfig.of(state)
            own = Ecapa(config).state_dict()
        assert config == EcapaConfig()
        assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in own.items()}


def test_parameter_count_of_the_registry():
    with torch.device("meta"):
        count = sum(p.numel() for p in Ecapa(EcapaConfig()).parameters())
    assert count == FRONTENDS["ecapa-tdnn"].n_parameters


@pytest.mark.parametrize("pool", ["mean", "mean_std"])
@pytest.mark.parametrize("name", ["ecapa-tdnn", "titanet-large"])
def test_windows_of_a_long_utterance_count_by_their_length(tmp_path, name, pool):
    WRITERS[name](tmp_path / "weights")
    frontend = create_frontend(name, weights=tmp_path / "weights")
    waveform = noise(480_000 + 16_000) * torch.linspace(1, 3, 496_000).sin()
    (frames,) = frontend.hidden_states([waveform])
    assert frames.shape == (1, 2, frontend.dim)
    assert frontend.total_frames(len(waveform)) == 2
    parts = torch.stack([frontend.pooled([w])[0, 0] for w in (waveform[:480_000], waveform[480_000:])])
    assert torch.allclose(frames[0], parts, atol=1e-5)
    share = torch.tensor([30 / 31, 1 / 31])[:, None]
    mean = (share * parts).sum(0)
    expected = [mean, (share * (parts - mean).square()).sum(0).sqrt()]
    pooled = frontend.pooled([waveform], pool)[0, 0]
    assert torch.allclose(pooled, torch.cat(expected)[: len(pooled)], atol=1e-5)


def test_a_long_file_scores_as_its_waveform(tmp_path, small):
    import soundfile as sf

    from voxfide.backends import create_backend
    from voxfide.detector import Detector

    frontend = create_frontend("ecapa-tdnn", weights=small)
    features = frontend.pooled([noise(16000, seed) for seed in range(8)]).numpy()
    detector = Detector(frontend, create_backend("logistic").fit(features, np.arange(8) % 2 == 0))
    detector.save(tmp_path / "D")
    waveform = noise(61 * 16000 + 5000).numpy()
    sf.write(tmp_path / "x.wav", waveform, 16000, subtype="FLOAT")
    whole = float(detector.score_waveforms([waveform])[0])
    assert Detector.load(tmp_path / "D").detect(tmp_path / "x.wav").score == pytest.approx(whole, rel=1e-6)


def test_shortest_utterance_is_that_of_the_mirrored_padding(small):
    frontend = create_frontend("ecapa-tdnn", weights=small)
    assert frontend.min_samples == 640
    assert torch.isfinite(frontend.pooled([noise(640)])).all()
    with pytest.raises(RuntimeError, match="[Pp]adding"):
        frontend.encoder(noise(639))


def test_loudness_and_silence(small):
    frontend = create_frontend("ecapa-tdnn", weights=small)
    waveform = noise(16000)
    quiet = frontend.pooled([waveform, waveform / 8])
    assert torch.allclose(quiet[0], quiet[1], atol=1e-4), "gain is removed with the mean over time"
    assert torch.isfinite(frontend.pooled([torch.zeros(16000)])).all()


class TestFromTheHub:
    CODE = """
import json, sys
from voxfide import create_frontend
made = [create_frontend(name, revision="v1") for name in ("ecapa-tdnn", "speechbrain/spkrec-ecapa-voxceleb")]
print(json.dumps([[f.name, f.source.hub_id, f.source.revision, f.fingerprint()] for f in made]))
"""

    def run(self, code, hub, home, **more):
        environment = {
            **os.environ,
            "HF_ENDPOINT": hub,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            **more,
        }
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120
        )

    def test_downloads_the_one_file(self, tmp_path, small):
        with serve({HUB_ID: small.parent}) as (address, log):
            done = self.run(self.CODE, address, tmp_path)
        assert done.returncode == 0, done.stderr
        by_name, by_id = json.loads(done.stdout)
        assert by_name == by_id
        assert by_name[:3] == ["ecapa-tdnn", HUB_ID, commit_of(HUB_ID)]
        assert by_name[3] == create_frontend("ecapa-tdnn", weights=small).fingerprint()
        assert {line.rpartition("/")[2] for line in log if "resolve" in line} == {"embedding_model.ckpt"}

    def test_without_a_hub_the_error_says_what_to_download(self, tmp_path):
        code = "from voxfide import create_frontend; create_frontend('ecapa-tdnn')"
        done = self.run(code, "http://127.0.0.1:9", tmp_path, HF_HUB_OFFLINE="1")
        last = done.stderr.strip().splitlines()[-1]
        assert "CheckpointError" in last
        for said in ("embedding_model.ckpt", f"https://huggingface.co/{HUB_ID}", "weights=PATH"):
            assert said in last


class TestBadInput:
    def make(self, path, **options):
        return create_frontend("ecapa-tdnn", weights=path, **options)

    def test_no_such_file(self, tmp_path):
        with pytest.raises(CheckpointError, match="nowhere.ckpt.*download embedding_model.ckpt"):
            self.make(tmp_path / "nowhere.ckpt")

    def test_unknown_option_and_precision_are_told_together(self, small):
        with pytest.raises(UsageError, match=r"no option colour.*precision 'bf16' \(expected fp32\)"):
            self.make(small, colour="red", precision="bf16")

    def test_revision_of_a_file(self, small):
        with pytest.raises(UsageError, match="revision"):
            self.make(small, revision="main")

    def test_two_layers(self, small):
        with pytest.raises(UsageError, match="2 layers asked for .expected 1 to 1"):
            create_frontend("ecapa-tdnn", 2, weights=small)

    @pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 damaged"])
    def test_no_checkpoint(self, tmp_path, content):
        (tmp_path / "x.ckpt").write_bytes(content)
        with pytest.raises(CheckpointError, match="x.ckpt"):
            self.make(tmp_path / "x.ckpt")

    def test_another_model(self, tmp_path):
        torch.save({"encoder.weight": torch.zeros(3)}, tmp_path / "x.ckpt")
        with pytest.raises(CheckpointError, match="not the state dict of an ECAPA-TDNN"):
            self.make(tmp_path / "x.ckpt")

    @pytest.mark.parametrize(
        ("name", "shape", "said"),
        [
            ("asp_bn.norm.running_mean", None, "missing asp_bn.running_mean"),
            ("asp_bn.norm.running_mean", (3,), r"asp_bn.running_mean has shape \(3,\), expected \(48,\)"),
            ("blocks.1.shortcut.conv.weight", (16, 16, 1), "blocks.1.shortcut.conv.weight"),
        ],
    )
    def test_tensors_that_do_not_fit(self, tmp_path, name, shape, said):
        state = drawn(ecapa_shapes())
        state.pop(name, None)
        if shape:
            state[name] = torch.zeros(shape)
        write_ecapa(tmp_path / "x.ckpt", state)
        with pytest.raises(CheckpointError, match=said):
            self.make(tmp_path / "x.ckpt")

    def test_code_in_a_pickle_does_not_run(self, tmp_path):
        class Evil:
            def __reduce__(self):
                return os.system, (f"touch {tmp_path / 'owned'}",)

        torch.save({"x": Evil()}, tmp_path / "x.ckpt")
        with pytest.raises(CheckpointError):
            self.make(tmp_path / "x.ckpt")
        assert not (tmp_path / "owned").exists()


def test_weights_as_given(small):
    frontend = create_frontend("ecapa-tdnn", weights=small)
    state = drawn(ecapa_shapes())
    changed = {**state, "fc.conv.bias": state["fc.conv.bias"] + 1}
    assert tensors_digest(frontend.encoder.state_dict()) == tensors_digest(plain_names(state))
    assert tensors_digest(frontend.encoder.state_dict()) != tensors_digest(plain_names(changed))
