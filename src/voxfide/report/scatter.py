"""A scatter plot to explore in the page: hovering names a point, a click plays its recording.

The points of all panels are the same utterances, so that a point under the pointer is marked in
every panel. Recordings are either carried in the page, as short clips, or linked by a path
relative to the page; the page's content security policy then allows media beside it, and still
no other host.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from voxfide.report.categories import Colouring
from voxfide.report.markup import escape, inline, printable
from voxfide.types import Float64Array, IntArray

_GRID = 65_535
"""Coordinates are kept as 16-bit numbers: finer than any screen."""


@dataclass(frozen=True)
class Scatter:
    """A block of the page.

    Attributes:
        names: ``(points,)`` utterance ids.
        panels: title → ``(points, 2)``.
        colourings: at least one; the reader chooses.
        caption: below the panels.
        clips: number of a point → MP3 bytes carried in the page.
        links: ``(points,)`` URL of each recording relative to the page, or ``None``; empty: no links.
    """

    names: Sequence[str]
    panels: Mapping[str, Float64Array]
    colourings: Sequence[Colouring]
    caption: str
    clips: Mapping[int, bytes] = field(default_factory=dict)
    links: Sequence[str | None] = ()

    @property
    def has_links(self) -> bool:
        """Whether the page must be allowed to play files beside it."""
        return any(self.links)

    def to_html(self) -> str:
        """Controls, a canvas for each panel, a player, and the points as JSON for the page's script."""
        options = "".join(
            f'<option value="{i}">{escape(c.name)}</option>' for i, c in enumerate(self.colourings)
        )
        what = f"Scatter plot of {len(self.names):,} utterances: "
        panels = "".join(
            f'<div class="panel"><p>{escape(title)}</p>'
            f'<canvas role="img" aria-label="{escape(what + title)}"></canvas></div>'
            for title in self.panels
        )
        data = json.dumps(self._data(), ensure_ascii=False, separators=(",", ":"))
        # Nothing in the data may end the element that holds it.
        data = data.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
        return (
            '<div class="scatter"><div class="controls"><label>Colour by '
            f"<select>{options}</select></label>"
            '<button type="button" data-zoom="1.5" aria-label="Zoom in">+</button>'
            '<button type="button" data-zoom="0.6667" aria-label="Zoom out">−</button>'
            '<button type="button" data-zoom="0">Whole picture</button></div>'
            f'<div class="panels">{panels}</div><ul class="legend"></ul>'
            '<p class="now" aria-live="polite">Point at an utterance; click to play it.</p>'
            '<audio controls preload="none"></audio>'
            "<noscript><p>This picture needs scripts; its figures and coordinates are also files beside "
            "the page.</p></noscript>"
            f'<p class="caption">{inline(self.caption)}</p>'
            f'<script type="application/json">{data}</script></div>'
        )

    def _data(self) -> dict[str, Any]:
        # In an order without meaning, so that no category is drawn over all others.
        order = np.random.default_rng(0).permutation(len(self.names))
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        folders, codes, files = _divided([self.links[i] for i in order]) if self.has_links else ([], None, [])
        return {
            "names": [printable(self.names[i]) for i in order],
            "panels": [
                {"x": _packed(_quantised(p[order], 0)), "y": _packed(_quantised(p[order], 1))}
                for p in self.panels.values()
            ],
            "colourings": [
                {
                    "name": c.name,
                    "categories": [
                        {"name": k.name, "colour": k.colour, "mark": k.mark, "count": int(n)}
                        for k, n in zip(c.categories, c.counts(), strict=True)
                    ],
                    "codes": _packed(c.codes[order]),
                }
                for c in self.colourings
            ],
            "clips": {
                str(int(place[i])): base64.b64encode(clip).decode("ascii") for i, clip in self.clips.items()
            },
            "folders": folders,
            "folder": None if codes is None else _packed(codes),
            "files": files,
        }


def _quantised(points: Float64Array, axis: int) -> IntArray:
    """One coordinate on a grid that spans the larger extent of both, so that proportions hold."""
    low, high = points.min(axis=0), points.max(axis=0)
    extent = float((high - low).max()) or 1.0
    centred = (points[:, axis] - (low[axis] + high[axis]) / 2) / extent + 0.5
    return np.rint(np.clip(centred, 0, 1) * _GRID).astype(np.int64)


def _packed(numbers: IntArray) -> str:
    """Numbers below 65,536 as base64 of little-endian 16-bit integers."""
    return base64.b64encode(numbers.astype("<u2").tobytes()).decode("ascii")


def _divided(links: Sequence[str | None]) -> tuple[list[str], IntArray, list[str]]:
    """Links as different folders, the folder of each point, and file names; empty where there is none."""
    folders: dict[str, int] = {}
    codes, files = [], []
    for link in links:
        folder, _, name = (link or "").rpartition("/")
        codes.append(folders.setdefault(folder, len(folders)) if len(folders) <= _GRID else 0)
        files.append(name)
    return list(folders), np.array(codes, dtype=np.int64), files
