"""A worker's side: a process that works on the paths it gets over a pipe, one by one or in several threads at once.

What it says to the parent, over the same pipe, is what a message here is: READY, then for each path its `Row`, before
which there may be an `Opened`; or the error after which it ends.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue
from typing import NamedTuple

from utils.errors import BrokenWorkerError, CannotStartError
from utils.results import Row

READY = "ready"
UNGUARDED_STATUS = 71
GRACE_SECONDS = 5.0  # from asking a worker to stop to killing it
MAX_ERROR_LENGTH = 8000  # characters; so that a message is sent in one piece


class Done(NamedTuple):
    """What work on a video gave: the files it made, how many seconds of video it saw, what to tell the user."""

    outputs: list[str]
    seconds: float
    report: str = ""
    missing: str = ""
    """What of a damaged video could not be read; empty where all could."""


class Opened(NamedTuple):
    """A video was opened, and tells its length."""

    path: str
    seconds: float


Process = Callable[[str, Callable[[float], None]], Done | Row | None]
"""Does the work on one path, and calls the function it is given with the video's length in seconds when it knows it.

None says that there is nothing to do. An exception fails that video; its attribute `reason`, if any, says why in one
word, its attribute `stops_run` that it would be no better with any other video, and its attribute `better_alone` that
it may be without others in hand, as it may where there is no `reason`. In a worker of several lanes it is called from
several threads at once.
"""

Start = Callable[[str], Process]
"""Called once in a worker, with its device; must be picklable. A CannotStartError is passed on as it is."""

Message = str | Opened | Row | CannotStartError | BrokenWorkerError


def work(start: Start, device: str, num_lanes: int, pipe: Connection) -> None:
    """A worker's life: get ready, say so, then a row for each path until there is none."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no half-written file stays
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        process = start(device)
    except CannotStartError as error:
        pipe.send(error)
        return
    except Exception as error:
        pipe.send(CannotStartError(_text(error)))
        return
    pipe.send(READY)
    if num_lanes == 1:
        _work_alone(process, pipe)
    else:
        _work_in_lanes(process, pipe, num_lanes)


def _work_alone(process: Process, pipe: Connection) -> None:
    """One path at a time, in the main thread."""
    try:
        _work_through(process, pipe.recv, pipe.send)
    except BrokenWorkerError as error:
        pipe.send(error)
        sys.exit(1)


def _work_in_lanes(process: Process, pipe: Connection, num_lanes: int) -> None:
    """Several paths at once, each in a thread.

    Nothing breaks into threads, so what is half-written when the process is made to end stays, for `files.sweep`. Nor
    is Python shut down around them, as `sys.exit` would: it crashes or hangs where they are at work.
    """
    signal.signal(signal.SIGTERM, lambda *_: os._exit(1))
    lock = threading.Lock()
    paths: SimpleQueue[str | None] = SimpleQueue()

    def tell(message: Message) -> None:
        with lock:
            pipe.send(message)

    lanes = [threading.Thread(target=_lane, args=(process, paths.get, tell), daemon=True) for _ in range(num_lanes)]
    for lane in lanes:
        lane.start()
    try:
        while (path := pipe.recv()) is not None:
            paths.put(path)
    except EOFError:  # the parent is gone
        os._exit(1)
    for _ in lanes:
        paths.put(None)
    for lane in lanes:
        lane.join()


def _lane(process: Process, next_path: Callable[[], str | None], tell: Callable[[Message], None]) -> None:
    """A thread's part of the work; what it cannot go on after ends the process, for the parent would wait for ever."""
    try:
        _work_through(process, next_path, tell)
    except BaseException as error:
        with contextlib.suppress(OSError):  # the parent is gone
            tell(error if isinstance(error, BrokenWorkerError) else BrokenWorkerError(_text(error)))
        os._exit(1)


def _work_through(process: Process, next_path: Callable[[], str | None], tell: Callable[[Message], None]) -> None:
    while (path := next_path()) is not None:
        tell(_attempt(process, path, tell))


def _attempt(process: Process, path: str, tell: Callable[[Message], None]) -> Row:
    try:
        done = process(path, lambda seconds: tell(Opened(path, seconds)))
    except BrokenWorkerError:
        raise
    except Exception as error:
        return Row(
            path,
            "failed",
            getattr(error, "reason", "error"),
            _text(error),
            stops_run=getattr(error, "stops_run", False),
            better_alone=getattr(error, "better_alone", not hasattr(error, "reason")),
        )
    if isinstance(done, Row):
        return done
    if done is None:
        return Row(path, "skipped")
    return Row(path, "ok", None, None, done.outputs, done.seconds, done.report, done.missing)


def _text(error: BaseException) -> str:
    """The message of an error that is meant to be read; the traceback of any other."""
    text = str(error) if hasattr(error, "reason") else "".join(traceback.format_exception(error)).rstrip()
    return text[-MAX_ERROR_LENGTH:]


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS / 2)
    os._exit(1)
