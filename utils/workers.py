"""One process per device, fed from one queue in the parent; no video is lost and no death hangs the program.

The queue lives in the parent because a queue that workers share can be locked for ever by one that is killed while
it reads. A worker gets one path at a time over a pipe of its own; the parent waits on all pipes and all processes
together, so it knows which video a dead worker had in hand. Only paths and small rows cross process borders.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Literal, NamedTuple

MAX_ATTEMPTS = 2  # at a video whose worker dies
MAX_FAILED_STARTS = 3  # of workers on a device, in a row,
MAX_KILLED_STARTS = 10  # or that many, where they were killed from outside,
PATIENCE_SECONDS = 300.0  # or for that long, where workers did start before
MAX_START_SECONDS = 600.0
MIN_LIMIT_SECONDS = 600.0  # for a video, unless a limit is given,
LIMIT_FACTOR = 10.0  # or that often its length, if that is more
GRACE_SECONDS = 5.0  # from asking a worker to stop to killing it
SLICE_SECONDS = 0.02  # of looking at the videos to come, between looks at the workers
MAX_ERROR_LENGTH = 8000  # characters; so that a message is sent in one piece
INFINITY = float("inf")

State = Literal["starting", "idle", "busy", "leaving"]

log = logging.getLogger("video_features")


class CannotStartError(Exception):
    """No worker can be made ready for work; the message says why."""


class BrokenWorkerError(Exception):
    """A worker cannot go on, as when its GPU is in an error state: it ends, and its video is tried by another."""


class Done(NamedTuple):
    """What work on a video gave: the files it made, how many seconds of video it saw, what to tell the user."""

    outputs: list[str]
    seconds: float
    report: str = ""
    losses: str = ""
    """What of a damaged video could not be read; empty where all could."""


@dataclass(frozen=True)
class Row:
    """What became of one video: `status` is ok, skipped or failed; `reason` is one word, `error` the full text."""

    path: str
    status: str
    reason: str | None = None
    error: str | None = None
    outputs: list[str] = field(default_factory=list)
    seconds: float = 0.0
    report: str = ""
    losses: str = ""
    stops_run: bool = False


Process = Callable[[str, Callable[[float], None]], Done | None]
"""Does the work on one path, and calls the function it is given with the video's length in seconds when it knows it.

None says that there is nothing to do. An exception fails that video; its attribute `reason`, if any, says why in one
word, and its attribute `stops_run` that it would be no better with any other video.
"""

Start = Callable[[str], Process]
"""Called once in a worker, with its device; must be picklable. A CannotStartError is passed on as it is."""


def run(
    start: Start, devices: Sequence[str], videos: Iterable[str | Row], timeout_seconds: float | None = None
) -> Iterator[Row]:
    """Work on videos, a worker per device; gives a row a video, as they end.

    `videos` is looked through little by little while the workers work: paths are handed out, rows are given as they
    are. A video may take `timeout_seconds`, or as long as its length allows. The first Ctrl-C lets the videos in hand
    end; a second one, or SIGTERM, stops at once. After either the generator raises KeyboardInterrupt. Whenever it
    ends, no worker is left. Raises CannotStartError.
    """
    pool = _Pool(start, devices, videos, timeout_seconds)
    with _Interrupts() as interrupts:
        try:
            while pool.has_work():
                yield from pool.next_rows(interrupts.wakeup)
                if interrupts.count == 1:
                    pool.wind_down("Stopping after the videos in hand; Ctrl-C again stops at once")
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
        self.last_words = ""
        self.enter("starting", MAX_START_SECONDS)
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

    def enter(self, state: State, limit_seconds: float = INFINITY, path: str | None = None) -> None:
        """Note what it does now, for how long it may, and the path it has in hand."""
        self.state = state
        self.since = time.monotonic()
        self.limit_seconds = limit_seconds
        self.path = path

    @property
    def seconds_left(self) -> float:
        """Until it has taken too long for what it does."""
        return self.since + self.limit_seconds - time.monotonic()

    def how_it_ended(self) -> str:
        code = self.process.exitcode or 0
        end = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with status {code}"
        return f"{end}: {self.last_words}" if self.last_words else end

    def end(self, seconds: float) -> None:
        """Kill it, unless it ends by itself within that time."""
        self.process.join(max(0.0, seconds))
        self.process.kill()
        self.process.join(GRACE_SECONDS)  # no longer: the kernel may be unable to end it
        self.pipe.close()


class _Pool:
    """The queue and the workers."""

    def __init__(
        self, start: Start, devices: Sequence[str], videos: Iterable[str | Row], timeout_seconds: float | None
    ) -> None:
        self.start = start
        self.free_devices = deque(devices)
        self.videos: Iterator[str | Row] | None = iter(videos)
        self.timeout_seconds = timeout_seconds
        self.queue: deque[str] = deque()
        self.workers: list[_Worker] = []
        self.attempts: Counter[str] = Counter()
        self.failed_starts: Counter[str] = Counter()
        self.last_ready: dict[str, float] = {}
        self.is_winding_down = False

    def has_work(self) -> bool:
        return bool(self.videos or self.queue or self.workers)

    def next_rows(self, wakeup: Connection) -> list[Row]:
        """Wait until a worker says something, dies or takes too long, or `wakeup` has something; deal with it all."""
        rows = self._look_through()
        self._hand_out()
        handles: list[Connection | int] = [wakeup]
        for worker in self.workers:
            handles += worker.pipe, worker.process.sentinel
        seconds = 0.0 if self.videos else min((worker.seconds_left for worker in self.workers), default=0.0)
        ready = wait(handles, None if seconds == INFINITY else max(0.0, seconds))
        if wakeup in ready:
            wakeup.recv_bytes()
        for worker in list(self.workers):
            if worker.pipe in ready or worker.process.sentinel in ready:
                row = self._hear(worker)
            elif worker.seconds_left <= 0:
                row = self._give_up(worker)
            else:
                continue
            if row is not None:
                rows.append(row)
                if row.stops_run:
                    self.wind_down("Stopping after the videos in hand")
        return rows

    def wind_down(self, message: str) -> None:
        """Hand out no more, and say so once."""
        self.queue.clear()
        self.videos = None
        for worker in self.workers:
            if worker.state == "starting":
                worker.process.terminate()
                worker.enter("leaving", GRACE_SECONDS)
        if not self.is_winding_down:
            log.warning(message)
        self.is_winding_down = True

    def stop(self) -> None:
        """End all workers, by force where they do not listen."""
        for worker in self.workers:
            worker.process.terminate()
        deadline = time.monotonic() + GRACE_SECONDS
        for worker in self.workers:
            worker.end(deadline - time.monotonic())
        self.workers.clear()

    def _look_through(self) -> list[Row]:
        """Take in some more of the videos."""
        rows = []
        deadline = time.monotonic() + SLICE_SECONDS
        while self.videos and time.monotonic() < deadline:
            video = next(self.videos, None)
            if video is None:
                self.videos = None
            elif isinstance(video, Row):
                rows.append(video)
            else:
                self.queue.append(video)
        return rows

    def _hand_out(self) -> None:
        """Give idle workers a path each, or let them go when there will be none; hire where there is one for more."""
        for worker in self.workers:
            if worker.state == "idle" and (self.queue or not self.videos) and worker.process.is_alive():
                self._feed(worker)
        num_needed = len(self.queue) - sum(worker.state == "starting" for worker in self.workers)
        for _ in range(min(num_needed, len(self.free_devices))):
            self.workers.append(_Worker(self.start, self.free_devices.popleft()))

    def _feed(self, worker: _Worker) -> None:
        """Hand out the next path; a worker that there is none for is let go."""
        path = self.queue[0] if self.queue else None
        with contextlib.suppress(OSError):  # it just died, which the next wait tells
            worker.pipe.send(path)
            if path is None:
                worker.enter("leaving", GRACE_SECONDS)
            else:
                log.debug("%s takes %s", worker.device, path)
                worker.enter("busy", self.timeout_seconds or MIN_LIMIT_SECONDS, self.queue.popleft())

    def _hear(self, worker: _Worker) -> Row | None:
        try:
            message = worker.pipe.recv() if worker.pipe.poll() else None
        except (EOFError, OSError):
            message = None
        match message:
            case None:
                return self._bury(worker)
            case CannotStartError():
                self._let_go(worker)
                self._do_without(worker, message)
            case BrokenWorkerError():
                worker.last_words = str(message)
            case float() as seconds:
                if self.timeout_seconds is None:
                    worker.limit_seconds = max(MIN_LIMIT_SECONDS, LIMIT_FACTOR * seconds)
            case _:
                worker.enter("idle")
                self.failed_starts[worker.device] = 0
                self.last_ready[worker.device] = time.monotonic()
                return message if isinstance(message, Row) else None
        return None

    def _bury(self, worker: _Worker) -> Row | None:
        """Deal with the end of a worker: retry or fail the video it had in hand."""
        self._let_go(worker)
        if worker.path is not None:
            return self._retry(worker.path, f"the worker {worker.how_it_ended()}")
        if worker.state == "starting":
            self.failed_starts[worker.device] += 1
            if self._is_hopeless(worker):
                message = f"workers on {worker.device} die at start: the last {worker.how_it_ended()}"
                self._do_without(worker, CannotStartError(message))
        return None

    def _is_hopeless(self, worker: _Worker) -> bool:
        """Whether enough workers have died at their start on a device."""
        was_killed = worker.process.exitcode == -signal.SIGKILL
        if self.failed_starts[worker.device] < (MAX_KILLED_STARTS if was_killed else MAX_FAILED_STARTS):
            return False
        last_ready = self.last_ready.get(worker.device)
        return last_ready is None or time.monotonic() - last_ready > PATIENCE_SECONDS

    def _retry(self, path: str, cause: str) -> Row | None:
        """Have a video tried once more whose worker died, or fail it."""
        self.attempts[path] += 1
        if self.attempts[path] >= MAX_ATTEMPTS:
            return Row(path, "failed", "crashed", f"{path}: {cause}, {MAX_ATTEMPTS} times on this video")
        if not self.is_winding_down:
            log.warning("%s: %s; trying this video once more", path, cause)
            self.queue.appendleft(path)
        return None

    def _give_up(self, worker: _Worker) -> Row | None:
        """End a worker that takes too long."""
        worker.process.kill()
        self._let_go(worker)
        if worker.path is not None:
            return Row(
                worker.path,
                "failed",
                "timeout",
                f"{worker.path}: not done after {worker.limit_seconds:g} s (--timeout_per_video)",
            )
        if worker.state == "starting":
            message = f"the worker on {worker.device} was not ready after {MAX_START_SECONDS:.0f} s"
            self._do_without(worker, CannotStartError(message))
        return None

    def _let_go(self, worker: _Worker) -> None:
        worker.end(GRACE_SECONDS)
        self.workers.remove(worker)
        self.free_devices.append(worker.device)

    def _do_without(self, worker: _Worker, error: CannotStartError) -> None:
        """Leave the work to the other devices; raises the error where there is none."""
        self.free_devices.remove(worker.device)
        if not self.workers and not self.free_devices:
            raise error
        log.error("Going on without %s: %s", worker.device, error)


class _Interrupts:
    """Counts Ctrl-C as one, SIGTERM and SIGHUP as two, and makes `wakeup` readable; nothing breaks into the parent."""

    def __enter__(self) -> "_Interrupts":
        self.count = 0
        self.wakeup, self._bell = multiprocessing.Pipe(duplex=False)
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
            numbers.append(signal.SIGHUP)
        self._handlers = {number: signal.signal(number, self._note) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self.wakeup.close()
        self._bell.close()

    def _note(self, number: int, _: object) -> None:
        self.count += 1 if number == signal.SIGINT else 2
        self._bell.send_bytes(b"!")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


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
        try:
            pipe.send(_attempt(process, path, pipe.send))
        except BrokenWorkerError as error:
            pipe.send(error)
            sys.exit(1)


def _attempt(process: Process, path: str, opened: Callable[[float], None]) -> Row:
    try:
        done = process(path, opened)
    except BrokenWorkerError:
        raise
    except Exception as error:
        stops_run = getattr(error, "stops_run", False)
        return Row(path, "failed", getattr(error, "reason", "error"), _text(error), stops_run=stops_run)
    if done is None:
        return Row(path, "skipped")
    return Row(path, "ok", None, None, done.outputs, done.seconds, done.report, done.losses)


def _text(error: Exception) -> str:
    """The message of an error that is meant to be read; the traceback of any other."""
    text = str(error) if hasattr(error, "reason") else "".join(traceback.format_exception(error)).rstrip()
    return text[-MAX_ERROR_LENGTH:]


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)  # so that no half-written file stays
    time.sleep(GRACE_SECONDS / 2)
    os._exit(1)
