"""The records of published files of weights."""

from collections.abc import Callable
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

    @property
    def url(self) -> str:
        return self.urls[0]


@dataclass(frozen=True)
class LibraryWeights:
    """A published checkpoint that a library downloads, and keeps in its own cache."""

    title: str
    path: Path
    """The folder that the library keeps it in."""

    url: str
    licence: str
    find: Callable[[], Path | None]
    """Returns where the file is in the cache, if it is there."""

    fetch: Callable[[], Path]
    """Downloads the file and returns where it is. Raises WeightsError."""


PublishedWeights = WeightsFile | LibraryWeights
