"""The simulation of docs/scaling.md against cases that can be reckoned by hand."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def scaling():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import scaling

        yield scaling
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def costs(scaling):
    return scaling.Costs(
        tasks={"score": scaling.Task(0.05, 0.0, 40.0)}, decode={"flac": 0.001}, open_s=0.0,
        bytes_per_s={"flac": 16_000.0}, start_s=0.0, shard_s=0.0, row_s=0.0, write_rate=1e12,
    )  # fmt: skip


def test_bound_by_cores_it_takes_the_sum_of_the_work(scaling, costs):
    layout = scaling.Layout(nodes=2, cores=8, mtbf_hours=1e9)
    n = 400_000
    found = scaling.simulate(n, costs.tasks["score"], costs, layout)
    work = n * scaling.MEAN_SECONDS * (0.05 + 0.001)
    assert found.bottleneck == "cores"
    assert found.seconds == pytest.approx(work / 16, rel=0.02)
    assert found.core_hours == pytest.approx(work / 3600, rel=0.02)
    assert found.read_bytes == pytest.approx(n * scaling.MEAN_SECONDS * 16_000, rel=0.01)
    assert found.written_bytes == pytest.approx(n * 40.0)


def test_twice_the_nodes_take_half_the_time(scaling, costs):
    one, two = (
        scaling.simulate(1e6, costs.tasks["score"], costs, scaling.Layout(nodes, 16, mtbf_hours=1e9))
        for nodes in (1, 2)
    )
    assert one.seconds / two.seconds == pytest.approx(2.0, rel=0.02)


def test_single_files_are_bound_by_what_the_storage_opens_and_shards_are_not(scaling, costs):
    layout = scaling.Layout(nodes=16, cores=64, opens=1000, mtbf_hours=1e9)
    files = scaling.simulate(1e6, costs.tasks["score"], costs, layout)
    packed = scaling.simulate(1e6, costs.tasks["score"], costs, replace(layout, packed=True))
    assert files.bottleneck == "storage"
    assert files.seconds == pytest.approx(1000, rel=0.01)
    assert packed.seconds < 0.3 * files.seconds


def test_results_that_one_driver_cannot_write_bind_it_until_there_are_more(scaling, costs):
    task, layout = scaling.Task(0.0001, 0.0, 100_000.0), scaling.Layout(8, 64, storage=1e12, packed=True)
    slow = replace(costs, write_rate=1e8)
    one = scaling.simulate(1e6, task, slow, layout)
    eight = scaling.simulate(1e6, task, slow, replace(layout, drivers=8))
    assert one.bottleneck == "driver"
    assert one.seconds == pytest.approx(1000, rel=0.02)
    assert eight.seconds == pytest.approx(one.seconds / 8, rel=0.05)
    assert eight.written_bytes == pytest.approx(one.written_bytes)


def test_failures_cost_their_shards_and_lose_nothing(scaling, costs):
    calm = scaling.simulate(400_000, costs.tasks["score"], costs, scaling.Layout(8, 4, mtbf_hours=1e9))
    rough = scaling.simulate(400_000, costs.tasks["score"], costs, scaling.Layout(8, 4, mtbf_hours=0.5))
    assert calm.redone == 0
    assert rough.redone > 0
    assert rough.seconds > calm.seconds
    assert rough.written_bytes == pytest.approx(calm.written_bytes)


def test_graphics_processors_wait_for_decoding_on_too_few_cores(scaling, costs):
    task = scaling.Task(0.0, 1e9, 40.0)
    layout = scaling.Layout(1, 8, 8, 1e12, 1e12, packed=True)
    slow = replace(costs, decode={"flac": 0.05})
    found = scaling.simulate(1e5, task, slow, layout)
    assert found.bottleneck == "cores"
    assert found.busy["GPUs"] < 0.1
    assert found.seconds == pytest.approx(1e5 * 4 * 0.05 / 8, rel=0.05)


def test_the_measured_costs_can_be_read(scaling):
    costs = scaling.Costs.read(BENCHMARKS / "unit_costs.json")
    assert costs.tasks["score, bundled"].core_s > 0
    assert set(costs.decode) == set(costs.bytes_per_s)
