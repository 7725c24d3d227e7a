"""Video -> rows of features, one for each of its stacks of frames: what extractors of frames and of clips share."""

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from models.options import FrameOptions
from utils.devices import device_context, dtype_of, forbid_reduced_precision, precision_on
from utils.errors import MediaError
from utils.media.device_frames import frames_on_device
from utils.media.options import DecodeOptions
from utils.media.video import Video
from utils.memory import retry_with_half_batch
from utils.results import Features, Span
from utils.stacks import Stack

Stacks = list[Stack[Tensor]]
"""Of frames, RGB, uint8 (3, H, W), on the device."""


Embed = Callable[[Stacks], dict[str, Tensor]]
"""Returns by suffix the rows of some stacks, float32 (B, D), or (B, K, D) of K crops."""


class RowExtractor:
    """The base of extractors of frames and of stacks, which set `batch_size`, and have `embed`, `begin` or `_extract`.

    It sets PyTorch's precision flags, which are the whole process's, and keeps a smaller batch size, once that was
    needed.
    """

    batch_size: int
    """Frames that are embedded together, if a stack has no more."""

    min_side_size: int | None = None
    """What frames are scaled to, if at all."""

    def __init__(self, config: FrameOptions, device: str, precision: str | None) -> None:
        self.config = config
        self.device = torch.device(device)
        forbid_reduced_precision()
        self.dtype = dtype_of(precision_on(device, precision))

    def extract(self, path: str, options: DecodeOptions, frames_folder: Path | None = None) -> Features:
        """Return the features of a video, float32, of each suffix (N, D), or (N, K, D) of K crops.

        Its frames are also written to `frames_folder`, if given. Raises MediaError, SaveError and OutOfMemoryError.
        """
        work = partial(self._extract, path, options, frames_folder)
        features, self.batch_size = retry_with_half_batch(work, self.batch_size)
        return features

    def prepare(self, frame: Tensor) -> Tensor:
        """Return what stacks are made of, of a frame; called once for each."""
        return frame

    def begin(self, options: DecodeOptions, frames_folder: Path | None, batch_size: int) -> Embed:
        """Return what embeds the stacks of a video; called before each try at one."""
        return self.embed

    def embed(self, stacks: Stacks) -> dict[str, Tensor]:
        raise NotImplementedError

    @torch.inference_mode()
    def _extract(self, path: str, options: DecodeOptions, frames_folder: Path | None, batch_size: int) -> Features:
        config, device = self.config, self.device
        embed = self.begin(options, frames_folder, batch_size)
        rows: dict[str, list[Tensor]] = defaultdict(list)
        spans: list[Span] = []
        with (
            device_context(str(device)),
            Video(path, self.min_side_size, config.extraction_fps, options) as video,
            frames_on_device(video, device, frames_folder) as frames,
        ):
            all_stacks = config.stacks(map(self.prepare, frames))
            before: torch.cuda.Event | None = None
            while group := list(islice(all_stacks, max(1, batch_size // config.num_frames))):
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


def zero_beyond(images: Tensor, stacks: Stacks, num_after: int = 0) -> None:
    """Set to zero what is made of frames beyond an end of the video, in the images (B, T, ...) of stacks.

    An image is also made of the `num_after` frames after its own.
    """
    for of_stack, stack in zip(images, stacks, strict=True):
        of_stack[: stack.inside.start] = 0
        of_stack[stack.inside.stop - num_after :] = 0
