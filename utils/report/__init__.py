"""The report: pages that show what came out, for people to look at in a browser. Imports nothing heavy by itself."""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from utils.report.sketch import Sketch
    from utils.results import Arrays, Features, Predictions

Predict = Callable[["Arrays"], "Predictions"] | None
"""What tells how likely each class is by features of an extractor, if it knows classes."""

FOLDER = "report"  # in the output folder
PAGES, PAGE = "videos", "page.html"  # the folder of a page, in the report's, ends with the video's stem

log = logging.getLogger("video_features")


@dataclass(frozen=True)
class Report:
    """The pages of the videos of one feature type. Small and picklable."""

    folder: Path
    feature_type: str
    title: str  # of the extractor
    most_pages: int

    def has_room(self, stem: str) -> bool:
        """Return True if a video may have a page: if it has one, of whatever type, or there is room for one more."""
        return (
            page_path(self.folder, stem).exists() or len(find_parts(self.folder, self.feature_type)) < self.most_pages
        )

    def add_page(
        self, stem: str, path: str, features: "Features", files: Sequence[str], sketch: "Sketch", predict: "Predict"
    ) -> None:
        """Make a page of a video, if there is room. What goes wrong is a warning: the features are there."""
        try:
            from utils.report.page import add_page

            add_page(self, stem, path, features, files, sketch, predict)
        except Exception as error:
            log.warning("%s: no page in the report: %s: %s", path, type(error).__name__, error)


def page_path(folder: Path, stem: str) -> Path:
    """Return the path of the page of the video that is called `stem`, in the report's folder."""
    return folder / PAGES / stem / PAGE


def find_parts(folder: Path, feature_type: str) -> list[Path]:
    """Return the parts of a feature type of all pages."""
    name = f"{feature_type}.json"
    return [Path(parent, name) for parent, _, names in os.walk(folder / PAGES) if name in names]
