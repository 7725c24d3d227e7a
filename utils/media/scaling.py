"""Planes of decoded frames -> RGB as displayed, scaled, on any device: what FFmpeg's swscale makes of them.

That is, of its filters `scale=W:H:flags=bicubic,format=rgb24`. About one value in 1000 is off, by one grey level. To
that end the arithmetic is swscale's: weights of 14 bits along rows and of 12 along columns, sums between the two cut
off at 7 binary places, chroma that is sited in the centre, whatever the video says, and scaled straight to the size of
the output, or to half its columns.

All sums are computed by `embedding_bag`, as weighted sums of rows: in float32, whatever precision is allowed to matrix
products, and without a copy of each row for each output that it is part of.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from utils.media.colours import RGB, Conversion, by_tables, in_full, unscaled
from utils.media.raw_frame import LAYOUTS, SCALED, RawFormat

PIXELS_PER_SLICE = 2**24  # as stored, of the pictures that are scaled together
NUM_CACHED = 32  # formats; a video has one, or few

ROW_BITS, COLUMN_BITS = 14, 12  # of the weights along them
BINARY_PLACES = 7  # of the sums of rows, in grey levels,
LARGEST_SUM = 2**15 - 1  # which are no larger than this in such units
SHARPNESS = int(0.6 * 2**24) / 2**24  # the C of the bicubic kernels of Mitchell and Netravali, in fixed point; B is 0
NEGLIGIBLE = 0.002  # sum of weights at an end of the kernel, which is 6 in its middle

# What FFmpeg's filters do: whether rows become columns, and which axes are flipped after that.
TURNS: dict[str, tuple[bool, tuple[int, ...]]] = {
    "hflip": (False, (-1,)),
    "vflip": (False, (-2,)),
    "transpose=clock": (True, (-1,)),
    "transpose=cclock": (True, (-2,)),
    "transpose=cclock_flip": (True, ()),
    "transpose=clock_flip": (True, (-2, -1)),
}

Indices = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float64]


def scaled(data: Tensor, form: RawFormat) -> Tensor:
    """The pictures of one format, uint8 (B, bytes), as displayed, RGB, uint8 (B, 3, H, W)."""
    if form.pixels == SCALED:
        return data.view(-1, form.height, form.width, 3).permute(0, 3, 1, 2).contiguous()
    scaler = _scaler(form, data.device)
    output = data.new_empty(len(data), 3, form.scaled_height, form.scaled_width)
    step = max(1, PIXELS_PER_SLICE // (form.width * form.height))
    for begin in range(0, len(data), step):
        for channel, colour in enumerate(scaler(data[begin : begin + step])):
            output[begin : begin + step, channel] = colour.clamp_(0, 255)
    return output


class Filter(NamedTuple):
    """Each output is a weighted sum of inputs; both are (outputs, taps)."""

    indices: Tensor
    weights: Tensor

    def sums(self, rows: Tensor) -> Tensor:
        """Of rows (inputs, N): (outputs, N)."""
        return F.embedding_bag(self.indices, rows, per_sample_weights=self.weights, mode="sum")


class Filters(NamedTuple):
    """What scales planes of one size."""

    along_rows: Filter
    along_columns: Filter

    def scaled(self, planes: Tensor) -> Tensor:
        """Samples (B, C, H, W) to grey levels (B, C, H', W')."""
        batch, channels, height, _ = planes.shape
        columns = planes.permute(3, 0, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        sums = self.along_rows.sums(columns.flatten(1)).floor_().clamp_(max=LARGEST_SUM)  # (W', B C H)
        rows = sums.view(-1, batch, channels, height).permute(3, 1, 2, 0).reshape(height, -1)
        levels = self.along_columns.sums(rows)  # (H', B C W')
        return levels.view(len(levels), batch, channels, -1).permute(1, 2, 0, 3)


class _Scaler:
    """Makes red, green and blue, each (B, H, W), not yet clamped, of pictures (B, bytes)."""

    def __init__(self, form: RawFormat, device: torch.device) -> None:
        self.form = form
        self.layout = LAYOUTS[form.pixels]
        self.conversion = Conversion.of(form.matrix, form.is_full_range)
        size, target = form.displayed_size, (form.scaled_width, form.scaled_height)
        self.luma = _filters(size, target, self.layout.bits, device)
        shifts = self.layout.chroma_shifts
        if shifts is None:
            return
        is_halved = shifts != (0, 0)
        self.is_in_full = not is_halved or target[0] % 2 == 1
        is_planar = self.layout.bits == 8 and not self.layout.is_interleaved
        self.is_unscaled = size == target and is_halved and is_planar and target[1] % 2 == 0
        chroma_size = form.chroma_size[::-1] if form.is_transposed else form.chroma_size
        chroma_target = target if self.is_in_full else (target[0] // 2, target[1])
        self.chroma = _filters(chroma_size, chroma_target, self.layout.bits, device)

    def __call__(self, data: Tensor) -> RGB:
        luma, chroma = self._planes(data)
        if chroma is not None and self.is_unscaled:
            u, v = self._repeated(chroma).unbind(1)
            return unscaled(luma[:, 0], u, v, self.conversion)
        y = self.luma.scaled(luma)[:, 0]
        if chroma is None:
            return (y + 0.5,) * 3
        u, v = self.chroma.scaled(chroma).unbind(1)
        return (in_full if self.is_in_full else by_tables)(y, u, v, self.conversion)

    def _planes(self, data: Tensor) -> tuple[Tensor, Tensor | None]:
        """The samples of luma (B, 1, H, W) and of chroma (B, 2, H, W), as displayed."""
        samples = data.view(torch.int16) if self.layout.num_bytes == 2 else data
        width, height = self.form.width, self.form.height
        luma = self._turned(samples[:, : width * height].view(-1, 1, height, width))
        if self.layout.chroma_shifts is None:
            return luma, None
        width, height = self.form.chroma_size
        chroma = samples[:, self.form.width * self.form.height :]
        if self.layout.is_interleaved:
            return luma, self._turned(chroma.view(-1, height, width, 2).permute(0, 3, 1, 2))
        return luma, self._turned(chroma.view(-1, 2, height, width))

    def _turned(self, planes: Tensor) -> Tensor:
        for step in self.form.orientation:
            is_transposed, flipped = TURNS[step]
            planes = (planes.mT if is_transposed else planes).flip(flipped)
        return planes

    def _repeated(self, chroma: Tensor) -> Tensor:
        """Each sample for all the pixels that it is of."""
        assert self.layout.chroma_shifts is not None
        for dim, shift, side in zip((3, 2), self.layout.chroma_shifts, self.form.displayed_size, strict=True):
            chroma = chroma.repeat_interleave(2**shift, dim).narrow(dim, 0, side)
        return chroma


@lru_cache(NUM_CACHED)
def _scaler(form: RawFormat, device: torch.device) -> _Scaler:
    return _Scaler(form, device)


def _filters(source: tuple[int, int], target: tuple[int, int], bits: int, device: torch.device) -> Filters:
    """Between widths and heights; of samples of so many bits."""
    along_rows = _filter(source[0], target[0], ROW_BITS, bits - 8 + ROW_BITS - BINARY_PLACES, device)
    along_columns = _filter(source[1], target[1], COLUMN_BITS, BINARY_PLACES + COLUMN_BITS, device)
    return Filters(along_rows, along_columns)


def _filter(source: int, target: int, bits: int, shift: int, device: torch.device) -> Filter:
    """Of `source` samples to `target`, with weights of so many bits, whose results are to be shifted to the right."""
    indices, weights = _taps(source, target, bits)
    return Filter(torch.from_numpy(indices).to(device), torch.from_numpy(weights / 2**shift).float().to(device))


def _taps(source: int, target: int, bits: int) -> tuple[Indices, Weights]:
    """Which of `source` samples each of `target` is the sum of, and their weights, whole numbers that add up to
    2^bits; both (target, taps).
    """
    step = ((source << 16) + (target >> 1)) // target  # in 65536ths of a sample
    outputs = np.arange(target)
    if abs(step - 2**16) < 10:
        return outputs[:, None], np.full((target, 1), 2.0**bits)
    is_shrinking = step > 2**16
    number = 1 + (-(-4 * source // target) if is_shrinking else 4)
    number = max(1, min(number, source - 2))
    centres = ((2 * outputs + 1) * step - 2**16) / 2**17
    begins = np.trunc(centres - (number - 2) / 2).astype(np.int64)
    distances = np.abs(begins[:, None] + np.arange(number) - centres[:, None])
    weights = _kernel(distances * target / source if is_shrinking else distances)
    begins, weights = _trimmed(begins, weights)

    # What lies outside counts for the sample at the edge.
    number = weights.shape[1]
    inside = np.clip(begins[:, None] + np.arange(number), 0, source - 1)
    begins = np.clip(begins, 0, source - number)
    folded = np.zeros_like(weights)
    np.add.at(folded, (outputs[:, None], inside - begins[:, None]), weights)
    return begins[:, None] + np.arange(number), _whole(folded, 2**bits)


def _kernel(distance: Weights) -> Weights:
    """Six times the bicubic kernel."""
    c, d = SHARPNESS, distance
    near = (12 - 6 * c) * d**3 + (6 * c - 18) * d**2 + 6
    far = c * (-6 * d**3 + 30 * d**2 - 48 * d + 24)
    return np.where(d < 1, near, np.where(d < 2, far, 0))


def _trimmed(begins: Indices, weights: Weights) -> tuple[Indices, Weights]:
    """Without what is negligible at the left; and at the right, as far as it is so in all rows."""
    number = weights.shape[1]
    negligible = (np.abs(weights).cumsum(axis=1) <= NEGLIGIBLE).sum(axis=1)
    kept = np.minimum.accumulate((begins + negligible)[::-1])[::-1]  # no output begins after the next one
    places = (kept - begins)[:, None] + np.arange(number)
    weights = np.take_along_axis(np.pad(weights, ((0, 0), (0, number))), places, axis=1)
    negligible = (np.abs(weights[:, :0:-1]).cumsum(axis=1) <= NEGLIGIBLE).sum(axis=1)
    return kept, weights[:, : number - negligible.min()]


def _whole(weights: Weights, total: int) -> Weights:
    """In proportion, as whole numbers, of which each makes up for the rounding of the one before."""
    units = weights.sum(axis=1) / total
    rounded = np.empty_like(weights)
    left = np.zeros(len(weights))
    for tap in range(weights.shape[1]):
        left += weights[:, tap]
        exact = left / units
        rounded[:, tap] = np.trunc(exact + np.copysign(0.5, exact))
        left -= rounded[:, tap] * units
    return rounded
