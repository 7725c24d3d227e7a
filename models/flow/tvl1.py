"""TV-L1 flow, which I3D was trained on, by OpenCV (Zach, Pock and Bischof, DAGM 2007).

It is computed on CPU cores, also for a GPU: a pair in each thread, of as many as PyTorch would use.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.flow import TVL1_PARAMETERS, Encoded

BYTES_PER_PIXEL = 12  # of a pair: two grey frames, and its flow


class TVL1Flow:
    """A frame is encoded as its grey levels, on the CPU."""

    fills_batches: ClassVar[bool] = False

    def __init__(self, device: torch.device) -> None:
        self.device = device
        cv2.setNumThreads(1)  # of OpenCV's own in each call, which would gain less than pairs side by side
        self.threads = ThreadPoolExecutor(torch.get_num_threads(), "tvl1")

    def encode(self, frames: Tensor) -> Encoded:
        images = frames.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return {"grey": torch.from_numpy(np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images]))}

    def flow(self, first: Encoded, second: Encoded, height: int, width: int) -> Tensor:
        flows = list(self.threads.map(compute_pair, first["grey"].numpy(), second["grey"].numpy()))
        return torch.from_numpy(np.stack(flows)).permute(0, 3, 1, 2).to(self.device)

    def pairs_that_fit(self, num_bytes: int, height: int, width: int) -> int:
        return num_bytes // (BYTES_PER_PIXEL * height * width)


def load(path: str | None, device: torch.device, dtype: torch.dtype) -> TVL1Flow:
    return TVL1Flow(device)


def compute_pair(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    """Return the flow (H, W, 2), by an object of its own, because threads must not share one."""
    method = cv2.optflow.DualTVL1OpticalFlow_create(*TVL1_PARAMETERS.values())  # type: ignore[attr-defined]
    flow: npt.NDArray[Any] = method.calc(first, second, None)
    return flow
