"""The ways to compute optical flow, a file each. Imports no torch.

The file of one has a function `load(path, device, dtype)`: it returns a `FlowMethod` for one device, with the weights
at `path`, or untrained ones without, that may compute in `dtype`.
"""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from models.pwc.checkpoint import PWC
from utils.weights.published import WeightsFile

if TYPE_CHECKING:
    import torch
    from torch import Tensor

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
    "raft": FlowKind("models.flow.raft", RAFT),
    "tvl1": FlowKind("models.flow.tvl1", settings={"tvl1": TVL1_PARAMETERS}, check=check_opencv),
}


def load_flow(name: str, path: str | None, device: "torch.device", dtype: "torch.dtype") -> FlowMethod:
    """Return a method, ready for a device. Raises WeightsError, and ValueError where something else is missing."""
    FLOWS[name].check()
    method: FlowMethod = importlib.import_module(FLOWS[name].module).load(path, device, dtype)
    return method
