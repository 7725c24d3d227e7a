"""The Triton kernel of `activation.py`.

In memory each tensor is rows, one a pixel, that lie a constant number of elements apart. Rows are cut into vectors,
as many numbers as a thread loads at once; a program takes the next vectors of all pixels, whatever number of channels
they have.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from models.activation import new_output

MOST_PARTS = 7
BYTES_AT_ONCE = 16  # of a thread, the most there is
NUMBERS_PER_PROGRAM = 2048  # 1 to 2 loads a thread and part: an estimate
OPTIONS = {"num_warps": 4, "num_stages": 1, "enable_fp_fusion": False}


def add_and_activate(parts: Sequence[Tensor], bias: Tensor | None, slope: float, out: Tensor | None = None) -> Tensor:
    """Compute `activation.add_and_activate` by the kernel."""
    num_channels = parts[0].shape[1]
    out = new_output(parts[0]) if out is None else out
    assert out.shape[1] >= num_channels
    assert all((part.shape, part.dtype) == (out[:, :num_channels].shape, out.dtype) for part in parts)
    assert bias is None or (bias.shape, bias.stride(), bias.dtype) == ((num_channels,), (1,), torch.float32)
    rows = [out.movedim(1, -1).view(-1, out.shape[1]), *map(_to_rows, parts)]
    assert 1 in (rows[0].stride(1), num_channels)
    strides = [tensor.stride(0) for tensor in rows]
    size = out.element_size()
    aligned = [num_channels, out.shape[1], *strides, *(tensor.data_ptr() // size for tensor in rows)]
    vector = next(n for n in (8, 4, 2, 1) if n * size <= BYTES_AT_ONCE and not any(number % n for number in aligned))
    sizes = [out.numel() // vector, out.shape[1] // vector, num_channels // vector]
    strides += [0] * (1 + MOST_PARTS - len(strides))
    grid = (triton.cdiv(out.numel(), NUMBERS_PER_PROGRAM),)
    with torch.cuda.device_of(out):  # type: ignore[no-untyped-call]
        add_and_activate_kernel[grid](
            tuple(rows[1:]), bias, rows[0], slope, *sizes, *strides,
            vector=vector, vectors=NUMBERS_PER_PROGRAM // vector, **OPTIONS,
        )  # fmt: skip
    return out


def _to_rows(part: Tensor) -> Tensor:
    """Return a view (pixels, channels) with channels side by side, or a copy where there can be none."""
    rows = part.movedim(1, -1).reshape(-1, part.shape[1])
    return rows if rows.stride(1) == 1 else rows.contiguous()


# Compiled for each number of parts and each size of vectors, for no number of channels or pixels.
@triton.jit(do_not_specialize=list(range(3, 15)))  # type: ignore[untyped-decorator]
def add_and_activate_kernel(  # type: ignore[no-untyped-def]
    parts, bias, out, slope, num_vectors, vectors_per_pixel, vectors_per_part,
    out_stride, stride_0, stride_1, stride_2, stride_3, stride_4, stride_5, stride_6,
    vector: tl.constexpr, vectors: tl.constexpr,
):  # fmt: skip
    strides = (stride_0, stride_1, stride_2, stride_3, stride_4, stride_5, stride_6)
    start = tl.program_id(0).to(tl.int64) * vectors
    first_pixel = start // vectors_per_pixel
    index = (start - first_pixel * vectors_per_pixel).to(tl.int32) + tl.arange(0, vectors)  # in the first pixel and on
    pixel = first_pixel + index // vectors_per_pixel
    vector_of_pixel = (index % vectors_per_pixel)[:, None]
    channel = vector_of_pixel * vector + tl.arange(0, vector)[None, :]
    is_inside = (start + tl.arange(0, vectors) < num_vectors)[:, None]
    is_sum = vector_of_pixel < vectors_per_part
    total = tl.zeros((vectors, vector), tl.float32)
    if bias is not None:
        total += tl.load(bias + channel, mask=is_sum, other=0.0)
    for i in tl.static_range(len(parts)):
        offset = tl.multiple_of(pixel * strides[i], vector)[:, None] + channel
        total += tl.load(parts[i] + offset, mask=is_inside & is_sum, other=0.0).to(tl.float32)
    total = tl.where(total > 0.0, total, total * slope)
    total = tl.where(is_sum, total, 1.0)
    offset = tl.multiple_of(pixel * out_stride, vector)[:, None] + channel
    tl.store(out + offset, total.to(out.dtype.element_ty), mask=is_inside)
