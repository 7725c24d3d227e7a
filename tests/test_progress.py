"""Messages, the bar and the summary."""

import fcntl
import logging
import os
import pty
import re
import struct
import sys
import termios
import time
from collections.abc import Iterator

import pytest

import utils.progress
from utils.progress import Progress
from utils.results import Row

OK = Row("a.mp4", "ok", outputs=["a_rgb.npy"], seconds=2.0, report="what it shows")
PARTIAL = Row("b.mp4", "ok", seconds=1.0, missing="its end is missing", missing_seconds=0.4)
FAILED = Row("c.mp4", "failed", "truncated", "c.mp4: cut off")
SKIPPED = Row("d.mp4", "skipped")
FAILED_BEFORE = Row("e.mp4", "skipped", None, "it failed in an earlier run (--skip_failed)")


@pytest.fixture(autouse=True)
def _log() -> Iterator[None]:
    utils.progress.start_log("INFO")
    yield
    log = logging.getLogger("video_features")
    log.handlers, log.propagate = [], True
    log.setLevel(logging.NOTSET)


def test_the_summary_counts_every_video_once_and_failures_by_reason() -> None:
    with Progress(9) as progress:
        for row in (OK, PARTIAL, PARTIAL, FAILED, FAILED, SKIPPED, SKIPPED, FAILED_BEFORE):
            progress.add(row)
    assert progress.num_done == 8
    assert re.fullmatch(
        r"3 done \(4\.0 s of video; 2 with 0\.8 s missing\), 3 skipped \(1 failed in an earlier run\), "
        r"2 failed \(truncated: 2\), 1 not done, in 0\.\d s \(\d+\.\d\d video-seconds/s\)",
        progress.summary(),
    )


def test_where_all_is_skipped_there_is_no_rate() -> None:
    with Progress(1) as progress:
        progress.add(SKIPPED)
    assert progress.summary() == "0 done (0.0 s of video), 1 skipped, 0 failed, in 0.0 s"


def test_reports_go_to_stdout_and_failures_and_what_is_missing_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(3) as progress:
        for row in (OK, PARTIAL, FAILED):
            progress.add(row)
    said = capsys.readouterr()
    assert said.out == "what it shows\n"
    assert said.err.splitlines() == [
        "b.mp4: extracted in part: its end is missing",
        "failed (truncated): c.mp4: cut off",
    ]


@pytest.mark.parametrize("quiet", [False, True])
def test_where_stderr_is_no_terminal_a_plain_line_comes_from_time_to_time_unless_quiet(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, quiet: bool
) -> None:
    monkeypatch.setattr(utils.progress, "LOG_SECONDS", 0.2)
    with Progress(10, quiet) as progress:
        progress.add(OK)
        time.sleep(0.5)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (0 if quiet else 2)
    for line in lines:
        assert line.startswith("1 of 10 videos: 1 done (2.0 s of video), 0 skipped, 0 failed, 9 not done, ")


@pytest.mark.parametrize("num_columns", [40, 72, 200])
def test_a_terminal_gets_a_bar_that_fits_also_when_it_is_made_narrower(
    monkeypatch: pytest.MonkeyPatch, num_columns: int
) -> None:
    ours, theirs = pty.openpty()

    def resize(num_columns: int) -> None:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, num_columns, 0, 0))

    resize(200)
    monkeypatch.delenv("COLUMNS", raising=False)
    with open(theirs, "w", closefd=False) as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        with Progress(1_000_000) as progress:
            resize(num_columns)
            progress._bar.mininterval = 0
            for _ in range(5):
                progress.add(OK)
    text = ""
    while "\n" not in text:
        text += os.read(ours, 1 << 16).decode()
    bars = re.findall(r"\r([^\r\n]*)", text)[1:]
    assert max(map(len, bars)) <= min(num_columns, 100)
    if num_columns > 40:
        assert any("5/1000000" in bar and "video-seconds/s" in bar for bar in bars)
    os.close(ours)
    os.close(theirs)
