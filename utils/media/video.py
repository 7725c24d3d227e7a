"""Path -> frames, streamed.

FFmpeg's own libraries, through PyAV, decode, pace and scale, so that frames are those of the `ffmpeg` command line.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import TypeVar, cast

import av
import av.filter
import numpy as np
import numpy.typing as npt
from av.codec.hwaccel import HWAccel
from av.sidedata.sidedata import SideDataContainer

from utils.errors import MediaError
from utils.media.container import (
    BROADCAST,
    FALLBACK_FPS,
    MIN_GAP_SECONDS,
    RESTART_SECONDS,
    Container,
    DecodeErrors,
    cause,
)
from utils.media.decoder import Decoder, MediaReader
from utils.media.frame_rate import to_constant_fps
from utils.media.options import DecodeOptions
from utils.media.raw_frame import LAYOUTS, SCALED, Bytes, RawFormat, RawFrame, copy_planes

log = logging.getLogger("video_features")

Frame = npt.NDArray[np.uint8]
"""RGB, (H, W, 3)."""

Item = TypeVar("Item")

LARGE_PIXELS = 1280 * 720  # of a frame that a video engine decodes faster than a core of a CPU
MAX_SCALED_PIXELS = 2**25  # whose flow takes some 15 GB
MAX_FPS = 1000  # that a video is believed to have
MIN_FPS_RATIO = Fraction(1, 4)  # of the rate that is believed to be a video's to that of its frames' times


# By the signs of a display matrix's linear part (a, b, c, d), which moves a pixel at (x, y), y down, to
# (a x + c y, b x + d y): the filters that do the same.
ORIENTATIONS: dict[tuple[int, ...], tuple[str, ...]] = {
    (1, 0, 0, 1): (),
    (0, 1, -1, 0): ("transpose=clock",),
    (-1, 0, 0, -1): ("hflip", "vflip"),
    (0, -1, 1, 0): ("transpose=cclock",),
    (-1, 0, 0, 1): ("hflip",),
    (1, 0, 0, -1): ("vflip",),
    (0, 1, 1, 0): ("transpose=cclock_flip",),
    (0, -1, -1, 0): ("transpose=clock_flip",),
}
ROTATIONS = {  # degrees anticlockwise
    90: (0, -1, 1, 0),
    -90: (0, 1, -1, 0),
    180: (-1, 0, 0, -1),
    -180: (-1, 0, 0, -1),
}


# What swscale converts of the ways to code colours, by the numbers in ITU-T H.273; it refuses others.
MATRICES = (1, 2, 4, 5, 6, 7, 9)
TRANSFERS = (1, 2, *range(4, 9), *range(11, 19))
PRIMARIES = (1, 2, *range(4, 13), 22)
LEAST_SIDE = 8  # pixels, of a raw frame; swscale has ways of its own with less
FULL_RANGE = 2
RANGES = (0, 1, FULL_RANGE)  # not told, limited, and full, by FFmpeg's numbers
ALWAYS_FULL_RANGE = ("yuvj420p", "yuvj422p", "yuvj444p", "gray")


_Stored = tuple[str, int, int]
_Colours = tuple[int, int, int, int]


@dataclass(frozen=True)
class _Display:
    """The way a video is shown, which its first frame tells."""

    orientation: tuple[str, ...]
    width: int
    height: int


class Video(MediaReader):
    """The frames of a video at a constant rate, as displayed, scaled so that the smaller side is `min_side_size`.

    Iterate over it once, inside `with`. Frame i is what is shown i / fps seconds after the first: frames are
    repeated or left out where the video's own come slower or faster, as with `ffmpeg -r`. `fps` is `extraction_fps`,
    or else the video's average rate. `missing` tells afterwards what could not be read. Raises MediaError.
    """

    def __init__(
        self, path: str, min_side_size: int, extraction_fps: float | None = None, options: DecodeOptions | None = None
    ) -> None:
        self.path = path
        self.num_frames = 0  # given so far
        self.min_side_size = min_side_size
        self._container = _reopen_for_video_engine(Container(path, options or DecodeOptions()))
        try:
            stream = self._container.video()
            if stream is None:
                raise MediaError("no_video", f"{path}: no video stream")
            self._decoder = Decoder(self._container, stream)
            self._stream = stream
            self._display: _Display | None = None
            self._graph: av.filter.Graph | None = None
            self._formats: dict[tuple[_Stored, _Colours], RawFormat] = {}
            self._own_fps = max(stream.average_rate or Fraction(0), Fraction(0)) or _measure_fps(self._container)
            self.fps = Fraction(extraction_fps).limit_denominator(10**6) if extraction_fps else self._own_fps
            if self.fps > MAX_FPS:
                raise MediaError(
                    "corrupt", f"{path}: {float(self.fps):g} frames a second; name a rate with --extraction_fps"
                )
        except BaseException:
            self._container.close()
            raise

    def __iter__(self) -> Iterator[Frame]:
        return self._at_constant_rate(self._scale)

    def raw_frames(self, allocate: Callable[[int], Bytes] | None = None) -> Iterator[RawFrame]:
        """Instead of the frames that iterating gives, what they are made of, for `scaling.scale`.

        One that is repeated is the same object again. `allocate` gives the memory of one for a number of bytes. Those
        of one video may be of several formats, but not of several scaled sizes. What is stored in a way that
        is not of `LAYOUTS` is scaled already.
        """

        def copy(decoded: av.VideoFrame) -> RawFrame:
            form = self._find_format(decoded)
            data = allocate(form.num_bytes) if allocate else np.empty(form.num_bytes, np.uint8)
            if form.pixels == SCALED:
                np.copyto(data.reshape(form.height, form.width, 3), self._scale(decoded))
            else:
                copy_planes(decoded, form, data)
            return RawFrame(data, form)

        return self._at_constant_rate(copy)

    def _at_constant_rate(self, make: Callable[[av.VideoFrame], Item]) -> Iterator[Item]:
        """Frames at the constant rate, of which those that are repeated are made once."""
        last: tuple[av.VideoFrame, Item] | None = None
        try:
            for decoded in to_constant_fps(self._timed(), self.fps, self._own_fps):
                if last is None or decoded is not last[0]:
                    last = decoded, make(decoded)
                self.num_frames += 1
                yield last[1]
        except DecodeErrors as error:
            raise MediaError("corrupt", f"{self.path}: decoding failed: {cause(error)}") from error
        if last is None:
            raise MediaError("unreadable", f"{self.path}: its video stream holds no frame")

    def _timed(self) -> Iterator[tuple[Fraction, av.VideoFrame]]:
        """The decoded frames in order of display, with the seconds they are shown at, which grow.

        AVI knows no display times: its frames are paced as they are stored. Where a time is missing or does not
        grow, the frame follows the one before; so it does where the clock starts anew.
        """
        paced_as_stored = self._container.av.format.name == "avi"
        time_base = self._stream.time_base
        assert time_base is not None  # every demuxed stream has one
        step = max(1, round(1 / (self._own_fps * time_base)))
        usual = int(min(RESTART_SECONDS, MIN_GAP_SECONDS) / time_base)  # jump, in which there is nothing to look for
        can_restart = self._container.av.format.name in BROADCAST
        first = last = None
        skew = 0  # of a clock that started anew
        num_decoded = 0
        for decoded in self._decoder:
            num_decoded += 1
            time = decoded.dts if paced_as_stored else decoded.pts
            if time is not None:
                time += skew
            if first is not None and last is not None and time is not None and abs(time - last) > usual:
                jump = (time - last) * time_base
                if can_restart and abs(jump) > RESTART_SECONDS:
                    skew += last + step - time
                    time = last + step
                elif not self._container.can_last(jump, (time - first) * time_base):
                    self._decoder.missing.refuse("corrupt", f"its time jumps by {float(jump):.0f} s")
                    time = None
            if last is not None and (time is None or time <= last):
                time = last + step
            last = time or 0
            first = last if first is None else first
            yield last * time_base, cast(av.VideoFrame, decoded)
        seconds = ((last or 0) - (first or 0)) * time_base
        if self.fps == self._own_fps and self.fps * seconds < MIN_FPS_RATIO * (num_decoded - 1):
            self._decoder.missing.refuse("corrupt", f"its frames are not of {float(self.fps):g} a second, as it says")

    def _scale(self, decoded: av.VideoFrame) -> Frame:
        """A decoded frame as displayed, scaled, RGB."""
        self._graph = self._graph or self._build_scaler(decoded)
        self._graph.vpush(decoded)
        return cast(Frame, self._graph.vpull().to_ndarray())

    def _build_scaler(self, first: av.VideoFrame) -> av.filter.Graph:
        """A graph that turns each decoded frame into one as displayed, scaled, RGB."""
        display = self._find_display(first)
        graph = av.filter.Graph()
        graph.threads = 1
        source = graph.add_buffer(
            width=first.width, height=first.height, format=first.format, time_base=Fraction(1, 1000)
        )
        nodes = [source]
        scale = f"scale=w={display.width}:h={display.height}:flags=bicubic"
        for step in (*display.orientation, scale, "format=pix_fmts=rgb24", "buffersink"):
            name, _, arguments = step.partition("=")
            nodes.append(graph.add(name, arguments or None))
        graph.link_nodes(*nodes).configure()
        return graph

    def _find_display(self, decoded: av.VideoFrame) -> _Display:
        """Return the way the video is shown: as its first decoded frame says."""
        if self._display is None:
            orientation = _find_orientation(decoded)
            turned = any(step.startswith("transpose") for step in orientation)
            width, height = (decoded.height, decoded.width) if turned else (decoded.width, decoded.height)
            width, height = scale_size(width, height, self.min_side_size)
            if width * height > MAX_SCALED_PIXELS:
                raise MediaError(
                    "bad_size",
                    f"{self.path}: {decoded.width}x{decoded.height} would be scaled to {width}x{height}, over the "
                    f"limit of {MAX_SCALED_PIXELS} pixels",
                )
            self._display = _Display(orientation, width, height)
        return self._display

    def _find_format(self, decoded: av.VideoFrame) -> RawFormat:
        """Return the format of the raw frame that a decoded one becomes."""
        stored = decoded.format.name, decoded.width, decoded.height
        colours = decoded.colorspace, decoded.color_range, decoded.color_trc, decoded.color_primaries
        form = self._formats.get((stored, colours))
        if form is None:
            form = self._formats[stored, colours] = _make_raw_format(stored, colours, self._find_display(decoded))
        return form


def scale_size(width: int, height: int, min_side_size: int) -> tuple[int, int]:
    """Width and height with the smaller side at `min_side_size` and the aspect kept, rounded as FFmpeg's scale=-1:N."""
    if width < height:
        return min_side_size, (min_side_size * height + width // 2) // width
    return (min_side_size * width + height // 2) // height, min_side_size


def write_png(frame: Frame, path: Path) -> None:
    """Save a frame without loss."""
    encoder = av.CodecContext.create("png", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.height, encoder.width = frame.shape[:2]
    encoder.pix_fmt = "rgb24"
    encoder.time_base = Fraction(1)
    packets = encoder.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")) + encoder.encode(None)
    path.write_bytes(b"".join(map(bytes, packets)))


def _reopen_for_video_engine(container: Container) -> Container:
    """The file, opened anew for a GPU's video engine if that is wanted, there, and its frames are large."""
    stream, engine = container.video(), container.options.video_engine
    if engine is None or stream is None or stream.width * stream.height < LARGE_PIXELS:
        return container
    try:
        again = Container(container.path, container.options, HWAccel("cuda", engine, allow_software_fallback=True))
    except DecodeErrors as error:
        _warn_of_engine(engine, cause(error))
        return container
    container.close()
    return again


@lru_cache
def _warn_of_engine(engine: int, why: str) -> None:
    """Say once that a video engine cannot be used."""
    log.warning("The CPU decodes: the video engine of GPU %d cannot be used: %s", engine, why)


def _measure_fps(container: Container) -> Fraction:
    """The average rate of a video that does not tell it, as recordings of browsers do not, by counting its packets."""
    again = Container(container.path, container.options)
    try:
        stream = again.video()
        assert stream is not None  # whoever asks has seen it
        times = sorted(
            packet.pts for packet in again.packets() if packet.stream_index == stream.index and packet.pts is not None
        )
    except DecodeErrors as error:
        raise MediaError("corrupt", f"{container.path}: reading failed: {cause(error)}") from error
    finally:
        again.close()
    if len(times) < 2 or times[0] == times[-1] or stream.time_base is None:
        return FALLBACK_FPS
    return (len(times) - 1) / ((times[-1] - times[0]) * stream.time_base)


def _make_raw_format(stored: _Stored, colours: _Colours, display: _Display) -> RawFormat:
    """Return the format of raw frames of a pixel format and size, and of a matrix, range, transfer and primaries."""
    pixels, width, height = stored
    matrix, color_range, transfer, primaries = colours
    already_scaled = RawFormat(SCALED, display.width, display.height, 2, True, (), display.width, display.height)
    is_known = matrix in MATRICES and color_range in RANGES and transfer in TRANSFERS and primaries in PRIMARIES
    if pixels not in LAYOUTS or not is_known or min(width, height) < LEAST_SIDE:
        return already_scaled
    form = RawFormat(
        pixels,
        width,
        height,
        matrix,
        color_range == FULL_RANGE or pixels in ALWAYS_FULL_RANGE,
        display.orientation,
        display.width,
        display.height,
    )
    return already_scaled if form.is_transposed and _is_oblong(pixels) else form


def _is_oblong(pixels: str) -> bool:
    """Tell whether the chroma is narrower but not lower: FFmpeg transposes no such frame without converting it."""
    shifts = LAYOUTS[pixels].chroma_shifts or (0, 0)
    return shifts[0] != shifts[1]


def _find_orientation(frame: av.VideoFrame) -> tuple[str, ...]:
    """The filters that turn a decoded frame as its display matrix says; other angles than right ones are ignored."""
    try:
        matrix = np.frombuffer(cast(SideDataContainer, frame.side_data)["DISPLAYMATRIX"], dtype=np.int32)
    except KeyError:
        return ()
    except ValueError:  # beside it there is data of a kind that PyAV does not know; it tells the angle all the same
        return ORIENTATIONS.get(ROTATIONS.get(frame.rotation, ()), ())
    linear = matrix.reshape(3, 3)[:2, :2].ravel()
    signs = np.sign(np.where(np.abs(linear) * 2 > np.abs(linear).max(), linear, 0))
    return ORIENTATIONS.get(tuple(signs.tolist()), ())
