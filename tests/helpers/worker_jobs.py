"""What workers do in tests: importable by the processes that are spawned, and free of torch."""

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.helpers.processes import wait_until
from utils.errors import BrokenWorkerError, CannotStartError, MediaError
from utils.workers.pool import Done


class FullDiskError(Exception):
    """What no other video would escape."""

    reason = "disk_full"
    stops_run = True


class NoRoomError(Exception):
    """What a video meets only among others."""

    reason = "out_of_memory"
    better_alone = True


@dataclass(frozen=True)
class Job:
    """Does what the path says, one of those in `_Work`, as in `ok-1` or `die once-2`, and notes each attempt.

    What has `among` in its name begins when three are in hand of its worker, unless it was tried before.
    """

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
    in_hand: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, path: str, opened: Callable[[float], None]) -> Done | None:
        name = Path(path).name
        self._note(name, f"{os.getpid()}")
        with self.lock:
            self._note("company", ", ".join(sorted(self.in_hand | {name})))
            self.in_hand.add(name)
        try:
            return self._work(path, name, opened)
        finally:
            self.in_hand.remove(name)

    def _work(self, path: str, name: str, opened: Callable[[float], None]) -> Done | None:
        what = name.split("-")[0]
        num_attempts = len((self.folder / name).read_text().splitlines())
        if "among" in what and num_attempts == 1:
            wait_until(lambda: len(self.in_hand) == 3)
        match what.removesuffix(" among"):
            case "bad":
                raise MediaError("unreadable", f"{path}: no good")
            case "bug":
                raise ZeroDivisionError("of zero by zero")
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "die once" if num_attempts == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            case "die twice" if num_attempts <= 2:
                os.kill(os.getpid(), signal.SIGKILL)
            case "nap":
                time.sleep(0.02)
            case "sleep":
                time.sleep(1.0)
            case "hang":
                time.sleep(1000)
            case "hang once":
                time.sleep(1000 if num_attempts == 1 else 0.2)
            case "pair" if num_attempts == 1:
                time.sleep(1000)
            case "pair":
                wait_until(lambda: len(self.in_hand) == 2)
                time.sleep(0.1)  # for the other one to see it, too
            case "gather":
                self._wait_for_the_others(name)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
                time.sleep(1000)  # of several threads this one may go on for a moment
            case "long":
                opened(1000.0)
                time.sleep(1.0)
            case "break":
                raise BrokenWorkerError("the device is in an error state")
            case "exit":
                raise SystemExit("somebody wants to end")
            case "full":
                raise FullDiskError(f"{path}: no space left")
            case "cramped" if len(self.in_hand) > 1:
                raise NoRoomError(f"{path}: no room among others")
            case "crossed" if len(self.in_hand) > 1:
                raise RuntimeError("what another one did")
            case "tell thread":
                return Done([], 0.0, threading.current_thread().name)
            case "done":
                return None
        return Done([f"{path}.npy"], 2.0, f"report of {name}")

    def _note(self, name: str, line: str) -> None:
        with open(self.folder / name, "a", encoding="utf-8") as log:
            log.write(f"{line}\n")

    def _wait_for_the_others(self, name: str) -> None:
        """Until as many have begun as the name says, as in `gather-2 of 4`."""
        number = int(name.split()[-1])
        wait_until(lambda: len(list(self.folder.glob("gather-*"))) == number)
