"""The command line, parsed in two steps: --feature_type first, then that extractor's options and the common ones.

Options are fields of frozen dataclasses, which check their values. Imports nothing heavy: help comes at once.
"""

import argparse
import dataclasses
import difflib
import inspect
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, TypeVar

from utils.devices import CPU, MAX_WORKERS_PER_GPU
from utils.media.options import DecodeOptions
from utils.option import option
from utils.outputs.files import FileOptions, check_template
from utils.video_list import Shard

PAGES = 20

Group = TypeVar("Group")

EXIT_OK, EXIT_SOME_FAILED, EXIT_WRONG_OPTION, EXIT_CANNOT_START, EXIT_INTERRUPTED = 0, 1, 2, 3, 130

EXAMPLES = """\
examples:
  python main.py --feature_type i3d --device_ids 0 2 --video_paths a.mp4 "my video.mkv"
  python main.py --feature_type i3d --file_with_video_paths list.txt --on_extraction save_numpy --output_path ./features
  python main.py --feature_type vggish --video_paths ./videos --on_extraction save_numpy
  python main.py --feature_type vggish --video_paths ./videos --status

exit status: 0 all videos are done; 1 some failed; 2 a wrong option; 3 it cannot start (weights, device, output
folder); 130 interrupted
"""


def _parse_shard(text: str) -> Shard:
    """Return the shard that `3/8` means. Raises ArgumentTypeError, whose message argparse shows."""
    match = re.fullmatch("([0-9]{1,9})/([0-9]{1,9})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r}: must be K/N, with K from 1 to N, as 3/8")
    return Shard(int(match[1]), int(match[2]))


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The videos, the devices, the outputs and the messages of a run."""

    title = "videos, devices, outputs and messages"

    video_paths: tuple[str, ...] | None = option(
        None, "the videos; a folder or a pattern stands for the media in it", nargs="+", metavar="PATH"
    )
    file_with_video_paths: str | None = option(None, "or a file that names them, one a line", metavar="TXT")
    shard: Shard | None = option(  # noqa: RUF009, it gives a field
        None,
        "work on every N-th of the videos, from the K-th on: one of N even parts that share an output folder",
        type=_parse_shard,
        metavar="K/N",
    )
    device_ids: tuple[str, ...] | None = option(
        None,
        "the numbers of GPUs, or cpu, which can be repeated for more workers (default: all GPUs, or else cpu)",
        nargs="+",
        metavar="ID",
    )
    workers_per_gpu: int | None = option(
        None,
        f"worker processes that share a GPU (default: by its free memory, at most {MAX_WORKERS_PER_GPU})",
        type=int,
        metavar="N",
    )
    ray: str | None = option(
        None, "do it on a Ray cluster: auto (the one of this machine), local, or HOST:PORT", metavar="ADDRESS"
    )
    cpus_per_slot: int | None = option(
        None, "with --ray, work on N CPU cores at a time, in place of a GPU", type=int, metavar="N"
    )
    max_slots: int | None = option(
        None, "with --ray, how many GPUs, or times N cores, to use (default: all)", type=int, metavar="N"
    )
    timeout_per_video: float | None = option(
        None,
        "how long a video may take (default: ten times its length for each worker on its device, at least ten minutes)",
        type=float,
        metavar="SECONDS",
    )
    on_extraction: str = option("print", "what to do with the features", choices=("print", "save_numpy"))
    output_path: str | None = option(
        None, "where save_numpy puts <video>_<stream>.npy (default: ./output)", metavar="FOLDER"
    )
    save_timestamps: bool = option(
        False, "also save the begin and end of each row of features, in seconds, as <video>_timestamps.npy"
    )
    report: int | None = option(
        None,
        f"make <output_path>/report/index.html, and a page of each of the first N videos ({PAGES}), to look at",
        nargs="?",
        const=PAGES,
        type=int,
        metavar="N",
    )
    report_only: bool = option(False, "make the report's overview of what the output folder tells, and do nothing else")
    pack: str | None = option(
        None, "put the features of the output folder into one HDF5 file, add to it, and do nothing else", metavar="H5"
    )
    key: str | None = option(
        None,
        "with --pack, what a dataset is called, with fields as those of --output_name (default: {stem}/{suffix})",
        metavar="TEMPLATE",
    )
    overwrite: bool = option(False, "extract videos again whose features are there")
    skip_failed: bool = option(False, "leave out the videos that failed in an earlier run")
    status: bool = option(False, "tell what became of the videos, in all runs and shards so far, and do nothing else")
    json: bool = option(False, "tell the status as a JSON object")
    dry_run: bool = option(False, "check what a run needs, tell how many videos it would extract, and do nothing")
    log_level: str = option("info", "the least grave messages to show", choices=("debug", "info", "warning", "error"))
    quiet: bool = option(False, "show warnings and errors only, and no progress")

    def __post_init__(self) -> None:
        if self.report is not None and self.report < 0:
            raise ValueError(f"--report {self.report}: must be a number of pages, or 0 for the overview alone")
        can_do_without = self.report_only or self.pack or (self.status and not self.shard)
        if self.video_paths is None and self.file_with_video_paths is None and not can_do_without:
            raise ValueError("one of --video_paths and --file_with_video_paths is needed")
        if self.video_paths is not None and self.file_with_video_paths is not None:
            raise ValueError("--video_paths and --file_with_video_paths do not go together")
        if self.workers_per_gpu is not None and self.workers_per_gpu < 1:
            raise ValueError(f"--workers_per_gpu {self.workers_per_gpu}: must be at least 1")
        self._check_ray()
        if self.timeout_per_video is not None and not 0 < self.timeout_per_video < math.inf:
            raise ValueError(f"--timeout_per_video {self.timeout_per_video}: must be a number of seconds above 0")
        if self.key is not None:
            if not self.pack:
                raise ValueError(f"--key {self.key}: is for --pack")
            check_template("--key", self.key)
        if self.json and not self.status:
            raise ValueError("--json is how --status tells: add --status")
        options: tuple[str, ...] = ("dry_run", "output_path", "overwrite", "skip_failed", "save_timestamps", "report")
        if self.pack:
            options += ("video_paths", "file_with_video_paths", "shard")
        given = [name for name in options if getattr(self, name) is not None and getattr(self, name) is not False]
        actions = [name for name in ("status", "report_only", "pack") if getattr(self, name)]
        for name in [*given, *actions[1:]]:
            if actions and name != "output_path":
                raise ValueError(f"--{actions[0]} and --{name} do not go together")
        if self.shard and self.overwrite:
            raise ValueError("--shard and --overwrite do not go together: give another --output_path")
        for name in given:
            if self.output_folder is None and name != "dry_run":
                raise ValueError(f"--{name} does nothing without a way of saving: add --on_extraction save_numpy")

    def _check_ray(self) -> None:
        for name in ("cpus_per_slot", "max_slots"):
            value = getattr(self, name)
            if value is not None and self.ray is None:
                raise ValueError(f"--{name} is about the slots of a Ray cluster: it needs --ray")
            if value is not None and value < 1:
                raise ValueError(f"--{name} {value}: must be at least 1")
        if self.ray is None:
            return
        if self.device_ids is not None:
            raise ValueError("--device_ids with --ray: Ray finds the GPUs; --max_slots bounds them")
        if self.workers_per_gpu is not None:
            raise ValueError("--workers_per_gpu with --ray: there a GPU has one worker")
        if self.ray not in ("auto", "local") and not re.fullmatch(
            r"[^:/\s]+:\d{1,5}|\[[\da-fA-F:.]+\]:\d{1,5}", self.ray
        ):
            raise ValueError(f"--ray {self.ray}: must be auto, local, or HOST:PORT of a cluster")

    @property
    def slot_devices(self) -> list[str]:
        """The device that each slot of a Ray cluster has."""
        return ["cuda:0" if self.cpus_per_slot is None else CPU]

    @property
    def output_folder(self) -> str | None:
        """The output folder, if features are saved, or were."""
        is_saved = self.on_extraction != "print" or self.status or self.report_only or self.pack
        return self.output_path or "./output" if is_saved else None


COMMON = (RunOptions, FileOptions, DecodeOptions)


class Recipes(Protocol):
    """Settings with a name, of which each sets options of an extractor."""

    def find(self, name: str, feature_type: str | None) -> tuple[Sequence[str], str]:
        """Return options as words, and what a run with them is to say, if anything. Raises ValueError."""

    def describe(self) -> str:
        """Return all as text."""


@dataclass(frozen=True)
class Command:
    """A command line, as parsed."""

    feature_type: str
    config: Any
    run: RunOptions
    files: FileOptions
    decode: DecodeOptions
    arguments: tuple[str, ...]
    error: Callable[[str], NoReturn]
    """Ends the program with a message, as for a wrong option."""

    caution: str
    """What a run is to say of its recipe; empty for nothing."""


def parse(arguments: Sequence[str] | None, extractors: Mapping[str, Any], recipes: Recipes) -> Command:
    """Parse a command line, of which `extractors` has the Config classes by --feature_type.

    Ends the program: with status 0 after help or another answer, with status 2 and one line for a wrong option.
    """
    first = _Parser(extractors, [], argument_default=argparse.SUPPRESS)
    known, _ = first.parse_known_args(arguments)
    feature_type = getattr(known, "feature_type", None)
    if "help" in known:
        _print_help(first.prog, feature_type, extractors)
    recipe: Sequence[str] = ()
    caution = ""
    if "recipe" in known:
        if known.recipe == "list":
            _answer(recipes.describe())
        try:
            recipe, caution = recipes.find(known.recipe, feature_type)
        except ValueError as error:
            first.error(str(error))
    if feature_type is None:
        first.error(f"--feature_type is needed: {' or '.join(extractors)}")
    config = extractors[feature_type]
    parser = _Parser(extractors, [config, *COMMON])
    parser.help_command += f" --feature_type {feature_type}"
    options, unknown = parser.parse_known_args(arguments, parser.parse_recipe(recipe))
    if unknown:
        parser.error(_explain(unknown, feature_type, extractors))
    try:
        own: Any = _filled(config, options)
        if own.answer is not None:
            _answer(own.answer)
        groups = own, _filled(RunOptions, options), _filled(FileOptions, options), _filled(DecodeOptions, options)
    except ValueError as error:
        parser.error(str(error))
    given = tuple(sys.argv[1:] if arguments is None else arguments)
    return Command(feature_type, *groups, given, parser.error, caution)


class _Parser(argparse.ArgumentParser):
    """Takes --feature_type, --help and the options of some groups; answers a wrong option with one line."""

    def __init__(self, extractors: Mapping[str, Any], groups: Sequence[Any], **arguments: Any) -> None:
        super().__init__(add_help=False, allow_abbrev=False, formatter_class=_HelpFormatter, **arguments)
        self.help_command = self.prog
        self.add_argument("--feature_type", choices=tuple(extractors), help="what to extract")
        self.add_argument(
            "--recipe", metavar="NAME", help="set a published work's options, which others override; or list"
        )
        self.add_argument("-h", "--help", action="store_true", help="show this; with --feature_type, its own options")
        for group in groups:
            fields_left = _options(group)
            for part in group.__mro__:  # what is its own first, which it may be with another default
                fields = [field for field in fields_left if field.name in inspect.get_annotations(part)]
                if not fields:
                    continue
                fields_left = [field for field in fields_left if field not in fields]
                add = self.add_argument_group(part.title).add_argument
                for field in fields:
                    add(f"--{field.name}", default=field.default, **field.metadata["arguments"])

    def parse_recipe(self, words: Sequence[str]) -> argparse.Namespace:
        """Return the values that a recipe sets; from then on the switches among them can be turned off."""
        values = self.parse_args(words, argparse.Namespace())
        for name in (word.removeprefix("--") for word in words):
            if getattr(values, name, None) is True:
                self.add_argument(f"--no_{name}", dest=name, action="store_false", default=argparse.SUPPRESS)
        return values

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_WRONG_OPTION, f"{self.prog}: {message} (see {self.help_command} --help)\n")


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Tells the defaults where the texts do not."""

    def _get_help_string(self, action: argparse.Action) -> str:
        is_told = action.default in (None, False) or isinstance(action.default, tuple)
        return f"{action.help}" if is_told else f"{action.help} (default: %(default)s)"


def _answer(text: str) -> NoReturn:
    from utils.progress import write  # tqdm, which --help does without

    write(text, sys.stdout)
    sys.exit(EXIT_OK)


def _options(group: Any) -> list["dataclasses.Field[Any]"]:
    return [field for field in dataclasses.fields(group) if field.metadata]


def _filled(group: type[Group], options: argparse.Namespace) -> Group:
    """Return a group of options with the values of the command line. Raises ValueError."""
    values = {field.name: getattr(options, field.name) for field in _options(group)}
    return group(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def _print_help(prog: str, feature_type: str | None, extractors: Mapping[str, Any]) -> NoReturn:
    usage = f"{prog} --feature_type {feature_type or '{' + ','.join(extractors) + '}'} [options]"
    if feature_type is None:
        lines = [f"  {name:10} {config.summary}" for name, config in extractors.items()]
        text = "Extract features of videos, in parallel on any number of GPUs.\n\n"
        text += f"extractors, each with options of its own ({prog} --feature_type NAME --help):\n" + "\n".join(lines)
        parser = _Parser(extractors, COMMON, usage=usage, description=text, epilog=EXAMPLES)
    else:
        text, config = f"The options that all extractors share: {prog} --help", extractors[feature_type]
        parser = _Parser(extractors, [config], usage=usage, description=f"{config.summary}.", epilog=text)
    parser.print_help()
    sys.exit(EXIT_OK)


def _explain(unknown: Sequence[str], feature_type: str, extractors: Mapping[str, Any]) -> str:
    """Return what is wrong with arguments that are no options here."""
    name = next((argument.partition("=")[0] for argument in unknown if argument.startswith("--")), None)
    if name is None:
        return f"unexpected argument: {unknown[0]}"
    names = {other: [f"--{field.name}" for field in _options(config)] for other, config in extractors.items()}
    owners = [other for other, theirs in names.items() if name in theirs]
    if owners:
        return f"{name} is an option of {' and '.join(owners)}, not of {feature_type}"
    common = [f"--{field.name}" for group in COMMON for field in _options(group)]
    close = difflib.get_close_matches(name, ["--feature_type", "--recipe", *common, *names[feature_type]], n=1)
    return f"{name}: did you mean {close[0]}?" if close else f"{name}: there is no such option"
