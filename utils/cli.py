"""The command line. Imports nothing heavy, so that help comes at once."""

import argparse
import math
from collections.abc import Mapping
from itertools import chain
from types import ModuleType
from typing import NoReturn

from utils.devices import DEFAULT_PRECISION, PRECISIONS
from utils.media.options import DecodeOptions

STATUS = 2  # of the program, after a wrong option
_DEFAULTS = [f"{precision} on {kind}" for kind, precision in DEFAULT_PRECISION.items()]
LOG_LEVELS = ("debug", "info", "warning", "error")


def make_parser(extractors: Mapping[str, ModuleType]) -> argparse.ArgumentParser:
    """The command line: the options that all extractors share, and those of each."""
    parser = _Parser(
        description="Extract features of videos, in parallel on any number of GPUs.",
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )
    option = parser.add_argument
    option("--feature_type", required=True, choices=tuple(extractors), help="what to extract")

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

    option(
        "--precision",
        choices=sorted(set(chain(*PRECISIONS.values()))),
        help=f"what the networks compute in (default: {' and '.join(_DEFAULTS)})",
    )
    option(
        "--batch_size",
        type=int,
        metavar="N",
        help="frames, or patches of sound, that networks see at once (default: as many as memory and speed suggest)",
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
    option("--max_pixels", type=int, metavar="N", default=DecodeOptions.max_pixels, help="pixels that a frame may have")
    option(
        "--timeout_per_video",
        type=_seconds,
        metavar="SECONDS",
        help="how long a video may take (default: ten times its length for each worker on its device, and at least "
        "ten minutes)",
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
    for extractor in extractors.values():
        extractor.add_options(parser)
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: must be a number of seconds above 0")
    return seconds


class _Parser(argparse.ArgumentParser):
    """Answers a wrong option with one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(STATUS, f"{self.prog}: {message} (see {self.prog} --help)\n")


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Tells the defaults, where there are any."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False) or isinstance(action.default, tuple):
            return action.help
        return super()._get_help_string(action)
