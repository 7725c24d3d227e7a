"""Raw frames: decoded and not yet scaled, their planes as tightly packed bytes."""

from dataclasses import dataclass
from functools import cached_property

import av
import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
"""(bytes,), contiguous."""


@dataclass(frozen=True)
class Layout:
    """The planes of a pixel format: luma and, except for gray, U and V."""

    bits: int  # of a sample; it takes a byte, or two, the lower one first, where it has more than eight bits
    chroma_shifts: tuple[int, int] | None  # chroma is narrower and lower than luma by these powers of two


LAYOUTS = {  # by FFmpeg's names
    "yuv420p": Layout(8, (1, 1)),
    "yuvj420p": Layout(8, (1, 1)),
    "yuv422p": Layout(8, (1, 0)),
    "yuvj422p": Layout(8, (1, 0)),
    "yuv444p": Layout(8, (0, 0)),
    "yuvj444p": Layout(8, (0, 0)),
    "gray": Layout(8, None),
    "yuv420p10le": Layout(10, (1, 1)),
}
SCALED = "rgb24"


@dataclass(frozen=True)
class RawFormat:
    """The meaning of a raw frame's bytes, and the size that it is to be scaled to."""

    pixels: str  # FFmpeg's name: one of `LAYOUTS`, or `SCALED` where the frame is already scaled and turned
    width: int  # as stored
    height: int
    matrix: int  # of the colours, by its number in ITU-T H.273; 2 where the video does not state it
    is_full_range: bool  # black is 0 and white 255, not 16 and 235
    orientation: tuple[str, ...]  # FFmpeg's filters that turn the frame, one after the other, before it is scaled
    scaled_width: int  # as displayed
    scaled_height: int

    @cached_property
    def planes(self) -> list[tuple[int, int]]:
        """The number of rows of each plane, and of bytes in a row."""
        if self.pixels == SCALED:
            return [(self.height, 3 * self.width)]
        layout = LAYOUTS[self.pixels]
        num_bytes = 1 if layout.bits == 8 else 2  # of a sample
        planes = [(self.height, self.width * num_bytes)]
        if layout.chroma_shifts is not None:
            width, height = self.chroma_size
            planes += [(height, width * num_bytes)] * 2
        return planes

    @property
    def chroma_size(self) -> tuple[int, int]:
        """Width and height of a format that has chroma."""
        shifts = LAYOUTS[self.pixels].chroma_shifts
        assert shifts is not None
        return -(-self.width >> shifts[0]), -(-self.height >> shifts[1])

    @property
    def is_transposed(self) -> bool:
        """True where stored rows are displayed as columns."""
        return any(step.startswith("transpose") for step in self.orientation)

    @property
    def displayed_size(self) -> tuple[int, int]:
        """Width and height before scaling."""
        return (self.height, self.width) if self.is_transposed else (self.width, self.height)

    @cached_property
    def num_bytes(self) -> int:
        return sum(rows * length for rows, length in self.planes)


@dataclass(frozen=True, eq=False)
class RawFrame:
    """A frame of a video: its planes one after the other, row by row, without gaps."""

    data: Bytes
    format: RawFormat


def copy_planes(frame: av.VideoFrame, raw_format: RawFormat, data: Bytes) -> None:
    """Pack the planes of a decoded frame of that format into `data`."""
    begin = 0
    for plane, shape in zip(frame.planes, raw_format.planes, strict=True):
        line, end = plane.line_size, begin + shape[0] * shape[1]
        first = max(0, -line * (shape[0] - 1))  # because a line is negative where the last row is stored first
        data[begin:end].reshape(shape)[:] = np.ndarray(shape, np.uint8, plane, first, (line, 1))
        begin = end
