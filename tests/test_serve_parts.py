"""The parts of the service one by one: batches, uploads, decoders, folder, picture, live streams, counts."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_fixtures import write
from serving import RATE, form, recording, small_detector, spoken
from voxfide.analysis.recording import facts_of
from voxfide.audio import load_audio
from voxfide.errors import (
    AudioError,
    AudioTooLongError,
    DecoderCrashError,
    EmptyAudioError,
    NonFiniteAudioError,
    NotAudioError,
    UsageError,
)
from voxfide.serve.batcher import Batcher
from voxfide.serve.decoders import DecoderPool
from voxfide.serve.gate import CONTENT_POLICY, host_name
from voxfide.serve.live import LiveStream
from voxfide.serve.meters import Counter, Histogram
from voxfide.serve.overview import BANDS, COLUMNS, Overview
from voxfide.serve.pages import page_files
from voxfide.serve.problems import ProblemError
from voxfide.serve.settings import Limits
from voxfide.serve.uploads import UploadReader, harmless_name
from voxfide.serve.workspace import PREFIX, Workspace, remove_leftovers

# --- batches


def test_windows_that_arrive_together_are_scored_together_and_go_back_to_their_owners():
    sizes = []
    with_sums = Batcher(
        lambda waveforms: np.array([w.sum() for w in waveforms]),
        wait=0.5,
        max_seconds=1e9,
        on_batch=sizes.append,
    )
    found: dict[int, np.ndarray] = {}

    def ask(i: int) -> None:
        found[i] = with_sums.score([np.full(10, i), np.full(5, i)])

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with_sums.close()
    assert {i: list(scores) for i, scores in found.items()} == {i: [10 * i, 5 * i] for i in range(8)}
    assert sum(sizes) == 16
    assert len(sizes) < 8


def test_only_the_one_to_blame_fails():
    def score(waveforms):
        if any(len(w) < 3 for w in waveforms):
            raise UsageError("too short")
        return np.array([len(w) for w in waveforms], float)

    batcher = Batcher(score, wait=0.3)
    outcome: dict[int, object] = {}

    def ask(n: int) -> None:
        try:
            outcome[n] = float(batcher.score([np.zeros(n)])[0])
        except UsageError as error:
            outcome[n] = str(error)

    threads = [threading.Thread(target=ask, args=(n,)) for n in (1, 4, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    batcher.close()
    assert outcome == {1: "too short", 4: 4.0, 5: 5.0}
    with pytest.raises(UsageError, match="stopped"):
        batcher.score([np.zeros(4)])


# --- uploads


def read(body: bytes, content_type: str, cut: list[int], **limits) -> list[tuple[str, bytes, str]]:
    """What arrives of a body that comes in pieces."""

    async def pieces():
        edges = [0, *sorted(c % (len(body) + 1) for c in cut), len(body)]
        for start, end in zip(edges, edges[1:], strict=False):
            yield body[start:end]

    with Workspace() as workspace:
        reader = UploadReader(workspace, Limits(**limits), 3)
        uploads = asyncio.run(reader.read(pieces(), content_type, None))
        found = []
        for upload in uploads:
            upload.file.seek(0)
            found.append((upload.name, upload.file.read(), upload.sha256))
            assert upload.n_bytes == len(found[-1][1])
        reader.close()
        assert workspace.leftovers() == []
    return found


@settings(max_examples=40)
@given(
    st.lists(st.binary(max_size=300), min_size=1, max_size=3),
    st.lists(st.integers(0, 10_000), max_size=6),
)
def test_files_arrive_whole_however_they_are_cut(contents, cut):
    import hashlib

    files = [(f"{i}.wav", content) for i, content in enumerate(contents)]
    expected = [(name, content, hashlib.sha256(content).hexdigest()) for name, content in files]
    assert read(*form(files), cut) == expected


@settings(max_examples=60)
@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=4))
def test_no_body_does_more_than_a_problem(body, cut):
    with pytest.raises(ProblemError) as refused:
        read(body, "multipart/form-data; boundary=b", cut)
    assert 400 <= refused.value.status < 500


def test_the_limit_holds_for_each_file_and_for_all_together():
    kind = form([])[1]
    assert kind.startswith("multipart/form-data")
    for sizes in ([101], [100, 100, 1]):
        with pytest.raises(ProblemError) as refused:
            read(*form([("a", b"x" * n) for n in sizes]), [], upload_bytes=100)
        assert refused.value.status == 413
    assert len(read(*form([("a", b"x" * 100)] * 2), [], upload_bytes=100)) == 2


@given(st.text(max_size=300))
def test_names_are_made_harmless(name):
    shown = harmless_name(name)
    assert 0 < len(shown) <= 200
    assert "/" not in shown
    assert "\\" not in shown
    assert shown.isprintable()


# --- decoder processes


@pytest.fixture(scope="module")
def pool():
    crashes = []
    pool = DecoderPool(1, Limits(duration=20.0, channels=2), lambda: crashes.append(1))
    pool.crashes = crashes
    yield pool
    pool.close()


def decoded(pool, content: bytes, tmp_path, name="x.wav"):
    path = tmp_path / "upload"
    path.write_bytes(content)
    with path.open("rb") as file, pool.open(file, name) as stream:
        return np.concatenate(list(stream)), stream.info


@pytest.mark.parametrize("kind", ["wav-s24", "mp3", "m4a", "webm", "amr", "mkv-aac"])
def test_samples_are_those_of_load_audio(pool, tmp_path, kind):
    content = write(kind, spoken(2.0)[:, None], RATE if kind != "amr" else 8000)
    samples, info = decoded(pool, content, tmp_path)
    expected = load_audio(content)
    assert np.array_equal(samples, expected.waveform)
    assert (info.container, info.codec, info.duration) == (
        expected.info.container, expected.info.codec, expected.info.duration,
    )  # fmt: skip


def test_errors_are_those_of_load_audio_under_the_name_of_the_client(pool, tmp_path):
    with pytest.raises(NotAudioError, match="memo.wav: is a PDF") as refused:
        decoded(pool, b"%PDF-1.4\n" * 30, tmp_path, "memo.wav")
    assert refused.value.path == "memo.wav"
    with pytest.raises(EmptyAudioError):
        decoded(pool, b"", tmp_path)
    with pytest.raises(NotAudioError, match="3 channels"):
        decoded(pool, write("wav-s16", np.zeros((900, 3), np.float32), RATE), tmp_path)
    assert pool.crashes == []


def test_a_small_file_that_decodes_to_hours_is_stopped_on_the_way(pool, tmp_path):
    silence = np.zeros((RATE * 3600, 1), np.float32)
    bomb = write("flac-s16", silence, RATE)
    assert len(bomb) < 200_000
    began = time.monotonic()
    with pytest.raises(AudioTooLongError, match="20"):
        decoded(pool, bomb, tmp_path)
    assert time.monotonic() - began < 30


def test_a_killed_decoder_is_replaced(pool, tmp_path):
    content = write("flac-s16", spoken(19.0)[:, None], RATE)
    path = tmp_path / "upload"
    path.write_bytes(content)
    pool.start()
    before = pool.pids
    with path.open("rb") as file, pool.open(file, "a.flac") as stream:
        samples = iter(stream)
        next(samples)
        for pid in pool.pids:
            os.kill(pid, 9)
        with pytest.raises(DecoderCrashError, match="SIGKILL"):
            list(samples)
    assert len(pool.crashes) == 1
    assert len(decoded(pool, content, tmp_path)[0]) == 19 * RATE
    assert pool.pids != before
    pool.crashes.clear()


def test_a_decoder_left_in_the_middle_serves_the_next_file_aright(pool, tmp_path):
    path = tmp_path / "long"
    path.write_bytes(write("flac-s16", spoken(19.0)[:, None], RATE))
    for seed in range(5):
        with path.open("rb") as file, pool.open(file, "a.flac") as stream:
            next(iter(stream))
        content = recording(1.0, seed=seed)
        assert np.array_equal(decoded(pool, content, tmp_path)[0], load_audio(content).waveform)


def test_a_decoder_that_died_while_it_was_idle_costs_no_file(pool, tmp_path):
    content = recording(1.0)
    for _ in range(3):
        pool.start()
        for pid in pool.pids:
            os.kill(pid, 9)
        assert len(decoded(pool, content, tmp_path)[0]) == RATE


def test_a_decoder_is_replaced_after_many_files(pool, tmp_path, monkeypatch):
    monkeypatch.setattr("voxfide.serve.decoders.FILES_PER_PROCESS", 2)
    seen = set()
    for _ in range(5):
        decoded(pool, recording(1.0), tmp_path)
        seen.update(pool.pids)
    assert len(seen) >= 2


def test_a_decoder_knows_no_secrets_and_writes_no_files(pool, monkeypatch):
    from voxfide.serve.decoders import _environment

    monkeypatch.setenv("SECRET_TOKEN", "x")
    assert "SECRET_TOKEN" not in _environment("")
    pool.start()
    found = Path(f"/proc/{pool.pids[0]}/limits")
    if found.exists():
        limits = found.read_text()
        assert re.search(r"Max file size +0 ", limits)
        assert re.search(rf"Max address space +{Limits().decoder_bytes} ", limits)


# --- the private folder


def test_the_folder_is_private_and_goes_at_the_end(tmp_path):
    with Workspace(tmp_path) as workspace:
        assert workspace.folder.stat().st_mode & 0o777 == 0o700
        with workspace.unnamed_file() as file:
            file.write(b"secret")
            assert workspace.leftovers() == []
        with workspace.subfolder() as folder:
            (folder / "decoded.wav").write_bytes(b"x")
            assert workspace.leftovers() == [folder.name]
        assert workspace.leftovers() == []
        assert remove_leftovers(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_service_left_is_removed_by_the_next(tmp_path):
    code = (
        "import sys, os, pathlib\nfrom voxfide.serve.workspace import Workspace\n"
        "w = Workspace(pathlib.Path(sys.argv[1]))\n(w.folder / 'audio').write_bytes(b'x')\n"
        "print('up', flush=True)\nsys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"up\n"
    [folder] = tmp_path.iterdir()
    young = tmp_path / f"{PREFIX}1-starting"
    young.mkdir()
    (tmp_path / "voxfide-other").mkdir()
    with Workspace(tmp_path):
        assert (folder / "audio").exists()  # its service lives
    process.kill()
    process.communicate()
    with Workspace(tmp_path):
        assert not folder.exists()
        assert young.exists()
        os.utime(young, (1, 1))
    assert remove_leftovers(tmp_path) == [young]
    assert [p.name for p in tmp_path.iterdir()] == ["voxfide-other"]


# --- the picture


@settings(max_examples=15)
@given(st.integers(1, 400_000), st.lists(st.integers(1, 399_999), max_size=4))
def test_the_picture_does_not_depend_on_the_chunks(n_samples, cut):
    signal = np.random.default_rng(n_samples).standard_normal(n_samples).astype(np.float32) * 0.1
    whole, pieces = Overview(), Overview()
    whole.push(signal)
    for piece in np.split(signal, sorted(c % n_samples for c in cut)):
        pieces.push(piece)
    picture = whole.to_json()
    assert picture == pieces.to_json()
    assert 0 < picture["columns"] <= 2 * COLUMNS
    assert picture["seconds"] == pytest.approx(n_samples / RATE, abs=max(0.05, 0.01 * n_samples / RATE))
    assert len(base64.b64decode(picture["low"])) == picture["columns"]


def test_a_tone_is_seen_where_it_is():
    overview = Overview()
    time_s = np.arange(RATE * 4) / RATE
    overview.push((0.5 * np.sin(2 * np.pi * 1000 * time_s) * (time_s >= 2)).astype(np.float32))
    picture = overview.to_json()
    cells = np.frombuffer(base64.b64decode(picture["spectrogram"]), np.uint8).reshape(-1, BANDS)
    half = picture["columns"] // 2
    mel = 2595 * np.log10(1 + np.array([1000, 8000]) / 700)
    assert abs(int(cells[half + 5 :].mean(axis=0).argmax()) - BANDS * mel[0] / mel[1]) <= 1
    assert cells[: half - 5].max() == 0
    high = np.frombuffer(base64.b64decode(picture["high"]), np.uint8) / 127.5 - 1
    assert high[half + 5 :].min() == pytest.approx(0.5, abs=0.02)


# --- live streams


def live(**options) -> LiveStream:
    detector = small_detector()
    return LiveStream(
        detector, facts_of(detector, "small"), **{"sample_rate": RATE, "encoding": "f32le", **options}
    )


@settings(max_examples=6)
@given(st.lists(st.integers(1, 9 * RATE * 4), max_size=5))
def test_a_stream_is_judged_as_the_file_would_be_however_it_is_cut(cut):
    from voxfide.analysis.recording import RecordingAnalyser
    from voxfide.audio import AudioInfo

    signal = spoken(9.0, seed=3)
    whole = RecordingAnalyser(small_detector())
    whole.push(signal)
    info = AudioInfo("<stream>", "pcm", "pcm_f32le", RATE, 1, 9.0, 32, len(signal), "none")
    expected = whole.finish(info).to_json()
    stream, data, at = live(), signal.astype("<f4").tobytes(), 0
    for edge in [*sorted(cut), len(data)]:
        stream.push(data[at:edge])
        at = max(at, edge)
    final = stream.finish()["analysis"]
    assert final["score"] == pytest.approx(expected["score"], abs=1e-5)
    assert len(final["windows"]) == len(expected["windows"]) > 2
    assert final["verdict"] == expected["verdict"]


def test_encodings_channels_and_rates_agree():
    signal = spoken(6.0, seed=3)
    stereo = np.repeat(np.round(signal[:, None] * 32768), 2, axis=1).astype("<i2")
    plain, coded = live(), live(encoding="s16le", channels=2)
    plain.push((stereo[:, 0] / 32768).astype("<f4").tobytes())
    coded.push(stereo.tobytes())
    assert coded.finish()["analysis"]["score"] == pytest.approx(plain.finish()["analysis"]["score"], abs=1e-4)
    from voxfide.audio.resample import resample

    fast = live(sample_rate=48000)
    up = resample(signal, RATE, 48000)
    for piece in np.array_split(up, 7):
        fast.push(piece.astype("<f4").tobytes())
    found = fast.finish()["analysis"]
    assert (found["duration"], found["info"]["sample_rate"]) == (6.0, 48000)


def test_a_stream_updates_as_windows_are_scored_and_stays_small():
    stream, n_windows = live(), 0
    data = spoken(30.0, seed=2).astype("<f4").tobytes()
    for start in range(0, len(data), RATE):
        windows = stream.push(data[start : start + RATE])
        if windows:
            update = stream.update(windows)
            n_windows += len(update["windows"])
            assert update["score"] is not None
            assert update["seconds"] == pytest.approx((start + RATE) / 4 / RATE)
    assert n_windows >= 10


def test_a_stream_holds_no_audio_that_it_has_judged():
    stream, second = live(), spoken(10.0, seed=2).astype("<f4").tobytes()
    sizes = []
    tracemalloc.start()
    for _ in range(3):
        for _ in range(5):
            stream.push(second)
        sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert sizes[2] - sizes[1] < 500_000  # 50 s more are 3.2 MB of samples


@pytest.mark.parametrize(
    "options",
    [{"sample_rate": 100}, {"sample_rate": 10**7}, {"encoding": "mp3"}, {"channels": 0}, {"channels": 99}],
)
def test_streams_that_cannot_be_are_refused(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        live(**options)


def test_bad_samples_and_endless_streams_are_refused():
    with pytest.raises(NonFiniteAudioError):
        live().push(np.array([0.0, np.nan], "<f4").tobytes())
    stream = live(max_seconds=1.0)
    with pytest.raises(AudioTooLongError, match="1 s"):
        stream.push(bytes(8 * RATE))
    with pytest.raises(AudioError, match="no samples"):
        live().finish()


# --- counts, names, page


def test_counts_are_prometheus_text():
    counter = Counter("c_total", "C.", ("path",))
    counter.add(2, 'a"b\\c\nd')
    assert counter.samples() == ['c_total{path="a\\"b\\\\c\\nd"} 2']
    histogram = Histogram("h", "H.", (1, 2))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.observe(value)
    assert histogram.samples() == [
        'h_bucket{le="1"} 2', 'h_bucket{le="2"} 3', 'h_bucket{le="+Inf"} 4', "h_sum 12", "h_count 4",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("header", "name"),
    [("localhost:8000", "localhost"), ("[::1]:80", "[::1]"), ("A.B", "a.b"), ("127.0.0.1", "127.0.0.1"),
     ("evil.example:80@localhost", "evil.example:80@localhost"), ("", "")],
)  # fmt: skip
def test_host_names(header, name):
    assert host_name(header) == name


def test_the_page_asks_nobody_else_and_its_words_are_all_there():
    found = {name: content.decode() for name, (content, _) in page_files().items()}
    assert {"index.html", "app.js", "page.css", "strings.en.json", "icon.svg"} <= set(found)
    for name, content in found.items():
        addresses = set(re.findall(r"(?:https?:)?//[a-z][\w.-]+\.[a-z]+[^\s\"']*", content))
        assert addresses <= {"http://www.w3.org/2000/svg"}, name
        assert "innerHTML" not in content
        assert not re.search(r"\sstyle=|\son[a-z]+=", content), f"{name}: inline style or script"
    import json

    words = json.loads(found["strings.en.json"])
    scripts = "".join(content for name, content in found.items() if name.endswith((".js", ".html")))
    used = set(re.findall(r'(?:\btext\(|data-text=|data-label=|section\(|line\()"([\w.]+)"', scripts))
    assert len(used) > 60
    assert used - set(words) == set()
    assert "script-src 'self'" in CONTENT_POLICY


def test_options_named_in_docs_and_examples_exist():
    from typer.main import get_command

    from voxfide.cli.main import app

    known = {
        o for param in get_command(app).commands["serve"].params for o in (*param.opts, *param.secondary_opts)
    }
    root = Path(__file__).resolve().parents[1]
    texts = [root / "docs" / "service.md", *sorted((root / "examples" / "service").iterdir())]
    lines = [line for path in texts for line in path.read_text().splitlines()]
    named = {
        o
        for line in lines
        if re.search('voxfide.{1,5}serve[ "]', line)
        for o in re.findall(r"--[a-z-]+", line)
    }
    assert {"--keys", "--host", "--allow-host"} <= named
    assert named <= known
