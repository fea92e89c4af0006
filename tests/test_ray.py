"""The engine on Ray: the same results as in process, whatever is killed.

The cluster has two nodes of one core on this machine; nothing is asserted about time.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from command_line import run_here, start, stop_when
from ray_workers import Squares, lost
from small_corpus import JUNK, write_corpus
from test_scoring import make_detector
from voxfide.cores import usable_cores
from voxfide.corpora.check import check_audio
from voxfide.embeddings import EmbeddingStore, embed
from voxfide.engine import LocalEngine
from voxfide.engine_ray import RayEngine
from voxfide.errors import CheckpointError, MissingDependencyError, UsageError
from voxfide.extraction import Extractor
from voxfide.frontends import create_frontend
from voxfide.manifest import Manifest
from voxfide.named import FrontendExtractor, NamedDetector
from voxfide.scores import read_scores

pytest.importorskip("ray", reason="Ray is not installed")

HEALTH_CHECK = {"period_ms": 500, "timeout_ms": 2000, "failure_threshold": 6}

pytestmark = pytest.mark.xdist_group("ray")


@pytest.fixture(scope="module")
def cluster() -> Iterator[object]:
    """Two nodes; this process is connected to the first."""
    import ray
    from ray.cluster_utils import Cluster

    # A dead node is noticed within seconds.
    health = {f"health_check_{name}": value for name, value in HEALTH_CHECK.items()}
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": health}
    started = Cluster(initialize_head=True, head_node_args=head)
    started.add_node(num_cpus=1)
    ray.init(started.address, log_to_driver=False, logging_level="ERROR")
    yield started
    ray.shutdown()
    started.shutdown()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """The manifest of 80 utterances of 12 files, of which one is junk and one is gone."""
    folder = tmp_path_factory.mktemp("corpus") / "c"
    small = Manifest.read(write_corpus(folder, 12))
    paths = small.audio_paths()
    paths[3].write_bytes(JUNK)
    paths[8].unlink()
    n = 80
    columns = {
        "utterance_id": [f"u{i:03d}" for i in range(n)],
        "path": [small.column("path")[i % 12] for i in range(n)],
        "label": ["bonafide", "spoof"] * (n // 2),
    }
    return Manifest.from_columns(columns, folder).write(folder / "many.csv")


@pytest.fixture
def few_rows(monkeypatch):
    """Shards of 8 rows, 20 files or 4 recordings, for jobs of this process."""
    from voxfide.scoring import score_manifest

    for job in (embed, score_manifest):
        monkeypatch.setitem(job.__kwdefaults__, "shard_rows", 8)
    monkeypatch.setattr("voxfide.corpora.check._SHARD", 20)


def numbers(engine, factory, n: int = 24, size: int = 4) -> list[tuple[int, object]]:
    shards = [list(range(first, first + size)) for first in range(0, n, size)]
    return list(engine.map(factory, shards, lost))


def squares(n: int) -> list[tuple[int, object]]:
    return [(number, number**2) for number in range(n)]


# --- the same results


def test_scores_and_failures_are_those_of_this_process(
    cluster, corpus, few_rows, tmp_path, monkeypatch, capsys
):
    make_detector(0).save(tmp_path / "d")
    monkeypatch.chdir(corpus.parent)  # paths of the manifest and the detector count from here, on actors too
    command = ("score", os.path.relpath(tmp_path / "d"), corpus.name, "--device", "cpu", "-o")
    codes = [
        run_here(monkeypatch, *command, tmp_path / "here.tsv"),
        run_here(monkeypatch, *command, tmp_path / "there.tsv", "--engine", "ray"),
    ]
    assert codes == [1, 1]
    said = capsys.readouterr()
    assert said.out == "".join(f"{tmp_path / name}.tsv: 67 scores\n" for name in ("here", "there"))
    assert "score: 80 done" in said.err
    for suffix in ("", ".failures.csv"):
        here, there = (tmp_path / f"{name}.tsv{suffix}" for name in ("here", "there"))
        assert here.read_bytes() == there.read_bytes()
    facts = [json.loads((tmp_path / f"{name}.tsv.json").read_text()) for name in ("here", "there")]
    assert facts[0]["detector"] == facts[1]["detector"]
    assert not (tmp_path / "there.tsv.parts").exists()


@dataclass
class Mortal(Extractor):
    """Kills its process in the middle of a shard, the first time that one gives anything."""

    mark: Path | None = None

    def outcomes(self, rows):
        for outcome in super().outcomes(rows):
            yield outcome
            try:
                self.mark.touch(exist_ok=False)
            except FileExistsError:
                continue
            self.mark.write_text(f"{os.getpid()} {rows[0].utterance_id}")
            os.kill(os.getpid(), signal.SIGKILL)


def test_features_are_the_same_though_an_actor_is_killed(cluster, corpus, tmp_path, caplog, monkeypatch):
    import ray.data

    frontend = create_frontend("lfcc")
    manifest = Manifest.read(corpus)
    options = {"pool": "none", "workers": 0, "batch_seconds": 0.5}  # several batches a shard
    here = embed(
        manifest,
        frontend,
        tmp_path / "here",
        pool="none",
        make_extractor=lambda: Extractor(frontend, **options),
        shard_rows=8,
    )
    # Every piece travels by itself: those before the kill have arrived when the shard is redone.
    monkeypatch.setattr(ray.data.DataContext.get_current(), "target_max_block_size", 1)
    seen: list[int] = []
    there = embed(
        manifest,
        frontend,
        tmp_path / "there",
        pool="none",
        engine=RayEngine(),
        make_extractor=lambda: Mortal(frontend, **options, mark=tmp_path / "mark"),
        shard_rows=8,
        progress=lambda utterances, seconds: seen.append(utterances),
    )
    assert int((tmp_path / "mark").read_text().split()[0]) != os.getpid()
    assert sum(seen) == 80
    assert there.n_new == 67
    assert "a Ray actor died: what it was working on was done again" in caplog.text
    assert sorted(there.store.ids) == sorted(here.store.ids)
    for name in here.store.ids:
        assert np.array_equal(there.store.features(name), here.store.features(name))
        assert there.store.metadata(name) == here.store.metadata(name)
    assert there.failures == here.failures
    assert len(there.failures) == 13
    tables = [(tmp_path / name / "failures.csv").read_bytes() for name in ("here", "there")]
    assert tables[0] == tables[1]
    assert embed(manifest, frontend, tmp_path / "there", pool="none", engine=RayEngine()).n_new == 0


def test_analyses_are_printed_in_order_and_the_same(cluster, corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("voxfide.analysis.batch.BLOCK", 4)
    monkeypatch.setattr("voxfide.analysis.cluster.BLOCK", 4)
    files = sorted((corpus.parent / "audio").iterdir())
    command = ("detect", *files, tmp_path / "gone.wav", "--json", "--device", "cpu")
    assert run_here(monkeypatch, *command) == 1
    here = capsys.readouterr()
    assert run_here(monkeypatch, *command, "--engine", "ray") == 1
    there = capsys.readouterr()
    assert there.out == here.out
    assert [json.loads(line)["path"] for line in there.out.splitlines()][-1] == str(tmp_path / "gone.wav")
    assert len(there.out.splitlines()) == 12


def test_the_table_of_audio_is_the_same(cluster, corpus, few_rows, tmp_path):
    manifest = Manifest.read(corpus)
    seen: list[int] = []
    here = check_audio(manifest, tmp_path / "here.csv", workers=0)
    there = check_audio(
        manifest, tmp_path / "there.csv", engine=RayEngine(), workers=0, progress=lambda n, s: seen.append(n)
    )
    assert here == there
    assert (tmp_path / "here.csv").read_bytes() == (tmp_path / "there.csv").read_bytes()
    assert (sum(seen), here.n_unreadable) == (80, 13)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["here.csv", "there.csv"]


# --- what goes wrong


def test_what_kills_its_process_is_lost_alone(cluster, tmp_path, caplog):
    found = dict(numbers(RayEngine(), Squares(tmp_path, deadly=frozenset({9}))))
    assert found.pop(9) == "it killed the process that analysed it 2 times"
    assert sorted(found.items()) == [pair for pair in squares(24) if pair[0] != 9]
    assert len(list(tmp_path.glob("9.*"))) == 4  # twice in its shard, twice alone
    assert "their 4 items are tried one by one" in caplog.text


def test_errors_are_raised_as_they_are(cluster, tmp_path):
    with pytest.raises(UsageError, match="5 is not wanted") as ours:
        numbers(RayEngine(), Squares(tmp_path, wrong=frozenset({5})))
    assert str(ours.value) == "5 is not wanted"
    with pytest.raises(ZeroDivisionError, match="5 is broken") as found:
        numbers(RayEngine(), Squares(tmp_path, broken=frozenset({5})))
    assert "ray_workers.py" in "".join(found.value.__notes__)


def test_what_cannot_be_sent_is_refused(cluster, tmp_path):
    lock = threading.Lock()
    with pytest.raises(UsageError, match="cannot be sent to other processes"):
        numbers(RayEngine(), lambda: lock)


def test_nodes_have_to_have_this_version(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr("voxfide.engine_ray.__version__", "9.9")
    with pytest.raises(UsageError, match=r"this process 9\.9 \(expected the same version on every node\)"):
        numbers(RayEngine(), Squares(tmp_path))


def test_a_model_that_kills_whoever_loads_it_ends_the_job(cluster, tmp_path):
    with pytest.raises(UsageError, match="died 2 times while it loaded the model"):
        numbers(RayEngine(actors=1), Squares(tmp_path, opens=False))


def test_an_actor_that_no_node_has_room_for_is_refused(cluster, tmp_path):
    with pytest.raises(UsageError, match="no node of the Ray cluster has room for an actor of 64 CPU"):
        numbers(RayEngine(actor_cpus=64), Squares(tmp_path))
    with pytest.raises(UsageError, match="1 CPU and 1 GPU"):
        numbers(RayEngine(actor_gpus=1), Squares(tmp_path))


def test_an_actor_uses_its_own_cores(cluster, tmp_path):
    found = numbers(RayEngine(actor_cpus=0.5), Squares(tmp_path, tells="VOXFIDE_CORES"), 2)
    assert {value for _, value in found} == {"1"}


def test_a_job_that_is_left_ends_its_actors(cluster, tmp_path):
    pieces = RayEngine().map(Squares(tmp_path, 0.05), [[n] for n in range(100)], lost)
    next(pieces)
    pieces.close()
    begun = len(list(tmp_path.glob("[0-9]*.*")))
    assert begun < 50
    # The next job gets the cores at once, and nobody goes on with the first.
    assert sorted(numbers(RayEngine(), Squares(tmp_path))) == squares(24)


def test_a_node_may_be_killed(cluster, tmp_path):
    """The last of the cluster: one of its nodes is gone afterwards."""
    import ray

    own = ray.get_runtime_context().get_node_id()
    other = next(n for n in (cluster.head_node, *cluster.worker_nodes) if n.node_id != own)
    found = []
    for piece in RayEngine().map(
        Squares(tmp_path, 0.1), [list(range(i, i + 4)) for i in range(0, 48, 4)], lost
    ):
        found.append(piece)
        if len(found) == 10:
            os.kill(other.all_processes["raylet"][0].process.pid, signal.SIGKILL)
    assert sorted(set(found)) == squares(48)


def test_gpus_are_given_to_actors(cluster, tmp_path):
    """A node that says it has a GPU; nothing here asks whether it is true."""
    cluster.add_node(num_cpus=1, num_gpus=1)
    factory = Squares(tmp_path, tells="CUDA_VISIBLE_DEVICES")
    assert {value for _, value in numbers(RayEngine(), factory, 2, 1)} == {"0"}
    assert {value for _, value in numbers(RayEngine(actor_gpus=0), factory, 1, 1)} == {""}


# --- without the cluster above


def test_a_killed_run_is_gone_on_with_and_leaves_no_process(corpus, tmp_path, monkeypatch):
    """With a cluster of the command's own, which ends with it."""
    make_detector(0).save(tmp_path / "d")
    out = tmp_path / "s.tsv"
    command = ("score", tmp_path / "d", corpus, "-o", out, "--device", "cpu")
    parts = tmp_path / "s.tsv.parts"
    process = start(*command, "--engine", "ray", "--actors", "1")
    status, said = stop_when(process, signal.SIGKILL, lambda: bool(list(parts.glob("part-*.json"))))
    assert status == -9, said
    finished = sum(len(json.loads(p.read_text())) for p in parts.glob("part-*.json"))
    assert 0 < finished < 67
    process = start(*command, "--engine", "ray", "--actors", "1")
    printed, said = process.communicate(timeout=120)
    assert process.returncode == 1, said
    assert printed == f"{out}: 67 scores\n"
    assert f"score: {finished} of 80 were finished before" in said
    assert "ray" not in said.lower(), said  # it keeps silent
    assert run_here(monkeypatch, *command[:4], tmp_path / "here.tsv", *command[5:]) == 1
    assert np.array_equal(read_scores(out).score, read_scores(tmp_path / "here.tsv").score)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


class Disorderly:
    """An engine that takes the last shards first, and gives the pieces of every second one twice."""

    def map(self, factory, shards, lost):
        worker = factory()
        for number, shard in reversed(list(enumerate(shards))):
            pieces = list(worker(shard))
            yield from pieces * (1 + (number + 1) % 2)
        worker.close()


def test_neither_order_nor_repetition_shows(corpus, few_rows, tmp_path, monkeypatch):
    from voxfide.analysis.cluster import analyse_on
    from voxfide.analysis.decision import DecisionRule
    from voxfide.analysis.recording import facts_of
    from voxfide.analysis.settings import AnalysisSettings
    from voxfide.scoring import score_manifest

    manifest, detector = Manifest.read(corpus), make_detector(0)
    told: list[int] = []
    for name, engine in (("a", LocalEngine()), ("b", Disorderly())):
        progress = (lambda n, seconds: told.append(n)) if name == "b" else None
        score_manifest(detector, manifest, tmp_path / f"{name}.tsv", engine=engine, progress=progress)
        embed(manifest, detector.frontend, tmp_path / name, engine=engine)
        check_audio(manifest, tmp_path / f"{name}.csv", engine=engine, workers=0)
    assert sum(told) == 80
    for file in ("{}.tsv", "{}.tsv.failures.csv", "{}/failures.csv", "{}.csv"):
        assert (tmp_path / file.format("a")).read_bytes() == (tmp_path / file.format("b")).read_bytes()
    stores = [EmbeddingStore(tmp_path / name) for name in "ab"]
    assert sorted(stores[0].ids) == sorted(stores[1].ids)
    assert np.array_equal(*(store.matrix(stores[0].ids) for store in stores))

    monkeypatch.setattr("voxfide.analysis.cluster.BLOCK", 4)
    paths = [str(path) for path in sorted((corpus.parent / "audio").iterdir())]
    options = {"rule": DecisionRule.of(detector), "facts": facts_of(detector)}
    found = [
        list(analyse_on(engine, paths, lambda: detector, AnalysisSettings(), **options))
        for engine in (LocalEngine(), Disorderly())
    ]
    assert [path for path, _ in found[1]] == paths
    assert list(map(str, found[0])) == list(map(str, found[1]))


def test_without_ray_the_extra_is_named(monkeypatch, capsys, corpus, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'voxfide\[ray\]'"):
        RayEngine()
    command = ("embed", corpus, "--frontend", "lfcc", "-o", tmp_path / "e", "--engine", "ray")
    assert run_here(monkeypatch, *command) == 2
    assert "voxfide[ray]" in capsys.readouterr().err
    assert not (tmp_path / "e").exists()


def test_options_that_cannot_be_are_refused(monkeypatch, capsys, corpus, tmp_path):
    embed_ = ("embed", corpus, "--frontend", "lfcc", "-o", tmp_path / "e")
    for options, expected in [
        (("--engine", "spark"), "expected local or ray"),
        (("--address", "auto"), "--address needs --engine ray"),
        (("--actor-gpus", "1"), "--actor-gpus needs --engine ray"),
        (("--engine", "ray", "--actor-cpus", "0"), "expected more than 0"),
        (("--engine", "ray", "--address", "ray://127.0.0.1:1"), "not work through Ray Client"),
        (("--engine", "ray", "--actors", "0"), "--actors"),
    ]:
        assert run_here(monkeypatch, *embed_, *options) == 2
        assert expected in capsys.readouterr().err
    prepare = ("prepare", "folder", corpus.parent, "-o", tmp_path / "m.csv", "--engine", "ray")
    assert run_here(monkeypatch, *prepare) == 2
    assert "needs --check-audio" in capsys.readouterr().err


def test_no_cluster_at_the_address(monkeypatch, tmp_path):
    import ray

    if ray.is_initialized():
        ray.shutdown()
    with pytest.raises(UsageError, match=r"Ray cluster 127\.0\.0\.1:1: cannot be used"):
        numbers(RayEngine(address="127.0.0.1:1"), Squares(tmp_path))


def test_nothing_is_started_where_nothing_is_to_do(tmp_path):
    assert list(RayEngine(address="127.0.0.1:1").map(Squares(tmp_path), [], lost)) == []
    assert list(LocalEngine().map(Squares(tmp_path), [], lost)) == []
    assert list(tmp_path.iterdir()) == []


def test_the_local_engine_closes_its_worker(tmp_path):
    assert numbers(LocalEngine(), Squares(tmp_path)) == squares(24)
    with pytest.raises(UsageError):
        numbers(LocalEngine(), Squares(tmp_path, wrong=frozenset({5})))
    assert (tmp_path / f"closed.{os.getpid()}").exists()


def test_another_model_of_the_same_name_is_refused(tmp_path):
    make_detector(0).save(tmp_path / "d")
    there = NamedDetector(str(tmp_path / "d"), make_detector(0).fingerprint(), "cpu")
    assert pickle.loads(pickle.dumps(there))().fingerprint() == there.fingerprint
    make_detector(1).save(tmp_path / "d")
    with pytest.raises(CheckpointError, match="is not what it is where the job was started"):
        there()
    with pytest.raises(CheckpointError, match="have to lie where every node sees them"):
        NamedDetector(str(tmp_path / "none"), "", "cpu")()
    with pytest.raises(CheckpointError, match="other weights or other code"):
        FrontendExtractor("lfcc", "0" * 64)()


def test_cores_may_be_stated(monkeypatch):
    monkeypatch.setenv("VOXFIDE_CORES", "3")
    assert usable_cores() == 3
    for nonsense in ("", "0", "many"):
        monkeypatch.setenv("VOXFIDE_CORES", nonsense)
        assert usable_cores() >= 1
