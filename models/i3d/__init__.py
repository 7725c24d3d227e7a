"""I3D: its configuration and its options. Imports no torch."""

import argparse
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from utils.video_list import VIDEO_SUFFIXES

if TYPE_CHECKING:
    from utils.weights.download import WeightsFile

MEDIA_SUFFIXES = VIDEO_SUFFIXES  # of the files that a folder or a glob means
STREAMS = ("rgb", "flow")
TAILS = ("cycle", "drop")
VARIANTS = ("ancestor", "deepmind")
SMALLEST_STACK = 9  # frames; I3D halves time three times and then needs a step
CROP_SIZE = 224  # pixels; what I3D sees of a frame


@dataclass(frozen=True)
class Config:
    """What to extract with I3D, and how. Raises ValueError for a value that cannot be."""

    streams: tuple[str, ...] = STREAMS
    stack_size: int = 64
    step_size: int = 64
    extraction_fps: float | None = None
    min_side_size: int = 256
    tail: str = "cycle"
    i3d_variant: str = "ancestor"
    precision: str | None = None
    batch_size: int | None = None
    weights: str = "pretrained"
    pwc_path: str | None = None
    i3d_rgb_path: str | None = None
    i3d_flow_path: str | None = None
    hardware_decoding: bool = False
    show_kinetics_pred: bool = False
    kinetics_class_labels: str | None = None

    def __post_init__(self) -> None:
        if self.stack_size < SMALLEST_STACK:
            raise ValueError(f"--stack_size {self.stack_size}: I3D needs at least {SMALLEST_STACK} frames")
        if self.step_size < 1:
            raise ValueError(f"--step_size {self.step_size}: must be at least 1 frame")
        if self.min_side_size < CROP_SIZE:
            raise ValueError(f"--min_side_size {self.min_side_size}: I3D sees a crop of {CROP_SIZE} pixels")
        if self.extraction_fps is not None and not (math.isfinite(self.extraction_fps) and self.extraction_fps > 0):
            raise ValueError(f"--extraction_fps {self.extraction_fps}: must be a number of frames above 0")
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"--batch_size {self.batch_size}: must be at least 1 frame")
        for option in ("pwc_path", "i3d_rgb_path", "i3d_flow_path"):
            if self.weights == "random" and getattr(self, option) is not None:
                raise ValueError(f"--{option} does not go with --weights random")
        if self.kinetics_class_labels is not None and not os.path.isfile(self.kinetics_class_labels):
            raise ValueError(f"--kinetics_class_labels: no such file: {self.kinetics_class_labels}")

    @property
    def suffixes(self) -> tuple[str, ...]:
        """What the names of a video's feature files end with."""
        return self.streams

    @property
    def settings(self) -> dict[str, object]:
        """What the features of a stream depend on, besides the weights."""
        names = ("stack_size", "step_size", "extraction_fps", "min_side_size", "tail", "i3d_variant")
        return {name: getattr(self, name) for name in names} | {"precision": self.precision or "default"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of I3D, named as the fields of `Config`, with its defaults."""
    group = parser.add_argument_group("I3D")
    option = group.add_argument
    option(
        "--streams", nargs="+", choices=STREAMS, default=Config.streams, help="which streams to extract (default: both)"
    )
    option("--stack_size", type=int, metavar="FRAMES", default=Config.stack_size, help="frames a feature is made of")
    option(
        "--step_size",
        type=int,
        metavar="FRAMES",
        default=Config.step_size,
        help="frames from one feature's start to the next's",
    )
    option("--extraction_fps", type=float, metavar="FPS", help="frames a second to extract from (default: the video's)")
    option(
        "--min_side_size",
        type=int,
        metavar="PIXELS",
        default=Config.min_side_size,
        help="pixels that the smaller side is scaled to",
    )
    option(
        "--tail",
        choices=TAILS,
        default=Config.tail,
        help="make the frames that no full stack holds one more stack, repeated cyclically; or drop them",
    )
    option(
        "--i3d_variant",
        choices=VARIANTS,
        default=Config.i3d_variant,
        help="the numbers of features published so far, or those of DeepMind's own network",
    )
    option(
        "--hardware_decoding",
        action="store_true",
        help="decode frames of 1280x720 and more on the GPU's video engine, where it knows the codec",
    )
    option("--show_kinetics_pred", action="store_true", help="print the five likeliest Kinetics classes of each stack")
    option("--kinetics_class_labels", metavar="TXT", help="class names, one a line, in place of torchvision's")
    option("--pwc_path", metavar="PT", help="PWC-Net checkpoint, in place of the published one")
    option("--i3d_rgb_path", metavar="PT", help="I3D RGB checkpoint, in place of the published one")
    option("--i3d_flow_path", metavar="PT", help="I3D flow checkpoint, in place of the published one")


def weights_wanted(config: Config) -> Mapping[str, tuple["WeightsFile", str | None]]:
    """The weights that the streams need: by the option that overrides it, each file and the path given for it."""
    from models.i3d import checkpoint as published
    from models.pwc.checkpoint import PWC

    wanted = {}
    if "flow" in config.streams:
        wanted["pwc_path"] = (PWC, config.pwc_path)
        wanted["i3d_flow_path"] = (published.FLOW, config.i3d_flow_path)
    if "rgb" in config.streams:
        wanted["i3d_rgb_path"] = (published.RGB, config.i3d_rgb_path)
    return wanted
