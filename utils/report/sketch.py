"""Small pictures of what an extractor sees, taken while it works. Memory does not grow with the length of a video."""

import contextlib
import sys
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from utils.results import Span

MOST_SHOWN = 32  # frames; there are more than half as many if the video has them
SIDE = 112  # pixels of a small picture
MOST_COLUMNS = 2400  # of sound

Floats = npt.NDArray[np.float32]


class Strip(NamedTuple):
    """Small pictures of every `every`-th row of features."""

    every: int
    rows: list[int]
    frames: npt.NDArray[np.uint8]  # (n, SIDE, SIDE, 3), RGB
    flows: Floats | None  # (n, 2, SIDE, SIDE), in pixels of the frame, if there are any


class Sound(NamedTuple):
    """The picture of sound of each row of features, up to where the next one begins."""

    levels: Floats  # (N, T, bands), the lowest first; more than there are rows where the last one has more to show
    share: float  # of a row's time that its T columns are of
    lowest: str
    highest: str


class Sketch:
    """Is handed the frames, flows and sound of one video, and keeps a few of them small.

    Frames are those in the middle of stacks of `stack_size`, of which one begins every `step_size` frames, cropped to
    what the network sees of them, or whole if that is 1. The last stack may have fewer frames than the others.
    """

    def __init__(self, stack_size: int, step_size: int, crop_size: int) -> None:
        self._size, self._step = stack_size, step_size
        self._crop_size = crop_size if crop_size > 1 else sys.maxsize
        self._every = 1
        self._frames: dict[int, Tensor] = {}  # by row of features
        self._flows: dict[int, Tensor] = {}
        self._last: deque[Tensor] = deque(maxlen=stack_size + 1)
        self._num_frames = 0
        self._sound: list[Tensor] = []
        self._share = 1.0
        self._bands = "", ""

    def frames(self, frames: Generator[Tensor, None, None]) -> Generator[Tensor, None, None]:
        """Yield the frames (3, H, W) of a video as they are, and look at them."""
        self._every, self._num_frames = 1, 0
        for kept in (self._frames, self._flows, self._last):
            kept.clear()
        with contextlib.closing(frames):
            for index, frame in enumerate(frames):
                row, rest = divmod(index - self._size // 2, self._step)
                if row >= 0 and rest == 0 and row % self._every == 0:
                    self._frames[row] = self._shrink(frame)
                    if len(self._frames) > MOST_SHOWN:
                        self._every *= 2
                        self._frames = {row: kept for row, kept in self._frames.items() if row % self._every == 0}
                self._last.append(frame)
                self._num_frames += 1
                yield frame

    def add_flow(self, row: int, flow: Tensor) -> None:
        """Look at the flow (2, H, W), in pixels, of the middle frame of a row of features."""
        self._flows = {other: kept for other, kept in self._flows.items() if other % self._every == 0}
        if row % self._every == 0:
            self._flows[row] = self._shrink(flow)

    def sound(self, patches: Iterable[Tensor], lowest: str, highest: str, step: int = sys.maxsize) -> Iterator[Tensor]:
        """Yield the pictures of sound (N, T, bands) of N rows as they are, and look at them.

        One begins `step` columns after the one before. `lowest` and `highest` name the first and the last band.
        """
        self._sound.clear()
        self._bands = lowest, highest
        width = 0  # of a row's picture
        for block in patches:
            step = min(step, block.shape[1])
            self._share, width = step / block.shape[1], width or step
            self._sound.append(_narrow(block[:, :step].float(), width))
            last = block[-1, step:]  # which no next row begins with
            while width % 2 == 0 and sum(map(len, self._sound)) * width > MOST_COLUMNS:
                width //= 2
                self._sound = [_narrow(kept, width) for kept in self._sound]
            yield block
        if width and len(last) >= step:
            rest = last[: len(last) // step * step].reshape(-1, step, last.shape[1])
            self._sound.append(_narrow(rest.float(), width))

    def strip(self, spans: Sequence[Span]) -> Strip | None:
        """Return what was seen of frames and flow, of the video whose rows have these times; None without frames."""
        if not self._last:
            return None
        last = len(spans) - 1
        num_left = self._num_frames - last * self._step
        if last % self._every == 0 and num_left < self._size:  # the tail's middle comes before a full stack's
            self._frames[last] = self._shrink(self._last[num_left // 2 - num_left])
        rows = sorted(row for row in self._frames if row <= last)
        frames = torch.stack([self._frames[row] for row in rows]).permute(0, 2, 3, 1)
        flows = torch.stack([self._flows[row] for row in rows]).cpu().numpy() if self._flows else None
        return Strip(self._every, rows, frames.round().byte().cpu().numpy(), flows)

    def sound_seen(self) -> Sound | None:
        """Return what was seen of sound; None without any."""
        return Sound(torch.cat(self._sound).cpu().numpy(), self._share, *self._bands) if self._sound else None

    def _shrink(self, image: Tensor) -> Tensor:
        """Return what the network sees of an image, the mean of pixels, (C, SIDE, SIDE)."""
        side = min(*image.shape[1:], self._crop_size)
        top, left = ((length - side) // 2 for length in image.shape[1:])
        crop = image[:, top : top + side, left : left + side].float()
        return F.adaptive_avg_pool2d(crop, SIDE)


def _narrow(block: Tensor, width: int) -> Tensor:
    """Return the means of neighbours in time, (N, width, bands), of (N, T, bands)."""
    return block.view(len(block), width, -1, block.shape[-1]).mean(dim=2)
