"""Waveform of any rate -> 16 kHz, with the numbers of resampy 0.2.2's `kaiser_best`.

That is band-limited interpolation (J. O. Smith, https://ccrma.stanford.edu/~jos/resample/): each output sample is a
sum of input samples, weighted by a sinc under a Kaiser window, which lies in a table and is interpolated linearly.
Published features were made with it, and 3.6 % of the log-mel hangs on its choices. Two of them are accidents:

- Where the rate goes down, neighbouring input samples are a whole number of table points apart, rounded down.
- Hence it matters on which side of an input sample an output falls. Times are added up in floating point, so many
  outputs that fall right on a sample are taken for ones just before it. Later releases multiply, and take fewer: from
  44.1 kHz theirs differ from 0.2.2 by 2e-4 on noise, and by 3e-3 in single values of log-mel.

The rates are integers, so the weights repeat: those of a hop of 10 ms, 160 outputs, are a matrix, and after 100 hops
at most, one for all common rates, the same matrices come again. A matrix product replaces resampy's loop. Times are
exact, but for that side, which is taken as in 0.2.2.
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.vggish.chunks import chunks

RATE_HZ = 16_000

NUM_ZEROS = 64  # zero crossings of the sinc, on either side
POINTS_PER_ZERO = 512  # of the table
ROLLOFF = 0.9475937167399596
KAISER_BETA = 14.769656459379492

HOPS_PER_SECOND = 100
HOP = RATE_HZ // HOPS_PER_SECOND  # outputs
CHUNK_SECONDS = 30


def resampled(blocks: Iterable[Tensor], rate_hz: int) -> Iterator[Tensor]:
    """A waveform (samples,) of `rate_hz`, in blocks of any length, at 16 kHz: int(samples * 16000 / rate_hz) samples.

    Outside of it there is silence. A waveform of 16 kHz stays as it is.
    """
    if rate_hz == RATE_HZ:
        yield from blocks
        return
    num_taken = num_given = 0

    def padded() -> Iterator[Tensor]:
        nonlocal num_taken
        for block in blocks:
            if num_taken == 0:
                yield block.new_zeros(_reach(rate_hz) - 1)
            num_taken += len(block)
            yield block
        if num_taken:
            yield block.new_zeros(2 * _reach(rate_hz))

    starts = torch.arange(CHUNK_SECONDS * HOPS_PER_SECOND) * rate_hz // HOPS_PER_SECOND
    size = int(starts[-1]) + _width(rate_hz)
    early = _early_outputs(rate_hz)
    for chunk in chunks(padded(), size, step=CHUNK_SECONDS * rate_hz):
        bank = filter_bank(rate_hz, chunk.device)
        samples = F.pad(chunk, (0, size - len(chunk)))
        windows = samples.unfold(0, _width(rate_hz), 1)[starts].view(-1, len(bank.hops), _width(rate_hz))
        outputs = torch.einsum("chw,hwo->cho", windows, bank.hops).flatten()
        places = next(early)
        windows = samples.unfold(0, len(bank.early), 1)[places * rate_hz // RATE_HZ]
        outputs[places] += windows @ bank.early
        outputs = outputs[: int(num_taken * (RATE_HZ / rate_hz)) - num_given]
        num_given += len(outputs)
        yield outputs


def _early_outputs(rate_hz: int) -> Iterator[Tensor]:
    """For each chunk, the places in it of the outputs that fall on an input sample and are taken for earlier ones."""
    step = 1 / (RATE_HZ / rate_hz)  # input samples from one output to the next, rounded as resampy does
    num_outputs = CHUNK_SECONDS * RATE_HZ
    places = np.arange(0, num_outputs, RATE_HZ // math.gcd(RATE_HZ, rate_hz))
    steps = np.full(num_outputs, step)
    time = 0.0
    for chunk in itertools.count():
        times = np.cumsum(np.append(time, steps))
        samples = places * rate_hz // RATE_HZ + chunk * CHUNK_SECONDS * rate_hz
        yield torch.from_numpy(places[times[places] < samples])
        time = times[-1]


class FilterBank(NamedTuple):
    """What input samples weigh in outputs, float32."""

    hops: Tensor
    """(hops, width, 160), for the hops that differ. Hop h gives outputs 160 h to 160 h + 159 from the input samples
    that start `_reach` - 1 before sample h * rate_hz // 100."""

    early: Tensor
    """(2 * reach,), what to add for an output that falls on an input sample and is taken for one just before it. The
    input samples start `_reach` - 1 before that one."""


@lru_cache(maxsize=2)  # most videos have the same rate
def filter_bank(rate_hz: int, device: torch.device) -> FilterBank:
    """The weights that resample from `rate_hz`, on the device."""
    reach = _reach(rate_hz)
    hops = []
    for hop in range(HOPS_PER_SECOND // math.gcd(HOPS_PER_SECOND, rate_hz)):
        first = hop * rate_hz // HOPS_PER_SECOND - (reach - 1)
        times = torch.arange(hop * HOP, (hop + 1) * HOP) * rate_hz  # in 16000ths of an input sample
        distances = times // RATE_HZ - first - torch.arange(_width(rate_hz))[:, None]  # (width, 160)
        hops.append(_weights(distances, (times % RATE_HZ).double() / RATE_HZ, rate_hz).float())
    distances = reach - 1 - torch.arange(2 * reach)
    on_sample, just_before = torch.tensor([0.0, 1.0], dtype=torch.float64)
    early = _weights(distances - 1, just_before, rate_hz) - _weights(distances, on_sample, rate_hz)
    return FilterBank(torch.stack(hops).to(device), early.float().to(device))


def _weights(distances: Tensor, fractions: Tensor, rate_hz: int) -> Tensor:
    """What input samples weigh, float64, that lie `distances` + `fractions` of a sample before an output.

    `distances` are whole, and `fractions` are from 0 to 1.
    """
    scale = min(1.0, RATE_HZ / rate_hz)
    points_per_sample = int(scale * POINTS_PER_ZERO)
    table = _half_filter() * scale
    is_before = distances >= 0
    taps = torch.where(is_before, distances, -distances - 1)
    places = torch.where(is_before, fractions, 1 - fractions) * (scale * POINTS_PER_ZERO)  # of the nearest sample
    is_inside = taps < (len(table) - places.long()) // points_per_sample
    points = torch.where(is_inside, places.long() + taps * points_per_sample, 0)
    slopes = torch.diff(table, append=table[-1:])
    return torch.where(is_inside, table[points] + places.frac() * slopes[points], 0)


@lru_cache(maxsize=1)
def _half_filter() -> Tensor:
    """The right half of the windowed sinc, float64, 512 points a zero crossing and one more."""
    num_points = NUM_ZEROS * POINTS_PER_ZERO
    times = torch.linspace(0, NUM_ZEROS, num_points + 1, dtype=torch.float64)
    window = torch.kaiser_window(2 * num_points + 1, periodic=False, beta=KAISER_BETA, dtype=torch.float64)
    return ROLLOFF * torch.sinc(ROLLOFF * times) * window[num_points:]


def _reach(rate_hz: int) -> int:
    """How many input samples on either side an output depends on."""
    return (NUM_ZEROS * POINTS_PER_ZERO + 1) // int(min(1.0, RATE_HZ / rate_hz) * POINTS_PER_ZERO)


def _width(rate_hz: int) -> int:
    """How many input samples the outputs of one hop depend on."""
    return -(-rate_hz // HOPS_PER_SECOND) + 2 * _reach(rate_hz)
