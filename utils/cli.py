"""The command line, parsed in two steps: --feature_type first, then that extractor's options and the common ones.

Options are fields of frozen dataclasses, which check their values. Imports nothing heavy: help comes at once.
"""

import argparse
import dataclasses
import difflib
import inspect
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from utils.devices import MAX_WORKERS_PER_GPU
from utils.media.options import DecodeOptions
from utils.option import option

Group = TypeVar("Group")

EXIT_OK, EXIT_SOME_FAILED, EXIT_WRONG_OPTION, EXIT_CANNOT_START, EXIT_INTERRUPTED = 0, 1, 2, 3, 130

EXAMPLES = """\
examples:
  python main.py --feature_type i3d --device_ids 0 2 --video_paths a.mp4 "my video.mkv"
  python main.py --feature_type i3d --file_with_video_paths list.txt --on_extraction save_numpy --output_path ./features
  python main.py --feature_type vggish --video_paths ./videos --on_extraction save_numpy

exit status: 0 all videos are done; 1 some failed; 2 a wrong option; 3 it cannot start (weights, device, output
folder); 130 interrupted
"""


@dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """Which videos."""

    title = "videos, one of"

    video_paths: tuple[str, ...] | None = option(
        None, "the videos; a folder or a pattern stands for the media in it", nargs="+", metavar="PATH"
    )
    file_with_video_paths: str | None = option(None, "a file that names them, one a line", metavar="TXT")

    def __post_init__(self) -> None:
        if self.video_paths is None and self.file_with_video_paths is None:
            raise ValueError("one of --video_paths and --file_with_video_paths is needed")
        if self.video_paths is not None and self.file_with_video_paths is not None:
            raise ValueError("--video_paths and --file_with_video_paths do not go together")


@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """Where to work."""

    title = "devices"

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
    timeout_per_video: float | None = option(
        None,
        "how long a video may take (default: ten times its length for each worker on its device, at least ten minutes)",
        type=float,
        metavar="SECONDS",
    )

    def __post_init__(self) -> None:
        if self.workers_per_gpu is not None and self.workers_per_gpu < 1:
            raise ValueError(f"--workers_per_gpu {self.workers_per_gpu}: must be at least 1")
        if self.timeout_per_video is not None and not 0 < self.timeout_per_video < math.inf:
            raise ValueError(f"--timeout_per_video {self.timeout_per_video}: must be a number of seconds above 0")


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """What to do with the features."""

    title = "output"

    on_extraction: str = option("print", "what to do with the features", choices=("print", "save_numpy"))
    output_path: str | None = option(
        None, "where save_numpy puts <video>_<stream>.npy (default: ./output)", metavar="FOLDER"
    )
    overwrite: bool = option(False, "extract videos again whose features are there")
    skip_failed: bool = option(False, "leave out the videos that failed in an earlier run")

    def __post_init__(self) -> None:
        if self.on_extraction == "print":
            for name in ("output_path", "overwrite", "skip_failed"):
                if getattr(self, name):
                    raise ValueError(f"--{name} does nothing without a way of saving: add --on_extraction save_numpy")

    @property
    def folder(self) -> str | None:
        """The output folder, if features are saved."""
        return None if self.on_extraction == "print" else self.output_path or "./output"


@dataclass(frozen=True, kw_only=True)
class MessageOptions:
    """What to say, on stderr."""

    title = "messages, on stderr"

    log_level: str = option("info", "the least grave messages to show", choices=("debug", "info", "warning", "error"))
    quiet: bool = option(False, "show warnings and errors only, and no progress")


COMMON = (VideoOptions, DeviceOptions, OutputOptions, DecodeOptions, MessageOptions)


@dataclass(frozen=True)
class Command:
    """What the command line says."""

    feature_type: str
    config: Any
    videos: VideoOptions
    devices: DeviceOptions
    output: OutputOptions
    decode: DecodeOptions
    messages: MessageOptions
    error: Callable[[str], NoReturn]
    """Ends the program with a message, as for a wrong option."""


def parse(arguments: Sequence[str] | None, extractors: Mapping[str, Any]) -> Command:
    """Parse a command line, of which `extractors` has the Config classes by --feature_type.

    Ends the program: with status 0 after help, with status 2 and one line for a wrong option.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    first = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    _add_first_options(first, extractors)
    known, _ = first.parse_known_args(arguments)
    feature_type = getattr(known, "feature_type", None)
    if "help" in known:
        _print_help(feature_type, extractors)
    if feature_type is None:
        first.error(f"--feature_type is needed: {' or '.join(extractors)}")
    config = extractors[feature_type]
    parser = _Parser(add_help=False, usage=f"{first.prog} --feature_type {feature_type}")
    parser.help_command = f"{first.prog} --feature_type {feature_type} --help"
    _add_first_options(parser, extractors)
    _add_groups(parser, [config, *COMMON])
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(_explain(unknown, feature_type, extractors))
    try:
        return Command(
            feature_type,
            _filled(config, options),
            _filled(VideoOptions, options),
            _filled(DeviceOptions, options),
            _filled(OutputOptions, options),
            _filled(DecodeOptions, options),
            _filled(MessageOptions, options),
            parser.error,
        )
    except ValueError as error:
        parser.error(str(error))


def _add_first_options(parser: argparse.ArgumentParser, extractors: Iterable[str]) -> None:
    parser.add_argument("--feature_type", choices=tuple(extractors), help="what to extract")
    parser.add_argument("-h", "--help", action="store_true", help="show this; with --feature_type, its own options")


def _add_groups(parser: argparse.ArgumentParser, groups: Iterable[Any]) -> None:
    for group in groups:
        for part in group.__mro__:  # what is its own first
            names = inspect.get_annotations(part)
            fields = [field for field in dataclasses.fields(group) if field.name in names and field.metadata]
            if not fields:
                continue
            add = parser.add_argument_group(part.title).add_argument
            for field in fields:
                add(
                    f"--{field.name}",
                    default=field.default,
                    help=field.metadata["help"],
                    **field.metadata["arguments"],
                )


def _filled(group: type[Group], options: argparse.Namespace) -> Group:
    """Return a group of options with the values of the command line. Raises ValueError."""
    fields = [field for field in dataclasses.fields(group) if field.metadata]  # type: ignore[arg-type]
    values = {field.name: getattr(options, field.name) for field in fields}
    return group(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def _print_help(feature_type: str | None, extractors: Mapping[str, Any]) -> NoReturn:
    prog = os.path.basename(sys.argv[0])
    if feature_type is None:
        lines = [f"  {name:10} {config.summary}" for name, config in extractors.items()]
        parser = _Parser(
            prog=prog,
            add_help=False,
            usage=f"{prog} --feature_type {{{','.join(extractors)}}} [options]",
            description="Extract features of videos, in parallel on any number of GPUs.\n\n"
            f"extractors, each with options of its own ({prog} --feature_type NAME --help):\n" + "\n".join(lines),
            epilog=EXAMPLES,
        )
        _add_first_options(parser, extractors)
        _add_groups(parser, COMMON)
    else:
        parser = _Parser(
            prog=prog,
            add_help=False,
            usage=f"{prog} --feature_type {feature_type} [options]",
            description=f"{extractors[feature_type].summary}.",
            epilog=f"The options that all extractors share: {prog} --help",
        )
        _add_groups(parser, [extractors[feature_type]])
    parser.print_help()
    sys.exit(0)


def _explain(unknown: Sequence[str], feature_type: str, extractors: Mapping[str, Any]) -> str:
    """Return what is wrong with arguments that are no options here."""
    names = [argument.partition("=")[0] for argument in unknown if argument.startswith("--")]
    if not names:
        return f"unexpected argument: {unknown[0]}"
    name = names[0]
    options = {
        other: [f"--{field.name}" for field in dataclasses.fields(config)] for other, config in extractors.items()
    }
    owners = [other for other, theirs in options.items() if name in theirs]
    if owners:
        return f"{name} is an option of {' and '.join(owners)}, not of {feature_type}"
    common = [name for group in COMMON for name in _names(group)]
    close = difflib.get_close_matches(name, ["--feature_type", *common, *options[feature_type]], n=1)
    return f"{name}: did you mean {close[0]}?" if close else f"{name}: there is no such option"


def _names(group: Any) -> list[str]:
    return [f"--{field.name}" for field in dataclasses.fields(group) if field.metadata]


class _Parser(argparse.ArgumentParser):
    """Answers a wrong option with one line."""

    help_command = ""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_HelpFormatter, **arguments)

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_WRONG_OPTION, f"{self.prog}: {message} (see {self.help_command or self.prog + ' --help'})\n")


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Tells the defaults, where the help does not, and the choices of an option behind its help."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        if action.default in (None, False) or isinstance(action.default, tuple) or action.option_strings[0] == "-h":
            return text
        return f"{text} (default: %(default)s)"
