"""From measures to reasons: the limits, in one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from voxfide.conditions.meter import Conditions

Severity = Literal["inconclusive", "reduced"]
Side = Literal["below", "above"]


@dataclass(frozen=True)
class Limit:
    """One row: a measure on the wrong side of a limit is a reason.

    Attributes:
        code: stable name of the reason; rows of one code speak of the same trouble.
        severity: ``inconclusive``: no verdict should be given; ``reduced``: it deserves less trust.
        quantity: field of :class:`Conditions`; where it is ``None`` the row does not apply. Of an offset
            the magnitude counts.
        side: on which side of ``limit`` the trouble lies; the limit itself is good.
        limit: in the field's unit.
        unit: the field's unit, for readers.
        sentence: plain words, with ``{value}`` and ``{limit}`` as shown to people.
        shown: what numbers are multiplied with to be shown, such as 0.001 for kHz.
    """

    code: str
    severity: Severity
    quantity: str
    side: Side
    limit: float
    unit: str
    sentence: str
    shown: float = 1.0


_SPEECH: Final = "Only {value} s of speech were found; at least {limit} s are needed"
_BAND: Final = "No speech shows above {value} kHz: a narrow or noisy channel (limit {limit} kHz)"
_NOISE: Final = "The speech stands only {value} dB above the noise (limit {limit} dB)"
_FLAT: Final = "{value} % of the samples are cut off at the extreme: clipped (limit {limit} %)"

POLICY: Final[tuple[Limit, ...]] = (
    Limit("little-speech", "inconclusive", "speech_seconds", "below", 1.0, "s", _SPEECH + " for a verdict."),
    Limit("little-speech", "reduced", "speech_seconds", "below", 3.0, "s", _SPEECH + " for full trust."),
    Limit("mostly-not-speech", "reduced", "speech_share", "below", 0.2, "share",
          "Only {value} % of the recording are speech, the rest silence, noise or music (limit {limit} %).",
          100),
    Limit("noise", "inconclusive", "snr_db", "below", 0.0, "dB", _NOISE + "."),
    Limit("noise", "reduced", "snr_db", "below", 10.0, "dB", _NOISE + "."),
    Limit("background", "reduced", "music_db", "above", -20.0, "dB",
          "Sound that keeps its pitch, as music does, stands at {value} dB of the speech where nobody speaks "
          "(limit {limit} dB)."),
    Limit("low-level", "reduced", "speech_level_db", "below", -50.0, "dBFS",
          "The speech is very soft, at {value} dB of full scale (limit {limit} dB)."),
    Limit("clipping", "inconclusive", "flat_share", "above", 0.02, "share", _FLAT + ".", 100),
    Limit("clipping", "reduced", "flat_share", "above", 0.0005, "share", _FLAT + ".", 100),
    Limit("clipping", "reduced", "flat_top", "above", 1.75, "ratio",
          "Amplitudes pile up at the extreme, {value} times as dense as below it (limit {limit}): "
          "clipped before it was resampled or coded."),
    Limit("narrow-band", "inconclusive", "bandwidth_hz", "below", 3000.0, "Hz", _BAND + ".", 0.001),
    Limit("narrow-band", "reduced", "bandwidth_hz", "below", 6000.0, "Hz", _BAND + ".", 0.001),
    Limit("heavy-coding", "reduced", "holes_share", "above", 0.1, "share",
          "{value} % of the spectrum are empty amid sound, as after strong lossy coding (limit {limit} %).",
          100),
    Limit("low-bit-rate", "reduced", "bit_rate_kbps", "below", 24.0, "kbit/s",
          "The file is coded with {value} kbit/s (limit {limit})."),
    Limit("digital-silence", "reduced", "zero_share", "above", 0.3, "share",
          "{value} % of the recording are exact silence: edited or gated (limit {limit} %).", 100),
    Limit("dropouts", "reduced", "dropouts", "above", 0, "count",
          "The sound breaks off into exact silence {value} times (limit {limit}): lost pieces or cuts."),
    Limit("offset", "reduced", "dc_offset", "above", 0.02, "full scale",
          "The samples are off centre by {value} % of full scale (limit {limit} %).", 100),
)  # fmt: skip
"""The limits that docs/conditions.md shows the measurements for; of one code, the severest row first."""


@dataclass(frozen=True)
class Reason:
    """Why a verdict deserves less trust, or none.

    Attributes:
        code, severity, quantity, limit, unit: of the :class:`Limit` that was passed.
        sentence: for people.
        value: that was measured, in ``unit``.
    """

    code: str
    severity: Severity
    sentence: str
    quantity: str
    value: float
    limit: float
    unit: str

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and strings."""
        return asdict(self)


def reasons(conditions: Conditions, policy: Sequence[Limit] = POLICY) -> list[Reason]:
    """The limits that a recording passes: those that forbid a verdict first, then as in the policy.

    Of several rows with one code the first that applies speaks, so the severest should come first.
    """
    found: dict[str, Reason] = {}
    for row in policy:
        measured = getattr(conditions, row.quantity)
        if measured is None or row.code in found:
            continue
        value = abs(float(measured)) if row.quantity == "dc_offset" else float(measured)
        if value < row.limit if row.side == "below" else value > row.limit:
            found[row.code] = _reason(row, value)
    return sorted(found.values(), key=lambda reason: reason.severity != "inconclusive")


def _reason(row: Limit, value: float) -> Reason:
    sentence = row.sentence.format(value=f"{value * row.shown:.3g}", limit=f"{row.limit * row.shown:.3g}")
    return Reason(row.code, row.severity, sentence, row.quantity, value, row.limit, row.unit)
