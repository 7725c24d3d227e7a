"""One process per device, fed from one queue in the parent; no video is lost and no death hangs the program.

The queue lives in the parent because a queue that workers share can be locked for ever by one that is killed while
it reads. A worker gets paths over a pipe of its own, one at a time or as many as it has lanes; the parent waits on all
pipes and all processes together, so it knows what a dead worker had in hand. Only paths and small rows cross process
borders.

A video fails for what it does alone. Of several in the hands of a worker that dies, nobody knows which one it was: each
is a suspect from then on, which is tried with nothing else in hand, and what came before is not held against it. So is
one that takes too long among others, finds no room, or meets an error that nobody foresaw.
"""

import contextlib
import logging
import multiprocessing
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Literal

from utils.errors import BrokenWorkerError, CannotStartError
from utils.results import Row
from utils.workers.process import GRACE_SECONDS, Done, Message, Opened, Process, Start, work

__all__ = ["BrokenWorkerError", "CannotStartError", "Done", "Process", "Row", "Start", "run"]

MAX_ATTEMPTS = 2  # at a video whose worker dies, with nothing else in hand
MAX_FAILED_STARTS = 3  # of workers on a device, in a row,
MAX_KILLED_STARTS = 10  # or that many, where they were killed from outside,
PATIENCE_SECONDS = 300.0  # or for that long, where workers did start before
MAX_START_SECONDS = 600.0
MIN_LIMIT_SECONDS = 600.0  # for a video, unless a limit is given,
LIMIT_FACTOR = 10.0  # or that often its length, for each video that shares the worker, if that is more
SLICE_SECONDS = 0.02  # of looking at the videos to come, between looks at the workers
INFINITY = float("inf")

State = Literal["starting", "ready", "leaving"]

log = logging.getLogger("video_features")


def run(
    start: Start,
    devices: Sequence[str],
    videos: Iterable[str | None],
    timeout_seconds: float | None = None,
    num_lanes: Callable[[str], int] = lambda device: 1,
) -> Iterator[Row]:
    """Work on videos, a worker per device; gives a row a video, as they end.

    `videos` is looked through little by little while the workers work: paths are handed out, rows are given as they
    are. A worker has up to `num_lanes(device)` of them in hand at once, in threads if that is more than one. A video
    may take `timeout_seconds`, or as long as its length allows. The first Ctrl-C lets the videos in hand end; a second
    one, or SIGTERM, stops at once. After either the generator raises KeyboardInterrupt. Whenever it ends, no worker is
    left. Raises CannotStartError.
    """
    pool = _Pool(start, devices, videos, timeout_seconds, num_lanes)
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


@dataclass(eq=False)
class _Task:
    """A video in hand, and how long it may take."""

    path: str
    limit_seconds: float
    is_suspect: bool
    since: float = field(default_factory=time.monotonic)

    @property
    def deadline(self) -> float:
        return self.since + self.limit_seconds

    def timeout(self) -> str:
        """What is to be said when that has passed."""
        return f"{self.path}: not done after {self.limit_seconds:g} s (--timeout_per_video)"


class _Worker:
    """A process, its end of the pipe, and what it has in hand."""

    def __init__(self, start: Start, device: str, num_lanes: int) -> None:
        import torch.multiprocessing

        context = torch.multiprocessing.get_context("spawn")
        self.device = device
        self.num_lanes = num_lanes
        self.in_hand: list[_Task] = []
        self.last_words = ""
        self.enter("starting", MAX_START_SECONDS)
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=work, args=(start, device, num_lanes, theirs), daemon=True)
        # A worker starts with SIGINT blocked: Ctrl-C reaches the whole group, and the parent decides. The tracker
        # must run by then, because its own start would unblock the signal.
        resource_tracker.ensure_running()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()

    def enter(self, state: State, limit_seconds: float = INFINITY) -> None:
        """Note what it does now, and for how long it may."""
        self.state = state
        self.deadline = time.monotonic() + limit_seconds

    @property
    def seconds_left(self) -> float:
        """Until it, or something it has in hand, has taken too long."""
        return min([self.deadline, *(task.deadline for task in self.in_hand)]) - time.monotonic()

    def free_lanes(self) -> range:
        """The lanes that there is something for, or will be when it has started; a suspect needs them all."""
        if self.state == "leaving" or any(task.is_suspect for task in self.in_hand):
            return range(0)
        if self.state == "ready" and not self.process.is_alive():  # which the next wait tells
            return range(0)
        return range(len(self.in_hand), self.num_lanes)

    def hear(self) -> Message | None:
        """What it says next; None where there is nothing, or no more."""
        try:
            message: Message | None = self.pipe.recv() if self.pipe.poll() else None
        except (EOFError, OSError):
            return None
        return message

    def task(self, path: str) -> _Task | None:
        """What it has in hand of that path."""
        return next((task for task in self.in_hand if task.path == path), None)

    def put_down(self, path: str) -> _Task:
        """Note that it is done with a path; gives what it had in hand."""
        task = self.task(path)
        assert task is not None
        self.in_hand.remove(task)
        return task

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
        self,
        start: Start,
        devices: Sequence[str],
        videos: Iterable[str | None],
        timeout_seconds: float | None,
        num_lanes: Callable[[str], int],
    ) -> None:
        self.start = start
        self.free_devices = deque(devices)
        self.videos: Iterator[str | None] | None = iter(videos)
        self.timeout_seconds = timeout_seconds
        self.num_lanes = num_lanes
        self.queue: deque[str] = deque()
        self.suspects: deque[str] = deque()
        self.workers: list[_Worker] = []
        self.attempts: Counter[str] = Counter()
        self.failed_starts: Counter[str] = Counter()
        self.last_ready: dict[str, float] = {}
        self.is_winding_down = False

    def has_work(self) -> bool:
        return bool(self.videos or self.queue or self.suspects or self.workers)

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
                message = worker.hear()
                rows += self._on_exit(worker) if message is None else self._on_message(worker, message)
            elif worker.seconds_left <= 0:
                rows += self._on_timeout(worker)
        if any(row.stops_run for row in rows):
            self.wind_down("Stopping after the videos in hand")
        return rows

    def wind_down(self, message: str) -> None:
        """Hand out no more, and say so once."""
        self.queue.clear()
        self.suspects.clear()
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
            video = next(self.videos, "")
            if video == "":
                self.videos = None
            elif video is not None:
                self.queue.append(video)
        return rows

    def _hand_out(self) -> None:
        """Spread the videos over the workers; hire where there is one for more, let go where there will be none.

        A video goes where the fewest are in hand. If that is a worker that starts, it stays in the queue for it.
        """
        idle = [worker for worker in self.workers if 0 in worker.free_lanes()]
        for _ in range(min(len(self.suspects) + len(self.queue) - len(idle), len(self.free_devices))):
            idle.append(self._start_worker(self.free_devices.popleft()))
        idle.sort(key=lambda worker: worker.state == "starting")
        alone = idle[: len(self.suspects)]
        places = [(lane, worker) for worker in self.workers if worker not in alone for lane in worker.free_lanes()]
        places.sort(key=lambda place: (place[0], place[1].state == "starting"))
        for worker in alone:
            self._feed(worker, self.suspects)
        for _, worker in places[: len(self.queue)]:
            self._feed(worker, self.queue)
        if not (self.videos or self.queue or self.suspects):
            for worker in self.workers:
                if worker.state == "ready" and not worker.in_hand:
                    self._dismiss(worker)

    def _start_worker(self, device: str) -> _Worker:
        worker = _Worker(self.start, device, self.num_lanes(device))
        self.workers.append(worker)
        return worker

    def _feed(self, worker: _Worker, queue: deque[str]) -> None:
        """Hand out the next path of a queue, if the worker is ready for it."""
        if worker.state != "ready":
            return
        path = queue[0]
        with contextlib.suppress(OSError):  # it just died, which the next wait tells
            worker.pipe.send(path)
            log.debug("%s takes %s", worker.device, path)
            limit_seconds = self.timeout_seconds or MIN_LIMIT_SECONDS
            worker.in_hand.append(_Task(queue.popleft(), limit_seconds, is_suspect=queue is self.suspects))

    def _dismiss(self, worker: _Worker) -> None:
        """Tell a worker that there is no more for it."""
        with contextlib.suppress(OSError):
            worker.pipe.send(None)
            worker.enter("leaving", GRACE_SECONDS)

    def _on_message(self, worker: _Worker, message: Message) -> list[Row]:
        match message:
            case CannotStartError():
                self._stop_worker(worker)
                self._retire_device(worker, message)
            case BrokenWorkerError():
                worker.last_words = str(message)
                worker.enter("leaving", GRACE_SECONDS)
            case Opened(path, seconds):
                task = worker.task(path)
                if task is not None and self.timeout_seconds is None:
                    num_sharing = 1 if task.is_suspect else worker.num_lanes
                    task.limit_seconds = max(MIN_LIMIT_SECONDS, LIMIT_FACTOR * num_sharing * seconds)
            case Row(path):
                task = worker.put_down(path)
                self._note_life(worker)
                if message.better_alone and worker.num_lanes > 1 and not task.is_suspect:
                    self._requeue(self.suspects, [task], f"{message.what_happened()}; trying it alone")
                    return []
                return [message]
            case _:
                worker.enter("ready")
                self._note_life(worker)
        return []

    def _note_life(self, worker: _Worker) -> None:
        self.failed_starts[worker.device] = 0
        self.last_ready[worker.device] = time.monotonic()

    def _on_exit(self, worker: _Worker) -> list[Row]:
        """Deal with the end of a worker: with what caused it, where that is plain, or else with all that may have."""
        self._stop_worker(worker)
        match worker.in_hand:
            case []:
                if worker.state == "starting":
                    self._note_failed_start(worker)
            case [task]:
                return self._retry(task, f"the worker {worker.how_it_ended()}")
            case tasks:
                end = f"the worker on {worker.device}, with {len(tasks)} videos in hand, {worker.how_it_ended()}"
                self._requeue(self.suspects, tasks, f"{end}; trying each of them alone")
        return []

    def _note_failed_start(self, worker: _Worker) -> None:
        self.failed_starts[worker.device] += 1
        if self._is_hopeless(worker):
            message = f"workers on {worker.device} die at start: the last {worker.how_it_ended()}"
            self._retire_device(worker, CannotStartError(message))

    def _is_hopeless(self, worker: _Worker) -> bool:
        """Whether enough workers have died at their start on a device."""
        was_killed = worker.process.exitcode == -signal.SIGKILL
        if self.failed_starts[worker.device] < (MAX_KILLED_STARTS if was_killed else MAX_FAILED_STARTS):
            return False
        last_ready = self.last_ready.get(worker.device)
        return last_ready is None or time.monotonic() - last_ready > PATIENCE_SECONDS

    def _retry(self, task: _Task, cause: str) -> list[Row]:
        """Have a video tried once more that its worker died of, or fail it."""
        path = task.path
        self.attempts[path] += 1
        if self.attempts[path] >= MAX_ATTEMPTS:
            return [Row(path, "failed", "crashed", f"{path}: {cause}, {MAX_ATTEMPTS} times on this video")]
        self._requeue(self.suspects, [task], f"{path}: {cause}; trying this video once more")
        return []

    def _on_timeout(self, worker: _Worker) -> list[Row]:
        """End a worker that takes too long, be it for a video that does."""
        is_alone = len(worker.in_hand) == 1
        late = [task for task in worker.in_hand if task.deadline <= time.monotonic()]
        worker.process.kill()
        worker.process.join(GRACE_SECONDS)
        rows = []
        while worker.in_hand and (message := worker.hear()) is not None:  # what it had said before
            rows += self._on_message(worker, message)
        if worker.state == "starting":
            self._stop_worker(worker)
            error = f"the worker on {worker.device} was not ready after {MAX_START_SECONDS:.0f} s"
            self._retire_device(worker, CannotStartError(error))
        elif not late:
            rows += self._on_exit(worker)
        else:
            self._stop_worker(worker)
            late = [task for task in late if task in worker.in_hand]
            if is_alone:
                rows += [Row(task.path, "failed", "timeout", task.timeout()) for task in late]
            else:
                self._requeue_others(worker, late)
        return rows

    def _requeue_others(self, worker: _Worker, late: list[_Task]) -> None:
        """Have all that a worker had in hand tried again, what is late alone: another one may have kept it waiting."""
        others = [task for task in worker.in_hand if task not in late]
        cause = f"the worker on {worker.device} was ended for another video"
        self._requeue(self.queue, others, f"{cause}; beginning anew with {len(others)} that it had in hand")
        for task in reversed(late):
            self._requeue(self.suspects, [task], f"{task.timeout()}, with others in hand; trying it alone")

    def _requeue(self, queue: deque[str], tasks: list[_Task], message: str) -> None:
        """Have videos tried again before others."""
        if tasks and not self.is_winding_down:
            log.warning("%s", message)
            queue.extendleft(task.path for task in reversed(tasks))

    def _stop_worker(self, worker: _Worker) -> None:
        worker.end(GRACE_SECONDS)
        self.workers.remove(worker)
        self.free_devices.append(worker.device)

    def _retire_device(self, worker: _Worker, error: CannotStartError) -> None:
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
