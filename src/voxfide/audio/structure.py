"""Does a file hold all that its container promises? Decoders mostly keep quiet about it.

Each check reads a few headers, never the audio, and answers with what is missing or
``None``. Sizes that mean "unknown" in a stream (0, all ones) are accepted.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Final

from voxfide.audio.sniff import Sniffed
from voxfide.audio.source import Window

_MAX_ELEMENTS: Final = 200_000
_STREAMED_32: Final = 0x7FFFF000
"""From here on a 32-bit size is a placeholder: SoX and FFmpeg write such when piping."""
_STREAMED_64: Final = 1 << 62
_OGG_TAIL: Final = 65_536 + 512  # the longest page is 65,307 bytes


def missing_part(file: Window, found: Sniffed) -> str | None:
    """What ``file`` promises but does not hold, as a reason for an error; else ``None``."""
    check = _CHECKS.get(found.container)
    return check(file, found.start) if check else None


def open_end(file: Window, found: Sniffed) -> str | None:
    """A warning where a file may have been cut but need not: recorders that leave out an end mark."""
    if found.container != "ogg":
        return None
    last = _last_ogg_page(file)
    if last is None or last[1][5] & 4:
        return None
    return "the last Ogg page is not marked as the end of the stream: the file may have been cut"


def wav_data(file: Window) -> tuple[int, int, int]:
    """``(format tag, data offset, declared data bytes)`` of a WAV; offset 0: no data chunk."""
    big, tag, size64 = file.at(0, 4) == b"RIFX", 0, 0
    for name, body, size in _chunks(file, 12, ">" if big else "<"):
        if name == b"fmt ":
            tag = int.from_bytes(file.at(body, 2), "big" if big else "little")
        elif name == b"ds64":
            size64 = int.from_bytes(file.at(body + 8, 8), "little")
        elif name == b"data":
            return tag, body, size64 if size == 0xFFFFFFFF and size64 else size
    return tag, 0, 0


def wav_size_left_open(file: Window) -> bool:
    """True where the data size says 0 and yet samples follow: a writer that never came back."""
    _, body, size = wav_data(file)
    if not body or size or body >= file.size:
        return False
    end = 0
    for _, start, length in _chunks(file, body, "<"):
        end = start + length
    return not file.size <= end + 1 <= file.size + 1  # not a chain of chunks up to the end


def ogg_streams(file: Window) -> tuple[int, int]:
    """Serial numbers of the first and of the last page; they differ in chained files."""
    first = file.at(0, 27)
    last = _last_ogg_page(file)
    serial = int.from_bytes(first[14:18], "little")
    return serial, serial if last is None else int.from_bytes(last[1][14:18], "little")


def _chunks(file: Window, at: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """IFF chunks: name, offset of the body, declared size of the body."""
    for _ in range(_MAX_ELEMENTS):
        head = file.at(at, 8)
        if len(head) < 8:
            return
        size = struct.unpack(order + "I", head[4:])[0]
        yield head[:4], at + 8, size
        at += 8 + size + (size & 1)


def _readable(name: bytes) -> str:
    return name.decode("ascii", "backslashreplace")


def _short(what: str, declared: int, present: int) -> str | None:
    if declared <= present:
        return None
    return f"{what} declares {declared:,} bytes, the file holds {max(0, present):,} of them"


def _wav(file: Window, start: int) -> str | None:
    _, body, size = wav_data(file)
    if body:
        return None if size >= _STREAMED_32 and file.size < size else _short_data(file, body, size)
    riff = struct.unpack(">I" if file.at(0, 4) == b"RIFX" else "<I", file.at(4, 4).ljust(4, b"\0"))[0]
    return "the file breaks off before its audio data" if riff + 8 > file.size else None


def _short_data(file: Window, body: int, size: int) -> str | None:
    return _short("the data chunk", size, file.size - body)


def _aiff(file: Window, start: int) -> str | None:
    for name, body, size in _chunks(file, 12, ">"):
        if name == b"SSND":
            return None if size >= _STREAMED_32 else _short_data(file, body, size)
    form = int.from_bytes(file.at(4, 4), "big")
    return "the file breaks off before its audio data" if form + 8 > file.size else None


def _avi(file: Window, start: int) -> str | None:
    for name, body, size in _chunks(file, 12, "<"):
        if short := _short(f"the {_readable(name)} chunk", size, file.size - body):
            return short
    return None


def _w64(file: Window, start: int) -> str | None:
    total = int.from_bytes(file.at(16, 8), "little")
    return _short("the header", total, file.size) if total < _STREAMED_64 else None


def _au(file: Window, start: int) -> str | None:
    order = "big" if file.at(0, 4) == b".snd" else "little"
    head = file.at(4, 8)
    body, size = (int.from_bytes(head[i : i + 4], order) for i in (0, 4))  # type: ignore[arg-type]
    return None if size >= _STREAMED_32 else _short_data(file, body, size)


def _caf(file: Window, start: int) -> str | None:
    at = 8
    for _ in range(_MAX_ELEMENTS):
        head = file.at(at, 12)
        if len(head) < 12:
            return "the file breaks off before its audio data"
        size = int.from_bytes(head[4:], "big", signed=True)
        if head[:4] == b"data" or size < 0:
            return _short_data(file, at + 12, size)
        at += 12 + size
    return None


def _nist(file: Window, start: int) -> str | None:
    fields = {}
    for line in file.at(0, 1024).split(b"\n")[2:]:
        name, _, value = line.partition(b" ")
        if name == b"end_head":
            break
        fields[name] = value.rpartition(b" ")[2].strip()
    if b"shorten" in fields.get(b"sample_coding", b"") or b"sample_count" not in fields:
        return None
    try:
        header = int(file.at(8, 8))
        frame = int(fields.get(b"channel_count", b"1")) * int(fields.get(b"sample_n_bytes", b"2"))
        return _short("the header", int(fields[b"sample_count"]) * frame, file.size - header)
    except ValueError:
        return None


def _flac(file: Window, start: int) -> str | None:
    at = start + 4
    for _ in range(_MAX_ELEMENTS):
        head = file.at(at, 4)
        at += 4 + int.from_bytes(head[1:], "big")
        if len(head) < 4 or at > file.size:
            return "the file breaks off inside its metadata"
        if head[0] & 0x80:
            break
    n_samples = int.from_bytes(file.at(start + 8 + 13, 5), "big") & (1 << 36) - 1
    return "the file ends before its first frame" if at >= file.size and n_samples else None


def _last_ogg_page(file: Window) -> tuple[int, bytes] | None:
    """Offset and header of the last page (RFC 3533, section 6)."""
    base = max(0, file.size - _OGG_TAIL)
    tail = file.at(base, _OGG_TAIL)
    at = tail.rfind(b"OggS\0")
    return (base + at, tail[at : at + 27 + 255]) if 0 <= at <= len(tail) - 6 else None


def _ogg(file: Window, start: int) -> str | None:
    last = _last_ogg_page(file)
    if last is None:
        return "no Ogg page near the end of the file"
    at, head = last
    n_segments = head[26] if len(head) > 26 else 255
    if len(head) < 27 + n_segments or at + 27 + n_segments + sum(head[27 : 27 + n_segments]) > file.size:
        return "the file breaks off inside an Ogg page"
    return None


def _mp4(file: Window, start: int) -> str | None:
    at, has_index = 0, False
    for _ in range(_MAX_ELEMENTS):
        head = file.at(at, 16)
        if len(head) < 8:
            break
        size, name = struct.unpack(">I4s", head[:8])
        if size == 1 and len(head) == 16:
            size = int.from_bytes(head[8:], "big")
        if size == 0:  # to the end of the file
            size = file.size - at
        has_index |= name == b"moov"
        if short := _short(f"the {_readable(name)} box", size, file.size - at):
            return short
        if size < 8:
            break
        at += size
    return None if has_index else "the file has no index (moov box): recording or copying broke off"


def _vint(data: bytes, keep_marker: bool) -> tuple[int, int]:
    """An EBML variable-length number (RFC 8794, section 4) and its width; width 0: invalid."""
    width = 9 - data[0].bit_length() if data and data[0] else 0
    if not width or len(data) < width:
        return 0, 0
    value = int.from_bytes(data[:width], "big")
    return (value if keep_marker else value & (1 << 7 * width) - 1), width


def _matroska(file: Window, start: int) -> str | None:
    at = 0
    for _ in range(8):
        head = file.at(at, 12)
        name, name_width = _vint(head, keep_marker=True)
        size, size_width = _vint(head[name_width:], keep_marker=False)
        if not name_width or not size_width:
            return "the file breaks off before its first segment"
        body = at + name_width + size_width
        if name == 0x18538067:  # Segment; a live stream leaves its size open: all ones
            left_open = size == (1 << 7 * size_width) - 1
            return None if left_open else _short("the segment", size, file.size - body)
        at = body + size
    return None


def _asf(file: Window, start: int) -> str | None:
    at = 0
    for _ in range(_MAX_ELEMENTS):
        head = file.at(at, 24)
        if len(head) < 24:
            break
        size = int.from_bytes(head[16:], "little")
        if short := _short("an object", size, file.size - at):
            return short
        if size < 24:
            break
        at += size
    return None


_MP3_BITRATES: Final = {  # kbit/s of layer III, by index; MPEG-1, and MPEG-2 and 2.5
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def _mp3(file: Window, start: int) -> str | None:
    """By the byte count of the Xing/Info tag, to within a frame."""
    head = file.at(start, 64)
    if len(head) < 64 or head[0] != 0xFF or head[1] >> 1 & 3 != 1:
        return None
    mpeg1, mono = head[1] >> 3 & 3 == 3, head[3] >> 6 == 3
    tag = 4 + ((17 if mono else 32) if mpeg1 else (9 if mono else 17))
    flags = int.from_bytes(head[tag + 4 : tag + 8], "big")
    if head[tag : tag + 4] not in (b"Xing", b"Info") or not flags & 2 or head[2] >> 4 == 15:
        return None
    at = tag + 8 + (4 if flags & 1 else 0)
    declared = int.from_bytes(head[at : at + 4], "big")
    kbits = _MP3_BITRATES[3 if mpeg1 else 2][head[2] >> 4]
    rate = ((44100, 48000, 32000, 1)[head[2] >> 2 & 3]) >> (3 - (head[1] >> 3 & 3) if not mpeg1 else 0)
    frame = (144 if mpeg1 else 72) * 1000 * kbits // max(1, rate) + 1
    present = file.size - start
    return _short("the Xing tag", declared, present) if declared - present >= frame else None


_CHECKS: Final[dict[str, Callable[[Window, int], str | None]]] = {
    "wav": _wav,
    "rf64": _wav,
    "w64": _w64,
    "aiff": _aiff,
    "au": _au,
    "caf": _caf,
    "nist": _nist,
    "flac": _flac,
    "ogg": _ogg,
    "mp4": _mp4,
    "matroska": _matroska,
    "asf": _asf,
    "avi": _avi,
    "mp3": _mp3,
}
