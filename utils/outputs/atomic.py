"""Files that appear whole or not at all, and the locks that keep programs out of each other's way.

A file that is being written has another name in the same folder and is locked for as long as its writer lives. That
tells it from what a killed program left, which `sweep` removes. On some network file systems locks are seen by their
own machine only, so the name also says of which machine it is.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from utils.errors import SaveError

PART = re.compile(r"\.[0-9a-f]{16}\.part")  # names of unfinished files
OTHERS_SECONDS = 3600.0  # after which another machine's counts as left: far longer than a file is written for


@contextlib.contextmanager
def saving(path: Path, problem: str = "cannot be written") -> Iterator[None]:
    """Turn an OSError of the block into the SaveError of `path`."""
    try:
        yield
    except OSError as error:
        raise SaveError(str(path), error, problem) from error


@contextlib.contextmanager
def whole_file(path: Path, replaces: bool = True) -> Iterator[BinaryIO]:
    """Give a file to write, which is renamed to `path` when the block has ended without an error.

    Its folder is made if need be; an error leaves nothing of it. Unless it `replaces`, a file that is at `path` by then
    stays, and this one goes: of several programs, also without locks, the first one's counts. Raises SaveError, also
    for an OSError of the block.
    """
    with saving(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open_part(path.parent)
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                (os.replace if replaces else _link)(file.name, path)
        finally:
            with contextlib.suppress(OSError):  # after an error it is still there
                os.unlink(file.name)


def sweep(folder: Path) -> None:
    """Remove unfinished files directly in `folder` whose writers are gone.

    Those of living programs are locked and stay; so do all of them where there are no locks, and for OTHERS_SECONDS
    those of other machines.
    """
    with contextlib.suppress(OSError):
        for name in filter(PART.fullmatch, os.listdir(folder)):
            with contextlib.suppress(OSError), open(folder / name, "r+b") as file:  # NFS locks none opened to read
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                age = time.time() - os.fstat(file.fileno()).st_mtime
                if name.startswith(f".{_machine()}") or age > OTHERS_SECONDS:
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


def _link(part: str, path: Path) -> None:
    """Give a file the name `path`, unless there is a file of that name."""
    try:
        os.link(part, path)
    except OSError:
        if not os.path.exists(path):  # the file system has no links
            os.replace(part, path)


def _machine() -> str:
    """Return six digits that tell this machine from others."""
    return hashlib.sha256(os.fsencode(os.uname().nodename)).hexdigest()[:6]


def open_part(folder: Path) -> BinaryIO:
    """Make, open and lock a file under a name that is short and nobody else's, be they on another machine."""
    while True:
        # "+", because into a file opened with "xb" NumPy writes past Python, which loses the system's error and even
        # says nothing when the last few kilobytes find no room.
        file = open(folder / f".{_machine()}{os.urandom(5).hex()}.part", "x+b")  # noqa: SIM115
        with contextlib.suppress(OSError):  # no locks here
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.path.exists(file.name):
            return file
        file.close()  # another program's sweep came before the lock
