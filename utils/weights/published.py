"""The record of a published file of weights."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class WeightsFile:
    """A published checkpoint. `urls` all hold the same bytes, whose hash is `git_blob` or starts with `sha256`."""

    title: str
    path: Path
    urls: tuple[str, ...]
    licence: str
    git_blob: str | None = None
    sha256: str | None = None
