"""The options of decoding."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from utils.option import option

if TYPE_CHECKING:
    from utils.report.sketch import Sketch


def _ignore(seconds: float) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class DecodeOptions:
    """Limits to the files that are taken, and settings of decoding. Raises ValueError for a value that cannot be."""

    title: ClassVar[str] = "damaged and huge videos"

    max_loss: float = option(0.02, "the part of a video that may be missing inside it; above, it fails", metavar="X")
    allow_partial: bool = option(False, "extract what can be read of a damaged or cut-off video, however little")
    max_pixels: int = option(2**26, "pixels that a frame may have, as it is stored", metavar="N")

    on_open: Callable[[float], None] = _ignore
    """Called with the length in seconds that a file tells, if it does, when it is opened."""

    sketch: "Sketch | None" = None
    """Is handed what there is to see of the video, for the report."""

    scratch: Path | None = None
    """The folder for arrays that are written as they are computed; by default temporary files."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_loss <= 1:
            raise ValueError(f"--max_loss {self.max_loss}: must be from 0 to 1")
        if self.max_pixels < 1:
            raise ValueError(f"--max_pixels {self.max_pixels}: must be at least 1")
