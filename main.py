"""Extract features of videos, in parallel on any number of GPUs: `python main.py --help`."""

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import NoReturn

import models
from models import recipes
from utils import cli
from utils.errors import CannotStartError, SaveError

log = logging.getLogger("video_features")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program with a command line and return its exit status. A wrong option raises SystemExit with status 2.

    It starts processes that import the calling script anew: call it under `if __name__ == "__main__":`.
    """
    _keep_streams_writable()
    with _signals_as_interrupts():
        try:
            configs = {name: models.load_config(name) for name in models.EXTRACTORS}
            command = cli.parse(arguments, configs, recipes)
            from models.run import run  # NumPy and more, which --help does without

            return run(command)
        except KeyboardInterrupt:  # before there are workers
            log.warning("Interrupted")
            return cli.EXIT_INTERRUPTED
        except (CannotStartError, SaveError) as error:
            log.error("main.py: cannot start: %s", error)
            return cli.EXIT_CANNOT_START


def _keep_streams_writable() -> None:
    """Make sure that a closed stream, or a file name that is no text, does not end the run."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a notebook's cannot
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def _signals_as_interrupts() -> Iterator[None]:
    """Have SIGTERM and SIGHUP raise KeyboardInterrupt, as Ctrl-C does."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        for number, handler in handlers.items():
            if handler is not signal.SIG_IGN:  # as SIGHUP is under nohup
                signal.signal(number, _interrupt)
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    status = main()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # while Python shuts down, a Ctrl-C would change the exit status
    sys.exit(status)
