"""How well conditions of a recording are measured: known damage against what the measures say.

    python benchmarks/conditions.py --corpus ../shared/corpus [--every 2]

Takes the bona fide clips of the dev and eval splits (every n-th), damages them in known ways, rounds to 16
bit and measures. The limits of the policy were set on clips of the train split (``--splits train``).
"""

from __future__ import annotations

import argparse
import csv
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sounds import pad, plucked
from voxfide.audio import load_audio, resample
from voxfide.augment import parse
from voxfide.augment.levels import active_power, mix_at_snr
from voxfide.conditions import POLICY, ConditionMeter, Conditions, SpeechDetector, reasons
from voxfide.types import SAMPLE_RATE, Float32Array

Damage = Callable[[Float32Array, int], Float32Array]
LIMITS = {(row.code, row.quantity, row.severity): row.limit for row in POLICY}


def load(corpus: Path, splits: list[str], label: str, every: int) -> list[Float32Array]:
    with (corpus / "manifest.csv").open(encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if r["split"] in splits and r["label"] == label]
    return [load_audio(corpus / row["path"]).waveform for row in rows[::every]]


def measure(signal: Float32Array) -> Conditions:
    meter = ConditionMeter()
    meter.push((np.rint(np.clip(signal, -1, 32767 / 32768) * 32768) / 32768).astype(np.float32))
    return meter.finish()


def augmented(specification: str) -> Damage:
    augmentation = parse(specification)
    return lambda signal, seed: augmentation(signal, SAMPLE_RATE, np.random.default_rng(seed))


def speech_shaped(snr: float) -> Damage:
    """Noise with the clip's own long-term spectrum: its spectrum with random phases."""

    def add(signal: Float32Array, seed: int) -> Float32Array:
        spectrum = np.fft.rfft(signal)
        phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, len(spectrum))
        noise = np.fft.irfft(np.abs(spectrum) * np.exp(1j * phases), len(signal))
        return mix_at_snr(signal.astype(np.float64), noise, snr, SAMPLE_RATE, "active").astype(np.float32)

    return add


def clip(signal: Float32Array, share: float) -> Float32Array:
    level = np.quantile(np.abs(signal), 1 - share)
    return np.clip(signal, -level, level)


def quantiles(values: list[float | None]) -> str:
    low, middle, high = np.percentile([0 if v is None else v for v in values], [5, 50, 95]).round(2)
    return f"{middle:g} ({low:g} … {high:g})"


def table(title: str, head: list[str], rows: list[list[str]]) -> None:
    print(f"\n**{title}**\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def flagged(found: list[Conditions], code: str) -> str:
    return f"{100 * np.mean([code in [r.code for r in reasons(c)] for c in found]):.0f} %"


def all_measured(clips: list[Float32Array], damage: Damage) -> list[Conditions]:
    return [measure(damage(signal, seed)) for seed, signal in enumerate(clips)]


def bands_and_coding(clips: list[Float32Array]) -> None:
    cases = [
        "gain:db=0", "bandlimit:rate=12000", "bandlimit:rate=11025", "bandlimit:rate=8000", "bandpass",
        *(f"codec:format=mp3,kbps={r}" for r in (128, 64, 32, 24, 16, 8)),
        "codec:format=aac,kbps=24", "codec:format=opus,kbps=16", "codec:format=opus,kbps=6",
        "codec:format=vorbis,kbps=16", "codec:format=mu-law", "codec:format=amr-nb", "codec:format=gsm",
        "codec:format=g722",
    ]  # fmt: skip
    rows = []
    for case in cases:
        found = all_measured(clips, augmented(case))
        rows.append([
            "as it is" if case.startswith("gain") else f"`{case}`",
            quantiles([c.bandwidth_hz for c in found]), flagged(found, "narrow-band"),
            quantiles([100 * (c.holes_share or 0) for c in found]), flagged(found, "heavy-coding"),
        ])  # fmt: skip
    head = ["damage", "bandwidth, Hz: median (5 … 95 %)", "narrow-band", "holes, %", "heavy-coding"]
    table("Bandwidth and coding", head, rows)


def noise(clips: list[Float32Array]) -> None:
    clean = [measure(signal).speech_seconds for signal in clips]
    rows = []
    for snr in (0, 5, 10, 15, 20, 30):
        for kind, damage in (
            ("white", augmented(f"noise:snr={snr},over=active")),
            ("speech-shaped", speech_shaped(snr)),
        ):
            found = all_measured(clips, damage)
            errors = [c.snr_db - snr for c in found if c.snr_db is not None]
            speech = sum(c.speech_seconds for c in found) / sum(clean)
            bandwidth = quantiles([c.bandwidth_hz for c in found])
            row = [f"{snr}", kind, quantiles(errors), flagged(found, "noise"), f"{speech:.2f}", bandwidth]
            rows.append(row)
    head = [
        "true SNR, dB",
        "noise",
        "estimate − truth, dB",
        "noise reason",
        "speech found / clean",
        "bandwidth",
    ]
    table("Noise", head, rows)


def clipping(clips: list[Float32Array]) -> None:
    mp3 = augmented("codec:format=mp3,kbps=64")
    routes: dict[str, Callable[[float], Damage]] = {
        "scaled by 0.6": lambda share: lambda signal, _: 0.6 * clip(signal, share),
        "clipped at 48 kHz, resampled": lambda share: (
            lambda signal, _: resample(clip(resample(signal, SAMPLE_RATE, 48000), share), 48000, SAMPLE_RATE)
        ),
        "then mp3 64k": lambda share: lambda signal, seed: mp3(clip(signal, share), seed),
    }
    exact = LIMITS["clipping", "flat_share", "reduced"]
    pile = LIMITS["clipping", "flat_top", "reduced"]
    rows = []
    for share in (0, 0.0005, 0.002, 0.01, 0.05):
        for route, make in routes.items():
            found = all_measured(clips, make(share))
            by_flat = np.mean([(c.flat_share or 0) > exact for c in found])
            by_top = np.mean([(c.flat_top or 0) > pile for c in found])
            rows.append([
                f"{100 * share:g} %", route, f"{100 * by_flat:.0f} %", f"{100 * by_top:.0f} %",
                quantiles([c.flat_top for c in found]),
            ])  # fmt: skip
    table("Clipping", ["clipped samples", "route", "by flat pieces", "by flat top", "flat top"], rows)


def false_alarms(corpus: Path, splits: list[str], every: int) -> None:
    codes = list(dict.fromkeys(row.code for row in POLICY))
    rows = []
    for label in ("bonafide", "spoof"):
        found = [measure(signal) for signal in load(corpus, splits, label, every)]
        counts = Counter(r.code for c in found for r in reasons(c))
        rows.append([f"{label}, {len(found)} clips", *(str(counts[code]) for code in codes)])
    table("Reasons given for the clips as they are", ["clips", *codes], rows)


def joined(clips: list[Float32Array], seed: int) -> Float32Array:
    """Four clips at one level, each with a pause of 0.3 to 0.9 s after it, as loud as its softest moments."""
    rng = np.random.default_rng(seed)
    parts = []
    for index in rng.choice(len(clips), 4, replace=False):
        clip = clips[index].astype(np.float64)
        clip *= 0.05 / np.sqrt(active_power(clip, SAMPLE_RATE))
        frames = clip[: len(clip) // 512 * 512].reshape(-1, 512)
        soft = max(1e-5, float(np.percentile(np.sqrt((frames**2).mean(axis=1)), 5)))
        parts += [clip, soft * rng.standard_normal(int(SAMPLE_RATE * rng.uniform(0.3, 0.9)))]
    return np.concatenate(parts).astype(np.float32)


def background(clips: list[Float32Array], n: int = 30) -> None:
    speech = [joined(clips, seed) for seed in range(n)]
    rng = np.random.default_rng(0)
    music = {"plucked chords": plucked, "held chords": pad}
    under = {name: [make(4.0, seed) for seed in range(6)] for name, make in music.items()}
    under["white noise"] = [rng.standard_normal(4 * SAMPLE_RATE).astype(np.float32) for _ in range(6)]

    def row(name: str, db: str, signals: list[Float32Array]) -> list[str]:
        found = [measure(signal) for signal in signals]
        known = [c for c in found if c.background_db is not None]
        return [
            name, db, f"{len(known)} of {len(found)}", quantiles([c.background_db for c in known]),
            quantiles([c.background_steadiness for c in known]), flagged(found, "background"),
        ]  # fmt: skip

    rows = [row("nothing, single clips", "-", clips), row("nothing, joined clips", "-", speech)]
    reverberant = augmented("reverb")
    rows.append(row("reverberation", "-", [reverberant(s, seed) for seed, s in enumerate(speech)]))
    for name, sounds in under.items():
        for snr in (30, 20, 10, 0):
            mixed = [
                mix_at_snr(
                    s.astype(np.float64), np.resize(sounds[i % 6], len(s)), snr, SAMPLE_RATE, "active"
                ).astype(np.float32)
                for i, s in enumerate(speech)
            ]
            rows.append(row(name, f"{snr}", mixed))
    head = ["under the speech", "SNR, dB", "told", "background_db", "steadiness", "background reason"]
    table("Sound outside speech", head, rows)


def no_speech() -> None:
    rng = np.random.default_rng(0)
    time_axis = np.arange(60 * SAMPLE_RATE) / SAMPLE_RATE
    notes = 220 * 2 ** (rng.integers(0, 12, 240) / 12)
    phase = np.cumsum(2 * np.pi * np.repeat(notes, SAMPLE_RATE // 4)) / SAMPLE_RATE
    pluck = np.exp(-6 * (time_axis % 0.25))
    sounds = {
        "white noise": 0.1 * rng.standard_normal(len(time_axis)),
        "hum, 50 Hz and harmonics": sum(
            0.05 / k * np.sin(2 * np.pi * 50 * k * time_axis) for k in range(1, 9)
        ),
        "plucked tones, 4 a second": 0.3 * pluck * sum(np.sin(k * phase) / k for k in range(1, 6)),
        "clicks, 2 a second": 0.5 * (np.arange(len(time_axis)) % 8000 == 0),
    }
    rows = [[name, f"{measure(s.astype(np.float32)).speech_seconds:.2f}"] for name, s in sounds.items()]
    table("Speech found in 60 s without any", ["sound", "seconds"], rows)


def speed(clips: list[Float32Array]) -> None:
    """Seconds of processor time a second of audio; silero-vad as its own package runs it for comparison."""
    import torch
    from silero_vad import get_speech_timestamps, load_silero_vad

    torch.set_num_threads(1)
    model, signal = load_silero_vad(), np.concatenate(clips)

    def ours() -> None:
        detector = SpeechDetector()
        detector.push(signal)
        detector.finish()

    rows = []
    for name, work in (
        ("all measures", lambda: measure(signal)),
        ("speech alone", ours),
        ("speech by the package silero-vad", lambda: get_speech_timestamps(torch.from_numpy(signal), model)),
    ):
        started = time.process_time()
        work()
        rows.append([name, f"{(time.process_time() - started) / (len(signal) / SAMPLE_RATE):.4f}"])
    table("Processor seconds a second of audio, one thread", ["what", "s"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--splits", default="dev,eval")
    parser.add_argument("--every", type=int, default=2)
    parser.add_argument("--only", choices=["background"], help="this table alone")
    options = parser.parse_args()
    splits = options.splits.split(",")
    clips = load(options.corpus, splits, "bonafide", options.every)
    print(f"{len(clips)} bona fide clips of {options.splits}, {sum(map(len, clips)) / SAMPLE_RATE:.0f} s")
    if options.only:
        background(clips)
        return
    bands_and_coding(clips)
    noise(clips)
    clipping(clips)
    false_alarms(options.corpus, splits, options.every)
    background(clips)
    no_speech()
    speed(clips)


if __name__ == "__main__":
    main()
