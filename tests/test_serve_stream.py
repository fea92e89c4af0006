"""Live streams over WebSocket, by the client of the package and by hand."""

from __future__ import annotations

import json
import threading
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from serving import RATE, serving, small_detector, spoken, wait_for
from voxfide.analysis.recording import RecordingAnalyser
from voxfide.audio import AudioInfo
from voxfide.client import Client, ServiceError
from voxfide.serve.keys import add_key
from voxfide.serve.settings import Limits, ServiceSettings

FIRST = {"sample_rate": RATE, "encoding": "s16le"}


@pytest.fixture(scope="module")
def service():
    limits = Limits(streams=3, idle_seconds=5.0, message_bytes=1 << 18)
    with serving(ServiceSettings(port=0, limits=limits)) as running:
        yield running
        wait_for(lambda: not running.service.open_streams)


def pcm(seconds: float, seed: int = 0) -> bytes:
    return np.round(spoken(seconds, seed) * 32767).astype("<i2").tobytes()


@contextmanager
def opened(service, first, **options):
    """A stream whose first message is sent."""
    address = f"ws://127.0.0.1:{service.port}/v1/stream"
    with connect(address, compression=None, proxy=None, **options) as socket:
        socket.send(json.dumps(first))
        yield socket


def test_updates_come_on_the_way_and_the_analysis_at_the_end(service):
    data = pcm(14.0, seed=1)
    pieces = [data[i : i + 3200] for i in range(0, len(data), 3200)]
    *updates, last = Client(service.url).stream(pieces, RATE)
    assert len(updates) >= 3
    assert [u.seconds for u in updates] == sorted(u.seconds for u in updates)
    assert all(u.final is None and u.score is not None for u in updates)
    analyser = RecordingAnalyser(small_detector())
    analyser.push(np.frombuffer(data, "<i2").astype(np.float32) / 32768)
    expected = analyser.finish(AudioInfo("s", "pcm", "s16", RATE, 1, 14.0, 16, 14 * RATE, "none"))
    assert last.final.score == pytest.approx(expected.score, abs=1e-5)
    assert last.final.windows == tuple(pytest.approx(w, abs=1e-5) for w in expected.windows)
    assert sum(len(u.windows) for u in updates) <= len(expected.windows)
    assert last.final.duration == 14.0


def test_streams_at_one_time_keep_apart(service):
    found = {}

    def ask(seed: int) -> None:
        *_, last = Client(service.url).stream([pcm(6.0, seed)], RATE)
        found[seed] = last.final.score

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, score in found.items():
        analyser = RecordingAnalyser(small_detector())
        analyser.push(np.frombuffer(pcm(6.0, seed), "<i2").astype(np.float32) / 32768)
        info = AudioInfo("s", "pcm", "s16", RATE, 1, 6.0, 16, 6 * RATE, "none")
        assert score == pytest.approx(analyser.finish(info).score, abs=1e-5)


@pytest.mark.parametrize(
    ("first", "word"),
    [
        ("hello", "JSON object"),
        ([1], "JSON object"),
        ({}, "sample_rate"),
        ({**FIRST, "sample_rate": "16000"}, "sample_rate"),
        ({**FIRST, "encoding": "mp3"}, "encoding"),
        ({**FIRST, "prior": 2}, "prior"),
        ({**FIRST, "prior": "high"}, "prior"),
        ({**FIRST, "colour": 1}, "colour"),
    ],
)
def test_a_first_message_that_cannot_be_is_answered_with_the_reason(service, first, word):
    with opened(service, first) as socket:
        answer = json.loads(socket.recv(10))
        assert answer["type"] == "problem"
        assert word in answer["problem"]["detail"]
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(10)
        assert closed.value.rcvd.code == 1008


def test_a_text_that_is_no_end_breaks_the_stream_off(service):
    with opened(service, FIRST) as socket:
        assert json.loads(socket.recv(10)) == {"type": "ready"}
        socket.send("more")
        assert json.loads(socket.recv(10))["type"] == "problem"


def test_a_silent_client_is_let_go(service):
    with opened(service, FIRST) as socket:
        assert json.loads(socket.recv(10)) == {"type": "ready"}
        answer = json.loads(socket.recv(20))
        assert "5 s" in answer["problem"]["detail"]


def test_only_so_many_streams_at_a_time(service):
    with ExitStack() as closing:
        for _ in range(3):
            socket = closing.enter_context(opened(service, FIRST))
            assert json.loads(socket.recv(10)) == {"type": "ready"}
        with pytest.raises(ServiceError, match="3 live streams") as busy:
            list(Client(service.url).stream([pcm(1.0)], RATE))
        assert busy.value.status == 429


def test_a_large_message_and_a_foreign_page_are_refused(service):
    with opened(service, FIRST) as socket:
        assert json.loads(socket.recv(10)) == {"type": "ready"}
        socket.send(bytes(1 << 19))
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(10)
        assert closed.value.rcvd.code == 1009
    with pytest.raises(InvalidStatus), opened(service, FIRST, origin="http://evil.example"):
        pass


def test_a_key_comes_in_the_header_or_the_first_message(tmp_path):
    key = add_key(tmp_path / "keys", "desk")
    with serving(ServiceSettings(port=0, keys=tmp_path / "keys")) as running:
        *_, last = Client(running.url, key=key).stream([pcm(3.0)], RATE)
        assert last.final.verdict
        with opened(running, {**FIRST, "key": key}) as socket:
            assert json.loads(socket.recv(10)) == {"type": "ready"}
        for first in (FIRST, {**FIRST, "key": "wrong"}, {**FIRST, "key": 7}):
            with opened(running, first) as socket:
                assert json.loads(socket.recv(10))["problem"]["status"] == 401
        with pytest.raises(ServiceError):
            list(Client(running.url, key="wrong").stream([pcm(1.0)], RATE))


def test_an_error_of_the_callers_own_comes_back_to_the_caller(service):
    def chunks():
        yield pcm(1.0)
        raise RuntimeError("the line went dead")

    with pytest.raises(RuntimeError, match="went dead"):
        list(Client(service.url).stream(chunks(), RATE))
