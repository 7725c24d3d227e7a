"""Waveform of any rate -> 16 kHz: band-limited interpolation (J. O. Smith, https://ccrma.stanford.edu/~jos/resample/).

Each output sample is a sum of input samples weighted by a Kaiser-windowed sinc, which is interpolated linearly in a
table. The filter is `kaiser_best` of resampy 0.2.2, which published features were made with. It is applied as resampy
0.4.3 applies it. (Release 0.2.2 added up the times of outputs and so placed some just before the input they fall on.)
Rates are integers, so weights repeat: those of the 160 outputs of a hop of 10 ms are a matrix, and after at most 100
hops (1 where the rate is a multiple of 100) the same matrices come again.
"""

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from models.vggish.chunks import chunks

RATE_HZ = 16_000
HOPS_PER_SECOND = 100
HOP = RATE_HZ // HOPS_PER_SECOND  # outputs
CHUNK_SECONDS = 30

NUM_ZEROS = 64  # zero crossings of the sinc, on either side
POINTS_PER_ZERO = 512  # of the table
ROLLOFF = 0.9475937167399596
KAISER_BETA = 14.769656459379492


def resample(blocks: Iterable[Tensor], rate_hz: int) -> Iterator[Tensor]:
    """Yield a waveform (samples,) of `rate_hz`, given in blocks of any length, at 16 kHz in chunks of 30 s.

    Of n samples it makes n * 16000 // rate_hz, with silence around them. At 16 kHz the blocks pass unchanged.
    """
    if rate_hz == RATE_HZ:
        yield from blocks
        return
    reach = _reach(rate_hz)
    width = -(-rate_hz // HOPS_PER_SECOND) + 2 * reach
    num_inputs = num_outputs = 0

    def pad_with_silence() -> Iterator[Tensor]:
        nonlocal num_inputs
        for block in blocks:
            if num_inputs == 0:
                yield block.new_zeros(reach - 1)
            num_inputs += len(block)
            yield block
        if num_inputs:
            yield block.new_zeros(2 * reach)

    starts = torch.arange(CHUNK_SECONDS * HOPS_PER_SECOND) * rate_hz // HOPS_PER_SECOND
    size = int(starts[-1]) + width
    for chunk in chunks(pad_with_silence(), size, step=CHUNK_SECONDS * rate_hz):
        filters = hop_filters(rate_hz, width, chunk.device)
        samples = F.pad(chunk, (0, size - len(chunk)))
        windows = samples.unfold(0, width, 1)[starts].view(-1, len(filters), width)
        outputs = torch.einsum("chw,hwo->cho", windows, filters).flatten()
        outputs = outputs[: num_inputs * RATE_HZ // rate_hz - num_outputs]
        num_outputs += len(outputs)
        yield outputs


@lru_cache(maxsize=2)  # most videos have the same rate
def hop_filters(rate_hz: int, width: int, device: torch.device) -> Tensor:
    """Return the weights (hops, width, 160), float32, of the hops that differ.

    Hop h makes outputs 160 h to 160 h + 159 of `width` inputs, from `_reach` - 1 before input h * rate_hz // 100 on.
    """
    scale = min(1.0, RATE_HZ / rate_hz)
    points_per_input = int(scale * POINTS_PER_ZERO)  # rounded down as in resampy
    num_points = NUM_ZEROS * POINTS_PER_ZERO
    zeros = torch.linspace(0, NUM_ZEROS, num_points + 1, dtype=torch.float64)
    window = torch.kaiser_window(2 * num_points + 1, periodic=False, beta=KAISER_BETA, dtype=torch.float64)
    table = scale * ROLLOFF * torch.sinc(ROLLOFF * zeros) * window[num_points:]
    slopes = torch.diff(table, append=table[-1:])
    filters = []
    for hop in range(HOPS_PER_SECOND // math.gcd(HOPS_PER_SECOND, rate_hz)):
        times = torch.arange(hop * HOP, (hop + 1) * HOP) * rate_hz  # in 16000ths of an input
        fractions = (times % RATE_HZ).double() / RATE_HZ
        first = hop * rate_hz // HOPS_PER_SECOND - (_reach(rate_hz) - 1)
        distances = times // RATE_HZ - first - torch.arange(width)[:, None]  # to inputs before the output
        is_before = distances >= 0
        steps = torch.where(is_before, distances, -distances - 1)  # from the nearest input on that side
        offsets = torch.where(is_before, fractions, 1 - fractions) * (scale * POINTS_PER_ZERO)
        is_inside = steps < (num_points + 1 - offsets.long()) // points_per_input
        points = torch.where(is_inside, offsets.long() + steps * points_per_input, 0)
        filters.append(torch.where(is_inside, table[points] + offsets.frac() * slopes[points], 0).float())
    return torch.stack(filters).to(device)


def _reach(rate_hz: int) -> int:
    """Return how many inputs on either side an output depends on."""
    return (NUM_ZEROS * POINTS_PER_ZERO + 1) // int(min(1.0, RATE_HZ / rate_hz) * POINTS_PER_ZERO)
