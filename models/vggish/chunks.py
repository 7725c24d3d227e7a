"""A waveform in blocks of any length -> chunks of one length, so that no result depends on the blocks."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor


def chunks(blocks: Iterable[Tensor], size: int, step: int) -> Iterator[Tensor]:
    """Yield `size` samples from every `step`-th on (`step` is at most `size`); then the rest, which is shorter."""
    held: list[Tensor] = []
    num_held = 0
    for block in blocks:
        held.append(block)
        num_held += len(block)
        if num_held < size:
            continue
        waveform = torch.cat(held)
        while len(waveform) >= size:
            yield waveform[:size]
            waveform = waveform[step:]
        held, num_held = [waveform], len(waveform)
    if num_held:
        yield torch.cat(held)
