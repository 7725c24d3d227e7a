"""Whether a media file is as long as it says: the sizes that containers write down, against the file's.

FFmpeg reads a file that is cut off up to its end and says nothing. What it does tell, as the place of each sample in
an mp4 file, is asked of it; this reads the rest: mostly the few bytes of a header or a trailer. What reads a whole
file, to see what FFmpeg passes over inside it, says so.
"""

import os
import struct
import zlib
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

SLACK_BYTES = 8  # that writers are wrong by, as where they leave out padding
UNKNOWN_RIFF_SIZE = 0x7FFFF000  # and more: written by programs that could not seek back
LARGEST_OGG_PAGE = 27 + 255 + 255 * 255
OGG_LAST = 4  # a flag of a page
MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
LARGEST_PACK = 2**17
TS_PACKETS = ((188, 0), (192, 4), (204, 0))  # bytes, and where in them the sync byte is
TS_SYNC = b"\x47"
CHUNK_PACKETS = 8192
LARGEST_GARBAGE = 1024  # bytes, as where recordings were joined that were cut amid a packet

# Of MPEG audio's layer III: thousands of bits a second, of version 1 and of the others; samples a second of version 1.
MP3_KILOBITS = (
    (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
MP3_RATES_HZ = (44_100, 48_000, 32_000)

EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def is_cut_off(path: str, container: str, has_index: bool = False) -> bool:
    """Whether a file of a container, by FFmpeg's name, ends before the place that it says, where it says one.

    Where FFmpeg has an index of all samples, that is not asked of the parts that hold samples.
    """
    says_more = _CHECKS.get(container)
    if says_more is None:
        return False
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        return _mp4(file, size, has_index) if says_more is _mp4 else says_more(file, size)


class Xing(NamedTuple):
    """What the first packet of an MP3 file tells: the place where its sound ends, and how many packets there are."""

    end: int | None
    num_packets: int | None


def xing(path: str) -> Xing:
    """What an MP3 file tells of its length, before whatever was put behind it."""
    with open(path, "rb") as file:
        return _xing(file)


def has_tag_at_end(path: str) -> bool:
    """Whether there is an APE tag at the end of a file, before the older kind of tag."""
    with open(path, "rb") as file:
        file.seek(-min(160, os.fstat(file.fileno()).st_size), os.SEEK_END)
        return b"APETAGEX" in file.read()


def frame_size(packet: bytes, container: str) -> int | None:
    """The size that a packet of an MP3 or ADTS file says in its header that it has."""
    if len(packet) < 7 or packet[0] != 0xFF:
        return None
    if container == "aac":
        return (packet[3] & 3) << 11 | packet[4] << 3 | packet[5] >> 5
    version, layer, rate, bits = packet[1] >> 3 & 3, packet[1] >> 1 & 3, packet[2] >> 2 & 3, packet[2] >> 4
    if layer != 1 or rate == 3 or version == 1 or bits in (0, 15):
        return None
    is_first = version == 3
    rate_hz = MP3_RATES_HZ[rate] >> (0 if is_first else 1 if version == 2 else 2)
    bytes_per_bit = 144 if is_first else 72
    return bytes_per_bit * 1000 * MP3_KILOBITS[not is_first][bits - 1] // rate_hz + (packet[2] >> 1 & 1)


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


def _mp4(file: BinaryIO, size: int, has_index: bool = False) -> bool:
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
            return kind in (b"moof", b"moov") or (kind == b"mdat" and not has_index)
    file.seek(place)
    rest = file.read(8)  # of a box's size, of which the first byte is 0, and its name
    return rest[:1] == b"\0" and len(rest) < 8 and any(rest)


def _gif(file: BinaryIO, size: int) -> bool:
    """Blocks, each of a chain of sub-blocks, up to a trailer. Reads the whole file."""
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
        else:
            return True
    if kind == b";":
        return len(file.read().strip(b"\0")) > LARGEST_GARBAGE  # by chance, in what is no block
    return not (kind == b"" and file.tell() == size)  # some writers leave out the trailer


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


def has_bad_pages(path: str) -> bool:
    """Whether a checksum of an Ogg file is wrong, or there is more than a little between its pages. Reads it all."""
    with open(path, "rb") as file:
        is_last = False
        while len(header := file.read(27)) == 27:
            if header[:4] != b"OggS":
                place = file.tell() - 27
                file.seek(place)
                skipped = file.read(LARGEST_GARBAGE).find(b"OggS")
                if skipped < 0:
                    return not is_last and os.fstat(file.fileno()).st_size - place > LARGEST_GARBAGE
                file.seek(place + skipped)
                continue
            lengths = file.read(header[26])
            page = header[:22] + bytes(4) + header[26:] + lengths + file.read(sum(lengths))
            if _ogg_checksum(page) != int.from_bytes(header[22:26], "little"):
                return True
            is_last = bool(header[5] & OGG_LAST)
    return False


def _ogg_checksum(page: bytes) -> int:
    """As zlib's, but that bits are taken in the other order, and from 0 on."""
    mirrored = zlib.crc32(page.translate(MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)


def has_garbage(path: str) -> bool:
    """Whether there is more of a transport stream than a few packets that is none. Reads the whole file."""
    with open(path, "rb") as file:
        form = _ts_form(file)
        if form is None:
            return False
        length, sync = form
        file.seek(sync)
        while len(chunk := file.read(length * CHUNK_PACKETS)) >= length:
            syncs = chunk[::length]
            if syncs.count(TS_SYNC) < len(syncs):
                good = len(syncs) - len(syncs.lstrip(TS_SYNC))
                place = file.tell() - len(chunk) + good * length
                garbage = _resync(file, place, length)
                if garbage > LARGEST_GARBAGE:
                    return True
                file.seek(place + garbage)
    return False


def _resync(file: BinaryIO, place: int, length: int) -> int:
    """How many bytes from a place on are no packets, up to what can be told."""
    file.seek(place)
    data = file.read(LARGEST_GARBAGE + 4 * length)
    for skipped in range(1, len(data)):
        if data[skipped::length].count(TS_SYNC) == len(range(skipped, len(data), length)):
            return skipped
    return len(data)


def _mpegts(file: BinaryIO, size: int) -> bool:
    form = _ts_form(file)
    return form is not None and size % form[0] != 0


def _ts_form(file: BinaryIO) -> tuple[int, int] | None:
    """How long packets are, and where in them the sync byte is, if the file begins with one."""
    begin = file.read(1024)
    for length, sync in TS_PACKETS:
        if all(begin[place : place + 1] == TS_SYNC for place in range(sync, len(begin), length)):
            return length, sync
    return None


def _mp3(file: BinaryIO, size: int) -> bool:
    return (_xing(file).end or 0) > size + SLACK_BYTES


def _xing(file: BinaryIO) -> Xing:
    """The tag is in the first packet after an ID3 tag, and counts from that packet on, and the others."""
    start = 0
    header = file.read(10)
    if header[:3] == b"ID3" and len(header) == 10:
        start = 10 + sum((byte & 0x7F) << 7 * (3 - i) for i, byte in enumerate(header[6:10]))
    file.seek(start)
    frame = file.read(256)
    tag = max(frame.find(b"Xing"), frame.find(b"Info"))
    if tag < 0 or len(frame) < tag + 16:
        return Xing(None, None)
    flags, first, second = frame[tag + 7], frame[tag + 8 : tag + 12], frame[tag + 12 : tag + 16]
    length = second if flags & 1 else first
    return Xing(
        start + int.from_bytes(length, "big") if flags & 2 else None,
        int.from_bytes(first, "big") if flags & 1 else None,
    )


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
    is_mpeg2 = len(end) > place + 13 and end[place + 4] & 0xC0 == 0x40
    place += 14 + (end[place + 13] & 7) if is_mpeg2 else 12
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
