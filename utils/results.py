"""The records of a video: its features, what they resemble, and the row that says what became of it."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Arrays = dict[str, npt.NDArray[Any]]
"""By the suffix of their files, each (N, D), or (N, K, D) of K crops; float32, or uint8 where they are quantized."""


Span = tuple[float, float]
"""Begin and end in seconds from the start of the video."""


@dataclass(frozen=True)
class Features:
    """Features of one video: an array a stream, a row a time span."""

    arrays: Arrays
    spans: list[Span]  # of each row
    seconds: float  # how much of the video they cover
    missing: str = ""  # what is missing of a damaged video, for people to read; empty where nothing is
    missing_seconds: float = 0.0  # how much that is
    fps: float | None = None  # frames a second, of those that were extracted


@dataclass(frozen=True)
class Predictions:
    """How likely each of some classes is in each row of features."""

    classes: list[str]
    logits: Arrays  # (N, classes), by stream, the last one by all that there is

    @property
    def probabilities(self) -> Arrays:
        """As the logits."""
        powers = {name: np.exp(rows - rows.max(axis=1, keepdims=True)) for name, rows in self.logits.items()}
        return {name: rows / rows.sum(axis=1, keepdims=True) for name, rows in powers.items()}


@dataclass(frozen=True)
class Row:
    """The outcome of one video: `status` is ok, skipped or failed; `reason` is one word, `error` the full text."""

    path: str
    status: str
    reason: str | None = None
    error: str | None = None
    outputs: list[str] = field(default_factory=list)
    seconds: float = 0.0
    report: str = ""  # for stdout
    missing: str = ""  # as in `Features`
    missing_seconds: float = 0.0
    fps: float | None = None  # as in `Features`
    stops_run: bool = False  # as in `ExtractionError`
    retry_alone: bool = False
