"""The frames of a video, scaled on the device from their planes while it computes and more are decoded."""

import shutil
from collections import deque
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor

from utils.media.raw_frame import Bytes, RawFrame
from utils.media.scaling import scale
from utils.media.video import Video, write_png
from utils.outputs.atomic import saving

CHUNK_FRAMES = 32  # that are copied to the device together,
CHUNK_BYTES = 2**24  # or as many as fit in this
CHUNKS_AHEAD = 3  # that are being copied and scaled while the next one is decoded


def frames_on_device(video: Video, device: torch.device, folder: Path | None = None) -> Iterator[Tensor]:
    """Yield the scaled frames of a video, RGB, uint8 (3, H, W), on the device.

    With a `folder` they are written there, too, as 000001.png and on. FFmpeg scales them for that, and on a CPU.
    """
    if device.type == "cuda" and folder is None:
        yield from scale_on_device(video, device)
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


def scale_on_device(video: Video, device: torch.device) -> Iterator[Tensor]:
    """Yield the frames of a video, RGB, uint8 (3, H, W), on the device, for work in its current stream.

    The planes lie in page-locked memory until they are copied, in all a few chunks. A stream of its own copies and
    scales them, so that this overlaps with the computations of the current stream.
    """
    memory, stream = _ChunkMemory(device), _CopyStream(device)
    chunk: list[RawFrame] = []
    order: list[int] = []  # for each frame to yield, its index in the chunk: frames may be repeated
    rows = memory.rows
    for frame in video.raw_frames(memory.next_row):
        if memory.rows is not rows:
            yield from stream.scale_chunk(rows, chunk, order)
            chunk, order, rows = [], [], memory.rows
        if not chunk or frame is not chunk[-1]:
            chunk.append(frame)
        order.append(len(chunk) - 1)
    yield from stream.scale_chunk(rows, chunk, order)


class _ChunkMemory:
    """The memory of a chunk, a row for each raw frame."""

    def __init__(self, device: torch.device) -> None:
        self._is_pinned = device.type == "cuda"
        self._num_used = 0
        self.rows = torch.empty(0, 0, dtype=torch.uint8)

    def next_row(self, num_bytes: int) -> Bytes:
        """Return the next free row; a new chunk begins where this one is full or its rows have another length."""
        if self._num_used == len(self.rows) or self.rows.shape[1] != num_bytes:
            num_rows = max(1, min(CHUNK_FRAMES, CHUNK_BYTES // num_bytes))
            self.rows = torch.empty(num_rows, num_bytes, dtype=torch.uint8, pin_memory=self._is_pinned)
            self._num_used = 0
        row: Bytes = self.rows[self._num_used].numpy()
        self._num_used += 1
        return row


class _CopyStream:
    """Copies and scales chunks, on a GPU in a stream of its own."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._in_progress: deque[torch.cuda.Event] = deque()

    def scale_chunk(self, rows: Tensor, chunk: list[RawFrame], order: list[int]) -> Iterator[Tensor]:
        """Yield the scaled frames (3, H, W) of a chunk in `order`, once fewer than CHUNKS_AHEAD are in progress."""
        if not chunk:
            return
        if len(self._in_progress) == CHUNKS_AHEAD:
            self._in_progress.popleft().synchronize()
        with torch.cuda.stream(self._stream) if self._stream else nullcontext():
            data = rows[: len(chunk)].to(self._device, non_blocking=True)
            parts, begin = [], 0
            for raw_format, group in groupby(chunk, key=lambda frame: frame.format):
                end = begin + len(list(group))
                parts.append(scale(data[begin:end], raw_format))
                begin = end
            frames = parts[0] if len(parts) == 1 else torch.cat(parts)
        if self._stream:
            done = self._stream.record_event()
            self._in_progress.append(done)
            computing = torch.cuda.current_stream(self._device)
            computing.wait_event(done)
            frames.record_stream(computing)
        for index in order:
            yield frames[index]
