"""LEAF against leaf-pytorch, SpeechBrain and the authors' TensorFlow code, in both its definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from checkpoints_beats import write_leaf
from conftest import GOLDEN, needs_shared
from voxfide.errors import AudioTooShortError, UsageError
from voxfide.frontends import FRONTENDS, create_frontend
from voxfide.frontends.leaf import RELEASED_NAMES, Leaf

FOLDER = GOLDEN / "leaf_reference"
needs_golden = needs_shared("golden/leaf_reference")


def outputs(frontend, waveforms) -> np.ndarray:
    """(utterances, filters, frames), as the references give it."""
    return torch.stack([h[0].T for h in frontend.hidden_states(list(torch.from_numpy(waveforms)))]).numpy()


def checkpoint(port, path):
    """The perturbed parameters as leaf-pytorch's training script would have saved them."""
    kernel = {
        k.removeprefix("pert__"): torch.from_numpy(port[k]) for k in port.files if k.startswith("pert___")
    }
    torch.save({"model_state_dict": {f"features.{k}": v for k, v in kernel.items()}}, path)
    return path


@pytest.fixture
def port():
    return np.load(FOLDER / "leaf_pytorch.npz")


@pytest.fixture
def original():
    return np.load(FOLDER / "leaf_google_tf.npz")


@needs_golden
class TestParity:
    @pytest.mark.parametrize("definition", ["port", "original"])
    def test_initial_filters(self, port, original, definition):
        expected = (
            port["init___complex_conv._kernel"] if definition == "port" else original["google_init_kernel"]
        )
        worst = np.abs(Leaf(definition).gabor.numpy() / expected - 1).max()
        print(f"LEAF {definition}: initial filters differ by {worst:.1e} of their value at most")
        assert worst < 1e-6

    def test_port_at_its_initial_values(self, port):
        found = outputs(create_frontend("leaf"), port["waveforms"])
        for reference in ("init_output", "speechbrain_init_output"):
            worst = np.abs(found - port[reference]).max()
            print(f"LEAF port, initial: largest difference to {reference} {worst:.1e}")
            assert worst < 2e-6

    def test_port_from_a_checkpoint(self, port, tmp_path):
        frontend = create_frontend("leaf", weights=checkpoint(port, tmp_path / "leaf.pth"))
        worst = np.abs(outputs(frontend, port["waveforms"]) - port["pert_output"]).max()
        print(
            f"LEAF port, weights outside the clamping ranges: largest difference to leaf-pytorch {worst:.1e}"
        )
        assert worst < 5e-6

    def test_port_step_by_step(self, port, tmp_path):
        frontend = create_frontend("leaf", weights=checkpoint(port, tmp_path / "leaf.pth"))
        waveform = torch.from_numpy(port["waveforms"][0])
        responses = F.conv1d(waveform[None, None], frontend.filters()[:8, None], padding=200)[0, :, 4000:4020]
        assert np.abs(responses.numpy() - port["pert_gabor_first20"]).max() < 1e-6
        pooled = frontend.pooled_energy(frontend.energy(waveform)).numpy()
        assert np.allclose(pooled, port["pert_pooled_utt0"].clip(1e-5), rtol=1e-5, atol=1e-7)

    def test_original_at_its_initial_values(self, port, original):
        found = outputs(create_frontend("leaf", definition="original"), port["waveforms"])
        worst = np.abs(found - original["google_init_output"]).max()
        print(f"LEAF original, initial: largest difference to TensorFlow {worst:.1e}")
        assert worst < 5e-6

    def test_original_with_other_parameters(self, port, original):
        frontend = Leaf("original")
        state = {
            ours: torch.from_numpy(port[f"pert__{theirs}"]).squeeze()
            for theirs, ours in RELEASED_NAMES.items()
        }
        del state["pooling_bias"]
        frontend.load_state_dict(state)
        pooled = frontend.pooled_energy(frontend.energy(torch.from_numpy(port["waveforms"][0]))).numpy()
        assert np.allclose(pooled, original["google_pert_pooled_utt0"].clip(1e-5), rtol=1e-5, atol=1e-7)
        worst = np.abs(outputs(frontend, port["waveforms"]) - original["google_pert_output"]).max()
        print(f"LEAF original, other parameters: largest difference to TensorFlow {worst:.1e}")
        assert worst < 2e-5


def test_parameters_of_the_spec():
    assert (
        sum(p.numel() for p in create_frontend("leaf").parameters()) == FRONTENDS["leaf"].n_parameters == 320
    )
    assert sum(p.numel() for p in create_frontend("leaf", definition="original").parameters()) == 280


@pytest.mark.parametrize("definition", ["port", "original"])
@pytest.mark.parametrize("n_samples", [160, 161, 320, 401, 64_000, 64_001, 70_123])
def test_one_frame_for_every_160_samples(definition, n_samples):
    frontend = Leaf(definition)
    (features,) = frontend.hidden_states([torch.randn(n_samples, generator=torch.Generator().manual_seed(0))])
    assert features.shape == (1, math.ceil(n_samples / 160), 40)
    assert torch.isfinite(features).all()


def test_chunks_do_not_show():
    """Filtering works off 64,000 samples at a time."""
    frontend = Leaf("original")
    waveform = 0.1 * torch.randn(140_000, generator=torch.Generator().manual_seed(1))
    whole = F.conv1d(waveform[None, None], frontend.filters()[:, None], padding=200)[0].square()
    assert torch.allclose(frontend.energy(waveform), whole.view(40, 2, -1).sum(1), atol=1e-7)


def test_a_tone_lights_the_filter_around_it():
    frontend = Leaf("original")
    centre = frontend.gabor[:, 0]
    for index in (5, 20, 35):
        tone = 0.3 * torch.cos(centre[index] * torch.arange(8000))
        strongest = frontend.pooled_energy(frontend.energy(tone)).mean(1).argmax()
        assert abs(int(strongest) - index) <= 1


def test_padding_is_not_seen():
    frontend = create_frontend("leaf")
    waveforms = [torch.randn(n, generator=torch.Generator().manual_seed(n)) for n in (160, 5000, 16001)]
    padded = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True, padding_value=9.0)
    batch = frontend(padded, torch.tensor([len(w) for w in waveforms]))
    for i, waveform in enumerate(waveforms):
        (alone,) = frontend.hidden_states([waveform])
        assert torch.equal(batch.hidden_states[i, :, : batch.lengths[i]], alone)


def test_weights_change_features_and_fingerprint(tmp_path):
    write_leaf(tmp_path / "leaf.pth")
    trained, initial = create_frontend("leaf", weights=str(tmp_path / "leaf.pth")), create_frontend("leaf")
    waveform = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(trained.pooled([waveform]), initial.pooled([waveform]))
    prints = {f.fingerprint() for f in (trained, initial, create_frontend("leaf", definition="original"))}
    assert len(prints) == 3


class TestBadInput:
    def test_unknown_definition(self):
        with pytest.raises(UsageError, match="'google'.*port, original"):
            create_frontend("leaf", definition="google")

    def test_unknown_option(self):
        with pytest.raises(UsageError, match=r"no option colour \(options: definition, weights\)"):
            create_frontend("leaf", colour="red")

    def test_weights_of_the_other_definition(self, tmp_path):
        write_leaf(tmp_path / "leaf.pth")
        with pytest.raises(UsageError, match="released weights are of the definition 'port'"):
            create_frontend("leaf", weights=tmp_path / "leaf.pth", definition="original")

    def test_precision(self):
        with pytest.raises(UsageError, match="precision and revision do not apply"):
            create_frontend("leaf", precision="bf16")

    def test_too_short(self):
        with pytest.raises(AudioTooShortError, match="at least 160 samples"):
            create_frontend("leaf")(torch.zeros(1, 159))
