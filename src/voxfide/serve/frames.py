"""How a decoder process speaks with the service: small frames over a socket, nothing pickled.

A request is a JSON object and the open file itself, passed as a descriptor: the process never learns
a path. The answer is a number of frames, each a letter, a length and that many bytes:

``S``  samples, float32 mono at 16 kHz
``D``  the end: what was found in the file, a JSON object
``E``  an error in place of the end, a JSON object

A decoder that a hostile file has taken over can thus say false things of that file; it cannot make
the service run anything, as unpickling its answer would.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any, Final

SAMPLES: Final = b"S"
DONE: Final = b"D"
ERROR: Final = b"E"

_HEAD: Final = struct.Struct("!cI")
_LENGTH: Final = struct.Struct("!I")
MAX_PAYLOAD: Final = 4 << 20
"""Bytes; a frame that claims more comes from a process that has lost its mind."""


class BrokenChannelError(Exception):
    """The other side is gone, or speaks nonsense."""


def send_request(channel: socket.socket, request: dict[str, Any], descriptor: int) -> None:
    """Sends a JSON object together with an open file."""
    payload = json.dumps(request).encode()
    socket.send_fds(channel, [_LENGTH.pack(len(payload))], [descriptor])
    channel.sendall(payload)


def receive_request(channel: socket.socket) -> tuple[dict[str, Any], int] | None:
    """The next request and its open file; ``None`` where the service is gone."""
    head, descriptors, _, _ = socket.recv_fds(channel, _LENGTH.size, 1)
    if len(head) < _LENGTH.size or not descriptors:
        return None
    return json.loads(_read(channel, _LENGTH.unpack(head)[0])), descriptors[0]


def send_frame(channel: socket.socket, kind: bytes, payload: bytes) -> None:
    """Sends one frame."""
    channel.sendall(_HEAD.pack(kind, len(payload)) + payload)


def receive_frame(channel: socket.socket) -> tuple[bytes, bytes]:
    """The next frame: its letter and its bytes.

    Raises:
        BrokenChannelError: the process died, or sends what is no frame.
    """
    kind, length = _HEAD.unpack(_read(channel, _HEAD.size))
    if kind not in (SAMPLES, DONE, ERROR) or length > MAX_PAYLOAD:
        raise BrokenChannelError(f"not a frame: {kind!r} of {length} bytes")
    return kind, _read(channel, length)


def _read(channel: socket.socket, n: int) -> bytes:
    parts = []
    while n > 0:
        try:
            part = channel.recv(min(n, 1 << 18))
        except OSError as error:
            raise BrokenChannelError(str(error)) from error
        if not part:
            raise BrokenChannelError("closed")
        parts.append(part)
        n -= len(part)
    return b"".join(parts)
