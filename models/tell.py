"""What a run tells besides its messages: --status, --dry_run and the report's overview. Imports no torch.

Nothing is extracted here. What needs Jinja2 is imported where there is a report.
"""

import json
import logging
import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from models.extraction import Job
from utils import cli
from utils.errors import CannotStartError
from utils.outputs.status_report import report_status
from utils.progress import write
from utils.report import Report, warning_only
from utils.results import Row
from utils.weights.download import placed
from utils.weights.published import WeightsFile

log = logging.getLogger("video_features")


def tell_status(command: cli.Command, paths: list[str]) -> int:
    """Print what became of the videos so far, of all that there were if none are named; return the exit status."""
    options = command.run
    assert options.output_folder is not None
    wanted = (options.shard.of(paths) if options.shard else paths) if paths else None
    report = report_status(Path(options.output_folder), command.feature_type, wanted)
    write(json.dumps(report._asdict()) if options.json else report.table(), sys.stdout)
    return cli.EXIT_SOME_FAILED if report.failed or report.left else cli.EXIT_OK


def tell_plan(command: cli.Command, job: Job, paths: list[str], pending: Callable[..., Iterator[str | None]]) -> int:
    """Print what a run would do, now that all is checked, and return the exit status.

    `pending` gives the videos to extract, and hands the rows of the others to a function.
    """
    for option, (weights, given) in command.config.weights_wanted().items():
        path = getattr(job.config, option)
        if path is not None:
            is_verified = given is None and isinstance(weights, WeightsFile)
            write(f"{weights.title} weights: {path} is {'verified' if is_verified else 'taken as it is'}", sys.stdout)
        elif job.config.weights != "random":
            write(f"{weights.title} weights: {weights.url} would be downloaded to {placed(weights).path}", sys.stdout)
    others = Counter({"done": 0})

    def count(row: Row) -> None:
        others[row.reason or ("failed before" if row.error else "done")] += 1

    num_pending = sum(path is not None for path in pending(count))
    plan = [f"{num_pending} to extract on {', '.join(job.devices)}", *(f"{n} {what}" for what, n in others.items())]
    write(f"{job.feature_type} features of {count_videos(len(paths))}: {'; '.join(plan)}", sys.stdout)
    return cli.EXIT_OK


def tell_report(command: cli.Command) -> int:
    """Make the overview of the folder that is there, print where it is, and return the exit status."""
    from utils.report.overview import write_overview

    assert command.run.output_folder is not None
    write(f"The report is in {write_overview(Path(command.run.output_folder))}", sys.stdout)
    return cli.EXIT_OK


def tell_pack(command: cli.Command) -> int:
    """Pack what is saved into the HDF5 file, print how much, and return the exit status."""
    try:
        from utils.outputs.pack import find_files, pack
    except ImportError as error:
        raise CannotStartError(f'--pack needs h5py: pip install "h5py>=3.10" ({error})') from error
    options = command.run
    assert options.output_folder is not None
    assert options.pack is not None
    folder, key = Path(options.output_folder), options.key or "{stem}/{suffix}"
    try:
        files, since = find_files(folder, command.feature_type, command.config.suffixes, command.files)
        num_packed, num_new, num_left_out = pack(Path(options.pack), folder, files, since, key)
    except ValueError as error:
        command.error(str(error))
    told = f"{options.pack}: {command.feature_type} features of {count_videos(num_packed)}, new or changed: {num_new}"
    write(told + (f", left out as not whole: {num_left_out}" if num_left_out else ""), sys.stdout)
    return cli.EXIT_OK


def begin_report(report: Report, command: cli.Command, job: Job) -> None:
    """Write down what the overview is to tell of this run."""
    weights = []
    for file, given in command.config.weights_wanted().values():
        is_published = given is None and job.config.weights != "random"
        source = f"published: {file.url}" if is_published else given or "random: UNTRAINED"
        weights.append({"title": file.title, "source": source, "licence": file.licence if is_published else ""})
    line = shlex.join(["python", "main.py", *command.arguments])
    with warning_only(report.folder):
        from utils.report.overview import note_run

        note_run(report, {"command": line, "folder": os.getcwd(), "devices": list(job.devices), "weights": weights})


def end_report(report: Report) -> None:
    """Make the overview."""
    with warning_only(report.folder):
        from utils.report.overview import write_overview

        log.info("The report is in %s", write_overview(report.folder.parent))


def count_videos(number: int) -> str:
    """Return a number of videos, in words."""
    return "1 video" if number == 1 else f"{number} videos"
