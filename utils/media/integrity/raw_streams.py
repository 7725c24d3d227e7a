"""Bytes of raw streams that are neither packets nor tags: garbage, of which FFmpeg says nothing.

In such files nothing but packets lie one behind the other, so that FFmpeg takes tags and garbage for packets, or for
the end of one, or passes them over.
"""

import os
from typing import Any

import av

RAW_STREAMS = ("mp3", "aac", "ac3", "eac3", "gif")

LARGEST_OVERHEAD = 1024  # bytes between two packets
LARGEST_LOOK = 2**20  # bytes that are looked at to see whether they are garbage
LARGEST_TRAILER = 64  # bytes at the end of a file that are no packet
# What may lie before, between and behind packets: tags, and the beginning of another file that was joined to it.
SYNC = {"mp3": b"\xff", "aac": b"\xff", "ac3": b"\x0bw", "eac3": b"\x0bw", "gif": b""}  # how a packet begins
TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"GIF8", b"mfra")


def read_xing(path: str) -> tuple[int, int]:
    """Return where an MP3 file says that its packets end, in bytes, and how many it says there are; 0 if it does not.

    It says so in the first packet after an ID3 tag, and counts bytes from that packet on, and the packets after it.
    """
    with open(path, "rb") as file:
        header = file.read(10).ljust(10)
        size = sum((byte & 0x7F) << 7 * (3 - i) for i, byte in enumerate(header[6:]))
        start = 10 + size if header.startswith(b"ID3") else 0
        file.seek(start)
        packet = file.read(256)
    tag = max(packet.find(b"Xing"), packet.find(b"Info"))
    if tag < 0 or len(packet) < tag + 16:
        return 0, 0
    has_number, has_size = packet[tag + 7] & 1, packet[tag + 7] & 2
    first, second = (int.from_bytes(packet[tag + at : tag + at + 4], "big") for at in (8, 12))
    return (start + (second if has_number else first) if has_size else 0), (first if has_number else 0)


def count_garbage(path: str, begin: int, end: int) -> int:
    """Return how many bytes of garbage lie between two offsets of a file, of which a few are let pass, and tags."""
    if end - begin <= LARGEST_OVERHEAD:
        return 0
    with open(path, "rb") as file:
        file.seek(begin)
        between = file.read(min(end - begin, LARGEST_LOOK))
        is_padding = end == os.fstat(file.fileno()).st_size and len(between.strip(b"\0")) <= LARGEST_TRAILER
    return 0 if is_padding or any(tag in between[:LARGEST_TRAILER] for tag in TAGS) else end - begin


class ByteCounter:
    """Count the bytes of garbage in a file as its packets are read, one after the other."""

    def __init__(self, path: str, container: av.container.InputContainer) -> None:
        self.num_lost = 0  # bytes, of garbage and of packets that cannot be decoded
        self.is_raw = container.format.name in RAW_STREAMS
        self._path = path
        self._name = container.format.name
        self._size = container.size
        self._end = 0  # of the packet before

    @property
    def num_behind(self) -> int:
        """How many bytes lie behind the last packet."""
        return self._size - self._end if self._end else 0

    def count_garbage_before(self, packet: "av.Packet[Any]") -> int:
        """Return how many bytes of garbage lie before a packet of a raw stream."""
        if packet.pos is None:
            return 0
        begin, self._end = self._end, max(self._end, packet.pos + packet.size)
        number = count_garbage(self._path, begin, packet.pos) if begin and self.is_raw else 0
        self.num_lost += number
        return number

    def count_garbage_behind(self) -> int:
        """Return how many bytes of garbage lie behind the last packet, whatever the container."""
        return count_garbage(self._path, self._end, self._size) if self._end else 0

    def is_harmless(self, packet: "av.Packet[Any]") -> bool:
        """Tell whether a packet of a raw stream that cannot be decoded is, or ends with, a tag or padding."""
        data, begin = bytes(packet), packet.pos
        if not self.is_raw or begin is None:
            return False
        is_last = begin + len(data) >= self._size - LARGEST_OVERHEAD
        is_padded = data.endswith(bytes(LARGEST_TRAILER)) or not data.startswith(SYNC[self._name])
        return any(tag in data for tag in TAGS) or (is_last and is_padded)
