"""Pre-training without labels: targets, masks, mixing, learning, resuming, and the model that comes out."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest
import soundfile as sf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from command_line import run_here, start, stop_when
from small_corpus import JUNK, replace_audio
from voxfide.augment import recordings
from voxfide.augment.levels import power
from voxfide.errors import AudioTooShortError, CheckpointError, UsageError
from voxfide.frontends import create_frontend
from voxfide.frontends.ssl_model import SSLEncoder
from voxfide.jobs import Row, read_failures
from voxfide.manifest import Manifest
from voxfide.training.finetune_model import span_mask
from voxfide.training.journal import read_journal
from voxfide.training.pretrain import PretrainOptions, pretrain
from voxfide.training.pretrain_data import AudioBank, Stored, plan
from voxfide.training.pretrain_mixing import Mixer, coloured_noise, overlap
from voxfide.training.pretrain_model import PretrainModel, Start
from voxfide.training.pretrain_settings import PretrainSettings, architecture, read_architecture
from voxfide.training.pretrain_targets import HiddenStates, Mfcc, Targets, assign, deltas, n_frames

TINY = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "conv_dim": (16, 16, 24, 24, 24, 32, 32),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
SHORT = {"clusters": 5, "batch_seconds": 10.0, "crop_seconds": 3.0}
TONES = (220, 600, 1400, 3200)
SIZES = ("--hidden-size=48", "--layers=2", "--heads=4", "--conv-dim=16")


pytestmark = pytest.mark.usefixtures("one_thread")


def melody(number: int, seconds: float) -> np.ndarray:
    """Tones of half a second one after another, always in the same order: what is masked can be guessed."""
    random = np.random.default_rng(number)
    time = np.arange(round(16000 * seconds)) / 16000
    turn = (time / 0.5 + random.uniform(0, len(TONES))).astype(int) % len(TONES)
    tones = np.sin(2 * np.pi * np.array(TONES)[turn] * time)
    return (0.3 * tones + 0.003 * random.standard_normal(len(time))).astype(np.float32)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Melodies without labels, among them one file that is no audio and one that is too short."""
    folder = tmp_path_factory.mktemp("melodies")
    rows: dict[str, list[str]] = {"utterance_id": [], "path": [], "label": []}
    for i in range(22):
        path = folder / f"{i:02d}.wav"
        if i == 7:
            path.write_bytes(JUNK)
        else:
            seconds = 0.2 if i == 9 else np.random.default_rng(i).uniform(1.5, 4.5)
            sf.write(path, melody(i, seconds), 16000)
        rows["utterance_id"].append(f"melody/{i}")
        rows["path"].append(path.name)
        rows["label"].append("unknown")
    Manifest.from_columns(rows, folder).write(folder / "manifest.csv")
    return folder / "manifest.csv"


def tiny(**more) -> Start:
    return Start(architecture({**TINY, **more}))


def train(corpus, out, settings, begin=None, resume=False, **options):
    options = PretrainOptions(workers=0, cpu=True, **options)
    return pretrain(Manifest.read(corpus), begin or tiny(), out, settings, options=options, resume=resume)


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "model"
    chosen = PretrainSettings(steps=56, learning_rate=3e-3, mix_prob=0.1, **SHORT)
    return out, train(corpus, out, chosen, journal_steps=14)


def test_masked_clusters_are_learnt(trained):
    out, result = trained
    entries = read_journal(out / "run")
    for e in entries:
        print(f"{e['step']}: {e['loss_masked']:.3f}, {e['accuracy_masked']:.3f} of {e['majority']:.3f}")
    first, last = entries[0], entries[-1]
    assert len(entries) == 4
    assert last["loss_masked"] < 0.75 * first["loss_masked"]
    assert last["accuracy_masked"] > last["majority"] + 0.15
    assert last["perplexity_predicted"] > 2.5
    assert 0.4 < last["masked_share"] < 0.6
    assert result.facts["final"]["accuracy_masked"] == last["accuracy_masked"]


def test_unusable_files_are_recorded(trained):
    _, result = trained
    assert {f.utterance_id: f.kind for f in result.failures} == {
        "melody/7": "not-audio",
        "melody/9": "too-short",
    }
    assert result.facts["data"]["utterances"] == 20
    assert result.facts["data"]["not_used"] == 2


@pytest.mark.parametrize("family", ["hubert", "wavlm", "wav2vec2"])
def test_transformers_computes_the_same_hidden_states(family, trained, tmp_path):
    import transformers

    folder, _ = trained
    if family != "hubert":
        torch.manual_seed(3)
        folder = tmp_path / family
        begin = tiny(model_type=family, do_stable_layer_norm=True, num_buckets=32, max_bucket_distance=40)
        begin.model(PretrainSettings(steps=1)).save(folder)
    reference = transformers.AutoModel.from_pretrained(folder).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    waveform = melody(99, 2.0)
    values = extractor(waveform, sampling_rate=16000, return_tensors="pt").input_values
    with torch.inference_mode():
        expected = torch.stack(reference(values, output_hidden_states=True).hidden_states[1:])[:, 0]
    found = create_frontend(str(folder)).hidden_states([torch.from_numpy(waveform)])[0]
    # Of pre-norm models, transformers normalises the last state once more.
    kept = len(expected) - (family != "hubert")
    difference = float((found[:kept] - expected[:kept]).abs().max())
    print(f"{family}: largest difference {difference:.1e}, values up to {float(expected.abs().max()):.1f}")
    assert difference < 1e-4


def test_the_mask_embedding_is_kept_and_gone_on_from(trained):
    out, _ = trained
    held = load_file(out / "model.safetensors")["masked_spec_embed"]
    again = Start(name=str(out)).model(PretrainSettings(steps=1))
    assert held.abs().max() > 0.1
    assert torch.equal(again.masked_spec_embed.detach(), held)


def test_second_iteration_clusters_hidden_states(corpus, trained, tmp_path):
    first, _ = trained
    chosen = PretrainSettings(steps=3, targets=f"{first}:1", **SHORT)
    train(corpus, tmp_path / "second", chosen, Start(name=str(first)))
    with pytest.raises(UsageError, match="3 layers asked for"):
        HiddenStates(f"{first}:3")
    waveform = melody(5, 3.0)
    states = create_frontend(str(first), 1).hidden_states([torch.from_numpy(waveform)])[0][0].numpy()
    assert np.allclose(HiddenStates(f"{first}:1")(waveform), states, atol=1e-5)


def test_killed_run_goes_on_bit_for_bit(corpus, tmp_path, monkeypatch):
    arguments = ["pretrain", corpus, *SIZES, "--steps=9", "--clusters=5", "--batch-seconds=6"]
    arguments += ["--crop-seconds=3", "--checkpoint-steps=2", "--journal-steps=5", "--workers=0"]
    arguments += ["--device=cpu", "--dropout=0.1"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = start(*arguments, "-o", killed)
    status, _ = stop_when(process, signal.SIGKILL, lambda: any(killed.glob("run/checkpoints/*4/state.json")))
    assert status == -signal.SIGKILL
    assert not (killed / "config.json").exists()
    # Exit code 1: two files could not be used.
    assert run_here(monkeypatch, *arguments, "-o", killed, "--resume") == 1
    assert run_here(monkeypatch, *arguments, "-o", whole) == 1
    for name in ("model.safetensors", "config.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    timing = {"elapsed", "utterances_per_second", "seconds_per_second"}
    one, other = (
        [{k: v for k, v in entry.items() if k not in timing} for entry in read_journal(folder / "run")]
        for folder in (killed, whole)
    )
    assert one == other
    assert [entry["step"] for entry in one] == [5, 9]
    assert len(read_failures(killed / "failures.csv")) == 2
    assert not (killed / "run" / "checkpoints").exists()


def test_finished_and_unfinished_runs_are_not_overwritten(corpus, tmp_path):
    out = tmp_path / "model"
    chosen = PretrainSettings(steps=3, **SHORT)

    class StoppedError(Exception):
        pass

    def stop(step):
        if step.number == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        train(corpus, out, chosen, checkpoint_steps=1, on_step=stop)
    with pytest.raises(UsageError, match="unfinished run, at step 1"):
        train(corpus, out, chosen)
    with pytest.raises(CheckpointError, match="another training run"):
        train(corpus, out, PretrainSettings(steps=3, seed=1, **SHORT), resume=True)
    done = train(corpus, out, chosen, resume=True)
    before = (out / "model.safetensors").stat().st_mtime_ns
    assert train(corpus, out, chosen, resume=True).facts == done.facts
    assert (out / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(UsageError, match="finished model of the same run"):
        train(corpus, out, chosen)
    with pytest.raises(UsageError, match="finished model of another run"):
        train(corpus, out, PretrainSettings(steps=4, **SHORT), resume=True)


def test_memory_budget_changes_nothing(corpus, tmp_path):
    chosen = PretrainSettings(steps=3, **SHORT)
    for name, memory in (("kept", 64), ("decoded", 0)):
        train(corpus, tmp_path / name, chosen, memory_mb=memory)
    kept, decoded = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("kept", "decoded"))
    assert kept == decoded


def test_budget_of_minutes_ends_the_run(corpus, tmp_path):
    result = train(corpus, tmp_path / "model", PretrainSettings(minutes=0.02, **SHORT))
    print(f"{result.facts['steps']} steps in {result.facts['minutes']} minutes")
    assert result.facts["steps"] >= 1
    assert 0.02 <= result.facts["minutes"] < 0.2
    assert result.facts["final"]["learning_rate"] < 5e-4


# Targets


@given(st.integers(400, 40_000))
@settings(max_examples=30)
def test_targets_have_a_label_for_every_frame_of_the_model(n_samples):
    encoder = SSLEncoder(architecture(TINY))
    waveform = np.random.default_rng(0).standard_normal(n_samples).astype(np.float32)
    assert len(Mfcc()(waveform)) == encoder.n_frames(n_samples) == n_frames(n_samples)


def test_target_of_a_frame_is_of_the_samples_that_the_frame_sees():
    """A burst in the samples of frame 20 alone moves cepstra there most, and features of the model there."""
    quiet = (1e-3 * np.random.default_rng(0).standard_normal(16000)).astype(np.float32)
    burst = quiet.copy()
    burst[20 * 320 + 80 : 20 * 320 + 320] += 0.3 * np.random.default_rng(1).standard_normal(240).astype(
        np.float32
    )
    cepstra = np.abs(Mfcc()(burst)[:, :13] - Mfcc()(quiet)[:, :13]).sum(axis=1)
    torch.manual_seed(0)
    convolutions = tiny().model(PretrainSettings(steps=1)).encoder.feature_extractor
    # With its norm over time folded for each signal, compare after removing what both change everywhere.
    with torch.no_grad():
        energy = convolutions(torch.from_numpy(burst)).square().sum(dim=1)
    assert int(cepstra.argmax()) == 20
    assert int((energy - energy.median()).abs().argmax()) == 20


def test_stretches_take_their_own_labels(corpus, tmp_path):
    """What a crop is to be predicted of is what would be computed for those samples in place."""
    waveform = melody(3, 4.0)
    whole = Mfcc()(waveform)
    first, size = 37, 60
    piece = waveform[first * 320 : first * 320 + (size - 1) * 320 + 400]
    inner = slice(3, size - 3)  # deltas reach beyond the edges, and the level of a piece is its own
    centred = Mfcc()(piece)[inner, 1:13]
    assert np.allclose(centred, whole[first : first + size][inner, 1:13], atol=0.05)


def test_deltas_are_slopes_and_assignment_is_to_the_nearest():
    ramp = torch.arange(10.0)[:, None] * torch.tensor([[1.0, -3.0]])
    assert torch.allclose(deltas(ramp)[2:-2], torch.tensor([1.0, -3.0]).expand(6, 2))
    points = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    centres = points[:7]
    nearest = ((points[:, None] - centres[None]) ** 2).sum(axis=2).argmin(axis=1)
    assert np.array_equal(assign(points, centres), nearest)


def test_targets_on_disk(tmp_path):
    made = Targets(np.ones((3, 2), np.float32), [np.array([0, 1, 2], np.int16), np.zeros(0, np.int16)], [])
    made.save(tmp_path / "t", {"seed": 1})
    again = Targets.load(tmp_path / "t", {"seed": 1})
    assert again is not None
    assert [part.tolist() for part in again.labels] == [[0, 1, 2], []]
    assert Targets.load(tmp_path / "t", {"seed": 2}) is None
    (tmp_path / "t").write_bytes(JUNK)
    with pytest.raises(CheckpointError, match="damaged"):
        Targets.load(tmp_path / "t", {"seed": 1})


# Data


@given(st.lists(st.integers(20, 2000), min_size=1, max_size=30), st.integers(0, 5))
def test_a_pass_covers_every_utterance_within_the_budget(frames, number):
    chosen = PretrainSettings(steps=1, batch_seconds=12.0, crop_seconds=4.0)
    batches = plan(frames, chosen, number)
    assert plan(frames, chosen, number) == batches
    stretches = [stretch for batch in batches for stretch in batch]
    for row, available in enumerate(frames):
        own = [s for s in stretches if s.row == row]
        assert sum(s.frames for s in own) >= available
        assert all(0 <= s.first <= available - s.frames for s in own)
    assert all(sum(s.frames for s in batch) <= 600 for batch in batches)


def test_sixteen_bits_are_kept_exactly_and_loud_audio_is_not_clipped():
    numbers = np.random.default_rng(0).integers(-32768, 32767, 5000)
    exact = (numbers / 32768).astype(np.float32)
    loud = np.float32(3.0) * exact
    assert np.array_equal(Stored.of(exact).waveform(), exact)
    assert np.abs(Stored.of(loud).waveform() - loud).max() < 3 / 32767
    assert not Stored.of(np.zeros(4, np.float32)).waveform().any()


def test_strict_raises_the_first_bad_file(tmp_path):
    sf.write(tmp_path / "short.wav", melody(0, 0.3), 16000)
    bank = AudioBank([Row("a", tmp_path / "short.wav")], 20, 1 << 20, workers=0, strict=True)
    with pytest.raises(AudioTooShortError, match=r"at least 0\.405 s"):
        list(bank.waveforms([0]))


# Masks and mixing


def test_half_of_the_frames_are_masked_in_spans():
    torch.manual_seed(0)
    masks = torch.stack([span_mask(500, 0.65, 10, 1) for _ in range(300)])
    share = float(masks.float().mean())
    runs = [len(run) for mask in masks for run in "".join("01"[int(m)] for m in mask).split("0") if run]
    # Spans start anywhere, so a frame stays clear with probability close to exp(-0.65).
    print(f"{100 * share:.1f} % masked ({100 * (1 - np.exp(-0.65)):.1f} % expected), spans from {min(runs)}")
    assert abs(share - (1 - np.exp(-0.65))) < 0.02
    assert min(runs) >= 10


@given(st.integers(100, 3000), st.integers(100, 3000), st.integers(0, 2**32))
@settings(max_examples=30)
def test_overlap_keeps_length_and_ratio(size, other_size, seed):
    random = np.random.default_rng(seed)
    one = random.standard_normal(size).astype(np.float32)
    other = (7 * random.standard_normal(other_size)).astype(np.float32)
    mixed = overlap(one, other, (3.0, 3.0), np.random.default_rng(seed))
    added = mixed - one
    changed = np.flatnonzero(added)
    assert len(mixed) == size
    assert changed[-1] - changed[0] < size / 2
    piece = added[changed[0] : changed[-1] + 1].astype(np.float64)
    found = np.lib.stride_tricks.sliding_window_view(other, len(piece))
    gain = np.sqrt(power(one) / power(other)) * 10 ** (-3 / 20)
    assert np.abs(found * gain - piece).max(axis=1).min() < 1e-4


def test_mixer_overlaps_the_stated_share_and_leaves_the_rest():
    batch = [melody(i, 1.0) for i in range(10)]
    mixer = Mixer(0.2, 0.5)
    changed = 0
    for seed in range(100):
        mixed = mixer(batch, np.random.default_rng(seed))
        assert [len(m) for m in mixed] == [len(b) for b in batch]
        changed += sum(m is not b for m, b in zip(mixed, batch, strict=True))
    assert 140 < changed < 260
    assert all(m is b for m, b in zip(Mixer(0, 0)(batch, np.random.default_rng(0)), batch, strict=True))


def test_noise_from_a_folder_and_made_noise(tmp_path):
    sf.write(tmp_path / "noise.wav", np.tile(np.float32([0.2, -0.2]), 8000), 16000)
    waveform = melody(0, 1.0)
    (mixed,) = Mixer(1.0, 1.0, tmp_path)([waveform], np.random.default_rng(0))
    added = np.abs((mixed - waveform)[mixed != waveform])
    assert np.ptp(added) < 1e-3 * added.max()  # as in the recording, samples differ by their sign alone
    replace_audio(tmp_path / "noise.wav", JUNK)
    recordings._cache.clear()
    (made,) = Mixer(1.0, 1.0, tmp_path)([waveform], np.random.default_rng(0))
    assert np.ptp(np.abs((made - waveform)[made != waveform])) > 0.01
    with pytest.raises(UsageError, match="no such file or folder"):
        Mixer(0.1, 0.1, tmp_path / "none")
    spectrum = np.abs(np.fft.rfft(coloured_noise(1 << 16, 2.0, np.random.default_rng(0)))) ** 2
    slope = np.log2(spectrum[1024:2048].mean() / spectrum[2048:4096].mean())
    assert abs(slope - 2) < 0.2  # 6 dB an octave


def test_loss_reaches_the_convolutions_scaled():
    batch = [torch.from_numpy(melody(0, 1.0))]
    norms = []
    for factor in (1.0, 0.1):
        torch.manual_seed(0)
        model: PretrainModel = tiny().model(PretrainSettings(steps=1, conv_gradient=factor, clusters=5))
        torch.manual_seed(1)
        made = model(batch)
        made.logits[made.mask].square().sum().backward()
        weight = model.encoder.feature_extractor.conv_layers[0].conv.weight
        norms.append(float(weight.grad.norm()))
    assert norms[1] == pytest.approx(0.1 * norms[0], rel=1e-4)


# Bad input


def test_bad_settings_are_named_all_at_once():
    with pytest.raises(UsageError) as error:
        PretrainSettings(
            clusters=1, steps=0, mask_prob=2.0, targets="mel", precision="int8", crop_seconds=90.0
        )
    for words in ("clusters 1", "steps 0", "mask prob 2.0", "targets 'mel'", "'int8'", "crop seconds 90.0"):
        assert words in str(error.value)
    with pytest.raises(UsageError, match="and not both"):
        PretrainSettings(steps=1, minutes=1.0)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"width": 3}, "unknown width"),
        ({"hidden_size": 50}, "no multiple of 4 heads"),
        ({"hidden_size": "wide"}, "hidden_size 'wide'"),
        ({"conv_stride": (5, 2, 2, 2, 2, 2, 1)}, "frames of 400 samples every 160"),
        ({"conv_dim": (3, 3)}, "differ in length"),
        ({"hidden_size": 36}, "num_conv_pos_embedding_groups"),
    ],
)
def test_bad_architectures(values, words):
    with pytest.raises(UsageError, match=words):
        architecture(values)


def test_architecture_from_a_file(tmp_path):
    (tmp_path / "a.yaml").write_text("hidden_size: 256\nconv_dim: 128\nmodel_type: wavlm\n")
    config = architecture(read_architecture(tmp_path / "a.yaml"))
    assert (config.hidden_size, config.intermediate_size, config.model_type) == (256, 1024, "wavlm")
    assert config.conv_dim == (128,) * 7
    (tmp_path / "b.yaml").write_text("- a list\n")
    with pytest.raises(UsageError, match="expected a mapping"):
        read_architecture(tmp_path / "b.yaml")


def test_command_line_says_what_is_wrong(corpus, trained, tmp_path, monkeypatch, capsys):
    out, _ = trained
    for arguments, words in (
        (["--init", out, "--layers=2", "--steps=1"], "no --arch and no sizes"),
        (["--conv-dim=a,b", "--steps=1"], "--conv-dim 'a,b'"),
        ([], "expected a number of steps, or one of minutes"),
        (["--steps=1", "--noise-folder", tmp_path], "no audio in this folder"),
    ):
        assert (
            run_here(monkeypatch, "pretrain", corpus, "-o", tmp_path / "m", "--device=cpu", *arguments) == 2
        )
        assert words in capsys.readouterr().err


def test_nothing_usable(tmp_path):
    (tmp_path / "a.wav").write_bytes(JUNK)
    rows = {"utterance_id": ["a"], "path": ["a.wav"], "label": ["unknown"]}
    Manifest.from_columns(rows, tmp_path).write(tmp_path / "m.csv")
    with pytest.raises(UsageError, match="not one utterance can be used"):
        train(tmp_path / "m.csv", tmp_path / "out", PretrainSettings(steps=1, **SHORT))


def test_facts_and_card(trained):
    out, result = trained
    facts = json.loads((out / "pretraining.json").read_text())
    assert facts == json.loads(json.dumps(result.facts))
    assert facts["steps"] == 56
    assert facts["settings"]["mask_prob"] == 0.65
    assert "20 utterances" in (out / "README.md").read_text()
