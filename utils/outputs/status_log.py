"""The log `status.jsonl` in the output folder: what became of each video, one JSON object a line.

Several programs may write it at once, and any of them may be killed: each writes whole lines under a lock, and cuts
off what another one left torn. Shards work where there may be no locks, so each has a log of its own, as
`status.3-of-8.jsonl`. Whoever reads the log reads all of them.
"""

import contextlib
import fcntl
import heapq
import json
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from utils.outputs.atomic import saving
from utils.results import Row
from utils.video_list import Shard, absolute

FILE_NAME = re.compile(r"status(\.[0-9]+-of-[0-9]+)?\.jsonl")
MAX_HELD = 1000  # rows
MAX_LINE_BYTES = 1 << 18  # more than the longest path, files and error have
NOT_OF_THE_VIDEO = ("disk_full", "cannot_save")  # reasons why any video would have failed


class StatusLog:
    """Adds to the log in `folder`, as `feature_type`, or to that of a shard; a context manager that closes itself.

    Rows of skipped videos, which can be a million and tell little, are held back until another row comes, or
    MAX_HELD of them, or the end. Raises SaveError.
    """

    def __init__(self, folder: Path, feature_type: str, shard: Shard | None = None) -> None:
        self._path = folder / (f"status.{shard.number}-of-{shard.count}.jsonl" if shard else "status.jsonl")
        self._feature_type = feature_type
        self._held: list[bytes] = []

    def __enter__(self) -> "StatusLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, row: Row) -> None:
        """Log a row."""
        entry = {
            "path": row.path,
            "status": row.status,
            "reason": row.reason,
            "error": row.error,
            "outputs": row.outputs,
            "seconds": row.seconds,
            "fps": row.fps,
            "missing": row.missing or None,
            "missing_seconds": row.missing_seconds,
            "feature_type": self._feature_type,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        # In ASCII, a name that is no text keeps its bytes, as lone surrogates.
        self._held.append(json.dumps(entry).encode("ascii") + b"\n")
        if row.status != "skipped" or len(self._held) >= MAX_HELD:
            self.close()

    def close(self) -> None:
        """Write what was held back."""
        held, self._held = self._held, []  # also where it fails: the next row finds a fresh start
        if held:
            _append(self._path, b"".join(held))


def read_log(folder: Path, feature_type: str, with_skipped: bool = False) -> Iterator[dict[str, Any]]:
    """Yield the rows of a feature type in all logs of `folder`, from the oldest on; those of skipped videos if asked.

    Lines that are no such rows are passed over.
    """
    with contextlib.suppress(FileNotFoundError):
        logs = [
            _read_rows(folder / name, feature_type, with_skipped)
            for name in sorted(filter(FILE_NAME.fullmatch, os.listdir(folder)))
        ]
        yield from heapq.merge(*logs, key=lambda row: str(row.get("time", "")))


def failed_before(folder: Path, feature_type: str) -> set[str]:
    """Return the absolute paths of the videos that failed, for reasons of their own, when last worked on."""
    failed: set[str] = set()
    for row in read_log(folder, feature_type):
        match row:
            case {"path": path, "status": "failed"} if row.get("reason") not in NOT_OF_THE_VIDEO:
                failed.add(absolute(path))
            case {"path": path, "status": "ok"}:
                failed.discard(absolute(path))
    return failed


def frame_rates(folder: Path, feature_type: str) -> dict[str, tuple[float, float]]:
    """Return, by the absolute path of a video that was extracted last, its seconds and frames a second."""
    rates: dict[str, tuple[float, float]] = {}
    for row in read_log(folder, feature_type):
        match row:
            case {"path": path, "status": "ok", "seconds": int() | float() as seconds, "fps": int() | float() as fps}:
                rates[absolute(path)] = seconds, fps
            case {"path": path, "status": "ok"}:  # of a version that did not tell the rate
                rates.pop(absolute(path), None)
    return rates


def _read_rows(path: Path, feature_type: str, with_skipped: bool) -> Iterator[dict[str, Any]]:
    """Yield the rows of one log. It is open for moments only: of all shards' there may be more than can be open."""
    offset = 0
    while True:
        with open(path, "rb") as file:
            file.seek(offset)
            lines = file.readlines(MAX_LINE_BYTES)
        if not lines:
            return
        offset += sum(map(len, lines))
        for line in lines:
            if with_skipped or b'"status": "skipped"' not in line:  # to parse a million of them would take seconds
                row = _parse(line)
                if row.get("feature_type") == feature_type and isinstance(row.get("path"), str):
                    yield row


def _append(path: Path, lines: bytes) -> None:
    """Add whole lines to the file at `path`, or nothing. Raises SaveError."""
    with saving(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+b", buffering=0) as file:
            with contextlib.suppress(OSError):  # no locks here
                fcntl.flock(file, fcntl.LOCK_EX)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - MAX_LINE_BYTES))
            end = (file.read() or b"").rpartition(b"\n")[2]
            if _parse(end):  # a whole line, as editors leave it
                lines = b"\n" + lines
            else:  # a torn one, which a killed program left
                size = file.truncate(size - len(end))
            try:
                while lines:
                    lines = lines[os.write(file.fileno(), lines) :]
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(size)
                raise


def _parse(line: bytes) -> dict[str, Any]:
    """Return the JSON object in a line; empty where it holds none."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return entry if isinstance(entry, dict) else {}
