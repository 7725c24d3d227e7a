"""Clips made for the tests: every frame carries its number, in ten stripes that are the bits of it."""

import struct
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
import numpy.typing as npt

Frame = npt.NDArray[np.uint8]

NUM_BITS = 10
DARK, BRIGHT = (40, 40, 50), (220, 200, 210)


def numbered_frame(number: int, width: int, height: int) -> Frame:
    frame = np.full((height, width, 3), DARK, np.uint8)
    for bit in range(NUM_BITS):
        if number >> bit & 1:
            frame[:, bit * width // NUM_BITS : (bit + 1) * width // NUM_BITS] = BRIGHT
    return frame


def number_of(frame: Frame) -> int:
    """Return the number that a frame carries, scaled as it may be."""
    height, width = frame.shape[:2]
    rows = slice(height // 2 - 5, height // 2 + 5)
    centres = [int((bit + 0.5) * width / NUM_BITS) for bit in range(NUM_BITS)]
    return sum(int(frame[rows, x - 2 : x + 3].mean() > 128) << bit for bit, x in enumerate(centres))


def write_clip(
    path: Path,
    frames: Iterable[Frame],
    rate: Fraction | int = 25,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    times_ms: Sequence[int] | None = None,
) -> Path:
    """Encode RGB frames, at a constant rate or at the given times."""
    with av.open(str(path), "w") as output:
        stream = cast(av.VideoStream, output.add_stream(codec, rate=rate))
        stream.pix_fmt = pixel_format
        for i, frame in enumerate(frames):
            if i == 0:
                stream.height, stream.width = frame.shape[:2]
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            if times_ms is not None:
                picture.pts, picture.time_base = times_ms[i], Fraction(1, 1000)
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
    return path


def write_numbered_clip(
    path: Path, num_frames: int = 50, width: int = 320, height: int = 240, **options: object
) -> Path:
    frames = (numbered_frame(i, width, height) for i in range(num_frames))
    return write_clip(path, frames, **options)  # type: ignore[arg-type]


def set_display_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Have an mp4 file's first track shown with the pixel at (x, y) at (a x + c y, b x + d y)."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40  # version 0: what comes before the matrix takes 40 bytes
    data[start : start + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def remuxed(source: Path, path: Path, **options: str) -> Path:
    """The packets of a file in another container."""
    with av.open(str(source)) as reading, av.open(str(path), "w", options=options) as writing:
        copies = [writing.add_stream_from_template(stream) for stream in reading.streams]
        for packet in reading.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream_index]
                writing.mux(packet)
    return path
