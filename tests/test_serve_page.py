"""The page in a real browser: Debian's Chromium without a window, steered by Playwright."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from serving import RATE, recording, serving, small_detector, spoilt, spoken
from voxfide.analysis.recording import analyse
from voxfide.serve.keys import add_key
from voxfide.serve.settings import Limits, ServiceSettings

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SHOTS = os.environ.get("VOXFIDE_SCREENSHOTS")
"""A folder for screenshots to look at; none are made without."""

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here (Debian: apt-get install chromium): the page is not tried"
)
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


def wav(signal: np.ndarray) -> bytes:
    file = io.BytesIO()
    sf.write(file, signal, RATE, format="WAV")
    return file.getvalue()


SPLICED = wav(np.concatenate([spoken(8.0, 1), spoilt(spoken(8.0, 2), 5), spoken(6.0, 1)]))
JUNK = b"%PDF-1.4 no recording\n" * 20


@pytest.fixture(scope="module")
def service():
    limits = Limits(upload_bytes=2_000_000)
    with serving(ServiceSettings(port=0, limits=limits)) as running:
        yield running
        assert running.service.workspace.leftovers() == []


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    said = tmp_path_factory.mktemp("microphone") / "said.wav"
    sf.write(said, spoken(6.0, seed=3), RATE)
    with playwright.sync_playwright() as steering:
        browser = steering.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--use-fake-device-for-media-stream",
                "--use-fake-ui-for-media-stream",
                f"--use-file-for-fake-audio-capture={said}",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(service, browser):
    """Opens the page; at the end nothing may have gone wrong in it, or to another host."""
    contexts, troubles = [], []

    def watch(page, url):
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on("console", lambda m: troubles.append(f"console: {m.text}") if "Policy" in m.text else None)
        page.on(
            "request",
            lambda r: (
                None if r.url.startswith((url, "blob:", "data:")) else troubles.append(f"asked {r.url}")
            ),
        )

    def open_(url=None, **options):
        url = url or service.url
        context = browser.new_context(accept_downloads=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        watch(page, url)
        page.goto(url + "/")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert troubles == []


def ready(page):
    page.locator("#limits", has_text="Any audio or video").wait_for()
    return page


def choose(page, *files: tuple[str, bytes]) -> None:
    payload = [{"name": n, "mimeType": "application/octet-stream", "buffer": c} for n, c in files]
    page.set_input_files("#files", payload)


def shoot(page, name: str) -> None:
    if SHOTS:
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        page.wait_for_timeout(500)
        page.screenshot(path=str(Path(SHOTS) / f"{name}.png"), full_page=True)


@pytest.mark.parametrize("kind", ["wav-s16", "mp3", "webm"])
def test_an_upload_becomes_a_verdict_with_its_numbers(open_page, tmp_path, kind):
    content = recording(7.0, seed=1, kind=kind)
    (tmp_path / "clip").write_bytes(content)
    offline = analyse(tmp_path / "clip", small_detector())
    page = ready(open_page())
    choose(page, (f"clip.{kind}", content))
    page.locator("#result .verdict").wait_for()
    words = {"bonafide": "Bona fide", "spoof": "Spoof", "inconclusive": "Inconclusive"}
    assert page.locator("#result-title").inner_text() == words[offline.verdict]
    text = page.locator("#result").inner_text()
    assert f"{offline.score:+.2f}".replace("-", "−") in text
    assert offline.sha256 in text
    assert "evidence, not proof" in text
    assert page.locator("#result .bars").count() >= 1
    assert page.evaluate_handle("document.activeElement").as_element().get_attribute("id") == "result-title"
    shoot(page, f"upload-{kind}")


def test_a_marked_stretch_can_be_listened_to_and_the_timeline_used_by_keys(open_page):
    page = ready(open_page())
    choose(page, ("spliced & <b>odd.wav", SPLICED))
    page.locator("#result .verdict").wait_for()
    assert "spliced & <b>odd.wav" in page.locator("#result .of").inner_text()
    stretch = page.locator(".stretches button").first
    assert re.match(r"Listen to the marked stretch from 0:\d\d\.\d to", stretch.get_attribute("aria-label"))
    stretch.click()
    timeline = page.locator(".timeline canvas")
    page.wait_for_timeout(400)
    assert float(timeline.get_attribute("aria-valuenow")) >= 8.0
    timeline.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(100)
    assert 1.9 <= float(timeline.get_attribute("aria-valuenow")) <= 4.0
    assert "of 0:22.0" in timeline.get_attribute("aria-valuetext")
    shoot(page, "spliced")


def test_the_report_and_the_data_are_downloaded(open_page):
    page = ready(open_page())
    choose(page, ("memo.wav", recording(4.0)))
    page.locator("#result .verdict").wait_for()
    for label, start, name in (
        ("Report (HTML)", b"<!doctype html", "memo.voxfide.html"),
        ("Report (PDF)", b"%PDF", "memo.voxfide.pdf"),
        ("Data (JSON)", b"{", "memo.voxfide.json"),
    ):
        with page.expect_download() as waiting:
            page.get_by_role("button", name=label).click()
        assert waiting.value.suggested_filename == name
        content = Path(waiting.value.path()).read_bytes()
        assert content.lower().startswith(start.lower())
    data = json.loads(content)
    assert data["path"] == "memo.wav"
    assert "overview" not in data


def test_a_recording_from_the_microphone(open_page):
    page = ready(open_page())
    page.get_by_role("button", name="Record", exact=True).click()
    page.locator("#record-time", has_text="0:03").wait_for()
    assert (
        float(
            page.locator("#record-level").get_attribute("value")
            or page.locator("#record-level").evaluate("m => m.value")
        )
        >= 0
    )
    shoot(page, "recording")
    page.get_by_role("button", name="Stop and check").click()
    page.locator("#result .verdict").wait_for()
    facts = page.locator("#result .facts").inner_text()
    assert "matroska, opus" in facts
    assert page.locator("#recorder").is_hidden()


def test_junk_and_files_that_are_too_large_are_explained(open_page):
    page = ready(open_page())
    choose(page, ("notes.wav", JUNK))
    alert = page.locator("#job-list .failed")
    alert.wait_for()
    assert alert.inner_text().startswith("notes.wav: is a PDF")
    assert alert.get_attribute("role") == "alert"
    shoot(page, "junk")
    alert.get_by_role("button").click()
    assert page.locator("#jobs").is_hidden()
    choose(page, ("long.wav", recording(80.0)))
    page.locator("#job-list .failed").wait_for()
    said = page.locator("#job-list").inner_text().replace("\xa0", " ")
    assert "The file has 2.6 MB; this service takes up to 2.0 MB." in said


def test_several_files_become_a_table_that_sorts(open_page):
    page = ready(open_page())
    choose(page, ("b.wav", SPLICED), ("notes.pdf", JUNK), ("a.mp3", recording(5.0, 3, "mp3")))
    page.locator("#table tbody tr").nth(2).wait_for()
    page.locator("#table .tag.failed").wait_for()

    def names() -> list[str]:
        return [t.split("\n")[0] for t in page.locator("#table tbody tr th").all_inner_texts()]

    page.get_by_role("button", name="Recording", exact=True).click()
    assert names() == ["a.mp3", "b.wav", "notes.pdf"]
    assert page.locator("#table thead th").first.get_attribute("aria-sort") == "ascending"
    page.get_by_role("button", name="Score", exact=True).click()
    page.get_by_role("button", name="Score", exact=True).click()
    assert names()[-1] == "notes.pdf"
    page.get_by_role("button", name="a.mp3", exact=True).click()
    assert page.locator("#result .of").inner_text() == "Verdict on a.mp3"
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download all as JSON").click()
    kept = json.loads(Path(waiting.value.path()).read_text())
    assert {k["path"] for k in kept} == {"a.mp3", "b.wav", "notes.pdf"}
    shoot(page, "table")


@pytest.mark.parametrize(("name", "options"), [
    ("dark", {"color_scheme": "dark"}),
    ("light", {"color_scheme": "light"}),
    ("phone", {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}),
])  # fmt: skip
def test_dark_and_light_and_phone(open_page, name, options):
    page = ready(open_page(**options))
    choose(page, ("spliced.wav", SPLICED))
    page.locator("#result .verdict").wait_for()
    paper = page.locator("body").evaluate("e => getComputedStyle(e).backgroundColor")
    shade = sum(map(int, re.findall(r"\d+", paper)[:3])) / 3
    assert (shade < 60) == (name == "dark")
    wide = page.locator("html").evaluate("e => [e.scrollWidth, e.clientWidth]")
    assert wide[0] <= wide[1], "the page scrolls sideways"
    shoot(page, name)


def test_everything_can_be_reached_by_keyboard_and_has_a_name(open_page):
    page = ready(open_page())
    choose(page, ("spliced.wav", SPLICED))
    page.locator("#result .verdict").wait_for()
    page.locator("body").evaluate("e => { document.activeElement.blur(); scrollTo(0, 0); }")
    seen = []
    for _ in range(25):
        page.keyboard.press("Tab")
        element = page.evaluate_handle("document.activeElement").as_element()
        seen.append(
            element.evaluate("e => e.id || e.getAttribute('aria-label') || e.textContent.trim().slice(0, 40)")
        )
    for wanted in ("pick", "record", "Position in the recording", "Report (HTML)", "Data (JSON)"):
        assert wanted in seen
    unnamed = page.locator("button, input:not([hidden]), canvas[role], meter, progress").evaluate_all(
        "all => all.filter(e => !(e.textContent.trim() || e.getAttribute('aria-label')"
        " || (e.labels && e.labels.length))).map(e => e.outerHTML)"
    )
    assert [u for u in unnamed if 'type="file"' not in u] == []


def test_a_service_with_keys_asks_for_one(open_page, tmp_path):
    key = add_key(tmp_path / "keys", "desk")
    with serving(ServiceSettings(port=0, keys=tmp_path / "keys")) as running:
        page = open_page(running.url)
        page.locator("#key-dialog").wait_for()
        page.locator("#key").fill(key)
        page.get_by_role("button", name="Continue").click()
        ready(page)
        choose(page, ("memo.wav", recording(3.0)))
        page.locator("#result .verdict").wait_for()
