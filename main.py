"""Extract features of videos, in parallel on any number of GPUs: `python main.py --help`."""

import argparse
import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import models
from utils.devices import DeviceError, resolve
from utils.video_list import distinct, expanded, read_list, stem_of, stems_of_namesakes

if TYPE_CHECKING:
    from utils.settings import Settings
    from utils.workers import Done

EXIT_OK, EXIT_SOME_FAILED, EXIT_USAGE, EXIT_CANNOT_START, EXIT_INTERRUPTED = 0, 1, 2, 3, 130
UNTRAINED = "WARNING: --weights random: the networks are UNTRAINED, and these features mean NOTHING"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program with a command line; gives the exit status. A wrong option raises SystemExit with status 2."""
    try:
        return _main(arguments)
    except KeyboardInterrupt:  # before there are workers
        _tell("Interrupted")
        return EXIT_INTERRUPTED


def _main(arguments: Sequence[str] | None) -> int:
    """Options -> checks -> run."""
    for stream in (sys.stdout, sys.stderr):  # a file name that is no text must not end the run
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    parser = make_parser()
    options = parser.parse_args(arguments)
    package = models.load(options.feature_type)
    try:
        values = vars(options)
        config = package.Config(**{field.name: values[field.name] for field in dataclasses.fields(package.Config)})
        paths = _paths(options, package.MEDIA_SUFFIXES)
        devices = resolve(options.device_ids)
    except (ValueError, DeviceError) as error:
        parser.error(str(error))
    job = Job(
        feature_type=options.feature_type,
        config=config,
        output_path=options.output_path if options.on_extraction == "save_numpy" else None,
        frames_path=options.tmp_path if options.keep_frames else None,
        stems=stems_of_namesakes(paths),
        num_threads=max(1, len(os.sched_getaffinity(0)) // len(devices)),
    )
    if options.device_ids is None and devices == ["cpu"]:
        _tell("No GPU here: working on the CPU")
    return run(job, paths, devices, options.overwrite)


def run(job: "Job", paths: list[str], devices: list[str], overwrite: bool) -> int:
    """Do the job on all videos, tell how it goes, and give the exit status."""
    from utils import workers
    from utils.progress import Progress
    from utils.settings import SettingsError
    from utils.weights import WeightsError

    untrained = job.config.weights == "random"
    try:
        job, fingerprints = with_weights(job)
        todo = not_done(job, paths, job.config.settings | fingerprints, overwrite)
        videos = "1 video" if len(todo) == 1 else f"{len(todo)} videos"
        _tell(f"Extracting {job.feature_type} features of {videos} on {', '.join(devices)}")
        with Progress(len(todo), num_skipped=len(paths) - len(todo)) as progress:
            status = EXIT_OK
            try:
                for row in workers.run(job, devices, todo):
                    progress.add(row)
            except KeyboardInterrupt:
                status = EXIT_INTERRUPTED
    except (WeightsError, SettingsError, workers.CannotStartError) as error:
        _tell(f"main.py: cannot start: {error}")
        return EXIT_CANNOT_START
    _tell(("Interrupted: " if status else "") + progress.summary())
    if untrained:
        _tell(UNTRAINED)
    return status or (EXIT_SOME_FAILED if progress.counts["failed"] else EXIT_OK)


@dataclass(frozen=True)
class Job:
    """What workers do: a job, called with a device, loads the networks and gives the function for one video."""

    feature_type: str
    config: Any
    output_path: str | None
    frames_path: str | None
    stems: Mapping[str, str]
    num_threads: int

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

    def __call__(self, path: str) -> "Done":
        from utils import sinks
        from utils.workers import Done

        stem = self.job.stem(path)
        frames_folder = Path(self.job.frames_path, f"{stem}_frames") if self.job.frames_path else None
        features = self.extractor.extract(path, frames_folder)
        if self.job.output_path is None:
            return Done([], features.seconds, "\n".join(filter(None, [sinks.text_of(path, features), features.report])))
        outputs = sinks.save_numpy(features, Path(self.job.output_path), stem)
        return Done(outputs, features.seconds, f"{path}\n{features.report}" if features.report else "")


def with_weights(job: Job) -> tuple[Job, "Settings"]:
    """The job with the places of its weights, downloaded if need be, and what tells those weights apart."""
    from utils import weights

    wanted = models.load(job.feature_type).weights_wanted(job.config)
    fingerprints: Settings = {}
    if job.config.weights == "random":
        _tell(UNTRAINED)
        fingerprints = dict.fromkeys(wanted, "random")
        wanted = {option: (file, given) for option, (file, given) in wanted.items() if given is not None}
    places = weights.obtain(wanted)
    fingerprints |= {option: weights.fingerprint(file, given) for option, (file, given) in wanted.items()}
    config = dataclasses.replace(job.config, **{option: str(place) for option, place in places.items()})
    return dataclasses.replace(job, config=config), fingerprints


def not_done(job: Job, paths: list[str], settings: "Settings", overwrite: bool) -> list[str]:
    """The videos whose features are not yet in the output folder, which is made ready for them.

    Raises SettingsError where it holds features that were made otherwise.
    """
    if job.output_path is None:
        return paths
    from utils import sinks
    from utils.settings import SettingsError, differences, record, recorded

    folder = Path(job.output_path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise SettingsError(f"--output_path {folder}: no permission to write there")
        before = recorded(folder, job.feature_type)
        done = {path for path in paths if sinks.is_saved(folder, job.stem(path), job.config.suffixes)}
        if not overwrite:
            changed = differences(before, settings)
            if not before and done:
                changed = f"{len(done)} of these videos' files, made nobody knows how"
            if changed:
                raise SettingsError(
                    f"{folder} holds other {job.feature_type} features: {changed}. Give another --output_path, or "
                    "--overwrite to extract anew"
                )
        record(folder, job.feature_type, before | settings)
    except OSError as error:
        raise SettingsError(f"--output_path {folder}: {error.strerror}") from error
    return paths if overwrite else [path for path in paths if path not in done]


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
    option("--video_paths", nargs="+", metavar="PATH", help="the videos")
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
    option("--keep_frames", action="store_true", help="also write I3D's scaled frames to <tmp_path>/<video>_frames")
    option("--tmp_path", default="./tmp", metavar="FOLDER", help="where --keep_frames writes to")

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


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
