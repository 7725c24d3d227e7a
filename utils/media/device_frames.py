"""The frames of a video, scaled on the device from their planes while it computes and more are decoded."""

import contextlib
import shutil
from collections import deque
from collections.abc import Generator, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from utils.devices import device_context
from utils.media.prefetch import prefetch
from utils.media.raw_frame import Bytes, RawFormat
from utils.media.scaling import scale
from utils.media.video import Video, write_png
from utils.outputs.atomic import saving

CHUNK_FRAMES = 32  # that are copied to the device together,
CHUNK_BYTES = 2**24  # or as many as fit in this
CHUNKS_AHEAD = 3  # that are decoded, and as many that are being copied and scaled


def frames_on_device(
    video: Video, device: torch.device, folder: Path | None = None
) -> contextlib.closing[Generator[Tensor, None, None]]:
    """Give the scaled frames of a video, RGB, uint8 (3, H, W), on the device, while `with` lasts.

    A GPU scales them itself, and a thread decodes ahead of it. FFmpeg scales them on a CPU, and where a `folder` is
    given, to which they are then written as 000001.png and on.
    """
    use_gpu = device.type == "cuda" and folder is None
    frames = scale_on_device(video, device) if use_gpu else _scale(video, device, folder)
    return contextlib.closing(video.sketch.frames(frames) if video.sketch else frames)


def _scale(video: Video, device: torch.device, folder: Path | None) -> Generator[Tensor, None, None]:
    if folder is not None:
        with saving(folder):
            shutil.rmtree(folder, ignore_errors=True)  # of an earlier run, which may have had more frames
            folder.mkdir(parents=True)
    for number, frame in enumerate(video, start=1):
        if folder is not None:
            with saving(folder):
                write_png(frame, folder / f"{number:06d}.png")
        yield torch.from_numpy(frame).to(device).permute(2, 0, 1)


def scale_on_device(video: Video, device: torch.device) -> Generator[Tensor, None, None]:
    """Yield the frames of a video, RGB, uint8 (3, H, W), on the device, for work in its current stream.

    Their planes lie in page-locked memory until they are copied, in all a few chunks. A GPU copies and scales them in
    a stream of its own, so that this overlaps with the computations of the current stream.
    """
    copying = _copy_stream(device) if device.type == "cuda" else None
    in_progress: deque[torch.cuda.Event] = deque()
    with contextlib.closing(prefetch(_decode_chunks(video, device), CHUNKS_AHEAD)) as chunks:
        for chunk in chunks:
            if len(in_progress) == CHUNKS_AHEAD:
                in_progress.popleft().synchronize()
            with torch.cuda.stream(copying) if copying else contextlib.nullcontext():
                num_frames = chunk.order[-1] + 1
                frames = scale(chunk.rows[:num_frames].to(device, non_blocking=True), chunk.format)
            if copying:
                done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
                in_progress.append(copying.record_event(done))
                computing = torch.cuda.current_stream(device)
                computing.wait_event(done)
                frames.record_stream(computing)
            for index in chunk.order:
                yield frames[index]


@lru_cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the one stream of this process for copies to a device: PyTorch caches memory for each stream."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


class _Chunk(NamedTuple):
    """Raw frames of one format, and for each frame to yield the row of it: they may be repeated."""

    rows: Tensor
    format: RawFormat
    order: list[int]


def _decode_chunks(video: Video, device: torch.device) -> Iterator[_Chunk]:
    chunk: _Chunk | None = None
    views = np.empty((0, 0), np.uint8)  # of the chunk's rows
    num_used = 0

    def allocate(raw_format: RawFormat) -> Bytes:
        """Return the next free row, of a new chunk where this one is full or of another format."""
        nonlocal chunk, views, num_used
        if chunk is None or num_used == len(views) or raw_format != chunk.format:
            num_rows = max(1, min(CHUNK_FRAMES, CHUNK_BYTES // raw_format.num_bytes))
            rows = torch.empty(num_rows, raw_format.num_bytes, dtype=torch.uint8, pin_memory=device.type == "cuda")
            chunk, views, num_used = _Chunk(rows, raw_format, []), rows.numpy(), 0
        num_used += 1
        row: Bytes = views[num_used - 1]
        return row

    with device_context(str(device)):  # which the page-locked memory belongs to
        previous = None
        for _ in video.raw_frames(allocate):
            assert chunk is not None  # because there is a frame in it
            if previous is not None and chunk is not previous:
                yield previous
            chunk.order.append(num_used - 1)
            previous = chunk
    if previous is not None:
        yield previous
