"""Reading releases that are one file: what is read, what is refused, and that nothing in it runs."""

from __future__ import annotations

import argparse
import contextlib
import os
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from checkpoints_beats import SMALL, write_beats, write_decoar2, write_leaf
from fake_hub import serve
from voxfide.errors import CheckpointError, UsageError
from voxfide.frontends import FRONTENDS, create_frontend
from voxfide.frontends.released import read_pickled


class Evil:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


class Foreign:
    """Stands for an object of a library that is not installed, with all that pickle may do to one."""

    def __init__(self):
        self.state = {"deep": [1, 2]}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
class TestReading:
    def test_foreign_objects_become_inert_and_tensors_survive(self, tmp_path, zipped):
        weight = torch.randn(3, 4)
        content = {
            "args": argparse.Namespace(lr=1.0),
            "other": [Foreign(), {Foreign(): {1, 2}}],
            "model": {"weight": weight, "half": weight.half(), "parameter": torch.nn.Parameter(weight)},
        }
        torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
        read = read_pickled(tmp_path / "x.pt")["model"]
        assert torch.equal(read["weight"], weight)
        assert torch.equal(read["half"], weight.half())
        assert torch.equal(read["parameter"], weight)

    def test_no_code_runs(self, tmp_path, zipped):
        content = {"model": {"a": torch.ones(1)}, "args": Evil(tmp_path / "owned")}
        torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
        assert torch.equal(read_pickled(tmp_path / "x.pt")["model"]["a"], torch.ones(1))
        assert not (tmp_path / "owned").exists()

    @hypothesis_settings(max_examples=40)
    @given(data=st.data())
    def test_damage_is_an_error_or_harmless(self, tmp_path, zipped, data):
        path = tmp_path / "x.pt"
        content = {"args": argparse.Namespace(a=1), "model": {"w": torch.arange(6.0)}}
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        raw = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 8))):
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw)
        with contextlib.suppress(CheckpointError):  # any other error is a failure
            assert isinstance(read_pickled(path), dict)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_bare_pickle_with_code_is_refused(tmp_path):
    (tmp_path / "x.pt").write_bytes(pickle.dumps(Evil(tmp_path / "owned")))
    with pytest.raises(CheckpointError, match="not a readable PyTorch file"):
        create_frontend("beats", weights=tmp_path / "x.pt")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("name", ["beats", "decoar2"])
class TestWhatIsMissing:
    def test_no_weights_says_what_to_download_and_how_to_pass_it(self, name, monkeypatch):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(CheckpointError) as caught:
            create_frontend(name)
        spec = FRONTENDS[name]
        for part in (spec.weights_file, spec.link, "weights=PATH", "--frontend-option weights=PATH"):
            assert part in str(caught.value)

    def test_no_such_file(self, name, tmp_path):
        with pytest.raises(CheckpointError, match=r"no file .*nowhere\.pt: download"):
            create_frontend(name, weights=tmp_path / "nowhere.pt")

    def test_revision_of_a_file(self, name, tmp_path):
        with pytest.raises(UsageError, match="revision does not apply"):
            create_frontend(name, weights=tmp_path, revision="main")

    def test_unknown_option(self, name):
        with pytest.raises(UsageError, match=r"no option colour \(options: weights\)"):
            create_frontend(name, colour="red")

    def test_not_a_state_dict(self, name, tmp_path):
        torch.save({"cfg": {}, "epoch": 3}, tmp_path / "x.pt")
        with pytest.raises(CheckpointError, match="not a supported BEATs model|no state dict under 'model'"):
            create_frontend(name, weights=tmp_path / "x.pt")


def test_shapes_that_do_not_fit(tmp_path):
    """A small DeCoAR 2.0 where the released sizes are expected."""
    write_decoar2(tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"weights do not fit: missing .*; .* and \d+ more"):
        create_frontend("decoar2", weights=tmp_path / "x.pt")


def test_more_layers_than_the_file_has(tmp_path):
    write_beats(tmp_path / "x.pt")
    with pytest.raises(UsageError, match="9 layers asked for, but the model has 3"):
        create_frontend("beats", 9, weights=tmp_path / "x.pt")


def test_decoar2_comes_from_the_hub(tmp_path, monkeypatch):
    repository, cache = tmp_path / "repository", tmp_path / "cache"
    repository.mkdir()
    write_decoar2(repository / "checkpoint_decoar2.pt")
    monkeypatch.setattr("voxfide.frontends.decoar2.SIZES", SMALL)
    with serve({"s3prl/converted_ckpts": repository}) as (address, log):
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
            address + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
        monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", address)
        frontend = create_frontend("decoar2", 2)
    assert frontend.n_layers == 2
    assert any("checkpoint_decoar2.pt" in line for line in log)


def test_leaf_checkpoint_of_another_size(tmp_path):
    write_leaf(tmp_path / "x.pth")
    content = torch.load(tmp_path / "x.pth", weights_only=False)
    content["model_state_dict"]["features._compression.alpha"] = torch.ones(64)
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"alpha has shape \(64,\), expected \(40,\)"):
        create_frontend("leaf", weights=tmp_path / "x.pth")
