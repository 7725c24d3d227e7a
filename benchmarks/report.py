"""What a page of the report costs: CPU seconds beside those of the extraction, and bytes.

    python -m benchmarks.report VIDEO ...

Networks are untrained. What is handed to the report while a video is extracted is timed call by call, because two
extractions differ by more than it.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

import models
from models.base import Classifier
from utils.media.options import DecodeOptions
from utils.outputs.files import Files
from utils.report import Report, page_path
from utils.report.page import add_page
from utils.report.sketch import Sketch

OPTIONS: dict[str, dict[str, Any]] = {"i3d": {"stack_size": 16, "step_size": 8}, "vggish": {}}


class TimedSketch(Sketch):
    """A sketch that knows how long it took."""

    seconds = 0.0

    def _timed(self, function: Callable[..., Any], *arguments: Any) -> Any:
        start = time.process_time()
        result = function(*arguments)
        self.seconds += time.process_time() - start
        return result

    def frames(self, frames: Generator[Any, None, None]) -> Generator[Any, None, None]:
        return self._without_source(super().frames, frames)

    def sound(self, patches: Any, lowest: str, highest: str, step: int = sys.maxsize) -> Any:
        return self._without_source(partial(super().sound, lowest=lowest, highest=highest, step=step), patches)

    def add_flow(self, *arguments: Any) -> None:
        self._timed(super().add_flow, *arguments)

    def _without_source(self, watch: Callable[..., Any], source: Any) -> Generator[Any, None, None]:
        """Hand on what a source gives, and count the time of watching it but not of its making."""
        waiting: list[Any] = []
        watched = watch(iter_popped(waiting))
        for item in source:
            waiting.append(item)
            yield self._timed(next, watched)


def iter_popped(waiting: list[Any]) -> Generator[Any, None, None]:
    while waiting:
        yield waiting.pop()


def main() -> None:
    for feature_type, settings in OPTIONS.items():
        config = models.load_config(feature_type)(weights="random", **settings)  # type: ignore[call-arg]
        extractor = models.load_extractor(feature_type)(config, "cpu")
        for path in sys.argv[1:]:
            sketch = TimedSketch(settings.get("stack_size", 1), settings.get("step_size", 1), 224)
            start = time.process_time()
            features = extractor.extract(path, DecodeOptions(sketch=sketch))
            extracting = time.process_time() - start - sketch.seconds
            with tempfile.TemporaryDirectory() as folder:
                report = Report(Path(folder), feature_type, feature_type, 1)
                predict = extractor.predict if isinstance(extractor, Classifier) else None
                for _ in range(2):  # the first time, libraries are loaded
                    start = time.process_time()
                    add_page(report, "a", path, features, sketch, predict, Files(feature_type, config.suffixes))
                    making = time.process_time() - start
                size = sum(file.stat().st_size for file in page_path(report.folder, "a").parent.iterdir())
            part = (sketch.seconds + making) / extracting
            print(
                f"{feature_type} {path}: {features.seconds:.1f} s of video, {len(features.spans)} rows: extraction "
                f"{extracting:.2f} s, watching {sketch.seconds:.3f} s, page {making:.3f} s: {part:.1%}; {size} bytes"
            )


if __name__ == "__main__":
    main()
