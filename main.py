"""Extract features of videos, in parallel on any number of GPUs: `python main.py --help`."""

import argparse
import contextlib
import dataclasses
import logging
import math
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import models
from utils.devices import DeviceError, resolve
from utils.reading import Reading
from utils.video_list import distinct, expanded, read_list, stem_of, stems_of_namesakes

if TYPE_CHECKING:
    from utils.resume import Output
    from utils.settings import Settings
    from utils.workers import Done, Row

EXIT_OK, EXIT_SOME_FAILED, EXIT_USAGE, EXIT_CANNOT_START, EXIT_INTERRUPTED = 0, 1, 2, 3, 130
LOG_LEVELS = ("debug", "info", "warning", "error")
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
    parser = make_parser()
    options = parser.parse_args(arguments)
    options.arguments = sys.argv[1:] if arguments is None else arguments
    package = models.load(options.feature_type)
    try:
        values = vars(options)
        config = package.Config(**{field.name: values[field.name] for field in dataclasses.fields(package.Config)})
        reading = Reading(options.max_pixels, options.allow_partial)
        paths = _paths(options, package.MEDIA_SUFFIXES)
        devices = resolve(options.device_ids)
    except (ValueError, DeviceError) as error:
        parser.error(str(error))
    _start_log(logging.WARNING if options.quiet else options.log_level.upper())
    job = Job(
        feature_type=options.feature_type,
        config=config,
        reading=reading,
        frames_path=options.tmp_path if options.keep_frames else None,
        stems=stems_of_namesakes(paths),
        num_threads=max(1, len(os.sched_getaffinity(0)) // len(devices)),
    )
    if options.device_ids is None and devices == ["cpu"]:
        log.info("No GPU here: working on the CPU")
    return run(job, paths, devices, options)


def run(job: "Job", paths: list[str], devices: list[str], options: argparse.Namespace) -> int:
    """Do the job on all videos, tell how it goes, and give the exit status."""
    from utils import workers
    from utils.files import SaveError
    from utils.progress import Progress
    from utils.settings import SettingsError
    from utils.weights import WeightsError

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
            rows = workers.run(job, devices, videos, options.timeout_per_video)
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


@dataclass(frozen=True)
class Job:
    """What workers do: a job, called with a device, loads the networks and gives the function for one video."""

    feature_type: str
    config: Any
    reading: Reading
    frames_path: str | None
    stems: Mapping[str, str]
    num_threads: int
    output: "Output | None" = None

    def __call__(self, device: str) -> "Work":
        # Threads that wait for each other sleep, so that other work on the cores costs no more than its share.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded
        import torch

        from utils.weights import WeightsError
        from utils.workers import CannotStartError

        torch.set_num_threads(self.num_threads)
        try:
            return Work(self, models.load_extractor(self.feature_type)(self.config, device))
        except (WeightsError, ValueError) as error:
            raise CannotStartError(str(error)) from error

    def stem(self, path: str) -> str:
        """What the outputs of a video are called after, below the output path."""
        return self.stems.get(path) or stem_of(path)


@dataclass(frozen=True)
class Work:
    """Extracts the features of one video, and saves or describes them."""

    job: Job
    extractor: Any

    def __call__(self, path: str, opened: Callable[[float], None]) -> "Done | None":
        """Raises what the video fails with; gives None where another program has done it meanwhile."""
        from torch import AcceleratorError

        from utils.workers import BrokenWorkerError

        stem, output = self.job.stem(path), self.job.output
        if output is not None and output.is_done(stem):
            output.check_owner(path, stem)
            return None
        try:
            return self._extract(path, stem, opened)
        except AcceleratorError as error:  # after which a GPU does nothing more for this process
            raise BrokenWorkerError(str(error)) from error

    def _extract(self, path: str, stem: str, opened: Callable[[float], None]) -> "Done":
        from utils import sinks
        from utils.workers import Done

        frames_folder = Path(self.job.frames_path, f"{stem}_frames") if self.job.frames_path else None
        reading = dataclasses.replace(self.job.reading, opened=opened)
        features = self.extractor.extract(path, frames_folder, reading)
        if self.job.output is None:
            report = "\n".join(filter(None, [sinks.text_of(path, features), features.report]))
            return Done([], features.seconds, report, features.losses)
        outputs = sinks.save_numpy(features, self.job.output.folder, stem)
        return Done(outputs, features.seconds, f"{path}\n{features.report}" if features.report else "", features.losses)


def with_weights(job: Job) -> tuple[Job, "Settings"]:
    """The job with the places of its weights, downloaded if need be, and what tells those weights apart."""
    from utils import weights

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
    from utils import resume
    from utils.status import failed_before

    if job.frames_path is not None:
        resume.probe(Path(job.frames_path))
    if options.on_extraction == "print":
        return job, paths
    folder, settings = Path(options.output_path), job.config.settings | fingerprints
    stems = map(job.stem, paths)
    output = resume.prepare(folder, job.feature_type, job.config.suffixes, settings, stems, options.overwrite)
    failed = failed_before(folder, job.feature_type) if options.skip_failed else set()
    return dataclasses.replace(job, output=output), resume.sort_out(paths, job.stem, output, failed)


def _logged(rows: Iterator["Row"], job: Job) -> Iterator["Row"]:
    """The rows, each also written to the log in the output folder, if there is one. Raises SaveError."""
    from utils.status import StatusLog

    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(rows))  # type: ignore[type-var]
        add = stack.enter_context(StatusLog(job.output.folder, job.feature_type)).add if job.output else None
        for row in rows:
            if add is not None:
                add(row)
            yield row


@contextlib.contextmanager
def _cleaned_up(job: Job) -> Iterator[None]:
    """In the end, no temporaries of workers that were killed are left."""
    from utils.files import sweep

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
    command = shlex.join([sys.executable, sys.argv[0], *again])
    return "To try the failed videos again: " + (command if len(command) <= LONGEST_COMMAND else "the same command")


def make_parser() -> argparse.ArgumentParser:
    """The command line: the options that all extractors share, and those of each."""
    parser = _Parser(
        description="Extract features of videos, in parallel on any number of GPUs.",
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )
    option = parser.add_argument
    option("--feature_type", required=True, choices=models.EXTRACTORS, help="what to extract")

    option = parser.add_argument_group("videos, one of").add_mutually_exclusive_group(required=True).add_argument
    option("--video_paths", nargs="+", metavar="PATH", help="the videos; a folder or a glob means the media in it")
    option("--file_with_video_paths", metavar="TXT", help="a file that names them, one a line")

    option = parser.add_argument_group("devices").add_argument
    option(
        "--device_ids",
        nargs="+",
        metavar="ID",
        help="a worker for each: a GPU's number, or cpu, which can be repeated (default: all GPUs, or else cpu)",
    )

    option = parser.add_argument_group("output").add_argument
    option("--on_extraction", choices=("print", "save_numpy"), default="print", help="what to do with the features")
    option("--output_path", default="./output", metavar="FOLDER", help="where save_numpy puts <video>_<stream>.npy")
    option("--overwrite", action="store_true", help="extract videos again whose features are there")
    option("--skip_failed", action="store_true", help="leave out the videos that failed in an earlier run")
    option("--keep_frames", action="store_true", help="also write I3D's scaled frames to <tmp_path>/<video>_frames")
    option("--tmp_path", default="./tmp", metavar="FOLDER", help="where --keep_frames writes to")

    option = parser.add_argument_group("damaged, huge and endless videos").add_argument
    option("--allow_partial", action="store_true", help="extract what can be read of a damaged video; else it fails")
    option("--max_pixels", type=int, metavar="N", default=Reading.max_pixels, help="pixels that a frame may have")
    option(
        "--timeout_per_video",
        type=_seconds,
        metavar="SECONDS",
        help="how long a video may take (default: ten times its length, and at least ten minutes)",
    )

    option = parser.add_argument_group("messages, on stderr").add_argument
    option("--log_level", choices=LOG_LEVELS, default="info", help="the least grave messages to show")
    option("--quiet", action="store_true", help="show warnings and errors only, and no progress")

    option = parser.add_argument_group("weights").add_argument
    option(
        "--weights",
        choices=("pretrained", "random"),
        default="pretrained",
        help="published weights, downloaded at first use; or untrained ones, to try the program out",
    )
    for name in models.EXTRACTORS:
        models.load(name).add_options(parser)
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: must be a number of seconds above 0")
    return seconds


class _Parser(argparse.ArgumentParser):
    """Answers a wrong option with one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Tells the defaults, where there are any."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False) or isinstance(action.default, tuple):
            return action.help
        return super()._get_help_string(action)


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
    sys.exit(main())
