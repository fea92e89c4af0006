"""A small detector, recordings, and services to try: in this process, or as a command of its own."""

from __future__ import annotations

import asyncio
import functools
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from audio_fixtures import write
from voxfide.backends import create_backend
from voxfide.calibration import CalibrationRecord, create_calibration
from voxfide.corpora.selftest.speaker import Speaker, generator
from voxfide.corpora.selftest.synthesis import synthesise_utterance
from voxfide.detector import Detector
from voxfide.features import pooled_features
from voxfide.frontends import create_frontend
from voxfide.serve.server import listen, server_of
from voxfide.serve.service import Service
from voxfide.serve.settings import ServiceSettings

RATE = 16000


@functools.cache
def spoken(seconds: float, seed: int = 0) -> np.ndarray:
    """``(samples,)`` at 16 kHz: synthetic syllables that a voice activity detector takes for speech.

    After 10 s they come again.
    """
    if seconds > 10:
        return np.resize(spoken(10.0, seed), round(RATE * seconds))
    rng = generator(seed, "serve")
    return synthesise_utterance(Speaker.draw(f"s{seed}", rng), rng, seconds)


def recording(seconds: float = 3.0, seed: int = 0, kind: str = "wav-s16") -> bytes:
    """The bytes of a file of ``kind``, as of ``audio_fixtures``."""
    return write(kind, spoken(seconds, seed)[:, None], RATE)


@functools.cache
def small_detector(calibrated: bool = True) -> Detector:
    """LFCC and logistic regression on synthetic speech and the same with its phase spoilt."""
    clips = [spoken(2.0, seed) for seed in range(12)]
    clips = [clip if i % 2 else spoilt(clip, i) for i, clip in enumerate(clips)]
    frontend = create_frontend("lfcc")
    labels = np.arange(len(clips)) % 2 == 1
    features = pooled_features(frontend, clips, "mean_std")
    detector = Detector(frontend, create_backend("logistic", C=0.01).fit(features, labels), "mean_std")
    if not calibrated:
        return detector
    calibration = create_calibration("affine", regularisation=0.1)
    calibration = calibration.fit(detector.score_waveforms(clips), labels)
    return detector.calibrated(CalibrationRecord(calibration, prior=0.5))


def spoilt(clip: np.ndarray, seed: int) -> np.ndarray:
    """The same with a hiss of its own: a spoof that any front-end can tell."""
    noise = np.random.default_rng(seed).standard_normal(len(clip))
    return (clip + 0.01 * np.convolve(noise, [1, -0.9], "same")).astype(np.float32)


def wait_for(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    """Waits until something comes about."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.01)


@dataclass
class Answer:
    """What a service answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Running:
    """A service that listens on a free port of this machine."""

    port: int
    service: Service | None = None
    process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def request(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        finally:
            connection.close()

    def upload(
        self,
        files: list[tuple[str, bytes]] | bytes,
        path: str = "/v1/detect",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Posts ``(name, content)`` pairs as a browser would."""
        named = [("a.wav", files)] if isinstance(files, bytes) else files
        body, content_type = form(named)
        return self.request("POST", path, body, {"Content-Type": content_type, **(headers or {})})


def form(files: list[tuple[str, bytes]]) -> tuple[bytes, str]:
    """A multipart body of files, and its content type."""
    boundary = uuid4().hex
    parts = []
    for name, content in files:
        shown = name.replace("\\", "\\\\").replace('"', '\\"').encode()
        head = b'Content-Disposition: form-data; name="file"; filename="' + shown + b'"\r\n\r\n'
        parts += [f"--{boundary}\r\n".encode(), head, content, b"\r\n"]
    return b"".join([*parts, f"--{boundary}--\r\n".encode()]), f"multipart/form-data; boundary={boundary}"


@contextmanager
def serving(settings: ServiceSettings, detector: Any = None) -> Iterator[Running]:
    """A service in a thread of this process."""
    with (
        listen("127.0.0.1", 0) as listener,
        Service(detector or small_detector(), "small", settings) as service,
    ):
        service.warm_up()
        started = threading.Event()
        server = server_of(service, started.set)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
        thread.start()
        assert started.wait(10)
        try:
            yield Running(listener.getsockname()[1], service)
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


@contextmanager
def command(detector: Path, *options: str) -> Iterator[Running]:
    """``voxfide serve`` as a user would start it."""
    arguments = ["serve", "--detector", str(detector), "--port", "0", "--device", "cpu", *options]
    process = subprocess.Popen(
        [sys.executable, "-m", "voxfide", *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", process.stdout.readline())
        assert found, process.wait(10)
        yield Running(int(found[1]), process=process)
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
