"""Installations without torch: exported detectors work in full, every other command says what it needs."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import soundfile

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from exported_folder import expected, write_exported
from serving import spoken
from voxfide.scores import read_scores
from voxfide.types import SAMPLE_RATE

BLOCK = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
"""
HEAVY = (
    "torch", "scipy", "sklearn", "transformers", "huggingface_hub", "safetensors", "silero_vad", "accelerate",
    "matplotlib", "reportlab", "yaml", "pandas", "onnx", "onnxscript", "openvino", "nncf", "ray", "peft",
)  # fmt: skip
"""What the core and the extra ``runtime`` do not bring."""

RUN = "from voxfide.cli import main\nmain()\n"


def program(blocked: tuple[str, ...], code: str = RUN) -> list[str]:
    return [sys.executable, "-c", f"BLOCKED = {set(blocked)!r}\n{BLOCK}{code}"]


def light(*arguments: object, also: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """The command where neither the heavy packages nor ``also`` are installed."""
    call = [*program(HEAVY + also), *map(str, arguments)]
    return subprocess.run(call, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A calibrated exported detector ``D``, recordings and their manifest."""
    root = tmp_path_factory.mktemp("light")
    write_exported(root / "D", "mean_std", calibrated=True)
    for number, seconds in enumerate((3, 9)):
        soundfile.write(root / f"{number}.wav", spoken(seconds, number), SAMPLE_RATE, subtype="FLOAT")
    rows = ["utterance_id,path,label", "a,0.wav,bonafide", "b,1.wav,spoof", "c,gone.wav,spoof"]
    (root / "m.csv").write_text("\n".join(rows) + "\n")
    return root


def signal(place: Path, number: int):
    return soundfile.read(place / f"{number}.wav", dtype="float32")[0]


def test_recordings_are_detected(place):
    """Also without pyarrow, which manifests need."""
    options = ("--json", "--why", "--report", place / "reports")
    found = light(
        "detect", place / "0.wav", place / "1.wav", "--detector", place / "D", *options, also=("pyarrow",)
    )
    assert (found.returncode, "Traceback" in found.stderr) == (0, False), found.stderr
    answers = [json.loads(line) for line in found.stdout.splitlines()]
    assert answers[0]["score"] == pytest.approx(0.5 * expected(signal(place, 0), "mean_std") + 1, abs=1e-5)
    assert [len(a["why"]["bands"]) for a in answers] == [10, 10]
    assert all(a["speech"] and a["conditions"]["snr_db"] for a in answers)
    assert sorted(p.name for p in (place / "reports").iterdir()) == ["0.wav.html", "1.wav.html"]


def test_a_manifest_is_scored(place):
    found = light("score", place / "D", place / "m.csv", "-o", place / "s.tsv")
    assert found.returncode == 1, found.stderr
    assert "gone.wav: no such file" in found.stderr
    wanted = [0.5 * expected(signal(place, i), "mean_std") + 1 for i in range(2)]
    assert read_scores(place / "s.tsv").score == pytest.approx(wanted, abs=1e-5)
    versions = json.loads((place / "s.tsv.json").read_text())["versions"]
    assert {"numpy", "onnxruntime"} <= set(versions)


def test_the_service_answers(place):
    pytest.importorskip("fastapi")
    call = [*program((*HEAVY, "pyarrow")), "serve", "--detector", str(place / "D"), "--port", "0"]
    process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        assert "listening on" in line, process.communicate()
        url = line.split()[3]  # ends in a slash
        answer = upload(f"{url}v1/detect", (place / "0.wav").read_bytes())
        assert "score" in answer, answer
        assert answer["score"] == pytest.approx(0.5 * expected(signal(place, 0), "mean_std") + 1, abs=1e-5)
        assert answer["speech"]
        refused = upload(f"{url}v1/detect?report=pdf", (place / "0.wav").read_bytes())
        assert "pip install 'voxfide[pdf]'" in refused["detail"]
    finally:
        process.terminate()
        _, said = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in said) == (0, False), said


def upload(url: str, content: bytes) -> dict:
    head = '--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    body = head.encode() + content + b"\r\n--x--\r\n"
    request = urllib.request.Request(url, body, {"Content-Type": "multipart/form-data; boundary=x"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)


CALLS = {
    "demo": "-o x", "prepare": "folder . -o x.csv", "select": "m.csv -o x.csv", "mix": "x.yaml -o x.csv",
    "mixes": "", "augment": "m.csv -o x", "embed": "m.csv --frontend lfcc -o x", "pretrain": "m.csv -o x",
    "train": "m.csv --frontend lfcc --backend logistic -o x", "finetune": "m.csv --frontend d -o x",
    "score": "bundled m.csv -o x.tsv", "calibrate": "bundled s.tsv --key m.csv -o x",
    "calibrate-scores": "s.tsv --key m.csv --apply s.tsv -o x.tsv", "fuse": "s.tsv s.tsv --key m.csv -o x",
    "fuse-scores": "x.json s.tsv -o x.tsv", "ensemble": "bundled bundled --fusion x.json -o x",
    "shrink": "bundled -o x", "submit": "s.tsv -o x.zip", "evaluate": "s.tsv --key m.csv", "detect": "0.wav",
    "domain": "D m.csv", "tsne": "x m.csv -o x", "serve": "", "convert": "aasist x.pth -o x",
    "study": "benchmark m.csv -o x", "frontends": "", "backends": "", "corpora": "", "detectors": "",
    "augmentations": "", "serve-key": "keys me", "pack": "m.csv -o packed", "export": "bundled -o x",
}  # fmt: skip
"""A call of every command."""

ALL_CALLS = """
import contextlib, io, json
from voxfide.cli import main
said = {}
for name, arguments in json.loads(sys.argv[1]).items():
    sys.argv = ["voxfide", name, *arguments.split()]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as exit:
            code = exit.code
        except BaseException as error:
            code = repr(error)
    said[name] = [code, err.getvalue()]
print(json.dumps(said))
"""


def test_every_command_works_or_says_what_it_needs(place):
    """Nothing but numpy, audio and the command line is installed here."""
    from voxfide.cli.main import app

    there = {c.name or c.callback.__name__.replace("_", "-") for c in app.registered_commands}
    there |= {group.name for group in app.registered_groups}
    assert there <= set(CALLS), "commands without a call here"
    (place / "s.tsv").write_text("filename\tcm-score\na\t1\nb\t0\n")
    also = ("pyarrow", "onnxruntime", "fastapi", "uvicorn", "starlette", "websockets")
    calls = {name: call for name, call in CALLS.items() if name in there}
    run = [*program(HEAVY + also, ALL_CALLS), json.dumps(calls)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=300, cwd=place)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    for name, (code, text) in said.items():
        assert code == 0 or (code == 2 and text.startswith("voxfide: error: ")), (name, code, text)
        assert not code or "pip install 'voxfide[" in text or name == "fuse-scores", (name, text)
    working = {name for name, (code, _) in said.items() if code == 0}
    assert {"detectors", "frontends", "backends", "corpora", "serve-key"} <= working
    assert said["select"][1] == (
        "voxfide: error: voxfide select needs pyarrow: pip install 'voxfide[full]' or 'voxfide[runtime]'\n"
    )
    assert "bundled: this detector needs PyTorch (pip install 'voxfide[full]')" in said["detect"][1]


def test_a_missing_runtime_and_pdf_are_told(place):
    found = light("detect", place / "0.wav", "--detector", place / "D", also=("onnxruntime",))
    assert (found.returncode, found.stdout) == (2, "")
    assert "running this detector needs onnxruntime (pip install 'voxfide[runtime]')" in found.stderr
    report = ("--report", place / "a.pdf")
    found = light("detect", place / "0.wav", "--detector", place / "D", *report)
    assert (found.returncode, found.stdout) == (2, "")
    assert "pip install 'voxfide[pdf]'" in found.stderr


def test_the_hub_says_what_it_needs(place):
    found = light("detect", place / "0.wav", "--detector", "acme/light")
    assert (found.returncode, found.stdout) == (2, "")
    assert "pip install huggingface_hub; or give the path of a local folder" in found.stderr


def test_python_is_told_what_it_needs():
    code = "import voxfide\ntry:\n    voxfide.Detector\nexcept Exception as error:\n    print(repr(error))"
    done = subprocess.run(program(HEAVY, code), capture_output=True, text=True, check=True)
    said = "voxfide.Detector needs PyTorch: pip install 'voxfide[full]'"
    assert done.stdout.strip() == f'MissingDependencyError("{said}")'


def test_importing_the_runtime_imports_nothing_heavy():
    code = "import voxfide.detectors, voxfide.exported.detector, voxfide.analysis.batch\n"
    code += f"print(sorted({set(HEAVY) | {'pyarrow'}!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
