"""Which container a file is, by its first bytes; file names are only compared with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from voxfide.audio.source import Window

_FORM: Final = {  # IFF-like: four bytes, a size, and the kind of form
    (b"RIFF", b"WAVE"): "wav",
    (b"RIFX", b"WAVE"): "wav",
    (b"RF64", b"WAVE"): "rf64",
    (b"BW64", b"WAVE"): "rf64",
    (b"FORM", b"AIFF"): "aiff",
    (b"FORM", b"AIFC"): "aiff",
    (b"RIFF", b"AVI "): "avi",
}
_MAGIC: Final = {
    b"fLaC": "flac",
    b"OggS": "ogg",
    b"riff\x2e\x91\xcf\x11": "w64",
    b".snd": "au",
    b"dns.": "au",
    b"caff": "caf",
    b"NIST_1A": "nist",
    b"Creative Voice File": "voc",
    b"PVF1\n": "pvf",
    b"\x64\xa3\x01\x00": "ircam",
    b"\x64\xa3\x02\x00": "ircam",
    b"\x00\x01\xa3\x64": "ircam",
    b"\x00\x02\xa3\x64": "ircam",
    b"\x1a\x45\xdf\xa3": "matroska",
    b"#!AMR": "amr",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "asf",
    b"FLV\x01": "flv",
}
_TAR: Final = "a tar archive, whose members have paths such as ARCHIVE.tar/NAME"
_MP4_BOXES: Final = (b"ftyp", b"moov", b"mdat", b"wide")
_FOREIGN: Final = {
    b"%PDF": "a PDF document",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "gzip-compressed data",
    b"\x7fELF": "an executable",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself",
    b"PAR1": "a Parquet file, whose members have paths such as FILE.parquet/NAME",
}

SUFFIXES: Final[dict[str, frozenset[str]]] = {
    "wav": frozenset({".wav", ".wave", ".bwf"}),
    "rf64": frozenset({".wav", ".wave", ".bwf", ".rf64"}),
    "w64": frozenset({".w64"}),
    "aiff": frozenset({".aif", ".aiff", ".aifc"}),
    "au": frozenset({".au", ".snd"}),
    "caf": frozenset({".caf"}),
    "flac": frozenset({".flac", ".fla"}),
    "ogg": frozenset({".ogg", ".oga", ".opus", ".ogv", ".ogx", ".spx"}),
    "nist": frozenset({".sph", ".nist", ".wv1", ".wv2"}),
    "mp3": frozenset({".mp3", ".mp2", ".mpga"}),
    "adts": frozenset({".aac", ".adts"}),
    "mp4": frozenset({".mp4", ".m4a", ".m4b", ".m4v", ".mov", ".qt", ".3gp", ".3g2"}),
    "matroska": frozenset({".mkv", ".mka", ".webm", ".weba"}),
    "amr": frozenset({".amr", ".awb"}),
    "asf": frozenset({".wma", ".wmv", ".asf"}),
    "avi": frozenset({".avi"}),
    "flv": frozenset({".flv"}),
}
_KNOWN_SUFFIXES: Final = frozenset().union(*SUFFIXES.values())


@dataclass(frozen=True)
class Sniffed:
    """The container by its signature (empty: none known) and where it starts, in bytes."""

    container: str
    start: int = 0
    foreign: str = ""


def sniff(file: Window) -> Sniffed:
    """Looks at the signature, past any ID3v2 tags in front of it."""
    start = 0
    head = file.at(0, 32)
    while head[:3] == b"ID3" and len(head) >= 10 and start < file.size:
        # Syncsafe size, ten bytes of header, and as many of footer if flag 4 is set.
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        start += 10 + size + (10 if head[5] & 0x10 else 0)
        head = file.at(start, 32)
    container = _by_signature(head)
    if not container and start:
        container = "mp3"  # an ID3v2 tag, then padding or junk before the first frame
    foreign = next((what for magic, what in _FOREIGN.items() if head.startswith(magic)), "")
    if not container and file.at(257, 5) == b"ustar":
        foreign = _TAR
    return Sniffed(container, start, "" if container else foreign)


def _by_signature(head: bytes) -> str:
    if form := _FORM.get((head[:4], head[8:12])):
        return form
    for magic, container in _MAGIC.items():
        if head.startswith(magic):
            return container
    if head[4:8] in _MP4_BOXES:
        return "mp4"
    if len(head) >= 4 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return _by_frame_sync(head)
    return ""


def _by_frame_sync(head: bytes) -> str:
    """MPEG audio by its frame header: version, layer, bit rate and rate must be legal ones."""
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    if layer == 0:
        rate = head[2] >> 2 & 15
        return "adts" if head[1] & 0xF0 == 0xF0 and rate < 13 else ""
    legal = version != 1 and head[2] >> 4 not in (0, 15) and head[2] >> 2 & 3 != 3
    return "mp3" if legal else ""


def mislabelled(label: str, container: str) -> str | None:
    """A warning where the file name's extension belongs to another container."""
    suffix = PurePath(label).suffix.lower()
    if suffix in _KNOWN_SUFFIXES and suffix not in SUFFIXES.get(container, {suffix}):
        return f"named {suffix} but the content is {container}"
    return None
