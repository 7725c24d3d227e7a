"""The errors that FFmpeg's demuxers log: all that they tell of a damaged file, for they skip what they cannot read.

PyAV hands messages to Python in the thread in which they arise. A demuxer's arise in the thread that opens a file or
reads a packet of it, so a capture there takes no other file's. Decoders log in threads of their own, which need the
interpreter lock for it: to free a decoder with that lock held, as PyAV does, waits for such a thread for ever (its
issues 751 and 909). `Container.close` therefore flushes all decoders first, which waits for their threads without the
lock. A second pass that only reads packets would need no flush, but would read each file twice.
"""

import logging
from threading import Lock

import av.logging

_lock = Lock()
_before: list[tuple[int | None, bool, int]] = []  # how PyAV logged before the files were opened, once for each
_LIBAV = logging.getLogger("libav")


def start() -> None:
    """Have FFmpeg's errors handed to Python, for a file that is about to be opened; what is not captured is dropped."""
    with _lock:
        _before.append((av.logging.get_level(), av.logging.get_skip_repeated(), _LIBAV.level))
        av.logging.set_skip_repeated(False)  # or the same message of the next file would be swallowed
        av.logging.set_level(av.logging.ERROR)
        _LIBAV.setLevel(logging.CRITICAL + 1)


def stop() -> None:
    """End that, when a file has been closed; as it was before the first one once none is open."""
    with _lock:
        level, skips_repeated, python_level = _before.pop()
        if not _before:
            av.logging.set_level(level)
            av.logging.set_skip_repeated(skips_repeated)
            _LIBAV.setLevel(python_level)
