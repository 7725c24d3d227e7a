"""The two operations of PWC-Net that are no layers: the cost volume and the warp (arXiv:1709.02371, section 3).

The network uses them together, as `matching_costs`, which on a GPU is one kernel of `kernels.py`.
"""

import functools
import logging
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_DISPLACEMENT = 4
BLOCK = 32  # pixels
NUM_DISPLACEMENTS = (2 * MAX_DISPLACEMENT + 1) ** 2
NEGATIVE_SLOPE = 0.1  # of the activation

MatchingCosts = Callable[[Tensor, Tensor, Tensor | None, Tensor], None]

log = logging.getLogger("video_features")


def matching_costs(first: Tensor, second: Tensor, flow: Tensor | None, out: Tensor) -> None:
    """Write leaky_relu(cost_volume(first, warp(second, flow))) to the first 81 channels of `out`.

    `first` and `second` are (B, C, H, W) of one dtype, best in channels-last memory; `flow` is (B, 2, H, W) in
    pixels, or None for no warp; `out` is (B, 81 or more, H, W) of any dtype. The warped image has the images' dtype;
    coordinates, weights and sums are float32. What a flow that is not finite points at costs 0 or is not a number.
    """
    kernel = _kernel(first.device, first.dtype) if first.is_cuda else None
    (kernel or plain_matching_costs)(first, second, flow, out)


def plain_matching_costs(first: Tensor, second: Tensor, flow: Tensor | None, out: Tensor) -> None:
    """`matching_costs` where there is no kernel for it."""
    if flow is not None:
        second = warp(second.float(), flow.float()).to(second.dtype)
    costs = cost_volume(first.float(), second.float())
    out[:, :NUM_DISPLACEMENTS] = F.leaky_relu(costs, NEGATIVE_SLOPE, inplace=True)


def cost_volume(first: Tensor, second: Tensor) -> Tensor:
    """How well each feature of `first` matches its 81 neighbours in `second`; both are (B, C, H, W).

    Returns (B, 81, H, W): channel (dy + 4) * 9 + (dx + 4) is the mean over channels of
    first[y, x] * second[y + dy, x + dx], zero where that lies outside the image.

    A matrix product gives the costs of a block of neighbours in a row with all that they reach in another row; those
    of one dx are on one diagonal. That computes some for nothing, but 81 products of whole images would be slower.
    """
    batch, channels, height, width = first.shape
    block = width if width <= BLOCK else math.gcd(width, BLOCK)
    reach = 2 * MAX_DISPLACEMENT
    rows = first.permute(2, 0, 3, 1).reshape(height, batch, -1, block, channels) / channels
    padded = F.pad(second, [MAX_DISPLACEMENT] * 4).permute(2, 0, 3, 1)
    reached = padded.unfold(2, block + reach, block).contiguous()  # (H + 8, B, blocks, C, block + 8)
    costs = []
    for y in range(reach + 1):
        products = rows @ reached[y : y + height]  # (H, B, blocks, block, block + 8)
        costs += [products.diagonal(x, dim1=3, dim2=4) for x in range(reach + 1)]
    return torch.stack(costs, dim=4).permute(1, 4, 0, 2, 3).flatten(3)


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """Sample `image` (B, C, H, W) where `flow` points.

    `flow` is (B, 2, H, W) in pixels, x before y. Where more than a thousandth of the bilinear
    weight lies outside the image the result is 0.
    """
    height, width = image.shape[2:]
    x = flow[:, 0] + torch.arange(width, dtype=flow.dtype, device=flow.device)
    y = flow[:, 1] + torch.arange(height, dtype=flow.dtype, device=flow.device)[:, None]
    # grid_sample with align_corners=True maps -1 and 1 to the centres of the first and the last pixel.
    grid = torch.stack([x * (2 / max(width - 1, 1)) - 1, y * (2 / max(height - 1, 1)) - 1], dim=3)
    sampled = F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    return sampled * (_weight_inside(x, width) * _weight_inside(y, height) > 0.999)[:, None]


def _weight_inside(position: Tensor, size: int) -> Tensor:
    """The part of the linear interpolation weight at `position` that falls on pixels 0 to size - 1."""
    return torch.minimum(position + 1, size - position).clamp(0, 1)


@functools.cache
def _kernel(device: torch.device, dtype: torch.dtype) -> MatchingCosts | None:
    """The Triton kernel, if it runs on `device` and computes there what the plain version does."""
    try:
        from models.pwc.kernels import matching_costs as kernel

        for channels, with_flow in ((32, True), (196, False)):  # as at PWC-Net's finest and coarsest level
            _compare_with_plain(kernel, device, dtype, channels, with_flow)
    except Exception as error:  # compilers and drivers fail in many ways, and there is another way to the same result
        log.warning("%s, %s: PWC-Net does without its Triton kernel, which is slower: %r", device, dtype, error)
        return None
    return kernel


def _compare_with_plain(
    kernel: MatchingCosts, device: torch.device, dtype: torch.dtype, channels: int, with_flow: bool
) -> None:
    """Raise RuntimeError where `kernel` on `device` differs from the plain version on the CPU."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 2, 6, 11, channels, generator=generator).to(dtype).permute(0, 1, 4, 2, 3)
    first, second = images
    flow = 3 * torch.randn(2, 2, 6, 11, generator=generator) if with_flow else None
    expected = torch.zeros(2, NUM_DISPLACEMENTS, 6, 11, dtype=dtype)
    plain_matching_costs(first, second, flow, expected)
    out = torch.zeros_like(expected, device=device)
    kernel(first.to(device), second.to(device), None if flow is None else flow.to(device), out)
    error = (out.cpu().float() - expected.float()).abs().max().item()
    if not error < (1e-4 if dtype == torch.float32 else 1e-2):
        raise RuntimeError(f"the kernel is wrong by {error:.3g}")
