"""The recording's file, what was measured on it, who judged it by which rule, and how to repeat that."""

from __future__ import annotations

import math
import platform
import shlex
from collections.abc import Mapping
from dataclasses import fields
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

import voxfide
from voxfide.audio import AUDIO_SETTINGS
from voxfide.conditions import POLICY, Conditions, Limit
from voxfide.report.markup import printable
from voxfide.report.page import Block, KeyValues, Notice, Prose
from voxfide.report.recording_why import signed
from voxfide.report.tables import MISSING, Column, Table
from voxfide.types import SAMPLE_RATE

if TYPE_CHECKING:
    from voxfide.analysis.result import Analysis

MEASURES: Final = {
    "seconds": "Length",
    "speech_seconds": "Speech",
    "speech_share": "Share of speech",
    "speech_level_db": "Level of the speech (ITU-T P.56)",
    "noise_db": "Level of the noise",
    "snr_db": "Speech over noise",
    "peak_db": "Peak",
    "dc_offset": "Offset, of full scale",
    "flat_share": "Samples cut off at the extreme",
    "flat_top": "Pile-up at the extreme",
    "bandwidth_hz": "Bandwidth of the speech",
    "rolloff_95_hz": "95 % of the power lie below",
    "rolloff_99_hz": "99 % of the power lie below",
    "holes_share": "Empty cells of the spectrum",
    "zero_share": "Exact silence",
    "longest_zero_seconds": "Longest exact silence",
    "dropouts": "Breaks into exact silence",
    "bit_rate_kbps": "Bit rate",
    "background_db": "Sound outside speech, to the speech",
    "background_steadiness": "Steadiness of that sound",
    "music_db": "Music outside speech, to the speech",
}
"""Names of measures for people; one that has none here is called by its field."""

_FILE_FACTS: Final = frozenset({"container", "codec", "sample_rate", "lossy"})
_UNITS: Final = {
    "_share": (100.0, "%"),
    "seconds": (1.0, "s"),
    "_db": (1.0, "dB"),
    "_hz": (1.0, "Hz"),
    "_kbps": (1.0, "kbit/s"),
    "dc_offset": (100.0, "%"),
}

LIMITS: Final = (
    "A verdict on one recording is evidence, not proof. Weigh it with where the recording comes from, whose "
    "hands it went through, and what else is known.",
    "The detector knows the kinds of forgery, voices, languages, microphones and codecs that it was trained "
    "on. On others it can be wrong with high confidence, in both directions.",
    "A probability holds for recordings like those of the calibration set, and for the stated prior.",
    "Bona fide means: not recognised as machine-made. It does not say who speaks, whether what is said is "
    "true, or whether the recording was cut or put into another context.",
    "A spoof verdict does not say who made it, with which tool, or with what intent. Noise suppression, "
    "strong coding and other honest processing can look like one.",
    "Forgeries shorter than a window can go unmarked, and the ends of marked stretches are as coarse as the "
    "windows are.",
)
"""What the tool cannot tell, for those who have to act on its word."""


def file_name(path: str) -> str:
    """The last part of a path; what is not a path stays as it is."""
    return PurePath(path).name or path


def recording_blocks(analysis: Analysis) -> list[Block]:
    """File, decoding chain, and the measured conditions beside their limits."""
    return [
        KeyValues({"File": _file(analysis), "How it was decoded": _decoding(analysis)}),
        conditions_table(analysis.conditions),
    ]


def detector_blocks(analysis: Analysis) -> list[Block]:
    """Who judged, calibrated on what, by which rule."""
    detector = analysis.detector
    who = {
        "Name": detector.name,
        "Fingerprint": f"`{detector.fingerprint}`",
        **{k[:1].upper() + k[1:]: v for k, v in detector.facts.items()},
        "A score is": detector.score_kind,
    }
    calibrated = detector.calibrated_on
    calibration = {"Calibrated on": "nothing: scores are no likelihood ratios, so no probability is stated"}
    if calibrated is not None:
        calibration = flat(calibrated) or {"Calibrated on": "a set that its record does not name"}
    rule = {RULE.get(k, k): rule_value(k, v) for k, v in analysis.rule.items() if v is not None}
    groups = {
        "Detector": who,
        "Calibration set": calibration,
        "Decision rule": rule or {"Rule": "none stated"},
    }
    return [KeyValues(groups)]


def limit_blocks() -> list[Block]:
    """What the reader must not conclude."""
    return [Notice(LIMITS)]


def repeat_blocks(analysis: Analysis, command: str | None) -> list[Block]:
    """The command, and the versions that it ran with."""
    text = command or default_command(analysis)
    values: dict[str, Any] = {
        "Command": f"`{text}`" if "`" not in text else text,
        "voxfide": voxfide.__version__,
        "Python": platform.python_version(),
        "Detector": f"{analysis.detector.name}, fingerprint `{analysis.detector.fingerprint}`",
    }
    if analysis.sha256 is not None:
        values["File"] = f"SHA-256 `{analysis.sha256}`"
    prose = (
        "The same file, detector and version give the same verdict, and this report again, byte for byte. "
        "Compare the fingerprints before you compare results."
    )
    return [Prose([prose]), KeyValues(values)]


def default_command(analysis: Analysis) -> str:
    """A command that repeats the analysis in the folder of the file, with rule and windows stated in full."""
    words = ["voxfide", "detect", printable(file_name(analysis.path))]
    if analysis.detector.name != "bundled":
        words += ["--detector", printable(analysis.detector.name)]
    for key, option in {**_OPTIONS.get(str(analysis.rule.get("kind")), {}), **_WINDOWS}.items():
        value = analysis.rule.get(key)
        if isinstance(value, int | float):
            words += [option, repr(float(value)).removesuffix(".0")]
    if analysis.why is not None:
        words.append("--why")
    return shlex.join(words)


_OPTIONS: Final = {
    "bayes": {
        "prior": "--prior",
        "c_miss": "--cost-miss",
        "c_fa": "--cost-fa",
        "c_inconclusive": "--cost-inconclusive",
    },
    "threshold": {"prior": "--prior", "bonafide_from": "--threshold"},
}
"""Kind of rule → its entries that are options of ``voxfide detect``."""

_WINDOWS: Final = {
    "window_s": "--window",
    "hop_s": "--hop",
    "min_speech_s": "--min-speech",
    "fine_window_s": "--fine",
}
"""The same of how a recording was cut."""


def conditions_table(conditions: Conditions) -> Table:
    """Every measure with its limits, and which of them it passes."""
    columns = [
        Column("measure", "Measure"),
        Column("value", "Value", right=True),
        Column("reduced", "Less trust", right=True),
        Column("inconclusive", "No verdict", right=True),
        Column("passed", "Passed"),
    ]
    rows = []
    for field in fields(Conditions):
        value = getattr(conditions, field.name)
        if field.name in _FILE_FACTS:
            continue
        limits = {row.severity: row for row in POLICY if row.quantity == field.name}
        passed = [s for s in ("inconclusive", "reduced") if s in limits and _passes(value, limits[s])]
        rows.append(
            (
                MEASURES.get(field.name, field.name.replace("_", " ")),
                shown(field.name, value),
                *(_limit(field.name, limits.get(s)) for s in ("reduced", "inconclusive")),
                {"inconclusive": "no verdict", "reduced": "less trust"}[passed[0]] if passed else "",
            )
        )
    caption = (
        "What was measured on the recording, and the limits beyond which a verdict deserves less trust or "
        "none is given. Levels are dB re full scale."
    )
    return Table(columns, rows, caption)


def shown(name: str, value: Any) -> str:
    """A measure with its unit."""
    if value is None:
        return MISSING
    if isinstance(value, bool | str):
        return str(value)
    scale, unit = _unit(name)
    number = scale * float(value)
    if not math.isfinite(number):
        return MISSING
    places = 0 if unit == "Hz" or isinstance(value, int) else 1 if unit in ("dB", "s", "kbit/s") else 2
    text = f"{round(number, places) + 0.0:,.{places}f}"
    return f"{text} {unit}".replace("-", "−") if unit else text


def _unit(name: str) -> tuple[float, str]:
    """What a measure is multiplied with to be shown, and its unit then."""
    return next((u for suffix, u in _UNITS.items() if name.endswith(suffix)), (1.0, ""))


_SETS: Final = {"n_bonafide": "Bona fide recordings", "n_spoof": "Spoofed recordings"}


def flat(values: Mapping[str, Any], before: str = "") -> dict[str, str]:
    """Nested values as one level; what is empty is left out."""
    found: dict[str, str] = {}
    for key, value in values.items():
        name = f"{before}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            found |= flat(value, f"{name}, ")
        elif value not in (None, "", [], ()):
            items = value if isinstance(value, list | tuple) else [value]
            found[_SETS.get(key, name[:1].upper() + name[1:])] = ", ".join(map(str, items))
    return found


RULE: Final = {
    "kind": "Kind",
    "bonafide_from": "Bona fide from",
    "spoof_below": "Spoof below",
    "prior": "Prior of bona fide",
    "c_miss": "Cost of rejecting bona fide speech",
    "c_fa": "Cost of accepting a spoof",
    "c_inconclusive": "Cost of no verdict",
    "joining": "Score of the recording",
    "window_s": "Window, seconds",
    "hop_s": "From one window to the next, seconds",
    "min_speech_s": "Speech that a window needs, seconds",
    "fine_window_s": "Window of the second pass, seconds",
}
"""Names of what a rule states; another entry is called by its key."""

_KINDS: Final = {
    "bayes": "least expected cost, with the right to give no verdict (Chow 1970)",
    "threshold": "a threshold stated by the user",
    "detector-threshold": "the detector's own threshold",
}


def rule_value(key: str, value: Any) -> str:
    """An entry of the rule for people."""
    if key == "kind":
        return _KINDS.get(str(value), str(value))
    if key in ("bonafide_from", "spoof_below"):
        return signed(float(value), 3)
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {v}" for k, v in flat(value).items())
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _file(analysis: Analysis) -> dict[str, str]:
    info = analysis.info
    coding = "lossy" if info.bit_depth is None else f"{info.bit_depth} bit"
    values = {
        "Name": printable(file_name(analysis.path)),
        "SHA-256": f"`{analysis.sha256}`" if analysis.sha256 else "not known: no file was read",
        "Size": f"{analysis.n_bytes:,} bytes" if analysis.n_bytes is not None else "not known",
        "Container": info.container,
        "Codec": f"{info.codec} ({coding})",
        "Sampling rate": f"{info.sample_rate:,} Hz",
        "Channels": str(info.channels),
        "Duration": f"{info.duration:,.3f} s" if math.isfinite(info.duration) else "not known",
    }
    if info.warnings:
        values["Odd about it"] = "; ".join(map(printable, info.warnings))
    return values


def _decoding(analysis: Analysis) -> dict[str, str]:
    info, settings = analysis.info, AUDIO_SETTINGS
    downmix = "one channel, taken as it is"
    if info.channels > 1:
        downmix = f"{settings['downmix']} of {info.channels} channels"
    rate = "none: it has the rate already"
    if info.sample_rate != SAMPLE_RATE:
        rate = f"{settings['resampler']}, from {info.sample_rate:,} to {SAMPLE_RATE:,} Hz"
    return {
        "Decoder": info.decoder,
        "Downmix": downmix,
        "Resampling": rate,
        "Encoder's padding": str(settings["padding"]).replace("-", " "),
        "Samples analysed": f"{info.n_samples:,} at {SAMPLE_RATE:,} Hz",
        "Version of these settings": str(settings["version"]),
    }


def _passes(value: Any, limit: Limit) -> bool:
    if value is None:
        return False
    measured = abs(float(value)) if limit.quantity == "dc_offset" else float(value)
    return measured < limit.limit if limit.side == "below" else measured > limit.limit


def _limit(name: str, limit: Limit | None) -> str:
    if limit is None:
        return ""
    scale, unit = _unit(name)
    side = "under" if limit.side == "below" else "over"
    return f"{side} {scale * limit.limit:,g} {unit}".rstrip().replace("-", "−")
