"""I3D: its options. Imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from models.base import (
    ClassOptions,
    CropOptions,
    PrecisionOptions,
    SizeOptions,
    StackOptions,
    WantedWeights,
    WeightsOptions,
)
from models.flow import FLOWS
from models.i3d import checkpoint
from utils.option import option
from utils.video_list import VIDEO_SUFFIXES

STREAMS = ("rgb", "flow")
CROP_SIZE = 224  # pixels; what I3D sees of a frame


@dataclass(frozen=True, kw_only=True)
class Config(StackOptions, SizeOptions, CropOptions, ClassOptions, PrecisionOptions, WeightsOptions):
    """The options of I3D."""

    title = "I3D"
    summary: ClassVar[str] = "1024 numbers a stack of frames from RGB, and 1024 from optical flow (Kinetics)"
    media_suffixes: ClassVar[frozenset[str]] = VIDEO_SUFFIXES
    num_frames_after: ClassVar[int] = 1  # to which the last frame has its flow
    min_stack_size: ClassVar[int] = 9  # I3D halves time three times and then needs a step
    crop_size: ClassVar[int] = CROP_SIZE
    network_paths: ClassVar[tuple[str, ...]] = ("pwc_path", "raft_path", "i3d_rgb_path", "i3d_flow_path")

    streams: tuple[str, ...] = option(STREAMS, "which streams to extract (default: both)", choices=STREAMS, nargs="+")
    flow: str = option("pwc", "how optical flow is computed: by PWC-Net, RAFT or TV-L1", choices=tuple(FLOWS))
    i3d_variant: str = option(
        "ancestor",
        "the numbers of features published so far, or those of DeepMind's own network",
        choices=("ancestor", "deepmind"),
        changes_features=True,
    )
    keep_flow: bool = option(
        False, "also write the flow of each frame to <tmp_path>/<video>_flow, in colours, and the frames"
    )
    pwc_path: str | None = option(None, "PWC-Net checkpoint, in place of the published one", metavar="PT")
    raft_path: str | None = option(None, "RAFT checkpoint, in place of the published one", metavar="PTH")
    i3d_rgb_path: str | None = option(None, "I3D RGB checkpoint, in place of the published one", metavar="PT")
    i3d_flow_path: str | None = option(None, "I3D flow checkpoint, in place of the published one", metavar="PT")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keep_flow and "flow" not in self.streams:
            raise ValueError("--keep_flow: there is no flow without --streams flow")
        for name in FLOWS:
            if name != self.flow and getattr(self, f"{name}_path", None) is not None:
                raise ValueError(f"--{name}_path: is for --flow {name}, not for {self.flow}")

    @property
    def flow_weights_path(self) -> str | None:
        """The checkpoint of the flow's network, if it has one."""
        path: str | None = getattr(self, f"{self.flow}_path", None)
        return path

    @property
    def settings(self) -> dict[str, object]:
        if "flow" not in self.streams or self.flow == "pwc":
            return super().settings
        # Also told from PWC-Net's by its weights, which a folder of before --flow names, and one of RGB alone does not.
        told_apart = {"flow": self.flow, "pwc_path": f"none, with --flow {self.flow}"}
        return {**super().settings, **told_apart, **FLOWS[self.flow].settings}

    def check_devices(self, devices: Sequence[str]) -> None:
        super().check_devices(devices)
        if devices and "flow" in self.streams:
            FLOWS[self.flow].check()

    @property
    def suffixes(self) -> tuple[str, ...]:
        return self.streams

    @property
    def frames_path(self) -> str | None:
        return self.tmp_path if self.keep_frames or self.keep_flow else None

    def weights_wanted(self) -> WantedWeights:
        wanted = {}
        if "flow" in self.streams:
            weights = FLOWS[self.flow].weights
            if weights is not None:
                wanted[f"{self.flow}_path"] = (weights, self.flow_weights_path)
            wanted["i3d_flow_path"] = (checkpoint.FLOW, self.i3d_flow_path)
        if "rgb" in self.streams:
            wanted["i3d_rgb_path"] = (checkpoint.RGB, self.i3d_rgb_path)
        return wanted
