"""Tells the user how the work goes: a bar or lines, messages, and the summary."""

import logging
import os
import sys
import threading
import time
from collections import Counter
from typing import TextIO

from tqdm import tqdm

from utils.results import Row

LOG_SECONDS = 30.0  # between lines about the progress, where stderr is no terminal
# Short, so that a terminal that is made narrower seldom breaks it into lines, which would stay.
BAR_FORMAT = "{percentage:3.0f}%|{bar:10}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"

log = logging.getLogger("video_features")


class LogHandler(logging.Handler):
    """Writes messages to stderr, above the bar where there is one; if nobody reads them, the work goes on."""

    def emit(self, record: logging.LogRecord) -> None:
        write(self.format(record), sys.stderr)


class Progress:
    """Use it inside `with`: a bar on a terminal, elsewhere a line from time to time; reports of videos go to stdout."""

    def __init__(self, num_videos: int, quiet: bool = False) -> None:
        self.num_videos = num_videos
        self.counts: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._num_failed_before = 0
        self._num_incomplete = 0
        self._missing_seconds = 0.0
        self._video_seconds = 0.0
        self._start = time.monotonic()
        hide_bar = quiet or not sys.stderr.isatty()
        self._bar = tqdm(total=num_videos, bar_format=BAR_FORMAT, dynamic_ncols=True, disable=hide_bar)
        self._ended = threading.Event()
        if hide_bar and not quiet:
            threading.Thread(target=self._log_now_and_then, daemon=True).start()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._bar.close()

    @property
    def num_done(self) -> int:
        """The number of videos that are done, were skipped, or failed."""
        return self.counts.total()

    def add(self, row: Row) -> None:
        """Count a video, and say what there is to say of it."""
        self.counts[row.status] += 1
        self._video_seconds += row.seconds
        if row.status == "failed":
            self._reasons[row.reason or "error"] += 1
            log.error("failed (%s): %s", row.reason, row.error)
        elif row.status == "skipped":
            self._num_failed_before += row.error is not None
        elif row.missing:
            self._num_incomplete += 1
            self._missing_seconds += row.missing_seconds
            log.warning("%s: extracted in part: %s", row.path, row.missing)
        else:
            log.debug("done: %s, %.2f s of video", row.path, row.seconds)
        if row.report:
            write(row.report, sys.stdout)
        if not self._bar.disable:
            self._bar.set_postfix_str(self._rate(), refresh=False)
            self._bar.update()

    def summary(self) -> str:
        """Return a line that says what became of the videos."""
        rate = f" ({self._rate()})" if self._video_seconds else ""
        return f"{self._count()}, in {time.monotonic() - self._start:.1f} s{rate}"

    def _count(self) -> str:
        done, skipped, failed = (self.counts[status] for status in ("ok", "skipped", "failed"))
        missing = f"{self._missing_seconds:.1f} s" if self._missing_seconds else "something"
        incomplete = f"; {self._num_incomplete} with {missing} missing" if self._num_incomplete else ""
        before = f" ({self._num_failed_before} failed in an earlier run)" if self._num_failed_before else ""
        reasons = ", ".join(f"{reason}: {number}" for reason, number in self._reasons.most_common())
        text = f"{done} done ({self._video_seconds:.1f} s of video{incomplete}), {skipped} skipped{before}"
        text += f", {failed} failed" + (f" ({reasons})" if reasons else "")
        num_left = self.num_videos - self.num_done
        return f"{text}, {num_left} not done" if num_left > 0 else text

    def _rate(self) -> str:
        return f"{self._video_seconds / max(time.monotonic() - self._start, 1e-3):.2f} video-seconds/s"

    def _log_now_and_then(self) -> None:
        while not self._ended.wait(LOG_SECONDS):
            log.info("%d of %d videos: %s, %s", self.num_done, self.num_videos, self._count(), self._rate())


def write(text: str, stream: TextIO) -> None:
    """Write lines, above the bar where there is one."""
    try:
        tqdm.write(text, file=stream)
        stream.flush()
    except OSError:  # as with `| head -1`: nobody reads on, and the work goes on
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def start_log(level: int | str) -> None:
    """Show the program's messages of a level and above."""
    log.handlers = [LogHandler()]
    log.setLevel(level)
    log.propagate = False
