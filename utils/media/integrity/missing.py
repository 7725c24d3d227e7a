"""Measure how much of a stream is missing, and judge it by the options."""

from collections import Counter, deque

from utils.errors import MediaError
from utils.media.options import DecodeOptions

WAY_OUT = "--allow_partial extracts what can be read"


class Missing:
    """Note what is wrong with a stream; raise MediaError where more is missing than the options allow."""

    def __init__(self, path: str, options: DecodeOptions) -> None:
        self.seconds = 0.0
        self._path = path
        self._options = options
        self._length_seconds = 0.0
        self.causes: Counter[str] = Counter()

    def __str__(self) -> str:
        """Return how much is missing and why, for people to read; empty where nothing is wrong."""
        if not self.causes:
            return ""
        causes = "; ".join(cause if times == 1 else f"{cause} ({times} times)" for cause, times in self.causes.items())
        return f"{self.seconds:.2f} of {self._length_seconds:.2f} s are missing: {causes}"

    def note(self, cause: str) -> None:
        """Note damage of which it is yet to be measured how much of the stream is missing for it."""
        self.causes[cause] += 1

    def refuse(self, reason: str, cause: str) -> None:
        """Raise MediaError, or with `allow_partial` note what would be the cause of it."""
        if not self._options.allow_partial:
            raise MediaError(reason, f"{self._path}: {cause}; {WAY_OUT} of such a file")
        self.note(cause)

    def measure(self, seconds: float, length_seconds: float) -> None:
        """Take how much is missing in all, and how long the stream should be; raise MediaError if it is too much."""
        self.seconds, self._length_seconds = seconds, length_seconds
        max_loss = self._options.max_loss
        if seconds and not self.causes:
            self.note("parts of it are not there")
        if not self._options.allow_partial and round(seconds - max_loss * length_seconds, 6) > 0:
            raise MediaError(
                "corrupt",
                f"{self._path}: {seconds:.2f} of {length_seconds:.2f} s are missing, more than --max_loss {max_loss:g} "
                f"allows ({'; '.join(self.causes)}); {WAY_OUT}",
            )


class Timeline:
    """Measure the time that no frame of a stream covers, near where damage was seen.

    Gaps elsewhere are how a video was made: a variable frame rate, a slide show, a sound that pauses.
    """

    def __init__(self, max_gap_seconds: float) -> None:
        self.missing_seconds = 0.0
        self.length_seconds = 0.0
        self.end: float | None = None  # of the last frame
        self._latest_end = self._expected_end = 0.0
        self._gap_begin = float("inf")  # of the last gap
        self._max_gap_seconds = max_gap_seconds  # what is longer, or goes back, is where recordings were joined
        self._num_frames = self._suspect_until = 0
        # Gaps that may yet turn out to be near damage: how many frames came before, and seconds.
        self._gaps: deque[tuple[int, float]] = deque(maxlen=64)

    def suspect(self, num_frames: int) -> None:
        """Count gaps before any of the last and the next frames as missing."""
        self._suspect_until = max(self._suspect_until, self._num_frames + num_frames)
        self.missing_seconds += sum(seconds for number, seconds in self._gaps if number > self._num_frames - num_frames)
        self._gaps.clear()

    def expect(self, begin: float, seconds: float) -> None:
        """Expect a frame, by when it is to be shown and how long."""
        self._expected_end = max(self._expected_end, begin + seconds)
        self.end = begin if self.end is None else self.end

    def add(self, begin: float | None, seconds: float) -> None:
        """Add a frame that is whole, by when it is shown and how long; without a time it follows the one before."""
        self._num_frames += 1
        self.end = (begin or 0.0) if self.end is None else self.end
        begin = self.end if begin is None else begin
        gap, slack = begin - self.end, seconds / 2
        if self._gap_begin - begin < slack < -gap:  # the frame comes late, into the last gap
            self.missing_seconds = max(0.0, self.missing_seconds - seconds)
            return
        if gap <= self._max_gap_seconds:
            self._gap_begin = self.end if gap > slack else self._gap_begin
            self.skip(gap, slack)
        self.length_seconds += seconds
        self.end = begin + seconds
        self._latest_end = max(self._latest_end, self.end)

    def skip(self, gap_seconds: float, slack_seconds: float) -> None:
        """Add a gap, which may count as missing if it is longer than times may be off."""
        self.length_seconds += max(gap_seconds, 0.0)
        if gap_seconds > slack_seconds and self._num_frames < self._suspect_until:
            self.missing_seconds += gap_seconds
        elif gap_seconds > slack_seconds:
            self._gaps.append((self._num_frames, gap_seconds))

    def close(self) -> None:
        """Add what is expected behind the last frame."""
        gap = 0.0 if self.end is None else self._expected_end - self._latest_end
        if gap <= self._max_gap_seconds:
            self.skip(gap, 0.01)
