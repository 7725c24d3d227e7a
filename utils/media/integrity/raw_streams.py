"""Bytes of raw streams that are neither packets nor tags: garbage, which FFmpeg passes over or takes for packets."""

import os
from typing import Any

import av

# By FFmpeg's names, with the bytes that a packet begins with.
RAW_STREAMS = {"mp3": b"\xff", "aac": b"\xff", "ac3": b"\x0b\x77", "eac3": b"\x0b\x77", "gif": b""}
LARGEST_OVERHEAD = 1024  # bytes between two packets
LARGEST_LOOK = 2**20  # bytes that are looked at to see whether they are garbage
LARGEST_TRAILER = 64  # bytes at the end of a file that are no packet
# What may lie before, between and behind packets: tags, and the beginning of another file that was joined to it.
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


def is_harmless(packet: "av.Packet[Any]", container: av.container.InputContainer) -> bool:
    """Return True if a packet of a raw stream that cannot be decoded is, or ends with, a tag or padding."""
    sync = RAW_STREAMS.get(container.format.name)
    if sync is None or packet.pos is None:
        return False
    data = bytes(packet)
    is_last = packet.pos + len(data) >= container.size - LARGEST_OVERHEAD
    is_padded = data.endswith(bytes(LARGEST_TRAILER)) or not data.startswith(sync)
    return any(tag in data for tag in TAGS) or (is_last and is_padded)
