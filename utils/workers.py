"""One process per device, fed from one queue in the parent; no video is lost and no death hangs the program.

The queue lives in the parent because a queue that workers share can be locked for ever by one that is killed while
it reads. A worker gets one path at a time over a pipe of its own; the parent waits on all pipes and all processes
together, so it knows which video a dead worker had in hand. Only paths and small rows cross process borders.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import NamedTuple

MAX_ATTEMPTS = 2  # at a video whose worker dies
MAX_FAILED_STARTS = 3  # in a row
GRACE_SECONDS = 5.0  # from asking a worker to stop to killing it


class CannotStartError(Exception):
    """No worker can be made ready for work; the message says why."""


class Done(NamedTuple):
    """What work on a video gave: the files it made, how many seconds of video it saw, what to tell the user."""

    outputs: list[str]
    seconds: float
    report: str


@dataclass(frozen=True)
class Row:
    """What became of one video: `status` is ok or failed; `reason` is one word, `error` the full text."""

    path: str
    status: str
    reason: str | None = None
    error: str | None = None
    outputs: list[str] = field(default_factory=list)
    seconds: float = 0.0
    report: str = ""


Process = Callable[[str], Done]
"""Does the work on one path. An exception fails that video; its `reason` attribute, if any, says why in one word."""

Start = Callable[[str], Process]
"""Called once in a worker, with its device; must be picklable. A CannotStartError is passed on as it is."""


def run(start: Start, devices: Sequence[str], paths: Iterable[str]) -> Iterator[Row]:
    """Work on all `paths`, a worker per device; gives a row a video, as they end.

    The first Ctrl-C lets the videos in hand end; a second one, or SIGTERM, stops at once. After either the
    generator raises KeyboardInterrupt, and no worker is left. Raises CannotStartError.
    """
    pool = _Pool(start, paths)
    with _Interrupts() as interrupts:
        try:
            for device in devices[: len(pool.queue)]:
                pool.hire(device)
            while pool.workers:
                yield from pool.next_rows(interrupts.wakeup)
                if interrupts.count == 1:
                    pool.wind_down()
                if interrupts.count > 1:
                    break
        finally:
            pool.stop()
        if interrupts.count:
            raise KeyboardInterrupt


class _Worker:
    """A process, its end of the pipe, and the path it has in hand."""

    def __init__(self, start: Start, device: str) -> None:
        import torch.multiprocessing

        context = torch.multiprocessing.get_context("spawn")
        self.device = device
        self.path: str | None = None
        self.is_ready = False
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_work, args=(start, device, theirs), daemon=True)
        # A worker starts with SIGINT blocked: Ctrl-C reaches the whole group, and the parent decides. The tracker
        # must run by then, because its own start would unblock the signal.
        resource_tracker.ensure_running()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()


class _Pool:
    """The queue and the workers."""

    def __init__(self, start: Start, paths: Iterable[str]) -> None:
        self.start = start
        self.queue = deque(paths)
        self.workers: list[_Worker] = []
        self.attempts: Counter[str] = Counter()
        self.failed_starts = 0
        self.is_winding_down = False

    def hire(self, device: str) -> None:
        self.workers.append(_Worker(self.start, device))

    def next_rows(self, wakeup: Connection) -> list[Row]:
        """Wait until a worker says something or dies, or `wakeup` has something; deal with it all."""
        ready = wait([wakeup, *(w.pipe for w in self.workers), *(w.process.sentinel for w in self.workers)])
        if wakeup in ready:
            wakeup.recv_bytes()
        rows = []
        for worker in list(self.workers):
            if worker.pipe in ready or worker.process.sentinel in ready:
                row = self._hear(worker)
                if row is not None:
                    rows.append(row)
        return rows

    def wind_down(self) -> None:
        """Hand out no more, and say so once."""
        self.queue.clear()
        if not self.is_winding_down:
            print("Stopping after the videos in hand; Ctrl-C again stops at once", file=sys.stderr)
        self.is_winding_down = True

    def stop(self) -> None:
        """End all workers, by force where they do not listen."""
        for worker in self.workers:
            worker.process.terminate()
        for worker in self.workers:
            worker.process.join(GRACE_SECONDS)
            worker.process.kill()
            worker.process.join()
            worker.pipe.close()
        self.workers.clear()

    def _hear(self, worker: _Worker) -> Row | None:
        try:
            message = worker.pipe.recv() if worker.pipe.poll() else None
        except (EOFError, OSError):
            message = None
        if message is None:
            return self._bury(worker)
        if isinstance(message, CannotStartError):
            raise message
        worker.is_ready = True
        self.failed_starts = 0
        worker.path = None
        self._feed(worker)
        return message if isinstance(message, Row) else None

    def _feed(self, worker: _Worker) -> None:
        """Hand out the next path; a worker that there is none for is let go."""
        with contextlib.suppress(OSError):  # it just died, which the next wait tells
            if self.queue:
                worker.pipe.send(self.queue[0])
                worker.path = self.queue.popleft()
            else:
                worker.pipe.send(None)

    def _bury(self, worker: _Worker) -> Row | None:
        """Deal with the end of a worker: retry or fail the video it had in hand, and replace it."""
        self.workers.remove(worker)
        worker.process.join()
        worker.pipe.close()
        row = None
        if worker.path is not None:
            self.attempts[worker.path] += 1
            cause = _how_it_ended(worker.process)
            if self.attempts[worker.path] < MAX_ATTEMPTS:
                print(f"{worker.path}: the worker {cause}; trying this video once more", file=sys.stderr)
                self.queue.appendleft(worker.path)
            else:
                row = Row(worker.path, "failed", "crashed", f"the worker {cause}, {MAX_ATTEMPTS} times on this video")
        elif not worker.is_ready:
            self.failed_starts += 1
            if self.failed_starts >= MAX_FAILED_STARTS:
                raise CannotStartError(f"workers on {worker.device} die at start: {_how_it_ended(worker.process)}")
        if self.queue:
            self.hire(worker.device)
        return row


class _Interrupts:
    """Counts Ctrl-C as one and SIGTERM as two, and makes `wakeup` readable, instead of breaking into the parent."""

    def __enter__(self) -> "_Interrupts":
        self.count = 0
        self.wakeup, self._bell = multiprocessing.Pipe(duplex=False)
        self._handlers = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self.wakeup.close()
        self._bell.close()

    def _note(self, number: int, _: object) -> None:
        self.count += 2 if number == signal.SIGTERM else 1
        self._bell.send_bytes(b"!")


def _how_it_ended(process: BaseProcess) -> str:
    code = process.exitcode or 0
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"


def _work(start: Start, device: str, pipe: Connection) -> None:
    """A worker's life: get ready, say so, then a row for each path until there is none."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        process = start(device)
    except CannotStartError as error:
        pipe.send(error)
        return
    except Exception as error:
        pipe.send(CannotStartError(_text(error)))
        return
    pipe.send("ready")
    while (path := pipe.recv()) is not None:
        pipe.send(_attempt(process, path))


def _attempt(process: Process, path: str) -> Row:
    try:
        done = process(path)
    except Exception as error:
        return Row(path, "failed", getattr(error, "reason", "error"), _text(error))
    return Row(path, "ok", outputs=done.outputs, seconds=done.seconds, report=done.report)


def _text(error: Exception) -> str:
    """The message of an error that is meant to be read; the traceback of any other."""
    return str(error) if hasattr(error, "reason") else "".join(traceback.format_exception(error)).rstrip()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
