"""Optical flow: the ways to compute it, a file each, and the options of it as features. Imports no torch.

The file of a way has a function `load(path, device, dtype)`: it returns a `FlowMethod` for one device, with the weights
at `path`, or untrained ones without, that may compute in `dtype`.
"""

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, TypeVar

from models.base import WantedWeights
from models.options import FrameOptions, PrecisionOptions, SizeOptions, WeightsOptions
from models.pwc.checkpoint import PWC
from utils.option import option
from utils.stacks import Stack, stacks
from utils.video_list import VIDEO_SUFFIXES
from utils.weights.published import WeightsFile

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Item = TypeVar("Item")

Encoded = dict[Any, "Tensor"]
"""What a method computes of frames one by one: tensors (B, ...) by the method's own names."""

RAFT = WeightsFile(
    title="RAFT",
    path=Path(__file__).parent / "checkpoints" / "raft_large_C_T_SKHT_V1-0b8c9e55.pth",
    urls=("https://download.pytorch.org/models/raft_large_C_T_SKHT_V1-0b8c9e55.pth",),
    sha256="0b8c9e55",
    licence="BSD-3-Clause",
)
# OpenCV's defaults, which are those of DeepMind's graph: written down, so that they are recorded.
TVL1_PARAMETERS = {
    "tau": 0.25, "lambda": 0.15, "theta": 0.3, "nscales": 5, "warps": 5, "epsilon": 0.01, "innerIterations": 30,
    "outerIterations": 10, "scaleStep": 0.8, "gamma": 0.0, "medianFiltering": 5,
}  # fmt: skip


class FlowMethod(Protocol):
    """Computes flow on one device."""

    fills_batches: ClassVar[bool]
    """Batches of few sizes are worth that some items are repeated."""

    def encode(self, frames: "Tensor") -> Encoded:
        """Return what can be computed of each of some RGB frames, uint8 (B, 3, H, W), by itself."""

    def flow(self, first: Encoded, second: Encoded, height: int, width: int) -> "Tensor":
        """Return the flow, float32 (B, 2, height, width), x before y, in pixels from the first frames to the second."""

    def pairs_that_fit(self, num_bytes: int, height: int, width: int) -> int:
        """Return how many pairs of frames of a size take that memory, their encoding included; may be 0."""


class FlowKind(NamedTuple):
    """What there is to know of a method before it is loaded."""

    module: str
    weights: WeightsFile | None = None
    """The option `<name>_path` overrides their place."""

    settings: Mapping[str, object] = {}
    """What is recorded besides the name."""

    check: Callable[[], None] = lambda: None
    """Raises ValueError where something is missing that it needs."""

    least_side: int = 1
    """Pixels that the smaller side of a frame must have."""


def check_opencv() -> None:
    message = "--flow tvl1 needs OpenCV with its contributed modules: pip install opencv-contrib-python-headless"
    try:
        import cv2
    except ImportError as error:
        raise ValueError(f"{message} ({error})") from error
    if not hasattr(cv2, "optflow"):
        raise ValueError(f"{message} (this OpenCV has no optflow)")


FLOWS = {
    "pwc": FlowKind("models.flow.pwc", PWC),
    "raft": FlowKind("models.flow.raft", RAFT, least_side=121),  # 16 cells of 8 pixels, of which one is padded
    "tvl1": FlowKind("models.flow.tvl1", settings={"tvl1": TVL1_PARAMETERS}, check=check_opencv),
}


def load_flow(name: str, path: str | None, device: "torch.device", dtype: "torch.dtype") -> FlowMethod:
    """Return a method, ready for a device. Raises WeightsError, and ValueError where something else is missing."""
    FLOWS[name].check()
    method: FlowMethod = importlib.import_module(FLOWS[name].module).load(path, device, dtype)
    return method


@dataclass(frozen=True, kw_only=True)
class FlowOptions(FrameOptions, PrecisionOptions, WeightsOptions):
    """For extractors that compute optical flow."""

    title = "optical flow"
    network_paths: ClassVar[tuple[str, ...]] = ("pwc_path", "raft_path")

    flow: str = option("pwc", "how optical flow is computed: by PWC-Net, RAFT or TV-L1", choices=tuple(FLOWS))
    keep_flow: bool = option(
        False, "also write the flow of each frame to <tmp_path>/<video>_flow, in colours, and the frames"
    )
    pwc_path: str | None = option(None, "PWC-Net checkpoint, in place of the published one", metavar="PT")
    raft_path: str | None = option(None, "RAFT checkpoint, in place of the published one", metavar="PTH")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in FLOWS:
            if name != self.flow and getattr(self, f"{name}_path", None) is not None:
                raise ValueError(f"--{name}_path: is for --flow {name}, not for {self.flow}")

    @property
    def uses_flow(self) -> bool:
        """Any flow is computed."""
        return True

    @property
    def flow_weights_path(self) -> str | None:
        """The checkpoint of the flow's network, if it has one."""
        path: str | None = getattr(self, f"{self.flow}_path", None)
        return path

    @property
    def settings(self) -> dict[str, object]:
        if not self.uses_flow or self.flow == "pwc":
            return super().settings
        # Also told from PWC-Net's by its weights, which a folder of before --flow names, and one of RGB alone does not.
        told_apart = {"flow": self.flow, "pwc_path": f"none, with --flow {self.flow}"}
        return {**super().settings, **told_apart, **FLOWS[self.flow].settings}

    def check_devices(self, devices: Sequence[str]) -> None:
        super().check_devices(devices)
        if devices and self.uses_flow:
            FLOWS[self.flow].check()

    @property
    def frames_path(self) -> str | None:
        return self.tmp_path if self.keep_flow else super().frames_path

    def weights_wanted(self) -> WantedWeights:
        weights = FLOWS[self.flow].weights if self.uses_flow else None
        return {f"{self.flow}_path": (weights, self.flow_weights_path)} if weights else {}


@dataclass(frozen=True, kw_only=True)
class Config(FlowOptions, SizeOptions):
    """The options of flow as features."""

    title = "Optical flow"
    has_maps: ClassVar[bool] = True
    summary: ClassVar[str] = "the optical flow from each frame to the next one, in pixels"
    media_suffixes: ClassVar[frozenset[str]] = VIDEO_SUFFIXES

    def __post_init__(self) -> None:
        super().__post_init__()
        least_side = FLOWS[self.flow].least_side
        if self.min_side_size < least_side:
            raise ValueError(f"--min_side_size {self.min_side_size}: --flow {self.flow} needs at least {least_side}")
        if self.weights == "random" and FLOWS[self.flow].weights is None:
            raise ValueError(f"--weights random does nothing with --flow {self.flow}, which has no weights")

    @property
    def suffixes(self) -> tuple[str, ...]:
        return (f"flow_{self.flow}",)

    def stacks(self, frames: Iterable[Item]) -> Iterator[Stack[Item]]:
        """Return the pairs of frames, each with the next one."""
        return stacks(frames, 2, 1, cycle_tail=False)
