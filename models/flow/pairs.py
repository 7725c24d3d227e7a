"""The flows of a video's pairs of frames, in batches: what is computed a frame, and a pair, is computed once."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from models.flow import Encoded, FlowMethod, FlowOptions
from models.flow.pwc import BYTES_PER_FRAME
from utils.flow_colours import colour_flow
from utils.media.video import write_png
from utils.memory import choose_batch_size
from utils.outputs.atomic import saving

CPU_BATCH = 4  # frames; more are no faster, and take more memory
LARGEST_BATCH = 256  # frames, on a GPU, where more are no faster: an estimate
SMALL_BATCH = 16  # those of CPUs are smaller
FULL_COLOUR = 20.0  # pixels, in pictures: I3D's bound of flow

Item = TypeVar("Item")

Pair = tuple[int, int]
"""The indices of two frames in the video."""


class PairFlows:
    """Computes the flows of one video, whose pairs must come in order, some at a time.

    It keeps the flows that were asked for last, and the encoding of the last frame, with which the next pair begins.
    Memory does not grow with the video.
    """

    def __init__(
        self,
        method: FlowMethod,
        pairs_per_batch: Callable[[int, int], int],
        on_flow: Callable[[int, Tensor], None] | None = None,
    ) -> None:
        """`pairs_per_batch` tells how many pairs of frames of some height and width are computed together.

        `on_flow` is called with each frame's index in the video and its flow (2, H, W) to the next one, once.
        """
        self._method = method
        self._fill = fill_up if method.fills_batches else list[Any]
        self.pairs_per_batch = pairs_per_batch
        self._on_flow = on_flow
        self._flows: dict[Pair, Tensor] = {}
        self._encoded: dict[int, Encoded] = {}

    def compute(self, frames: Mapping[int, Tensor], pairs: Sequence[Pair]) -> dict[Pair, Tensor]:
        """Return the flow (2, H, W) of each pair, in pixels; those of the last call are not computed again.

        `frames` has the frames (3, H, W), uint8, by index.
        """
        self._flows = {pair: self._flows[pair] for pair in pairs if pair in self._flows}
        self._encoded = {index: encoded for index, encoded in self._encoded.items() if index in frames}
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self._flows]
        if not new:
            return self._flows
        height, width = frames[new[0][0]].shape[1:]
        batches = split_evenly(new, self.pairs_per_batch(height, width), self._fill)
        for number, batch in enumerate(batches, start=1):
            later = {index for later in batches[number:] for pair in later for index in pair}
            flows = self._compute_batch(batch, frames, later | {batch[-1][1]})
            self._flows.update(zip(batch, flows, strict=True))
        return self._flows

    def _compute_batch(self, pairs: Sequence[Pair], frames: Mapping[int, Tensor], keep: set[int]) -> Tensor:
        """Return the flows of a batch of pairs; afterwards only what is encoded of the frames to `keep` is held."""
        indices = dict.fromkeys(index for pair in pairs for index in pair)
        known = {index: self._encoded[index] for index in indices if index in self._encoded}
        new = [index for index in indices if index not in known]
        parts = list(known.values())
        if new:
            parts.append(self._method.encode(torch.stack([frames[index] for index in self._fill(new)])))
        encoded = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        row_of = {index: row for row, index in enumerate([*known, *new])}
        self._encoded = {index: self._encoded[index] for index in keep & self._encoded.keys()}
        for index in keep & row_of.keys():  # copied, because a view would keep the whole batch
            rows = _select_rows(encoded, [row_of[index]])
            self._encoded[index] = {name: row.clone() for name, row in rows.items()}
        first, second = (_select_rows(encoded, [row_of[pair[side]] for pair in pairs]) for side in (0, 1))
        height, width = frames[pairs[0][0]].shape[1:]
        flows = self._method.flow(first, second, height, width)
        if self._on_flow is not None:
            for (index, following), flow in dict(zip(pairs, flows, strict=True)).items():
                if following == index + 1:  # not from the last frame of a tail to its first
                    self._on_flow(index, flow)
        return flows


def frames_per_batch(config: FlowOptions, device: str, dtype: torch.dtype, num_sharing: int) -> int:
    """Return the number of frames that flow is computed for together, if they are of PWC-Net's reference size."""
    num_bytes = BYTES_PER_FRAME[dtype.itemsize]
    return choose_batch_size(config.batch_size, device, CPU_BATCH, num_bytes, LARGEST_BATCH, num_sharing)


def pair_flows(
    config: FlowOptions, method: FlowMethod, dtype: torch.dtype, batch_size: int, frames_folder: Path | None
) -> PairFlows:
    """Return what computes the flows of a video, in batches of the memory that `batch_size` such frames take.

    With `keep_flow`, it also writes flow in colours beside `frames_folder`, if given.
    """

    def pairs_per_batch(height: int, width: int) -> int:
        if config.batch_size is not None:
            return batch_size
        return max(1, method.pairs_that_fit(batch_size * BYTES_PER_FRAME[dtype.itemsize], height, width))

    on_flow = None
    if config.keep_flow and frames_folder is not None:
        on_flow = _flow_writer(frames_folder.with_name(frames_folder.name.removesuffix("_frames") + "_flow"))
    return PairFlows(method, pairs_per_batch, on_flow)


def _flow_writer(folder: Path) -> Callable[[int, Tensor], None]:
    """Return an `on_flow` that writes pictures into `folder`, which it empties."""
    with saving(folder):
        shutil.rmtree(folder, ignore_errors=True)  # of an earlier run
        folder.mkdir(parents=True)

    def write(index: int, flow: Tensor) -> None:
        with saving(folder):
            write_png(colour_flow(flow.float().cpu().numpy(), FULL_COLOUR), folder / f"{index + 1:06d}.png")

    return write


def split_evenly(items: list[Item], most: int, fill: Callable[[list[Item]], list[Item]]) -> list[list[Item]]:
    """Return items in even batches of at most `most`, each as `fill` gives it; small ones need not be even."""
    num_batches = max(1, -(-len(items) // _round_size(most, up=False)))
    size = max(_round_size(-(-len(items) // num_batches)), min(most, SMALL_BATCH))
    return [fill(items[start : start + size]) for start in range(0, len(items), size)]


def fill_up(items: list[Item]) -> list[Item]:
    """Return a batch with its last item repeated up to one of few sizes, by at most an eighth, and small ones as is.

    A GPU plans the convolutions for each size of a batch anew, which takes some 65 ms: an estimate.
    """
    return items + items[-1:] * (_round_size(len(items)) - len(items))


def _round_size(size: int, up: bool = True) -> int:
    """Return the nearest number of four binary digits, followed by zeros, that is not below, or not above."""
    unit = 1 << max(0, size.bit_length() - 4)
    return -(-size // unit) * unit if up else size // unit * unit


def _select_rows(encoded: Encoded, rows: Sequence[int]) -> Encoded:
    """Return the encodings of some of the frames, without a copy where their rows are consecutive.

    Otherwise their runs of rows are joined: to index by a list, a copy of it would have to wait for all the GPU's work.
    """
    runs = [[row for _, row in run] for _, run in groupby(enumerate(rows), lambda item: item[1] - item[0])]
    slices = [slice(run[0], run[-1] + 1) for run in runs]
    if len(slices) == 1:
        return {name: of_all[slices[0]] for name, of_all in encoded.items()}
    return {name: torch.cat([of_all[part] for part in slices]) for name, of_all in encoded.items()}
