"""Watching processes."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def workers_of(program: int) -> list[int]:
    """The worker processes of a running program."""
    workers = [pid for pid, _, parent, _ in _processes() if parent == program]
    return [pid for pid in workers if b"spawn_main" in _command(pid)]


def running_in(group: int) -> list[int]:
    """The processes of a group, but for those that have ended and that nobody has asked about yet."""
    return [pid for pid, state, _, its_group in _processes() if its_group == group and state != "Z"]


def _processes() -> Iterator[tuple[int, str, int, int]]:
    """Of each process its number, state, parent and group."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            state, parent, group = (process / "stat").read_text().rsplit(")", 1)[1].split()[:3]
            yield int(process.name), state, int(parent), int(group)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
