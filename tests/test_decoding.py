"""Decoding in worker processes: order, errors, crashes, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from small_corpus import JUNK, write_corpus
from voxfide.audio import Audio, load_audio
from voxfide.decoding import DecodePool, decode_one
from voxfide.errors import AudioError, AudioNotFoundError, DecoderCrashError, NotAudioError, UsageError


def decode_or_die(path: Path, max_duration: float | None) -> Audio | AudioError:
    """What a decoder with fatal bugs would do."""
    if "segfault" in path.name:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "exit" in path.name:
        os._exit(7)
    if "bug" in path.name:
        raise IndexError("a bug of the decoder")
    if "chatty" in path.name:
        os.write(1, b"a library that prints to standard output\n")
    return decode_one(path, max_duration)


def decode_slowly(path: Path, max_duration: float | None) -> Audio | AudioError:
    time.sleep(600)
    return decode_one(path, max_duration)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decoding") / "corpus"
    write_corpus(folder, 9)
    (folder / "audio" / "junk.wav").write_bytes(JUNK)
    found = sorted((folder / "audio").iterdir())
    return [*found[:4], folder / "missing.wav", *found[4:]]


@pytest.fixture(scope="module")
def pool():
    """Two workers that outlive their tests; every test finds them usable."""
    with DecodePool(2, decode=decode_or_die) as made:
        yield made


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


def state_and_parent(pid: int) -> tuple[str, int] | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0], int(fields[1])


def children() -> set[int]:
    """Processes whose parent is this one, zombies included."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return {pid for pid in pids if (state_and_parent(pid) or ("", 0))[1] == os.getpid()}


def is_running(pid: int) -> bool:
    return (state_and_parent(pid) or ("Z", 0))[0] != "Z"


@pytest.mark.parametrize("workers", [0, 2])
def test_results_come_in_order_with_errors_in_their_places(paths, pool, workers):
    decode = pool.decode if workers else DecodePool(0).decode
    results = list(decode(paths))
    assert len(results) == len(paths)
    for path, result in zip(paths, results, strict=True):
        if path.name == "missing.wav":
            assert isinstance(result, AudioNotFoundError)
        elif path.name == "junk.wav":
            assert isinstance(result, NotAudioError)
        else:
            assert isinstance(result, Audio)
            assert np.array_equal(result.waveform, load_audio(path).waveform)
            assert result.info == load_audio(path).info
        if isinstance(result, AudioError):
            assert result.path == str(path)


def test_a_limit_on_the_duration_reaches_the_workers(paths):
    for workers in (0, 1):
        with DecodePool(workers, max_duration=0.01) as pool:
            (result,) = pool.decode(paths[:1])
            assert isinstance(result, AudioError)
            assert result.kind == "too-long"


def test_only_the_file_that_kills_its_worker_is_lost(paths, pool, tmp_path):
    deadly = {}
    for name in ("segfault", "exit", "bug"):
        deadly[name] = tmp_path / f"{name}.wav"
        deadly[name].write_bytes(paths[0].read_bytes())
    order = [paths[0], deadly["segfault"], paths[1], paths[2], deadly["exit"], deadly["bug"], paths[3]] * 3
    results = list(pool.decode(order))
    for path, result in zip(order, results, strict=True):
        if path in deadly.values():
            assert isinstance(result, DecoderCrashError)
            assert result.path == str(path)
        else:
            assert isinstance(result, Audio)
    reasons = {p.stem: r.reason for p, r in zip(order, results, strict=True) if isinstance(r, AudioError)}
    assert "SIGSEGV" in reasons["segfault"]
    assert "exit code 7" in reasons["exit"]
    assert "exit code 1" in reasons["bug"]


def test_decoders_that_print_do_not_garble_the_answers(paths, pool, tmp_path):
    chatty = tmp_path / "chatty.wav"
    chatty.write_bytes(paths[0].read_bytes())
    assert all(isinstance(r, Audio) for r in pool.decode([chatty] * 5))


def test_a_job_may_be_left_half_way_and_another_begun(paths, pool):
    begun = pool.decode(paths * 5)
    next(begun)
    begun.close()
    assert sum(isinstance(r, Audio) for r in pool.decode(paths)) == len(paths) - 2


@needs_proc
def test_closing_ends_workers_at_once_even_busy_ones(paths):
    before = children()
    pool = DecodePool(2, decode=decode_slowly)
    pool.decode(paths)  # a generator that was never begun starts nothing
    assert children() == before
    for _ in range(4):
        pool._submit(paths[0])
    deadline = time.monotonic() + 20
    while len(children() - before) < 2:
        assert time.monotonic() < deadline, "workers did not start"
        time.sleep(0.02)
    started = time.monotonic()
    pool.close()
    assert time.monotonic() - started < 5
    assert children() == before  # neither running nor zombies
    pool.close()


def test_a_worker_that_cannot_start_is_said_and_not_blamed_on_the_files(paths, monkeypatch):
    monkeypatch.setattr("voxfide.decoding.START_WORKER", "raise SystemExit(3)")
    with DecodePool(2) as pool, pytest.raises(UsageError, match=r"could not be started \(exit code 3\)"):
        list(pool.decode(paths))


def test_memory_is_bounded_where_results_are_not_fetched(paths, monkeypatch):
    monkeypatch.setattr("voxfide.decoding.MAX_HELD_BYTES", 1)
    with DecodePool(1) as pool:
        results = pool.decode(paths[:1] * 40)
        next(results)
        time.sleep(0.3)
        sent = []
        submit = pool._submit
        monkeypatch.setattr(pool, "_submit", lambda path: sent.append(path) or submit(path))
        next(results)
        assert len(sent) <= 1
        assert all(isinstance(r, Audio) for r in results)


SCRIPT = """
from pathlib import Path
import sys
from voxfide.decoding import DecodePool
pool = DecodePool(2)
print([type(r).__name__ for r in pool.decode([Path(p) for p in sys.argv[1:]])])
"""


def test_a_script_needs_no_main_guard(paths):
    """Read from standard input, as no child could import it again."""
    command = [sys.executable, "-", str(paths[0]), str(paths[4])]
    done = subprocess.run(command, input=SCRIPT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "['Audio', 'AudioNotFoundError']\n", done.stderr


SLOW_PARENT = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_decoding import decode_slowly
from voxfide.decoding import DecodePool, decode_one
busy, idle = DecodePool(1, decode=decode_slowly), DecodePool(1)
list(idle.decode([Path(sys.argv[2])]))
busy._submit(Path(sys.argv[2]))
while busy._all[0]._process is None:
    time.sleep(0.01)
print(busy._all[0]._process.pid, idle._all[0]._process.pid, flush=True)
time.sleep(600)
"""


@needs_proc
def test_workers_end_when_their_parent_is_killed(paths):
    command = [sys.executable, "-c", SLOW_PARENT, str(Path(__file__).parent), str(paths[0])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(is_running(pid) for pid in pids)
        parent.kill()
        deadline = time.monotonic() + 10
        while any(is_running(pid) for pid in pids):
            assert time.monotonic() < deadline, "a worker outlived its parent"
            time.sleep(0.02)
