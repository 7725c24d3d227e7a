"""The Triton kernel against the plain version: on a GPU where there is one, otherwise in Triton's interpreter.

The interpreter multiplies bfloat16 matrices wrongly; `tests/gpu` has them.
"""

import math

import pytest
import torch
from torch import Tensor

from models.checked_kernel import Function
from models.pwc.cost_volume import NUM_DISPLACEMENTS
from models.pwc.matching import plain_matching_costs

kernel: Function = pytest.importorskip("models.pwc.kernels").matching_costs

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
UNTOUCHED = -7.0


@pytest.mark.parametrize(
    ("batch", "channels", "height", "width", "flow_size", "dtype"),
    [
        (1, 32, 4, 8, 0.3, torch.float32),
        (2, 32, 5, 9, None, torch.float32),
        (1, 64, 2, 25, None, torch.float16),
        (1, 196, 3, 6, None, torch.float32),
        (3, 5, 1, 1, 3.0, torch.float16),
        (1, 7, 13, 2, 3.0, torch.float32),
        (1, 32, 5, 9, 3.0, torch.float16),
    ],
)
def test_the_kernel_computes_what_the_plain_version_does(
    batch: int, channels: int, height: int, width: int, flow_size: float | None, dtype: torch.dtype
) -> None:
    first, second, flow = _random(batch, channels, height, width, dtype)
    inside = torch.tensor([float(width > 1), float(height > 1)])[:, None, None]  # else all would point outside
    _assert_like_plain(first, second, None if flow_size is None else flow_size * inside * flow)


def test_a_pixel_is_masked_as_in_the_plain_version_however_far_it_points_beyond_an_edge() -> None:
    beyond = torch.tensor([0.0, 0.0005, 0.000999, 0.001, 0.0010001, 0.002, 0.5, 1.0, 1.5])
    first, second, flow = _random(1, 8, 9, 9)
    flow[:] = 0
    flow[:, 0, :, 0] = -beyond
    flow[:, 0, :, -1] = beyond
    flow[:, 1, 0] = -beyond
    flow[:, 1, -1] = beyond
    _assert_like_plain(first, second, flow)


def test_costs_are_zero_where_a_flow_is_huge_or_no_number() -> None:
    first, second, flow = _random(1, 8, 7, 9)
    values = [1e6, -1e6, 3e9, -3e9, 1e30, -1e30, 3.4e38, -3.4e38, math.inf, -math.inf, math.nan]
    pixels = torch.randperm(7 * 9, generator=torch.Generator().manual_seed(3))[: 2 * len(values)].view(2, -1)
    for axis in range(2):
        flow[0, axis].view(-1)[pixels[axis]] = 1e6
    expected = _costs(plain_matching_costs, first, second, flow)
    for axis in range(2):
        flow[0, axis].view(-1)[pixels[axis]] = torch.tensor(values)
    _assert_close(_kernel_costs(first, second, flow), expected)


def test_an_expanded_flow_in_half_precision_and_images_that_are_not_channels_last_are_taken() -> None:
    first, second, _ = _random(1, 8, 2, 40, torch.float16)
    flow = torch.tensor([1 + 17 / 64, 0])[:, None, None].expand(1, 2, 2, 40)  # beyond 32, half precision has 32nds
    _assert_like_plain(first.contiguous(), second.contiguous(), flow.half())


def test_nothing_outside_of_views_is_read_or_written() -> None:
    first, second, flow = _random(2, 6, 5, 9)
    expected = _costs(plain_matching_costs, first, second, flow)
    buffer = _surrounded(torch.zeros_like(expected), UNTOUCHED)
    out = _inside(buffer)
    first, second, flow = (_inside(_surrounded(x, math.nan)) for x in (first, second, flow))
    kernel(first, second, flow, out)
    _assert_close(out.cpu(), expected)
    out.fill_(UNTOUCHED)
    assert (buffer == UNTOUCHED).all()


def _random(
    batch: int, channels: int, height: int, width: int, dtype: torch.dtype = torch.float32, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Two images in channels-last memory and a flow between them."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(2, batch, height, width, channels, generator=generator).to(dtype)
    first, second = images.permute(0, 1, 4, 2, 3)
    return first, second, torch.randn(batch, 2, height, width, generator=generator)


def _assert_like_plain(first: Tensor, second: Tensor, flow: Tensor | None) -> None:
    expected = _costs(plain_matching_costs, first, second, flow)
    assert expected.count_nonzero() > 0
    _assert_close(_kernel_costs(first, second, flow), expected)


def _assert_close(costs: Tensor, expected: Tensor) -> None:
    """Costs are about 0.2. In half precision a warped pixel, and then a cost, may be rounded to the other side."""
    eps = torch.finfo(costs.dtype).eps
    atol, rtol = (1e-5, 0) if costs.dtype == torch.float32 else (eps / 8, 2 * eps)
    torch.testing.assert_close(costs, expected, atol=atol, rtol=rtol)


def _kernel_costs(first: Tensor, second: Tensor, flow: Tensor | None) -> Tensor:
    return _costs(kernel, first.to(DEVICE), second.to(DEVICE), None if flow is None else flow.to(DEVICE)).cpu()


def _costs(function: Function, first: Tensor, second: Tensor, flow: Tensor | None) -> Tensor:
    batch, _, height, width = first.shape
    out = first.new_full((batch, height, width, NUM_DISPLACEMENTS), UNTOUCHED).permute(0, 3, 1, 2)
    function(first, second, flow, out)
    return out


def _surrounded(x: Tensor, value: float) -> Tensor:
    """`x` (B, C, H, W) with `value` around it in all dimensions, in channels-last memory."""
    padded = torch.nn.functional.pad(x.to(DEVICE), [1, 1, 2, 1, 3, 2, 1, 1], value=value)
    return padded.contiguous(memory_format=torch.channels_last)


def _inside(surrounded: Tensor) -> Tensor:
    return surrounded[1:-1, 3:-2, 2:-1, 1:-1]
