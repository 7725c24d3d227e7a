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
    """What I3D sees of the flows of one video's stacks, which must come in order, some at a time.

    Flows that a later stack may need are kept, and so are the pyramids of the first and the last frame: the one starts
    the wrap of a cycled tail, the other the next stack. Memory does not grow with the video.
    """

    def __init__(self, network: PWCNet, pairs_per_batch: int) -> None:
        self._network = network
        self._pairs_per_batch = pairs_per_batch
        self._flows: dict[Pair, Tensor] = {}
        self._pyramids: dict[int, Pyramid] = {}

    def of(self, stacks: Sequence[Stack[Tensor]]) -> Tensor:
        """Quantized central flows (B, T, 2, 224, 224) between the neighbours among the T + 1 frames (3, H, W), in
        0..255, of each of B stacks.
        """
        frames = {stack.place(i): frame for stack in stacks for i, frame in enumerate(stack.items)}
        pairs = [list(pairwise(stack.place(i) for i in range(len(stack.items)))) for stack in stacks]
        wanted = dict.fromkeys(pair for of_stack in pairs for pair in of_stack)
        self._flows = {pair: self._flows[pair] for pair in wanted if pair in self._flows}
        self._pyramids = {place: pyramid for place, pyramid in self._pyramids.items() if place in frames}
        new = [pair for pair in wanted if pair not in self._flows]
        for start in range(0, len(new), self._pairs_per_batch):
            batch = new[start : start + self._pairs_per_batch]
            self._flows.update(zip(batch, self._compute(batch, frames, {stacks[-1].start, batch[-1][1]}), strict=True))
        flows = torch.stack([self._flows[pair] for of_stack in pairs for pair in of_stack])
        return flows.view(len(stacks), -1, *flows.shape[1:])

    def _compute(self, pairs: Sequence[Pair], frames: dict[int, Tensor], keep: set[int]) -> Tensor:
        """The flows of a batch of pairs; of all pyramids that are there, those of the places to keep stay."""
        places = dict.fromkeys(place for pair in pairs for place in pair)
        known = {place: self._pyramids[place] for place in places if place in self._pyramids}
        new = [place for place in places if place not in known]
        parts = list(known.values())
        if new:
            parts.append(self._network.pyramid(torch.stack([frames[place] for place in new])))
        pyramid = {level: torch.cat([part[level] for part in parts]) for level in parts[0]}
        order = {place: i for i, place in enumerate([*known, *new])}
        self._pyramids = {place: self._pyramids[place] for place in keep & self._pyramids.keys()}
        for place in keep & order.keys():  # copies, because a view would keep all of the batch
            self._pyramids[place] = {level: f.clone() for level, f in _taken(pyramid, [order[place]]).items()}
        first, second = (_taken(pyramid, [order[pair[side]] for pair in pairs]) for side in (0, 1))
        height, width = frames[pairs[0][0]].shape[1:]
        return quantize_flow(center_crop(self._network.flow(first, second, height, width), CROP_SIZE))


def _taken(pyramid: Pyramid, indices: Sequence[int]) -> Pyramid:
    """The pyramids of some of the frames; without a copy where these follow each other."""
    start, end = indices[0], indices[0] + len(indices)
    if list(indices) == list(range(start, end)):
        return {level: features[start:end] for level, features in pyramid.items()}
    return {level: features[list(indices)] for level, features in pyramid.items()}
