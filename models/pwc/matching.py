"""PWC-Net's matching: warp, cost volume and activation in one, which on a GPU is one kernel of `kernels.py`."""

import functools
import logging
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from models.pwc.cost_volume import NEGATIVE_SLOPE, NUM_DISPLACEMENTS, cost_volume, warp

MatchingCosts = Callable[[Tensor, Tensor, Tensor | None, Tensor], None]

log = logging.getLogger("video_features")


def matching_costs(first: Tensor, second: Tensor, flow: Tensor | None, out: Tensor) -> None:
    """Write leaky_relu(cost_volume(first, warp(second, flow))) to the first 81 channels of `out`.

    `first` and `second` are (B, C, H, W) of one dtype, best in channels-last memory; `flow` is (B, 2, H, W) in
    pixels, or None for no warp; `out` is (B, 81 or more, H, W) of any dtype. The warped image has the images' dtype;
    coordinates, weights and sums are float32. Costs are 0 or NaN where the flow is not finite.
    """
    kernel = _kernel(first.device, first.dtype) if first.is_cuda else None
    (kernel or plain_matching_costs)(first, second, flow, out)


def plain_matching_costs(first: Tensor, second: Tensor, flow: Tensor | None, out: Tensor) -> None:
    """Compute `matching_costs` without a kernel."""
    if flow is not None:
        second = warp(second.float(), flow.float()).to(second.dtype)
    costs = cost_volume(first.float(), second.float())
    out[:, :NUM_DISPLACEMENTS] = F.leaky_relu(costs, NEGATIVE_SLOPE, inplace=True)


@functools.cache
def _kernel(device: torch.device, dtype: torch.dtype) -> MatchingCosts | None:
    """Return the Triton kernel if it runs on `device` and agrees with the plain version on the CPU, or else None."""
    generator = torch.Generator().manual_seed(0)
    try:
        from models.pwc.kernels import matching_costs as kernel

        for channels, with_flow in ((32, True), (196, False)):  # as at PWC-Net's finest and coarsest level
            first, second = torch.randn(2, 2, 6, 11, channels, generator=generator).to(dtype).permute(0, 1, 4, 2, 3)
            flow = 3 * torch.randn(2, 2, 6, 11, generator=generator) if with_flow else None
            expected = torch.zeros(2, NUM_DISPLACEMENTS, 6, 11, dtype=dtype)
            plain_matching_costs(first, second, flow, expected)
            out = torch.zeros_like(expected, device=device)
            kernel(first.to(device), second.to(device), None if flow is None else flow.to(device), out)
            error = (out.cpu().float() - expected.float()).abs().max().item()
            if not error < (1e-4 if dtype == torch.float32 else 1e-2):
                raise RuntimeError(f"the kernel is wrong by {error:.3g}")
    except Exception as error:  # compilers and drivers fail in many ways, and the plain version gives the same result
        log.warning("%s, %s: PWC-Net runs without its Triton kernel, which is slower: %r", device, dtype, error)
        return None
    return kernel
