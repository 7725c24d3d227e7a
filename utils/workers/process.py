"""The worker's side: a process that works on one video at a time, in its main thread.

The parent sends a path over a pipe, or None when there are no more. The worker answers `Ready` once it has started, and
then for each path perhaps `Opened` and always a `Row`; or it sends the CannotStartError that it ends with.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import NamedTuple

from utils.errors import BrokenWorkerError, CannotStartError, ExtractionError
from utils.results import Row

GRACE_SECONDS = 5.0  # from asking a worker to stop to killing it
MAX_ERROR_LENGTH = 8000  # characters; so that a message is sent in one piece
UNGUARDED_STATUS = 71  # of a worker whose script, which it imports, would start the program anew

ExtractVideo = Callable[[str, Callable[[float], None]], Row]
"""Extracts the video of a path, and calls the function with the video's length in seconds as soon as that is known.

An ExtractionError becomes a failed row, any other exception one with a traceback. BrokenWorkerError ends the worker.
"""

StartExtractor = Callable[[str], ExtractVideo]
"""Called once in each worker, with its device; must be picklable. Raises CannotStartError."""


class Ready:
    """The worker has started."""


class Opened(NamedTuple):
    """The length of the video in hand is known."""

    seconds: float


Message = Ready | Opened | Row | CannotStartError


def run_worker(start: StartExtractor, device: str, pipe: Connection) -> None:
    """Start, say so, and then send a row for each path, until there are no more or the parent is gone."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that half-written files are removed
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        try:
            extract = start(device)
        except Exception as error:
            pipe.send(CannotStartError(str(error) if isinstance(error, CannotStartError) else _traceback(error)))
            return
        pipe.send(Ready())
        while (path := pipe.recv()) is not None:
            row = _extract_row(extract, path, pipe)
            pipe.send(row)
            if row.reason == BrokenWorkerError.reason:
                sys.exit(1)


def _extract_row(extract: ExtractVideo, path: str, pipe: Connection) -> Row:
    try:
        return extract(path, lambda seconds: pipe.send(Opened(seconds)))
    except ExtractionError as error:
        text = str(error) if path in str(error) else f"{path}: {error}"
        return Row(path, "failed", error.reason, text, stops_run=error.stops_run, retry_alone=error.retry_alone)
    except Exception as error:
        return Row(path, "failed", "error", f"{path}: {_traceback(error)}")


def _traceback(error: Exception) -> str:
    """Return the end of an error's traceback, which says most."""
    return "".join(traceback.format_exception(error)).rstrip()[-MAX_ERROR_LENGTH:]


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS / 2)
    os._exit(1)
