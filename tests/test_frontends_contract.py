"""What every registered front-end promises, checked on each: models at the size of a toy."""

from __future__ import annotations

import pytest
import torch

import checkpoints_beats
import checkpoints_speaker
from checkpoints import SMALL
from voxfide.frontends import FRONTENDS, create_frontend, restore_frontend
from voxfide.frontends.checkpoint import ModelSource, save_encoder
from voxfide.frontends.ssl_config import SSLConfig
from voxfide.frontends.ssl_model import SSLEncoder

WRITERS = {**checkpoints_beats.WRITERS, **checkpoints_speaker.WRITERS}
"""Front-ends whose release is one file: what writes a small one."""


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Makes any registered front-end; its release is a small model of the same architecture."""
    root = tmp_path_factory.mktemp("hub")
    patch = pytest.MonkeyPatch()

    def locate(name, revision=None):
        spec = next(s for s in FRONTENDS if s.hub_id == name)
        folder = root / spec.name
        if not folder.exists():
            small = {k: v for k, v in SMALL.items() if k != "layerdrop"}
            n_layers = min(3, spec.n_layers)
            config = SSLConfig(**{**spec.architecture, **small, "num_hidden_layers": n_layers})
            torch.manual_seed(0)
            save_encoder(SSLEncoder(config), folder)
        return ModelSource(folder, name, "0" * 40)

    def make_small(name, n_layers=None):
        if name not in WRITERS:
            return create_frontend(name, n_layers)
        weights = root / f"{name}.weights"
        if not weights.exists():
            WRITERS[name](weights)
        return create_frontend(name, n_layers, weights=weights)

    patch.setattr("voxfide.frontends.ssl.locate", locate)
    patch.setattr("voxfide.frontends.decoar2.SIZES", checkpoints_beats.SMALL)  # its release states none
    yield make_small
    patch.undo()


@pytest.mark.parametrize("spec", FRONTENDS, ids=lambda s: s.name)
class TestEveryFrontend:
    def test_spec_is_complete(self, spec):
        assert spec.summary
        assert spec.licence
        assert spec.training_data
        assert spec.link.startswith("https://")
        assert spec.n_layers >= 1
        assert spec.dim >= 1

    def test_shapes_and_lengths(self, spec, make):
        frontend = make(spec.name)
        lengths = frontend.min_samples + torch.tensor([4000, 0, 2500])
        batch = torch.randn(3, int(lengths.max()), generator=torch.Generator().manual_seed(0))
        features = frontend(batch, lengths)
        frames = [frontend.n_frames(int(n)) for n in lengths]
        assert features.lengths.tolist() == frames
        assert features.hidden_states.shape == (3, frontend.n_layers, max(frames), frontend.dim)
        assert features.hidden_states.dtype == torch.float32
        assert torch.isfinite(features.hidden_states).all()
        assert frames[1] == 1
        assert frontend.frame_shift * 1000 == pytest.approx(spec.frame_shift_ms)

    def test_alone_equals_in_a_batch(self, spec, make):
        frontend = make(spec.name)
        generator = torch.Generator().manual_seed(1)
        waveforms = [
            0.1 * torch.randn(frontend.min_samples + n, generator=generator) for n in (1600, 7777, 16000, 0)
        ]
        together = frontend.pooled(waveforms)
        for row, waveform in zip(together, waveforms, strict=True):
            alone = frontend.pooled([waveform])[0]
            assert torch.allclose(row, alone, rtol=1e-4, atol=1e-4 * float(alone.abs().max()))

    def test_deterministic_and_frozen(self, spec, make):
        frontend = make(spec.name)
        waveform = torch.randn(frontend.min_samples + 3000, generator=torch.Generator().manual_seed(2))
        assert torch.equal(frontend.pooled([waveform]), frontend.pooled([waveform]))
        assert not any(p.requires_grad for p in frontend.parameters())
        assert not any(m.training for m in frontend.train().modules()) or not list(frontend.parameters())

    def test_settings_and_weights_restore_it(self, spec, make):
        frontend = make(spec.name, 1)
        again = restore_frontend(frontend.name, frontend.kind, frontend.settings())
        again.load_state_dict(frontend.state_dict())
        assert again.fingerprint() == frontend.fingerprint()
        waveform = torch.randn(frontend.min_samples + 3000, generator=torch.Generator().manual_seed(3))
        assert torch.equal(again.pooled([waveform]), frontend.pooled([waveform]))
