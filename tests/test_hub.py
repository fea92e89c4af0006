"""The hub's code path, real but for the address: downloads, revisions, cache, errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile as sf

from checkpoints import write_checkpoint
from fake_hub import commit_of, serve

CODE = """
import json, sys, torch
from voxfide import Detector, create_frontend
from voxfide.backends import create_backend
import numpy as np

frontend = create_frontend("acme/tiny-wavlm", 2, revision=sys.argv[1])
features = frontend.pooled([torch.sin(torch.arange(4000) * 0.1)])
labels = np.arange(8) % 2 == 0
random = np.random.default_rng(0).normal(size=(8, 2, frontend.dim))
detector = Detector(frontend, create_backend("logistic", C=1.0).fit(random, labels))
detector.save(sys.argv[2], embed_frontend=False)
again = Detector.from_pretrained(sys.argv[2])
wave = np.sin(np.arange(4000) * 0.1).astype(np.float32)
print(json.dumps({
    "layers": frontend.n_layers, "revision": frontend.source.revision, "sum": float(features.sum()),
    "scores": [float(detector.score_waveforms([wave])[0]), float(again.score_waveforms([wave])[0])],
}))
"""


def run(
    code: str, *arguments: object, hub: str, home: object, **more: str
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_ENDPOINT": hub, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", **more}
    environment.pop("HF_HUB_OFFLINE", None) if "HF_HUB_OFFLINE" not in more else None
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True, text=True, env=environment, timeout=120,
    )  # fmt: skip


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repository") / "tiny-wavlm"
    # Official releases of this age are pickled state dicts.
    write_checkpoint(folder, "wavlm-base", file_format="bin")
    return folder


def test_front_end_and_detector_by_hub_id(repository, tmp_path):
    with serve({"acme/tiny-wavlm": repository}) as (address, log):
        done = run(CODE, "v1", tmp_path / "D", hub=address, home=tmp_path / "home")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["layers"] == 2
        assert found["revision"] == commit_of("acme/tiny-wavlm")
        assert found["scores"][0] == found["scores"][1]
        config = json.loads((tmp_path / "D" / "config.json").read_text())
        assert config["frontend"]["weights"] == {
            "in": "hub", "hub_id": "acme/tiny-wavlm", "revision": commit_of("acme/tiny-wavlm")
        }  # fmt: skip
        assert (tmp_path / "D" / "model.safetensors").stat().st_size < 10_000
        assert not any("safetensors" in line and line.startswith("GET") for line in log)
    # The hub is gone: what was downloaded serves.
    code = (
        "import sys; from voxfide import Detector; import numpy as np\n"
        "d = Detector.from_pretrained(sys.argv[1])\n"
        "print(d.score_waveforms([np.sin(np.arange(4000) * 0.1).astype(np.float32)])[0])"
    )
    offline = run(code, tmp_path / "D", hub=address, home=tmp_path / "home", HF_HUB_OFFLINE="1")
    assert offline.returncode == 0, offline.stderr
    assert float(offline.stdout) == found["scores"][0]


def test_published_detector_by_hub_id(repository, tmp_path):
    from voxfide.backends import create_backend
    from voxfide.detector import Detector
    from voxfide.frontends import create_frontend

    frontend = create_frontend(str(repository), 1)
    labels = np.arange(8) % 2 == 0
    features = np.random.default_rng(1).normal(size=(8, 1, frontend.dim))
    Detector(frontend, create_backend("logistic").fit(features, labels)).save(tmp_path / "published")
    sf.write(tmp_path / "x.wav", 0.1 * np.sin(np.arange(8000) * 0.1), 16000)
    code = "import sys; from voxfide.cli import main; main()"
    with serve({"acme/detector": tmp_path / "published"}) as (address, _):
        done = run(
            code, "detect", tmp_path / "x.wav", "--detector", "acme/detector", "--json", "--min-speech", "0",
            hub=address, home=tmp_path / "home",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        local = Detector.load(tmp_path / "published").detect(tmp_path / "x.wav")
        assert json.loads(done.stdout)["score"] == pytest.approx(local.score, rel=1e-6)


def test_exported_detector_by_hub_id(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from exported_folder import write_exported
    from voxfide.detectors import load_detector

    folder = write_exported(tmp_path / "published", calibrated=True)
    sf.write(tmp_path / "x.wav", 0.1 * np.sin(np.arange(8000) * 0.1), 16000)
    code = "import sys; sys.modules['torch'] = None; from voxfide.cli import main; main()"
    with serve({"acme/exported": folder}) as (address, _):
        done = run(
            code, "detect", tmp_path / "x.wav", "--detector", "acme/exported", "--json", "--min-speech", "0",
            hub=address, home=tmp_path / "home",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["score"] == load_detector(folder).detect(tmp_path / "x.wav").score


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("acme/nothing", "acme/nothing: cannot be downloaded"),
        ("acme/no-config", "the repository has no config.json"),
        ("acme/no-weights", "holds none of model.safetensors"),
    ],
)
def test_what_the_hub_lacks_is_said(repository, tmp_path, name, said):
    (tmp_path / "no-config").mkdir()
    (tmp_path / "no-weights").mkdir()
    (tmp_path / "no-weights" / "config.json").write_text('{"model_type": "wavlm"}')
    repositories = {f"acme/{n}": tmp_path / n for n in ("no-config", "no-weights")}
    code = "import sys; from voxfide import create_frontend; create_frontend(sys.argv[1])"
    with serve(repositories) as (address, _):
        done = run(code, name, hub=address, home=tmp_path / "home")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("voxfide.errors.CheckpointError")
    assert said in last
