"""The Triton kernels on a GPU, with the shapes and types of the networks; `tests/models` has the odd ones."""

import pytest
import torch

from models import activation
from models.activation import add_and_activate, plain_add_and_activate
from models.pwc import matching
from models.pwc.cost_volume import NEGATIVE_SLOPE, NUM_DISPLACEMENTS
from models.pwc.matching import matching_costs, plain_matching_costs
from models.pwc.net import COARSEST, FINEST, PYRAMID_CHANNELS
from tests.helpers.gpu import GPU, needs_gpu

pytestmark = needs_gpu

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
# Parts, channels, and the sides of what is convolved.
OF_PWC: list[tuple[int, ...]] = [
    (1, 16, 128, 192),
    (1, 196, 4, 6),
    (1, 128, 64, 96),
    (2, 128, 64, 96),
    (5, 32, 64, 96),
    (6, 34, 32, 48),
]
OF_I3D: list[tuple[int, ...]] = [(1, 64, 32, 112, 112), (1, 192, 32, 56, 56), (1, 176, 16, 28, 28), (1, 384, 8, 7, 7)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("level", range(FINEST, COARSEST + 1))
def test_costs_are_those_of_the_plain_version_on_the_cpu_for_flows_of_the_networks_type(
    level: int, dtype: torch.dtype
) -> None:
    height, width, channels = 256 >> level, 384 >> level, PYRAMID_CHANNELS[level - 1]
    generator = torch.Generator().manual_seed(level)
    first, second = torch.randn(2, 2, height, width, channels, generator=generator).to(dtype).permute(0, 1, 4, 2, 3)
    flow = None if level == COARSEST else (3 * torch.randn(2, 2, height, width, generator=generator)).to(dtype)
    out = torch.full((2, height, width, NUM_DISPLACEMENTS + 7), -7.0, dtype=dtype).permute(0, 3, 1, 2)
    expected = out.clone()
    plain_matching_costs(first, second, flow, expected)
    out = out.to(GPU)
    matching_costs(first.to(GPU), second.to(GPU), None if flow is None else flow.to(GPU), out)
    assert matching._kernel(GPU, dtype) is not plain_matching_costs
    eps = torch.finfo(dtype).eps
    # In single precision what differs are the coordinates, which grid_sample has in halves of the image's size.
    atol, rtol = (5e-5, 0) if dtype == torch.float32 else (eps / 8, 2 * eps)
    torch.testing.assert_close(out.cpu(), expected, atol=atol, rtol=rtol)


@pytest.mark.parametrize("num_ones", [None, 0, 8])  # None: no `out` is given
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", OF_PWC + OF_I3D)
def test_sums_with_a_bias_in_single_precision_are_activated(
    shape: tuple[int, ...], dtype: torch.dtype, num_ones: int | None
) -> None:
    num_parts, channels, *sides = shape
    slope = NEGATIVE_SLOPE if len(sides) == 2 else 0.0
    generator = torch.Generator().manual_seed(channels)
    wide = torch.randn(num_parts, 2, *sides, channels + 16, generator=generator).to(dtype).movedim(-1, 2)
    bias = torch.randn(channels, generator=generator) if num_parts == 1 else torch.zeros(channels)
    exact = sum(part.double() for part in wide[:, :, 16:]) + bias.double().view(-1, *[1] * len(sides))
    expected = torch.where(exact > 0, exact, slope * exact).to(dtype)
    whole = torch.full((2, *sides, 8 + channels + (num_ones or 0)), -7.0, dtype=dtype, device=GPU).movedim(-1, 1)
    out = None if num_ones is None else whole[:, 8:]
    parts = [part[:, 16:] for part in wide.to(GPU)]
    result = add_and_activate(parts, bias.to(GPU) if num_parts == 1 else None, slope, out)
    assert activation._kernel(GPU, dtype) is not plain_add_and_activate
    assert (whole[:, :8] == -7).all()
    assert out is None or result.data_ptr() == out.data_ptr()
    assert (result[:, channels:] == 1).all()
    # Sums in another order may be rounded to the other side.
    torch.testing.assert_close(result[:, :channels].cpu(), expected, atol=1e-5, rtol=torch.finfo(dtype).eps)
