"""Extract features of videos, in parallel on any number of GPUs: `python main.py --help`."""

import argparse
import contextlib
import dataclasses
import logging
import os
import shlex
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import models
from models.extraction import Job
from utils.cli import make_parser
from utils.devices import CPU, DeviceError, num_lanes, precision_on, resolve
from utils.media.options import DecodeOptions
from utils.video_list import distinct, expanded, read_list, unique_stems

if TYPE_CHECKING:
    from utils.outputs.settings import Settings
    from utils.results import Row

EXIT_OK, EXIT_SOME_FAILED, EXIT_CANNOT_START, EXIT_INTERRUPTED = 0, 1, 3, 130  # and 2 for a wrong option
LONGEST_COMMAND = 2000  # characters that are shown
UNTRAINED = "WARNING: --weights random: the networks are UNTRAINED, and these features mean NOTHING"

log = logging.getLogger("video_features")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program with a command line; gives the exit status. A wrong option raises SystemExit with status 2."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        for number, handler in handlers.items():
            if handler is not signal.SIG_IGN:  # as SIGHUP is under nohup
                signal.signal(number, _interrupt)
        return _main(arguments)
    except KeyboardInterrupt:  # before there are workers
        log.warning("Interrupted")
        return EXIT_INTERRUPTED
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _main(arguments: Sequence[str] | None) -> int:
    """Options -> checks -> run."""
    _prepare_streams()
    parser = make_parser({name: models.load(name) for name in models.EXTRACTORS})
    options = parser.parse_args(arguments)
    options.arguments = sys.argv[1:] if arguments is None else arguments
    package = models.load(options.feature_type)
    try:
        values = vars(options)
        config = package.Config(**{field.name: values[field.name] for field in dataclasses.fields(package.Config)})
        decode_options = DecodeOptions(max_pixels=options.max_pixels, allow_partial=options.allow_partial)
        paths = _paths(options, package.MEDIA_SUFFIXES)
        devices = resolve(options.device_ids)
        for device in devices:
            precision_on(device, options.precision)
        if options.hardware_decoding and set(devices) == {CPU}:
            raise DeviceError("--hardware_decoding: that is done by GPUs, and none is used")
    except (ValueError, DeviceError) as error:
        parser.error(str(error))
    _start_log(logging.WARNING if options.quiet else options.log_level.upper())
    job = Job(
        feature_type=options.feature_type,
        config=config,
        decode_options=decode_options,
        frames_path=options.tmp_path if options.keep_frames else None,
        stems=unique_stems(paths),
        num_threads=max(1, len(os.sched_getaffinity(0)) // len(devices)),
    )
    if options.device_ids is None and devices == ["cpu"]:
        log.info("No GPU here: working on the CPU")
    return run(job, paths, devices, options)


def run(job: Job, paths: list[str], devices: list[str], options: argparse.Namespace) -> int:
    """Do the job on all videos, tell how it goes, and give the exit status."""
    from utils.errors import SaveError, SettingsError, WeightsError
    from utils.progress import Progress
    from utils.workers import pool as workers

    try:
        job, fingerprints = with_weights(job)
        job, videos = with_output(job, paths, fingerprints, options)
    except (WeightsError, SettingsError, SaveError) as error:
        log.error("main.py: cannot start: %s", error)
        return EXIT_CANNOT_START
    log.info("Extracting %s features of %s on %s", job.feature_type, _number(paths), ", ".join(devices))
    status = EXIT_OK
    with Progress(len(paths), options.quiet) as progress, _cleaned_up(job):
        try:
            rows = workers.run(job, devices, videos, options.timeout_per_video, num_lanes)
            for row in _logged(rows, job):
                progress.add(row)
        except KeyboardInterrupt:
            status = EXIT_INTERRUPTED
        except workers.CannotStartError as error:
            log.error("main.py: cannot start: %s", error)
            status = EXIT_CANNOT_START
        except SaveError as error:
            log.error("main.py: stopped: %s", error)
            status = EXIT_SOME_FAILED
    if status != EXIT_CANNOT_START or progress.num_done:
        log.info("%s%s", "Interrupted: " if status == EXIT_INTERRUPTED else "", progress.summary())
    if progress.counts["failed"]:
        log.info("%s", _how_to_retry(job, options))
    if job.config.weights == "random":
        log.warning(UNTRAINED)
    return status or (EXIT_SOME_FAILED if progress.counts["failed"] or progress.num_done < len(paths) else EXIT_OK)


def with_weights(job: Job) -> tuple[Job, "Settings"]:
    """The job with the places of its weights, downloaded if need be, and what tells those weights apart."""
    from utils.weights import download as weights

    wanted = models.load(job.feature_type).weights_wanted(job.config)
    fingerprints: Settings = {}
    if job.config.weights == "random":
        log.warning(UNTRAINED)
        fingerprints = dict.fromkeys(wanted, "random")
        wanted = {option: (file, given) for option, (file, given) in wanted.items() if given is not None}
    places = weights.obtain(wanted)
    fingerprints |= {option: weights.fingerprint(file, given) for option, (file, given) in wanted.items()}
    config = dataclasses.replace(job.config, **{option: str(place) for option, place in places.items()})
    return dataclasses.replace(job, config=config), fingerprints


def with_output(
    job: Job, paths: list[str], fingerprints: "Settings", options: argparse.Namespace
) -> tuple[Job, Iterable["str | Row"]]:
    """The job with the folder that it saves to, made ready; and the videos, those that are done as rows.

    Raises SettingsError and SaveError.
    """
    from utils.outputs import resume
    from utils.outputs.status_log import failed_before

    if job.frames_path is not None:
        resume.probe(Path(job.frames_path))
    if options.on_extraction == "print":
        return job, paths
    folder, settings = Path(options.output_path), job.config.settings | fingerprints
    stems = map(job.stem, paths)
    output = resume.prepare(folder, job.feature_type, job.config.suffixes, settings, stems, options.overwrite)
    failed = failed_before(folder, job.feature_type) if options.skip_failed else set()
    return dataclasses.replace(job, output=output), resume.pending_videos(paths, job.stem, output, failed)


def _logged(rows: Iterator["Row"], job: Job) -> Iterator["Row"]:
    """The rows, each then written to the log in the output folder, if there is one. Raises SaveError."""
    from utils.outputs.status_log import StatusLog

    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(rows))  # type: ignore[type-var]
        add = stack.enter_context(StatusLog(job.output.folder, job.feature_type)).add if job.output else None
        for row in rows:
            yield row  # which is counted also where there is no room for the log
            if add is not None:
                add(row)


@contextlib.contextmanager
def _cleaned_up(job: Job) -> Iterator[None]:
    """In the end, no temporaries of workers that were killed are left."""
    from utils.outputs.atomic import sweep

    try:
        yield
    finally:
        below = {os.path.dirname(stem) for stem in job.stems.values()} | {""}
        tops = [job.output.folder] if job.output else []
        tops += [Path(job.frames_path)] if job.frames_path else []
        for top in tops:
            for folder in below:
                sweep(top / folder)


def _how_to_retry(job: Job, options: argparse.Namespace) -> str:
    """The command that tries the failed videos again; what is done it skips."""
    if job.output is None:
        return "To try the failed videos again, name them in --video_paths"
    again = [argument for argument in options.arguments if argument not in ("--overwrite", "--skip_failed")]
    command = " ".join(map(_quoted, [sys.executable, os.path.relpath(__file__), *again]))
    return "To try the failed videos again: " + (command if len(command) <= LONGEST_COMMAND else "the same command")


def _quoted(argument: str) -> str:
    """As shells read it; what cannot be printed, as bash reads it."""
    if argument.isprintable():
        return shlex.quote(argument)
    is_plain = [c.isascii() and c.isprintable() and c not in "\\'" for c in argument]
    codes = ["".join(f"\\x{byte:02x}" for byte in os.fsencode(c)) for c in argument]
    return "$'" + "".join(c if plain else code for c, plain, code in zip(argument, is_plain, codes, strict=True)) + "'"


def _paths(options: argparse.Namespace, suffixes: Set[str]) -> list[str]:
    """The videos that the command line names, each once."""
    return distinct(expanded(options.video_paths or _listed(options.file_with_video_paths), suffixes))


def _listed(path: str) -> list[str]:
    """What the list of videos names. Raises ValueError where it cannot be read."""
    try:
        return read_list(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"--file_with_video_paths {path}: {getattr(error, 'strerror', None) or error}") from error


def _prepare_streams() -> None:
    """A stream that is closed, or a file name that is no text, must not end the run."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _start_log(level: int | str) -> None:
    from utils.progress import LogHandler

    log.handlers = [LogHandler()]
    log.setLevel(level)
    log.propagate = False


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _number(paths: Sequence[str]) -> str:
    return "1 video" if len(paths) == 1 else f"{len(paths)} videos"


if __name__ == "__main__":
    status = main()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # while Python shuts down, a Ctrl-C would change the exit status
    sys.exit(status)
