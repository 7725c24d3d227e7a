"""The structure of FLV files, walked beside FFmpeg, to see what it passes over."""

import os
from typing import BinaryIO

SOUND, PICTURE, SCRIPT = 8, 9, 18
HEADER_SIZE, TRAILER_SIZE = 11, 4  # bytes, of a tag
AVC, AAC, CODED = 7, 10, 1  # codecs, and what says that a tag of theirs holds a frame
KIND_BITS = 31  # of a tag's first byte
COMMAND = 5  # a kind of frame that is none


class Walk:
    """A walk through the tags of a file, from its begin, with a halt at each one that FFmpeg gives a packet of.

    The places are in bytes. `is_lost` says that what came could not be made out, or that sound or picture was passed
    by, of which FFmpeg gives something.
    """

    def __init__(self, path: str) -> None:
        self._file: BinaryIO = open(path, "rb")  # noqa: SIM115
        self._size = os.fstat(self._file.fileno()).st_size
        self._place = int.from_bytes(self._file.read(9)[5:], "big") + TRAILER_SIZE
        self._given: set[int] = set()
        self._passed: set[int] = set()
        self._is_astray = False
        self._halt = -1  # the tag of the last one

    def close(self) -> None:
        self._file.close()

    @property
    def is_lost(self) -> bool:
        return self._is_astray or bool(self._passed & self._given)

    def halt_at(self, tag: int) -> None:
        """Walk on to a tag."""
        while self._place < tag and not self._is_astray:
            self._next_tag(is_given=False)
        if self._place == tag:
            self._next_tag(is_given=True)
            self._halt = tag
        self._is_astray = self._is_astray or self._halt != tag

    def end(self) -> None:
        """Walk on to the end."""
        while self._place < self._size and not self._is_astray:
            self._next_tag(is_given=False)

    def _next_tag(self, is_given: bool) -> None:
        """Note the next tag, which is then behind, as given or, if it holds a frame, as passed by."""
        self._file.seek(self._place)
        tag = self._file.read(HEADER_SIZE + 2).ljust(HEADER_SIZE + 2, b"\0")
        kind, size = tag[0] & KIND_BITS, int.from_bytes(tag[1:4], "big")
        if kind not in (SOUND, PICTURE, SCRIPT):
            self._is_astray = True
            return
        self._place += HEADER_SIZE + size + TRAILER_SIZE
        self._is_astray = self._is_astray or self._place > self._size + TRAILER_SIZE
        if is_given:
            self._given.add(kind)
        elif size > 1 and _holds_frame(kind, *tag[HEADER_SIZE:]):
            self._passed.add(kind)


def _holds_frame(kind: int, first: int, second: int) -> bool:
    """Whether a tag that begins with such bytes holds a frame, rather than what describes the stream."""
    if kind == SOUND:
        return first >> 4 != AAC or second == CODED
    return kind == PICTURE and first < 0x80 and first >> 4 != COMMAND and (first & 15 != AVC or second == CODED)
