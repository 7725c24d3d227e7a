"""A run of the program: what the command line says is checked, made a job, and done on all videos. Imports no torch."""

import contextlib
import dataclasses
import logging
import multiprocessing
import os
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType

from models.extraction import UNTRAINED, Job, with_weights
from models.tell import begin_report, count_videos, end_report, tell_pack, tell_plan, tell_report, tell_status
from utils import cli
from utils.devices import resolve, workers_on
from utils.errors import CannotStartError, CollisionError, SaveError
from utils.outputs import atomic, resume
from utils.outputs.files import STEM, Files, check_apart
from utils.outputs.status_log import StatusLog, failed_before
from utils.outputs.writers import extra_path
from utils.progress import Progress, start_log
from utils.report import FOLDER, Report
from utils.results import Row
from utils.video_list import find_videos, stem_of, unique_stems
from utils.workers import pool
from utils.workers.process import UNGUARDED_STATUS

log = logging.getLogger("video_features")


def run(command: cli.Command) -> int:
    """Check what the command line says, do it, and return the exit status.

    Raises CannotStartError and SaveError where it cannot begin.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # a worker that imports an unguarded script
        sys.exit(UNGUARDED_STATUS)
    config, options = command.config, command.run
    if options.report_only:
        return tell_report(command)
    if options.pack:
        return tell_pack(command)
    try:
        paths = find_videos(options.video_paths, options.file_with_video_paths, config.media_suffixes)
        if options.status:
            devices = []
        elif options.ray is not None:
            devices = options.slot_devices
        else:
            devices = resolve(options.device_ids)  # which loads torch
        config.check_devices(devices)
        extras = (("timestamps",) if options.save_timestamps else ()) + config.extras
        files = _name_files(command, extras)
    except ValueError as error:
        command.error(str(error))
    if options.status:
        return tell_status(command, paths)
    start_log(logging.WARNING if options.quiet else options.log_level.upper())
    if command.caution:
        log.warning(command.caution)
    if options.ray is not None:
        _load_cluster()
    elif options.device_ids is None and devices == ["cpu"]:
        log.info("No GPU here: working on the CPU")
    stems = unique_stems(paths)  # of the whole list, so that shards agree
    if options.shard:
        paths = options.shard.of(paths)
        stems = {path: stems[path] for path in paths if path in stems}
    try:
        job = _make_job(command, paths, stems, devices, files, extras)
    except CollisionError as error:
        command.error(str(error))
    if options.dry_run:
        return tell_plan(command, job, paths, partial(_pending, job, paths, options))
    if job.report:
        begin_report(job.report, command, job)
    where = ", ".join(devices) if options.ray is None else f"the Ray cluster {options.ray}"
    log.info("Extracting %s features of %s on %s", job.feature_type, count_videos(len(paths)), where)
    return _extract(job, paths, options)


def _name_files(command: cli.Command, extras: Sequence[str]) -> Files:
    """Return what files of features are called and how they are laid out. Raises ValueError."""
    config, options = command.config, command.files
    for name in (*(f"save_{extra}" for extra in extras), *options.given):
        if command.run.output_folder is None:
            raise ValueError(f"--{name} does nothing without a way of saving: add --on_extraction save_numpy")
        if config.has_maps and name in ("concatenate", "transpose"):
            raise ValueError(f"--{name}: the rows of {command.feature_type} features are pictures")
    files = Files(command.feature_type, config.suffixes, config.num_crops, options)
    names = [*files.all_names, *(str(extra_path(Path(), STEM, extra)) for extra in extras)]
    check_apart(f"--output_name {options.output_name}", names)
    return files


def _make_job(
    command: cli.Command,
    paths: list[str],
    stems: dict[str, str],
    devices: list[str],
    files: Files,
    extras: tuple[str, ...],
) -> Job:
    """Find the weights, prepare the output folder, and return the job. Raises CannotStartError and SaveError."""
    config, options = command.config, command.run
    ready, fingerprints = with_weights(config, options.dry_run)
    if config.frames_path is not None:
        resume.probe(Path(config.frames_path), options.dry_run)
    output = report = None
    if options.output_folder is not None:
        output = resume.prepare(
            Path(options.output_folder),
            files,
            config.settings | fingerprints,
            (stems.get(path) or stem_of(path) for path in paths),
            options.overwrite,
            options.dry_run,
            extras,
            defaults=config.default_settings,
        )
        output = dataclasses.replace(output, is_told_again=config.shows_predictions)
        if options.report is not None:
            report = Report(output.folder / FOLDER, command.feature_type, config.title, options.report)
    uses_ray = options.ray is not None
    workers = devices if options.dry_run or uses_ray else workers_on(devices, options.workers_per_gpu)
    return Job(
        command.feature_type,
        ready,
        command.decode,
        stems,
        output,
        tuple(workers),
        report,
        fingerprints=fingerprints,
        given_config=config if uses_ray else None,
    )


def _extract(job: Job, paths: list[str], options: cli.RunOptions) -> int:
    """Do the job on all videos, tell how it goes, and return the exit status."""
    status = cli.EXIT_OK
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(Progress(len(paths), options.quiet))
        stack.callback(_remove_unfinished, job, paths)
        status_log = None
        if job.output:
            status_log = stack.enter_context(StatusLog(job.output.folder, job.feature_type, options.shard))

        def note(row: Row) -> None:
            progress.add(row)  # first, to count it also where there is no room for the log
            if status_log:
                status_log.add(row)

        try:
            videos = _pending(job, paths, options, note)
            with contextlib.closing(_work(job, videos, options)) as rows:
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
    if job.report:
        end_report(job.report)
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


def _pending(job: Job, paths: list[str], options: cli.RunOptions, note: Callable[[Row], None]) -> Iterator[str | None]:
    """Return the videos that are to be done; those that are done already are noted when it is their turn."""
    if job.output is None or not job.output.folder.exists():  # as before the first run
        return iter(paths)

    failed = failed_before(job.output.folder, job.feature_type) if options.skip_failed else set()
    in_order = options.dry_run or options.shard is not None  # no other program does a shard's videos
    return resume.pending_videos(paths, job.stem, job.output, failed, note, in_order)


def _remove_unfinished(job: Job, paths: list[str]) -> None:
    """Remove what workers that were killed have left unfinished."""
    if job.output:
        top = job.output.folder
        has_folder_each = any(STEM in os.path.dirname(name) for name in job.output.files.all_names)
        stems = map(job.stem, paths) if has_folder_each else ["x", *job.stems.values()]
        files = (file for stem in stems for file in [str(top / stem), *job.output.paths(stem)])
        for folder in set(map(os.path.dirname, files)):
            atomic.sweep(Path(folder))
