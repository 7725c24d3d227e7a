"""Video -> rows of features, one for each of its stacks of frames: what extractors of frames and of clips share."""

from collections import defaultdict
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from models.base import FrameOptions
from utils.devices import device_context
from utils.errors import MediaError
from utils.media.device_frames import frames_on_device
from utils.media.options import DecodeOptions
from utils.media.video import Video
from utils.results import Features, Span
from utils.stacks import Stack

Stacks = list[Stack[Tensor]]
"""Of frames, RGB, uint8 (3, H, W), on the device."""


@torch.inference_mode()
def extract_rows(
    path: str,
    options: DecodeOptions,
    frames_folder: Path | None,
    *,
    config: FrameOptions,
    device: torch.device,
    min_side_size: int | None,
    stacks_per_batch: int,
    embed: Callable[[Stacks], dict[str, Tensor]],
    prepare: Callable[[Tensor], Tensor] | None = None,
) -> Features:
    """Return the features of a video, whose frames are also written to `frames_folder`, if given.

    `embed` returns by suffix the rows of some of its stacks, float32 (B, D), or (B, K, D) of K crops. Frames are scaled
    to `min_side_size`, if given. Stacks are then of what `prepare` makes of each frame, once, if given. Raises
    MediaError and SaveError.
    """
    rows: dict[str, list[Tensor]] = defaultdict(list)
    spans: list[Span] = []
    with (
        device_context(str(device)),
        Video(path, min_side_size, config.extraction_fps, options) as video,
        frames_on_device(video, device, frames_folder) as frames,
    ):
        all_stacks = config.stacks(map(prepare, frames) if prepare else frames)
        before: torch.cuda.Event | None = None
        while group := list(islice(all_stacks, stacks_per_batch)):
            for suffix, of_group in embed(group).items():
                rows[suffix].append(of_group)
            if device.type == "cuda":
                # At most two groups are under way, so that memory is bounded; a thread that waits sleeps.
                done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
                done.record()
                if before is not None:
                    before.synchronize()
                before = done
            spans += [stack.span(config.num_frames, video.fps) for stack in group]
        if not spans:
            needed = f"with --tail drop a stack of {config.num_frames} needs {config.num_frames_needed}"
            raise MediaError("too_short", f"{path}: {video.num_frames} frames, and {needed}")
    return Features(
        arrays={suffix: torch.cat(of_groups).cpu().numpy() for suffix, of_groups in rows.items()},
        spans=spans,
        seconds=float(video.num_frames / video.fps),
        missing=video.missing,
        missing_seconds=video.missing_seconds,
        fps=float(video.fps),
    )
