"""Path -> frames or sound, streamed: the one place that decodes.

FFmpeg's own libraries, through PyAV, decode, pace and scale, so that frames are those of the `ffmpeg` command line.
"""

import math
import os
import stat
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import cast

import av
import av.filter
import numpy as np
import numpy.typing as npt
from av.sidedata.sidedata import SideDataContainer
from av.stream import Disposition

from utils.pacing import paced

Frame = npt.NDArray[np.uint8]
"""RGB, (H, W, 3)."""

Samples = npt.NDArray[np.int16]
"""(samples, channels)."""

FALLBACK_FPS = Fraction(25)  # of a video that does not tell its rate, as in FFmpeg
MAX_SCALED_PIXELS = 2**25  # whose flow takes some 15 GB
JITTER_SECONDS = Fraction(1, 10)  # that a sound's times may be off before it is corrected, as in FFmpeg's aresample

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

DecodeErrors = (av.FFmpegError, OSError, ValueError)


class MediaError(Exception):
    """A file that cannot be used; `reason` is the one word for it in status rows."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason

    def __str__(self) -> str:
        return str(self.args[1])


class Video:
    """The frames of a video at a constant rate, as displayed, scaled so that the smaller side is `min_side_size`.

    Iterate over it once, inside `with`. Frame i is what is shown i / fps seconds after the first: frames are
    repeated or left out where the video's own come slower or faster, as with `ffmpeg -r`. `fps` is `extraction_fps`,
    or else the video's average rate. Raises MediaError.
    """

    def __init__(self, path: str, min_side_size: int, extraction_fps: float | None = None) -> None:
        self.path = path
        self.num_frames = 0  # given so far
        self.min_side_size = min_side_size
        self._container = _open(path)
        stream = _video_stream(self._container)
        if stream is None:
            self._container.close()
            raise MediaError("no_video", f"{path}: no video stream")
        self._stream = stream
        self._stream.thread_type = "AUTO"
        self._own_fps = self._stream.average_rate or _measured_fps(path)
        self.fps = Fraction(extraction_fps).limit_denominator(10**6) if extraction_fps else self._own_fps

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def __iter__(self) -> Iterator[Frame]:
        scale, last, frame = None, None, np.empty(0, np.uint8)
        try:
            for decoded in paced(self._timed(), self.fps, self._own_fps):
                scale = scale or self._scaler(decoded)
                if decoded is not last:
                    scale.vpush(decoded)
                    last, frame = decoded, cast(Frame, scale.vpull().to_ndarray())
                self.num_frames += 1
                yield frame
        except DecodeErrors as error:
            raise MediaError("corrupt", f"{self.path}: decoding failed: {_cause(error)}") from error
        if last is None:
            raise MediaError("unreadable", f"{self.path}: its video stream holds no frame")

    def _timed(self) -> Iterator[tuple[Fraction, av.VideoFrame]]:
        """The decoded frames in order of display, with the seconds they are shown at, which grow.

        AVI knows no display times: its frames are paced as they are stored. Where a time is missing or does not
        grow, the frame follows the one before.
        """
        paced_as_stored = self._container.format.name == "avi"
        time_base = self._stream.time_base
        assert time_base is not None  # every demuxed stream has one
        step = max(1, round(1 / (self._own_fps * time_base)))
        last = None
        for decoded in self._container.decode(self._stream):
            time = decoded.dts if paced_as_stored else decoded.pts
            if last is not None and (time is None or time <= last):
                time = last + step
            last = time or 0
            yield last * time_base, decoded

    def _scaler(self, first: av.VideoFrame) -> av.filter.Graph:
        """A graph that turns each decoded frame into one as displayed, scaled, RGB."""
        orientation = _orientation(first)
        turned = any(step.startswith("transpose") for step in orientation)
        width, height = (first.height, first.width) if turned else (first.width, first.height)
        width, height = scaled_size(width, height, self.min_side_size)
        if width * height > MAX_SCALED_PIXELS:
            raise MediaError(
                "bad_size",
                f"{self.path}: {first.width}x{first.height} would be scaled to {width}x{height}, over the limit of "
                f"{MAX_SCALED_PIXELS} pixels",
            )
        graph = av.filter.Graph()
        graph.threads = 1
        source = graph.add_buffer(
            width=first.width, height=first.height, format=first.format, time_base=Fraction(1, 1000)
        )
        nodes = [source]
        scale = f"scale=w={width}:h={height}:flags=bicubic"
        for step in (*orientation, scale, "format=pix_fmts=rgb24", "buffersink"):
            name, _, arguments = step.partition("=")
            nodes.append(graph.add(name, arguments or None))
        graph.link_nodes(*nodes).configure()
        return graph


class Sound:
    """The sound of a video or an audio file: 16-bit samples at its own rate, `rate_hz`, in time with the picture.

    Iterate over it once, inside `with`: it gives blocks of about a second, of which each has its own number of
    channels. Sample i is heard i / rate_hz seconds after the first frame of the video is shown, or after the sound
    begins where there is no video: silence fills the time before a sound that begins late, and gaps inside it; what
    is heard before is left out. Raises MediaError.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.num_samples = 0  # given so far
        self._container = _open(path)
        try:
            stream = self._container.streams.best("audio")
            if not isinstance(stream, av.AudioStream):
                raise MediaError("no_audio", f"{path}: no audio stream")
            decoded = self._container.decode(stream)
            first = next(decoded, None)
            if first is None:
                raise MediaError("unreadable", f"{path}: its audio stream holds no sound")
        except DecodeErrors as error:
            self._container.close()
            raise self._corrupt(error) from error
        except MediaError:
            self._container.close()
            raise
        self.rate_hz = first.sample_rate
        self._decoded = chain([first], decoded)

    def __enter__(self) -> "Sound":
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def __iter__(self) -> Iterator[Samples]:
        held: list[Samples] = []
        num_held = 0
        try:
            for samples in self._in_time():
                if held and (num_held >= self.rate_hz or samples.shape[1] != held[0].shape[1]):
                    yield np.concatenate(held)
                    held, num_held = [], 0
                held.append(samples)
                num_held += len(samples)
        except DecodeErrors as error:
            raise self._corrupt(error) from error
        if held:
            yield np.concatenate(held)

    def _in_time(self) -> Iterator[Samples]:
        """The decoded samples, with silence or without a beginning where their times say so.

        A jump in time back, or ahead by more than the file lasts, is an error in the file, and sound goes on.
        """
        picture = _video_stream(self._container)
        zero = _seconds(picture.start_time, picture.time_base) if picture else None
        microseconds = self._container.duration
        longest = math.inf if microseconds is None else microseconds * self.rate_hz / 10**6  # samples
        skew = 0  # samples, of all jumps so far
        for time, samples in self._timed():
            gap = 0
            if time is not None:
                zero = time if zero is None else zero
                gap = round((time - zero) * self.rate_hz) - skew - self.num_samples
                if self.num_samples and abs(gap) <= JITTER_SECONDS * self.rate_hz:
                    gap = 0
                elif (self.num_samples and gap < 0) or gap > longest:
                    skew += gap
                    gap = 0
            for start in range(0, gap, self.rate_hz):
                yield self._given(np.zeros((min(self.rate_hz, gap - start), samples.shape[1]), np.int16))
            yield self._given(samples[max(0, -gap) :])

    def _timed(self) -> Iterator[tuple[Fraction | None, Samples]]:
        """The decoded samples at one rate, with the seconds they are heard at, where the file knows them."""
        convert, before = av.AudioResampler(), None
        for frame in self._decoded:
            form = frame.format.name, frame.layout.name, frame.sample_rate
            if form != before:
                convert, before = av.AudioResampler("s16", frame.layout, self.rate_hz), form
            time = _seconds(frame.pts, frame.time_base)
            for converted in convert.resample(frame):
                yield time, cast(Samples, converted.to_ndarray()).reshape(-1, converted.layout.nb_channels)
                time = None

    def _given(self, samples: Samples) -> Samples:
        self.num_samples += len(samples)
        return samples

    def _corrupt(self, error: Exception) -> MediaError:
        return MediaError("corrupt", f"{self.path}: decoding its sound failed: {_cause(error)}")


def scaled_size(width: int, height: int, min_side_size: int) -> tuple[int, int]:
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


def _seconds(time: int | None, time_base: Fraction | None) -> Fraction | None:
    """A time in units of `time_base`, both of which the file may not tell, in seconds."""
    if time is None or time_base is None:
        return None
    return time * time_base


def _open(path: str) -> av.container.InputContainer:
    """Open a local media file, and nothing else: no protocol, no device, no FIFO to wait on."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError as error:
        raise MediaError("not_found", f"{path}: no such file") from error
    except OSError as error:
        raise MediaError("no_permission", f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        raise MediaError("not_a_file", f"{path}: not a regular file")
    if not os.access(path, os.R_OK):
        raise MediaError("no_permission", f"{path}: no permission to read it")
    try:
        return av.open(
            f"file:{path}", mode="r", container_options={"protocol_whitelist": "file"}, metadata_errors="replace"
        )
    except DecodeErrors as error:
        raise MediaError("unreadable", f"{path}: not a media file that can be read: {_cause(error)}") from error


def _video_stream(container: av.container.InputContainer) -> av.VideoStream | None:
    """The first video stream that is no cover picture."""
    streams = (s for s in container.streams.video if not s.disposition & Disposition.attached_pic)
    return next(streams, None)


def _measured_fps(path: str) -> Fraction:
    """The average rate of a video that does not tell it, as recordings of browsers do not, by counting its packets."""
    with _open(path) as container:
        stream = _video_stream(container)
        assert stream is not None  # whoever asks has seen it
        times = sorted(packet.pts for packet in container.demux(stream) if packet.pts is not None)
        if len(times) < 2 or times[0] == times[-1] or stream.time_base is None:
            return FALLBACK_FPS
        return (len(times) - 1) / ((times[-1] - times[0]) * stream.time_base)


def _cause(error: Exception) -> str:
    """What FFmpeg said, without the error number and the path that it adds."""
    return str(getattr(error, "strerror", None) or error)


def _orientation(frame: av.VideoFrame) -> tuple[str, ...]:
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
