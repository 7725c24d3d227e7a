"""The costs of PWC-Net's matching in one Triton kernel: warp, cost volume and activation (arXiv:1709.02371, section 3).

What it computes is `plain_matching_costs` in `cost_volume.py`, but the warped image and the costs before their
activation never go through memory. Importing this needs Triton, which comes with PyTorch for CUDA and not for the CPU.

A program takes a tile of the first image's pixels and goes through the rows of the second image that they reach. It
warps the part of a row that is reached and multiplies it with the whole tile in one matrix product, of which the
costs are a few diagonals. That the tile has several rows lets a warped row serve more than one of them.
"""

import threading

import torch
import triton
import triton.language as tl
from torch import Tensor

from models.pwc.cost_volume import MAX_DISPLACEMENT, NEGATIVE_SLOPE

TILE_ROWS = 4
TILE_COLUMNS = 8
REACHED_COLUMNS = 16  # TILE_COLUMNS and what displacements reach beyond both ends, rounded up to a power of two
CHANNELS_AT_ONCE = {2: 32, 4: 16}  # by the bytes of an element: 64 bytes of a pixel
WARPS = 2

_launching = threading.Lock()  # Triton sets up a kernel at its first launch, and other threads see it half done

# The strides' values are nothing to compile new kernels for; `alignment` has what matters of them.
_NOT_SPECIALIZED = (
    "height, width, first_b, first_y, first_x, second_b, second_y, second_x, "
    "flow_b, flow_c, flow_y, flow_x, out_b, out_c, out_y, out_x"
).split(", ")


def matching_costs(first: Tensor, second: Tensor, flow: Tensor | None, out: Tensor) -> None:
    """`cost_volume.matching_costs`, by the kernel."""
    batch, channels, height, width = first.shape
    assert second.shape == first.shape and second.dtype == first.dtype
    assert flow is None or flow.shape == (batch, 2, height, width)
    assert out.shape[0] == batch and out.shape[2:] == first.shape[2:]
    first, second = _with_channels_last(first), _with_channels_last(second)
    image_strides = [image.stride(dim) for image in (first, second) for dim in (0, 2, 3)]
    grid = (triton.cdiv(width, TILE_COLUMNS), triton.cdiv(height, TILE_ROWS), batch)
    with _launching, torch.cuda.device_of(first):
        _matching_costs[grid](
            first,
            second,
            flow,
            out,
            height,
            width,
            *image_strides,
            *((0,) * 4 if flow is None else flow.stride()),
            *out.stride(),
            channels=channels,
            alignment=next(n for n in (16, 8, 4, 2, 1) if not any(stride % n for stride in image_strides)),
            max_displacement=MAX_DISPLACEMENT,
            negative_slope=NEGATIVE_SLOPE,
            tile_rows=TILE_ROWS,
            tile_columns=TILE_COLUMNS,
            reached_columns=REACHED_COLUMNS,
            channels_at_once=CHANNELS_AT_ONCE[first.element_size()],
            num_warps=WARPS,
            num_stages=1,
            enable_fp_fusion=True,
        )


def _with_channels_last(image: Tensor) -> Tensor:
    return image if image.stride(1) == 1 else image.contiguous(memory_format=torch.channels_last)


@triton.jit(do_not_specialize=_NOT_SPECIALIZED)
def _matching_costs(
    first,
    second,
    flow,
    out,
    height,
    width,
    first_b,  # strides, in elements; the images' channels lie side by side
    first_y,
    first_x,
    second_b,
    second_y,
    second_x,
    flow_b,
    flow_c,
    flow_y,
    flow_x,
    out_b,
    out_c,
    out_y,
    out_x,
    channels: tl.constexpr,
    alignment: tl.constexpr,  # a power of two that divides the images' strides
    max_displacement: tl.constexpr,
    negative_slope: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_columns: tl.constexpr,
    reached_columns: tl.constexpr,
    channels_at_once: tl.constexpr,
):
    displacements: tl.constexpr = 2 * max_displacement + 1
    batch = tl.program_id(2).to(tl.int64)
    top = tl.program_id(1) * tile_rows
    left = tl.program_id(0) * tile_columns

    pixel = tl.arange(0, tile_rows * tile_columns)
    row = pixel // tile_columns
    column = pixel % tile_columns
    y = (top + row).to(tl.int64)
    x = left + column
    is_pixel = (y < height) & (x < width)
    first_pixel = tl.multiple_of(batch * first_b + y * first_y + x * first_x, alignment)
    out_pixel = batch * out_b + y * out_y + x * out_x

    reached_column = tl.arange(0, reached_columns)
    reached_x = left - max_displacement + reached_column
    is_column = (reached_x >= 0) & (reached_x < width) & (reached_column < tile_columns + displacements - 1)
    dx = reached_column[None, :] - column[:, None]  # from 0, as is dy
    is_dx = (dx >= 0) & (dx < displacements)

    for reached_row in range(0, tile_rows + displacements - 1):
        reached_y = tl.full((reached_columns,), top - max_displacement + reached_row, tl.int32)
        is_reached = is_column & (reached_y >= 0) & (reached_y < height)
        if flow is None:
            corner = batch * second_b + reached_y.to(tl.int64) * second_y + reached_x * second_x
            corner = tl.multiple_of(corner, alignment)
        else:
            vector = flow + (batch * flow_b + reached_y.to(tl.int64) * flow_y + reached_x * flow_x)
            source_x = tl.load(vector, mask=is_reached, other=0.0).to(tl.float32) + reached_x.to(tl.float32)
            source_y = tl.load(vector + flow_c, mask=is_reached, other=0.0).to(tl.float32) + reached_y.to(tl.float32)
            # What is far outside, infinite or not a number fails a comparison here, and becomes no integer below.
            is_reached &= (source_x > -1.0) & (source_x < width) & (source_y > -1.0) & (source_y < height)
            source_x = tl.where(is_reached, source_x, 0.0)
            source_y = tl.where(is_reached, source_y, 0.0)
            inside_x = tl.minimum(tl.minimum(source_x + 1.0, width - source_x), 1.0)
            inside_y = tl.minimum(tl.minimum(source_y + 1.0, height - source_y), 1.0)
            is_reached &= inside_x * inside_y > 0.999
            corner_x = tl.floor(source_x).to(tl.int32)
            corner_y = tl.floor(source_y).to(tl.int32)

        products = tl.zeros((tile_rows * tile_columns, reached_columns), dtype=tl.float32)
        for start in range(0, channels, channels_at_once):
            channel = start + tl.arange(0, channels_at_once)[None, :]
            is_channel = channel < channels
            features = tl.load(first + (first_pixel[:, None] + channel), is_pixel[:, None] & is_channel, other=0.0)
            if flow is None:
                matched = tl.load(second + (corner[:, None] + channel), is_reached[:, None] & is_channel, other=0.0)
            else:
                warped = tl.zeros((reached_columns, channels_at_once), dtype=tl.float32)
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
        costs = tl.where(costs > 0.0, costs, costs * negative_slope)
        is_cost = is_pixel[:, None] & is_dx & (dy >= 0) & (dy < displacements)
        place = out_pixel[:, None] + (dy * displacements + dx) * out_c
        tl.store(out + place, costs.to(out.dtype.element_ty), mask=is_cost)
