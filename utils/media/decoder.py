"""The frames of one stream, decoded with a watch for what is missing.

FFmpeg hides what is wrong with a file wherever it can: it stops at the end of one that is cut off, skips what it
cannot read, and conceals what it cannot decode. Features of such a file look right and are not, so here they fail,
or with `allow_partial` what is wrong is noted.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from heapq import heappop, heappush
from itertools import chain
from typing import Any, Self

import av

from utils.errors import MediaError
from utils.media.container import BROADCAST, Container, DecodeErrors, cause, codec_options
from utils.media.integrity.file_sizes import is_cut_off
from utils.media.integrity.watches import LARGEST_OVERHEAD, Watch, watch_of

# Those that write down the length of a sound, and to how many seconds.
LENGTHS = {"flac": 0.01, "aiff": 0.01, "au": 0.01, "w64": 0.01, "caf": 0.01, "ogg": 0.1}
LARGEST_LAG = 0.75  # frames that the last one decoded is behind the last one stored; a packet can hold half a frame
# Packets in a row that may give no frame: a hidden one that others build on, the second half of a frame.
LEAST_HOLE = 3
# Containers that tell apart from a frame's own data whether it is a key frame.
KEYS_IN_INDEX = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi")
LARGEST_STAND_IN = 16  # bytes, of a packet for a frame that is the same as the one before
# Decoders that give no frame before a key frame, only errors, some packets later where they use threads.
ONLY_AFTER_KEYS = ("vp8", "vp9", "av1", "libdav1d")
MAX_SHREDS = 8  # packets of sound that the rest of the one that such a recording begins amid is taken for


class MediaReader:
    """A file that is open until the end of `with`."""

    _container: Container
    _decoder: "Decoder"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    @property
    def missing(self) -> str:
        """What could not be read, for people to read; empty where all could."""
        return self._decoder.describe_missing()

    @property
    def missing_seconds(self) -> float:
        """How much could not be read."""
        return 0.0


class Decoder:
    """The frames of one stream of a container, to be iterated over once.

    A file that is found to be damaged or cut off raises MediaError, at once or at its end; with `allow_partial` that
    is noted in `missing` and what can be decoded is given.
    """

    def __init__(self, container: Container, stream: av.VideoStream | av.AudioStream) -> None:
        self.missing: Counter[str] = Counter()
        self._end_seconds = 0.0
        self._container = container
        self._stream = stream
        if stream.codec_context is None:
            raise MediaError("unreadable", f"{container.path}: its {stream.type} is coded in a way that is not known")
        if isinstance(stream, av.VideoStream):
            self._check_size(stream)
            stream.codec_context.options = codec_options(container.options)
            stream.thread_type = "AUTO"
        if self._is_cut_off():
            self.lose("truncated", "the file ends before the place that it says")
        if container.seconds:
            container.options.on_open(container.seconds)

    def __iter__(self) -> Iterator[av.VideoFrame | av.AudioFrame]:
        container = self._container
        packets, frames, holes = _Seen(), _Seen(), _Holes()
        is_whole_video = isinstance(self._stream, av.VideoStream) and container.av.format.name not in BROADCAST
        has_begun = False
        with closing(watch_of(container.path, container.av, self._stream.index, self.lose)) as watch:
            for packet in chain(self._packets(watch), [None]):
                if packet is not None:
                    packets.see(packet.pts, packet.size, not packet.is_discard)
                    has_begun = has_begun or not self._may_precede(packet, packets.number)
                    if not has_begun and self._stream.codec_context.name in ONLY_AFTER_KEYS:
                        continue
                    if is_whole_video and has_begun and not packet.is_discard and packet.size > LARGEST_STAND_IN:
                        holes.expect(packet.pts)
                for frame in self._decoded(packet, watch, has_begun):
                    frames.see(frame.pts)
                    if holes.before(frame.pts) >= LEAST_HOLE:
                        self.lose("corrupt", "some frames of it cannot be decoded")
                    yield frame
                    self._end_seconds = _end_seconds(frame, self._end_seconds)
        self._check_end(packets, frames)

    def lose(self, reason: str, what: str) -> None:
        """Note that something of the stream is lost, or raise MediaError where nothing may be."""
        if not self._container.options.allow_partial:
            raise MediaError(
                reason, f"{self._container.path}: {what}; --allow_partial extracts what can be read of such a file"
            )
        self.missing[what] += 1

    def describe_missing(self) -> str:
        """What was lost, for people to read; empty when nothing was."""
        return "; ".join(what if number == 1 else f"{what} ({number} times)" for what, number in self.missing.items())

    def _packets(self, watch: Watch) -> Iterator["av.Packet[Any]"]:
        """The packets of the stream."""
        packets = self._container.packets()
        while True:
            try:
                packet = next(packets, None)
            except DecodeErrors as error:
                if not watch.may_stop():
                    self.lose("corrupt", f"reading stopped: {cause(error)}")
                return
            if packet is None:
                watch.end()
                return
            watch.see(packet)
            if packet.size and packet.stream_index == self._stream.index:
                yield packet

    def _decoded(
        self, packet: "av.Packet[Any] | None", watch: Watch, has_begun: bool
    ) -> Iterator[av.VideoFrame | av.AudioFrame]:
        """The frames that a packet completes; those that are still held back where it is none.

        A recording may begin amid frames that build on ones before it, or amid a packet. No player shows those.
        """
        try:
            frames = self._stream.decode(packet)
        except av.error.EOFError:
            return
        except DecodeErrors as error:
            if isinstance(error, av.ArgumentError) and self._has_no_size():
                limit = self._container.options.max_pixels
                raise MediaError(
                    "too_large",
                    f"{self._container.path}: its frames have no size, or one over {limit} pixels (--max_pixels)",
                ) from error
            if has_begun and not (packet and watch.is_harmless(packet)):
                self.lose("corrupt", f"part of it cannot be decoded: {cause(error)}")
            return
        for frame in frames:
            if frame.is_corrupt:
                self.lose("corrupt", "a frame of it is damaged")
            yield frame

    def _may_precede(self, packet: "av.Packet[Any]", number: int) -> bool:
        """Whether a packet, the first or a later one, before which none can be decoded by itself, builds on ones that
        were never in the file.
        """
        is_broadcast = self._container.av.format.name in BROADCAST
        if not isinstance(self._stream, av.VideoStream):
            return is_broadcast and number <= MAX_SHREDS
        entry = next(iter(self._stream.index_entries), None)
        times = [time for time in (packet.dts, packet.pts) if time is not None]
        if self._container.av.format.name not in KEYS_IN_INDEX or entry is None or not times:
            return not packet.is_keyframe
        return not (entry.is_keyframe and entry.timestamp <= max(times))

    def _has_no_size(self) -> bool:
        return isinstance(self._stream, av.VideoStream) and not self._stream.width

    def _check_size(self, stream: av.VideoStream) -> None:
        limit = self._container.options.max_pixels
        if stream.width * stream.height > limit:
            raise MediaError(
                "too_large",
                f"{self._container.path}: frames of {stream.width}x{stream.height}, over the limit of {limit} pixels "
                "(--max_pixels)",
            )

    def _is_cut_off(self) -> bool:
        """Whether the file ends before a sample that it knows of, or before the place that it says."""
        container, entries = self._container.av, self._stream.index_entries
        if any(entry.pos + entry.size > container.size for entry in entries):
            return True
        has_index = self._stream.frames > 0 and container.format.name.startswith("mov")
        return is_cut_off(self._container.path, container.format.name, has_index)

    def _check_end(self, packets: "_Seen", frames: "_Seen") -> None:
        """Look whether all came that the file knows of, and whether the last that came was decoded."""
        stream, container = self._stream, self._container
        name = container.av.format.name
        is_video = isinstance(stream, av.VideoStream)
        sizes = [entry.size for entry in stream.index_entries if entry.size > 0]
        if (is_video or name.startswith("mov")) and packets.number < len(sizes):
            self.lose("corrupt", f"{packets.number} of its {len(sizes)} packets are there")
        elif name == "avi" and packets.num_bytes < sum(sizes) - LARGEST_OVERHEAD:
            self.lose("corrupt", f"{packets.num_bytes} of its {sum(sizes)} bytes are there")
        if name in LENGTHS and self._end_seconds and self._end_seconds < (container.seconds or 0) - LENGTHS[name]:
            self.lose("truncated", f"{self._end_seconds:.2f} of its {container.seconds:.2f} s are there")
        rate, unit = (stream.average_rate if is_video else None), stream.time_base
        behind = (packets.last or 0) - (frames.last or 0)
        if rate and unit and frames.last is not None and behind * unit * rate > LARGEST_LAG:
            self.lose("corrupt", "its last frames cannot be decoded")


class _Seen:
    """How many there were, how large they were, and the latest time of them."""

    def __init__(self) -> None:
        self.number = self.num_bytes = 0
        self.last: int | None = None

    def see(self, pts: int | None, num_bytes: int = 0, is_shown: bool = True) -> None:
        self.number += 1
        self.num_bytes += num_bytes
        if pts is not None and is_shown:
            self.last = pts if self.last is None else max(self.last, pts)


class _Holes:
    """Counts the packets, in order of display, of which no frame comes, where decoders leave it out and say nothing."""

    def __init__(self) -> None:
        self._expected: list[int] = []  # a heap of times
        self._last: int | None = None

    def expect(self, pts: int | None) -> None:
        if pts is None:
            return
        heappush(self._expected, pts)
        if self._last is None:
            self._last = pts - 1  # what comes before may build on what is not there

    def before(self, pts: int | None) -> int:
        """How many were expected between the frame before and this one."""
        if pts is None:
            return 0
        number = 0
        while self._expected and self._expected[0] <= pts:
            time = heappop(self._expected)
            number += self._last is not None and self._last < time < pts
        self._last = pts
        return number


def _end_seconds(frame: av.VideoFrame | av.AudioFrame, before: float) -> float:
    """When a sound's frame ends, which follows another one where it does not tell when it begins."""
    if not isinstance(frame, av.AudioFrame):
        return 0.0
    begin = before if frame.time is None else frame.time
    return begin + frame.samples / frame.sample_rate
