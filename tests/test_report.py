"""The report: one offline file, everything escaped, the same bytes again, and the right figures."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import subprocess
import sys
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import example, given
from hypothesis import strategies as st

from voxfide.errors import UsageError
from voxfide.evaluation import Trials, evaluate
from voxfide.metrics.det import merged_det_curve
from voxfide.report import (
    Budget,
    Clip,
    Column,
    Figure,
    KeyValues,
    Notice,
    Page,
    Players,
    Prose,
    Section,
    Stat,
    Stats,
    Table,
    add_audio,
    det_figure,
    histogram_figure,
    save_figure,
    write_evaluation_report,
)
from voxfide.report.figures import rates_at
from voxfide.report.markup import escape, inline, printable
from voxfide.report.svg import inline_svg
from voxfide.report.wording import plain_words

HOSTILE = [
    "<script>alert(1)</script>",
    "a\" onload='x' b",
    "\u202egnp.wav",
    "日本語",
    "\x1b[31mred\x00",
    "\udc80undecodable",
    "$x_1$ \\frac{",
    "]]><!-- & &amp;",
    "`code` | pipe",
    "line\nbreak",
]
VOID = {"meta", "link", "br", "img", "input", "hr"}


@dataclass(frozen=True)
class Estimated:
    value: float
    interval: tuple[float, float] | None = None


class Document(HTMLParser):
    """Checks that tags are balanced; collects ids, addresses, scripts and text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.inline: dict[str, str] = {}
        self.feed(text)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"repeated attribute in <{tag}>"
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            self.inline[self.open[-1]] = data
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def attributes(self, name: str) -> list[str]:
        return [attrs[name] for _, attrs in self.tags if name in attrs]


def make_trials(n_bonafide: int = 80, n_spoof: int = 160, *, shift: float = 2.0, seed: int = 0) -> Trials:
    rng = np.random.default_rng(seed)
    n = n_bonafide + n_spoof
    is_bonafide = np.arange(n) < n_bonafide
    attack = np.array(["-" if b else f"A{i % 4:02d}" for i, b in enumerate(is_bonafide)])
    hardness = np.where(attack == "A01", 1.5, 0.0)
    score = rng.normal(0, 1, n) + np.where(is_bonafide, shift, 0.0) + hardness
    names = np.array([f"utt_{i:05d}" for i in range(n)])
    codec = rng.choice(["none", "opus"], n)
    return Trials(names, score, is_bonafide, {"attack": attack, "codec": codec})


def hostile_trials() -> Trials:
    trials = make_trials()
    names = trials.utterance_id.astype(object)
    score = trials.score.copy()
    names[: len(HOSTILE)] = HOSTILE
    score[: len(HOSTILE)] = -9.0 - np.arange(len(HOSTILE))
    columns = {"<b>col</b>": np.array([HOSTILE[i % len(HOSTILE)] for i in range(len(names))], dtype=object)}
    return Trials(names, score, trials.is_bonafide, columns)


@pytest.fixture(scope="module")
def trials() -> Trials:
    return make_trials()


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audio") / "tone.wav"
    time = np.arange(3 * 16_000) / 16_000
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * 220 * time) * np.hanning(time.size), 16_000)
    return path


@pytest.fixture(scope="module")
def report(trials: Trials, audio: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "deep" / "report.html"
    broken = audio.with_name("broken.wav")
    broken.write_bytes(b"%PDF-1.7 not audio at all")
    paths = {str(name): audio for name in trials.utterance_id}
    top_spoof = np.argmax(np.where(trials.is_bonafide, -np.inf, trials.score))
    paths[str(trials.utterance_id[top_spoof])] = broken
    written = write_evaluation_report(
        path,
        evaluate(trials, ["attack", "codec"], n_bootstrap=20),
        trials,
        title="A detector",
        provenance={"Command": "`voxfide evaluate s.tsv`", "Missing trials": {"utt_x": "not audio"}},
        audio_paths=paths,
        notes=["A small set."],
    )
    assert written == path
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    return path.read_text(encoding="utf-8")


def assert_self_contained(html: str) -> Document:
    document = Document(html)
    for name in ("src", "href", "xlink:href", "srcset", "action", "poster", "data"):
        assert all(value.startswith(("data:", "#")) for value in document.attributes(name))
    assert not re.search(r"url\(\s*['\"]?(?!#)", html)
    assert "@import" not in html
    assert not document.attributes("style"), "the policy would drop style attributes"
    ids = document.attributes("id")
    assert len(ids) == len(set(ids))
    targets = [h[1:] for h in document.attributes("href") if h.startswith("#")]
    targets += re.findall(r"url\(#([^)]+)\)", html)
    targets += [n for a in document.attributes("aria-labelledby") for n in a.split()]
    assert set(targets) <= set(ids)
    return document


# The page


def test_report_is_one_offline_file_with_a_policy_that_fits_it(report: str) -> None:
    document = assert_self_contained(report)
    policy = next(a["content"] for t, a in document.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    for kind in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(document.inline[kind].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_report_says_what_the_evaluation_found(report: str, trials: Trials) -> None:
    text = Document(report).text
    evaluation = evaluate(trials, ["attack"], n_bootstrap=20)
    eer = evaluation.metrics["eer_percent"]
    assert eer.interval is not None
    assert f"{eer.value:.2f}" in text
    assert f"95 % interval {eer.interval[0]:.2f} to {eer.interval[1]:.2f}" in text
    assert "higher score means more bona fide" in text
    for expected in ("minDCF", "actDCF", "Cllr", "AUC", "voxfide evaluate s.tsv", "utt_x", "A small set."):
        assert expected in text
    worst = evaluation.by["attack"][0]
    assert worst.value == "A01"
    assert text.index("A01") < text.index("A03")


def test_worst_errors_are_those_on_the_wrong_side(report: str, trials: Trials) -> None:
    threshold = evaluate(trials, n_bootstrap=0).thresholds["eer"]
    document = Document(report)
    shown = re.findall(r"utt_\d{5}", document.text)
    spoof = np.flatnonzero(~trials.is_bonafide & (trials.score > threshold))
    expected = spoof[np.argsort(-trials.score[spoof])][:6]
    assert shown[: len(expected)] == trials.utterance_id[expected].tolist()
    bonafide = np.flatnonzero(trials.is_bonafide & (trials.score <= threshold))
    expected = bonafide[np.argsort(trials.score[bonafide])][:6]
    assert shown[-len(expected) :] == trials.utterance_id[expected].tolist()


def test_players_hold_the_audio_and_a_broken_file_says_why(report: str) -> None:
    document = Document(report)
    sources = [a["src"] for tag, a in document.tags if tag == "audio"]
    assert len(sources) == 11
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(sources[0].split(",")[1])))
    assert rate == 16_000
    assert abs(samples.size / rate - 3.0) < 0.15
    spectrum = np.abs(np.fft.rfft(samples))
    assert abs(np.argmax(spectrum) * rate / samples.size - 220) < 2
    assert document.text.count("No player:") == 1
    assert report.count('class="wave"') == 11


def test_page_has_landmarks_captions_and_scopes(report: str) -> None:
    document = Document(report)
    tags = [tag for tag, _ in document.tags]
    assert all(tags.count(tag) == 1 for tag in ("header", "nav", "main", "footer", "h1"))
    assert tags.count("table") == tags.count("caption") > 3
    assert all("scope" in attrs for tag, attrs in document.tags if tag == "th")
    figures = [attrs for tag, attrs in document.tags if tag == "svg" and attrs.get("class") == "figure"]
    assert all(f["role"] == "img" and f["aria-label"] for f in figures)
    assert all(a.get("aria-label") for tag, a in document.tags if tag == "audio")
    assert dict(document.tags)["html"]["lang"] == "en"


def test_same_input_same_bytes(trials: Trials, audio: Path, tmp_path: Path) -> None:
    def write(name: str) -> bytes:
        evaluation = evaluate(trials, ["attack"], n_bootstrap=10)
        paths = {str(i): audio for i in trials.utterance_id}
        path = tmp_path / name
        write_evaluation_report(path, evaluation, trials, title="t", provenance={}, audio_paths=paths)
        return path.read_bytes()

    assert write("first.html") == write("second.html")


def test_everything_from_users_is_escaped(tmp_path: Path) -> None:
    trials = hostile_trials()
    evaluation = evaluate(trials, ["<b>col</b>"], n_bootstrap=0)
    path = write_evaluation_report(
        tmp_path / "r.html",
        evaluation,
        trials,
        title=HOSTILE[0] + HOSTILE[2],
        provenance={HOSTILE[0]: HOSTILE[1], "g": {HOSTILE[7]: HOSTILE[5]}},
        notes=HOSTILE,
        audio_paths={},
    )
    html = path.read_bytes().decode("utf-8")
    document = assert_self_contained(html)
    tags = [tag for tag, _ in document.tags]
    assert tags.count("script") == 1
    assert "<b>col" not in html
    assert not document.attributes("onload")
    assert "\u202e" not in html
    assert "\x1b" not in html
    assert "\x00" not in html
    for text in (
        "<script>alert(1)</script>",
        "a\" onload='x' b",
        "日本語",
        "\\udc80undecodable",
        "<b>col</b>",
    ):
        assert text in document.text


def test_without_errors_audio_columns_or_intervals(tmp_path: Path) -> None:
    trials = make_trials(30, 30, shift=50.0)
    bare = Trials(trials.utterance_id, trials.score, trials.is_bonafide)
    path = write_evaluation_report(
        tmp_path / "r.html", evaluate(bare, n_bootstrap=0), bare, title="t", provenance={}
    )
    document = assert_self_contained(path.read_text(encoding="utf-8"))
    assert "no trial is misjudged" in document.text
    assert "without intervals" in document.text
    assert not [tag for tag, _ in document.tags if tag == "audio"]


def test_a_failed_write_leaves_the_old_report(trials: Trials, tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    path.write_text("old")
    one_class = Trials(trials.utterance_id, trials.score, np.ones(len(trials), dtype=bool))
    with pytest.raises(UsageError, match="at least one of each"):
        write_evaluation_report(path, evaluate(trials, n_bootstrap=0), one_class, title="t", provenance={})
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_hundred_thousand_trials_stay_small(tmp_path: Path) -> None:
    trials = make_trials(20_000, 80_000)
    speakers = np.array([f"s{i % 700}" for i in range(100_000)])
    many = Trials(trials.utterance_id, trials.score, trials.is_bonafide, {"speaker": speakers})
    evaluation = evaluate(many, ["speaker"], n_bootstrap=0)
    path = write_evaluation_report(tmp_path / "r.html", evaluation, many, title="t", provenance={})
    assert path.stat().st_size < 500_000
    assert "The 200 worst of 700 are shown." in path.read_text(encoding="utf-8")


def test_any_blocks_make_a_page(trials: Trials) -> None:
    figure = det_figure({"a": trials})
    blocks = [
        Prose(["`code` & <text>"]),
        Stats([Stat("Accuracy", "97.1", "of 300", "%")]),
        KeyValues({"a": 1, "long": {str(i): i for i in range(40)}, "none": {}, "nest": {"deep": {"x": "y"}}}),
        Notice(["mind"], "warning"),
        Figure(figure, "caption", "alt"),
        Figure(figure, "again", "alt"),
        Table([Column("a"), Column("b")], [("x", 1)], "t"),
        Players([Clip("u", "spoof", 0.5)]),
    ]
    page = Page("T", "s", [Section("Same", blocks), Section("Same", []), Section("日本", [])])
    document = assert_self_contained(page.to_html())
    assert {"same", "same-2", "section"} <= set(document.attributes("id"))
    assert "Figure 2." in document.text
    assert "details" in [tag for tag, _ in document.tags]
    assert "code & <text>" in document.text


def test_importing_the_report_loads_no_heavy_package() -> None:
    code = (
        "import sys, voxfide.report\n"
        "print([m for m in ('torch', 'matplotlib', 'scipy', 'soundfile', 'av') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Players


def test_audio_budget_is_kept(audio: Path) -> None:
    clips = [Clip(f"u{i}", "spoof", 0.0) for i in range(6)]
    paths = {clip.name: audio for clip in clips}
    size = len(add_audio(clips[:1], paths)[0].audio.mp3)  # type: ignore[union-attr]
    encoded = 4 * -(-size // 3)
    by_bytes = add_audio(clips, paths, Budget(bytes=2 * encoded))
    assert [c.audio is not None for c in by_bytes] == [True, True, False, False, False, False]
    assert by_bytes[2].reason == "left out to keep the page small"
    by_count = add_audio(clips, paths, Budget(clips=3, seconds=1.0))
    assert sum(c.audio is not None for c in by_count) == 3
    assert by_count[0].audio is not None
    assert by_count[0].audio.seconds == 1.0
    assert by_count[0].audio.total_seconds == pytest.approx(3.0)
    assert "first 1.0 s of 3.0 s" in Players(by_count).to_html()


# Figures


def series(svg: str, name: str) -> list[tuple[float, float]]:
    """Points of the longest path inside the group of that name."""
    group = svg[svg.index(f'data-name="{name}"') :]
    path = re.search(r' d="([^"]+)"', group)
    assert path is not None
    numbers = [float(n) for n in re.findall(r"-?\d+\.?\d*", path[1])]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def test_det_curve_falls_from_left_to_right_and_is_decimated() -> None:
    big = make_trials(10_000, 10_000)
    svg = inline_svg(det_figure({"sys": big}, marks={"sys": {"EER": 1.0}}), alt="a", prefix="p")
    points = series(svg, "det-sys")
    assert 100 < len(points) < 700
    xs, ys = np.array(points).T
    assert np.all(np.diff(xs) <= 1e-6)  # the threshold rises: fewer spoofs accepted …
    assert np.all(np.diff(ys) <= 1e-6)  # … more bona fide rejected (SVG's y points down)
    assert 'data-name="mark-EER"' in svg
    assert len(svg) < 60_000


def test_histogram_draws_both_classes_and_counts_outliers() -> None:
    many = make_trials(5_000, 5_000)
    many.score[:2] = 1e6
    svg = inline_svg(histogram_figure(many, thresholds={"EER": 1.0}), alt="a", prefix="p")
    assert len(series(svg, "scores-bona fide")) > 20
    assert len(series(svg, "scores-spoof")) > 20
    assert 'data-name="at-EER"' in svg
    assert "2 beyond the edges" in svg


def test_rates_at_a_threshold_equal_counting(trials: Trials) -> None:
    curve = merged_det_curve(trials.score, trials.is_bonafide)
    for threshold in (-10.0, *np.quantile(trials.score, [0.1, 0.5, 0.9]), trials.score[3], 10.0):
        accepted = trials.score >= threshold
        frr, far = rates_at(curve, float(threshold))
        assert frr == pytest.approx(np.mean(~accepted[trials.is_bonafide]))
        assert far == pytest.approx(np.mean(accepted[~trials.is_bonafide]))


@pytest.mark.filterwarnings("error")
def test_figures_of_several_systems_with_odd_names() -> None:
    systems = {name: make_trials(seed=i) for i, name in enumerate(HOSTILE)}
    svg = inline_svg(det_figure(systems), alt=HOSTILE[0], prefix="p")
    document = Document(svg)
    assert len([n for n in document.attributes("data-name") if n.startswith("det-")]) == len(HOSTILE)
    assert "日本語" in document.text
    assert "$x_1$" in document.text


@pytest.mark.parametrize("suffix", [".pdf", ".png", ".svg"])
def test_saved_figures_are_the_same_bytes(trials: Trials, tmp_path: Path, suffix: str) -> None:
    first, second = (save_figure(det_figure({"s": trials}), tmp_path / f"{n}{suffix}") for n in "ab")
    assert first.read_bytes() == second.read_bytes()
    assert len(first.read_bytes()) > 1_000


def test_figure_of_unknown_kind_is_refused(trials: Trials, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.pdf"):
        save_figure(histogram_figure(trials), tmp_path / "figure.docx")


def test_inline_svg_takes_its_colours_from_the_page(trials: Trials) -> None:
    svg = inline_svg(histogram_figure(trials), alt="a", prefix="p")
    assert "style=" not in svg
    assert "http" not in svg
    colours = set(re.findall(r"(?:fill|stroke)=\"([^\"]+)\"", svg))
    assert {c for c in colours if c.startswith("#")} == set()
    assert any(c.startswith("var(--fig-s2") for c in colours)


# Tables

COLUMNS = [
    Column("name", "Name"),
    Column("n", "Count"),
    Column("eer", "EER (%)", ".2f", estimate=True, bar=True),
]
ROWS = [
    ("a|b_c*", 1234, Estimated(12.3456, (11.0, 13.5))),
    ("100 % & $5 #{x}", None, Estimated(7.0)),
    ("_x_ \\ ~^", 3, None),
    ("日本", 0, Estimated(float("nan"), (float("nan"), 1.0))),
]
TABLE = Table(COLUMNS, ROWS, "A caption with 5 %.")
texts = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=12).map(printable)
numbers = st.one_of(st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False))


@given(st.lists(st.tuples(st.text(max_size=12), numbers), max_size=6))
@example([("\r", 0), ("", 1), ('"a,b"\n', 2.5)])
def test_csv_round_trip(rows: list[tuple[str, float]]) -> None:
    text = Table([Column("name"), Column("x", spec=".1f")], rows).to_csv()
    head, *body = csv.reader(io.StringIO(text, newline=""))
    assert head == ["name", "x"]
    assert [(name, float(x)) for name, x in body] == [(name, float(x)) for name, x in rows]


def parse_markdown(text: str) -> list[list[str]]:
    rows = []
    for line in text.splitlines():
        if line.startswith("|") and line.endswith("|"):
            cells = re.split(r"((?:\\.|[^|\\])*)\|", line[1:])
            rows.append([re.sub(r"\\(.)", r"\1", cell.strip()) for cell in cells[1::2]])
    return [rows[0], *rows[2:]]


@given(st.lists(st.tuples(texts, st.integers(0, 999)), min_size=1, max_size=6))
def test_markdown_round_trip(rows: list[tuple[str, int]]) -> None:
    parsed = parse_markdown(Table([Column("name"), Column("x")], rows).to_markdown())
    assert parsed == [["name", "x"], *([name.strip(), str(x)] for name, x in rows)]


def test_csv_spreads_estimates_at_full_precision() -> None:
    head, first, second, third, fourth = csv.reader(io.StringIO(TABLE.to_csv()))
    assert head == ["name", "n", "eer", "eer_low", "eer_high"]
    assert first == ["a|b_c*", "1234", "12.3456", "11.0", "13.5"]
    assert second == ["100 % & $5 #{x}", "", "7.0", "", ""]
    assert third == ["_x_ \\ ~^", "3", "", "", ""]
    assert fourth == ["日本", "0", "", "", "1.0"]


def test_markdown_shows_estimates() -> None:
    parsed = parse_markdown(TABLE.to_markdown())
    assert parsed[0] == ["Name", "Count", "EER (%)"]
    assert parsed[1] == ["a|b_c*", "1,234", "12.35 [11.00, 13.50]"]
    assert parsed[3] == ["_x_ \\ ~^", "3", "–"]
    assert "A caption" in TABLE.to_markdown()


def test_latex_escapes_and_aligns() -> None:
    latex = TABLE.to_latex()
    assert latex.startswith("\\begin{table}")
    assert "\\begin{tabular}{lrr}" in latex
    assert r"100 \% \& \$5 \#\{x\}" in latex
    assert r"\_x\_ \textbackslash{} \textasciitilde{}\textasciicircum{}" in latex
    assert latex.count("\\\\\n") == 1 + len(ROWS)
    body = latex.split("\\midrule")[1].split("\\bottomrule")[0]
    assert all(len(re.findall(r"(?<!\\)&", line)) == 2 for line in body.strip().splitlines())
    bare = Table([Column("a"), Column("b", spec=".1f")], [("[x]-1", -2.0)]).to_latex()
    assert "table}[t]" not in bare
    assert "{[}x]-1 & $-$2.0" in bare


def test_text_lines_up_with_wide_characters_and_shows_control_characters() -> None:
    from rich.cells import cell_len

    text = Table([Column("name"), Column("n")], [("日本", 1), ("abc", 1234), ("\x1b[2J\n", 5)]).to_text()
    lines = text.splitlines()
    assert len({cell_len(line) for line in lines}) == 1
    assert "\x1b" not in text
    assert "\\x1b[2J\\n" in text
    assert lines[3].endswith("1,234")


def test_html_bars_and_sort_keys() -> None:
    html = Table(COLUMNS, ROWS, "c", sortable=True).to_html(label="Table 1.", anchor="t")
    document = Document(html)
    assert "a|b_c*" in document.text
    assert 'data-value="12.3456"' in html
    assert html.count('<svg class="bar"') == 2
    points = [float(x) for x in re.findall(r'class="point" d="M([\d.]+) ', html)]
    ranges = re.findall(r'class="range" d="M([\d.]+) 6H([\d.]+)"', html)
    assert len(ranges) == 1
    assert points[1] < float(ranges[0][0]) < points[0] < float(ranges[0][1]) == 94


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="row 2 has 1 cells, the table 2 columns"):
        Table([Column("a"), Column("b")], [(1, 2), (3,)])


def test_empty_tables_in_every_form() -> None:
    empty = Table([Column("a"), Column("e", estimate=True)], [])
    assert empty.to_csv() == "a,e,e_low,e_high\n"
    assert parse_markdown(empty.to_markdown()) == [["a", "e"]]
    assert "toprule" in empty.to_latex()
    assert len(empty.to_text().splitlines()) == 2
    Document(empty.to_html())


# Words


@given(st.text())
def test_escaped_text_is_text_and_encodable(text: str) -> None:
    for safe in (escape(text), inline(text)):
        safe.encode("utf-8")
        document = Document(f'<p title="{escape(text)}">{safe}</p>')
        assert {tag for tag, _ in document.tags} <= {"p", "code"}
        assert document.tags[0][1]["title"] == printable(text, keep="\n\t")


@pytest.mark.parametrize(
    ("eer", "interval", "expected", "unexpected"),
    [
        (12.0, (10.0, 14.0), "12 in 100 ", "guessing"),
        (0.42, (0.3, 0.5), "4 in 1,000 ", "guessing"),
        (0.02, None, "2 in 10,000 ", "guessing"),
        (48.0, (44.0, 52.0), "cannot be told apart from guessing", "reversed"),
        (86.0, (80.0, 90.0), "may be reversed", "told apart"),
        (0.0, (0.0, 0.0), "without an error", "in 100"),
    ],
)
def test_plain_words(
    eer: float, interval: tuple[float, float] | None, expected: str, unexpected: str
) -> None:
    words = plain_words(eer, interval)
    assert expected in words
    assert unexpected not in words
