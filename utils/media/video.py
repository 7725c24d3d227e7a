"""Path -> frames, streamed.

FFmpeg's own libraries, through PyAV, decode, pace and scale, so that frames are those of the `ffmpeg` command line.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import closing
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

import av
import av.filter
import numpy as np
import numpy.typing as npt
from av.sidedata.sidedata import SideDataContainer

from utils.errors import MediaError
from utils.media.container import BROADCAST, FALLBACK_FPS, MIN_GAP_SECONDS, RESTART_SECONDS, Container
from utils.media.decoder import Decoder
from utils.media.frame_rate import to_constant_fps
from utils.media.options import DecodeOptions
from utils.media.raw_frame import LAYOUTS, SCALED, Bytes, RawFormat, RawFrame, copy_planes
from utils.media.reader import MediaReader

Frame = npt.NDArray[np.uint8]
"""RGB, (H, W, 3)."""

Item = TypeVar("Item")

MAX_SCALED_PIXELS = 2**25  # whose flow takes some 15 GB
USUAL_SIDE = 256  # pixels, that whoever takes frames at their own size scales their smaller side to
MAX_FPS = 1000  # that a video is believed to have
MIN_FPS_RATIO = Fraction(1, 4)  # of the rate that is believed to be a video's to that of its frames' times

# FFmpeg's ways to transpose, numbered: 1 mirrors the result from left to right, and 2 from top to bottom.
TRANSPOSES = ("transpose=cclock_flip", "transpose=clock", "transpose=cclock", "transpose=clock_flip")

# What swscale converts of the ways to code colours, by the numbers in ITU-T H.273; it refuses others.
MATRICES = (1, 2, 4, 5, 6, 7, 9)
TRANSFERS = (1, 2, *range(4, 9), *range(11, 19))
PRIMARIES = (1, 2, *range(4, 13), 22)
LEAST_SIDE = 8  # pixels, of a raw frame; swscale has ways of its own with less
FULL_RANGE = 2
RANGES = (0, 1, FULL_RANGE)  # not told, limited, and full, by FFmpeg's numbers
ALWAYS_FULL_RANGE = ("yuvj420p", "yuvj422p", "yuvj444p", "gray")


class _Display(NamedTuple):
    """The way a video is shown, which its first frame tells."""

    orientation: tuple[str, ...]  # filters, as in `RawFormat`
    width: int  # scaled
    height: int


class Video(MediaReader):
    """The frames of a video at a constant rate, as displayed, scaled so that the smaller side is `min_side_size`.

    Without that they have their own size. Iterate over it once, inside `with`. Frame i is what is shown i / fps
    seconds after the first: frames are repeated or left out where the video's own come slower or faster, as with
    `ffmpeg -r`. `fps` is `extraction_fps`, or else the video's average rate. `missing` tells afterwards what could not
    be read. Raises MediaError.
    """

    def __init__(
        self,
        path: str,
        min_side_size: int | None,
        extraction_fps: float | None = None,
        options: DecodeOptions | None = None,
    ) -> None:
        self.path = path
        self.sketch = options.sketch if options else None
        self.num_frames = 0  # given so far
        self.min_side_size = min_side_size
        self._display: _Display | None = None
        self._graph: av.filter.Graph | None = None
        self._container = Container(path, options or DecodeOptions())
        with self._closing_on_failure():
            stream = self._container.video()
            if stream is None:
                raise MediaError("no_video", f"{path}: no video stream")
            self._decoder = Decoder(self._container, stream)
            assert stream.time_base is not None  # every demuxed stream has one
            self._time_base = stream.time_base  # seconds of a tick
            self._own_fps = max(stream.average_rate or Fraction(0), Fraction(0)) or _measure_fps(self._container)
            self.fps = Fraction(extraction_fps).limit_denominator(10**6) if extraction_fps else self._own_fps
            if self.fps > MAX_FPS:
                raise MediaError(
                    "corrupt", f"{path}: {float(self.fps):g} frames a second; name a rate with --extraction_fps"
                )

    def __iter__(self) -> Iterator[Frame]:
        return self._at_constant_rate(self._scale)

    def raw_frames(self, allocate: Callable[[RawFormat], Bytes] | None = None) -> Iterator[RawFrame]:
        """Instead of the frames that iterating gives, what they are made of, for `scaling.scale`.

        One that is repeated is the same object again. `allocate` gives the memory of one, once each. Those of one
        video may be of several formats, but not of several scaled sizes. What is stored in a way that is not of
        `LAYOUTS` is scaled already.
        """

        def copy(decoded: av.VideoFrame) -> RawFrame:
            colours = decoded.colorspace, decoded.color_range, decoded.color_trc, decoded.color_primaries
            display = self._find_display(decoded)
            form = _find_raw_format(decoded.format.name, decoded.width, decoded.height, colours, display)
            data = allocate(form) if allocate else np.empty(form.num_bytes, np.uint8)
            if form.pixels == SCALED:
                np.copyto(data.reshape(form.height, form.width, 3), self._scale(decoded))
            else:
                copy_planes(decoded, form, data)
            return RawFrame(data, form)

        return self._at_constant_rate(copy)

    def _at_constant_rate(self, make: Callable[[av.VideoFrame], Item]) -> Iterator[Item]:
        """Yield frames at the constant rate, of which those that are repeated are made once."""
        last: tuple[av.VideoFrame, Item] | None = None
        with self._failing_as_corrupt():
            for decoded in to_constant_fps(self._timed(), self._time_base, self.fps, self._own_fps):
                if last is None or decoded is not last[0]:
                    last = decoded, make(decoded)
                self.num_frames += 1
                yield last[1]
        if last is None:
            raise MediaError("unreadable", f"{self.path}: its video stream holds no frame")

    def _timed(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield the decoded frames in order of display, with the times they are shown at, which grow, in ticks.

        AVI knows no display times: its frames are paced as they are stored. Where a time is missing or does not
        grow, the frame follows the one before; so it does where the clock starts anew.
        """
        format_name, time_base = self._container.av.format.name, self._time_base
        is_broadcast = format_name in BROADCAST
        restart, sure_gap = RESTART_SECONDS // time_base, MIN_GAP_SECONDS // time_base
        step = max(1, round(1 / (self._own_fps * time_base)))
        first = last = num_decoded = 0
        skew = 0  # of a clock that started anew
        for num_decoded, decoded in enumerate(self._decoder, start=1):
            stored = decoded.dts if format_name == "avi" else decoded.pts
            following = last + step
            time = following if stored is None else stored + skew
            jump = time - last
            if num_decoded == 1:
                first = time = stored or 0
            elif is_broadcast and abs(jump) > restart:
                skew += following - time
                time = following
            elif jump > sure_gap and not self._container.allows_gap(jump * time_base, (time - first) * time_base):
                self._decoder.missing.refuse("corrupt", f"its time jumps by {float(jump * time_base):.0f} s")
                time = following
            elif time <= last:
                time = following
            last = time
            yield last, cast(av.VideoFrame, decoded)
        seconds = (last - first) * time_base
        if self.fps == self._own_fps and self.fps * seconds < MIN_FPS_RATIO * (num_decoded - 1):
            self._decoder.missing.refuse("corrupt", f"its frames are not of {float(self.fps):g} a second, as it says")

    def _scale(self, decoded: av.VideoFrame) -> Frame:
        """Return a decoded frame as displayed, scaled, RGB."""
        self._graph = self._graph or _build_scaler(decoded, self._find_display(decoded))
        self._graph.vpush(decoded)
        return cast(Frame, self._graph.vpull().to_ndarray())

    def _find_display(self, decoded: av.VideoFrame) -> _Display:
        """Return the way the video is shown: as its first decoded frame says."""
        if self._display is None:
            orientation = _find_orientation(decoded)
            is_transposed = orientation and orientation[0] in TRANSPOSES
            size = (decoded.height, decoded.width) if is_transposed else (decoded.width, decoded.height)
            scaled = scale_size(*size, self.min_side_size or USUAL_SIDE)
            for width, height in (size, scaled) if self.min_side_size is None else (scaled,):
                if width * height > MAX_SCALED_PIXELS:
                    raise MediaError(
                        "bad_size",
                        f"{self.path}: {decoded.width}x{decoded.height} would be scaled to {width}x{height}, over the "
                        f"limit of {MAX_SCALED_PIXELS} pixels",
                    )
            self._display = _Display(orientation, *(size if self.min_side_size is None else scaled))
        return self._display


def scale_size(width: int, height: int, min_side_size: int) -> tuple[int, int]:
    """Return width and height with the smaller side as given and the aspect kept, rounded as FFmpeg's scale=-1:N."""
    if width < height:
        return min_side_size, (min_side_size * height + width // 2) // width
    return (min_side_size * width + height // 2) // height, min_side_size


def write_png(frame: Frame, path: Path) -> None:
    """Save a frame without loss."""
    av.VideoFrame.from_ndarray(frame, format="rgb24").save(path, pred="none")


def _measure_fps(container: Container) -> Fraction:
    """Return the average rate of a video that does not tell it, as browsers' recordings do not, by its packets."""
    with closing(Container(container.path, container.options)) as again:
        stream = again.video()
        assert stream is not None  # whoever asks has seen it
        assert stream.time_base is not None
        packets = (packet for packet in again.packets() if packet.stream_index == stream.index)
        times = sorted(packet.pts for packet in packets if packet.pts is not None)
    if len(times) < 2 or times[0] == times[-1]:
        return FALLBACK_FPS
    return (len(times) - 1) / ((times[-1] - times[0]) * stream.time_base)


def _build_scaler(decoded: av.VideoFrame, display: _Display) -> av.filter.Graph:
    """Return a graph that turns each frame like a decoded one into one as displayed, scaled, RGB."""
    graph = av.filter.Graph()
    graph.threads = 1
    width, height, pixels = decoded.width, decoded.height, decoded.format
    nodes = [graph.add_buffer(width=width, height=height, format=pixels, time_base=Fraction(1, 1000))]
    scale = f"scale=w={display.width}:h={display.height}:flags=bicubic"
    for step in (*display.orientation, scale, "format=pix_fmts=rgb24", "buffersink"):
        name, _, arguments = step.partition("=")
        nodes.append(graph.add(name, arguments or None))
    graph.link_nodes(*nodes).configure()
    return graph


@lru_cache
def _find_raw_format(
    pixels: str, width: int, height: int, colours: tuple[int, int, int, int], display: _Display
) -> RawFormat:
    """Return the format of the raw frame that a decoded one of a pixel format, size and coding of colours becomes."""
    matrix, color_range, transfer, primaries = colours
    is_known = matrix in MATRICES and color_range in RANGES and transfer in TRANSFERS and primaries in PRIMARIES
    if pixels in LAYOUTS and is_known and min(width, height) >= LEAST_SIDE:
        is_full_range = color_range == FULL_RANGE or pixels in ALWAYS_FULL_RANGE
        form = RawFormat(pixels, width, height, matrix, is_full_range, *display)
        # FFmpeg converts a frame whose chroma is narrower but not lower before it transposes it.
        if not form.is_transposed or LAYOUTS[pixels].chroma_shifts != (1, 0):
            return form
    return RawFormat(SCALED, display.width, display.height, 2, True, (), display.width, display.height)


def _find_orientation(frame: av.VideoFrame) -> tuple[str, ...]:
    """Return the filters that turn a frame as its display matrix says; other angles than right ones are ignored.

    The matrix moves a pixel at (x, y), y down, to (a x + c y, b x + d y).
    """
    try:
        matrix = np.frombuffer(cast(SideDataContainer, frame.side_data)["DISPLAYMATRIX"], dtype=np.int32)
        linear = matrix.reshape(3, 3)[:2, :2].ravel().astype(float)
    except KeyError:
        return ()
    except ValueError:  # beside it there is data of a kind that PyAV does not know; it tells the angle all the same
        angle = math.radians(frame.rotation)  # anticlockwise
        linear = np.array([math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)])
    a, b, c, d = np.sign(np.where(np.abs(linear) * 2 > np.abs(linear).max(), linear, 0)).astype(int).tolist()
    if a and d and not b and not c:
        return tuple(name for name, sign in (("hflip", a), ("vflip", d)) if sign < 0)
    if b and c and not a and not d:
        return (TRANSPOSES[(c < 0) + 2 * (b < 0)],)
    return ()
