"""A run of the program: what the command line says is checked, made a job, and done on all videos. Imports no torch."""

import contextlib
import dataclasses
import logging
import multiprocessing
import os
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from types import ModuleType

from models.extraction import UNTRAINED, Job, with_weights
from utils import cli
from utils.devices import resolve, workers_on
from utils.errors import CannotStartError, SaveError
from utils.outputs import atomic, resume
from utils.outputs.status_log import StatusLog, failed_before
from utils.progress import Progress, start_log
from utils.results import Row
from utils.video_list import find_videos, stem_of, unique_stems
from utils.workers import pool
from utils.workers.process import UNGUARDED_STATUS

log = logging.getLogger("video_features")


def run(command: cli.Command) -> int:
    """Check what the command line says, make the job of it, do it, and return the exit status.

    Raises CannotStartError and SaveError where it cannot begin.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # a worker that imports an unguarded script
        sys.exit(UNGUARDED_STATUS)
    config = command.config
    try:
        paths = find_videos(command.run.video_paths, command.run.file_with_video_paths, config.media_suffixes)
        devices = resolve(command.run.device_ids) if command.run.ray is None else command.run.slot_devices
        config.check_devices(devices)
    except ValueError as error:
        command.error(str(error))
    start_log(logging.WARNING if command.run.quiet else command.run.log_level.upper())
    if command.run.ray is not None:
        _load_cluster()
    elif command.run.device_ids is None and devices == ["cpu"]:
        log.info("No GPU here: working on the CPU")
    ready, fingerprints = with_weights(config)
    stems = unique_stems(paths)
    if config.frames_path is not None:
        resume.probe(Path(config.frames_path))
    output = None
    if command.run.output_folder is not None:
        output = resume.prepare(
            Path(command.run.output_folder),
            command.feature_type,
            config.suffixes,
            config.settings | fingerprints,
            (stems.get(path) or stem_of(path) for path in paths),
            command.run.overwrite,
        )
    where = ", ".join(devices)
    if command.run.ray is None:
        config, devices = ready, workers_on(devices, command.run.workers_per_gpu)
    else:
        where = f"the Ray cluster {command.run.ray}"  # where each node finds its weights
    job = Job(command.feature_type, config, command.decode, stems, output, tuple(devices), fingerprints=fingerprints)
    log.info("Extracting %s features of %s on %s", job.feature_type, _count(paths), where)
    return _extract(job, paths, command)


def _extract(job: Job, paths: list[str], command: cli.Command) -> int:
    """Do the job on all videos, tell how it goes, and return the exit status."""
    status = cli.EXIT_OK
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(Progress(len(paths), command.run.quiet))
        stack.callback(_remove_unfinished, job)
        status_log = None
        if job.output:
            status_log = stack.enter_context(StatusLog(job.output.folder, job.feature_type))

        def note(row: Row) -> None:
            progress.add(row)  # first, to count it also where there is no room for the log
            if status_log:
                status_log.add(row)

        try:
            videos = _pending(job, paths, command.run.skip_failed, note)
            with contextlib.closing(_work(job, videos, command.run)) as rows:
                for row in rows:
                    note(row)
        except KeyboardInterrupt:
            status = cli.EXIT_INTERRUPTED
        except CannotStartError as error:
            log.error("main.py: cannot start: %s", error)
            status = cli.EXIT_CANNOT_START
        except SaveError as error:
            log.error("main.py: stopped: %s", error)
            status = cli.EXIT_SOME_FAILED
    if status != cli.EXIT_CANNOT_START or progress.num_done:
        log.info("%s%s", "Interrupted: " if status == cli.EXIT_INTERRUPTED else "", progress.summary())
    has_failed = progress.counts["failed"] > 0
    if has_failed:
        log.info("To try the failed videos again, run the same command again")
    if job.config.weights == "random":
        log.warning(UNTRAINED)
    return status or (cli.EXIT_SOME_FAILED if has_failed or progress.num_done < len(paths) else cli.EXIT_OK)


def _work(job: Job, videos: Iterator[str | None], options: cli.RunOptions) -> Generator[Row, None, None]:
    """Work on videos with one of the two engines: processes of this machine, or Ray."""
    if options.ray is None:
        return pool.run(job, job.devices, videos, options.timeout_per_video)
    driver = _load_cluster()
    cluster = driver.Cluster(options.ray, options.cpus_per_slot, options.max_slots)
    rows: Generator[Row, None, None] = driver.run(job, cluster, videos, options.timeout_per_video)
    return rows


def _load_cluster() -> ModuleType:
    """Return the module that needs Ray. Raises CannotStartError."""
    try:
        from utils.cluster import driver
    except ImportError as error:
        raise CannotStartError(f'--ray needs Ray: pip install "ray[data]>=2.50,<2.64" ({error})') from error
    return driver


def _pending(job: Job, paths: list[str], skip_failed: bool, note: Callable[[Row], None]) -> Iterator[str | None]:
    """Return the videos that are to be done; those that are done already are noted when it is their turn."""
    if job.output is None:
        return iter(paths)

    def note_done(row: Row) -> None:
        if row.status == "skipped" and row.outputs:
            row = dataclasses.replace(row, report=job.config.describe_saved(row.path, row.outputs))
        note(row)

    failed = failed_before(job.output.folder, job.feature_type) if skip_failed else set()
    return resume.pending_videos(paths, job.stem, job.output, failed, note_done)


def _remove_unfinished(job: Job) -> None:
    """Remove what workers that were killed have left unfinished."""
    if job.output:
        for folder in {os.path.dirname(stem) for stem in job.stems.values()} | {""}:
            atomic.sweep(job.output.folder / folder)


def _count(paths: Sequence[str]) -> str:
    return "1 video" if len(paths) == 1 else f"{len(paths)} videos"
