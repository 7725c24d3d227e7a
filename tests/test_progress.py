"""What the user is told while videos are worked on."""

import io
import logging
import sys
import time
from collections.abc import Iterator

import pytest

from utils import progress
from utils.progress import LogHandler, Progress
from utils.results import Row

OK = Row("a.mp4", "ok", outputs=["a_rgb.npy"], seconds=2.0, report="what it shows")
PARTIAL = Row("b.mp4", "ok", seconds=1.0, missing="its end is missing")
FAILED = Row("c.mp4", "failed", "truncated", "c.mp4: cut off")
SKIPPED = Row("d.mp4", "skipped")


@pytest.fixture(autouse=True)
def _log() -> Iterator[None]:
    log = logging.getLogger("video_features")
    log.handlers, log.propagate = [LogHandler()], False
    log.setLevel(logging.INFO)
    yield
    log.handlers, log.propagate = [], True
    log.setLevel(logging.NOTSET)


def test_the_summary_counts_every_video_once_and_failures_by_reason() -> None:
    with Progress(6) as told:
        for row in (OK, PARTIAL, FAILED, FAILED, SKIPPED):
            told.add(row)
    assert told.num_done == 5
    assert told.summary().startswith(
        "2 done (3.0 s of video, 1 in part), 1 skipped, 2 failed (truncated: 2), 1 not done, in "
    )


def test_reports_go_to_stdout_and_failures_and_losses_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(3) as told:
        for row in (OK, PARTIAL, FAILED):
            told.add(row)
    said = capsys.readouterr()
    assert said.out == "what it shows\n"
    assert said.err.splitlines() == [
        "b.mp4: extracted in part: its end is missing",
        "failed (truncated): c.mp4: cut off",
    ]


def test_where_stderr_is_no_terminal_a_plain_line_comes_from_time_to_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert progress.LOG_SECONDS == 30
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.2)
    with Progress(10) as told:
        told.add(OK)
        time.sleep(0.5)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("1 of 10 videos: 1 done (2.0 s of video), 0 skipped, 0 failed, 9 not done, ")
    assert "\r" not in "".join(lines)


def test_when_quiet_there_is_no_progress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.1)
    with Progress(10, quiet=True):
        time.sleep(0.3)
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(2) as told:
        told.add(OK)
    assert "1/2" in terminal.getvalue()
    assert "video-seconds/s" in terminal.getvalue()
