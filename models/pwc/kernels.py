"""The costs of PWC-Net's matching in one Triton kernel: warp, cost volume and activation (arXiv:1709.02371, section 3).

It computes `plain_matching_costs` of `matching.py`, but the warped image and the costs before their activation stay
out of memory. Importing this needs Triton, which comes with PyTorch for CUDA and not for the CPU.

A program takes a tile of the first image's pixels and goes through the rows of the second image that they reach. It
warps the reached part of a row and multiplies it with the whole tile in one matrix product; the costs are a few of
its diagonals. A tile has several rows so that a warped row serves more than one of them.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from models.pwc.cost_volume import MAX_DISPLACEMENT, NEGATIVE_SLOPE

TILE_ROWS = tl.constexpr(4)
TILE_COLUMNS = tl.constexpr(8)
REACHED_COLUMNS = tl.constexpr(TILE_COLUMNS.value + 2 * MAX_DISPLACEMENT)
REACH = tl.constexpr(MAX_DISPLACEMENT)
SLOPE = tl.constexpr(NEGATIVE_SLOPE)
BYTES_AT_ONCE = 64  # of a pixel's channels
OPTIONS = {"num_warps": 2, "num_stages": 1, "enable_fp_fusion": True}


def matching_costs(first: Tensor, second: Tensor, flow: Tensor | None, out: Tensor) -> None:
    """Compute `matching.matching_costs` by the kernel."""
    batch, channels, height, width = first.shape
    assert (second.shape, second.dtype) == (first.shape, first.dtype)
    assert flow is None or flow.shape == (batch, 2, height, width)
    assert (out.shape[0], *out.shape[2:]) == (batch, height, width)
    first, second = (
        image if image.stride(1) == 1 else image.contiguous(memory_format=torch.channels_last)
        for image in (first, second)
    )
    strides = [image.stride(dim) for image in (first, second) for dim in (0, 2, 3)]
    constants = {
        "channels": channels,
        "channels_at_once": BYTES_AT_ONCE // first.element_size(),
        "alignment": next(n for n in (16, 8, 4, 2, 1) if not any(stride % n for stride in strides)),
    }
    strides += [*((0, 0, 0, 0) if flow is None else flow.stride()), *out.stride()]
    grid = (triton.cdiv(width, TILE_COLUMNS.value), triton.cdiv(height, TILE_ROWS.value), batch)
    with torch.cuda.device_of(first):  # type: ignore[no-untyped-call]
        matching_costs_kernel[grid](first, second, flow, out, height, width, *strides, **constants, **OPTIONS)


# `alignment` is a power of two that divides all strides of the images, which are in elements; their channels lie side
# by side. No kernel is compiled for a single size or stride (arguments 4 to 19).
@triton.jit(do_not_specialize=list(range(4, 20)))  # type: ignore[untyped-decorator]
def matching_costs_kernel(  # type: ignore[no-untyped-def]
    first, second, flow, out, height, width,
    first_b, first_y, first_x, second_b, second_y, second_x, flow_b, flow_c, flow_y, flow_x, out_b, out_c, out_y, out_x,
    channels: tl.constexpr, channels_at_once: tl.constexpr, alignment: tl.constexpr,
):  # fmt: skip
    displacements: tl.constexpr = 2 * REACH + 1
    batch = tl.program_id(2).to(tl.int64)
    top = tl.program_id(1) * TILE_ROWS
    left = tl.program_id(0) * TILE_COLUMNS

    pixel = tl.arange(0, TILE_ROWS * TILE_COLUMNS)
    row = pixel // TILE_COLUMNS
    column = pixel % TILE_COLUMNS
    y = (top + row).to(tl.int64)
    x = left + column
    is_pixel = (y < height) & (x < width)
    first_pixel = tl.multiple_of(batch * first_b + y * first_y + x * first_x, alignment)
    out_pixel = batch * out_b + y * out_y + x * out_x

    reached_column = tl.arange(0, REACHED_COLUMNS)
    reached_x = left - REACH + reached_column
    is_column = (reached_x >= 0) & (reached_x < width)
    dx = reached_column[None, :] - column[:, None]  # from 0, as is dy
    is_dx = (dx >= 0) & (dx < displacements)

    for reached_row in range(TILE_ROWS + displacements - 1):
        reached_y = tl.full((REACHED_COLUMNS,), top - REACH + reached_row, tl.int32)
        is_reached = is_column & (reached_y >= 0) & (reached_y < height)
        if flow is None:
            corner = batch * second_b + reached_y.to(tl.int64) * second_y + reached_x * second_x
            corner = tl.multiple_of(corner, alignment)
        else:
            vector = flow + (batch * flow_b + reached_y.to(tl.int64) * flow_y + reached_x * flow_x)
            source_x = tl.load(vector, mask=is_reached, other=0.0).to(tl.float32) + reached_x.to(tl.float32)
            source_y = tl.load(vector + flow_c, mask=is_reached, other=0.0).to(tl.float32) + reached_y.to(tl.float32)
            # Sources far outside, infinite or NaN fail a comparison here and are never converted to integers.
            is_reached &= (source_x > -1.0) & (source_x < width) & (source_y > -1.0) & (source_y < height)
            source_x = tl.where(is_reached, source_x, 0.0)
            source_y = tl.where(is_reached, source_y, 0.0)
            inside_x = tl.minimum(tl.minimum(source_x + 1.0, width - source_x), 1.0)
            inside_y = tl.minimum(tl.minimum(source_y + 1.0, height - source_y), 1.0)
            is_reached &= inside_x * inside_y > 0.999
            corner_x = tl.floor(source_x).to(tl.int32)
            corner_y = tl.floor(source_y).to(tl.int32)

        products = tl.zeros((TILE_ROWS * TILE_COLUMNS, REACHED_COLUMNS), dtype=tl.float32)
        for start in range(0, channels, channels_at_once):
            channel = start + tl.arange(0, channels_at_once)[None, :]
            is_channel = channel < channels
            features = tl.load(first + (first_pixel[:, None] + channel), is_pixel[:, None] & is_channel, other=0.0)
            if flow is None:
                matched = tl.load(second + (corner[:, None] + channel), is_reached[:, None] & is_channel, other=0.0)
            else:
                warped = tl.zeros((REACHED_COLUMNS, channels_at_once), dtype=tl.float32)
                for down in tl.static_range(2):
                    for over in tl.static_range(2):
                        tap_x = corner_x + over
                        tap_y = corner_y + down
                        weight = (1.0 - tl.abs(source_x - tap_x)) * (1.0 - tl.abs(source_y - tap_y))
                        is_tap = is_reached & (tap_x >= 0) & (tap_x < width) & (tap_y >= 0) & (tap_y < height)
                        tap = batch * second_b + tap_y.to(tl.int64) * second_y + tap_x * second_x
                        tap = second + (tl.multiple_of(tap, alignment)[:, None] + channel)
                        warped += tl.load(tap, is_tap[:, None] & is_channel, other=0.0).to(tl.float32) * weight[:, None]
                matched = warped.to(features.dtype)
            products = tl.dot(features, tl.trans(matched), products, input_precision="ieee")

        dy = reached_row - row[:, None]
        costs = products * (1.0 / channels)
        costs = tl.where(costs > 0.0, costs, costs * SLOPE)
        is_cost = is_pixel[:, None] & is_dx & (dy >= 0) & (dy < displacements)
        offset = out_pixel[:, None] + (dy * displacements + dx) * out_c
        tl.store(out + offset, costs.to(out.dtype.element_ty), mask=is_cost)
