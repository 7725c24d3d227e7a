"""What became of each video: the log `status.jsonl` in the output folder, one JSON object a line.

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
from types import TracebackType

from utils.outputs.atomic import saving
from utils.results import Row

FILE_NAME = "status.jsonl"
MAX_HELD = 1000  # rows
BLOCK_BYTES = 1 << 16
NOT_OF_THE_VIDEO = ("disk_full", "cannot_save")  # reasons why any video would have failed

# How a line begins: `failed_before` passes over most lines without parsing them.
PATH, STATUS = b'{"path": "', b'", "status": "'


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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def add(self, row: Row) -> None:
        """Log a row."""
        self._held.append(self._line(row))
        if row.status != "skipped" or len(self._held) >= MAX_HELD:
            self.close()

    def close(self) -> None:
        """Write what was held back."""
        lines, self._held = self._held, []  # also where it fails: the next row finds a fresh start
        if lines:
            _append(self._path, b"".join(lines))

    def _line(self, row: Row) -> bytes:
        """ASCII, in which a name that is no text keeps its bytes as lone surrogates."""
        entry = {
            "path": row.path,
            "status": row.status,
            "reason": row.reason,
            "error": row.error,
            "outputs": row.outputs,
            "seconds": row.seconds,
            "missing": row.missing or None,
            "feature_type": self._feature_type,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        return json.dumps(entry).encode("ascii") + b"\n"


def failed_before(folder: Path, feature_type: str) -> set[str]:
    """The absolute paths of the videos that failed, for reasons of their own, when they were last worked on."""
    failed: set[str] = set()
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open(folder / FILE_NAME, "rb"))
        except FileNotFoundError:
            return failed
        here = os.getcwd()
        for line in file:
            if b'"failed"' not in line:
                path = _path_at_start(line)
                if path is not None and os.path.normpath(os.path.join(here, path)) not in failed:
                    continue
            match _object(line):
                case {"path": str(path), "status": "failed", "feature_type": kind, **rest} if kind == feature_type:
                    if rest.get("reason") not in NOT_OF_THE_VIDEO:
                        failed.add(os.path.abspath(path))
                case {"path": str(path), "status": "ok", "feature_type": kind} if kind == feature_type:
                    failed.discard(os.path.abspath(path))
    return failed


def owners(folder: Path, feature_type: str) -> dict[int, int]:
    """Of which video each set of files is: by the hash of its first file's path, the hash of the absolute path.

    Hashes, because there can be a million; of the last row that tells.
    """
    return {hash(outputs[0]): hash(os.path.abspath(path)) for path, outputs in _extracted(folder, feature_type)}


def owner(folder: Path, feature_type: str, output: str) -> str | None:
    """The absolute path of the video that a file is of, if the log knows."""
    found = None
    for path, outputs in _extracted(folder, feature_type):
        if output in outputs:
            found = os.path.abspath(path)
    return found


def _extracted(folder: Path, feature_type: str) -> Iterator[tuple[str, list[str]]]:
    """The videos whose features were extracted, with the files of them."""
    with contextlib.suppress(FileNotFoundError), open(folder / FILE_NAME, "rb") as file:
        for line in file:
            if b'"status": "ok"' not in line:
                continue
            match _object(line):
                case {"path": str(path), "outputs": [str(), *_] as outputs, "feature_type": kind}:
                    if kind == feature_type:
                        yield path, [str(output) for output in outputs]


def _path_at_start(line: bytes) -> str | None:
    """The path in a line that begins as all of this log do, without a look at the rest."""
    start, status, _ = line.partition(STATUS)
    if not status or not start.startswith(PATH):
        return None
    try:
        path = start[len(PATH) :].decode("ascii")
        if "\\" in path or '"' in path:
            path = json.loads(f'"{path}"')
    except ValueError:  # what was found is not all of the path, or more
        return None
    return path


def _append(path: Path, lines: bytes) -> None:
    """Add whole lines to the file at `path`, or nothing. Raises SaveError."""
    with saving(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            with contextlib.suppress(OSError):  # no locks here
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            lines = _mended(descriptor) + lines
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


def _mended(descriptor: int) -> bytes:
    """Cut off the torn line that a killed program left; gives what must come before the next line."""
    start = size = os.fstat(descriptor).st_size
    end = b""
    while start and b"\n" not in end:
        start = max(0, start - BLOCK_BYTES)
        end = os.pread(descriptor, min(BLOCK_BYTES, size - len(end) - start), start) + end
    last = end.rpartition(b"\n")[2]
    if last and _object(last) is not None:
        return b"\n"
    if last:
        os.ftruncate(descriptor, size - len(last))
    return b""


def _object(line: bytes) -> dict[str, object] | None:
    """The JSON object in a line, if that is what it holds."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None
