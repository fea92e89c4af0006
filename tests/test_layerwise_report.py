"""The layer-wise study's rows, tables, figures and page."""

from __future__ import annotations

import csv
import math
import re
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from command_line import run_here
from test_report import assert_self_contained
from voxfide.errors import UsageError
from voxfide.report.figures_panels import CurvePanel, HeatPanel, curve_panels_figure, heat_panels_figure
from voxfide.report.tables import Column, Spread, Table
from voxfide.studies.layerwise_figures import deepest, eer_by_depth, mean_weights, min_max
from voxfide.studies.layerwise_report import write_layerwise_report
from voxfide.studies.layerwise_rows import (
    EerRow,
    SpeedRow,
    WeightRow,
    read_rows,
    with_relative_speed,
    write_rows,
)
from voxfide.studies.layerwise_tables import (
    Head,
    difference_table,
    eer_groups,
    mean_table,
    paired_with_published,
    seed_table,
)
from voxfide.studies.published import layerwise_averages, layerwise_eers
from voxfide.studies.tables import mean_sd, write_table

SEEDS = (1, 42, 1234)


def grid(
    *, frontends=("wav2vec2", "wavlm"), backends=("ffn", "aasist"), depths=(2, 4), sets=("LA19", "DF21")
):
    """A complete small study with figures that no two cells share."""
    random = np.random.default_rng(0)
    return [
        EerRow("LA19", eval_set, "small", frontend, backend, n, seed, float(random.uniform(1, 30)))
        for frontend in frontends
        for backend in backends
        for n in depths
        for seed in SEEDS
        for eval_set in sets
    ]


def weights_of(heads, train_sets=("LA19",)):
    random = np.random.default_rng(1)
    rows = []
    for train_set in train_sets:
        for frontend, backend, n in heads:
            for seed in SEEDS:
                drawn = np.exp(random.normal(size=n))
                rows += [
                    WeightRow(train_set, "small", frontend, backend, n, seed, i + 1, float(w))
                    for i, w in enumerate(drawn / drawn.sum())
                ]
    return rows


# Rows


@given(
    st.lists(
        st.builds(
            EerRow,
            *[st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)] * 5,
            st.integers(1, 48),
            st.integers(-9, 10**9),
            st.floats(0, 100),
            st.none(),
            st.none(),
        ),
        max_size=5,
    )
)
def test_rows_read_back_as_written(tmp_path, rows):
    assert read_rows(write_rows(tmp_path / "eer.csv", rows, EerRow), EerRow) == rows


def test_intervals_and_quoting_read_back(tmp_path):
    rows = [EerRow('a,"b"\n', "ü", "small", "w", "ffn", 2, 1, 1 / 3, 0.1, 2.0)]
    assert read_rows(write_rows(tmp_path / "deep" / "eer.csv", rows, EerRow), EerRow) == rows


def test_all_problems_of_a_file_are_said_at_once(tmp_path):
    path = tmp_path / "layer_weights.csv"
    path.write_text(
        "train_set,size,frontend,backend,n_layers,seed,layer,weight,extra\n"
        "a,s,f,b,4,1,5,0.5,\na,s,f,b,x,1,1,0.5,\na,s,f,b,4,1,1,nan,\na,s,f,b,4,1,1,0.25,\n"
    )
    with pytest.raises(UsageError) as caught:
        read_rows(path, WeightRow)
    text = str(caught.value)
    assert "3 problem(s)" in text
    assert "line 2: layer 5 (expected 1 to 4)" in text
    assert "line 3: n_layers 'x' is no whole number" in text
    assert "line 4: weight nan" in text
    with pytest.raises(UsageError, match="no column eval_set"):
        read_rows(path, EerRow)
    with pytest.raises(UsageError, match="no such file"):
        read_rows(tmp_path / "none.csv", EerRow)


def test_relative_speed_is_against_the_deepest_of_the_same_model_and_batch():
    rows = [
        SpeedRow("w", "small", n, 10 * n, batch, n / 10 / batch, 1.0) for n in (2, 12, 4) for batch in (1, 4)
    ]
    assert [r.relative for r in with_relative_speed(rows)] == pytest.approx([6, 6, 1, 1, 3, 3])


# Tables


def test_means_over_seeds_equal_the_statistics_module():
    rows = grid()
    (group,) = eer_groups(rows)
    table = mean_table(group)
    assert [c.key for c in table.columns] == ["frontend", "backend", "n_layers", "LA19", "DF21", "average"]
    assert len(table.rows) == 8
    for row in table.rows:
        own = [r for r in rows if (r.frontend, r.backend, r.n_layers) == row[:3]]
        for place, name in ((3, "LA19"), (4, "DF21")):
            values = [r.eer_percent for r in own if r.eval_set == name]
            assert row[place].value == pytest.approx(statistics.mean(values))
            assert row[place].sd == pytest.approx(statistics.stdev(values))
        averages = [statistics.mean(r.eer_percent for r in own if r.seed == seed) for seed in SEEDS]
        assert row[5].value == pytest.approx(statistics.mean(averages))
        assert row[5].sd == pytest.approx(statistics.stdev(averages))


def test_every_seed_has_its_row():
    rows = grid()
    table = seed_table(eer_groups(rows)[0])
    found = {
        (*row[:4], name): row[5 + i - 1] for row in table.rows for i, name in enumerate(("LA19", "DF21"))
    }
    assert found == {(r.frontend, r.backend, r.n_layers, r.seed, r.eval_set): r.eer_percent for r in rows}


def test_no_average_over_what_is_incomplete():
    rows = grid(frontends=("wavlm",), backends=("ffn",), depths=(2,))
    table = mean_table(eer_groups(rows[:-1])[0])
    whole = [r for r in rows if r.seed in SEEDS[:2]]
    assert table.rows[0][-1].value == pytest.approx(statistics.mean(r.eer_percent for r in whole))
    alone = mean_table(eer_groups([r for r in rows if r.eval_set == "LA19"])[0])
    assert [c.key for c in alone.columns][3:] == ["LA19"]
    (one,) = seed_table(eer_groups(rows[:1])[0]).rows
    assert len(one) == 5


def test_an_evaluation_set_with_two_training_sets_divides_the_tables():
    rows = grid()
    other = [EerRow("ADD22", *list(vars(r).values())[1:]) for r in rows if r.eval_set == "LA19"]
    groups = eer_groups([*rows, *other])
    assert [g.train_set for g in groups] == ["LA19", "ADD22"]
    assert groups[1].eval_sets == ["LA19"]
    with pytest.raises(UsageError, match=r"two EERs of LA19 / LA19 / small / wav2vec2 / ffn / 2 / 1"):
        eer_groups([*rows, rows[0]])


def test_the_best_of_a_column_is_bold_in_every_form_and_rules_part_the_groups():
    columns = [
        Column("a"),
        Column("x", "", ".2f", spread=True, best="low"),
        Column("y", "", ".1f", best="high"),
    ]
    rows = [("p", Spread(1.001, 0.5), 3.0), ("p", Spread(1.004, None), 9.0), ("q", Spread(7.0, 0.1), None)]
    table = Table(columns, rows, group_by=1)
    assert table.best_rows() == [set(), {0, 1}, {1}]  # equal as shown, equal as marked
    markdown = table.to_markdown()
    assert "**1.00 ± 0.50**" in markdown
    assert "**1.00**" in markdown
    assert "**9.0**" in markdown
    latex = table.to_latex()
    assert r"\textbf{1.00 $\pm$ 0.50}" in latex
    assert latex.count(r"\midrule") == 2
    assert "<b>1.00 <span" in table.to_html()
    assert table.to_html().count('<tr class="group">') == 1
    assert table.to_csv().splitlines()[:2] == ["a,x,x_sd,y", "p,1.001,0.5,3.0"]


def test_a_single_value_has_no_rival_and_no_deviation(tmp_path):
    assert mean_sd([2.0]) == Spread(2.0, None)
    with pytest.raises(UsageError):
        mean_sd([])
    table = Table([Column("a"), Column("x", best="low")], [("only", 1.0)])
    assert "**" not in table.to_markdown()
    paths = write_table(tmp_path / "t", "one", table)
    assert [p.name for p in paths] == ["one.md", "one.csv", "one.tex"]
    assert all(p.read_text() for p in paths)


# Beside the published numbers


def test_differences_are_measured_less_published():
    printed = {(e.key, e.seed): e.eer_percent for e in layerwise_eers()}
    rows = [
        EerRow(
            "LA19", e.key.eval_set, *e.key[:2], e.key.backend, e.key.n_layers, e.seed, e.eer_percent + 0.25
        )
        for e in layerwise_eers()
        if e.seed and e.key.size == "small" and e.key.eval_set in ("LA19", "HAD")
    ]
    pairs = paired_with_published(rows)
    assert len(pairs) == 24 * 2
    for pair in pairs:
        assert pair.difference == pytest.approx(0.25)
        assert pair.published.value == pytest.approx(printed[pair.key, None], abs=0.006)
        assert pair.same_training_set == (pair.eval_set == "LA19")
    table = difference_table(eer_groups(rows)[0])
    assert {round(cell, 9) for row in table.rows for cell in row[3:]} == {0.25}


def test_what_the_paper_has_not_is_left_out():
    rows = [
        EerRow("LA19", "LA19", "small", "lfcc", "ffn", 2, 1, 5.0),
        EerRow("LA19", "LA19", "small", "wavlm", "ffn", 3, 1, 5.0),
        EerRow("LA19", "InTheWild", "small", "wavlm", "ffn", 2, 1, 5.0),
        EerRow("LA19", "LA19", "tiny", "wavlm", "ffn", 2, 1, 5.0),
    ]
    assert paired_with_published(rows) == []
    assert difference_table(eer_groups(rows[:1])[0]) is None


# Figures


def test_min_max_keeps_the_order_and_says_nothing_of_equal_weights():
    scaled = min_max(np.array([0.2, 0.5, 0.3]))
    assert scaled == pytest.approx([0, 1, 1 / 3])
    assert np.isnan(min_max(np.array([0.5, 0.5]))).all()


def test_weights_are_averaged_over_seeds_and_the_deepest_chosen():
    rows = weights_of([Head("wavlm", "ffn", 2), Head("wavlm", "ffn", 4)])
    vectors = mean_weights(rows)
    assert [v.n_layers for v in vectors] == [2, 4]
    assert [v.weights.sum() for v in vectors] == pytest.approx([1, 1])
    expected = statistics.mean(r.weight for r in rows if (r.n_layers, r.layer) == (4, 3))
    assert vectors[1].weights[2] == pytest.approx(expected)
    assert deepest(vectors) == [vectors[1]]


def test_heat_maps_mark_the_greatest_of_each_row():
    values = np.array([[0.1, 0.9, 0.3], [np.nan, 0.2, 0.8]])
    fig = heat_panels_figure(
        [HeatPanel("one", values, ["a", "b"], range(1, 4))], label="w", xlabel="layer", across=1
    )
    ax = fig.axes[0]
    dots = [(line.get_xdata()[0], line.get_ydata()[0]) for line in ax.lines]
    assert dots == [(1, 0), (2, 1)]
    assert np.ma.count_masked(ax.collections[0].get_array()) == 1
    assert [t.get_text() for t in ax.get_xticklabels()] == ["1", "2", "3"]
    with pytest.raises(UsageError):
        heat_panels_figure(
            [HeatPanel("none", np.full((1, 2), np.nan), ["a"], range(2))], label="w", xlabel="l", across=1
        )
    with pytest.raises(ValueError, match="for 1 × 2 names"):
        HeatPanel("wrong", values, ["a"], range(2))


def test_curves_show_means_and_deviations_or_an_interval():
    rows = grid(frontends=("wavlm",), backends=("ffn",), sets=("LA19",))
    fig = eer_by_depth(eer_groups(rows)[0])
    line = fig.axes[0].lines[0]
    spreads = [mean_sd(r.eer_percent for r in rows if r.n_layers == n) for n in (2, 4)]
    assert line.get_ydata() == pytest.approx([s.value for s in spreads])
    bars = fig.axes[0].collections[0].get_segments()
    assert [bar[1][1] - s.value for bar, s in zip(bars, spreads, strict=True)] == pytest.approx(
        [s.sd for s in spreads]
    )
    one = [EerRow("LA19", "LA19", "small", "wavlm", "ffn", n, 1, 5.0, 4.0, 7.0) for n in (2, 4)]
    fig = eer_by_depth(eer_groups(one)[0])
    assert [tuple(bar[:, 1]) for bar in fig.axes[0].collections[0].get_segments()] == [(4, 7), (4, 7)]
    with pytest.raises(UsageError):
        curve_panels_figure([CurvePanel("empty", [])], xlabel="", ylabel="", across=1)


# The whole


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    rows = grid(frontends=("wavlm",))
    heads = eer_groups(rows)[0].heads
    speeds = with_relative_speed(
        [SpeedRow("wavlm", "small", n, 10**6 * n, b, 0.01 * n, 100 / n) for n in (2, 4) for b in (1, 16)]
    )
    folder = tmp_path_factory.mktemp("study")
    page = write_layerwise_report(
        folder, rows[:-1], weights_of(heads, ("LA19", "ADD22")), speeds, published=True
    )
    return folder, page


def test_the_page_holds_everything_and_needs_no_other_file(written):
    folder, page = written
    html = page.read_text(encoding="utf-8")
    document = assert_self_contained(html)
    for title in ("Equal error rates", "Beside the published numbers", "EER against depth", "Layer weights",
                  "Published layer weights", "Speed and size", "Every seed"):  # fmt: skip
        assert title in document.text
    assert "1 of 24 EERs are missing" in document.text
    tables = {p.name for p in (folder / "tables").iterdir()}
    assert tables == {
        f"{stem}.{kind}"
        for stem in ("eer_small", "eer-seeds_small", "published", "differences_small", "speed")
        for kind in ("md", "csv", "tex")
    }
    figures = {p.name for p in (folder / "figures").iterdir()}
    stems = {
        "eer-depth_small", "weights_small_min-max", "weights_small_softmax", "weights-published_small",
        "speed", *(f"weights-depth_small_{t}_{s}" for t in ("la19", "add22") for s in ("min-max", "softmax")),
    }  # fmt: skip
    assert figures == {f"{stem}.{kind}" for stem in stems for kind in ("png", "pdf")}
    assert html.count("<svg") >= len(stems)


def test_names_from_users_are_text(tmp_path):
    name = '<img src=x onerror=alert(1)>/"../é'
    rows = [EerRow(name, name, name, name, name, n, 1, 5.0 + n) for n in (1, 2)]
    weights = [WeightRow(name, name, name, name, 1, 1, 1, 1.0)]
    page = write_layerwise_report(tmp_path / "s", rows, weights, [], published=True)
    html = page.read_text(encoding="utf-8")
    assert "<img" not in html
    assert_self_contained(html)
    assert "None of the measured heads is in the paper" in html
    assert {p.name for p in tmp_path.iterdir()} == {"s"}


def test_nothing_measured_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no EERs"):
        write_layerwise_report(tmp_path / "s", [], [], [])
    assert not (tmp_path / "s").exists()


def test_the_papers_tables_from_the_shipped_numbers_alone(tmp_path, monkeypatch, capsys):
    assert run_here(monkeypatch, "study", "layerwise", "--from-published", "-o", tmp_path) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "report.html")
    averages = {a.key[:4]: a.eer_percent for a in layerwise_averages() if a.seed is None}
    means = {(*e.key[:4], e.key.eval_set): e.eer_percent for e in layerwise_eers() if e.seed is None}
    n = 0
    for size in ("small", "large"):
        with (tmp_path / "tables" / f"eer_{size}.csv").open() as file:
            for row in csv.DictReader(file):
                head = (size, row["frontend"], row["backend"], int(row["n_layers"]))
                assert float(row["average"]) == pytest.approx(averages[head], abs=0.01)
                for name in ("LA19", "DF21", "CtrSVDD"):
                    assert float(row[name]) == pytest.approx(means[*head, name], abs=0.006)
                    assert math.isfinite(float(row[f"{name}_sd"]))
                n += 1
    assert n == len(averages) == 60
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert_self_contained(html)
    assert "Nothing here was measured" in html
    assert len(re.findall(r"<figure ", html)) == 4
    assert (tmp_path / "figures" / "weights-published_large.pdf").stat().st_size > 10_000
