"""What an extractor gives for one video."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float32] | npt.NDArray[np.uint8]
"""A feature a row, (N, D); uint8 where they are quantized."""


@dataclass(frozen=True)
class Features:
    """Features of one video: an array a stream, a row a time span."""

    arrays: dict[str, Rows]
    """By the suffix of their files."""

    spans: list[tuple[float, float]]
    """Begin and end of each row, in seconds from the start of the video."""

    seconds: float
    """How much of the video they cover."""

    report: str = ""
    """What else there is to tell the user, in lines."""
