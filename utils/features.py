"""What an extractor gives for one video."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Features:
    """Features of one video: an array a stream, a row a time span."""

    arrays: dict[str, npt.NDArray[np.float32]]
    """By the suffix of their files, each (N, D)."""

    spans: list[tuple[float, float]]
    """Begin and end of each row, in seconds from the start of the video."""

    seconds: float
    """How much of the video they cover."""

    report: str = ""
    """What else there is to tell the user, in lines."""
