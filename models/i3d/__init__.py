"""I3D: its options. Imports no torch."""

from dataclasses import dataclass
from typing import ClassVar

from models.base import WantedWeights
from models.flow import FlowOptions
from models.i3d import checkpoint
from models.options import ClassOptions, CropOptions, SizeOptions, StackOptions
from utils.option import option
from utils.video_list import VIDEO_SUFFIXES

STREAMS = ("rgb", "flow")
CROP_SIZE = 224  # pixels; what I3D sees of a frame


@dataclass(frozen=True, kw_only=True)
class Config(StackOptions, SizeOptions, CropOptions, FlowOptions, ClassOptions):
    """The options of I3D."""

    title = "I3D"
    summary: ClassVar[str] = "1024 numbers a stack of frames from RGB, and 1024 from optical flow (Kinetics)"
    media_suffixes: ClassVar[frozenset[str]] = VIDEO_SUFFIXES
    num_frames_after: ClassVar[int] = 1  # to which the last frame has its flow
    min_stack_size: ClassVar[int] = 9  # I3D halves time three times and then needs a step
    crop_size: ClassVar[int] = CROP_SIZE
    network_paths: ClassVar[tuple[str, ...]] = (*FlowOptions.network_paths, "i3d_rgb_path", "i3d_flow_path")

    streams: tuple[str, ...] = option(STREAMS, "which streams to extract (default: both)", choices=STREAMS, nargs="+")
    i3d_variant: str = option(
        "ancestor",
        "the numbers of features published so far, or those of DeepMind's own network",
        choices=("ancestor", "deepmind"),
        changes_features=True,
    )
    i3d_rgb_path: str | None = option(None, "I3D RGB checkpoint, in place of the published one", metavar="PT")
    i3d_flow_path: str | None = option(None, "I3D flow checkpoint, in place of the published one", metavar="PT")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keep_flow and not self.uses_flow:
            raise ValueError("--keep_flow: there is no flow without --streams flow")

    @property
    def uses_flow(self) -> bool:
        return "flow" in self.streams

    @property
    def suffixes(self) -> tuple[str, ...]:
        return tuple(stream for stream in STREAMS if stream in self.streams)

    def weights_wanted(self) -> WantedWeights:
        wanted = dict(super().weights_wanted())
        if "flow" in self.streams:
            wanted["i3d_flow_path"] = (checkpoint.FLOW, self.i3d_flow_path)
        if "rgb" in self.streams:
            wanted["i3d_rgb_path"] = (checkpoint.RGB, self.i3d_rgb_path)
        return wanted
