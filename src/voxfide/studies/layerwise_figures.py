"""The layer-wise study's figures, made of its rows: heat maps of weights, EER and speed over depth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from voxfide.report.figures_panels import (
    Curve,
    CurvePanel,
    HeatPanel,
    curve_panels_figure,
    heat_panels_figure,
)
from voxfide.studies.layerwise_rows import EerRow, SpeedRow, WeightRow
from voxfide.studies.layerwise_tables import EerGroup, in_order
from voxfide.studies.published import PublishedWeights
from voxfide.studies.tables import mean_sd
from voxfide.types import Float64Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

MINMAX_LABEL: Final = "min-max scaled weight"
SOFTMAX_LABEL: Final = "softmax weight"
SHARE_LABEL: Final = "weight ÷ equal share"
_LAYERS: Final = "number of layers"


class WeightVector(NamedTuple):
    """The layer weights of one head: ``weights (n_layers,)``, the mean over its seeds."""

    train_set: str
    size: str
    frontend: str
    backend: str
    weights: Float64Array

    @property
    def n_layers(self) -> int:
        return self.weights.size


def mean_weights(rows: Sequence[WeightRow]) -> list[WeightVector]:
    """Softmax weights averaged over seeds, one vector a head in order of appearance."""
    found: defaultdict[tuple[str, str, str, str, int], defaultdict[int, list[float]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for row in rows:
        found[row.train_set, row.size, row.frontend, row.backend, row.n_layers][row.layer].append(row.weight)
    return [
        WeightVector(
            *key[:4], np.array([fmean(layers[i]) if i in layers else np.nan for i in range(1, key[4] + 1)])
        )
        for key, layers in found.items()
    ]


def published_vectors(weights: Sequence[PublishedWeights]) -> list[WeightVector]:
    """The paper's weights, which are min-max scaled already."""
    return [WeightVector(w.train_set, w.size, w.frontend, w.backend, np.array(w.weights)) for w in weights]


def min_max(weights: Float64Array) -> Float64Array:
    """``(n,)`` scaled so that the least is 0 and the greatest 1; NaN where all are equal."""
    low, high = np.min(weights), np.max(weights)
    return (weights - low) / (high - low) if high > low else np.full_like(weights, np.nan)


def deepest(vectors: Sequence[WeightVector]) -> list[WeightVector]:
    """For each size and front-end, those of its greatest number of layers."""
    most: dict[tuple[str, str], int] = {}
    for v in vectors:
        most[v.size, v.frontend] = max(most.get((v.size, v.frontend), 0), v.n_layers)
    return [v for v in vectors if v.n_layers == most[v.size, v.frontend]]


def by_training_set(vectors: Sequence[WeightVector], *, scaled: bool) -> MatplotlibFigure:
    """Heat maps as the paper's: back-end × front-end, rows training sets, columns layers.

    Args:
        vectors: of one size and, for each front-end, one number of layers.
        scaled: min-max scale each row; otherwise show the weights as they are.

    Raises:
        UsageError: nothing can be drawn, as where every head has one layer only.
    """
    return _heat_maps(
        vectors,
        lambda v: v.train_set,
        (lambda v: min_max(v.weights)) if scaled else (lambda v: v.weights),
        MINMAX_LABEL if scaled else SOFTMAX_LABEL,
    )


def by_depth(vectors: Sequence[WeightVector], *, scaled: bool) -> MatplotlibFigure:
    """Heat maps of one size and training set: back-end × front-end, rows numbers of layers.

    Args:
        vectors: of one size and training set.
        scaled: min-max scale each row; otherwise show the weights times the number of layers,
            which makes rows comparable: 1 is an equal share.

    Raises:
        UsageError: nothing can be drawn, as where every head has one layer only.
    """
    ordered = sorted(vectors, key=lambda v: v.n_layers)
    return _heat_maps(
        ordered,
        lambda v: f"n = {v.n_layers}",
        (lambda v: min_max(v.weights)) if scaled else (lambda v: v.weights * v.n_layers),
        MINMAX_LABEL if scaled else SHARE_LABEL,
    )


def _heat_maps(
    vectors: Sequence[WeightVector],
    row_of: Callable[[WeightVector], str],
    value_of: Callable[[WeightVector], Float64Array],
    label: str,
) -> MatplotlibFigure:
    frontends = in_order(v.frontend for v in vectors)
    backends = in_order(v.backend for v in vectors)
    rows = in_order(map(row_of, vectors))
    panels = []
    for backend in backends:
        for frontend in frontends:
            own = [v for v in vectors if (v.frontend, v.backend) == (frontend, backend)]
            depth = max((v.n_layers for v in vectors if v.frontend == frontend), default=1)
            values = np.full((len(rows), depth), np.nan)
            for v in own:
                values[rows.index(row_of(v)), : v.n_layers] = value_of(v)
            panels.append(HeatPanel(f"{frontend}, {backend}", values, rows, range(1, depth + 1)))
    return heat_panels_figure(
        panels,
        label=label,
        xlabel="layer",
        across=len(frontends),
        limits=(0.0, 1.0) if label == MINMAX_LABEL else None,
    )


def eer_by_depth(group: EerGroup) -> MatplotlibFigure:
    """EER against the number of layers, one panel an evaluation set.

    Bars are ± one standard deviation over seeds, or a single seed's confidence interval.
    """
    frontends = in_order(head.frontend for head in group.heads)
    backends = in_order(head.backend for head in group.heads)
    panels = []
    for name in group.eval_sets:
        curves = []
        for f, frontend in enumerate(frontends):
            for b, backend in enumerate(backends):
                own = [
                    r for r in group.rows if (r.eval_set, r.frontend, r.backend) == (name, frontend, backend)
                ]
                if own:
                    curves.append(_eer_curve(own, f"{frontend}, {backend}", f, b))
        panels.append(CurvePanel(name, curves))
    return curve_panels_figure(panels, xlabel=_LAYERS, ylabel="EER (%)", across=_across(len(panels)))


def _across(panels: int) -> int:
    """Panels in a row, three or four, whichever takes fewer rows and then leaves fewer gaps."""
    return min((3, 4), key=lambda n: (-(-panels // n), -panels % n)) if panels > 2 else panels


def _eer_curve(rows: Sequence[EerRow], name: str, colour: int, dash: int) -> Curve:
    by_depth: defaultdict[int, list[EerRow]] = defaultdict(list)
    for row in rows:
        by_depth[row.n_layers].append(row)
    points = []
    for n_layers in sorted(by_depth):
        of_depth = by_depth[n_layers]
        spread = mean_sd(row.eer_percent for row in of_depth)
        low, high = (np.nan, np.nan)
        if spread.sd is not None:
            low, high = max(0.0, spread.value - spread.sd), spread.value + spread.sd
        elif of_depth[0].low is not None and of_depth[0].high is not None:
            low, high = of_depth[0].low, of_depth[0].high
        points.append((n_layers, spread.value, low, high))
    x, y, low_ends, high_ends = (np.array(column, dtype=np.float64) for column in zip(*points, strict=True))
    return Curve(name, x, y, low_ends, high_ends, colour, dash)


def speed_by_depth(rows: Sequence[SpeedRow]) -> MatplotlibFigure:
    """Speed for each batch size, and parameters, against the number of layers."""
    models = in_order((row.frontend, row.size) for row in rows)
    sizes = in_order(size for _, size in models)
    frontends = in_order(frontend for frontend, _ in models)

    def curves(rows: Sequence[SpeedRow], value: Callable[[SpeedRow], float]) -> list[Curve]:
        drawn = []
        for frontend, size in models:
            own = sorted(
                (r for r in rows if (r.frontend, r.size) == (frontend, size)), key=lambda r: r.n_layers
            )
            if own:
                x = np.array([row.n_layers for row in own], dtype=np.float64)
                y = np.array([value(row) for row in own], dtype=np.float64)
                colour, dash = frontends.index(frontend), sizes.index(size)
                drawn.append(Curve(f"{frontend}, {size}", x, y, colour=colour, dash=dash))
        return drawn

    panels = []
    for batch_size in in_order(row.batch_size for row in rows):
        of_batch = [row for row in rows if row.batch_size == batch_size]
        speed = curves(of_batch, lambda row: row.x_realtime)
        panels.append(CurvePanel(f"Speed, batch {batch_size}", speed, "× real time"))
    first = {(row.frontend, row.size, row.n_layers): row for row in reversed(rows)}
    millions = curves(list(first.values()), lambda row: row.n_parameters / 1e6)
    panels.append(CurvePanel("Parameters", millions, "millions"))
    return curve_panels_figure(panels, xlabel=_LAYERS, ylabel="", across=min(len(panels), 3))
