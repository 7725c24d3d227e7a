"""The report: pages that show what came out, for people to look at in a browser. Imports nothing heavy by itself."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
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
    """The overview, and the pages of the videos of one feature type. Small and picklable."""

    folder: Path
    feature_type: str
    title: str  # of the extractor
    most_pages: int

    def begin(self, run: dict[str, object]) -> None:
        """Write down what is to be told of a run that begins."""
        with warning_only(self.folder):
            from utils.report.overview import note_run

            note_run(self, run)

    def end(self) -> None:
        """Make the overview."""
        with warning_only(self.folder):
            from utils.report.overview import write_overview

            log.info("The report is in %s", write_overview(self.folder.parent))

    def has_room(self, stem: str) -> bool:
        """Return True if a video may have a page: if it has one, of whatever type, or there is room for one more."""
        return (
            page_path(self.folder, stem).exists() or len(find_parts(self.folder, self.feature_type)) < self.most_pages
        )

    def add_page(
        self, stem: str, path: str, features: "Features", files: Sequence[str], sketch: "Sketch", predict: "Predict"
    ) -> None:
        """Make a page of a video, if there is room."""
        with warning_only(path):
            from utils.report.page import add_page

            add_page(self, stem, path, features, files, sketch, predict)


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
