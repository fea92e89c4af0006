"""Labels of frames: they go where the audio goes, weigh what is stated, and are worth their trouble."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import soundfile as sf
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from spliced import write_spliced_corpus
from voxfide.analysis.frame_refinement import frame_timeline
from voxfide.audio import load_audio
from voxfide.augment import Policy, parse
from voxfide.backends import create_backend
from voxfide.crops import WHOLE, Crop
from voxfide.detector import Detector
from voxfide.errors import CheckpointError, ManifestError
from voxfide.frontends import create_frontend
from voxfide.manifest import Manifest
from voxfide.manifest_checks import Segment, parse_segments
from voxfide.metrics.localisation import ScoredUtterance, segment_eer
from voxfide.training import choose_sets
from voxfide.training.frame_labels import GENUINE, SPOOFED, UNLABELLED, FrameLabels, frame_starts
from voxfide.training.frame_loss import FrameTally, FrameTargets
from voxfide.training.frames import FeatureOptions, fit_heads, open_streams, train_frames
from voxfide.training.heads import HeadJob
from voxfide.training.journal import make_accelerator
from voxfide.training.settings import TrainSettings
from voxfide.training.streams import Batch, LiveStream, StoreStream, consecutive
from voxfide.types import BONAFIDE, SAMPLE_RATE, SPOOF, UNKNOWN

LFCC = create_frontend("lfcc")
HOP = LFCC.hop_samples
CODES = {BONAFIDE: GENUINE, SPOOF: SPOOFED, UNKNOWN: UNLABELLED}


# --- onto frames


@st.composite
def labelled(draw):
    """An utterance of 0.1 … 1 s, parts of it labelled, in order."""
    n = draw(st.integers(1600, 16000))
    edges = sorted(draw(st.sets(st.integers(0, 17000), max_size=8)))
    kinds = st.sampled_from([BONAFIDE, SPOOF, UNKNOWN])
    spans = [
        Segment(a / SAMPLE_RATE, b / SAMPLE_RATE, draw(kinds))
        for a, b in zip(edges[::2], edges[1::2], strict=False)
    ]
    return n, tuple(spans)


@settings(max_examples=60)
@given(
    labelled(),
    st.sampled_from([None, 0.15, 0.4, 1.3]),
    st.sampled_from(["start", "random"]),
    st.sampled_from(["tile", "keep"]),
    st.sampled_from([1.0, 0.8, 1.25]),
)
def test_labels_go_where_the_samples_go(utterance, seconds, position, short, speed):
    """Checked on a waveform that holds the labels themselves, frame by frame."""
    n, spans = utterance
    crop = Crop(seconds, position, short)
    labels = FrameLabels(LFCC, crop, {"u": spans} if spans else {})
    whole = np.full(n, UNLABELLED if spans else SPOOFED, np.float32)
    for span in spans:
        whole[round(span.start * SAMPLE_RATE) : round(span.end * SAMPLE_RATE)] = CODES[span.label]
    changed = np.array([whole[i * n // round(n * speed)] for i in range(round(n * speed))])
    heard = crop(changed, np.random.default_rng((1, 2, 3)))
    found = labels.heard("u", False, n, n_augmented=len(changed), key=(1, 2, 3))
    assert len(found) == LFCC.total_frames(len(heard))
    for i, label in enumerate(found):
        frame = heard[i * HOP : (i + 1) * HOP]
        shares = {code: np.mean(frame == code) for code in CODES.values()}
        most = max(shares, key=shares.__getitem__)
        assert label == (most if shares[most] > 0.5 and most != UNLABELLED else UNLABELLED)


def test_frames_of_long_utterances_start_anew_in_every_window():
    n = 65 * SAMPLE_RATE + 123
    starts = frame_starts(LFCC, n)
    assert len(starts) == LFCC.total_frames(n)
    per_window = LFCC.n_frames(30 * SAMPLE_RATE)
    assert starts[per_window - 1 : per_window + 2].tolist() == [
        (per_window - 1) * HOP, 30 * SAMPLE_RATE, 30 * SAMPLE_RATE + HOP,
    ]  # fmt: skip
    spans = {"u": (Segment(0, 30, BONAFIDE), Segment(30, 66, SPOOF))}
    labels = FrameLabels(LFCC, WHOLE, spans).heard("u", False, n)
    assert labels.tolist() == [GENUINE] * per_window + [SPOOFED] * (len(starts) - per_window)


def test_utterances_without_segments_are_what_their_label_says(tmp_path):
    cells = ["", "[]", json.dumps([[0, 0.5, SPOOF]])]
    columns = {"utterance_id": list("abc"), "path": list("abc"), "label": [BONAFIDE, SPOOF, SPOOF]}
    assert FrameLabels.of(Manifest.from_columns(columns, tmp_path), LFCC, WHOLE) is None
    labels = FrameLabels.of(Manifest.from_columns({**columns, "segments": cells}, tmp_path), LFCC, WHOLE)
    assert set(labels.heard("a", True, 16000)) == {GENUINE}
    assert set(labels.heard("b", False, 16000)) == {SPOOFED}
    assert labels.heard("c", False, 16000).tolist() == [SPOOFED] * 50 + [UNLABELLED] * 49


def test_segments_that_are_none_are_told_by_row(tmp_path):
    columns = {"utterance_id": list("abc"), "path": list("abc"), "label": [SPOOF] * 3}
    cells = ["[[0, 1]]", "", "nonsense"]
    manifest = Manifest.from_columns({**columns, "segments": cells}, tmp_path)
    with pytest.raises(ManifestError) as caught:
        FrameLabels.of(manifest, LFCC, WHOLE)
    assert "row 1" in str(caught.value)
    assert "row 3" in str(caught.value)
    assert "row 2" not in str(caught.value)


# --- in streams


@pytest.fixture(scope="module")
def loud(tmp_path_factory):
    """Recordings of three lengths, one at 8 kHz, whose spoofed parts are loud and whose others are faint."""
    folder = tmp_path_factory.mktemp("loud")
    rng = np.random.default_rng(0)
    rows = {name: [] for name in ("utterance_id", "path", "label", "split", "segments", "duration")}
    for split in ("train", "dev"):
        for i in range(8):
            rate = 8000 if i == 3 else SAMPLE_RATE
            n = round(rate * rng.uniform(0.4, 1.6))
            signal = 1e-3 * rng.standard_normal(n)
            start, end = sorted(rng.uniform(0.05, n / rate - 0.05, 2))
            spans = []
            if i % 2:
                signal[round(start * rate) : round(end * rate)] *= 100
                spans = [[0, start, BONAFIDE], [start, end, SPOOF], [end, n / rate, BONAFIDE]]
            sf.write(folder / f"{split}{i}.wav", signal, rate, subtype="FLOAT")
            cell = json.dumps(spans) if spans else None
            label = SPOOF if spans else BONAFIDE
            values = (f"{split}{i}", f"{split}{i}.wav", label, split, cell, n / rate)
            for name, value in zip(rows, values, strict=True):
                rows[name].append(value)
    return choose_sets(Manifest.from_columns(rows, folder), "train", "dev")


def agreement(batches) -> float:
    """The share of frames whose loudness is as their label says."""
    right, n = 0, 0
    for batch in batches:
        for features, length, labels in zip(
            batch.features[:, 0, :, 0], batch.lengths, batch.frame_labels, strict=True
        ):
            assert (labels[length:] == UNLABELLED).all()
            known = labels[:length] != UNLABELLED
            quiet = features[:length] < features[:length].new_tensor(-10.0)
            right += int((quiet == (labels[:length] == GENUINE))[known].sum())
            n += int(known.sum())
    assert n > 300
    return right / n


@pytest.mark.parametrize("short", ["tile", "keep"])
def test_stored_and_live_frames_have_the_same_labels(loud, tmp_path, short):
    quick = TrainSettings(batch_size=3, crop=Crop(1.0, short=short))
    stored, live = (
        open_streams(loud, LFCC, quick, tmp_path / str(budget), FeatureOptions(disk_budget=budget, workers=0),
                     frame_labels=True)
        for budget in (1e9, 0)
    )  # fmt: skip
    assert isinstance(stored.train, StoreStream)
    assert isinstance(live.train, LiveStream)
    order = consecutive(8, 3)
    for ours, theirs in ((stored.train, live.train), (stored.dev, live.dev)):
        pairs = list(zip(ours.batches(order, None), theirs.batches(order, None), strict=True))
        assert all(torch.equal(a.frame_labels, b.frame_labels) for a, b in pairs)
        assert agreement(a for a, _ in pairs) > 0.97
    plain = open_streams(loud, LFCC, quick, tmp_path / "p", FeatureOptions(disk_budget=0, workers=0))
    assert next(iter(plain.train.batches(order, 1))).frame_labels is None


def test_labels_follow_random_crops_repetition_and_changes_of_speed(loud, tmp_path):
    quick = TrainSettings(batch_size=3, crop=Crop(0.8, "random"))
    options = FeatureOptions(workers=0, augment=Policy(parse("speed:factor=0.7..1.4")))
    streams = open_streams(loud, LFCC, quick, tmp_path, options, frame_labels=True)
    order = consecutive(8, 3)
    batches = [batch for epoch in (1, 2, 3) for batch in streams.train.batches(order, epoch)]
    assert agreement(batches) > 0.97
    assert not torch.equal(batches[0].frame_labels, batches[3].frame_labels)


# --- the loss


def targets(labels, frames, class_weights=(0.1, 0.9)):
    frames = torch.tensor(frames)
    batch = Batch(np.arange(len(labels)), torch.zeros(0), torch.zeros(0), frames)
    return FrameTargets.of(batch, torch.tensor(labels), torch.tensor(class_weights), lambda total: total)


def test_both_classes_of_frames_count_the_same():
    frames = [[0, 1, 1, 1, 1], [1, 1, 1, UNLABELLED, UNLABELLED], [1, 1, UNLABELLED, 0, 1]]
    logits = torch.randn(3, 5, 2, generator=torch.Generator().manual_seed(0))
    made = targets([0, 1, 0], frames)
    losses = -logits.log_softmax(2).numpy()
    spoof = np.mean([losses[0, 0, 0], losses[2, 3, 0]])
    genuine = np.mean([losses[i, j, 1] for i in range(3) for j in range(5) if frames[i][j] == 1])
    expected = pytest.approx((spoof + genuine) / 2, rel=1e-5)
    assert made.loss(logits, torch.arange(3)).item() == expected
    pieces = [made.loss(logits[p], p).item() for p in torch.arange(3).tensor_split(2)]
    assert sum(pieces) == expected
    tally = FrameTally()
    for i in range(3):
        tally.add(logits[i : i + 1], torch.tensor(frames[i : i + 1]))
    assert FrameTally.loss([tally.sums]) == expected


def test_a_class_of_frames_that_a_batch_lacks_is_left_out():
    logits = torch.randn(1, 3, 2, generator=torch.Generator().manual_seed(0))
    made = targets([1], [[1, 1, UNLABELLED]])
    assert made.loss(logits, torch.arange(1)).item() == pytest.approx(
        F.cross_entropy(logits[0, :2], torch.tensor([1, 1])).item()
    )
    nothing = targets([1], [[UNLABELLED] * 3])
    assert nothing.loss(logits, torch.arange(1)).item() == 0
    assert FrameTally.loss([FrameTally().sums]) == 0


def test_a_crop_without_its_spoofed_part_counts_as_bona_fide():
    made = targets([0, 0, 0, 1], [[1, 1, 1], [1, 0, 1], [UNLABELLED] * 3, [1, 1, 1]])
    assert made.utterances.tolist() == [1, 0, 0, 1]
    assert made.norm.item() == pytest.approx(0.9 + 0.1 + 0.1 + 0.9)


# --- training

QUICK = TrainSettings(epochs=2, batch_size=4, learning_rate=1e-2, crop=Crop(0.8), class_weights=(0.4, 0.6))


def fit(names, sets, folder, **options):
    jobs = [HeadJob(name, create_backend(name, hidden=16, **options), 1, 3) for name in names]
    trained, streams = fit_heads(
        jobs, sets, LFCC, QUICK, folder, accelerator=make_accelerator(folder, cpu=True)
    )
    return {head.job.name: head for head in trained}, streams


def test_heads_that_do_not_judge_frames_are_as_ever(loud, tmp_path):
    beside, _ = fit(["ffn", "frames"], loud, tmp_path / "both")
    alone, _ = fit(["ffn"], loud, tmp_path / "alone")
    ours, theirs = beside["ffn"].backend.tensors(), alone["ffn"].backend.tensors()
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    assert beside["ffn"].dev_loss == alone["ffn"].dev_loss


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_development_loss_is_that_of_utterances_and_frames(loud, tmp_path, weight):
    trained, streams = fit(["frames"], loud, tmp_path, frame_weight=weight)
    head = trained["frames"].backend.head
    batches = list(streams.dev.batches(consecutive(8, 8), None))
    with torch.no_grad():
        logits, frames = head(batches[0].features, batches[0].lengths, with_frames=True)
    labels = torch.from_numpy(streams.dev.is_bonafide.astype(int))
    expected = F.cross_entropy(logits, labels, torch.tensor([0.4, 0.6])).item()
    if weight:
        known = batches[0].frame_labels
        means = [F.cross_entropy(frames[known == c], known[known == c]).item() for c in (0, 1)]
        expected += weight * np.mean(means)
    else:
        assert batches[0].frame_labels is None
    assert trained["frames"].dev_loss == pytest.approx(expected, rel=1e-4)


def test_a_manifest_without_segments_trains_on_utterances_and_says_so(loud, tmp_path, caplog):
    bare = [
        replace(
            part, manifest=Manifest(part.manifest.table.drop_columns(["segments"]), part.manifest.root, "m")
        )
        for part in loud
    ]
    result = train_frames(
        (bare[0], bare[1]), LFCC, create_backend("frames", hidden=16), QUICK, tmp_path,
        accelerator=make_accelerator(tmp_path, cpu=True),
    )  # fmt: skip
    assert "no column 'segments'" in caplog.text
    assert result.detector.backend.frame_threshold is None
    assert "dev_frames" not in result.detector.training


def test_a_run_does_not_go_on_with_other_segments(loud, tmp_path):
    fit(["frames"], loud, tmp_path)
    train, dev = loud
    table = train.manifest.table
    cells = [None] * len(table)
    place = table.column_names.index("segments")
    changed = table.set_column(place, "segments", pa.array(cells, pa.string()))
    other = replace(train, manifest=Manifest(changed, train.manifest.root, "other"))
    with pytest.raises(CheckpointError, match="segments"):
        fit(["frames"], (other, dev), tmp_path)


# --- what it is worth


@pytest.fixture(scope="module")
def partial(tmp_path_factory):
    """Partial fakes of the self-test corpus; speakers of training, development and evaluation differ."""
    folder = tmp_path_factory.mktemp("partial")
    return write_spliced_corpus(folder, [("train", 16), ("dev", 6), ("eval", 8)])


def localised(detector: Detector, part: Manifest) -> float:
    """Segment EER in percent at 20 ms."""
    scored = []
    for path, cell in zip(part.audio_paths(), part.column("segments"), strict=True):
        waveform = load_audio(path).waveform
        _, scores = frame_timeline(detector, waveform)
        spans = parse_segments(cell) if cell else [(0, len(waveform) / SAMPLE_RATE, BONAFIDE)]
        scored.append(ScoredUtterance(scores, LFCC.frame_shift, spans))
    return 100 * segment_eer(scored, 0.02).value


def test_frame_labels_find_splices_better_than_those_of_utterances(partial, tmp_path):
    """``pytest -s`` prints the figures; they are of synthetic test signals."""
    chosen = TrainSettings(
        epochs=14, batch_size=8, learning_rate=3e-3, patience=14, class_weights=(0.4, 0.6), crop=Crop(3.0)
    )
    sets = choose_sets(partial, "train", "dev")
    found, detectors = {}, {}
    for weight in (1.0, 0.0):
        folder = tmp_path / str(weight)
        result = train_frames(
            sets, LFCC, create_backend("frames", hidden=32, frame_weight=weight), chosen, folder,
            accelerator=make_accelerator(folder, cpu=True), options=FeatureOptions(workers=0),
        )  # fmt: skip
        detectors[weight] = result.detector
        found[weight] = localised(result.detector, partial.split("eval"))
    print(f"\nsegment EER at 20 ms: {found[1.0]:.1f} % with labels of frames, {found[0.0]:.1f} % without")
    assert found[1.0] < 35
    assert found[1.0] < found[0.0] - 5
    facts = detectors[1.0].training["dev_frames"]
    assert facts["threshold"] == detectors[1.0].backend.frame_threshold
    assert facts["eer_percent"] < 30
    assert facts["n_spoof"] > 500
    detectors[1.0].save(tmp_path / "d")
    loaded = Detector.load(tmp_path / "d")
    assert loaded.backend.frame_threshold == facts["threshold"]
    assert loaded.fingerprint() == detectors[1.0].fingerprint()
