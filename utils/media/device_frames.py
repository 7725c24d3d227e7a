"""The frames of a video from their planes, scaled on the device, while it computes and the video is decoded further."""

import shutil
from collections import deque
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor

from utils.media.raw_frame import Bytes, RawFrame
from utils.media.scaling import scaled
from utils.media.video import Video, write_png
from utils.outputs.atomic import saving

CHUNK_FRAMES = 32  # that are copied to the device together,
CHUNK_BYTES = 2**24  # or as many as this holds
CHUNKS_AHEAD = 3  # that are being copied and scaled while the next one is decoded


def frames_on_device(video: Video, device: torch.device, folder: Path | None = None) -> Iterator[Tensor]:
    """Return the scaled frames of a video, RGB, uint8 (3, H, W), on the device.

    With a `folder` they are written there, too, as 000001.png and on. FFmpeg scales them for that, and on a CPU.
    """
    if device.type == "cuda" and folder is None:
        yield from scaled_frames(video, device)
        return
    if folder is not None:
        with saving(folder):
            shutil.rmtree(folder, ignore_errors=True)  # of an earlier run, which may have had more frames
            folder.mkdir(parents=True)
    for number, frame in enumerate(video, start=1):
        if folder is not None:
            with saving(folder):
                write_png(frame, folder / f"{number:06d}.png")
        yield torch.from_numpy(frame).to(device).permute(2, 0, 1)


def scaled_frames(video: Video, device: torch.device) -> Iterator[Tensor]:
    """The frames of a video, RGB, uint8 (3, H, W), on the device, for work in its current stream.

    The planes lie in page-locked memory until the device has copied them, of which it takes a few chunks. Copies and
    scaling have a stream of their own, so that they pass by what the device computes.
    """
    memory, lane = _Memory(device), _Lane(device)
    chunk: list[RawFrame] = []
    order: list[int] = []  # of the frames given: places in the chunk
    rows = memory.rows
    for picture in video.raw_frames(memory.row):
        if memory.rows is not rows:
            yield from lane.frames(rows, chunk, order)
            chunk, order, rows = [], [], memory.rows
        if not chunk or picture is not chunk[-1]:
            chunk.append(picture)
        order.append(len(chunk) - 1)
    yield from lane.frames(rows, chunk, order)


class _Memory:
    """Where pictures are decoded to: the rows of chunks."""

    def __init__(self, device: torch.device) -> None:
        self._is_pinned = device.type == "cuda"
        self._num_used = 0
        self.rows = torch.empty(0, 0, dtype=torch.uint8)

    def row(self, num_bytes: int) -> Bytes:
        """The next row of the chunk; of a new one where this one is full, or its rows are of another length."""
        if self._num_used == len(self.rows) or self.rows.shape[1] != num_bytes:
            num_rows = max(1, min(CHUNK_FRAMES, CHUNK_BYTES // num_bytes))
            self.rows = torch.empty(num_rows, num_bytes, dtype=torch.uint8, pin_memory=self._is_pinned)
            self._num_used = 0
        row: Bytes = self.rows[self._num_used].numpy()
        self._num_used += 1
        return row


class _Lane:
    """Copies and scales chunks, in a stream of its own on a GPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._under_way: deque[torch.cuda.Event] = deque()

    def frames(self, rows: Tensor, chunk: list[RawFrame], order: list[int]) -> Iterator[Tensor]:
        """The frames (3, H, W) of the pictures in a chunk, in an order. Waits where too many chunks are under way."""
        if not chunk:
            return
        if len(self._under_way) == CHUNKS_AHEAD:
            self._under_way.popleft().synchronize()
        with torch.cuda.stream(self._stream) if self._stream else nullcontext():
            frames = self._scaled(rows[: len(chunk)].to(self._device, non_blocking=True), chunk)
        if self._stream:
            done = self._stream.record_event()
            self._under_way.append(done)
            computing = torch.cuda.current_stream(self._device)
            computing.wait_event(done)
            frames.record_stream(computing)
        for place in order:
            yield frames[place]

    def _scaled(self, data: Tensor, chunk: list[RawFrame]) -> Tensor:
        """The pictures (B, bytes), scaled, of which neighbours may differ in format."""
        parts, begin = [], 0
        for form, pictures in groupby(chunk, key=lambda picture: picture.format):
            end = begin + len(list(pictures))
            parts.append(scaled(data[begin:end], form))
            begin = end
        return parts[0] if len(parts) == 1 else torch.cat(parts)
