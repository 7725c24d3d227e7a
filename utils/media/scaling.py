"""Planes of raw frames -> RGB as displayed, scaled, on any device, with the numbers of FFmpeg's swscale.

They are those of its filters `scale=W:H:flags=bicubic,format=rgb24`; about one value in 1000 differs, by one grey
level. The arithmetic is swscale's: weights of 14 bits along rows and of 12 along columns, sums between the two cut off
at 7 binary places, and chroma that is sited in the centre, whatever the video says, and scaled straight to the size of
the output or to half its columns.

`embedding_bag` computes all sums, as weighted sums of rows: in float32, whatever precision matrix products may have,
and without a copy of each row for each output that it is part of.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from utils.media.raw_frame import LAYOUTS, SCALED, RawFormat
from utils.media.yuv_to_rgb import RGB, Matrix, convert_full_chroma, convert_half_chroma, convert_unscaled

PIXELS_PER_SLICE = 2**24  # as stored, of the frames that are scaled together
NUM_CACHED = 32  # formats; a video has one, or few

# swscale's numbers
ROW_BITS, COLUMN_BITS = 14, 12  # of the weights along them
BINARY_PLACES = 7  # of the sums of rows, in grey levels,
LARGEST_SUM = 2**15 - 1  # which are no larger than this in such units
SHARPNESS = int(0.6 * 2**24) / 2**24  # the C of the bicubic kernels of Mitchell and Netravali, in fixed point; B is 0
NEGLIGIBLE = 0.002  # sum of weights at an end of the kernel, which is 6 in its middle

TURNS: dict[str, tuple[bool, tuple[int, ...]]] = {  # by FFmpeg's filter: whether it transposes, then flips which axes
    "hflip": (False, (-1,)),
    "vflip": (False, (-2,)),
    "transpose=clock": (True, (-1,)),
    "transpose=cclock": (True, (-2,)),
    "transpose=cclock_flip": (True, ()),
    "transpose=clock_flip": (True, (-2, -1)),
}

Size = tuple[int, int]
"""Width and height."""

Filter = tuple[Tensor, Tensor]
"""Makes each output a weighted sum of inputs: their indices and weights, both (outputs, taps)."""

Indices = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float64]


def scale(data: Tensor, raw_format: RawFormat) -> Tensor:
    """Scale raw frames of one format, uint8 (B, bytes), to RGB as displayed, uint8 (B, 3, H, W)."""
    if raw_format.pixels == SCALED:
        return data.view(-1, raw_format.height, raw_format.width, 3).permute(0, 3, 1, 2).contiguous()
    scaler = _scaler(raw_format, data.device)
    output = data.new_empty(len(data), 3, raw_format.scaled_height, raw_format.scaled_width)
    step = max(1, PIXELS_PER_SLICE // (raw_format.width * raw_format.height))
    for begin in range(0, len(data), step):
        for channel, colour in enumerate(scaler(data[begin : begin + step])):
            output[begin : begin + step, channel] = colour.clamp_(0, 255)
    return output


class _Scaler:
    """Scales raw frames (B, bytes) of one format to red, green and blue, each (B, H, W), not yet clamped."""

    def __init__(self, raw_format: RawFormat, device: torch.device) -> None:
        self.format = raw_format
        self.layout = LAYOUTS[raw_format.pixels]
        self.matrix = Matrix.from_number(raw_format.matrix, raw_format.is_full_range)
        size, target = raw_format.displayed_size, (raw_format.scaled_width, raw_format.scaled_height)
        self.luma = plane_filters(size, target, self.layout.bits, device)
        shifts = self.layout.chroma_shifts
        if shifts is None:
            return
        is_subsampled = shifts != (0, 0)
        self.has_full_chroma = not is_subsampled or target[0] % 2 == 1
        self.keeps_size = size == target and is_subsampled and self.layout.bits == 8 and target[1] % 2 == 0
        chroma_size = raw_format.chroma_size[::-1] if raw_format.is_transposed else raw_format.chroma_size
        chroma_target = target if self.has_full_chroma else (target[0] // 2, target[1])
        self.chroma = plane_filters(chroma_size, chroma_target, self.layout.bits, device)

    def __call__(self, data: Tensor) -> RGB:
        samples = data.view(torch.int16) if self.layout.bits > 8 else data
        luma, chroma = samples.tensor_split([self.format.width * self.format.height], dim=1)
        luma = self._turn(luma.view(-1, 1, self.format.height, self.format.width))
        if self.layout.chroma_shifts is None:
            return (scale_planes(luma, self.luma)[:, 0] + 0.5,) * 3
        width, height = self.format.chroma_size
        chroma = self._turn(chroma.view(-1, 2, height, width))
        if self.keeps_size:  # each sample of chroma is repeated for all its pixels
            for dim, shift, side in zip((3, 2), self.layout.chroma_shifts, self.format.displayed_size, strict=True):
                chroma = chroma.repeat_interleave(2**shift, dim).narrow(dim, 0, side)
            return convert_unscaled(luma[:, 0], chroma[:, 0], chroma[:, 1], self.matrix)
        y, uv = scale_planes(luma, self.luma)[:, 0], scale_planes(chroma, self.chroma)
        convert = convert_full_chroma if self.has_full_chroma else convert_half_chroma
        return convert(y, uv[:, 0], uv[:, 1], self.matrix)

    def _turn(self, planes: Tensor) -> Tensor:
        for step in self.format.orientation:
            is_transposed, flipped = TURNS[step]
            planes = (planes.mT if is_transposed else planes).flip(flipped)
        return planes


_scaler = lru_cache(NUM_CACHED)(_Scaler)


def plane_filters(source: Size, target: Size, bits: int, device: torch.device) -> list[Filter]:
    """Return the filters along rows and along columns that scale planes of samples of so many bits."""
    shifts = (bits - 8 + ROW_BITS - BINARY_PLACES, BINARY_PLACES + COLUMN_BITS)  # of the sums, to the right
    filters = []
    for inputs, outputs, weight_bits, shift in zip(source, target, (ROW_BITS, COLUMN_BITS), shifts, strict=True):
        indices, weights = _taps(inputs, outputs, weight_bits)
        filters.append((torch.from_numpy(indices).to(device), torch.from_numpy(weights / 2**shift).float().to(device)))
    return filters


def scale_planes(planes: Tensor, filters: list[Filter]) -> Tensor:
    """Scale samples (B, C, H, W) to grey levels (B, C, H', W')."""
    batch, channels, height, _ = planes.shape
    (row_taps, row_weights), (column_taps, column_weights) = filters
    columns = planes.permute(3, 0, 1, 2).contiguous().float().flatten(1)  # transposed while samples are small
    sums = F.embedding_bag(row_taps, columns, per_sample_weights=row_weights, mode="sum")  # (W', B C H)
    sums = sums.floor_().clamp_(max=LARGEST_SUM)
    rows = sums.view(-1, batch, channels, height).permute(3, 1, 2, 0).reshape(height, -1)
    levels = F.embedding_bag(column_taps, rows, per_sample_weights=column_weights, mode="sum")  # (H', B C W')
    return levels.view(len(levels), batch, channels, -1).permute(1, 2, 0, 3)


def _taps(source: int, target: int, bits: int) -> tuple[Indices, Weights]:
    """Return the indices of the `source` samples in the sum for each of `target`, and their weights.

    Both are (target, taps); weights are whole numbers and add up to 2**bits.
    """
    step = ((source << 16) + (target >> 1)) // target  # in 65536ths of a sample
    outputs = np.arange(target)
    if abs(step - 2**16) < 10:
        return outputs[:, None], np.full((target, 1), 2.0**bits)
    is_shrinking = step > 2**16
    num_taps = 1 + (-(-4 * source // target) if is_shrinking else 4)
    num_taps = max(1, min(num_taps, source - 2))
    centres = ((2 * outputs + 1) * step - 2**16) / 2**17
    begins = np.trunc(centres - (num_taps - 2) / 2).astype(np.int64)
    distances = np.abs(begins[:, None] + np.arange(num_taps) - centres[:, None])
    c, d = SHARPNESS, distances * target / source if is_shrinking else distances
    near = (12 - 6 * c) * d**3 + (6 * c - 18) * d**2 + 6  # six times the bicubic kernel
    far = c * (-6 * d**3 + 30 * d**2 - 48 * d + 24)
    begins, weights = _trim(begins, np.where(d < 1, near, np.where(d < 2, far, 0)))

    # A weight outside the image is added to that of the sample at its edge.
    num_taps = weights.shape[1]
    inside = np.clip(begins[:, None] + np.arange(num_taps), 0, source - 1)
    begins = np.clip(begins, 0, source - num_taps)
    folded = np.zeros_like(weights)
    np.add.at(folded, (outputs[:, None], inside - begins[:, None]), weights)
    return begins[:, None] + np.arange(num_taps), _round_weights(folded, 2**bits)


def _trim(begins: Indices, weights: Weights) -> tuple[Indices, Weights]:
    """Remove negligible weights from the left of each row, and from the right those that are so in all rows."""
    num_taps = weights.shape[1]
    negligible = (np.abs(weights).cumsum(axis=1) <= NEGLIGIBLE).sum(axis=1)
    kept = np.minimum.accumulate((begins + negligible)[::-1])[::-1]  # no output begins after the next one
    indices = (kept - begins)[:, None] + np.arange(num_taps)
    weights = np.take_along_axis(np.pad(weights, ((0, 0), (0, num_taps))), indices, axis=1)
    negligible = (np.abs(weights[:, :0:-1]).cumsum(axis=1) <= NEGLIGIBLE).sum(axis=1)
    return kept, weights[:, : num_taps - negligible.min()]


def _round_weights(weights: Weights, total: int) -> Weights:
    """Round weights to whole numbers that add up to `total` in each row, carrying the error to the next tap."""
    units = weights.sum(axis=1) / total
    rounded = np.empty_like(weights)
    error = np.zeros(len(weights))
    for tap in range(weights.shape[1]):
        error += weights[:, tap]
        exact = error / units
        rounded[:, tap] = np.trunc(exact + np.copysign(0.5, exact))
        error -= rounded[:, tap] * units
    return rounded
