"""The log `status.jsonl` in the output folder: what became of each video, one JSON object a line.

Several programs may write it at once, and any of them may be killed: each writes whole lines under a lock, and cuts
off what another one left torn.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from utils.outputs.atomic import saving
from utils.results import Row
from utils.video_list import absolute

FILE_NAME = "status.jsonl"
MAX_HELD = 1000  # rows
MAX_LINE_BYTES = 1 << 18  # more than the longest path, files and error have
NOT_OF_THE_VIDEO = ("disk_full", "cannot_save")  # reasons why any video would have failed


class StatusLog:
    """Adds to the log in `folder`, as `feature_type`; a context manager that closes itself.

    Rows of skipped videos, which can be a million and tell little, are held back until another row comes, or
    MAX_HELD of them, or the end. Raises SaveError.
    """

    def __init__(self, folder: Path, feature_type: str) -> None:
        self._path = folder / FILE_NAME
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
        lines, self._held = self._held, []  # also where it fails: the next row finds a fresh start
        if lines:
            _append(self._path, b"".join(lines))


def read_log(folder: Path, feature_type: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a feature type, from the oldest on, but for those of skipped videos.

    Lines that are no such rows are passed over, as is everything where there is no log.
    """
    with contextlib.suppress(FileNotFoundError), open(folder / FILE_NAME, "rb") as file:
        for line in file:
            if b'"status": "skipped"' not in line:  # to parse a million of them would take seconds
                row = _parse(line)
                if row is not None and row.get("feature_type") == feature_type and isinstance(row.get("path"), str):
                    yield row


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


def _append(path: Path, lines: bytes) -> None:
    """Add whole lines to the file at `path`, or nothing. Raises SaveError."""
    with saving(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            with contextlib.suppress(OSError):  # no locks here
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            lines = _mend_end(descriptor) + lines
            size = os.fstat(descriptor).st_size
            try:
                while lines:
                    lines = lines[os.write(descriptor, lines) :]
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)


def _mend_end(descriptor: int) -> bytes:
    """Cut off the torn line that a killed program left; returns what must be written before the next line."""
    size = os.fstat(descriptor).st_size
    end = os.pread(descriptor, MAX_LINE_BYTES, max(0, size - MAX_LINE_BYTES))
    last = end.rpartition(b"\n")[2]
    if not last:
        return b""
    if _parse(last) is not None or len(last) == MAX_LINE_BYTES:  # whole, or none of ours
        return b"\n"
    os.ftruncate(descriptor, size - len(last))
    return b""


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return the JSON object in a line, if that is what it holds."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None
