"""Samples or frames in blocks of any length -> chunks of one length, so that no result depends on the blocks."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor


def chunks(blocks: Iterable[Tensor], size: int, step: int) -> Iterator[Tensor]:
    """Yield `size` items from every `step`-th on (`step` is at most `size`); then the rest, which is shorter."""
    held: list[Tensor] = []
    num_held = 0
    for block in blocks:
        held.append(block)
        num_held += len(block)
        if num_held < size:
            continue
        items = torch.cat(held)
        while len(items) >= size:
            yield items[:size]
            items = items[step:]
        held, num_held = [items], len(items)
    if num_held:
        yield torch.cat(held)


def pad(blocks: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """Yield blocks of samples, and then zeros where there are some, but less than `size`."""
    num_samples = 0
    for block in blocks:
        num_samples += len(block)
        yield block
    if 0 < num_samples < size:
        yield block.new_zeros(size - num_samples)
