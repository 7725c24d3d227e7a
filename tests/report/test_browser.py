"""The pages in a real browser, opened from the disk."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Page

from tests.helpers.clips import write_numbered_clip
from tests.helpers.processes import wait_until
from utils.outputs.settings import record
from utils.outputs.status_log import StatusLog
from utils.report import Report, page_path
from utils.report.overview import note_run, write_overview
from utils.report.page import add_page
from utils.report.sketch import Sketch
from utils.results import Features, Predictions, Row

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "\"quoted\" 'names' & <script>alert(2)<!--",
    "two\nlines #1?%20",
    "no text \udcff\udcfe",
]
SECONDS = 4.0  # of the clips: 100 frames
ROW_SECONDS, STEP_SECONDS = 0.64, 0.32


class Opened(NamedTuple):
    """A page, with what it said and asked for."""

    page: Page
    said: list[str]
    requests: list[str]


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Opened]:
    """A page that must say nothing, open no dialog and ask for nothing outside the folder."""
    page = browser.new_page()
    said: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.on("request", lambda request: requests.append(request.url))
    yield Opened(page, said, requests)
    page.close()
    assert said == []
    inside = b"file://" + os.fsencode(tmp_path)
    assert [url for url in requests if not unquote_to_bytes(url).startswith(inside)] == []


def make_report(folder: Path, stem: str) -> Path:
    """Extract nothing, but save what an extractor of I3D and one of VGGish would; return the video's page."""
    video = write_numbered_clip(folder / "clip.mp4", 100).rename(folder / f"{stem}.mp4")
    generator = np.random.default_rng(0)
    names = [f"{stem} {i} of a class with a rather long name" for i in range(20)]
    predictions = Predictions(names, {"both": np.log(generator.dirichlet(np.ones(20), 11))})
    for feature_type, row_seconds, step in (("i3d", ROW_SECONDS, STEP_SECONDS), ("vggish", 0.96, 0.96)):
        num_rows = int((SECONDS - row_seconds) / step) + 1
        spans = [(i * step, i * step + row_seconds) for i in range(num_rows)]
        sketch = Sketch(16, 8, 224)
        if feature_type == "vggish":
            list(sketch.sound(iter([torch.rand(num_rows, 96, 64)]), "125 Hz", "7500 Hz"))
            rows = {"vggish": generator.random((num_rows, 128), np.float32)}
        else:
            for _ in sketch.frames(torch.full((3, 224, 224), i, dtype=torch.uint8) for i in range(100)):
                pass
            for i in range(num_rows):
                sketch.add_flow(i, torch.full((2, 224, 224), float(i)))
            rows = {stream: generator.random((num_rows, 1024), np.float32) for stream in ("rgb", "flow")}
        features = Features(rows, spans, SECONDS, missing=f"{stem}: 0.1 s is missing", fps=25.0)
        report = Report(folder / "output" / "report", feature_type, feature_type, 20)
        predict = None if feature_type == "vggish" else lambda _: predictions
        add_page(report, stem, str(video), features, sketch, predict)
    return page_path(folder / "output" / "report", stem)


def times_of(page: Page) -> tuple[float, float]:
    """Return the time of the video and that of the axis."""
    video, axis = page.evaluate("[document.querySelector('video').currentTime, +axis.getAttribute('aria-valuenow')]")
    return float(video), float(axis)


def test_the_axis_takes_the_video_along_and_the_row_there_is_marked(opened: Opened, tmp_path: Path) -> None:
    page = opened.page
    page.goto(url(make_report(tmp_path, "a clip")))
    wait_until(lambda: page.evaluate("document.querySelector('video').readyState >= 2"), seconds=20)
    area = page.locator(".area").nth(2)
    box = area.bounding_box()
    assert box is not None
    area.click(position={"x": box["width"] * 0.75, "y": 5})
    wait_until(lambda: page.evaluate("!document.querySelector('video').seeking"), seconds=20)
    assert times_of(page) == pytest.approx((3.0, 3.0), abs=0.02)
    # Rows 8 and 9 (from 0) have their middles at 2.88 and 3.2 s.
    words = "3.00 s. i3d: row 9 of 11, 2.56 to 3.20 s. vggish: row 4 of 4, 2.88 to 3.84 s"
    assert page.locator("#now").inner_text() == words
    span = area.locator(".row-span").bounding_box()
    assert span is not None
    assert (span["x"] - box["x"], span["width"]) == pytest.approx(
        (box["width"] * 2.56 / SECONDS, box["width"] * ROW_SECONDS / SECONDS), abs=1
    )
    for key, seconds in (("ArrowRight", 3.2), ("ArrowLeft", 2.88), ("Home", 0), ("End", SECONDS)):
        page.keyboard.press(key)
        assert times_of(page)[1] == pytest.approx(seconds, abs=0.01)
    page.keyboard.press("Home")
    page.keyboard.press(" ")
    wait_until(lambda: page.evaluate("+axis.getAttribute('aria-valuenow') > 0.3"), seconds=20)
    assert page.evaluate("!document.querySelector('video').paused")
    page.keyboard.press(" ")
    wait_until(lambda: page.evaluate("document.querySelector('video').paused"), seconds=20)
    assert times_of(page)[0] == pytest.approx(times_of(page)[1], abs=0.2)


def test_a_video_that_cannot_be_played_is_told_of_and_all_else_works(opened: Opened, tmp_path: Path) -> None:
    page = opened.page
    path = make_report(tmp_path, "a clip")
    (tmp_path / "a clip.mp4").write_text("no video")
    page.goto(url(path))
    page.locator("#no-video").wait_for(state="visible")
    assert not page.locator("video").is_visible()
    page.keyboard.press("End")
    assert times_of(page)[1] == SECONDS


@pytest.mark.parametrize("width", [400, 1600])
def test_all_has_one_axis_and_nothing_overlaps(opened: Opened, tmp_path: Path, width: int) -> None:
    page = opened.page
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(url(make_report(tmp_path, "a clip")))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    edges = page.evaluate(
        "[...document.querySelectorAll('.area, .area > svg')].map((one) => one.getBoundingClientRect())"
        ".filter((box) => box.width).map((box) => [box.left, box.right])"
    )
    assert len(edges) > 20
    np.testing.assert_allclose(edges, [edges[0]] * len(edges), atol=0.5)
    assert page.evaluate(OVERLAPS) == []
    assert page.evaluate("[...document.images].every((image) => image.naturalWidth && image.alt)")
    assert page.evaluate("[...document.querySelectorAll('.area > svg:not(.axis)')].every((one) => one.ariaLabel)")
    write_overview_of_hostile_names(tmp_path)
    page.goto(url(tmp_path / "output" / "report" / "index.html"))
    page.wait_for_selector("#videos td")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(OVERLAPS) == []


# The texts that share room with another one which is not around them.
OVERLAPS = """(() => {
  const kinds = "h1, h2, h3, p, .class-name, text, video, td, th, summary, pre, .number, figcaption";
  const texts = [...document.querySelectorAll(kinds)].filter((one) => one.checkVisibility())
    .map((one) => [one, one.getBoundingClientRect()])
    .filter(([, box]) => box.width && box.height);
  const found = [];
  texts.forEach(([one, a], i) => texts.slice(i + 1).forEach(([other, b]) => {
    const isApart = a.right <= b.left + 1 || b.right <= a.left + 1 || a.bottom <= b.top + 1 || b.bottom <= a.top + 1;
    if (!isApart && !one.contains(other) && !other.contains(one)) found.push([one.textContent, other.textContent]);
  }));
  return found;
})()"""


def write_overview_of_hostile_names(folder: Path) -> Path:
    output = folder / "output"
    record(output, "i3d", {"i3d_rgb_path": HOSTILE[0]})
    with StatusLog(output, "i3d") as log:
        for i, name in enumerate(HOSTILE):
            path = f"{folder}/{name}.mp4"
            log.add(Row(path, "failed", "error", f"{path}: </script><script>alert(3)</script> {name}"))
            log.add(Row(f"{path}.mkv", "ok", seconds=float(i)))
    command = "python main.py " + " ".join(HOSTILE)
    run: dict[str, object] = {"command": command, "folder": HOSTILE[0], "devices": ["cpu"]}
    note_run(Report(output / "report", "i3d", "I3D", 20), run)
    return write_overview(output)


def shown(name: str) -> str:
    return name.replace("\udcff\udcfe", r"\xff\xfe")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_shown_and_does_nothing(opened: Opened, tmp_path: Path, name: str) -> None:
    page = opened.page
    page.goto(url(make_report(tmp_path, name)))
    wait_until(lambda: page.evaluate("document.querySelector('video').readyState >= 1"), seconds=20)
    assert page.locator("h1").text_content() == shown(f"{name}.mp4")
    assert page.evaluate("[...document.images].every((image) => image.naturalWidth)")
    assert page.locator("script").count() == 2
    with StatusLog(tmp_path / "output", "i3d") as log:
        log.add(Row(f"{tmp_path}/{name}.mp4", "ok", seconds=SECONDS))
    page.goto(url(write_overview_of_hostile_names(tmp_path)))
    page.locator("#videos a").first.click()
    page.wait_for_selector("video")
    assert page.locator("h1").text_content() == shown(f"{name}.mp4")
    page.locator("a").first.click()
    page.wait_for_selector("#videos td")
    messages = set(page.locator("#videos td:last-child").all_text_contents())
    names = map(shown, HOSTILE)
    assert messages > {f"{tmp_path}/{name}.mp4: </script><script>alert(3)</script> {name}" for name in names}


def url(path: Path) -> str:
    return "file://" + quote(os.fsencode(path))


def test_a_hundred_thousand_videos_open_in_time_and_are_found_and_sorted(opened: Opened, tmp_path: Path) -> None:
    record(tmp_path, "i3d", {})
    with StatusLog(tmp_path, "i3d") as log:
        for i in range(100_000):
            path = f"/data/folder {i % 100}/a video with a long name {i * 7919 % 100_000}.mp4"
            if i % 200:
                log.add(Row(path, "skipped", outputs=["a.npy"]))
            else:
                log.add(Row(path, "failed", "corrupt", f"{path}: {i % 977} frames are damaged"))
    index = write_overview(tmp_path)
    assert index.stat().st_size < 5_000_000
    start = time.monotonic()
    page = opened.page
    page.goto(url(index))
    page.wait_for_selector("#videos td")
    assert time.monotonic() - start < 2
    assert page.locator("#number").inner_text() == "1 to 50 of 100000 of 100000 videos"
    page.locator("#state").select_option("failed")
    assert page.locator("#number").inner_text() == "1 to 50 of 500 of 100000 videos"
    page.locator("#next").click()
    assert page.locator("#number").inner_text() == "51 to 100 of 500 of 100000 videos"
    page.locator("#find").fill("LONG NAME 400.")
    assert page.locator("#videos tbody tr").count() == 1
    assert "long name 400.mp4" in page.locator("#videos tbody td").first.inner_text()
    page.locator("#find").fill("")
    for order in ("ascending", "descending"):
        page.get_by_role("button", name="Video").click()
        names = page.locator("#videos tbody td:first-child").all_inner_texts()
        assert names == sorted(names, reverse=order == "descending")
        assert page.locator("#videos th").first.get_attribute("aria-sort") == order
