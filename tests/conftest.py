"""Shared test facts: where reference material lies, and what to say where it does not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# Before torch is imported: tests run side by side, one thread each.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

SHARED = Path(os.environ.get("VOXFIDE_SHARED", Path(__file__).resolve().parents[2] / "shared"))
"""Reference outputs and a small corpus beside the checkout; a user's clone has none."""

GOLDEN = SHARED / "golden"
CORPUS = SHARED / "corpus"

settings.register_profile(
    "voxfide",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("voxfide")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One thread of torch for the tests of a module, whatever the environment says."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def needs_shared(sub: str) -> pytest.MarkDecorator:
    """Skips a test, saying so, where ``shared/<sub>`` does not exist."""
    return pytest.mark.skipif(
        not (SHARED / sub).exists(), reason=f"reference material shared/{sub} is not beside this checkout"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Groups, which one process runs in a row, begin first: at the end the other processes would wait."""
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)
