"""Figures show what was measured: bands cover, areas are Cllr, bins and cells hold the right counts."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import beta

from test_report import HOSTILE, make_trials, series
from voxfide.errors import UsageError
from voxfide.evaluation import Trials, evaluate
from voxfide.metrics import cllr, eer, eer_percent, merged_det_curve, min_cllr
from voxfide.report import (
    bayes_error_figure,
    det_figure,
    eer_grid,
    group_trials,
    heatmap_figure,
    reliability_figure,
    ridge_figure,
    tippett_figure,
    write_figures,
)
from voxfide.report.bands import det_band
from voxfide.report.evaluation_figures import MAX_RIDGES, group_blocks, likelihood_blocks
from voxfide.report.figures_calibration import bayes_error, reliability
from voxfide.report.page import Figures, Prose
from voxfide.report.svg import inline_svg


def llr_trials(n_bonafide: int, n_spoof: int, *, d: float = 2.0, scale: float = 1.0, seed: int = 0) -> Trials:
    """Two Gaussians ``d`` apart with their true log likelihood ratios, times ``scale``."""
    rng = np.random.default_rng(seed)
    is_bonafide = np.arange(n_bonafide + n_spoof) < n_bonafide
    score = scale * d * (rng.normal(0, 1, is_bonafide.size) + np.where(is_bonafide, d / 2, -d / 2))
    return Trials(np.arange(is_bonafide.size).astype(str), score, is_bonafide)


@pytest.fixture(scope="module")
def trials() -> Trials:
    return make_trials(200, 800)


# DET bands


def test_the_band_on_the_equal_error_line_is_the_interval_of_the_eer():
    many = make_trials(600, 600, shift=1.5)
    curve = merged_det_curve(many.score, many.is_bonafide)
    x, y = det_band(
        many.score, many.is_bonafide, curve.thresholds,
        lambda p: ndtri(np.clip(p, 1e-3, 1 - 1e-3)), n_bootstrap=1000, confidence=0.95,
    )  # fmt: skip
    half = x.size // 2
    ends = []
    for part in (slice(0, half), slice(half, None)):
        nearest = np.argmin(np.abs(x[part] - y[part]))
        ends.append(100 * 0.5 * math.erfc(-(x[part][nearest] + y[part][nearest]) / 2 / math.sqrt(2)))
    interval = evaluate(many, n_bootstrap=1000).metrics["eer_percent"].interval
    assert sorted(ends) == pytest.approx(interval, abs=0.5)


def test_bands_widen_with_clusters_of_like_trials():
    rng = np.random.default_rng(0)
    speaker = np.repeat(np.arange(30), 20)
    is_bonafide = np.tile(np.arange(20) < 10, 30)
    score = 2.0 * is_bonafide + rng.normal(0, 1, 30)[speaker] + rng.normal(0, 0.5, 600)
    thresholds = merged_det_curve(score, is_bonafide).thresholds

    def area(clusters: np.ndarray | None) -> float:
        x, y = det_band(
            score, is_bonafide, thresholds, lambda p: ndtri(np.clip(p, 0.01, 0.99)),
            n_bootstrap=300, confidence=0.9, clusters=clusters,
        )  # fmt: skip
        return abs(float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))) / 2

    assert area(speaker) > 1.5 * area(None)


@pytest.mark.filterwarnings("error")
def test_det_figure_draws_a_band_for_each_system():
    systems = {name: make_trials(seed=i) for i, name in enumerate(["a", "b", *HOSTILE[:2]])}
    figure = det_figure(systems, n_bootstrap=50, marks={"a": {"x": 1.0, "y": 1.01}})
    svg = inline_svg(figure, alt="a", prefix="p")
    assert svg.count('data-name="band-') == len(systems)
    assert svg == inline_svg(
        det_figure(systems, n_bootstrap=50, marks={"a": {"x": 1.0, "y": 1.01}}), alt="a", prefix="p"
    )
    assert "band-" not in inline_svg(det_figure(systems), alt="a", prefix="p")


# Likelihood ratios


def test_areas_under_the_error_curves_are_cllr_and_its_minimum():
    for scale in (1.0, 0.4, 2.5):
        some = llr_trials(150, 400, scale=scale)
        grid = np.linspace(-60, 60, 24_001)
        found = bayes_error(some, grid)
        step = grid[1] - grid[0]
        assert found.actual.sum() * step / (2 * math.log(2)) == pytest.approx(
            cllr(some.score, some.is_bonafide), rel=2e-3
        )
        assert found.minimum.sum() * step / (2 * math.log(2)) == pytest.approx(
            min_cllr(some.score, some.is_bonafide), rel=2e-3
        )
        assert (found.minimum <= found.actual + 1e-12).all()
        assert (found.minimum <= found.default + 1e-12).all()
    tied = Trials(some.utterance_id, np.round(some.score), some.is_bonafide)
    thresholds = np.append(np.unique(tied.score), np.inf)
    for prior in (0.1, 0.5, 0.9):
        costs = [
            prior * np.mean(tied.score[tied.is_bonafide] < t)
            + (1 - prior) * np.mean(tied.score[~tied.is_bonafide] >= t)
            for t in thresholds
        ]
        at = bayes_error(tied, np.array([math.log(prior / (1 - prior))]))
        assert at.minimum[0] == pytest.approx(min(costs))
        threshold = -math.log(prior / (1 - prior))
        assert at.actual[0] == pytest.approx(
            prior * np.mean(tied.score[tied.is_bonafide] < threshold)
            + (1 - prior) * np.mean(tied.score[~tied.is_bonafide] >= threshold)
        )


@pytest.mark.parametrize("prior", [0.5, 0.1])
def test_true_likelihood_ratios_are_reliable_whatever_the_proportions(prior):
    found = reliability(llr_trials(3_000, 30_000), prior=prior)
    assert len(found.left) == 10
    assert (found.n_bonafide.sum(), found.n_spoof.sum()) == (3_000, 30_000)
    assert (found.low <= found.observed).all()
    assert (found.observed <= found.high).all()
    covered = (found.low <= found.predicted) & (found.predicted <= found.high)
    assert covered.sum() >= 8
    sharp = reliability(llr_trials(3_000, 30_000, scale=3.0), prior=prior)
    assert sharp.high[-1] < sharp.predicted[-1]
    assert sharp.predicted[0] < sharp.low[0]


def test_reliability_counts_and_intervals_by_hand():
    score = np.array([-3.0, -3.0, -3.0, 3.0, 3.0, 3.0, 3.0, 0.0])
    is_bonafide = np.array([False, False, True, True, True, True, False, False])
    found = reliability(Trials(np.arange(8).astype(str), score, is_bonafide), n_bins=4)
    np.testing.assert_allclose(found.left, [0, 0.5, 0.75])
    assert found.n_bonafide.tolist() == [1, 0, 3]
    assert found.n_spoof.tolist() == [2, 1, 1]
    np.testing.assert_allclose(found.observed, [1 / 3, 0, 3 / 4])
    np.testing.assert_allclose(found.predicted[[0, 2]], [1 / (1 + math.exp(3)), 1 / (1 + math.exp(-3))])
    assert found.low[1] == pytest.approx(0, abs=1e-12)
    # Wilson's interval of 3 in 4 lies inside the exact one of Clopper and Pearson.
    assert beta.ppf(0.025, 3, 2) < found.low[2] < 0.75 < found.high[2] < beta.ppf(0.975, 4, 1)
    with pytest.raises(UsageError, match="at least 2"):
        reliability(Trials(np.arange(8).astype(str), score, is_bonafide), n_bins=1)


def test_tippett_says_the_rates_of_misleading_evidence(trials):
    svg = inline_svg(tippett_figure(trials), alt="a", prefix="p")
    bonafide, spoof = trials.score[trials.is_bonafide], trials.score[~trials.is_bonafide]
    assert f"bona fide: {100 * np.mean(bonafide < 0):.1f} % below 0" in svg
    assert f"spoof: {100 * np.mean(spoof >= 0):.1f} % at 0 or above" in svg
    for name in ("tippett-bona fide", "tippett-spoof"):
        xs, ys = np.array(series(svg, name)).T
        assert (np.diff(xs) >= -1e-6).all()
        assert (np.diff(ys) >= -1e-6).all()  # SVG's y points down: the share falls


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [1e-6, 1e4])
def test_any_scale_of_scores_can_be_drawn(scale):
    base = make_trials(30, 40)
    some = Trials(base.utterance_id, base.score * scale, base.is_bonafide)
    constant = Trials(base.utterance_id, np.zeros(70), base.is_bonafide)
    for data in (some, constant):
        for figure in (
            tippett_figure(data), reliability_figure(data), bayes_error_figure(data),
            bayes_error_figure(data, normalised=True), ridge_figure({"all": data}),
        ):  # fmt: skip
            assert len(inline_svg(figure, alt="a", prefix="p")) > 1_000


def test_many_trials_make_small_drawings():
    many = llr_trials(50_000, 50_000)
    for figure in (tippett_figure(many), reliability_figure(many), bayes_error_figure(many)):
        assert len(inline_svg(figure, alt="a", prefix="p")) < 40_000


# Groups


def test_groups_stand_against_the_bona_fide_trials_that_the_evaluation_measures(trials):
    evaluation = evaluate(trials, ["attack", "codec"], n_bootstrap=0)
    for column in ("attack", "codec"):
        found = group_trials(trials, column)
        assert set(found) == {group.value for group in evaluation.by[column]}
        for group in evaluation.by[column]:
            part = found[group.value]
            assert (part.is_bonafide.sum(), (~part.is_bonafide).sum()) == (group.n_bonafide, group.n_spoof)
            assert eer_percent(part.score, part.is_bonafide) == group.metrics["eer_percent"].value


def test_the_grid_holds_the_eer_of_every_pair(trials):
    grid = eer_grid(trials, "attack", "codec")
    attack, codec = trials.columns["attack"], trials.columns["codec"]
    for i, a in enumerate(grid.rows):
        for j, c in enumerate(grid.columns):
            kept = trials.is_bonafide | (attack == a) if a != "pooled" else np.ones(len(trials), bool)
            kept &= (codec == c) if c != "pooled" else True
            assert grid.percent[i, j] == eer_percent(trials.score[kept], trials.is_bonafide[kept])
            assert grid.n_spoof[i, j] == np.sum(kept & ~trials.is_bonafide)
    pooled = grid.percent[:-1, -1]
    assert (np.diff(pooled) <= 0).all()
    assert grid.percent[-1, -1] == 100 * eer(trials.score, trials.is_bonafide).value
    turned = eer_grid(trials, "codec", "attack")
    np.testing.assert_array_equal(turned.percent, grid.percent.T)
    with pytest.raises(UsageError, match="no column 'vocoder'"):
        eer_grid(trials, "attack", "vocoder")


def test_heat_map_prints_every_figure_and_leaves_out_what_is_too_small(trials):
    codec = trials.columns["codec"].astype(object)
    codec[np.flatnonzero(trials.columns["attack"] == "A01")[:3]] = "rare"
    some = Trials(trials.utterance_id, trials.score, trials.is_bonafide, {**trials.columns, "codec": codec})
    grid = eer_grid(some, "attack", "codec")
    assert np.isnan(grid.percent[grid.rows.index("A01"), grid.columns.index("rare")])
    assert grid.columns[-2:] == ["rare", "pooled"]
    svg = inline_svg(heatmap_figure(grid), alt="a", prefix="p")
    finite = np.isfinite(grid.percent)
    assert svg.count('data-name="cell"') == finite.sum()
    texts = re.findall(r">([\d.]+|–)</text>", svg)
    assert sorted(texts) == sorted(
        f"{p:.1f}" if ok else "–" for p, ok in zip(grid.percent.ravel(), finite.ravel(), strict=True)
    )


@pytest.mark.filterwarnings("error")
def test_hostile_names_are_drawn_as_they_are():
    rng = np.random.default_rng(0)
    n = 40 * len(HOSTILE)
    names = np.array([HOSTILE[i % len(HOSTILE)] for i in range(n)], dtype=object)
    is_bonafide = np.arange(n) < n // 2
    other = np.array(["x", "y"], dtype=object)[rng.integers(0, 2, n)]
    some = Trials(
        np.arange(n).astype(str), rng.normal(0, 1, n) + is_bonafide, is_bonafide, {"<b>": names, "c": other}
    )
    for figure in (ridge_figure(group_trials(some, "<b>")), heatmap_figure(eer_grid(some, "<b>", "c"))):
        svg = inline_svg(figure, alt="a", prefix="p")
        assert "<script" not in svg
        assert "\x1b" not in svg
        assert "日本語" in svg


def test_rows_without_trials_are_left_out_and_nothing_at_all_is_said(trials):
    nothing = Trials(np.array([]), np.array([]), np.array([], dtype=bool))
    svg = inline_svg(ridge_figure({"some": trials, "empty row": nothing}), alt="a", prefix="p")
    assert "some" in svg
    assert "empty row" not in svg
    with pytest.raises(UsageError, match="nothing to draw"):
        ridge_figure({"none": nothing})


# In the report and on disk


def test_likelihood_blocks_say_where_the_scores_mislead():
    good, bad = llr_trials(300, 300), llr_trials(300, 300, scale=30.0)
    words = [
        block.paragraphs[0] for t in (good, bad) for block in likelihood_blocks(t) if isinstance(block, Prose)
    ]
    assert "mislead" not in words[0]
    assert "mislead" in words[1]


def test_group_blocks_follow_the_breakdown(trials):
    def figures(by: list[str]) -> list[str]:
        blocks = group_blocks(evaluate(trials, by, n_bootstrap=0), trials)
        return [f.alt for block in blocks if isinstance(block, Figures) for f in block.figures]

    assert figures([]) == []
    assert len(figures(["attack"])) == 1
    assert any("attack and codec" in alt for alt in figures(["codec", "attack"]))
    speakers = np.array([f"s{i % 40}" for i in range(len(trials))])
    many = Trials(trials.utterance_id, trials.score, trials.is_bonafide, {"speaker": speakers})
    blocks = group_blocks(evaluate(many, ["speaker"], n_bootstrap=0), many)
    assert f"The {MAX_RIDGES} worst" in blocks[0].figures[0].caption


def test_write_figures(trials, tmp_path):
    evaluation = evaluate(trials, ["attack", "codec"], n_bootstrap=20)
    written = write_figures(tmp_path / "new", trials, evaluation, systems={"a": trials, "b": make_trials()})
    assert {p.name for p in written} == {p.name for p in (tmp_path / "new").iterdir()} == {
        "det.pdf", "scores.pdf", "reliability.pdf", "tippett.pdf", "bayes_error.pdf",
        "normalised_bayes_error.pdf", "scores_by_attack.pdf", "scores_by_codec.pdf", "eer_attack_codec.pdf",
    }  # fmt: skip
    assert all(p.read_bytes().startswith(b"%PDF") for p in written)
    assert isinstance(written[0], Path)
