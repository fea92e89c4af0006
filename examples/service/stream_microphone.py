"""Sends raw PCM from standard input to the service as it comes, and prints what is known.

ffmpeg -loglevel error -f alsa -i default -ac 1 -ar 16000 -f s16le - | python stream_microphone.py
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from voxfide.client import Client

RATE = 16000


def chunks() -> Iterator[bytes]:
    """A fifth of a second at a time."""
    while data := sys.stdin.buffer.read(RATE // 5 * 2):
        yield data


def main() -> None:
    client = Client(os.environ.get("VOXFIDE_URL", "http://127.0.0.1:8000"), key=os.environ.get("VOXFIDE_KEY"))
    for update in client.stream(chunks(), RATE):
        score = "no score yet" if update.score is None else f"score {update.score:+.2f}"
        print(f"{update.seconds:8.1f} s  {update.verdict:12}  {score}", flush=True)
        if update.final is not None:
            for reason in update.final.reasons:
                print(f"  {reason.sentence}")


if __name__ == "__main__":
    main()
