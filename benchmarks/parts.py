"""Runs the parts of a benchmark, each in a process of its own: one that fails, hangs or dies costs its own figures."""

import contextlib
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path

import torch

NUM_LINES = 30  # that are kept of what a part that failed said

Figure = tuple[str, float | str]
"""What was measured, with its unit, and how much it is."""


@dataclass(frozen=True)
class Part:
    """A function that yields figures; picklable."""

    name: str
    measure: Callable[[], Iterator[Figure]]
    limit_seconds: float
    expected: str


@dataclass
class Result:
    """What became of a part."""

    figures: dict[str, float | str] = field(default_factory=dict)
    seconds: float = 0.0
    failure: str = ""
    said: list[str] = field(default_factory=list)


def run_part(part: Part, folder: Path, seconds_left: float = float("inf")) -> Result:
    """Run a part for as long as it may, and end its process and all those that it started."""
    figures, log = folder / f"{part.name}.jsonl", folder / f"{part.name}.log"
    limit = min(part.limit_seconds, seconds_left)
    if limit <= 0:
        return Result(failure=f"expected {part.expected}; no time was left for it")
    process = multiprocessing.get_context("spawn").Process(target=_work, args=(part, figures, log))
    start = time.monotonic()
    process.start()
    try:
        process.join(limit)
        has_ended = process.exitcode is not None
    finally:
        assert process.pid is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()  # in case it had no group yet
        process.join(10)  # no longer: the kernel may be unable to end it
    result = Result(seconds=time.monotonic() - start)
    if figures.exists():
        result.figures = dict(
            json.loads(line) for line in figures.read_text().splitlines(keepends=True) if line[-1:] == "\n"
        )
    if process.exitcode != 0:
        lines = log.read_text(errors="replace").rstrip().splitlines() if log.exists() else []
        result.said = lines[-NUM_LINES:]
        last = f"; it said last: {lines[-1].strip()}" if lines else ""
        reason = f"it was not done after {limit:.0f} s" if not has_ended else describe_end(process.exitcode or 0)
        result.failure = f"expected {part.expected}; {reason}{last}"
    return result


def table(results: dict[str, Result]) -> str:
    """Format the figures for people to read."""
    lines = []
    for part, result in results.items():
        lines.append(f"{part} ({result.seconds:.0f} s)")
        lines += [f"  {name[:90]:<92}{show(value):>10}" for name, value in result.figures.items()]
        lines += [f"  FAILED: {result.failure}"] if result.failure else []
    return "\n".join(lines)


def show(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.6f}" if 0.9 < value < 1 else f"{value:.4g}" if value < 1000 else f"{value:,.0f}"


def describe_end(status: int) -> str:
    return f"it ended with status {status}" if status >= 0 else f"it was killed by {signal.Signals(-status).name}"


def _work(part: Part, figures: Path, log: Path) -> None:
    """Measure, in a group of processes of its own; write each figure as soon as it is there."""
    os.setsid()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.stdout.flush()
    with log.open("w") as said:
        os.dup2(said.fileno(), sys.stdout.fileno())
        os.dup2(said.fileno(), sys.stderr.fileno())
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    with figures.open("w") as file, torch.inference_mode():
        for figure in part.measure():
            print(json.dumps(figure), file=file, flush=True)


def _end_with_parent() -> None:
    """End this group when the benchmark was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.killpg(0, signal.SIGKILL)
