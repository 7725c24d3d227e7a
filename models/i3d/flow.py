"""The flows of a video's stacks: each frame's pyramid and each pair's flow computed once, in batches."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from models.i3d import CROP_SIZE
from models.i3d.transforms import center_crop, quantize_flow
from models.pwc.net import PWCNet, Pyramid
from utils.stacks import Stack

Pair = tuple[int, int]
"""The places of two frames in the video."""


class StackFlows:
    """What I3D sees of the flows of one video's stacks, which must come in order.

    Flows that a later stack may need are kept, and so are the pyramids of a stack's first and last frames: the one
    starts the wrap of a cycled tail, the other the next stack. Memory does not grow with the video.
    """

    def __init__(self, network: PWCNet, pixels_per_batch: int) -> None:
        self._network = network
        self._pixels_per_batch = pixels_per_batch
        self._flows: dict[Pair, Tensor] = {}
        self._pyramids: dict[int, Pyramid] = {}

    def of(self, stack: Stack[Tensor]) -> Tensor:
        """Quantized central flows (T, 2, 224, 224) between the neighbours among T + 1 frames (3, H, W) in 0..255."""
        places = [stack.place(i) for i in range(len(stack.items))]
        frames = dict(zip(places, stack.items, strict=True))
        pairs = list(pairwise(places))
        self._flows = {pair: self._flows[pair] for pair in pairs if pair in self._flows}
        self._pyramids = {place: pyramid for place, pyramid in self._pyramids.items() if place in frames}
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self._flows]
        pairs_per_batch = max(1, self._pixels_per_batch // stack.items[0][0].numel())
        for start in range(0, len(new), pairs_per_batch):
            batch = new[start : start + pairs_per_batch]
            self._flows.update(zip(batch, self._compute(batch, frames), strict=True))
            keep = {stack.start, batch[-1][1]}
            self._pyramids = {place: self._pyramids[place] for place in keep if place in self._pyramids}
        return torch.stack([self._flows[pair] for pair in pairs])

    def _compute(self, pairs: Sequence[Pair], frames: dict[int, Tensor]) -> Tensor:
        new = [place for place in dict.fromkeys(p for pair in pairs for p in pair) if place not in self._pyramids]
        if new:
            batch = self._network.pyramid(torch.stack([frames[place] for place in new]))
            for i, place in enumerate(new):
                self._pyramids[place] = {level: features[i : i + 1] for level, features in batch.items()}
        first, second = (self._gather([pair[side] for pair in pairs]) for side in (0, 1))
        height, width = frames[pairs[0][0]].shape[1:]
        return quantize_flow(center_crop(self._network.flow(first, second, height, width), CROP_SIZE))

    def _gather(self, places: Sequence[int]) -> Pyramid:
        levels = self._pyramids[places[0]]
        return {level: torch.cat([self._pyramids[place][level] for place in places]) for level in levels}
