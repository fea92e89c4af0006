"""The report on one recording: offline, the same bytes again, safe, and right where parts are missing."""

from __future__ import annotations

import base64
import io
import re
import tracemalloc
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pypdf
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from analysis_factory import FORBIDS, REDUCED, UNCALIBRATED, WHY, make_analysis, write_speechlike
from test_report import HOSTILE, Document
from voxfide.analysis.result import Explanation, Stretch, Window
from voxfide.audio import load_audio
from voxfide.conditions import Conditions, Segment
from voxfide.errors import UsageError
from voxfide.report.drawing import Drawing, Hint, Ink, Label, Lines, Rectangle
from voxfide.report.pdf_fonts import drawable
from voxfide.report.recording import recording_page, write_recording_report
from voxfide.report.recording_excerpts import choose_parts
from voxfide.report.recording_facts import MEASURES, default_command
from voxfide.report.recording_signal import (
    COLUMNS,
    ROWS,
    Envelope,
    Spectrogram,
    grey_png,
    read_signal,
    shades,
)
from voxfide.report.recording_timeline import clock, score_cells
from voxfide.report.recording_verdict import odds_words, percent

URLS = re.compile(r"(?i)\w+://|[\"'(=]//|url\(|@import")


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    return write_speechlike(tmp_path_factory.mktemp("audio") / "interview.wav")


def html_of(analysis, **options) -> str:
    return recording_page(analysis, **options).to_html()


def pdf_text(path: Path) -> str:
    return "\n".join(page.extract_text() for page in pypdf.PdfReader(path).pages)


# One file, twice


@pytest.mark.parametrize("suffix", [".html", ".pdf"])
def test_the_same_input_gives_the_same_bytes(recording, tmp_path, suffix):
    paths = [tmp_path / name / f"r{suffix}" for name in ("a", "b")]
    for path in paths:
        assert write_recording_report(path, make_analysis(recording)) == path
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert [p.name for p in paths[0].parent.iterdir()] == [paths[0].name]


@pytest.mark.parametrize("suffix", [".html", ".pdf"])
def test_folders_and_the_time_do_not_show(recording, tmp_path, suffix):
    elsewhere = tmp_path / "secret folder" / recording.name
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(recording.read_bytes())
    reports = [tmp_path / f"{i}{suffix}" for i in range(2)]
    for report, audio in zip(reports, (recording, elsewhere), strict=True):
        write_recording_report(report, make_analysis(audio))
    assert reports[0].read_bytes() == reports[1].read_bytes()
    assert b"secret folder" not in reports[1].read_bytes()


def test_another_suffix_and_another_file_are_refused(recording, tmp_path):
    with pytest.raises(UsageError, match=r"\.html or \.pdf"):
        write_recording_report(tmp_path / "r.docx", make_analysis(recording))
    other = write_speechlike(tmp_path / "other.wav", seed=1)
    with pytest.raises(UsageError, match="not the file that was analysed"):
        write_recording_report(tmp_path / "r.html", make_analysis(recording), audio=other)
    assert not list(tmp_path.glob("r.*"))


def test_decoded_samples_may_stand_in_for_the_file(recording, tmp_path):
    copy = tmp_path / "copy.wav"
    sf.write(copy, load_audio(recording).waveform, 16000, "FLOAT")
    analysis = make_analysis(recording)
    with pytest.raises(UsageError, match="not the file that was analysed"):
        html_of(analysis, audio=copy)
    own, decoded = html_of(analysis), html_of(analysis, audio=copy, decoded=True)
    assert Document(own).text == Document(decoded).text


def test_the_command_states_the_rule_in_full(recording):
    rule = {"kind": "bayes", "prior": 0.25, "c_miss": 1.0, "c_fa": 10, "c_inconclusive": None}
    analysis = make_analysis(Path("/x y/a b.wav"), rule=rule, why=None)
    assert default_command(analysis) == "voxfide detect 'a b.wav' --prior 0.25 --cost-miss 1 --cost-fa 10"
    rule = {"kind": "threshold", "prior": None, "bonafide_from": -1.5, "spoof_below": -1.5}
    named = replace(analysis, rule=rule, why=WHY, detector=replace(UNCALIBRATED, name="my model"))
    assert default_command(named) == ("voxfide detect 'a b.wav' --detector 'my model' --threshold -1.5 --why")


# The page


def test_the_page_is_well_formed_asks_nobody_and_is_small(recording):
    html = html_of(make_analysis(recording))
    document = Document(html)
    ids = document.attributes("id")
    assert len(ids) == len(set(ids))
    for target in document.attributes("href"):
        assert target.startswith(("#", "data:")), target
        assert target[1:] in ids or target.startswith("data:")
    assert not document.attributes("style")
    without_data = re.sub(r"data:[a-z]+/[a-z]+;base64,[\w+/=]+", "", html)
    assert not URLS.search(without_data.replace("http://www.w3.org/2000/svg", "")), "an address of a host"
    assert all(source.startswith("data:") for source in document.attributes("src"))
    assert "default-src 'none'" in html
    assert len(re.sub(r'src="data:audio[^"]+"', "", html)) < 500_000


def test_every_picture_has_words_and_every_player_a_name(recording):
    document = Document(html_of(make_analysis(recording)))
    for tag, attributes in document.tags:
        if tag == "svg":
            assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"
        if tag == "audio":
            assert attributes["aria-label"]
    assert document.tags[0] == ("html", {"lang": "en"})


def test_what_is_known_is_said(recording):
    analysis = make_analysis(recording)
    text = Document(html_of(analysis, command="voxfide detect interview.wav --why")).text
    for fact in (
        "Inconclusive",
        "59 %",
        REDUCED.sentence,
        analysis.sha256,
        analysis.detector.fingerprint,
        "pcm_s16le",
        "evidence, not proof",
        "voxfide detect interview.wav --why",
        "m.csv",
        "1.4 times as likely for bona fide speech",
    ):
        assert fact in text, fact


def test_a_stretch_leads_to_its_place_in_the_player(recording):
    document = Document(html_of(make_analysis(recording)))
    links = [a for tag, a in document.tags if tag == "a" and "data-at" in a]
    assert {(a["href"], float(a["data-at"])) for a in links} == {("#excerpt-1", 3.0)}
    assert len(links) == 2  # in the drawing and under the player
    (audio,) = [a for tag, a in document.tags if tag == "audio"]
    assert (audio["data-start"], audio["data-end"]) == ("0.000", "9.000")
    mp3 = base64.b64decode(audio["src"].split(",")[1])
    assert load_audio(mp3).info.duration == pytest.approx(9.0, abs=0.1)


@pytest.mark.parametrize(
    ("score", "probability", "words"),
    [
        (2.0, 0.88, "7.4 times as likely for bona fide"),
        (-3.0, 0.047, "20 times as likely for a spoof as for bona fide"),
    ],
)
def test_verdicts_in_words(recording, score, probability, words):
    verdict = "bonafide" if score > 0 else "spoof"
    analysis = make_analysis(recording, score=score, probability=probability, verdict=verdict, reasons=())
    text = Document(html_of(analysis)).text
    assert words in text
    assert ("genuine human speech" in text) == (score > 0)
    assert "None of the measured conditions passes a limit" in text


def test_reasons_that_forbid_a_verdict_stand_first(recording):
    text = Document(html_of(make_analysis(recording, reasons=(FORBIDS, REDUCED)))).text
    assert text.index(f"No verdict: {FORBIDS.sentence}") < text.index(f"Less trust: {REDUCED.sentence}")
    assert "What stands in the way is listed below" in text


# What may be missing

MISSING = {
    "no calibration": {"detector": UNCALIBRATED, "probability": None, "prior": None},
    "no score": {
        "score": None, "probability": None, "windows": (), "stretches": (), "speech": (),
        "reasons": (FORBIDS,),
    },
    "no explanation": {"why": None},
    "an empty explanation": {"why": Explanation()},
    "no file": {"sha256": None, "n_bytes": None},
    "no rule": {"rule": {}},
    "no length": {
        "seconds": 0.0, "windows": (), "stretches": (), "speech": (), "score": None, "probability": None
    },
    "layers of members": {
        "why": replace(WHY, layers=tuple(w._replace(member=m) for m in "ab" for w in WHY.layers))
    },
}  # fmt: skip


@pytest.mark.parametrize("missing", MISSING)
def test_what_is_missing_is_left_out_or_said(recording, tmp_path, missing):
    analysis = make_analysis(recording, **MISSING[missing])
    document = Document(html_of(analysis))
    write_recording_report(tmp_path / "r.pdf", analysis)
    for text in (document.text, pdf_text(tmp_path / "r.pdf")):
        assert "None" not in text.replace("None of the measured", "")
        assert not re.search(r"\bnan\b", text)
    if missing == "no calibration":
        assert "not calibrated" in document.text
        assert "59 %" not in document.text
        assert "likelihood ratio is" not in document.text
    if missing == "no score":
        assert "no window was scored" in document.text
        assert "enough speech to be scored" in document.text


def test_audio_that_is_gone_is_said_and_the_rest_is_reported(tmp_path):
    analysis = make_analysis(tmp_path / "gone.wav")
    text = Document(html_of(analysis)).text
    assert "the audio cannot be read" in text
    assert "Spectrogram" not in text.replace("spectrogram", "")
    assert "<audio" not in html_of(analysis)
    junk = tmp_path / "junk.wav"
    junk.write_bytes(b"no audio at all" * 50)
    assert "the audio cannot be read" in html_of(make_analysis(junk))


@pytest.mark.parametrize("samples", [np.zeros(16000), np.full(9, 0.5), np.zeros(1), np.full(40_000, -1.0)])
def test_odd_recordings_have_a_report(tmp_path, samples):
    path = tmp_path / "odd.wav"
    sf.write(path, samples, 16000)
    analysis = make_analysis(path, len(samples) / 16000, windows=(), speech=(), score=None, probability=None)
    Document(html_of(analysis))
    write_recording_report(tmp_path / "r.pdf", analysis)
    assert "odd.wav" in pdf_text(tmp_path / "r.pdf")


# Names that mean harm


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_shown_and_do_nothing(recording, tmp_path, name):
    analysis = make_analysis(recording)
    why = replace(WHY, members=tuple(m._replace(name=name) for m in WHY.members))
    detector = replace(analysis.detector, name=name, facts={name: name}, calibrated_on={name: name})
    reason = replace(REDUCED, sentence=name)
    hostile = replace(analysis, path=f"/a/b/{name}", detector=detector, why=why, reasons=(reason,))
    harmless = Document(html_of(analysis, audio=recording))
    document = Document(html_of(hostile, audio=recording, command=name))
    assert document.inline == harmless.inline
    assert [t for t, _ in document.tags if t == "script"] == ["script"]
    assert not any(a.startswith("on") for _, attributes in document.tags for a in attributes)
    for char in ("\u202e", "\x1b", "\x00"):
        assert char not in document.text
    write_recording_report(tmp_path / "r.pdf", hostile, audio=recording, command=name)
    reader = pypdf.PdfReader(tmp_path / "r.pdf")
    assert len(reader.pages) > 2
    assert b"/JavaScript" not in (tmp_path / "r.pdf").read_bytes()


@settings(max_examples=60)
@given(st.text(max_size=30))
def test_text_in_a_pdf_is_drawable_whatever_it_is(text):
    shown = drawable(text)
    assert drawable(shown) == shown or any("\u0590" <= c <= "\uffff" for c in text)
    assert all(c.isprintable() or c in " \u00ad" or ord(c) > 127 for c in shown)


def test_scripts_that_the_fonts_lack_or_that_run_the_other_way():
    assert drawable("Запись ώρα é.wav") == "Запись ώρα é.wav"
    assert drawable("采访.wav") == "\\u91c7\\u8bbf.wav"
    assert drawable("שלום עולם 1.wav") == "םלוע םולש 1.wav"
    assert drawable("a\U0001f600b") in ("a\U0001f600b", "a\\U0001f600b")


# PDF


def test_the_pdf_holds_what_the_page_says_less_the_players(recording, tmp_path):
    analysis = make_analysis(recording)
    path = write_recording_report(tmp_path / "r.pdf", analysis)
    reader = pypdf.PdfReader(path)
    text = pdf_text(path)
    squeezed = re.sub(r"\s+", "", text)
    page = recording_page(analysis, with_players=False)
    for section in page.sections:
        assert section.title in text
    for fact in (
        analysis.sha256,
        analysis.detector.fingerprint,
        REDUCED.sentence,
        "Inconclusive",
        "3,000–8,000Hz",
    ):
        assert re.sub(r"\s+", "", fact) in squeezed
    assert f"1 / {len(reader.pages)}" in text
    assert "player" not in text.lower()
    assert reader.metadata.title == "interview.wav"
    assert [round(float(x)) for x in reader.pages[0].mediabox[2:]] == [595, 842]
    fonts = [f.get_object() for p in reader.pages for f in p["/Resources"]["/Font"].values()]
    assert {f["/BaseFont"].split("+")[1] for f in fonts} == {
        "DejaVuSans",
        "DejaVuSans-Bold",
        "DejaVuSansMono",
    }
    assert all("/FontFile2" in f["/FontDescriptor"] for f in fonts), "not embedded"


# Pictures


def test_a_long_recording_is_read_at_a_bounded_size(tmp_path):
    path = tmp_path / "long.flac"
    with sf.SoundFile(path, "w", 16000, 1) as file:
        block = (0.1 * np.random.default_rng(0).standard_normal(16000 * 30)).astype(np.float32)
        for _ in range(20):
            file.write(block)
    read_signal(path, 600.0)  # imports
    tracemalloc.start()
    picture = read_signal(path, 600.0, [Segment(0, 12), Segment(590, 602)])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40e6
    assert picture.envelope.shape == (COLUMNS,)
    assert picture.spectrogram[16:24] == COLUMNS.to_bytes(4, "big") + ROWS.to_bytes(4, "big")
    assert [len(e) / 16000 for e in picture.excerpts] == [12, 10]
    stretches = tuple(Stretch(float(i), i + 2.0, -i / 100) for i in range(0, 600, 20))
    windows = tuple(Window(float(i), i + 4.0, 0.1, 4.0) for i in range(0, 596, 1))
    analysis = make_analysis(path, 600.0, stretches=stretches, windows=windows)
    document = Document(html_of(analysis))
    assert sum(tag == "audio" for tag, _ in document.tags) == 8
    assert "the 8 marked stretches, of 30, that score lowest" in document.text
    assert len(html_of(analysis)) < 2_000_000
    assert sum(tag == "tr" for tag, _ in document.tags) < 250


@settings(max_examples=15)
@given(st.integers(1, 30_000), st.lists(st.integers(1, 5000), min_size=1, max_size=20), st.integers(0, 9))
def test_pictures_do_not_depend_on_the_chunks(n_samples, sizes, seed):
    signal = np.random.default_rng(seed).standard_normal(n_samples).astype(np.float32)
    columns = max(1, n_samples // 64)
    results = []
    for lengths in ([n_samples], sizes):
        envelope, spectrum = Envelope(n_samples, columns), Spectrogram(n_samples, columns)
        position = i = 0
        while position < n_samples:
            chunk = signal[position : position + lengths[i % len(lengths)]]
            envelope.push(chunk)
            spectrum.push(chunk)
            position, i = position + len(chunk), i + 1
        results.append((envelope.peaks, spectrum.finish()))
    assert np.array_equal(results[0][0], results[1][0])
    assert np.allclose(results[0][1], results[1][1], atol=1e-6)
    assert results[0][0].max() == pytest.approx(np.abs(signal).max())


def test_the_spectrogram_shows_a_tone_at_its_place(tmp_path):
    path = tmp_path / "tone.wav"
    time = np.arange(32000) / 16000
    sf.write(path, 0.5 * np.sin(2 * np.pi * 3000 * time) * (time > 1), 16000)
    picture = read_signal(path, 2.0)
    grey = np.array(Image.open(io.BytesIO(picture.spectrogram)))
    row = round((1 - 3000 / 8000) * ROWS)
    half = grey.shape[1] // 2
    assert grey[row - 2 : row + 2, half + 20 :].min(axis=0).max() < 40
    assert grey[:, : half - 20].min() > 200
    assert picture.envelope[: half - 2].max() < 1e-6
    assert picture.envelope[half + 5 :].min() > 0.3


def test_png_is_lossless():
    grey = np.random.default_rng(0).integers(0, 256, (7, 11), np.uint8)
    assert np.array_equal(np.array(Image.open(io.BytesIO(grey_png(grey)))), grey)
    levels = np.array([[-100.0, -20.0, 0.0]])
    assert list(shades(levels)[0]) == sorted(shades(levels)[0], reverse=True)


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0.1, 9), st.floats(-5, 5)), min_size=1, max_size=12))
def test_cells_are_the_mean_of_the_windows_that_cover_them(raw):
    windows = sorted(Window(a, a + length, score, 1.0) for a, length, score in raw)
    cells = score_cells(windows)
    assert cells[0].start == min(w.start for w in windows)
    assert cells[-1].end == max(w.end for w in windows)
    for cell in cells:
        middle = (cell.start + cell.end) / 2
        covering = [w.score for w in windows if w.start <= middle < w.end and cell.end - cell.start > 1e-9]
        if covering:
            assert cell.score == pytest.approx(np.mean(covering), abs=1e-6)
    assert len(score_cells([Window(i / 2, i / 2 + 1, 0.5, 1) for i in range(5000)])) <= 1000


# Small parts


def test_every_measure_has_a_name_for_people():
    of_the_file = {"container", "codec", "sample_rate", "lossy"}
    assert {f.name for f in fields(Conditions)} - of_the_file == set(MEASURES)


@pytest.mark.parametrize(
    ("time", "step", "text"),
    [(5, 1, "5"), (5.25, 0.1, "5.2"), (65, 1, "1:05"), (59.96, 0.1, "1:00.0"), (3725, 60, "1:02:05"),
     (59.7, 1, "1:00"), (119.97, 0.1, "2:00.0")],
)  # fmt: skip
def test_clock(time, step, text):
    assert clock(time, step) == text


@given(st.floats(0, 1))
def test_percentages_are_never_certain(share):
    text = percent(share)
    assert text.endswith(" %")
    assert text not in ("0 %", "100 %", "0.0 %", "100.0 %")


def test_odds_in_words():
    assert "about as likely" in odds_words(0.01)
    assert "2.0 times as likely for bona fide speech as for a spoof" in odds_words(np.log(2))
    assert "more than a million times as likely for a spoof" in odds_words(-800)


def test_parts_of_long_recordings_are_their_stretches_or_the_lowest_window():
    far = make_analysis("no.wav", 600.0, stretches=(Stretch(100, 130, -2.0), Stretch(300, 302, -1.0)))
    parts = choose_parts(far)
    assert [p.segment for p in parts] == [Segment(99, 111), Segment(299, 303)]
    assert [p.stretches for p in parts] == [(0,), (1,)]
    assert "its beginning" in parts[0].title
    (lowest,) = choose_parts(replace(far, stretches=()))
    assert lowest.segment.start == min(far.windows, key=lambda w: w.score).start
    assert choose_parts(replace(far, stretches=(), windows=())) == []


def test_drawings_become_markup_without_styles():
    ink = Ink(fill="s1", stroke="ink", opacity=0.5, dashes=(1, 2))
    shapes = [
        Rectangle(0, 0, 1, 2, ink),
        Lines([[(0, 0), (1.005, -0.0001)], []], Ink(stroke="s2")),
        Label(1, 2, "<b>", turned=True),
        Hint(0, 0, 1, 1, 'say "x"', "there", 1.5),
    ]
    document = Document(Drawing(10, 10, shapes, "what & that").to_svg())
    (path,) = document.attributes("d")
    assert path == "M0 0L1 0" or path.startswith("M0 0L1.")
    assert document.attributes("data-at") == ["1.5"]
    assert document.text == '<b>say "x"'
    assert not document.attributes("style")
