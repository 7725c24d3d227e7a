"""The one progress bar, what the user is told as videos end, and the summary."""

import os
import sys
import time
from collections import Counter
from typing import TextIO

from tqdm import tqdm

from utils.workers import Row

LOG_SECONDS = 30.0  # between states of the bar where it goes to a file


class Progress:
    """Use it inside `with`; the bar goes to stderr, reports of videos to stdout."""

    def __init__(self, num_videos: int, num_skipped: int) -> None:
        self.counts: Counter[str] = Counter(skipped=num_skipped)
        self._reasons: Counter[str] = Counter()
        self._video_seconds = 0.0
        self._start = time.monotonic()
        interval = 0.1 if sys.stderr.isatty() else LOG_SECONDS
        self._bar = tqdm(
            total=num_videos, unit="video", mininterval=interval, maxinterval=interval, disable=num_videos == 0
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def add(self, row: Row) -> None:
        """Count a video, and tell what there is to tell of it."""
        self.counts[row.status] += 1
        if row.status == "failed":
            self._reasons[row.reason or "error"] += 1
            self._say(f"failed ({row.reason}): {row.error}", sys.stderr)
        if row.report:
            self._say(row.report, sys.stdout)
        self._video_seconds += row.seconds
        rate = self._video_seconds / (time.monotonic() - self._start)
        self._bar.set_postfix_str(f"{rate:.2f} video-seconds/s", refresh=False)
        self._bar.update()

    def summary(self) -> str:
        """What became of the videos, in a line."""
        counts = self.counts
        reasons = ", ".join(f"{reason}: {count}" for reason, count in self._reasons.most_common())
        return (
            f"{counts['ok']} done ({self._video_seconds:.1f} s of video), {counts['skipped']} skipped, "
            f"{counts['failed']} failed{f' ({reasons})' if reasons else ''}, "
            f"in {time.monotonic() - self._start:.1f} s"
        )

    def _say(self, text: str, stream: TextIO) -> None:
        try:
            self._bar.write(text, file=stream)
            stream.flush()
        except BrokenPipeError:  # as with `| head -1`: nobody reads on, and the work goes on
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
