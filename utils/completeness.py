"""Whether a media file is as long as it says: the sizes that containers write down, against the file's.

FFmpeg reads a file that is cut off up to its end and says nothing. What it does tell, as the place of each sample in
an mp4 file, is asked of it; this reads the rest: the few bytes of a header or a trailer, never the whole file.
"""

import os
import struct
from collections.abc import Callable
from typing import BinaryIO

SLACK_BYTES = 8  # that writers are wrong by, as where they leave out padding
UNKNOWN_RIFF_SIZE = 0x7FFFF000  # and more: written by programs that could not seek back
LARGEST_OGG_PAGE = 27 + 255 + 255 * 255
OGG_LAST = 4  # a flag of a page
LARGEST_PACK = 2**17
TS_PACKETS = ((188, 0), (192, 4), (204, 0))  # bytes, and where in them the sync byte is
TS_SYNC = b"\x47"

EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
# The elements of a Matroska file that lie between its blocks and can be large: Cluster, Cues, Tags, Attachments,
# SeekHead, Chapters, Tracks, Info, BlockAdditions, and Void.
BETWEEN_BLOCKS = (
    b"\x1f\x43\xb6\x75",
    b"\x1c\x53\xbb\x6b",
    b"\x12\x54\xc3\x67",
    b"\x19\x41\xa4\x69",
    b"\x11\x4d\x9b\x74",
    b"\x10\x43\xa7\x70",
    b"\x16\x54\xae\x6b",
    b"\x15\x49\xa9\x66",
    b"\x75\xa1",
    b"\xec",
)


def is_cut_off(path: str, container: str) -> bool:
    """Whether a file of a container, by FFmpeg's name, ends before the place that it says, where it says one."""
    says_more = _CHECKS.get(container)
    if says_more is None:
        return False
    with open(path, "rb") as file:
        return says_more(file, os.fstat(file.fileno()).st_size)


def is_element(path: str, place: int) -> bool:
    """Whether a Matroska element that can follow a block begins at about that place, or the file ends there."""
    with open(path, "rb") as file:
        file.seek(max(0, place - SLACK_BYTES))
        around = file.read(2 * SLACK_BYTES)
    return len(around) <= SLACK_BYTES or any(element in around for element in BETWEEN_BLOCKS)


def sound_end(path: str) -> int | None:
    """The place where the sound of an MP3 file ends, before whatever was put behind it, if the file tells it."""
    with open(path, "rb") as file:
        return _mp3_end(file)


def _matroska(file: BinaryIO, size: int) -> bool:
    if file.read(4) != EBML:
        return False
    header = _ebml_size(file)
    if header is None:
        return False
    file.seek(header, os.SEEK_CUR)
    if file.read(4) != SEGMENT:
        return False
    length = _ebml_size(file)
    return length is not None and file.tell() + length > size


def _ebml_size(file: BinaryIO) -> int | None:
    """The number of bytes that an element says it has; none where it does not know."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    num_more = 8 - first[0].bit_length()
    value = int.from_bytes(first + file.read(num_more), "big") - (1 << 7 * (num_more + 1))
    return None if value == (1 << 7 * (num_more + 1)) - 1 else value


def _wav(file: BinaryIO, size: int) -> bool:
    """The chunk that holds the samples tells their size, unless they were written to a pipe."""
    header = file.read(12)
    if header[:4] != b"RIFF":  # as RF64, which tells its sizes elsewhere
        return False
    while len(header := file.read(8)) == 8:
        kind, length = header[:4], int.from_bytes(header[4:], "little")
        if kind == b"data":
            return length < UNKNOWN_RIFF_SIZE and file.tell() + length > size + SLACK_BYTES
        file.seek(length + length % 2, os.SEEK_CUR)
    return True


def _avi(file: BinaryIO, size: int) -> bool:
    """RIFF chunks, of which there are several in a large file."""
    place = 0
    while True:
        file.seek(place)
        kind, length = file.read(4), int.from_bytes(file.read(4), "little")
        if kind != b"RIFF" or not 0 < length < UNKNOWN_RIFF_SIZE:
            return False
        place += 8 + length
        if place > size + SLACK_BYTES:
            return True


def _mp4(file: BinaryIO, size: int) -> bool:
    """Boxes, of which those that hold media or tell of it count."""
    place = 0
    while place + 8 <= size:
        file.seek(place)
        length, kind = struct.unpack(">I4s", file.read(8))
        if length == 1:
            length = int.from_bytes(file.read(8), "big")
        if length < 8:  # 0: up to the end, whatever that is
            return False
        place += length
        if place > size:
            return kind in (b"mdat", b"moof", b"moov")
    return False


def _gif(file: BinaryIO, size: int) -> bool:
    """Blocks, each of a chain of sub-blocks, up to a trailer."""
    header = file.read(13)
    file.seek(_color_table(header[10:11]), os.SEEK_CUR)
    while (kind := file.read(1)) in (b"!", b","):
        if kind == b"!":
            file.seek(1, os.SEEK_CUR)
        else:
            file.seek(_color_table(file.read(9)[8:]) + 1, os.SEEK_CUR)
        while length := file.read(1):
            if length == b"\0":
                break
            file.seek(length[0], os.SEEK_CUR)
    return kind != b";" and not (kind == b"" and file.tell() == size)  # some writers leave out the trailer


def _color_table(flags: bytes) -> int:
    """The size of the table that flags of a GIF file tell of."""
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0


def _ogg(file: BinaryIO, size: int) -> bool:
    """The last page ends where the file ends, or says that it is the last one, whatever follows it."""
    file.seek(max(0, size - 2 * LARGEST_OGG_PAGE))
    end = file.read()
    start = end.rfind(b"OggS\0")
    if start < 0 or len(end) < start + 27:
        return True
    lengths = end[start + 27 : start + 27 + end[start + 26]]
    place = start + 27 + end[start + 26] + sum(lengths)
    return place > len(end) or (place < len(end) and not end[start + 5] & OGG_LAST)


def _mpegts(file: BinaryIO, size: int) -> bool:
    begin = file.read(1024)
    for length, sync in TS_PACKETS:
        if all(begin[place : place + 1] == TS_SYNC for place in range(sync, len(begin), length)):
            return size % length != 0
    return False


def _mp3(file: BinaryIO, size: int) -> bool:
    end = _mp3_end(file)
    return end is not None and end > size + SLACK_BYTES


def _mp3_end(file: BinaryIO) -> int | None:
    """Where sound ends: the Xing tag, in the first frame after an ID3 tag, tells the size from that frame on."""
    start = 0
    header = file.read(10)
    if header[:3] == b"ID3" and len(header) == 10:
        start = 10 + sum((byte & 0x7F) << 7 * (3 - i) for i, byte in enumerate(header[6:10]))
    file.seek(start)
    frame = file.read(256)
    tag = max(frame.find(b"Xing"), frame.find(b"Info"))
    if tag < 0 or len(frame) < tag + 16:
        return None
    flags = frame[tag + 7]
    if not flags & 2:
        return None
    place = tag + (12 if flags & 1 else 8)
    return start + int.from_bytes(frame[place : place + 4], "big")


def _flv(file: BinaryIO, size: int) -> bool:
    """The last four bytes tell the size of the last tag, which tells it too."""
    file.seek(max(0, size - 4))
    length = int.from_bytes(file.read(4), "big")
    if not 11 <= length <= size - 4:
        return True
    file.seek(size - 4 - length)
    return int.from_bytes(file.read(4)[1:], "big") + 11 != length


def _mpeg(file: BinaryIO, size: int) -> bool:
    """Program streams: the packets after the last pack header tell their sizes."""
    file.seek(max(0, size - LARGEST_PACK))
    end = file.read()
    place = end.rfind(b"\0\0\1\xba")
    if place < 0:
        return False
    place = max(place, 0) + (
        14 + (end[place + 13] & 7) if len(end) > place + 13 and end[place + 4] & 0xC0 == 0x40 else 12
    )
    while end[place : place + 3] == b"\0\0\1" and end[place + 3 : place + 4] != b"\xb9":
        place += 6 + int.from_bytes(end[place + 4 : place + 6], "big")
    return place > len(end) or b"\0\0\1".startswith(end[place:] or b"whole")


_CHECKS: dict[str, Callable[[BinaryIO, int], bool]] = {
    "matroska,webm": _matroska,
    "avi": _avi,
    "wav": _wav,
    "mov,mp4,m4a,3gp,3g2,mj2": _mp4,
    "gif": _gif,
    "ogg": _ogg,
    "mpegts": _mpegts,
    "mp3": _mp3,
    "flv": _flv,
    "mpeg": _mpeg,
}
