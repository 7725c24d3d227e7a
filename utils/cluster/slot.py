"""A slot: an actor of Ray with one GPU, or some CPU cores, and one worker process there, which it hands its videos.

A video that crashes, hangs or takes too much memory costs the worker, as on one machine, and never the actor.
"""

import contextlib
import dataclasses
import json
import math
import os
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import ray

from utils.devices import CPU
from utils.errors import CannotStartError, SaveError
from utils.results import Row
from utils.workers import pool
from utils.workers.process import StartExtractor

FLUSH_SECONDS = 5.0  # from rows sent to the next ones within a chunk: Ray Data takes some 130 messages a second in all
NOTE_SECONDS = 1.0  # from one note at the desk to the next one within a chunk
FIRST_PATH = os.devnull  # no video: its row tells that the worker has started


class ClusterJob(Protocol):
    """What the nodes of a cluster do; picklable."""

    def on_node(self, device: str, num_threads: int) -> StartExtractor:
        """Return what a worker starts with, called on its node. Raises CannotStartError and SaveError."""

    def find_done(self, path: str) -> Row | None:
        """Return the row of a video that is done already."""


@dataclass(frozen=True)
class SlotOptions:
    """What all slots of a run have in common."""

    job: ClusterJob
    timeout_seconds: float | None
    num_cpus: int | None  # for each slot; None where it has a GPU
    working_folder: str  # the driver's, which relative paths are below
    known_path: str | None  # of a video that the driver can see


class Desk:
    """An actor beside the driver. Slots learn here that the run is to stop, and the driver what slots have in hand."""

    def __init__(self) -> None:
        self._in_hand: dict[str, str] = {}
        self._unfit: dict[str, tuple[str, str]] = {}
        self._num_rows = 0
        self._is_stopping = False

    def enter(self, slot: str, path: str) -> bool:
        """Note what a slot has in hand, and return True, if it may have it."""
        self._unfit.pop(slot, None)
        if not self._is_stopping:
            self._in_hand[slot] = path
        return not self._is_stopping

    def leave(self, slot: str, num_rows: int) -> None:
        """Note that a slot has nothing in hand, and how many rows of its chunk are on their way to the driver."""
        self._in_hand.pop(slot, None)
        self._num_rows += num_rows

    def take_lost(self) -> list[str]:
        """Return what slots have had in hand that are gone: all that is noted when none is left."""
        lost = list(self._in_hand.values())
        self._in_hand.clear()
        return lost

    def stop(self) -> None:
        self._is_stopping = True

    def report_unfit(self, slot: str, node: str, error: str) -> None:
        """Note why a slot cannot work; it takes no videos then."""
        self._unfit[slot] = node, error

    def state(self) -> tuple[bool, int, dict[str, tuple[str, str]]]:
        """Return whether all slots have stopped, the number of rows in all, and of unfit slots the node and reason."""
        return self._is_stopping and not self._in_hand, self._num_rows, self._unfit


class Slot:
    """Called by Ray Data with a chunk of paths; yields rows as they come."""

    def __init__(self, options: SlotOptions, desk: Any) -> None:
        self._options, self._desk = options, desk
        self._slot = f"{ray.get_runtime_context().get_actor_id()} {os.getpid()}"  # another one after a restart
        self._path: str | None = FIRST_PATH
        try:
            self._rows = self._start_pool()
            while next(self._rows) is None:
                pass
        except Exception as error:
            # It never becomes ready, so that Ray gives it no videos, and keeps its place, so that no other slot comes
            # to this device.
            self._report_unfit(error)
            while True:
                time.sleep(3600)

    def __call__(self, item: dict[str, str]) -> Iterator[dict[str, str]]:
        rows: list[Row] = []
        num_rows = 0
        flushed, noted = time.monotonic(), -math.inf
        for path in json.loads(item["paths"]):
            if time.monotonic() - noted > NOTE_SECONDS:
                noted = time.monotonic()
                if not ray.get(self._desk.enter.remote(self._slot, path)):
                    break
            row = self._options.job.find_done(path)
            self._path = None if row else path
            while row is None:
                row = self._next_row()
                if rows and time.monotonic() - flushed > FLUSH_SECONDS:
                    yield _as_item(rows)
                    rows, flushed = [], time.monotonic()
            rows.append(row)
            num_rows += 1
            if row.stops_run:
                break
        if rows:
            yield _as_item(rows)
        self._desk.leave.remote(self._slot, num_rows)
        if rows and rows[-1].stops_run:
            time.sleep(3600)  # the pool has stopped, and the driver stops the run

    def _start_pool(self) -> "Iterator[Row | None]":
        device, num_threads = CPU, self._options.num_cpus
        if num_threads is None:  # Ray sets CUDA_VISIBLE_DEVICES: the slot's GPU is the only one there
            device, num_threads = "cuda:0", max(1, len(os.sched_getaffinity(0)) // _num_gpus_here())
        with contextlib.suppress(OSError):  # absolute paths may still be seen
            os.chdir(self._options.working_folder)
        known = self._options.known_path
        if known is not None and not os.path.exists(known):
            raise CannotStartError(f"{known} is not there: videos must be reachable under the same path on all nodes")
        start = self._options.job.on_node(device, num_threads)
        return pool.run_slot(start, device, self._paths(), self._options.timeout_seconds)

    def _paths(self) -> Iterator[str | None]:
        """Yield each path that is to be worked on, once."""
        while True:
            path, self._path = self._path, None
            yield path

    def _next_row(self) -> Row | None:
        """Return the row of the video in hand, or None where there is none yet."""
        try:
            return next(self._rows)
        except Exception as error:  # workers do not start any longer
            self._report_unfit(error)
            os._exit(1)  # Ray starts the slot anew, which takes no videos unless a worker starts

    def _report_unfit(self, error: Exception) -> None:
        is_known = isinstance(error, CannotStartError | SaveError)
        text = str(error) if is_known else "".join(traceback.format_exception(error))
        text = f"{text} (node {ray.util.get_node_ip_address()})"
        ray.get(self._desk.report_unfit.remote(self._slot, ray.get_runtime_context().get_node_id(), text))


def _num_gpus_here() -> int:
    here = ray.get_runtime_context().get_node_id()
    return max(1, int(sum(node["Resources"].get("GPU", 0) for node in ray.nodes() if node["NodeID"] == here)))


def _as_item(rows: list[Row]) -> dict[str, str]:
    return {"rows": json.dumps([dataclasses.asdict(row) for row in rows])}  # in ASCII, also names that are no text
