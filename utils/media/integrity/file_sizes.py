"""Find files that are cut off, by the sizes that their containers state.

FFmpeg reads a file that is cut off up to its end and says nothing. Most sizes are in a header or a trailer.
"""

import os
from collections.abc import Callable
from typing import BinaryIO

from utils.media.integrity.raw_streams import LARGEST_OVERHEAD, TAGS, read_xing

SLACK_BYTES = 8  # that writers are wrong by, as where they leave out padding
UNKNOWN_RIFF_SIZE = 0x7FFFF000  # and more: written by programs that could not seek back
LARGEST_OGG_PAGE = 27 + 255 + 255 * 255
OGG_LAST, ASF_BROADCAST = 4, 1  # flags: of the last page, and of a file of which the size is not known
LARGEST_PACK = 2**17  # bytes of a program stream that a pack is looked for in
TS_PACKETS = ((188, 0), (192, 4), (204, 0))  # bytes, and where in them the sync byte is
TS_SYNC = b"\x47"
# What the object with the properties of an ASF file begins with.
ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def is_cut_off(path: str, format_name: str) -> bool:
    """Return True if a file ends sooner than its container, of FFmpeg's name `format_name`, states."""
    if format_name == "mp3":
        return read_xing(path)[0] > os.path.getsize(path) + SLACK_BYTES
    with open(path, "rb") as file:
        check = _CHECKS.get(format_name)
        return check is not None and check(file, os.path.getsize(path))


def _riff(file: BinaryIO, size: int) -> bool:
    """Add up the RIFF chunks, of which there are several in a large file."""
    offset = 0
    while offset <= size + SLACK_BYTES:
        file.seek(offset)
        name, length = file.read(4), int.from_bytes(file.read(4), "little")
        if name != b"RIFF" or not 0 < length < UNKNOWN_RIFF_SIZE:
            return False
        offset += 8 + length
    return True


def _gif(file: BinaryIO, size: int) -> bool:
    """Follow the blocks, each of a chain of sub-blocks, up to the trailer. Reads the whole file."""
    header = file.read(13)
    file.seek(_color_table_size(header[10:11]), os.SEEK_CUR)
    while (kind := file.read(1)) in (b"!", b","):
        if kind == b"!":
            file.seek(1, os.SEEK_CUR)
        else:
            file.seek(_color_table_size(file.read(9)[8:]) + 1, os.SEEK_CUR)
        while length := file.read(1):
            if length == b"\0":
                break
            file.seek(length[0], os.SEEK_CUR)
        else:
            return True
    if kind == b";":
        rest = file.read()  # long where the trailer is none, but a byte of what is no block
        return len(rest) > LARGEST_OVERHEAD and any(rest) and not rest.startswith(TAGS)
    return not (kind == b"" and file.tell() == size)  # some writers leave out the trailer


def _color_table_size(flags: bytes) -> int:
    """Return the size of the table that flags of a GIF file tell of."""
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0


def _ogg(file: BinaryIO, size: int) -> bool:
    """Find where the last page ends: at the end of the file, or before it with a flag that it is the last one."""
    file.seek(max(0, size - 2 * LARGEST_OGG_PAGE))
    end = file.read()
    start = end.rfind(b"OggS\0")
    if start < 0 or len(end) < start + 27:
        return True
    num_segments = end[start + 26]
    page_end = start + 27 + num_segments + sum(end[start + 27 : start + 27 + num_segments])
    return page_end > len(end) or (page_end < len(end) and not end[start + 5] & OGG_LAST)


def _mpegts(file: BinaryIO, size: int) -> bool:
    """Find a last packet that is not whole; what does not begin like one was put behind them."""
    begin = file.read(1024)
    for length, sync in TS_PACKETS:
        if all(begin[offset : offset + 1] == TS_SYNC for offset in range(sync, len(begin), length)):
            file.seek(size - size % length)
            rest = file.read()
            return bool(rest) and rest[sync : sync + 1] in (TS_SYNC, b"")
    return False


def _mpeg(file: BinaryIO, size: int) -> bool:
    """Follow the packets behind the last pack header of a program stream, which state their sizes."""
    file.seek(max(0, size - LARGEST_PACK))
    end = file.read()
    offset = end.rfind(b"\0\0\1\xba")
    if offset < 0:
        return False
    is_mpeg2 = len(end) > offset + 13 and end[offset + 4] & 0xC0 == 0x40
    offset += 14 + (end[offset + 13] & 7) if is_mpeg2 else 12
    while end[offset : offset + 3] == b"\0\0\1" and end[offset + 3 : offset + 4] != b"\xb9":
        offset += 6 + int.from_bytes(end[offset + 4 : offset + 6], "big")
    rest = end[offset : offset + 3]
    return offset > len(end) or rest in (b"\0", b"\0\0", b"\0\0\1")  # the first bytes of another packet


def _asf(file: BinaryIO, size: int) -> bool:
    """Read the size of the file in its header."""
    header = file.read(2**16)
    offset = header.find(ASF_PROPERTIES)
    if offset < 0 or len(header) < offset + 92:
        return False
    flags = int.from_bytes(header[offset + 88 : offset + 92], "little")
    return not flags & ASF_BROADCAST and int.from_bytes(header[offset + 40 : offset + 48], "little") > size


_CHECKS: dict[str, Callable[[BinaryIO, int], bool]] = {
    "asf": _asf,
    "avi": _riff,
    "gif": _gif,
    "mpeg": _mpeg,
    "mpegts": _mpegts,
    "ogg": _ogg,
    "wav": _riff,
}
