"""How many processor cores this process may use."""

from __future__ import annotations

import os

CORES_VARIABLE = "VOXFIDE_CORES"
"""Environment variable that states it, for processes that share a machine, such as those on a cluster."""


def usable_cores() -> int:
    """Cores of the affinity mask, or as many as ``$VOXFIDE_CORES`` says."""
    stated = os.environ.get(CORES_VARIABLE, "")
    if stated.isdecimal() and int(stated):
        return int(stated)
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
