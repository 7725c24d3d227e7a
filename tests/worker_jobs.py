"""What workers do in tests: importable by the processes that are spawned, and free of torch."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from utils.container import MediaError
from utils.workers import BrokenWorkerError, CannotStartError, Done


class FullDiskError(Exception):
    """What no other video would escape."""

    reason = "disk_full"
    stops_run = True


@dataclass(frozen=True)
class Job:
    """Does what the path says, one of those in `_Work`, as in `ok-1` or `die once-2`, and notes each attempt."""

    folder: Path
    start: str = "ok"

    def __call__(self, device: str) -> "_Work":
        (self.folder / f"started {device} {os.getpid()}").touch()
        if self.start == "refuse":
            raise CannotStartError("the networks do not fit")
        if self.start == "bug":
            raise RuntimeError("an unforeseen thing")
        if self.start == "hang":
            time.sleep(1000)
        if self.start in ("die", f"die on {device}"):
            os.kill(os.getpid(), signal.SIGABRT)
        if self.start == "be killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.start == "die once ready" and self._num_started() > 1:
            os.kill(os.getpid(), signal.SIGABRT)
        return _Work(self.folder)

    def _num_started(self) -> int:
        return len(list(self.folder.glob("started *")))


@dataclass(frozen=True)
class _Work:
    folder: Path

    def __call__(self, path: str, opened: Callable[[float], None]) -> Done | None:
        name = Path(path).name
        with open(self.folder / name, "a", encoding="utf-8") as log:
            log.write(f"{os.getpid()}\n")
        match name.split("-")[0]:
            case "bad":
                raise MediaError("unreadable", f"{path}: no good")
            case "bug":
                raise ZeroDivisionError("of zero by zero")
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "die once" if len((self.folder / name).read_text().splitlines()) == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            case "nap":
                time.sleep(0.02)
            case "sleep":
                time.sleep(1.0)
            case "hang":
                time.sleep(1000)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "long":
                opened(1000.0)
                time.sleep(1.0)
            case "break":
                raise BrokenWorkerError("the device is in an error state")
            case "full":
                raise FullDiskError(f"{path}: no space left")
            case "done":
                return None
        return Done([f"{path}.npy"], 2.0, f"report of {name}")
