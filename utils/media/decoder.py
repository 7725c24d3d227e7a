"""The frames of one stream, decoded with a watch for what is missing.

FFmpeg hides what is wrong with a file wherever it can: it stops at the end of one that is cut off, skips what it
cannot read, and conceals what it cannot decode. Features of such a file look right and are not: see `Watch`.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import av

from utils.errors import MediaError
from utils.media.container import BROADCAST, Container, DecodeErrors, cause, codec_options
from utils.media.integrity.watch import MP4, Watch

# Containers that tell apart from a frame's own data whether it is a key frame.
KEYS_IN_INDEX = (MP4, "matroska,webm", "avi")
# Decoders that give no frame before a key frame, only errors, some packets later where they use threads.
ONLY_AFTER_KEYS = ("vp8", "vp9", "av1", "libdav1d")
MAX_SHREDS = 8  # packets of sound that the rest of the one that a broadcast's recording begins amid is taken for


class Decoder:
    """The frames of one stream of a container, to be iterated over once. Raises MediaError, at once or in the end."""

    def __init__(self, container: Container, stream: av.VideoStream | av.AudioStream) -> None:
        self._container = container
        self._stream = stream
        if stream.codec_context is None:
            raise MediaError("unreadable", f"{container.path}: its {stream.type} is coded in a way that is not known")
        if isinstance(stream, av.VideoStream):
            if stream.width * stream.height > container.options.max_pixels:
                raise self._too_large(f"frames of {stream.width}x{stream.height}, over the limit of")
            stream.codec_context.options = codec_options(container.options)
            stream.thread_type = "AUTO"
        self._has_begun = False
        self._num_packets = 0
        self._watch = Watch(container, stream)
        self.missing = self._watch.missing
        if container.seconds:
            container.options.on_open(container.seconds)

    def __iter__(self) -> Iterator[av.VideoFrame | av.AudioFrame]:
        for packet in chain(self._read_packets(), [None]):
            if packet is not None:
                self._num_packets += 1
                self._has_begun = self._has_begun or not self._may_precede(packet)
                self._watch.see_packet(packet, self._has_begun)
                if not self._has_begun and self._stream.codec_context.name in ONLY_AFTER_KEYS:
                    continue
            for frame in self._decode(packet):
                self._watch.see_frame(frame)
                yield frame
        self._watch.see_end()

    def _read_packets(self) -> Iterator["av.Packet[Any]"]:
        """Yield the packets of the stream."""
        try:
            for packet in self._container.packets():
                self._watch.see_any_packet(packet)
                if packet.size and packet.stream_index == self._stream.index:
                    yield packet
        except DecodeErrors as error:
            self._watch.see_stop(cause(error))

    def _decode(self, packet: "av.Packet[Any] | None") -> list[av.VideoFrame] | list[av.AudioFrame]:
        """Return the frames that a packet completes; those that are still held back where it is None.

        A recording may begin amid frames that build on ones before it, or amid a packet. No player shows those.
        """
        try:
            return self._stream.decode(packet)
        except av.error.EOFError:
            return []
        except DecodeErrors as error:
            has_no_size = isinstance(self._stream, av.VideoStream) and not self._stream.width
            if has_no_size and isinstance(error, av.ArgumentError):
                raise self._too_large("its frames have no size, or one over") from error
            if self._has_begun:
                self._watch.see_failure(packet, cause(error))
            return []

    def _may_precede(self, packet: "av.Packet[Any]") -> bool:
        """Return True if a packet of a stream that has not begun may build on ones that were never in the file."""
        format_name = self._container.av.format.name
        if not isinstance(self._stream, av.VideoStream):
            return format_name in BROADCAST and self._num_packets <= MAX_SHREDS
        entry = next(iter(self._stream.index_entries), None)
        times = [time for time in (packet.dts, packet.pts) if time is not None]
        if format_name not in KEYS_IN_INDEX or entry is None or not times:
            return not packet.is_keyframe
        return not (entry.is_keyframe and entry.timestamp <= max(times))

    def _too_large(self, what: str) -> MediaError:
        limit = self._container.options.max_pixels
        return MediaError("too_large", f"{self._container.path}: {what} {limit} pixels (--max_pixels)")
