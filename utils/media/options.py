"""Options of reading files. Imports nothing heavy, so that the command line knows the defaults."""

from collections.abc import Callable
from dataclasses import dataclass


def _ignore(seconds: float) -> None:
    pass


@dataclass(frozen=True)
class DecodeOptions:
    """Say which files are taken, and how they are read. Raises ValueError for a value that cannot be."""

    max_pixels: int = 2**26
    """Of a frame, as it is stored. What is larger is refused before memory is taken for it."""

    max_loss: float = 0.02
    """The share of its length that may be missing of a file that is damaged inside; one that misses more fails."""

    allow_partial: bool = False
    """Take what can be read of a file that is damaged, however much is missing, or cut off."""

    on_open: Callable[[float], None] = _ignore
    """Called with the length in seconds that a file tells, if it does, when it is opened."""

    video_engine: int | None = None
    """The number of the GPU whose video engine decodes large frames, where it can; None: the CPU decodes all."""

    def __post_init__(self) -> None:
        if self.max_pixels < 1:
            raise ValueError(f"--max_pixels {self.max_pixels}: must be at least 1")
        if not 0 <= self.max_loss <= 1:
            raise ValueError(f"--max_loss {self.max_loss:g}: must be from 0 to 1")
