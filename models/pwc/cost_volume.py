"""The two operations of PWC-Net that are no layers: the cost volume and the warp (arXiv:1709.02371, section 3)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_DISPLACEMENT = 4
BLOCK = 32  # pixels
NUM_DISPLACEMENTS = (2 * MAX_DISPLACEMENT + 1) ** 2
NEGATIVE_SLOPE = 0.1  # of the activation


def cost_volume(first: Tensor, second: Tensor) -> Tensor:
    """Correlate each feature of `first` with its 81 neighbours in `second`; both are (B, C, H, W).

    Returns (B, 81, H, W): channel (dy + 4) * 9 + (dx + 4) is the mean over channels of
    first[y, x] * second[y + dy, x + dx], zero where that lies outside the image.

    One matrix product multiplies a block of pixels in a row with all pixels of another row that they reach; its
    diagonals are the costs of one dx each. The other products are not needed, but 81 products of images are slower.
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
    """Return the part of the linear interpolation weight at `position` that falls on pixels 0 to size - 1."""
    return torch.minimum(position + 1, size - position).clamp(0, 1)
