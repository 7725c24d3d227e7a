"""A run of the program: what the command line says is checked, made a job, and done on all videos. Imports no torch."""

import contextlib
import dataclasses
import json
import logging
import multiprocessing
import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from types import ModuleType

from models.extraction import UNTRAINED, Job, with_weights
from utils import cli
from utils.devices import resolve, workers_on
from utils.errors import CannotStartError, SaveError
from utils.outputs import atomic, resume
from utils.outputs.status_log import StatusLog, failed_before
from utils.outputs.status_report import report_status
from utils.progress import Progress, start_log, write
from utils.report import FOLDER, Report
from utils.results import Row
from utils.video_list import find_videos, stem_of, unique_stems
from utils.weights.download import placed
from utils.workers import pool
from utils.workers.process import UNGUARDED_STATUS

log = logging.getLogger("video_features")


def run(command: cli.Command) -> int:
    """Check what the command line says, make the job of it, do it, and return the exit status.

    Raises CannotStartError and SaveError where it cannot begin.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # a worker that imports an unguarded script
        sys.exit(UNGUARDED_STATUS)
    config, dry_run = command.config, command.run.dry_run
    if command.run.report_only:
        return _make_overview(command)
    try:
        paths = find_videos(command.run.video_paths, command.run.file_with_video_paths, config.media_suffixes)
        if command.run.status:
            devices = []
        elif command.run.ray is not None:
            devices = command.run.slot_devices
        else:
            devices = resolve(command.run.device_ids)  # which loads torch
        config.check_devices(devices)
        extras = (("timestamps",) if command.run.save_timestamps else ()) + config.extras
        if extras and command.run.output_folder is None:
            raise ValueError(f"--save_{extras[0]} does nothing without a way of saving: add --on_extraction save_numpy")
    except ValueError as error:
        command.error(str(error))
    if command.run.status:
        return _tell_status(command, paths)
    start_log(logging.WARNING if command.run.quiet else command.run.log_level.upper())
    if command.run.ray is not None:
        _load_cluster()
    elif command.run.device_ids is None and devices == ["cpu"]:
        log.info("No GPU here: working on the CPU")
    ready, fingerprints = with_weights(config, dry_run)
    stems = unique_stems(paths)  # of the whole list, so that shards agree
    if command.run.shard:
        paths = command.run.shard.of(paths)
        stems = {path: stems[path] for path in paths if path in stems}
    if config.frames_path is not None:
        resume.probe(Path(config.frames_path), dry_run)
    output = None
    if command.run.output_folder is not None:
        output = resume.prepare(
            Path(command.run.output_folder),
            command.feature_type,
            config.suffixes,
            config.settings | fingerprints,
            (stems.get(path) or stem_of(path) for path in paths),
            command.run.overwrite,
            dry_run,
            extras,
            defaults=type(config)().settings,
        )
    uses_ray = command.run.ray is not None
    workers = devices if dry_run or uses_ray else workers_on(devices, command.run.workers_per_gpu)
    report = None
    if output is not None and command.run.report is not None:
        report = Report(output.folder / FOLDER, command.feature_type, config.title, command.run.report)
    job = Job(
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
    if dry_run:
        return _tell_plan(job, paths, command)
    if report is not None:
        report.begin(_describe_run(command, job))
    where = f"the Ray cluster {command.run.ray}" if uses_ray else ", ".join(devices)
    log.info("Extracting %s features of %s on %s", job.feature_type, _count(paths), where)
    return _extract(job, paths, command)


def _make_overview(command: cli.Command) -> int:
    """Make the report's overview and return the exit status."""
    from utils.report.overview import write_overview  # Jinja2

    assert command.run.output_folder is not None
    write(f"The report is in {write_overview(Path(command.run.output_folder))}", sys.stdout)
    return cli.EXIT_OK


def _tell_status(command: cli.Command, paths: list[str]) -> int:
    """Print what became of the videos so far, of all that there were if none are named; return the exit status."""
    options = command.run
    assert options.output_folder is not None
    wanted = (options.shard.of(paths) if options.shard else paths) if paths else None
    report = report_status(Path(options.output_folder), command.feature_type, wanted)
    write(json.dumps(report._asdict()) if options.json else report.table(), sys.stdout)
    return cli.EXIT_SOME_FAILED if report.failed or report.left else cli.EXIT_OK


def _tell_plan(job: Job, paths: list[str], command: cli.Command) -> int:
    """Print what a run would do, now that all is checked, and return the exit status."""
    for option, (weights, given) in command.config.weights_wanted().items():
        path = getattr(job.config, option)
        if path is not None:
            write(f"{weights.title} weights: {path} is {'taken as it is' if given else 'verified'}", sys.stdout)
        elif job.config.weights != "random":
            write(
                f"{weights.title} weights: {weights.urls[0]} would be downloaded to {placed(weights).path}", sys.stdout
            )
    others = Counter({"done": 0})

    def count(row: Row) -> None:
        others[row.reason or ("failed before" if row.error else "done")] += 1

    num_pending = sum(path is not None for path in _pending(job, paths, command.run, count))
    plan = [f"{num_pending} to extract on {', '.join(job.devices)}", *(f"{n} {what}" for what, n in others.items())]
    write(f"{job.feature_type} features of {_count(paths)}: {'; '.join(plan)}", sys.stdout)
    return cli.EXIT_OK


def _extract(job: Job, paths: list[str], command: cli.Command) -> int:
    """Do the job on all videos, tell how it goes, and return the exit status."""
    status = cli.EXIT_OK
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(Progress(len(paths), command.run.quiet))
        stack.callback(_remove_unfinished, job)
        status_log = None
        if job.output:
            status_log = stack.enter_context(StatusLog(job.output.folder, job.feature_type, command.run.shard))

        def note(row: Row) -> None:
            progress.add(row)  # first, to count it also where there is no room for the log
            if status_log:
                status_log.add(row)

        try:
            videos = _pending(job, paths, command.run, note)
            with contextlib.closing(_work(job, videos, command.run)) as rows:
                for row in rows:
                    note(_with_report(job, row))
        except KeyboardInterrupt:
            status = cli.EXIT_INTERRUPTED
        except CannotStartError as error:
            log.error("main.py: cannot start: %s", error)
            status = cli.EXIT_CANNOT_START
        except SaveError as error:
            log.error("main.py: stopped: %s", error)
            status = cli.EXIT_SOME_FAILED
    if job.report:
        job.report.end()
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

    def note_done(row: Row) -> None:
        note(row if options.dry_run else _with_report(job, row))

    failed = failed_before(job.output.folder, job.feature_type) if options.skip_failed else set()
    in_order = options.dry_run or options.shard is not None  # no other program does a shard's videos
    return resume.pending_videos(paths, job.stem, job.output, failed, note_done, in_order)


def _describe_run(command: cli.Command, job: Job) -> dict[str, object]:
    """Return what the report tells of a run."""
    weights = []
    for file, given in command.config.weights_wanted().values():
        is_published = given is None and job.config.weights != "random"
        source = f"published: {file.urls[0]}" if is_published else given or "random: UNTRAINED"
        weights.append({"title": file.title, "source": source, "licence": file.licence if is_published else ""})
    line = shlex.join(["python", "main.py", *command.arguments])
    return {"command": line, "folder": os.getcwd(), "devices": list(job.devices), "weights": weights}


def _with_report(job: Job, row: Row) -> Row:
    """Return the row of a video, with what there is to print of it if its features were there already."""
    if row.status != "skipped" or not row.outputs:
        return row
    return dataclasses.replace(row, report=job.config.describe_saved(row.path, row.outputs))


def _remove_unfinished(job: Job) -> None:
    """Remove what workers that were killed have left unfinished."""
    if job.output:
        for folder in {os.path.dirname(stem) for stem in job.stems.values()} | {""}:
            atomic.sweep(job.output.folder / folder)


def _count(paths: Sequence[str]) -> str:
    return "1 video" if len(paths) == 1 else f"{len(paths)} videos"
