"""The report: pages that show what came out, for people to look at in a browser. Imports nothing heavy by itself."""

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = "report"  # in the output folder
PAGES, PAGE = "videos", "page.html"  # the folder of a page, in the report's, ends with the video's stem

log = logging.getLogger("video_features")


@dataclass(frozen=True)
class Report:
    """Where the report is, and what the pages of one feature type need to know. Small and picklable."""

    folder: Path
    feature_type: str
    title: str  # of the extractor
    most_pages: int

    def has_room(self, stem: str) -> bool:
        """Return True if a video may have a page: if it has one, of whatever type, or there is room for one more."""
        return (
            page_path(self.folder, stem).exists() or len(find_parts(self.folder, self.feature_type)) < self.most_pages
        )


@contextlib.contextmanager
def warning_only(subject: object) -> Iterator[None]:
    """Make a warning of whatever goes wrong: no picture is worth the features."""
    try:
        yield
    except Exception as error:
        log.warning("%s: not reported: %s: %s", subject, type(error).__name__, error)


def page_path(folder: Path, stem: str) -> Path:
    """Return the path of the page of the video that is called `stem`, in the report's folder."""
    return folder / PAGES / stem / PAGE


def find_parts(folder: Path, feature_type: str) -> list[Path]:
    """Return the parts of a feature type of all pages."""
    name = f"{feature_type}.json"
    return [Path(parent, name) for parent, _, names in os.walk(folder / PAGES) if name in names]
