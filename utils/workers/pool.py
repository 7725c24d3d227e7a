"""The parent's side: hands out videos to worker processes, and gives a row for each, whatever becomes of the workers.

A worker has one video in hand; a device may have several workers. The states of a worker, in each of which it may die:

    starting -> idle -> working -> idle -> ... -> leaving

Why there is no `multiprocessing.Queue` that all workers read: one that is killed while it reads takes the queue's lock
with it, and the others wait for ever (seen in one of four trials). So the queue is in the parent, which sends each
worker one path at a time over a pipe of its own, waits on all pipes together, and knows which video a dead worker had
in hand. Only paths and rows cross process borders.

A video that ends its worker, takes too long, or fails with `retry_alone` is tried once more when all others are done,
in a new worker that has its device for itself. Then it fails.
"""

import contextlib
import logging
import multiprocessing
import signal
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Literal

from utils.errors import BrokenWorkerError, CannotStartError
from utils.results import Row
from utils.workers.process import GRACE_SECONDS, UNGUARDED_STATUS, Message, Opened, Ready, StartExtractor, run_worker

MAX_FAILED_STARTS = 3  # of workers on a device, in a row,
MAX_KILLED_STARTS = 10  # or that many, where they were killed from outside,
PATIENCE_SECONDS = 300.0  # or for that long, where workers did start before
MAX_START_SECONDS = 600.0
MIN_LIMIT_SECONDS = 600.0  # for a video, unless a limit is given,
LIMIT_FACTOR = 10.0  # or that often its length, for each worker of its device, if that is more
SLICE_SECONDS = 0.02  # of pulling videos, between looks at the workers
MAX_WAIT_SECONDS = 3600.0
SLOT_WAIT_SECONDS = 1.0
UNGUARDED = 'main.main() starts processes that import this script anew: call it under `if __name__ == "__main__":`'

log = logging.getLogger("video_features")


def run(
    start: StartExtractor, devices: Sequence[str], videos: Iterable[str | None], timeout_seconds: float | None = None
) -> Generator[Row, None, None]:
    """Work on videos in processes; give a row for each, as they end.

    `devices` names a device once for each worker that it may have. A video is pulled from `videos` when a worker is
    free for it, or could be started; None says that there is none yet, and that the workers come first. A video may
    take `timeout_seconds`, or as long as its length allows. The first Ctrl-C lets the videos in hand end; a second one,
    or SIGTERM, stops at once. After either this raises KeyboardInterrupt. However it ends, no worker is left. Raises
    CannotStartError.
    """
    pool = _Pool(start, list(devices), Counter(devices), iter(videos), timeout_seconds)
    with _interrupts() as interrupts:
        try:
            yield from pool.rows(interrupts)
        finally:
            pool.stop()
        if pool.num_interrupts:
            raise KeyboardInterrupt


def run_slot(
    start: StartExtractor, device: str, videos: Iterable[str | None], timeout_seconds: float | None = None
) -> Generator[Row | None, None, None]:
    """Work as `run` does, in one process, as one of many slots of a cluster.

    Second tries are left to the cluster: a row has `retry_alone` where there should be one. None is given now and then
    while there is no row. Signals are not looked after.
    """
    pool = _Pool(start, [device], Counter([device]), iter(videos), timeout_seconds, is_slot=True)
    interrupts, bell = multiprocessing.Pipe(duplex=False)  # which nobody rings
    with interrupts, bell:
        try:
            while pool.videos is not None or pool.workers:
                rows = pool.next_rows(interrupts)
                yield from rows
                if not rows:
                    yield None
        finally:
            pool.stop()


@contextlib.contextmanager
def _interrupts() -> Iterator[Connection]:
    """Give a pipe in which Ctrl-C puts a 1, and SIGTERM and SIGHUP a 2; inside `with` they do nothing else."""
    numbers, bell = multiprocessing.Pipe(duplex=False)
    values: dict[int, int] = {signal.SIGINT: 1, signal.SIGTERM: 2, signal.SIGHUP: 2}
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # as under nohup
        del values[signal.SIGHUP]
    handlers = {number: signal.signal(number, lambda number, _: bell.send(values[number])) for number in values}
    try:
        yield numbers
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        numbers.close()
        bell.close()


class _Worker:
    """A process, the parent's end of its pipe, and the video that it has in hand."""

    def __init__(self, start: StartExtractor, device: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.device = device
        self.path: str | None = None
        self.enter("starting", MAX_START_SECONDS)
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=run_worker, args=(start, device, theirs), daemon=True)
        # A worker starts with SIGINT blocked: Ctrl-C reaches the whole group, and the parent decides. The tracker
        # must run by then, because its own start would unblock the signal.
        resource_tracker.ensure_running()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()

    def enter(self, state: Literal["starting", "idle", "working", "leaving"], limit_seconds: float) -> None:
        """Note what it does from now on, and how long it may."""
        self.state, self.since, self.limit_seconds = state, time.monotonic(), limit_seconds

    def seconds_left(self) -> float:
        return self.since + self.limit_seconds - time.monotonic()

    def describe_end(self) -> str:
        status = self.process.exitcode or 0
        names: dict[int, str] = {number: number.name for number in signal.Signals}
        return f"was killed by {names.get(-status, -status)}" if status < 0 else f"ended with status {status}"

    def end(self, seconds: float) -> None:
        """Kill it, unless it ends by itself within that time."""
        self.process.join(max(0.0, seconds))
        self.process.kill()
        self.process.join(GRACE_SECONDS)  # no longer: the kernel may be unable to end it
        self.pipe.close()


@dataclass
class _Pool:
    """The queue, the workers, and a name in `free_devices` for each worker that could be started."""

    start: StartExtractor
    free_devices: list[str]
    num_sharing: Counter[str]  # of workers that a device may have
    videos: Iterator[str | None] | None  # None when all have been pulled
    timeout_seconds: float | None
    queue: deque[str] = field(default_factory=deque)
    retries: list[str] = field(default_factory=list)
    are_retries: bool = False
    workers: list[_Worker] = field(default_factory=list)
    failed_starts: Counter[str] = field(default_factory=Counter)
    last_ready: dict[str, float] = field(default_factory=dict)
    num_interrupts: int = 0
    is_winding_down: bool = False
    is_slot: bool = False

    def rows(self, interrupts: Connection) -> Iterator[Row]:
        """Work until no more videos and no workers are left, or all has to stop at once."""
        while (self.videos is not None or self.queue or self.workers) and self.num_interrupts < 2:
            yield from self.next_rows(interrupts)
        if self.retries:
            self.are_retries = True
            self.free_devices = list(dict.fromkeys(self.free_devices))  # one worker on each
            self.num_sharing = Counter(self.free_devices)
            self.videos, self.retries = iter(self.retries), []
            yield from self.rows(interrupts)

    def stop(self) -> None:
        """End all workers, by force where they do not listen."""
        for worker in self.workers:
            worker.process.terminate()
        deadline = time.monotonic() + GRACE_SECONDS
        for worker in self.workers:
            worker.end(deadline - time.monotonic())

    def next_rows(self, interrupts: Connection) -> list[Row]:
        """Wait until a worker says something, dies or takes too long, or the user interrupts; deal with all of it."""
        has_time = self._pull_videos()
        self._start_workers()
        self._hand_out()
        seconds = min((worker.seconds_left() for worker in self.workers), default=0.0) if has_time else 0.0
        pipes = [worker.pipe for worker in self.workers]
        max_seconds = SLOT_WAIT_SECONDS if self.is_slot else MAX_WAIT_SECONDS
        ready = wait([interrupts, *pipes], max(0.0, min(seconds, max_seconds)))
        rows = []
        for worker in list(self.workers):
            if worker.pipe in ready:
                try:
                    message = worker.pipe.recv()
                except (EOFError, OSError):
                    rows += self._on_exit(worker)
                else:
                    rows += self._on_message(worker, message)
            elif worker.seconds_left() <= 0 and not worker.pipe.poll():
                rows += self._on_timeout(worker)
        if interrupts in ready:
            self.num_interrupts += interrupts.recv()
            self._wind_down("Stopping after the videos in hand; Ctrl-C again stops at once")
        elif any(row.stops_run for row in rows):
            self._wind_down("Stopping after the videos in hand")
        return rows

    def _wind_down(self, message: str) -> None:
        """Hand out no more, and say so once."""
        self.videos = None
        self.queue.clear()
        self.retries.clear()
        for worker in self.workers:
            if worker.state == "starting":
                worker.process.terminate()
                worker.enter("leaving", GRACE_SECONDS)
        if not self.is_winding_down and self.num_interrupts < 2:
            log.warning(message)
        self.is_winding_down = True

    def _pull_videos(self) -> bool:
        """Pull a video for each worker that is free or could be started; return False where that takes too long."""
        num_free = len(self.free_devices) + self._num_free_workers()
        deadline = time.monotonic() + SLICE_SECONDS
        while self.videos is not None and len(self.queue) < num_free:
            try:
                path = next(self.videos)
            except StopIteration:
                self.videos = None
                break
            if path is not None:
                self.queue.append(path)
            elif time.monotonic() > deadline:
                return False
        return True

    def _start_workers(self) -> None:
        """Start a worker for each video that no other one is free for, on the device that has the fewest."""
        for _ in range(min(len(self.queue) - self._num_free_workers(), len(self.free_devices))):
            num_workers = Counter(worker.device for worker in self.workers)
            device = min(self.free_devices, key=lambda device: num_workers[device])
            self.free_devices.remove(device)
            self.workers.append(_Worker(self.start, device))

    def _num_free_workers(self) -> int:
        return sum(worker.state in ("starting", "idle") for worker in self.workers)

    def _hand_out(self) -> None:
        """Send each idle worker a video, or None if there will be no more."""
        for worker in self.workers:
            if worker.state != "idle" or not (self.queue or self.videos is None):
                continue
            path = self.queue[0] if self.queue else None
            with contextlib.suppress(OSError):  # it has just died, which the next wait tells
                worker.pipe.send(path)
                if path is None:
                    worker.enter("leaving", GRACE_SECONDS)
                else:
                    log.debug("%s takes %s", worker.device, path)
                    worker.path = self.queue.popleft()
                    worker.enter("working", self.timeout_seconds or MIN_LIMIT_SECONDS)

    def _on_message(self, worker: _Worker, message: Message) -> list[Row]:
        match message:
            case CannotStartError():
                self._stop_worker(worker)
                self._retire_device(worker.device, message)
            case Opened(seconds):
                if self.timeout_seconds is None:
                    num_sharing = self.num_sharing[worker.device]
                    worker.limit_seconds = max(MIN_LIMIT_SECONDS, LIMIT_FACTOR * num_sharing * seconds)
            case Ready() | Row():
                worker.path = None
                worker.enter("idle", float("inf"))
                self.failed_starts[worker.device] = 0
                self.last_ready[worker.device] = time.monotonic()
        if not isinstance(message, Row):
            return []
        if message.reason == BrokenWorkerError.reason:
            worker.enter("leaving", GRACE_SECONDS)
        return self._requeue(message) if message.retry_alone else [message]

    def _on_exit(self, worker: _Worker) -> list[Row]:
        self._stop_worker(worker)
        if worker.path is not None:
            error = f"{worker.path}: the worker {worker.describe_end()}"
            return self._requeue(Row(worker.path, "failed", "crashed", error))
        if worker.state == "starting":
            self._on_failed_start(worker)
        return []

    def _on_failed_start(self, worker: _Worker) -> None:
        """Let another one start, unless too many have died at their start on that device."""
        device, status = worker.device, worker.process.exitcode
        if status == UNGUARDED_STATUS:
            raise CannotStartError(UNGUARDED)
        self.failed_starts[device] += 1
        max_starts = MAX_KILLED_STARTS if status == -signal.SIGKILL else MAX_FAILED_STARTS
        is_patient = time.monotonic() - self.last_ready.get(device, float("-inf")) <= PATIENCE_SECONDS
        if self.failed_starts[device] >= max_starts and not is_patient:
            error = f"workers on {device} die at start: the last {worker.describe_end()}"
            self._retire_device(device, CannotStartError(error))

    def _on_timeout(self, worker: _Worker) -> list[Row]:
        """End a worker that takes too long to start, to work on its video, or to leave."""
        worker.process.kill()
        self._stop_worker(worker)
        if worker.state == "starting":
            error = f"the worker on {worker.device} was not ready after {MAX_START_SECONDS:.0f} s"
            self._retire_device(worker.device, CannotStartError(error))
        if worker.path is None:
            return []
        error = f"{worker.path}: not done after {worker.limit_seconds:g} s (--timeout_per_video)"
        return self._requeue(Row(worker.path, "failed", "timeout", error))

    def _requeue(self, row: Row) -> list[Row]:
        """Have a video that failed tried once more; give its row where that was done, or is done by others."""
        if self.is_slot:
            return [replace(row, retry_alone=True)]
        if self.are_retries:
            return [replace(row, error=f"{row.error} (tried twice)")]
        if not self.is_winding_down:
            log.warning("%s; trying this video once more", row.error)
            self.retries.append(row.path)
        return []

    def _stop_worker(self, worker: _Worker) -> None:
        worker.end(GRACE_SECONDS)
        self.workers.remove(worker)
        self.free_devices.append(worker.device)

    def _retire_device(self, device: str, error: CannotStartError) -> None:
        """Have one worker less on a device; raise the error if videos are left, and nobody to do them."""
        self.free_devices.remove(device)
        has_videos = self.videos is not None or self.queue or self.retries
        if has_videos and not self.workers and not self.free_devices:
            raise error
        log.error("Going on without this worker on %s: %s", device, error)
