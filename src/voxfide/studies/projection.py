"""Two-dimensional pictures of embeddings: t-SNE (van der Maaten and Hinton 2008) of a store.

The figures 1 and 2 of Combei et al. 2024 show time averages of a front-end's last layer so. The
embeddings are first reduced to their principal components, which keeps nearly all of their
neighbourhoods and makes the search for neighbours fast; the first two components, scaled down,
are also where t-SNE starts (Kobak and Berens 2019), so that the large picture does not depend on
chance. openTSNE (interpolation, Linderman et al. 2019) is used where it is installed, otherwise
scikit-learn (Barnes-Hut).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from voxfide.errors import StoreError, UsageError
from voxfide.types import Float32Array, Float64Array, IntArray

if TYPE_CHECKING:
    from voxfide.store import EmbeddingStore

PCA_DIM: Final = 50
"""Principal components that t-SNE sees."""

_MANY: Final = 5_000
"""Points from which several threads are worth starting."""

_CHUNK: Final = 4096
_START_SD: Final = 1e-4

Engine = Literal["opentsne", "sklearn"]


@dataclass(frozen=True)
class Projection:
    """A picture of ``n`` points.

    Attributes:
        points: ``(n, 2)``; the axes have no unit, and only neighbourhoods mean something.
        engine: the package that computed it, with its version.
        explained: share of the variance that the principal components keep, 0 to 1.
    """

    points: Float64Array
    engine: str
    explained: float


def available_engine() -> Engine:
    """openTSNE where it is installed, else scikit-learn."""
    return "opentsne" if find_spec("openTSNE") else "sklearn"


def project(
    embeddings: Float32Array,
    *,
    perplexity: float = 30.0,
    seed: int = 0,
    jobs: int | None = None,
    engine: Engine | None = None,
) -> Projection:
    """t-SNE of embeddings ``(n, dim)``.

    The same embeddings, seed and engine (of one version) give the same points, bit for bit.

    Args:
        perplexity: about how many neighbours a point has; under a third of the points.
        seed: of what is random in the engine.
        jobs: threads, by default the processors there are, where that pays; their number does not
            change the points.
        engine: by default :func:`available_engine`.

    Raises:
        UsageError: too few points for the perplexity, values that are not finite, or no
            variance at all.
    """
    check_perplexity(perplexity, len(embeddings))
    if not np.isfinite(embeddings).all():
        bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
        raise UsageError(f"embeddings of {bad.size} of {len(embeddings)} utterances are not finite")
    reduced, explained = principal_components(embeddings, min(PCA_DIM, embeddings.shape[1], len(embeddings)))
    start = reduced[:, :2] if reduced.shape[1] > 1 else np.column_stack([reduced, np.zeros(len(reduced))])
    start = start / start[:, 0].std() * _START_SD
    engine = engine or available_engine()
    jobs = jobs or (usable_processors() if len(embeddings) >= _MANY else 1)
    if engine == "opentsne":
        points = _opentsne(reduced, start, perplexity, seed, jobs)
    else:
        points = _sklearn(reduced, start, perplexity, seed, jobs)
    package = {"opentsne": "openTSNE", "sklearn": "scikit-learn"}[engine]
    return Projection(points, f"{package} {version(package)}", explained)


def usable_processors() -> int:
    """Processors that this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def check_perplexity(perplexity: float, n_points: int) -> None:
    """Refuses a perplexity that so few points cannot have.

    Raises:
        UsageError: it is below 1, or three times as much is not below the number of points.
    """
    if n_points < 5:
        raise UsageError(f"{n_points} utterances (expected 5 or more)")
    if not perplexity >= 1 or 3 * perplexity >= n_points:
        most = (n_points - 1) // 3
        raise UsageError(
            f"perplexity {perplexity:g} with {n_points:,} utterances (expected 1 to {most}, "
            "under a third of the utterances)"
        )


def principal_components(values: Float32Array, n: int) -> tuple[Float64Array, float]:
    """The first ``n`` principal components ``(rows, n)`` and their share of the variance.

    Of each component's two directions, the one is taken whose largest loading is positive.

    Raises:
        UsageError: all rows are equal.
    """
    from threadpoolctl import threadpool_limits

    # Exact, by the covariance; on one thread, since the number of threads changes last digits.
    with threadpool_limits(1):
        centre = values.mean(axis=0, dtype=np.float64)
        covariance = np.zeros((values.shape[1], values.shape[1]))
        for first in range(0, len(values), _CHUNK):
            chunk = values[first : first + _CHUNK] - centre
            covariance += chunk.T @ chunk
        variances, loadings = np.linalg.eigh(covariance)
        variances, loadings = variances[::-1], loadings[:, ::-1][:, :n]
        if not variances[0] > 0:
            raise UsageError(f"all {len(values):,} embeddings are equal: there is nothing to show")
        largest = np.abs(loadings).argmax(axis=0)
        loadings = loadings * np.sign(loadings[largest, np.arange(n)])
        reduced = np.concatenate(
            [(values[i : i + _CHUNK] - centre) @ loadings for i in range(0, len(values), _CHUNK)]
        )
    return reduced, float(variances[:n].sum() / variances[variances > 0].sum())


def _opentsne(
    reduced: Float64Array, start: Float64Array, perplexity: float, seed: int, jobs: int
) -> Float64Array:
    from openTSNE import TSNE
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    # Exact neighbours: openTSNE's own search is approximate, and depends on the number of threads.
    distances, neighbours = _neighbours(reduced, int(3 * perplexity), jobs)
    affinities = PerplexityBasedNN(
        knn_index=PrecomputedNeighbors(neighbours, distances), perplexity=perplexity, n_jobs=jobs
    )
    # openTSNE moves the points that it starts from.
    model = TSNE(initialization=start.copy(), random_state=seed, n_jobs=jobs)
    return np.asarray(model.fit(affinities=affinities), dtype=np.float64)


def _neighbours(points: Float64Array, n: int, jobs: int) -> tuple[Float64Array, IntArray]:
    """Distances and numbers ``(points, n)`` of each point's nearest others."""
    from sklearn.neighbors import NearestNeighbors
    from threadpoolctl import threadpool_limits

    with threadpool_limits(jobs):
        # Without an argument a point is not among its own neighbours, even where it has a twin.
        return NearestNeighbors(n_neighbors=n, algorithm="brute").fit(points).kneighbors()


def _sklearn(
    reduced: Float64Array, start: Float64Array, perplexity: float, seed: int, jobs: int
) -> Float64Array:
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    model = TSNE(perplexity=perplexity, init=start.astype(np.float32), random_state=seed, n_jobs=jobs)
    with threadpool_limits(jobs):
        return np.asarray(model.fit_transform(reduced), dtype=np.float64)


def layer_embeddings(store: EmbeddingStore, ids: Sequence[str], layer: int | None = None) -> Float32Array:
    """Time averages of one layer, ``(utterances, dim)``.

    Args:
        ids: all of them in the store.
        layer: 1 to the store's number of layers; ``None`` for the last.

    Raises:
        StoreError: the store holds full frames, or not all of these utterances.
        UsageError: it has no such layer.
    """
    info = store.info
    if info.pool == "none":
        raise StoreError(f"{store.folder}: holds full frames (expected a store made with --pool mean)")
    if layer is not None and not 1 <= layer <= info.n_layers:
        raise UsageError(f"{store.folder}: no layer {layer} (expected 1 to {info.n_layers})")
    place = (layer or info.n_layers) - 1
    out = np.empty((len(ids), info.dim), dtype=np.float32)
    for i, utterance_id in enumerate(ids):
        out[i] = store.features(utterance_id)[place]
    return out
