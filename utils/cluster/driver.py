"""The driver's side: has Ray do the job on a cluster, and gives a row for each video, whatever becomes of the nodes.

Ray Data does the work of an engine: it finds nodes and GPUs, starts and restarts slots, gives out work, asks an
autoscaler for nodes, and notices dead ones. Here is what it leaves open. It gives out chunks, and some 130 of them a
second whatever is in them: so the first ones are large, where there are many videos, and the last ones have one. It
would try what a dead node had in hand for ever, and only when another node comes in its place: so it is told not to,
and what is left is done in another pass, together with the videos that are to be tried a second time. One that loses
its node, or its worker, twice has failed.
"""

import collections
import contextlib
import gc
import json
import logging
import os
import queue
import signal
import socket
import threading
import warnings
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import ray
import ray.data
from ray.data._internal.execution.streaming_executor import StreamingExecutor
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from utils.cluster.slot import ClusterJob, Desk, Slot, SlotOptions
from utils.errors import CannotStartError
from utils.results import Row

MAX_CHUNK = 1000  # videos
MANY_SLOTS = 100  # as many as may join later: no chunk is so large that the others wait for it in the end
CHUNKS_PER_SLOT = 4  # of what is left, so that slots end together
MAX_TRIES = 2
MAX_LOST_PASSES = 3
MAX_FAILED_STARTS = 20  # of slots, in a row, because their node died or the program is not there
CONNECT_SECONDS = 10.0  # to reach the address
JOIN_SECONDS = 60.0
END_SECONDS = 10.0  # for Ray Data to end
LOOK_SECONDS = 1.0  # between looks at what slots say of themselves
QUIET_LOOKS = 5  # in a row, without a row, until a run whose slots have stopped waits no longer for rows
NUM_LOOKED_FOR = 100  # videos, to find one that nodes must be able to see

log = logging.getLogger("video_features")


@dataclass(frozen=True)
class Cluster:
    """Where the job is done: by slots with one GPU each, or `cpus_per_slot` CPU cores."""

    address: str  # auto, local or HOST:PORT
    cpus_per_slot: int | None
    max_slots: int | None

    def num_slots(self) -> int:
        """Return how many slots the nodes that are there have room for."""
        name, each = ("GPU", 1) if self.cpus_per_slot is None else ("CPU", self.cpus_per_slot)
        room = sum(int(node["Resources"].get(name, 0) // each) for node in ray.nodes() if node["Alive"])
        return min(room, self.max_slots or room)


def run(
    job: ClusterJob, cluster: Cluster, videos: Iterable[str | None], timeout_seconds: float | None = None
) -> Generator[Row, None, None]:
    """Have slots of a cluster work on videos; give a row for each, as they end.

    What there is to Ctrl-C, to `videos` and to `timeout_seconds` is as in `utils.workers.pool.run`, but that `videos`
    are all pulled at the start. Raises CannotStartError, also where no slot can work any longer.
    """
    with _connected(cluster):
        paths = [path for path in videos if path is not None]
        try:
            if paths:
                yield from _Run(job, cluster, timeout_seconds, paths).rows()
        except ray.exceptions.RayError as error:
            raise CannotStartError(f"Ray cannot go on: {str(error).strip()}") from error


@contextlib.contextmanager
def _connected(cluster: Cluster) -> Iterator[None]:
    """Connect this process to a cluster, or start one of this machine alone. Raises CannotStartError."""
    address = os.environ.get("RAY_ADDRESS", "auto") if cluster.address == "auto" else cluster.address
    on_sigterm = signal.getsignal(signal.SIGTERM)  # which Ray replaces
    try:
        if address == "local":
            ray.init("local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        else:
            _join(address)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise CannotStartError(f"--ray {cluster.address}: {' '.join(str(error).split())}") from error
    finally:
        signal.signal(signal.SIGTERM, on_sigterm)
    try:
        yield
    finally:
        ray.shutdown()


def _join(address: str) -> None:
    """Connect to a cluster that runs. Raises OSError, ValueError, RuntimeError and ConnectionError.

    Where something else answers, Ray tries for a quarter of an hour: hence the thread, which is left behind then.
    """
    if ":" in address:
        host, _, port = address.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    outcome: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def connect() -> None:
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
            outcome.put(None)
        except Exception as error:
            outcome.put(error)

    threading.Thread(target=connect, daemon=True).start()
    try:
        error = outcome.get(timeout=JOIN_SECONDS)
    except queue.Empty:
        raise ConnectionError(f"no Ray cluster has answered within {JOIN_SECONDS:.0f} s") from None
    if error:
        raise error


def chunks(paths: Sequence[str], num_slots: int) -> Iterator[list[str]]:
    """Yield the paths in chunks that grow smaller, down to one."""
    rest = iter(paths)
    num_left = len(paths)
    while num_left:
        size = min(MAX_CHUNK, max(1, num_left // (CHUNKS_PER_SLOT * max(num_slots, MANY_SLOTS))))
        yield list(islice(rest, size))
        num_left -= size


class _Run:
    def __init__(self, job: ClusterJob, cluster: Cluster, timeout_seconds: float | None, paths: list[str]) -> None:
        self._cluster = cluster
        self._left = paths
        self._tries: collections.Counter[str] = collections.Counter()
        known_path = next((path for path in paths[:NUM_LOOKED_FOR] if os.path.exists(path)), None)
        self._options = SlotOptions(job, timeout_seconds, cluster.cpus_per_slot, os.getcwd(), known_path)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._desk: Any = ray.remote(Desk).options(num_cpus=0, scheduling_strategy=here).remote()
        self._num_wanted = 1  # slots
        self._num_received = 0  # rows
        self._told: set[str] = set()  # of slots that cannot work
        self._is_stopping = self._is_interrupted = False

    def rows(self) -> Iterator[Row]:
        if not self._cluster.num_slots():
            self._warn_of_no_slots()
        with self._first_interrupt_stops():
            num_lost_passes = 0
            while self._left and not self._is_stopping:
                paths, self._left = self._left, []
                yield from self._do(paths)
                num_lost_passes = num_lost_passes + 1 if len(self._left) == len(paths) else 0
                if num_lost_passes == MAX_LOST_PASSES:
                    raise CannotStartError("slots were lost before they had done a video, again and again")
        if self._is_interrupted:
            raise KeyboardInterrupt

    def _do(self, paths: list[str]) -> Iterator[Row]:
        """Have Ray work on videos, once; those that are to be done again go to `_left`."""
        missing = set(paths)
        for rows in self._results(list(chunks(paths, self._cluster.num_slots()))):
            for row in rows:
                missing.discard(row.path)
                yield from self._settle(row)
                if row.stops_run:
                    self._stop("Stopping after the videos in hand")
        for path in missing.intersection(ray.get(self._desk.take_lost.remote())):
            missing.discard(path)
            error = f"{path}: the node that worked on it was lost"
            yield from self._settle(Row(path, "failed", "crashed", error, retry_alone=True))
        self._left += [path for path in paths if path in missing]  # which were not begun

    def _settle(self, row: Row) -> Iterator[Row]:
        """Give a row, unless its video is to be tried once more."""
        if row.reason == "not_found" and os.path.exists(row.path):
            row = replace(row, error=f"{row.error}; but the driver sees it: the path must be the same on all nodes")
        if row.retry_alone:
            self._tries[row.path] += 1
            if self._tries[row.path] < MAX_TRIES:
                if not self._is_stopping:
                    log.warning("%s; trying this video once more", row.error)
                    self._left.append(row.path)
                return
            row = replace(row, error=f"{row.error} (tried twice)")
        yield row

    def _results(self, pass_chunks: list[list[str]]) -> Iterator[list[Row]]:
        """Yield rows as Ray Data gives them, until it has no more, or the run is to stop and no slot works any longer.

        Another thread waits for Ray Data, so that here there is time for slots that cannot work, and for Ctrl-C.
        """
        results: queue.SimpleQueue[str | Exception | None] = queue.SimpleQueue()
        dataset = self._dataset(pass_chunks)

        def receive() -> None:
            try:
                for batch in dataset.iter_batches(batch_size=None, prefetch_batches=0):
                    for rows in batch["rows"]:
                        results.put(str(rows))
                results.put(None)
            except Exception as error:
                results.put(error)

        thread = threading.Thread(target=receive, daemon=True)
        thread.start()
        try:
            yield from self._received(results)
        finally:
            for executor in threading.enumerate():  # which knows of it, unlike the dataset, before there is a row
                if isinstance(executor, StreamingExecutor):
                    executor.shutdown(force=True)  # or else `ray.shutdown` may end this process, with status 1
            thread.join(END_SECONDS)

    def _received(self, results: "queue.SimpleQueue[str | Exception | None]") -> Iterator[list[Row]]:
        num_quiet = 0
        while num_quiet < QUIET_LOOKS:
            try:
                result = results.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                have_stopped, num_sent = self._look_at_slots()
                num_quiet = num_quiet + 1 if have_stopped else 0
                if have_stopped and num_sent == self._num_received:
                    return
                continue
            if result is None:
                return
            if isinstance(result, Exception):
                raise CannotStartError(f"Ray cannot go on: {str(result).strip()}") from result
            rows = [Row(**row) for row in json.loads(result)]
            self._num_received += len(rows)
            yield rows

    def _dataset(self, pass_chunks: list[list[str]]) -> Any:
        gc.collect()  # what is left of the pass before: until then its slots may keep their places
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.target_max_block_size = 1  # each message from a slot comes at once
        context.max_errored_blocks = -1  # what is lost is done in the next pass
        context.max_consecutive_actor_init_deaths = MAX_FAILED_STARTS
        context.execution_no_progress_timeout_s = -1  # a video may take hours
        context.autoscaling_config.actor_pool_util_upscaling_threshold = 1.0  # as one chunk a slot is on its way
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        self._num_wanted = max(1, min(self._cluster.num_slots(), len(pass_chunks) + len(self._told)))
        compute = ray.data.ActorPoolStrategy(
            min_size=1,
            initial_size=self._num_wanted,
            max_size=self._cluster.max_slots or max(self._num_wanted, len(pass_chunks)),
            # A second chunk spares slots a wait, but where each video is a large part of the run, it may wait in vain.
            max_tasks_in_flight_per_actor=2 if len(pass_chunks[0]) > 1 else 1,
        )
        per_slot = {"num_gpus": 1} if self._cluster.cpus_per_slot is None else {"num_cpus": self._cluster.cpus_per_slot}
        items = [{"paths": json.dumps(chunk)} for chunk in pass_chunks]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of `max_task_retries`, which has no other place
            return ray.data.from_items(items, override_num_blocks=len(items)).flat_map(
                Slot, fn_constructor_args=(self._options, self._desk), compute=compute, max_task_retries=0, **per_slot
            )

    def _look_at_slots(self) -> tuple[bool, int]:
        """Tell of slots that cannot work; return whether all have stopped, and how many rows they have sent.

        Raises CannotStartError where no slot can work.
        """
        have_stopped, num_sent, unfit = ray.get(self._desk.state.remote())
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        errors = [error for node, error in unfit.values() if node in alive]
        if errors and len(errors) >= min(self._num_wanted, self._cluster.num_slots()):
            raise CannotStartError(errors[0])
        for slot in unfit.keys() - self._told:
            log.error("Going on without this slot: %s", unfit[slot][1])
            self._told.add(slot)
        return have_stopped, num_sent

    def _warn_of_no_slots(self) -> None:
        each = self._cluster.cpus_per_slot
        problem = "no GPU; --cpus_per_slot makes slots of CPU cores" if each is None else f"no node of {each} CPU cores"
        if self._cluster.address == "local":
            raise CannotStartError(f"this machine has {problem}")
        log.warning("The cluster has %s. Waiting for a node that has", problem)

    def _stop(self, message: str) -> None:
        """Have slots begin no more videos."""
        if not self._is_stopping:
            self._is_stopping = True
            log.warning(message)
            self._desk.stop.remote()

    @contextlib.contextmanager
    def _first_interrupt_stops(self) -> Iterator[None]:
        """Have the first Ctrl-C end the run after the videos in hand, and a second one at once."""
        before = signal.getsignal(signal.SIGINT)

        def stop(*_: object) -> None:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._is_interrupted = True
            message = "Stopping after the videos in hand; Ctrl-C again stops at once"
            threading.Thread(target=self._stop, args=(message,)).start()  # Ray may be at work in this one

        signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
