"""What the user is told while videos are worked on, and the summary."""

import logging
import os
import sys
import threading
import time
from collections import Counter
from types import TracebackType

from tqdm import tqdm

from utils.results import Row

LOG_SECONDS = 30.0  # between lines about the progress, where stderr is no terminal

log = logging.getLogger("video_features")


class LogHandler(logging.Handler):
    """Writes messages to stderr, above the bar where there is one; if nobody reads them, the work goes on."""

    def emit(self, record: logging.LogRecord) -> None:
        _say(self.format(record), to_stdout=False)


class Progress:
    """Use it inside `with`: a bar on a terminal, elsewhere a line from time to time; reports of videos go to stdout."""

    def __init__(self, num_videos: int, quiet: bool = False) -> None:
        self.num_videos = num_videos
        self.counts: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._num_partial = 0
        self._video_seconds = 0.0
        self._start = time.monotonic()
        self._bar = tqdm(total=num_videos, unit="video", disable=quiet or not sys.stderr.isatty())
        self._ended = threading.Event()
        self._teller = threading.Thread(target=self._tell_now_and_then, daemon=True)
        if not quiet and not sys.stderr.isatty():
            self._teller.start()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._bar.close()

    @property
    def num_done(self) -> int:
        """Of which it is known what became of them."""
        return self.counts.total()

    def add(self, row: Row) -> None:
        """Count a video, and tell what there is to tell of it."""
        self.counts[row.status] += 1
        self._video_seconds += row.seconds
        if row.status == "failed":
            self._reasons[row.reason or "error"] += 1
            log.error("failed (%s): %s", row.reason, row.error)
        elif row.missing:
            self._num_partial += 1
            log.warning("%s: extracted in part: %s", row.path, row.missing)
        elif row.status == "ok":
            log.debug("done: %s, %.2f s of video", row.path, row.seconds)
        if row.report:
            _say(row.report, to_stdout=True)
        if not self._bar.disable:
            self._bar.set_postfix_str(self._rate(), refresh=False)
            self._bar.update()

    def summary(self) -> str:
        """What became of the videos, in a line."""
        return f"{self._counted()}, in {time.monotonic() - self._start:.1f} s ({self._rate()})"

    def _counted(self) -> str:
        counts = self.counts
        partial = f", {self._num_partial} in part" if self._num_partial else ""
        reasons = ", ".join(f"{reason}: {number}" for reason, number in self._reasons.most_common())
        parts = [
            f"{counts['ok']} done ({self._video_seconds:.1f} s of video{partial})",
            f"{counts['skipped']} skipped",
            f"{counts['failed']} failed{f' ({reasons})' if reasons else ''}",
        ]
        if self.num_videos > self.num_done:
            parts.append(f"{self.num_videos - self.num_done} not done")
        return ", ".join(parts)

    def _rate(self) -> str:
        return f"{self._video_seconds / max(time.monotonic() - self._start, 1e-3):.2f} video-seconds/s"

    def _tell_now_and_then(self) -> None:
        while not self._ended.wait(LOG_SECONDS):
            log.info("%d of %d videos: %s, %s", self.num_done, self.num_videos, self._counted(), self._rate())


def _say(text: str, to_stdout: bool) -> None:
    stream = sys.stdout if to_stdout else sys.stderr
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
