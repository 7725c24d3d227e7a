"""PWC-Net's matching: warp, cost volume and activation in one, which on a GPU is one kernel of `kernels.py`."""

import functools
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from models.checked_kernel import Function, find_kernel
from models.pwc.cost_volume import NEGATIVE_SLOPE, NUM_DISPLACEMENTS, cost_volume, warp


def matching_costs(first: Tensor, second: Tensor, flow: Tensor | None, out: Tensor) -> None:
    """Write leaky_relu(cost_volume(first, warp(second, flow))) to the first 81 channels of `out`.

    `first` and `second` are (B, C, H, W) of one dtype, best in channels-last memory; `flow` is (B, 2, H, W) in
    pixels, or None for no warp; `out` is (B, 81 or more, H, W) of any dtype. The warped image has the images' dtype;
    coordinates, weights and sums are float32. Costs are 0 or NaN where the flow is not finite.
    """
    function = _kernel(first.device, first.dtype) if first.is_cuda else plain_matching_costs
    function(first, second, flow, out)


def plain_matching_costs(first: Tensor, second: Tensor, flow: Tensor | None, out: Tensor) -> None:
    """Compute `matching_costs` without a kernel."""
    if flow is not None:
        second = warp(second.float(), flow.float()).to(second.dtype)
    costs = cost_volume(first.float(), second.float())
    out[:, :NUM_DISPLACEMENTS] = F.leaky_relu(costs, NEGATIVE_SLOPE, inplace=True)


@functools.cache
def _kernel(device: torch.device, dtype: torch.dtype) -> Function:
    def try_out(function: Function, device: torch.device) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(0)
        for channels, with_flow in ((32, True), (196, False)):  # as at PWC-Net's finest and coarsest level
            images = torch.randn(2, 2, 6, 11, channels, generator=generator).to(device, dtype)
            flow = 3 * torch.randn(2, 2, 6, 11, generator=generator).to(device) if with_flow else None
            out = torch.zeros(2, NUM_DISPLACEMENTS, 6, 11, dtype=dtype, device=device)
            function(*images.movedim(-1, 2), flow, out)
            yield out

    return find_kernel("models.pwc.kernels", plain_matching_costs, try_out, device, dtype)
