"""What a decoder process does: takes an open file, streams its samples back, and may die of it.

It is a plain Python process that loads no torch, knows no path of the recording, writes no files, and
has its memory and time bounded by the system. Limits on length and channels are kept while decoding,
so that a small file which decodes to hours is stopped on the way.
"""

from __future__ import annotations

import io
import json
import os
import resource
import socket
import sys
from dataclasses import asdict
from typing import Any, Final

from voxfide.audio import AudioInfo, probe_audio, stream_audio
from voxfide.errors import AudioError, NotAudioError
from voxfide.serve.frames import DONE, ERROR, SAMPLES, receive_request, send_frame

CHUNK: Final = 4.0
"""Seconds of audio in one frame."""

_OPEN_FILES: Final = 64


class _Upload(io.FileIO):
    """An open file under the name that the client gave it, for messages; the name opens nothing."""

    def __init__(self, descriptor: int, label: str) -> None:
        super().__init__(descriptor, "rb")
        self.name = label


def decode(channel: socket.socket, request: dict[str, Any], descriptor: int) -> None:
    """Answers one request.

    Args:
        channel: for the frames.
        request: ``name`` for messages, ``duration`` in seconds, ``channels``, ``cpu_seconds``.
        descriptor: the open file.

    Raises:
        BrokenPipeError: nobody listens any more.
    """
    name = str(request["name"])
    _allow_cpu(float(request["cpu_seconds"]))
    try:
        with _Upload(descriptor, name) as file:
            info = _stream(channel, file, request)
    except AudioError as error:
        facts = {"error": type(error).__name__, "reason": error.reason, "expected": error.expected}
        send_frame(channel, ERROR, json.dumps(facts).encode())
    except MemoryError:
        facts = {
            "error": NotAudioError.__name__,
            "reason": "needs more memory to be decoded than a decoder may use",
            "expected": "an audio file of usual structure",
        }
        send_frame(channel, ERROR, json.dumps(facts).encode())
    else:
        send_frame(channel, DONE, json.dumps(asdict(info)).encode())


def _stream(channel: socket.socket, file: _Upload, request: dict[str, Any]) -> AudioInfo:
    limit = int(request["channels"])
    declared = probe_audio(file)
    if declared.channels > limit:
        raise NotAudioError(file.name, f"has {declared.channels} channels", f"at most {limit} channels")
    file.seek(0)
    with stream_audio(
        file,
        chunk=CHUNK,
        max_duration=float(request["duration"]),
        allow_silent=True,
        allow_truncated=True,
    ) as stream:
        for chunk in stream:
            send_frame(channel, SAMPLES, chunk.astype("<f4", copy=False).tobytes())
        return stream.info


def _confine(memory_bytes: int) -> None:
    """Bounds what this process can do from here on; where the system does not know a limit, without it."""
    for kind, value in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
    ):
        try:
            resource.setrlimit(kind, (value, value))
        except (OSError, ValueError):
            continue


def _allow_cpu(seconds: float) -> None:
    """The process is killed once it has worked for so many more seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime + seconds) + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))


def main(descriptor: int, memory_bytes: int) -> None:
    """Serves until the other end of the socket is closed."""
    # What the decoders load late must be there before memory is bounded and files are unknown.
    import av  # noqa: F401
    import soundfile  # noqa: F401
    import soxr  # noqa: F401

    from voxfide.audio import pyav_decoder, soundfile_decoder  # noqa: F401

    channel = socket.socket(fileno=descriptor)
    _confine(memory_bytes)
    channel.sendall(b"+")
    try:
        while (received := receive_request(channel)) is not None:
            decode(channel, *received)
    except OSError:
        os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
