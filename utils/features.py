"""What an extractor gives for one video."""

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt


@dataclass(frozen=True)
class Features:
    """Features of one video: an array a stream, a row a time span."""

    arrays: dict[str, npt.NDArray[Any]]
    """By the suffix of their files, each (N, D), float32, or uint8 where features are quantized."""

    spans: list[tuple[float, float]]
    """Begin and end of each row, in seconds from the start of the video."""

    seconds: float
    """How much of the video they cover."""

    losses: str = ""
    """What of a damaged video could not be read; empty where all could."""

    report: str = ""
    """What else there is to tell the user, in lines."""
