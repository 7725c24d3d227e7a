"""Decoded frames before they are scaled: their planes as bytes, tightly packed, and how to read them."""

from dataclasses import dataclass
from functools import cached_property

import av
import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
"""(bytes,), contiguous."""


@dataclass(frozen=True)
class Layout:
    """How a pixel format stores a picture: a plane of luma and, but of gray, chroma, in one plane or two."""

    bits: int
    """Of a sample, which takes a byte, or two where it has more than eight bits, the lower one first."""

    chroma_shifts: tuple[int, int] | None
    """By which powers of two the chroma is narrower and lower than the luma."""

    is_interleaved: bool = False
    """Whether U and V take turns in one plane."""

    @property
    def num_bytes(self) -> int:
        """Of a sample."""
        return 1 if self.bits == 8 else 2


LAYOUTS = {  # by FFmpeg's names
    "yuv420p": Layout(8, (1, 1)),
    "yuvj420p": Layout(8, (1, 1)),
    "yuv422p": Layout(8, (1, 0)),
    "yuvj422p": Layout(8, (1, 0)),
    "yuv444p": Layout(8, (0, 0)),
    "yuvj444p": Layout(8, (0, 0)),
    "nv12": Layout(8, (1, 1), is_interleaved=True),
    "gray": Layout(8, None),
    "yuv420p10le": Layout(10, (1, 1)),
}
SCALED = "rgb24"


@dataclass(frozen=True)
class RawFormat:
    """How the bytes of a picture are to be read, and what they are to become."""

    pixels: str
    """FFmpeg's name: one of `LAYOUTS`, or `SCALED` where the picture is scaled and turned already."""

    width: int
    height: int
    """As stored."""

    matrix: int
    """Of the colours, by its number in ITU-T H.273; 2 where the video does not tell."""

    is_full_range: bool
    """Whether black is 0 and white 255, not 16 and 235."""

    orientation: tuple[str, ...]
    """The filters of FFmpeg that turn the picture, one after the other, before it is scaled."""

    scaled_width: int
    scaled_height: int
    """As displayed."""

    @cached_property
    def planes(self) -> list[tuple[int, int]]:
        """Of each plane, how many rows it has and how many bytes each of them."""
        if self.pixels == SCALED:
            return [(self.height, 3 * self.width)]
        layout = LAYOUTS[self.pixels]
        planes = [(self.height, self.width * layout.num_bytes)]
        if layout.chroma_shifts is not None:
            width, height = self.chroma_size
            parts = 1 if layout.is_interleaved else 2
            planes += [(height, width * layout.num_bytes * 2 // parts)] * parts
        return planes

    @property
    def chroma_size(self) -> tuple[int, int]:
        """Width and height; of a format that has chroma."""
        shifts = LAYOUTS[self.pixels].chroma_shifts
        assert shifts is not None
        return -(-self.width >> shifts[0]), -(-self.height >> shifts[1])

    @property
    def is_transposed(self) -> bool:
        """Whether what is stored as rows is displayed as columns."""
        return any(step.startswith("transpose") for step in self.orientation)

    @property
    def displayed_size(self) -> tuple[int, int]:
        """Width and height before it is scaled."""
        return (self.height, self.width) if self.is_transposed else (self.width, self.height)

    @cached_property
    def num_bytes(self) -> int:
        return sum(rows * length for rows, length in self.planes)


@dataclass(frozen=True, eq=False)
class RawFrame:
    """A frame of a video: its planes one behind the other, row by row, without gaps."""

    data: Bytes
    format: RawFormat


def copy_planes(frame: av.VideoFrame, form: RawFormat, data: Bytes) -> None:
    """Pack the planes of a decoded frame of that format into `data`."""
    begin = 0
    for plane, shape in zip(frame.planes, form.planes, strict=True):
        line = plane.line_size  # negative where the last row is stored first
        first = max(0, -line * (shape[0] - 1))
        np.copyto(np.ndarray(shape, np.uint8, data, begin), np.ndarray(shape, np.uint8, plane, first, (line, 1)))
        begin += shape[0] * shape[1]
