"""Public audio classifiers as detectors, and detectors that transformers loads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from checkpoints import SMALL, VARIANTS
from command_line import run_here
from fake_hub import serve
from small_corpus import clip, write_corpus
from voxfide import Detector
from voxfide.backends.classifier import ClassifierBackend
from voxfide.backends.classifier_labels import WORDS, class_of, resolve_classes
from voxfide.calibration import CalibrationRecord, create_calibration
from voxfide.detectors import load_detector
from voxfide.errors import CheckpointError, UsageError
from voxfide.scores import read_scores

CLASSES = {
    "wav2vec2": ("Wav2Vec2Config", "Wav2Vec2ForSequenceClassification"),
    "hubert": ("HubertConfig", "HubertForSequenceClassification"),
    "wavlm": ("WavLMConfig", "WavLMForSequenceClassification"),
}
WAVEFORMS = [clip(i, seconds, i % 2 == 0) for i, seconds in enumerate((0.3, 1.0, 0.55))]


def write_classifier(folder: Path, variant: str, labels=("fake", "real"), **extra) -> Path:
    """A public classifier with random weights, as transformers saves it."""
    import transformers

    family, architecture, do_normalize = VARIANTS[variant]
    config_name, model_name = CLASSES[family]
    names = dict(enumerate(labels))
    config = getattr(transformers, config_name)(
        **{**SMALL, **architecture, **extra},
        classifier_proj_size=16,
        id2label=names,
        label2id={v: k for k, v in names.items()},
    )
    torch.manual_seed(1)
    model = getattr(transformers, model_name)(config)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if tensor.is_floating_point() and not key.endswith("running_var"):
                tensor.add_(torch.randn_like(tensor) * 0.1)
    model.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(
        do_normalize=do_normalize, return_attention_mask=do_normalize
    ).save_pretrained(folder)
    return folder


def pipeline_probabilities(folder: Path, label: str, waveforms=WAVEFORMS) -> np.ndarray:
    import transformers

    pipe = transformers.pipeline("audio-classification", model=str(folder), device="cpu")
    answers = (pipe(waveform, top_k=None) for waveform in waveforms)
    return np.array([{a["label"]: a["score"] for a in answer}[label] for answer in answers])


def sigmoid(scores: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-scores))


@pytest.fixture(scope="module")
def public(tmp_path_factory):
    return write_classifier(tmp_path_factory.mktemp("public") / "m", "wavlm-base")


@pytest.mark.parametrize("weighted", [False, True], ids=["last", "weighted"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_probabilities_equal_those_of_the_pipeline(tmp_path, variant, weighted):
    folder = write_classifier(tmp_path / "m", variant, use_weighted_layer_sum=weighted)
    detector = load_detector(folder)
    expected = pipeline_probabilities(folder, "real")
    found = sigmoid(detector.score_waveforms(WAVEFORMS))
    copy = detector.save(tmp_path / "copy")
    again = pipeline_probabilities(copy, "real")
    worst = max(abs(found - expected).max(), abs(again - expected).max())
    print(f"{variant}, weighted={weighted}: largest difference to the pipeline {worst:.1e}")
    assert worst < 1e-5
    assert len(set(np.round(expected, 4))) > 1
    assert np.array_equal(
        Detector.from_pretrained(copy).score_waveforms(WAVEFORMS), detector.score_waveforms(WAVEFORMS)
    )


def test_three_labels_are_two_classes(tmp_path):
    folder = write_classifier(tmp_path / "m", "wav2vec2-base", labels=("tts", "genuine", "vc"))
    found = sigmoid(load_detector(folder).score_waveforms(WAVEFORMS))
    assert np.allclose(found, pipeline_probabilities(folder, "genuine"), atol=1e-5)


def test_labels_that_say_nothing_are_asked_for(tmp_path):
    folder = write_classifier(tmp_path / "m", "hubert-base", labels=("LABEL_0", "LABEL_1"))
    with pytest.raises(UsageError, match=r"LABEL_0, LABEL_1.*--labels bonafide=LABEL_1"):
        load_detector(folder)
    with pytest.raises(UsageError, match="there is no label 'real'"):
        load_detector(folder, labels={"bonafide": "real"})
    with pytest.raises(UsageError, match="'genuine' is no class"):
        load_detector(folder, labels={"genuine": "LABEL_0"})
    scores = load_detector(folder, labels={"bonafide": "LABEL_1"}).score_waveforms(WAVEFORMS)
    assert np.allclose(sigmoid(scores), pipeline_probabilities(folder, "LABEL_1"), atol=1e-5)
    assert np.array_equal(
        load_detector(folder, labels={"spoof": "LABEL_1"}).score_waveforms(WAVEFORMS), -scores
    )
    saved = load_detector(folder, labels={"bonafide": "LABEL_1"}).save(tmp_path / "copy")
    assert np.array_equal(load_detector(saved).score_waveforms(WAVEFORMS), scores)
    with pytest.raises(UsageError, match="its labels are known"):
        load_detector(saved, labels={"bonafide": "LABEL_1"})


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("real", "bonafide"), ("Bona-Fide", "bonafide"), ("bona fide", "bonafide"), ("HUMAN", "bonafide"),
        ("genuine_speech", "bonafide"), ("humanvoice", "bonafide"), ("fake", "spoof"), ("AI", "spoof"),
        ("AIVoice", "spoof"), ("spoofed", "spoof"), ("ai-generated", "spoof"), ("LABEL_1", None),
        ("not real", None), ("synthetic human voice", None), ("0", None), ("happy", None),
    ],
)  # fmt: skip
def test_what_labels_mean(label, expected):
    assert class_of(label) == expected


@given(st.permutations([("real", "bonafide"), ("fake", "spoof"), ("tts", "spoof")]))
def test_classes_follow_their_labels_in_any_order(pairs):
    labels = [label for label, _ in pairs]
    assert resolve_classes(labels) == tuple(name for _, name in pairs)
    asked = resolve_classes(labels, {"bonafide": "tts"})
    assert asked == tuple("bonafide" if label == "tts" else "spoof" for label in labels)


def test_no_word_means_both():
    assert not WORDS["bonafide"] & WORDS["spoof"]


def test_older_files_and_a_missing_preprocessor(tmp_path, public):
    """A ``pytorch_model.bin`` with the old names of weight norm, and no ``preprocessor_config.json``."""
    from safetensors.torch import load_file

    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "config.json").write_text((public / "config.json").read_text())
    state = {
        k.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): v
        for k, v in load_file(public / "model.safetensors").items()
    }
    torch.save(state, folder / "pytorch_model.bin")
    with_norm = load_detector(folder)
    assert with_norm.frontend.encoder.config.do_normalize
    (folder / "preprocessor_config.json").write_text((public / "preprocessor_config.json").read_text())
    assert not load_detector(folder).frontend.encoder.config.do_normalize
    assert np.array_equal(
        load_detector(folder).score_waveforms(WAVEFORMS), load_detector(public).score_waveforms(WAVEFORMS)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "whisper"}, "model_type 'whisper'"),
        ({"add_adapter": True}, "add_adapter"),
        ({"id2label": {"0": "real"}}, "one output only"),
        ({"id2label": ["real", "fake"]}, "id2label"),
        ({"architectures": ["WavLMForCTC"]}, "neither a voxfide detector"),
        ({"classifier_proj_size": 16, "id2label": {"0": "a", "1": "real", "2": "fake"}}, "which of them"),
    ],
)
def test_what_is_no_usable_classifier_is_said(tmp_path, public, change, message):
    for name in ("model.safetensors", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((public / name).read_bytes())
    config = json.loads((public / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises((CheckpointError, UsageError), match=message):
        load_detector(tmp_path)


def test_a_head_that_is_missing_is_said(tmp_path, public):
    from safetensors.torch import load_file, save_file

    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((public / name).read_bytes())
    state = load_file(public / "model.safetensors")
    save_file({k: v for k, v in state.items() if "projector" not in k}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"projector.weight, projector.bias are missing"):
        load_detector(tmp_path)


def test_changed_weights_are_noticed(tmp_path, public):
    from safetensors.torch import load_file, save_file

    for name, what in (("wavlm.encoder.layer_norm.weight", "front-end"), ("classifier.bias", "back-end")):
        saved = load_detector(public).save(tmp_path / what)
        state = load_file(saved / "model.safetensors")
        state[name] = state[name] + 1e-3
        save_file(state, saved / "model.safetensors")
        with pytest.raises(CheckpointError, match=f"the {what}'s .* are not those"):
            load_detector(saved)


def test_calibration_survives_saving_and_shifts_the_scores(tmp_path, public):
    detector = load_detector(public)
    calibration = create_calibration("affine")
    rng = np.random.default_rng(0)
    is_bonafide = np.arange(200) % 2 == 0
    calibration.fit(rng.normal(np.where(is_bonafide, 2.0, -2.0), 1.5), is_bonafide)
    record = CalibrationRecord(calibration, 0.5, 1.0, 1.0, {}, {}, (), "x")
    saved = detector.calibrated(record).save(tmp_path / "d")
    again = load_detector(saved)
    assert again.calibration is not None
    expected = calibration.apply(detector.score_waveforms(WAVEFORMS))
    assert np.array_equal(again.score_waveforms(WAVEFORMS), expected)


def test_the_commands_take_public_classifiers(tmp_path, public, monkeypatch, capsys):
    corpus = write_corpus(tmp_path / "c", 12)
    out = tmp_path / "s.tsv"
    assert run_here(monkeypatch, "score", public, corpus, "-o", out, "--workers", "0") == 0
    wav = sorted((tmp_path / "c" / "audio").glob("*.wav"))[3]
    assert run_here(monkeypatch, "detect", wav, "--detector", public, "--json", "--min-speech", "0") == 0
    shown = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert shown["score"] == pytest.approx(read_scores(out).score[3], abs=1e-4)
    key = ("--key", corpus, "--folds", "2")
    assert run_here(monkeypatch, "calibrate", public, out, *key) == 2
    assert "give -o NEW_DETECTOR" in capsys.readouterr().err
    assert run_here(monkeypatch, "calibrate", public, out, *key, "-o", tmp_path / "cal", "--force") == 0
    assert load_detector(tmp_path / "cal").calibration is not None
    assert pipeline_probabilities(tmp_path / "cal", "real").shape == (3,)
    unclear = write_classifier(tmp_path / "u", "wavlm-base", labels=("LABEL_0", "LABEL_1"))
    assert run_here(monkeypatch, "detect", wav, "--detector", unclear) == 2
    assert "its labels are LABEL_0, LABEL_1" in capsys.readouterr().err
    assert run_here(monkeypatch, "detect", wav, "--detector", unclear, "--labels", "bonafide=LABEL_0") == 0


FROM_HUB = """
import json, sys
import numpy as np
from voxfide.detectors import load_detector

wave = np.sin(np.arange(4000) * 0.1).astype(np.float32)
loaded = [load_detector(name) for name in sys.argv[1:]]
print(json.dumps([[d.frontend.name, float(d.score_waveforms([wave])[0])] for d in loaded]))
"""


def test_public_classifiers_come_from_the_hub(tmp_path, public):
    with serve({"team/fakes": public, "team/own": load_detector(public).save(tmp_path / "own")}) as (
        hub,
        log,
    ):
        environment = {**os.environ, "HF_ENDPOINT": hub, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
        environment.pop("HF_HUB_OFFLINE", None)
        out = subprocess.run(
            [sys.executable, "-c", FROM_HUB, "hf:team/fakes", "team/own", "hf:team/own"],
            capture_output=True, text=True, env=environment, check=True,
        ).stdout  # fmt: skip
    found = json.loads(out)
    expected = load_detector(public).score_waveforms([np.sin(np.arange(4000) * 0.1).astype(np.float32)])[0]
    assert [name for name, _ in found] == ["team/fakes", public.name, public.name]
    assert np.allclose([score for _, score in found], expected, rtol=1e-6)
    assert sum(line.endswith("model.safetensors") and line.startswith("GET") for line in log) == 2
    with pytest.raises(CheckpointError, match="no hub id"):
        load_detector("hf:fakes")
    with pytest.raises(CheckpointError, match="no such folder"):
        load_detector("nowhere")


def test_the_back_end_keeps_the_contract(public):
    backend = load_detector(public).backend
    rng = np.random.default_rng(0)
    features = rng.standard_normal((20, 5, 48)).astype(np.float32)
    scores = backend.score(features)
    assert np.array_equal(scores, np.concatenate([backend.score(f[None]) for f in features]))
    restored = ClassifierBackend.restore(json.loads(json.dumps(backend.config())), backend.tensors())
    assert np.array_equal(restored.score(features), scores)
    with pytest.raises(UsageError, match="voxfide finetune"):
        backend.fit(features, np.arange(20) % 2 == 0)
    with pytest.raises(UsageError, match="not trained yet"):
        ClassifierBackend().score(features)
    with pytest.raises(UsageError, match="48 values, these features have 5 of 7"):
        backend.score(features[..., :7])
    broken = {**backend.tensors(), "classifier.weight": np.zeros((2, 7), np.float32)}
    with pytest.raises(CheckpointError, match="do not fit together"):
        ClassifierBackend.restore(backend.config(), broken)
