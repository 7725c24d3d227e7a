"""What is seen of damage on the way from a file's packets to its frames, for each kind of container.

FFmpeg skips silently what it cannot read of a file, up to the next place that it understands.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av

from utils.media.integrity import flv, matroska
from utils.media.integrity.file_sizes import frame_size, has_bad_pages, has_garbage, has_tag_at_end, xing

Lose = Callable[[str, str], None]
"""Is told what is lost, as a reason and a text."""

LARGEST_OVERHEAD = 1024  # bytes between two packets
LARGEST_HOLE_SECONDS = Fraction(1, 10)  # where a transport stream says that packets are missing,
RESTART_SECONDS = 10  # unless its time jumps by more: that is where recordings were joined

# Raw streams of sound, in which all that is no sound comes as a packet, or with one: the tags that there can be, how
# a packet of sound begins, and how much else is let pass at the end and after a packet.
TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICSBEGIN")
SYNC = b"\xff"
LARGEST_TRAILER_SECONDS, LARGEST_TRAILER = 0.05, 16  # bytes
MAX_SWALLOWED = 3  # times the packet's own size


class Watch:
    """Sees the packets of a file go by, of all its streams; tells what is missing of the one that is decoded."""

    minds_all_streams = False  # whether damage of another stream says that the one that is decoded misses something

    def __init__(self, path: str, container: av.container.InputContainer, stream_index: int, lose: Lose) -> None:
        self.path = path
        self.container = container
        self.stream_index = stream_index
        self.lose = lose

    def see(self, packet: "av.Packet[Any]") -> None:
        """Look at the next packet."""
        if packet.is_corrupt and (self.minds_all_streams or packet.stream_index == self.stream_index):
            self.lose("corrupt", "part of it is missing or unreadable")

    def end(self) -> None:
        """Look at what is behind the last packet."""

    def close(self) -> None:
        """Done with it, at the end or before."""

    def look_inside(self, packet: "av.Packet[Any]", kind: str) -> None:
        """Look at how much more than a packet of MP3 or ADTS, which is the kind, there is in it."""
        data = bytes(packet)
        sound = data.lstrip(b"\0")
        size = frame_size(sound, kind)
        if size and len(data) > (1 + MAX_SWALLOWED) * size and not sound[size:].startswith(TAGS):
            self.lose("corrupt", f"{len(data) - size} bytes of the file are unreadable")

    def may_stop(self) -> bool:
        """Whether nothing is lost where reading stops with an error now."""
        return False

    def is_harmless(self, packet: "av.Packet[Any]") -> bool:
        """Whether nothing is lost with a packet that cannot be decoded."""
        return False


class _Wav(Watch):
    """A packet of it that is called corrupt is no more than not full, the last one of a sound of unknown length."""

    def see(self, packet: "av.Packet[Any]") -> None:
        pass


class _Avi(Watch):
    """Its sound is a raw stream in parts, of which FFmpeg finds the packets."""

    def see(self, packet: "av.Packet[Any]") -> None:
        super().see(packet)
        if packet.stream_index == self.stream_index and packet.stream.codec_context.name == "mp3float":
            self.look_inside(packet, "mp3")


class _Contiguous(Watch):
    """Packets lie one behind the other: bytes between them are garbage, of which FFmpeg knows no stream."""

    minds_all_streams = True
    num_read = 0  # bytes, up to the end of the packet before

    def see(self, packet: "av.Packet[Any]") -> None:
        super().see(packet)
        if packet.pos is not None:
            self.look_between(packet.pos)
            self.num_read = packet.pos + packet.size

    def look_between(self, place: int) -> None:
        gap = place - self.num_read
        if self.num_read and gap > LARGEST_OVERHEAD:
            self.lose("corrupt", f"{gap} bytes of the file are unreadable")


class _ContiguousToTheEnd(_Contiguous):
    """Nor are there tags behind the last packet."""

    def end(self) -> None:
        self.look_between(self.container.size)


class _RawSound(_Contiguous):
    """There is nothing but packets, so that FFmpeg takes tags and garbage for some, or for the end of one."""

    num_packets = 0

    def see(self, packet: "av.Packet[Any]") -> None:
        super().see(packet)
        self.num_packets += 1
        self.look_inside(packet, self.container.format.name)

    def end(self) -> None:
        told = xing(self.path).num_packets or 0
        if self.num_packets < told - MAX_SWALLOWED:
            self.lose("truncated", f"{self.num_packets} of its {told} packets are there")
        missing = self.container.size - self.num_read  # of ADTS, in which FFmpeg counts only what it does not skip
        if missing > LARGEST_OVERHEAD and self.container.format.name == "aac" and not has_tag_at_end(self.path):
            self.lose("corrupt", f"{missing} bytes of the file are unreadable")

    def may_stop(self) -> bool:
        return self.container.size - self.num_read <= LARGEST_TRAILER

    def is_harmless(self, packet: "av.Packet[Any]") -> bool:
        """Whether it is a tag, or was put behind the sound."""
        data, place = bytes(packet), packet.pos
        if place is None or data.startswith(SYNC):
            return False
        end = xing(self.path).end
        if data.startswith(TAGS) or (end is not None and place >= end):
            return True
        is_last = place + len(data) >= self.container.size - LARGEST_OVERHEAD
        seconds = (self.container.duration or 0) / av.time_base
        return is_last and len(data) * seconds <= LARGEST_TRAILER_SECONDS * self.container.size


class _Transport(Watch):
    """Packets that are missing in the count of them may be no more than the place where recordings were joined."""

    last: int | None = None  # dts, of the packet before

    def __init__(self, path: str, container: av.container.InputContainer, stream_index: int, lose: Lose) -> None:
        super().__init__(path, container, stream_index, lose)
        if has_garbage(path):
            lose("corrupt", "parts of the file are unreadable")

    def see(self, packet: "av.Packet[Any]") -> None:
        if packet.stream_index != self.stream_index or packet.dts is None or packet.time_base is None:
            return
        if packet.is_corrupt and self.last is not None:
            hole = (packet.dts - self.last) * packet.time_base
            if LARGEST_HOLE_SECONDS < hole < RESTART_SECONDS:
                self.lose("corrupt", f"{float(hole):.2f} s of it are missing")
        self.last = packet.dts


class _Ogg(Watch):
    """FFmpeg leaves out pages of which the checksum is wrong, with up to some seconds of sound."""

    def __init__(self, path: str, container: av.container.InputContainer, stream_index: int, lose: Lose) -> None:
        super().__init__(path, container, stream_index, lose)
        if has_bad_pages(path):
            lose("corrupt", "parts of the file are unreadable")


class _Walked(Watch):
    """The file is walked through beside FFmpeg."""

    minds_all_streams = True
    kind_of_walk: type[flv.Walk | matroska.Walk]

    def __init__(self, path: str, container: av.container.InputContainer, stream_index: int, lose: Lose) -> None:
        super().__init__(path, container, stream_index, lose)
        self.walk = self.kind_of_walk(path)
        self.is_lost = False

    def see(self, packet: "av.Packet[Any]") -> None:
        super().see(packet)
        if packet.pos is not None:
            self.walk.halt_at(packet.pos)
            self.look()

    def end(self) -> None:
        self.walk.end()
        self.look()

    def close(self) -> None:
        self.walk.close()

    def look(self) -> None:
        if self.walk.is_lost and not self.is_lost:
            self.is_lost = True
            self.lose("corrupt", "parts of the file are unreadable")


class _Flv(_Walked):
    kind_of_walk = flv.Walk


class _Matroska(_Walked):
    kind_of_walk = matroska.Walk


_WATCHES: dict[str, type[Watch]] = {
    "matroska,webm": _Matroska,
    "mpegts": _Transport,
    "ogg": _Ogg,
    "avi": _Avi,
    "wav": _Wav,
    "mp3": _RawSound,
    "aac": _RawSound,
    "flv": _Flv,
    "gif": _ContiguousToTheEnd,
    "ac3": _Contiguous,
    "eac3": _Contiguous,
    "flac": _Contiguous,
}


def watch_of(path: str, container: av.container.InputContainer, stream_index: int, lose: Lose) -> Watch:
    """What sees the packets of a container go by, to be closed."""
    return _WATCHES.get(container.format.name, Watch)(path, container, stream_index, lose)
