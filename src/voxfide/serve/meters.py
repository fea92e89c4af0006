"""Counts of what a service does, in Prometheus' text format (version 0.0.4)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
LATENCY_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
BATCH_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64)

Labels = tuple[str, ...]


class Counter:
    """A sum that only grows, one for each combination of label values."""

    kind = "counter"

    def __init__(self, name: str, text: str, labels: Sequence[str] = ()) -> None:
        self.name, self.text, self.labels = name, text, tuple(labels)
        self._values: dict[Labels, float] = {} if labels else {(): 0.0}
        self._lock = threading.Lock()

    def add(self, amount: float = 1.0, *values: str) -> None:
        """Adds to the sum of these label values."""
        with self._lock:
            self._values[values] = self._values.get(values, 0.0) + amount

    def value(self, *values: str) -> float:
        """The sum so far."""
        with self._lock:
            return self._values.get(values, 0.0)

    def samples(self) -> list[str]:
        """Its lines."""
        with self._lock:
            items = sorted(self._values.items())
        return [f"{self.name}{_labels(self.labels, values)} {value:.17g}" for values, value in items]


class Gauge:
    """A value that is asked for when it is shown."""

    kind = "gauge"

    def __init__(self, name: str, text: str, read: Callable[[], float]) -> None:
        self.name, self.text, self._read = name, text, read

    def samples(self) -> list[str]:
        """Its one line."""
        return [f"{self.name} {self._read():.17g}"]


class Histogram:
    """Observations counted into buckets, each of which holds those before it."""

    kind = "histogram"

    def __init__(self, name: str, text: str, edges: Sequence[float], labels: Sequence[str] = ()) -> None:
        self.name, self.text, self.edges, self.labels = name, text, tuple(edges), tuple(labels)
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}
        self._lock = threading.Lock()

    def observe(self, value: float, *values: str) -> None:
        """Counts one observation."""
        with self._lock:
            counts = self._counts.setdefault(values, [0] * (len(self.edges) + 1))
            place = sum(value > edge for edge in self.edges)
            counts[place] += 1
            self._sums[values] = self._sums.get(values, 0.0) + value

    def samples(self) -> list[str]:
        """Its lines."""
        with self._lock:
            items = sorted((values, list(counts)) for values, counts in self._counts.items())
            sums = dict(self._sums)
        lines = []
        for values, counts in items:
            total = 0
            for edge, count in zip([*map(_number, self.edges), "+Inf"], counts, strict=True):
                total += count
                labels = _labels((*self.labels, "le"), (*values, edge))
                lines.append(f"{self.name}_bucket{labels} {total}")
            lines.append(f"{self.name}_sum{_labels(self.labels, values)} {sums[values]:.17g}")
            lines.append(f"{self.name}_count{_labels(self.labels, values)} {total}")
        return lines


class Meters:
    """All that a service counts.

    Args:
        pending: asked for the number of requests that are accepted and not answered.
        streams: asked for the number of live streams.
    """

    def __init__(self, pending: Callable[[], float], streams: Callable[[], float]) -> None:
        self.requests = Counter(
            "voxfide_requests_total", "HTTP requests answered.", ("method", "route", "status")
        )
        self.latency = Histogram(
            "voxfide_request_seconds", "From a request to the end of its answer.", LATENCY_BUCKETS, ("route",)
        )
        self.audio = Counter("voxfide_audio_seconds_total", "Seconds of audio analysed.")
        self.verdicts = Counter("voxfide_verdicts_total", "Recordings by verdict.", ("verdict",))
        self.crashes = Counter("voxfide_decoder_crashes_total", "Decoder processes that died at work.")
        self.batches = Histogram("voxfide_batch_windows", "Windows scored together.", BATCH_BUCKETS)
        self._all: list[Counter | Gauge | Histogram] = [
            self.requests,
            self.latency,
            Gauge("voxfide_pending_requests", "Requests accepted and not yet answered.", pending),
            Gauge("voxfide_live_streams", "Live streams that are open.", streams),
            self.audio,
            self.verdicts,
            self.crashes,
            self.batches,
        ]

    def render(self) -> str:
        """The page that Prometheus reads."""
        lines = []
        for meter in self._all:
            lines += [f"# HELP {meter.name} {meter.text}", f"# TYPE {meter.name} {meter.kind}"]
            lines += meter.samples()
        return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return f"{value:g}"


def _labels(names: Sequence[str], values: Sequence[str]) -> str:
    if not names:
        return ""
    pairs = zip(names, values, strict=True)
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in pairs) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
