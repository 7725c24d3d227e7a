"""The cost volume and the warp, against loops over pixels."""

import math

import pytest
import torch
from torch import Tensor

from models.pwc.cost_volume import cost_volume, warp
from models.pwc.matching import matching_costs


@pytest.mark.parametrize(("height", "width"), [(6, 7), (1, 1), (2, 33), (2, 40), (1, 64)])
def test_each_cost_is_the_mean_product_with_a_displaced_neighbour(height: int, width: int) -> None:
    first, second = torch.randn(2, 2, 5, height, width, generator=torch.Generator().manual_seed(0))
    expected = torch.zeros(2, 81, height, width)
    for dy in range(-4, 5):
        for dx in range(-4, 5):
            for y in range(max(0, -dy), min(height, height - dy)):
                for x in range(max(0, -dx), min(width, width - dx)):
                    cost = (first[:, :, y, x] * second[:, :, y + dy, x + dx]).mean(dim=1)
                    expected[:, (dy + 4) * 9 + dx + 4, y, x] = cost
    torch.testing.assert_close(cost_volume(first, second), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5), (6, 7)])
def test_warping_interpolates_and_masks_like_a_loop_over_pixels(height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(1, 2, height, width, generator=generator)
    flow = 3 * torch.randn(1, 2, height, width, generator=generator)
    flow[0, :, 0, 0] = torch.tensor([-0.0005, 0.0])  # 0.05 % of the weight is outside: kept
    flow[0, :, 0, -1] = torch.tensor([1.002, 0.0])  # 0.2 %: masked
    torch.testing.assert_close(warp(image, flow), _slow_warp(image, flow), atol=1e-5, rtol=0)


@pytest.mark.parametrize("with_flow", [False, True])
def test_matching_costs_are_activated_costs_of_the_warped_image_in_the_first_channels(with_flow: bool) -> None:
    first, second, flow = torch.randn(3, 2, 2, 5, 6, generator=torch.Generator().manual_seed(2))
    costs = cost_volume(first, warp(second, flow) if with_flow else second)
    out = torch.full((2, 85, 5, 6), 3.0)
    matching_costs(first, second, flow if with_flow else None, out)
    torch.testing.assert_close(out[:, :81], torch.where(costs > 0, costs, 0.1 * costs))
    assert (out[:, 81:] == 3).all()


def test_matching_costs_of_images_in_half_precision_are_computed_in_single() -> None:
    first, second, flow = torch.randn(3, 1, 2, 3, 300, generator=torch.Generator().manual_seed(2)).half()
    flow[:, 1] = 0
    out, expected = torch.zeros(2, 1, 81, 3, 300)
    matching_costs(first, second, flow, out)
    matching_costs(first.float(), warp(second.float(), flow.float()).half().float(), None, expected)
    torch.testing.assert_close(out, expected, atol=1e-6, rtol=0)


def _slow_warp(image: Tensor, flow: Tensor) -> Tensor:
    height, width = image.shape[2:]
    out = torch.zeros_like(image)
    for y in range(height):
        for x in range(width):
            at_x, at_y = x + float(flow[0, 0, y, x]), y + float(flow[0, 1, y, x])
            left, top = math.floor(at_x), math.floor(at_y)
            inside = 0.0
            for j in (top, top + 1):
                for i in (left, left + 1):
                    weight = (1 - abs(at_x - i)) * (1 - abs(at_y - j))
                    if 0 <= i < width and 0 <= j < height:
                        inside += weight
                        out[0, :, y, x] += weight * image[0, :, j, i]
            if inside <= 0.999:
                out[0, :, y, x] = 0
    return out
