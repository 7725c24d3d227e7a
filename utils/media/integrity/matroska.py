"""The structure of Matroska and WebM files, walked beside FFmpeg, to see what it passes over.

FFmpeg skips silently what it cannot read of such a file, up to the next place that it understands.
"""

import os
from typing import BinaryIO

SEGMENT, CLUSTER, BLOCK_GROUP, TRACKS, TRACK = 0x18538067, 0x1F43B675, 0xA0, 0x1654AE6B, 0xAE
TRACK_NUMBER, SIMPLE_BLOCK, BLOCK = 0xD7, 0xA3, 0xA1
LONGEST_HEADER = 12  # bytes, of an element: its name and its size
LONGEST_NAME = 4


class Walk:
    """A walk through the elements of a file, from its begin, with a halt at each block that FFmpeg gives.

    The places are of blocks' contents, in bytes. `is_lost` says that what came could not be made out, or that a
    block was passed by that belongs to one of the tracks that FFmpeg gives, or to none.
    """

    def __init__(self, path: str) -> None:
        self._file: BinaryIO = open(path, "rb")  # noqa: SIM115
        self._size = os.fstat(self._file.fileno()).st_size
        self._place = 0
        self._segment_end: int | None = None
        self._tracks: set[int] = set()  # that the file has,
        self._given: set[int] = set()
        self._passed: set[int] = set()
        self._is_astray = False
        self._halt = -1  # the block of the last one

    def close(self) -> None:
        self._file.close()

    @property
    def is_lost(self) -> bool:
        return self._is_astray or bool(self._passed & self._given or self._passed - self._tracks)

    def halt_at(self, block: int) -> None:
        """Walk on to a block."""
        while self._place < block and not self._is_astray:
            found = self._next_block()
            if found is None:
                self._is_astray = True
            elif found[0] == block:
                self._given.add(found[1])
                self._halt = block
            else:
                self._passed.add(found[1])
        self._is_astray = self._is_astray or self._halt != block  # there are packets that share one

    def end(self) -> None:
        """Walk on to the end."""
        while not self._is_astray and (found := self._next_block()):
            self._passed.add(found[1])

    def _next_block(self) -> tuple[int, int] | None:
        """Place and track of the next block, which is then behind; none at the end."""
        while self._place < (self._segment_end or self._size):
            self._file.seek(self._place)
            header = self._file.read(LONGEST_HEADER)
            name, name_size = _number(header, keeps_marker=True)
            size, size_size = _number(header[name_size:])
            if name is None or name_size > LONGEST_NAME or size is None:
                self._is_astray = self._place < self._size
                return None
            begin = self._place + name_size + size_size
            is_open = size == (1 << 7 * size_size) - 1  # of unknown size
            if name == SEGMENT and not is_open:
                self._segment_end = begin + size
            if name in (SEGMENT, CLUSTER, BLOCK_GROUP, TRACKS, TRACK):
                self._place = begin
                continue
            self._place = begin + size
            if name == TRACK_NUMBER:
                self._file.seek(begin)
                self._tracks.add(int.from_bytes(self._file.read(min(size, 8)), "big"))
            if name in (SIMPLE_BLOCK, BLOCK):
                self._file.seek(begin)
                return begin, _number(self._file.read(8))[0] or 0
            if is_open:
                self._is_astray = True
                return None
        return None


def _number(code: bytes, keeps_marker: bool = False) -> tuple[int | None, int]:
    """A number of variable length, of which the first bit that is set tells the length; and that length."""
    if not code or not code[0]:
        return None, 0
    length = 9 - code[0].bit_length()
    value = int.from_bytes(code[:length], "big")
    if len(code) < length:
        return None, 0
    return value if keeps_marker else value & ~(1 << 7 * length), length
