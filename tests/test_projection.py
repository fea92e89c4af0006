"""t-SNE of stores: the projection itself, its determinism, and the page in which points play."""

from __future__ import annotations

import base64
import csv
import json
from importlib.util import find_spec
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from command_line import run_here
from small_corpus import write_corpus
from test_report import assert_self_contained
from voxfide.embeddings import embed
from voxfide.errors import StoreError, UsageError
from voxfide.frontends import create_frontend
from voxfide.manifest import Manifest
from voxfide.report.categories import MOST_VALUES, by_column, by_label_and_split
from voxfide.report.figures_scatter import scatter_figure
from voxfide.report.page import Page, Section
from voxfide.report.scatter import Scatter
from voxfide.store import EmbeddingStore
from voxfide.studies.projection import layer_embeddings, principal_components, project
from voxfide.studies.projection_report import ClipBudget, write_projection_report

ENGINES = [
    pytest.param(
        "opentsne",
        marks=pytest.mark.skipif(find_spec("openTSNE") is None, reason="openTSNE is not installed"),
    ),
    "sklearn",
]
N_CLUSTERS = 6


def clusters(n: int = 180, dim: int = 40) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    codes = np.arange(n) % N_CLUSTERS
    centres = 3 * random.normal(size=(N_CLUSTERS, dim))
    return (centres[codes] + random.normal(size=(n, dim))).astype(np.float32), codes


# The projection


@pytest.mark.parametrize("engine", ENGINES)
def test_clusters_stay_together_and_the_same_seed_gives_the_same_bytes(engine):
    values, codes = clusters()
    first = project(values, perplexity=15, seed=3, jobs=1, engine=engine)
    assert first.points.shape == (len(values), 2)
    distances = np.linalg.norm(first.points[:, None] - first.points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    purity = np.mean(codes[distances.argmin(axis=1)] == codes)
    print(f"{first.engine}: nearest neighbour of the same cluster {purity:.1%}")
    assert purity > 0.99
    again = project(values, perplexity=15, seed=3, jobs=2, engine=engine)
    assert again.points.tobytes() == first.points.tobytes()


def test_principal_components_are_those_of_the_singular_value_decomposition():
    values, _ = clusters(200, 12)
    reduced, kept = principal_components(values, 5)
    centred = values - values.mean(axis=0)
    _, singular, right = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    expected = centred @ right[:5].T
    signs = np.sign((expected * reduced).sum(axis=0))
    assert reduced == pytest.approx(expected * signs, abs=1e-4)
    assert kept == pytest.approx((singular[:5] ** 2).sum() / (singular**2).sum(), abs=1e-6)
    # Both directions of a component are equally good: the choice must not depend on chance.
    assert principal_components(-values, 5)[0] == pytest.approx(reduced, abs=1e-4) or np.allclose(
        principal_components(-values, 5)[0], -reduced, atol=1e-4
    )


def test_twins_and_a_single_dimension_are_no_trouble():
    values, _ = clusters(60, 8)
    values[30:] = values[:30]
    assert np.isfinite(project(values, perplexity=5, jobs=1).points).all()
    line = np.linspace(0, 1, 40, dtype=np.float32)[:, None]
    assert np.isfinite(project(line, perplexity=5, jobs=1).points).all()


@pytest.mark.parametrize(
    ("n", "perplexity", "message"),
    [
        (30, 10.0, "expected 1 to 9"),
        (30, 0.5, "expected 1 to 9"),
        (30, np.nan, "expected 1"),
        (3, 1.0, "5 or more"),
    ],
)
def test_a_perplexity_that_cannot_be_is_refused(n, perplexity, message):
    with pytest.raises(UsageError, match=message):
        project(np.zeros((n, 4), np.float32), perplexity=perplexity)


def test_what_has_no_picture_is_refused():
    with pytest.raises(UsageError, match="all 40 embeddings are equal"):
        project(np.ones((40, 4), np.float32), perplexity=5)
    values, _ = clusters(40, 4)
    values[7, 2] = np.nan
    with pytest.raises(UsageError, match="1 of 40 utterances are not finite"):
        project(values, perplexity=5)


# Categories and figures


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["bonafide", "spoof", "unknown"]), st.sampled_from(["train", "dev", "eval", ""])
        ),
        min_size=1,
        max_size=40,
    )
)
def test_label_and_split_each_have_a_look_of_their_own(rows):
    labels, splits = [list(column) for column in zip(*rows, strict=True)]
    colouring = by_label_and_split(labels, splits)
    looks = [(c.colour, c.mark) for c in colouring.categories if "unknown" not in c.name]
    assert len(set(looks)) == len(looks)
    assert colouring.counts().sum() == len(rows)
    assert (colouring.counts() > 0).all()
    for code, (label, split) in zip(colouring.codes, rows, strict=True):
        shown = {"bonafide": "bona fide"}.get(label, label)
        assert colouring.categories[code].name == (f"{shown}, {split}" if split else shown)


@settings(max_examples=30)
@given(st.integers(1, 60), st.booleans())
def test_many_values_are_told_apart_as_far_as_looks_go(n_values, with_bonafide):
    values = [f"A{i:02d}" for i in range(n_values) for _ in range(1 + i % 3)]
    labels = ["spoof"] * len(values)
    if with_bonafide:
        values, labels = [*values, "-"], [*labels, "bonafide"]
    colouring = by_column("attack", values, labels)
    looks = [(c.colour, c.mark) for c in colouring.categories]
    assert len(set(looks)) == len(looks) <= MOST_VALUES + 2
    names = [c.name for c in colouring.categories]
    for code, value in zip(colouring.codes, values, strict=True):
        if names[code].startswith("other"):
            assert value not in names
        else:
            assert names[code] == ("bona fide" if value == "-" else value)
    rest = n_values - sum(name in set(values) for name in names)
    assert (f"other ({rest} values)" in names) == (rest > 0)


def test_a_figure_draws_every_point_and_says_how_many():
    values, codes = clusters(90)
    colouring = by_column("attack", [f"A{c}" for c in codes], ["spoof"] * 90)
    fig = scatter_figure({"one": values[:, :2], "two": values[:, 1:3]}, colouring)
    for ax in fig.axes:
        assert sum(len(c.get_offsets()) for c in ax.collections) == 90
    assert [t.get_text() for t in fig.legends[0].get_texts()] == [f"A{c} (15)" for c in range(N_CLUSTERS)]
    with pytest.raises(UsageError):
        scatter_figure({}, colouring)


# Pages


def data_of(html: str) -> dict:
    text = html.split('<script type="application/json">')[1].split("</script>")[0]
    return json.loads(text)


def numbers(packed: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(packed), "<u2")


def test_a_page_holds_the_points_whatever_their_names(tmp_path):
    names = ["</script><img src=x>", "a\u2028b", "plain", "ü/é", "\udcff"]
    points = np.array([[0.0, 0.0], [4.0, 1.0], [1.0, 2.0], [3.0, 0.5], [2.0, 2.0]])
    colouring = by_label_and_split(["bonafide", "spoof", "spoof", "bonafide", "spoof"], None)
    links = [None, "a%20b/c.wav", "d.wav", "a%20b/e.wav", "../f.wav"]
    scatter = Scatter(names, {"one": points}, [colouring], "A `caption`.", {2: b"mp3"}, links)
    html = Page("t", "s", [Section("Picture", [scatter])]).to_html()
    assert_self_contained(html)
    assert "<img" not in html
    assert "media-src data: 'self' file:" in html
    data = data_of(html)
    place = {name: i for i, name in enumerate(data["names"])}
    assert set(place) == {*names[:1], *names[2:4], "a\\u2028b", "\\udcff"}
    i = place["plain"]
    assert base64.b64decode(data["clips"][str(i)]) == b"mp3"
    assert data["files"][i] == "d.wav"
    codes = numbers(data["colourings"][0]["codes"])
    assert data["colourings"][0]["categories"][codes[i]]["name"] == "spoof"
    j = place["ü/é"]
    assert f"{data['folders'][numbers(data['folder'])[j]]}/{data['files'][j]}" == "a%20b/e.wav"
    assert data["files"][place[names[0]]] == ""
    # Both axes on one scale: the wide extent (4) spans the grid, the other (2) half of it.
    x, y = numbers(data["panels"][0]["x"]).astype(int), numbers(data["panels"][0]["y"]).astype(int)
    assert (x.min(), x.max()) == (0, 65_535)
    assert y.max() - y.min() == pytest.approx(65_535 / 2, abs=1)
    assert x[j] == pytest.approx(65_535 * 3 / 4, abs=1)


def test_only_a_page_with_links_may_play_files():
    colouring = by_label_and_split(["bonafide", "spoof"], None)
    scatter = Scatter(["a", "b"], {"one": np.eye(2)}, [colouring], "", {0: b"x"})
    html = Page("t", "s", [Section("Picture", [scatter])]).to_html()
    assert "media-src data:;" in html
    assert "scatter" not in Page("t", "s", []).to_html().split("<script>")[1]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A corpus of 40 clips, a store of it, and one of its first 30."""
    folder = tmp_path_factory.mktemp("tsne")
    path = write_corpus(folder / "corpus", 40)
    manifest = Manifest.read(path)
    frontend = create_frontend("lfcc")
    embed(manifest, frontend, folder / "all")
    embed(manifest.take(np.arange(30)), frontend, folder / "some", pool="mean_std")
    embed(manifest.take(np.arange(3)), frontend, folder / "frames", pool="none")
    return folder, path, manifest


def test_layers_are_counted_from_one(made):
    folder, _, manifest = made
    store = EmbeddingStore(folder / "all")
    ids = [str(i) for i in manifest.strings("utterance_id")][::-1]
    assert np.array_equal(layer_embeddings(store, ids), store.matrix(ids)[:, -1])
    assert np.array_equal(layer_embeddings(store, ids, 1), store.matrix(ids)[:, 0])
    for wrong in (0, 2, -1):
        with pytest.raises(UsageError, match="expected 1 to 1"):
            layer_embeddings(store, ids, wrong)
    with pytest.raises(StoreError, match="full frames"):
        layer_embeddings(EmbeddingStore(folder / "frames"), ids[-1:])


def test_the_command_draws_what_all_stores_hold(made, monkeypatch, capsys):
    folder, path, manifest = made
    arguments = ["tsne", folder / "all", folder / "some", path, "--perplexity", "5", "--clips", "4"]
    assert run_here(monkeypatch, *arguments, "-o", folder / "a") == 0
    said = capsys.readouterr()
    assert said.out == f"{folder / 'a' / 'tsne.html'}: 30 utterances\n"
    assert "10 utterance(s) are not in every store" in said.err
    assert run_here(monkeypatch, *arguments, "-o", folder / "b") == 0
    files = sorted(p.relative_to(folder / "a") for p in (folder / "a").rglob("*") if p.is_file())
    assert [str(f) for f in files] == [
        "coordinates-all.csv", "coordinates-some.csv", "figures/tsne-label-split.pdf",
        "figures/tsne-label-split.png", "projection.json", "tsne.html",
    ]  # fmt: skip
    for name in files:
        assert (folder / "a" / name).read_bytes() == (folder / "b" / name).read_bytes(), name
    with (folder / "a" / "coordinates-all.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["utterance_id"] for r in rows] == [str(i) for i in manifest.strings("utterance_id")[:30]]
    assert list(rows[0]) == ["utterance_id", "label", "split", "x", "y"]
    html = (folder / "a" / "tsne.html").read_text(encoding="utf-8")
    assert_self_contained(html)
    data = data_of(html)
    assert len(data["names"]) == 30
    assert len(data["panels"]) == 2
    assert len(data["clips"]) == 4
    # An MPEG frame or the tag before it.
    assert all(
        base64.b64decode(c)[:3] == b"ID3" or base64.b64decode(c)[0] == 0xFF for c in data["clips"].values()
    )
    folders = numbers(data["folder"])
    for i, name in enumerate(data["files"]):
        target = folder / "a" / unquote(f"{data['folders'][folders[i]]}/{name}")
        assert target.resolve() == (folder / "corpus" / "audio" / unquote(name)).resolve()
        assert target.exists()


def test_clips_are_shared_out_among_the_categories_and_kept_within_the_budget(made):
    folder, _, manifest = made
    stores = {"all": EmbeddingStore(folder / "all")}
    out = folder / "budget"
    result = write_projection_report(
        out, stores, manifest, perplexity=5, colours=["label-split"], budget=ClipBudget(clips=6, seconds=0.2)
    )
    assert result.missing == []
    data = data_of(result.page.read_text(encoding="utf-8"))
    codes = numbers(data["colourings"][0]["codes"])
    assert sorted(codes[int(i)] for i in data["clips"]) == list(range(6))
    write_projection_report(out, stores, manifest, perplexity=5, budget=ClipBudget(bytes=10))
    assert data_of((out / "tsne.html").read_text(encoding="utf-8"))["clips"] == {}


def test_requests_that_cannot_be_met(made, monkeypatch, capsys):
    folder, path, manifest = made
    stores = {"all": EmbeddingStore(folder / "all")}
    with pytest.raises(UsageError, match=r"no column codec \(expected label-split or one of utterance_id"):
        write_projection_report(folder / "x", stores, manifest, colours=["codec"])
    other = Manifest.from_columns({"utterance_id": ["q"], "path": ["q.wav"], "label": ["spoof"]}, folder)
    with pytest.raises(UsageError, match="none of its 1 utterances is in the store"):
        write_projection_report(folder / "x", stores, other)
    with pytest.raises(UsageError, match="perplexity 30 with 40"):
        write_projection_report(folder / "x", stores, manifest)
    assert run_here(monkeypatch, "tsne", folder / "all", path, "-o", folder / "x", "--layer", "first") == 2
    assert "--layer 'first' (expected a number or last)" in capsys.readouterr().err
    assert not (folder / "x").exists()
