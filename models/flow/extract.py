"""Video -> the optical flow of its frames, written as it is computed."""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from models.clips import RowExtractor
from models.flow import Config, load_flow
from models.flow.pairs import LARGEST_BATCH, PairFlows, frames_per_batch, pair_flows
from utils.devices import device_context
from utils.errors import MediaError
from utils.media.device_frames import frames_on_device
from utils.media.options import DecodeOptions
from utils.media.video import Video
from utils.outputs.growing import Rows, growing_array
from utils.results import Features
from utils.stacks import Stack


class Extractor(RowExtractor):
    """Holds the method on one device.

    Features are the flow from each frame of a video to the next, float16 (N - 1, 2, H, W), x before y, in pixels. The
    array lies in a file in `options.scratch`. With `keep_flow`, flow in colours is written beside the frames.
    """

    config: Config

    def __init__(self, config: Config, device: str, num_sharing: int = 1) -> None:
        super().__init__(config, device, config.precision)
        self.method = load_flow(config.flow, config.flow_weights_path, self.device, self.dtype)
        self.batch_size = frames_per_batch(config, device, self.dtype, num_sharing)

    @torch.inference_mode()
    def _extract(self, path: str, options: DecodeOptions, frames_folder: Path | None, batch_size: int) -> Features:
        flows = pair_flows(self.config, self.method, self.dtype, batch_size, frames_folder)
        with growing_array(options.scratch) as array:
            with (
                device_context(str(self.device)),
                Video(path, self.config.min_side_size, self.config.extraction_fps, options) as video,
                frames_on_device(video, self.device, frames_folder) as frames,
            ):
                for rows in _on_host(self._batches(self.config.stacks(frames), flows, options)):
                    array.append(rows)
            if array.num_rows == 0:
                raise MediaError("too_short", f"{path}: {video.num_frames} frame, and flow needs two")
            return Features(
                arrays={self.config.suffixes[0]: array.finish()},
                spans=[(float(row / video.fps), float((row + 1) / video.fps)) for row in range(array.num_rows)],
                seconds=float(video.num_frames / video.fps),
                missing=video.missing,
                missing_seconds=video.missing_seconds,
                fps=float(video.fps),
            )

    def _batches(self, pairs: Iterator[Stack[Tensor]], flows: PairFlows, options: DecodeOptions) -> Iterator[Tensor]:
        """Yield the flow of pairs of frames, float16 (B, 2, H, W)."""
        for first in pairs:
            size = min(flows.pairs_per_batch(*first.items[0].shape[1:]), max(LARGEST_BATCH, self.batch_size))
            batch = [first, *islice(pairs, size - 1)]
            frames = {index: frame for pair in batch for index, frame in zip(pair.indices, pair.items, strict=True)}
            computed = list(flows.compute(frames, [(pair.row, pair.row + 1) for pair in batch]).values())
            if options.sketch is not None:
                for pair, flow in zip(batch, computed, strict=True):
                    options.sketch.add_flow(pair.row, flow)
            yield torch.stack(computed).half()


def _on_host(batches: Iterator[Tensor]) -> Iterator[Rows]:
    """Yield batches as arrays. Of a GPU's, two are under way: one is waited for when the next one is begun."""
    copies = map(_begin_copy, batches)
    wait = next(copies, None)
    while wait is not None:
        wait_for_next = next(copies, None)
        yield wait()
        wait = wait_for_next


def _begin_copy(batch: Tensor) -> Callable[[], Rows]:
    """Begin to copy a batch to the host, into page-locked memory, and return what waits for it."""
    copy = torch.empty(batch.shape, dtype=batch.dtype, pin_memory=batch.is_cuda).copy_(batch, non_blocking=True)
    done = None
    if batch.is_cuda:
        done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        done.record()

    def wait() -> Rows:
        if done is not None:
            done.synchronize()
        return copy.numpy()

    return wait
