"""Files and folders that appear whole or not at all, and the locks that keep programs out of each other's way.

What is being written lies beside its place, under a short name of its own, and is locked for as long as its writer
lives. That tells it from what a killed program left, which `sweep` removes.
"""

import contextlib
import errno
import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from utils.errors import SaveError

PART = re.compile(r"\.[0-9a-f]{16}\.part")  # what temporaries are called
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def saving(path: Path) -> Iterator[None]:
    """Makes an OSError of the block the SaveError of `path`."""
    try:
        yield
    except OSError as error:
        raise SaveError(str(path), error) from error


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes its place at `path` when it has been written without an error.

    Until then it has another name in the same folder, which is made if need be; an error leaves nothing of it.
    Raises SaveError, also for an OSError of the block.
    """
    with saving(path), _part(path, _touch, os.O_RDWR) as (part, descriptor):
        # "w+b", because into a file opened with "wb" NumPy writes past Python, which loses the system's error and
        # even says nothing when the last few kilobytes find no room.
        with open(descriptor, "w+b", closefd=False) as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        os.replace(part, path)
        _sync(path.parent)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which takes its place at `path` when it has been filled without an error.

    Until then it has another name in the same folder, which is made if need be; an error leaves nothing of it. An
    old folder at `path` makes way; of programs that do this at once, the last one's stays. Raises SaveError, also
    for an OSError of the block.
    """
    with (
        contextlib.ExitStack() as aside,
        saving(path),
        _part(path, Path.mkdir, os.O_RDONLY | os.O_DIRECTORY) as (part, _),
    ):
        yield part
        while not _moved(part, path):
            old = _part_name(path)
            aside.callback(_remove, old)
            with contextlib.suppress(FileNotFoundError):  # another program was faster
                os.rename(path, old)
        _sync(path.parent)


def sweep(folder: Path) -> int:
    """Remove what writers that are gone left unfinished directly in `folder`; gives how much that was.

    What a living program writes is locked and stays, and so does everything where there are no locks.
    """
    num_removed = 0
    try:
        parts = [Path(folder, name) for name in os.listdir(folder) if PART.fullmatch(name)]
    except OSError:
        return 0
    for part in parts:
        with contextlib.suppress(OSError):
            kind = os.O_DIRECTORY if part.is_dir() else os.O_RDWR  # NFS locks only files that can be written
            descriptor = os.open(part, kind | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(part)
                num_removed += not part.exists()
            finally:
                os.close(descriptor)
    return num_removed


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other programs that ask for the same out of `folder`, for a moment; where there are no locks, go on."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _part(path: Path, make: Callable[[Path], None], flags: int) -> Iterator[tuple[Path, int]]:
    """A temporary beside `path`, made, opened and locked, and removed if it is still there in the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part, descriptor = _new_part(path, make, flags)
    try:
        yield part, descriptor
    finally:
        _remove(part)
        os.close(descriptor)


def _new_part(path: Path, make: Callable[[Path], None], flags: int) -> tuple[Path, int]:
    while True:
        part = _part_name(path)
        make(part)
        with contextlib.suppress(FileNotFoundError):  # a sweep came before the lock: once more
            descriptor = os.open(part, flags)
            with contextlib.suppress(OSError):  # no locks here
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if part.exists():
                return part, descriptor
            os.close(descriptor)


def _part_name(path: Path) -> Path:
    """Short, so that it fits wherever `path` does, and nobody else's, be they on another machine."""
    return path.parent / f".{os.urandom(8).hex()}.part"


def _touch(part: Path) -> None:
    part.touch(exist_ok=False)


def _moved(part: Path, path: Path) -> bool:
    """Whether `part` could take its place; False where a folder that is not empty is in the way."""
    try:
        os.rename(part, path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _remove(part: Path) -> None:
    """Delete a file or a folder, or as much of it as can be."""
    with contextlib.suppress(OSError):
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink()


def _sync(folder: Path) -> None:
    """Bring names in `folder` to the disk, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
