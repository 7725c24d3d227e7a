"""Extraction that fails in every way: importable by workers, and free of torch, so that they start fast."""

import errno
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.helpers.processes import wait_until
from utils.errors import BrokenWorkerError, CannotStartError, MediaError, OutOfMemoryError, SaveError
from utils.results import Row
from utils.workers.process import ExtractVideo

SECONDS = {"nap": 0.02, "pause": 0.4, "sleep": 1.0, "hang": 1000.0}
SIGNALS = {"die": signal.SIGKILL, "stop": signal.SIGSTOP}
ERRORS = {
    "bad": MediaError("unreadable", "no good"),
    "bug": ZeroDivisionError("of zero by zero"),
    "full": SaveError("a.npy", OSError(errno.ENOSPC, "No space left on device")),
    "cramped": OutOfMemoryError("no room"),
    "break": BrokenWorkerError("the device is in an error state"),
    "exit": SystemExit("somebody wants to end"),
}


@dataclass(frozen=True)
class Start:
    """Starts a worker in the way of `how`, and notes in `folder` what it does."""

    folder: Path
    how: str = "well"

    def __call__(self, device: str) -> ExtractVideo:
        (self.folder / f"started {device} {os.getpid()}").touch()
        if self.how in ("refuse later", "die later") and self._is_first():
            return partial(extract, self.folder)
        match self.how.removesuffix(" later"):
            case "refuse":
                raise CannotStartError("the networks do not fit")
            case "bug":
                raise RuntimeError("an unforeseen thing")
            case "hang":
                time.sleep(1000)
            case "die":
                os.kill(os.getpid(), signal.SIGABRT)
            case "be killed":
                os.kill(os.getpid(), signal.SIGKILL)
        return partial(extract, self.folder)

    def _is_first(self) -> bool:
        try:
            (self.folder / "first").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def extract(folder: Path, path: str, on_open: Callable[[float], None]) -> Row:
    """Do what a path says before its `-`, as in `ok-1` or `die once-2`."""
    note(folder, f"begin {path}")
    what = path.partition("-")[0]
    if what.endswith(" once"):
        what = what.removesuffix(" once") if attempts(folder, path) == 1 else "pause"
    if what in ERRORS:
        raise ERRORS[what]
    if what in SIGNALS:
        os.kill(os.getpid(), SIGNALS[what])
    if what == "gather":  # until as many have begun as it says, as in `gather-2 of 4`
        wait_until(lambda: noted(folder).count("begin gather") == int(path.split()[-1]))
    if what == "sleep for its length":
        on_open(0.06)
    time.sleep(SECONDS.get(what.partition(" ")[0], 0.0))
    note(folder, f"end {path}")
    return Row(path, "ok", outputs=[f"{path}.npy"], seconds=2.0, report=threading.current_thread().name)


def note(folder: Path, event: str) -> None:
    with open(folder / "events", "a", encoding="utf-8", errors="surrogateescape") as file:
        file.write(f"{event}\n")


def noted(folder: Path) -> str:
    """Return the events in all workers, a line each, in their order."""
    return (folder / "events").read_text(errors="surrogateescape") if (folder / "events").exists() else ""


def attempts(folder: Path, path: str) -> int:
    return noted(folder).splitlines().count(f"begin {path}")


def started(folder: Path) -> dict[int, str]:
    """Return the devices of the workers that have started, by process number."""
    names = [path.name.split() for path in folder.glob("started *")]
    return {int(pid): device for _, device, pid in names}
