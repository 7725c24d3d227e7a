"""Watch the packets and frames of a stream go by, and find what is missing of it."""

from typing import Any

import av

from utils.media.container import BROADCAST, FALLBACK_FPS, RESTART_SECONDS, Container
from utils.media.integrity.file_sizes import is_cut_off
from utils.media.integrity.missing import Missing, Timeline
from utils.media.integrity.raw_streams import LARGEST_OVERHEAD, RAW_STREAMS, count_garbage, is_harmless, read_xing

MP4 = "mov,mp4,m4a,3gp,3g2,mj2"
# Frames before and after a sign of damage in which a gap of time is held to be its doing: a decoder holds back up to
# 16 frames to reorder them and one for each of its threads; and while a file is opened, some 5 s of it are read ahead.
DELAYED_FRAMES, PROBED_FRAMES = 64, 500
# Containers that state how long they are, which FFmpeg does not guess then, and how many seconds they may be shorter:
# those of sound alone state it in samples.
STATED_LENGTHS = dict.fromkeys((MP4, "matroska,webm", "avi", "flv", "asf", "nut", "mxf"), 0.5)
STATED_LENGTHS |= {"flac": 0.01, "aiff": 0.01, "au": 0.01, "w64": 0.01, "caf": 0.01, "ogg": 0.1}
# Containers in which only damage leaves a gap in sound.
WITHOUT_GAPS = ("mpegts", "mpeg", "asf", "ogg", "flac", "mp3", "aac", "ac3", "eac3", "dts", "tta", "wv", "ape")
LARGEST_JITTER_SECONDS = 0.1  # by which times of sound may be off
LARGEST_XING_ERROR = 3  # packets that an MP3 file may have less than it says
CUT = "prematurely"  # in the demuxers' messages of a file that is cut off
UNREADABLE = "parts of the file are unreadable"


class Watch:
    """Find what is missing of a stream. Raises MediaError where that is too much, or the file is cut off.

    Few signs of damage tell how much is missing. That is measured by the gaps between the times of the frames that
    came whole or, where a container goes on counting over what is missing, by counting packets or bytes.
    """

    def __init__(self, container: Container, stream: av.VideoStream | av.AudioStream) -> None:
        self.missing = Missing(container.path, container.options)
        self._container = container
        self._stream = stream
        self._format = container.av.format.name
        self._is_broadcast = self._format in BROADCAST
        self._is_raw = self._format in RAW_STREAMS
        self._is_fragmented = self._format == MP4 and not stream.frames
        self._stated_seconds = container.seconds if self._format in STATED_LENGTHS and not self._is_fragmented else None
        self._is_video = isinstance(stream, av.VideoStream)
        rate = stream.average_rate if isinstance(stream, av.VideoStream) else None
        self._frame_seconds = float(1 / (rate or FALLBACK_FPS))
        self._unit = float(stream.time_base or 0)
        self._timeline = Timeline(RESTART_SECONDS if self._is_broadcast else float("inf"))
        self._end_offset = 0  # of the last packet, in the file
        self._num_lost_bytes = 0  # of garbage, and in a raw stream of packets that cannot be decoded
        self._ends: dict[int, float] = {}  # seconds, of the packets of each stream
        self._is_last_partial = False  # of the packets of all streams so far
        self._num_packets = self._num_bytes = self._num_frames = 0
        self._last_failed = 0  # the number of the last packet that cannot be decoded

        self._check_sizes()
        if container.demuxer_errors and not self._is_broadcast:
            self._timeline.expect(LARGEST_JITTER_SECONDS, 0.0)  # what begins later may be what is left
        self._note_demuxer_errors(PROBED_FRAMES)

    def see_any_packet(self, packet: "av.Packet[Any]") -> None:
        """Look for damage between packets, given the next one of any stream."""
        self._note_demuxer_errors(DELAYED_FRAMES)
        # In WAV it is said of a last packet that is not a full one, in a broadcast also where recordings were joined.
        self._is_last_partial = packet.is_corrupt and not self._is_broadcast and self._format != "wav"
        if packet.pos is not None:
            if self._is_raw and self._end_offset:
                self._note_garbage(packet.pos)
            self._end_offset = max(self._end_offset, packet.pos + packet.size)
        if packet.pts is None or packet.time_base is None:
            return
        begin = float(packet.pts * packet.time_base)
        gap = begin - self._ends.get(packet.stream_index, begin)
        is_gapless = packet.stream.type == "audio" and self._format in WITHOUT_GAPS
        if is_gapless and LARGEST_JITTER_SECONDS < gap < RESTART_SECONDS:
            self._note(f"{gap:.2f} s of its sound are missing")
        self._ends[packet.stream_index] = begin + float((packet.duration or 0) * packet.time_base)

    def see_packet(self, packet: "av.Packet[Any]", has_begun: bool) -> None:
        """Count the next packet of the stream, of which a frame is expected where the stream has begun."""
        self._num_packets += 1
        self._num_bytes += packet.size
        if has_begun and not packet.is_discard and packet.pts is not None:
            seconds = self._frame_seconds if self._is_video else (packet.duration or 0) * self._unit
            self._timeline.expect(packet.pts * self._unit, seconds)
        if self._is_last_partial:
            self._note("part of it is missing or unreadable")
        elif packet.is_corrupt and self._is_broadcast:
            self._timeline.suspect(DELAYED_FRAMES)

    def see_failure(self, packet: "av.Packet[Any] | None", cause: str) -> None:
        """Note that a packet could not be decoded."""
        if packet is None or not is_harmless(packet, self._container.av):
            self._note(f"part of it cannot be decoded: {cause}")
            self._last_failed = self._num_packets
            self._num_lost_bytes += packet.size if packet and self._is_raw else 0

    def see_stop(self, cause: str) -> None:
        """Note that reading stopped before the end of the file."""
        if self._container.av.size - self._end_offset > LARGEST_OVERHEAD:
            self._note(f"reading stopped: {cause}")

    def see_frame(self, frame: av.VideoFrame | av.AudioFrame) -> None:
        """Measure what is missing before a frame; one that is damaged is missing itself."""
        if frame.is_corrupt:
            self._note("a frame of it is damaged")
            self._last_failed = self._num_packets
            return
        self._num_frames += 1
        begin = None if frame.pts is None or self._format == "avi" else frame.pts * self._unit  # AVI numbers its frames
        seconds = frame.samples / frame.sample_rate if isinstance(frame, av.AudioFrame) else self._frame_seconds
        self._timeline.add(begin, seconds)

    def see_end(self) -> None:
        """Check that all packets came that the file states, and up to its end; measure what is missing."""
        errors, path, size = self._container.demuxer_errors, self._container.path, self._container.av.size
        if not any(CUT in error for error in errors) and not count_garbage(path, self._end_offset, size):
            errors.clear()  # of padding and the like
        self._note_demuxer_errors(DELAYED_FRAMES)
        if self._is_fragmented:
            self._check_sizes()  # with the index of all fragments
        if self._is_last_partial or (self._is_raw and self._num_packets == self._last_failed):
            self.missing.refuse("truncated", "its last packet is not whole")
        share = self._count_missing_packets()
        end = max(self._ends.values(), default=0.0)
        if self._is_broadcast:
            self._timeline.expect(end - LARGEST_JITTER_SECONDS, 0.0)
        self._timeline.close()
        self._check_length(max(end, self._timeline.end or 0.0))
        if self._stated_seconds is None:
            share = max(share, self._num_lost_bytes / size)
        seconds = self._timeline.missing_seconds
        there = self._timeline.length_seconds - seconds
        if self.missing.causes and share < 1:
            seconds = max(seconds, there * share / (1 - share))
        self.missing.measure(seconds, there + seconds)

    def _note(self, cause: str, num_frames: int = DELAYED_FRAMES) -> None:
        """Note a sign of damage, to which gaps before so many of the last and the next frames are due."""
        self.missing.note(cause)
        self._timeline.suspect(num_frames)

    def _note_garbage(self, end: int) -> None:
        """Note what lies between the last packet and an offset, where it is garbage."""
        if num_bytes := count_garbage(self._container.path, self._end_offset, end):
            self._num_lost_bytes += num_bytes
            self._note(UNREADABLE)

    def _note_demuxer_errors(self, num_frames: int) -> None:
        errors = self._container.demuxer_errors
        if errors:
            self._note(f"{UNREADABLE}: {errors[0]}", num_frames)
        if any(CUT in error for error in errors):
            self.missing.refuse("truncated", errors[-1])
        errors.clear()

    def _check_sizes(self) -> None:
        """Refuse a file that ends before a packet of its index, or sooner than it states."""
        entries = [entry for stream in self._container.av.streams for entry in stream.index_entries]
        index_end = max((entry.pos + entry.size for entry in entries), default=0)
        if index_end > self._container.av.size or is_cut_off(self._container.path, self._format):
            self.missing.refuse("truncated", "the file ends before the place that it says")

    def _count_missing_packets(self) -> float:
        """Note packets, or bytes of them, that the file states and that did not come.

        Return what share of the stream is missing where times do not tell: some containers number their frames anew.
        """
        sizes = [entry.size for entry in self._stream.index_entries if entry.size > 0]
        there, stated, slack, unit = self._num_packets, len(sizes), 0, "packets"
        if self._format == "mp3":
            there, stated, slack = self._num_frames, read_xing(self._container.path)[1], LARGEST_XING_ERROR
        elif self._format == "avi" and not self._is_video:
            there, stated, slack, unit = self._num_bytes, sum(sizes), LARGEST_OVERHEAD, "bytes"
        elif not self._is_video and self._format != MP4:
            return 0.0
        if there < stated - slack:
            self._note(f"{there} of its {stated} {unit} are there")
        there = self._num_frames if self._is_video else there
        return max(0.0, 1 - there / stated) if stated and self._format in ("avi", "mp3") else 0.0

    def _check_length(self, end: float) -> None:
        """Check that the packets, which end at `end` seconds, fill the stated length, or else the file."""
        is_damaged = bool(self.missing.causes)
        if self._stated_seconds is None:
            if is_damaged or self._is_raw or self._is_fragmented:
                self._note_garbage(self._container.av.size)
            return
        # Some count the time before a stream begins as a part of the length.
        starts = [float(s.start_time * s.time_base) for s in self._container.av.streams if s.start_time and s.time_base]
        short = self._stated_seconds - max(map(abs, starts), default=0.0) - end
        what = f"{self._stated_seconds - short:.2f} of its {self._stated_seconds:.2f} s are there"
        if short > STATED_LENGTHS[self._format] and self._container.av.size - self._end_offset <= LARGEST_OVERHEAD:
            self.missing.refuse("truncated", what)
        if short > (LARGEST_JITTER_SECONDS if is_damaged else STATED_LENGTHS[self._format]):
            self._note(what)
            self._timeline.skip(short, 0.0)
