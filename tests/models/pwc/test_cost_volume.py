"""The cost volume and the warp, against loops over pixels."""

import logging
import math
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from models.pwc import matching
from models.pwc.cost_volume import cost_volume, warp
from models.pwc.matching import matching_costs, plain_matching_costs


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


def test_a_flow_of_zero_leaves_the_image_unchanged() -> None:
    image = torch.randn(2, 3, 8, 9)
    torch.testing.assert_close(warp(image, torch.zeros(2, 2, 8, 9)), image)


def test_a_flow_of_whole_pixels_moves_the_image_and_leaves_zeros() -> None:
    image = torch.randn(1, 3, 8, 9)
    flow = torch.tensor([2.0, -1.0])[None, :, None, None].expand(1, 2, 8, 9)
    expected = torch.zeros_like(image)
    expected[:, :, 1:, :-2] = image[:, :, :-1, 2:]
    torch.testing.assert_close(warp(image, flow), expected, atol=1e-5, rtol=0)


def test_warping_interpolates_and_masks_like_a_loop_over_pixels() -> None:
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(1, 2, 6, 7, generator=generator)
    flow = 3 * torch.randn(1, 2, 6, 7, generator=generator)
    flow[0, :, 0, 0] = torch.tensor([-0.0005, 0.0])  # 0.05 % of the weight is outside: kept
    flow[0, :, 0, 1] = torch.tensor([-1.002, 0.0])  # 0.2 %: masked
    torch.testing.assert_close(warp(image, flow), _slow_warp(image, flow), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5), (2, 2)])
def test_the_smallest_images_can_be_warped(height: int, width: int) -> None:
    image, flow = torch.randn(1, 2, height, width), torch.full((1, 2, height, width), 0.25)
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


def test_the_kernel_is_used_where_it_computes_what_the_plain_version_does(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert _kernel_found(monkeypatch, SimpleNamespace(matching_costs=plain_matching_costs)) is plain_matching_costs
    assert not caplog.records


@pytest.mark.parametrize("scale", [1.01, math.nan])
def test_a_kernel_that_computes_something_else_is_not_used(
    scale: float, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def wrong(first: Tensor, second: Tensor, flow: Tensor | None, out: Tensor) -> None:
        plain_matching_costs(first * scale, second, flow, out)

    assert _kernel_found(monkeypatch, SimpleNamespace(matching_costs=wrong)) is None
    assert "the kernel is wrong by" in caplog.text


def test_a_kernel_that_fails_is_not_used(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fails(*_: object) -> None:
        raise OSError("no C compiler")

    assert _kernel_found(monkeypatch, SimpleNamespace(matching_costs=fails)) is None
    assert "no C compiler" in caplog.text


def test_without_triton_there_is_no_kernel(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delitem(sys.modules, "models.pwc.kernels", raising=False)
    monkeypatch.setitem(sys.modules, "triton", None)
    assert matching._kernel.__wrapped__(torch.device("cpu"), torch.float32) is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "triton" in caplog.text


def _kernel_found(monkeypatch: pytest.MonkeyPatch, kernels: SimpleNamespace) -> matching.MatchingCosts | None:
    """The kernel that is chosen where `kernels` is in the place of the module of that name."""
    monkeypatch.setitem(sys.modules, "models.pwc.kernels", kernels)
    return matching._kernel.__wrapped__(torch.device("cpu"), torch.float32)


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
