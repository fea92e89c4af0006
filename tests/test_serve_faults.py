"""What goes wrong: dying decoders, clients that hang up or dawdle, hostile files, signals, kills."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from audio_fixtures import write
from audio_fuzz import mutated, seed_files
from serving import RATE, Running, command, form, recording, serving, small_detector, spoken, wait_for
from voxfide.client import Client, ServiceError
from voxfide.serve.settings import Limits, ServiceSettings

N_MUTATED = int(os.environ.get("VOXFIDE_MUTATED_UPLOADS", "60"))
"""The suite tries some; ``VOXFIDE_MUTATED_UPLOADS=1000`` tries as many as that."""


@pytest.fixture(scope="module")
def service():
    limits = Limits(idle_seconds=1.0, upload_seconds=3.0, duration=60.0)
    with serving(ServiceSettings(port=0, limits=limits)) as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_stays(request):
    yield
    if "service" in request.fixturenames:
        service = request.getfixturevalue("service").service
        wait_for(lambda: service.admission.pending == 0)
        assert service.workspace.leftovers() == []
        assert open_files_in(service.workspace.folder) == []


def open_files_in(folder: Path) -> list[str]:
    """Files of this process that lie in a folder, those without a name included; less the lock."""
    links = Path("/proc/self/fd")
    if not links.exists():
        return []
    found = []
    for link in links.iterdir():
        try:
            target = str(link.readlink())
        except OSError:
            continue
        if target.startswith(str(folder)) and not target.endswith("/lock"):
            found.append(target)
    return found


def started_upload(service: Running, length: int) -> socket.socket:
    """A connection whose request promises ``length`` bytes of a form and has sent its beginning."""
    body, kind = form([("a.wav", b"x" * 1000)])
    link = socket.create_connection(("127.0.0.1", service.port))
    head = (
        f"POST /v1/detect HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {length}\r\n\r\n"
    )
    link.sendall(head.encode() + body[:500])
    return link


def test_kill_9_of_a_decoder_costs_one_request(service, monkeypatch):
    analyst = service.service.analyst
    entered, held = threading.Event(), threading.Event()
    original = analyst.detector.score_waveforms

    def slowly(waveforms):
        entered.set()
        held.wait(20)
        return original(waveforms)

    monkeypatch.setattr(analyst.detector, "score_waveforms", slowly)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(service.upload(recording(55.0))))
    thread.start()
    assert entered.wait(20)  # the decoder has more to say, and waits until somebody listens
    for pid in service.service.pool.pids:
        os.kill(pid, signal.SIGKILL)
    held.set()
    thread.join()
    assert answers[0].status == 422
    assert answers[0].json["kind"] == "decoder-crash"
    assert "SIGKILL" in answers[0].json["detail"]
    assert service.upload(recording()).status == 200


def test_a_client_that_hangs_up_in_mid_upload_leaves_nothing(service):
    link = started_upload(service, 10_000_000)
    wait_for(lambda: service.service.admission.pending == 1)
    link.close()
    wait_for(lambda: service.service.admission.pending == 0)
    assert service.upload(recording()).status == 200


def test_a_client_that_hangs_up_while_it_waits_stops_the_work(service, monkeypatch):
    analyst = service.service.analyst
    asked = []
    original = analyst.detector.score_waveforms

    def slowly(waveforms):
        asked.append(len(waveforms))
        time.sleep(0.3)
        return original(waveforms)

    monkeypatch.setattr(analyst.detector, "score_waveforms", slowly)
    body, kind = form([("a.wav", recording(58.0))])
    connection = http.client.HTTPConnection("127.0.0.1", service.port)
    connection.request("POST", "/v1/detect", body, {"Content-Type": kind})
    wait_for(lambda: asked)
    connection.sock.close()
    connection.close()
    wait_for(lambda: service.service.admission.pending == 0)
    assert sum(asked) < 28


def everything_from(link: socket.socket) -> bytes:
    """What comes until the other side closes."""
    parts = []
    try:
        while part := link.recv(65536):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)


def test_a_slow_upload_is_told_so(service):
    with started_upload(service, 10_000_000) as link:
        link.settimeout(20)
        answer = everything_from(link)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"Nothing arrived for 1 s" in answer


def test_a_byte_now_and_then_does_not_keep_a_place(service):
    with started_upload(service, 10_000_000) as link:

        def dawdle() -> None:
            try:
                while True:
                    link.sendall(b"x")
                    time.sleep(0.3)
            except OSError:
                return

        threading.Thread(target=dawdle, daemon=True).start()
        link.settimeout(20)
        assert b"not complete after 3 s" in everything_from(link)


def test_mutated_files_get_an_answer_each(service):
    files = seed_files()
    kinds = sorted(files)
    statuses = []
    for number in range(N_MUTATED):
        name, content = mutated(files, kinds[number % len(kinds)], number, 7)
        answer = service.upload([(name, content)])
        statuses.append(answer.status)
        assert answer.status in (200, 413, 422), (name, answer.body)
        if answer.status != 200:
            assert answer.json["detail"], name
    assert {200, 422} <= set(statuses)
    assert service.upload(recording()).status == 200


def test_bombs_fill_neither_memory_nor_disk(service):
    hour = np.zeros((RATE * 3600, 1), np.float32)
    bomb = write("flac-s16", hour, RATE)
    assert len(bomb) < 200_000
    for path in ("/v1/detect", "/v1/detect?why=true", "/v1/detect?report=html&overview=true"):
        answer = service.upload([("bomb.flac", bomb)], path)
        assert answer.status == 413
        assert "60 s" in answer.json["detail"]


def test_headers_without_end_and_nonsense_do_not_hurt(service):
    for sent in (b"\x00\xff" * 500, b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 200_000 + b"\r\n\r\n", b"POST"):
        with socket.create_connection(("127.0.0.1", service.port)) as link:
            link.settimeout(5)
            try:
                link.sendall(sent)
                link.shutdown(socket.SHUT_WR)
                assert link.recv(100)[:15] in (b"", b"HTTP/1.1 400 Ba", b"HTTP/1.1 400 \r\n")
            except OSError:
                continue
    assert service.upload(recording()).status == 200


# --- the command


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return small_detector().save(tmp_path_factory.mktemp("detector") / "d")


def test_sigterm_finishes_what_was_accepted_and_exits_0(detector, tmp_path):
    with command(detector, "--temporary", str(tmp_path)) as running:
        assert Client(running.url).is_ready()
        answers = []
        content = recording(150.0)
        thread = threading.Thread(target=lambda: answers.append(running.upload(content)))
        thread.start()

        def pending() -> bool:
            metrics = running.request("GET", "/metrics").body.decode()
            return "voxfide_pending_requests 1" in metrics

        wait_for(pending)
        updates: list = []

        def listen() -> None:
            chunk = np.round(spoken(5.0) * 32767).astype("<i2").tobytes()

            def chunks():
                while running.process.poll() is None and not (updates and updates[-1].final):
                    yield chunk
                    time.sleep(0.05)

            updates.extend(Client(running.url).stream(chunks(), RATE))

        stream = threading.Thread(target=listen, daemon=True)
        stream.start()
        time.sleep(1.0)
        running.process.send_signal(signal.SIGTERM)
        thread.join(60)
        assert answers[0].status == 200
        assert running.process.wait(30) == 0
        stream.join(10)
        with pytest.raises(ServiceError, match="does not answer"):
            Client(running.url).detectors()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_service_leaves_nothing_that_the_next_does_not_remove(detector, tmp_path):
    with command(detector, "--temporary", str(tmp_path)) as running:
        link = started_upload(running, 10_000_000)
        wait_for(lambda: b"pending_requests 1" in running.request("GET", "/metrics").body)
        running.process.kill()
        running.process.wait()
        link.close()
    left = [p for p in tmp_path.rglob("*") if p.is_file() and p.name != "lock"]
    assert left == []  # an upload never had a name
    with command(detector, "--temporary", str(tmp_path)) as running:
        assert len(list(tmp_path.iterdir())) == 1
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(30) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_taken_port_is_one_line(detector):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        run = subprocess.run(
            [sys.executable, "-m", "voxfide", "serve", "--detector", str(detector), "--port", port],
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert run.returncode == 2
    assert f"cannot listen on 127.0.0.1, port {port}" in run.stderr
