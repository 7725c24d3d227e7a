"""Files that appear whole or not at all, and the locks that keep programs out of each other's way.

A file that is being written has another name in the same folder and is locked for as long as its writer lives. That
tells it from what a killed program left, which `sweep` removes.
"""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from utils.errors import SaveError

PART = re.compile(r"\.[0-9a-f]{16}\.part")  # names of unfinished files


@contextlib.contextmanager
def saving(path: Path, problem: str = "cannot be written") -> Iterator[None]:
    """Turn an OSError of the block into the SaveError of `path`."""
    try:
        yield
    except OSError as error:
        raise SaveError(str(path), error, problem) from error


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write, which is renamed to `path` when the block has ended without an error.

    Its folder is made if need be; an error leaves nothing of it. Raises SaveError, also for an OSError of the block.
    """
    with saving(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _open_part(path.parent)
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                os.replace(file.name, path)
        finally:
            with contextlib.suppress(OSError):  # after an error it is still there
                os.unlink(file.name)


def sweep(folder: Path) -> None:
    """Remove unfinished files directly in `folder` whose writers are gone.

    Those of living programs are locked and stay, and so do all of them where there are no locks.
    """
    with contextlib.suppress(OSError):
        for name in filter(PART.fullmatch, os.listdir(folder)):
            with contextlib.suppress(OSError), open(folder / name, "r+b") as file:  # NFS locks none opened to read
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(file.name)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other programs that ask for the same out of `folder`, for a moment; where there are no locks, go on."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def _open_part(folder: Path) -> BinaryIO:
    """Make, open and lock a file under a name that is short and nobody else's, be they on another machine."""
    while True:
        # "+", because into a file opened with "xb" NumPy writes past Python, which loses the system's error and even
        # says nothing when the last few kilobytes find no room.
        file = open(folder / f".{os.urandom(8).hex()}.part", "x+b")  # noqa: SIM115
        with contextlib.suppress(OSError):  # no locks here
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.path.exists(file.name):
            return file
        file.close()  # another program's sweep came before the lock
