"""The two records of a video: the features that an extractor gives, and the row that says what became of it."""

from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

Arrays = dict[str, npt.NDArray[Any]]
"""By the suffix of their files, each (N, D), float32, or uint8 where features are quantized."""


@dataclass(frozen=True)
class Features:
    """Features of one video: an array a stream, a row a time span."""

    arrays: Arrays

    spans: list[tuple[float, float]]
    """Begin and end of each row, in seconds from the start of the video."""

    seconds: float
    """How much of the video they cover."""

    missing: str = ""
    """What is missing of a damaged video, for people to read; empty where nothing is."""

    missing_seconds: float = 0.0
    """How much of it is missing."""

    report: str = ""
    """What else there is to tell the user, in lines."""


@dataclass(frozen=True)
class Row:
    """What became of one video: `status` is ok, skipped or failed; `reason` is one word, `error` the full text."""

    path: str
    status: str
    reason: str | None = None
    error: str | None = None
    outputs: list[str] = field(default_factory=list)
    seconds: float = 0.0
    report: str = ""
    """Text for stdout."""

    missing: str = ""
    missing_seconds: float = 0.0
    """As in `Features`."""

    stops_run: bool = False
    better_alone: bool = False
    """Whether it may have failed for what other videos did that the worker had in hand."""

    def what_happened(self) -> str:
        """In a line."""
        return f"{self.path}: {(self.error or self.status).rpartition(chr(10))[2]}"
