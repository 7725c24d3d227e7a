"""Flow by PWC-Net, `models/pwc/`."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from models.flow import Encoded
from models.pwc.checkpoint import our_key
from models.pwc.fused import fuse
from models.pwc.net import PWCNet
from utils.devices import device_context
from utils.weights.checkpoint import load_or_randomize

REFERENCE_PIXELS = 256 * 341  # of a frame; of larger ones, fewer make a batch
BYTES_PER_FRAME = {2: 40_000_000, 4: 80_000_000}  # in a batch, by the size of the network's numbers


class PWCFlow(nn.Module):
    """A frame is encoded as its pyramid."""

    fills_batches: ClassVar[bool] = True

    def __init__(self, network: PWCNet) -> None:
        super().__init__()
        self.network = network

    def encode(self, frames: Tensor) -> Encoded:
        return self.network.pyramid(frames)

    def flow(self, first: Encoded, second: Encoded, height: int, width: int) -> Tensor:
        return self.network.flow(first, second, height, width)

    def pairs_that_fit(self, num_bytes: int, height: int, width: int) -> int:
        bytes_per_frame = BYTES_PER_FRAME[next(self.parameters()).element_size()]
        return num_bytes * REFERENCE_PIXELS // (bytes_per_frame * height * width)


def load(path: str | None, device: torch.device, dtype: torch.dtype) -> PWCFlow:
    network = fuse(load_or_randomize(PWCNet(), path, our_key))
    network = network.to(memory_format=torch.channels_last).to(device, dtype)
    if device.type == "cuda":
        _compile_kernels(network, device)
    return PWCFlow(network)


@torch.inference_mode()
def _compile_kernels(network: PWCNet, device: torch.device) -> None:
    """Have kernels compiled now, and not in the time of the first video."""
    with device_context(str(device)):
        frames = torch.zeros(2, 3, 128, 128, dtype=torch.uint8, device=device)
        network(frames[:1], frames[1:])
        torch.cuda.synchronize()
