"""What follows a convolution, in one: sum, bias and activation, which on a GPU is one kernel of `activation_kernel`.

Convolutions of half precision are without a bias there: PyTorch would add it in a kernel of its own, after rounding.
"""

import functools
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from models.checked_kernel import Function, find_kernel


def add_and_activate(parts: Sequence[Tensor], bias: Tensor, slope: float, out: Tensor | None = None) -> Tensor:
    """Return the activation of `bias` plus the sum of `parts`, computed in float32 and rounded once.

    Negative values are multiplied by `slope`: 0 for ReLU, 1 for no activation. The 1 to 7 parts are (B, C, H, W) or
    (B, C, T, H, W) of one dtype, channels-last or slices of channels of such tensors; `bias` is float32 (C,). The
    result is a new channels-last tensor of the parts' dtype, or `out`, which may be a slice of channels, too.
    """
    function = _kernel(parts[0].device, parts[0].dtype) if parts[0].is_cuda else plain_add_and_activate
    result: Tensor = function(parts, bias, slope, out)
    return result


def plain_add_and_activate(parts: Sequence[Tensor], bias: Tensor, slope: float, out: Tensor | None = None) -> Tensor:
    """Compute `add_and_activate` without a kernel."""
    total = parts[0] + bias.view(-1, *[1] * (parts[0].dim() - 2))
    for part in parts[1:]:
        total += part
    if slope != 1:
        total = F.leaky_relu(total, slope, inplace=True)
    if out is not None:
        return out.copy_(total)
    return total.to(parts[0].dtype, memory_format=channels_last(total))


def channels_last(x: Tensor) -> torch.memory_format:
    """Return the memory format for images or stacks."""
    return torch.channels_last if x.dim() == 4 else torch.channels_last_3d


@functools.cache
def _kernel(device: torch.device, dtype: torch.dtype) -> Function:
    def try_out(function: Function, device: torch.device) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(0)
        for channels, num_parts in ((64, 1), (128, 6), (34, 2)):
            parts = torch.randn(num_parts, 2, 5, 7, 2 * channels, generator=generator).to(device, dtype).movedim(-1, 2)
            bias = torch.randn(channels, generator=generator).to(device)
            yield function([part[:, channels:] for part in parts], bias, 0.1)

    return find_kernel("models.activation_kernel", plain_add_and_activate, try_out, device, dtype)
