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


@dataclass(frozen=True)
class Start:
    """Starts a worker in the way of `how`, and notes in `folder` what it does."""

    folder: Path
    how: str = "well"

    def __call__(self, device: str) -> ExtractVideo:
        (self.folder / f"started {device} {os.getpid()}").touch()
        is_first = len(list(self.folder.glob("started *"))) == 1
        match self.how:
            case "refuse":
                raise CannotStartError("the networks do not fit")
            case "refuse later" if not is_first:
                raise CannotStartError("the networks do not fit twice")
            case "bug":
                raise RuntimeError("an unforeseen thing")
            case "hang":
                time.sleep(1000)
            case "be killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "die later" if is_first:
                pass
            case "die" | "die later":
                os.kill(os.getpid(), signal.SIGABRT)
        return partial(extract, self.folder)


def extract(folder: Path, path: str, on_open: Callable[[float], None]) -> Row:
    """Do what a path says before its `-`, as in `ok-1` or `die once-2`."""
    note(folder, f"begin {path}")
    what = path.partition("-")[0]
    if what.endswith(" once"):
        what = what.removesuffix(" once") if attempts(folder, path) == 1 else "pause"
    match what:
        case "bad":
            raise MediaError("unreadable", "no good")
        case "bug":
            raise ZeroDivisionError("of zero by zero")
        case "full":
            raise SaveError(f"{path}.npy", OSError(errno.ENOSPC, "No space left on device"))
        case "cramped":
            raise OutOfMemoryError("no room")
        case "break":
            raise BrokenWorkerError("the device is in an error state")
        case "exit":
            raise SystemExit("somebody wants to end")
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "hang":
            time.sleep(1000)
        case "sleep":
            time.sleep(1.0)
        case "sleep for its length":
            on_open(0.06)
            time.sleep(1.0)
        case "pause":
            time.sleep(0.4)
        case "nap":
            time.sleep(0.02)
        case "gather":  # until as many have begun as it says, as in `gather-2 of 4`
            wait_until(lambda: noted(folder).count("begin gather") == int(path.split()[-1]))
    note(folder, f"end {path}")
    return Row(path, "ok", outputs=[f"{path}.npy"], seconds=2.0, report=threading.current_thread().name)


def note(folder: Path, event: str) -> None:
    with open(folder / "events", "a", encoding="utf-8") as file:
        file.write(f"{event}\n")


def noted(folder: Path) -> str:
    """Return the events in all workers, a line each, in their order."""
    return (folder / "events").read_text() if (folder / "events").exists() else ""


def attempts(folder: Path, path: str) -> int:
    return noted(folder).splitlines().count(f"begin {path}")


def started(folder: Path) -> dict[int, str]:
    """Return the devices of the workers that have started, by process number."""
    names = [path.name.split() for path in folder.glob("started *")]
    return {int(pid): device for _, device, pid in names}
