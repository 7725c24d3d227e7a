"""What follows a convolution in one: sum, bias and activation, which on a GPU is one kernel of `activation_kernel`.

Convolutions are without a bias there: PyTorch would add it in a kernel of its own, in half precision.
"""

import functools
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from models.checked_kernel import Function, find_kernel


def add_and_activate(parts: Sequence[Tensor], bias: Tensor | None, slope: float, out: Tensor | None = None) -> Tensor:
    """Return the activation of the sum of `parts` and `bias`, computed in float32 and rounded once.

    Negative values are multiplied by `slope`: 0 for ReLU, 1 for no activation. The 1 to 7 parts are (B, C, H, W) or
    (B, C, T, H, W) of one dtype, channels-last or slices of channels of such tensors; `bias` is float32 (C,),
    or None for 0. The result is a new channels-last tensor of the parts' dtype, or `out`, which may be a slice, too.
    If `out` has more channels, the last ones become 1.
    """
    function = _kernel(parts[0].device, parts[0].dtype) if parts[0].is_cuda else plain_add_and_activate
    result: Tensor = function(parts, bias, slope, out)
    return result


def plain_add_and_activate(
    parts: Sequence[Tensor], bias: Tensor | None, slope: float, out: Tensor | None = None
) -> Tensor:
    """Compute `add_and_activate` without a kernel."""
    first = parts[0]
    total = first.float() if bias is None else first + bias.view(-1, *[1] * (first.dim() - 2))
    for part in parts[1:]:
        total = total + part if total is first else total.add_(part)
    total = F.leaky_relu(total, slope, inplace=total is not first)
    if out is None:
        return total.to(first.dtype).contiguous(memory_format=_channels_last(first))
    out[:, : total.shape[1]] = total
    out[:, total.shape[1] :] = 1
    return out


def new_output(part: Tensor, num_ones: int = 0) -> Tensor:
    """Return memory for the activation of `part` and channels of ones."""
    shape = (part.shape[0], part.shape[1] + num_ones, *part.shape[2:])
    return torch.empty(shape, dtype=part.dtype, device=part.device, memory_format=_channels_last(part))


def _channels_last(x: Tensor) -> torch.memory_format:
    return torch.channels_last if x.dim() == 4 else torch.channels_last_3d


@functools.cache
def _kernel(device: torch.device, dtype: torch.dtype) -> Function:
    def try_out(function: Function, device: torch.device) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(0)
        for channels, num_parts in ((64, 1), (128, 6), (34, 2)):
            parts = torch.randn(num_parts, 2, 5, 7, 2 * channels, generator=generator).to(device, dtype).movedim(-1, 2)
            bias = torch.randn(channels, generator=generator).to(device) if num_parts == 1 else None
            yield function([part[:, channels:] for part in parts], bias, 0.1, new_output(parts[0, :, channels:], 8))

    return find_kernel("models.activation_kernel", plain_add_and_activate, try_out, device, dtype)
