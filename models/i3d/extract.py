"""Video -> I3D features of its RGB and flow streams."""

import dataclasses
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from models.i3d import CROP_SIZE, Config, checkpoint
from models.i3d.flow import StackFlows
from models.i3d.net import I3D, VARIANTS
from models.i3d.predictions import class_names, describe
from models.i3d.transforms import center_crop, normalize_rgb
from models.pwc.checkpoint import our_key as our_pwc_key
from models.pwc.fused_decoder import fuse_decoders
from models.pwc.net import PWCNet
from utils.devices import device_context, dtype_of, precision_on, set_tf32
from utils.errors import MediaError
from utils.media.device_frames import frames_on_device
from utils.media.options import DecodeOptions
from utils.media.video import Video
from utils.memory import items_that_fit, retry_with_half_batch
from utils.results import Features
from utils.stacks import Stack, stacks
from utils.weights.checkpoint import load_weights, randomize_weights

REFERENCE_PIXELS = 256 * 341  # of a frame; of larger ones, fewer make a batch
CPU_BATCH = 4  # frames; more are no faster, and take more memory
LARGEST_BATCH = 256  # frames, on a GPU, where more are no faster: an estimate
BYTES_PER_FRAME = {2: 40_000_000, 4: 80_000_000}  # in a batch, by the size of the networks' numbers

Network = TypeVar("Network", bound=nn.Module)


class Extractor:
    """Holds the networks on one device. It sets PyTorch's TF32 flags, which are the whole process's."""

    def __init__(self, config: Config, device: str, num_sharing: int = 1) -> None:
        self.config = config
        self.device = torch.device(device)
        self.precision = precision_on(device, config.precision)
        set_tf32(self.precision)
        self.i3d: dict[str, I3D] = {}
        if "rgb" in config.streams:
            self.i3d["rgb"] = self._make_i3d(3, config.i3d_rgb_path)
        if "flow" in config.streams:
            self.i3d["flow"] = self._make_i3d(2, config.i3d_flow_path)
            self.pwc = self._make_pwc(config.pwc_path)
            if self.device.type == "cuda":
                self._compile_kernels()
        self.class_names = class_names(config.kinetics_class_labels) if config.show_kinetics_pred else []
        self.batch_size = config.batch_size or self._batch_that_fits(num_sharing)

    def extract(self, path: str, options: DecodeOptions, frames_folder: Path | None = None) -> Features:
        """Return the features of a video, float32 (N, 1024) a stream; its scaled frames are also written to
        `frames_folder`, if given.

        Raises MediaError, SaveError and OutOfMemoryError.
        """
        return retry_with_half_batch(partial(self._extract, path, options, frames_folder), self.batch_size)

    @torch.inference_mode()
    def _extract(self, path: str, options: DecodeOptions, frames_folder: Path | None, batch_size: int) -> Features:
        config = self.config
        if config.hardware_decoding:
            options = dataclasses.replace(options, video_engine=self.device.index)
        rows: dict[str, list[Tensor]] = {stream: [] for stream in config.streams}
        spans = []
        with (
            device_context(str(self.device)),
            Video(path, config.min_side_size, config.extraction_fps, options) as video,
            frames_on_device(video, self.device, frames_folder) as frames,
        ):
            all_stacks = stacks(frames, config.stack_size + 1, config.step_size, config.tail == "cycle")
            flows = None
            while group := list(islice(all_stacks, max(1, batch_size // config.stack_size))):
                if "rgb" in rows:
                    rows["rgb"].append(self._features("rgb", self._rgb(group)))
                if "flow" in rows:
                    flows = flows or StackFlows(self.pwc, self._pairs_per_batch(batch_size, group[0].items[0]))
                    rows["flow"].append(self._features("flow", flows.compute(group)))
                for stack in group:
                    end = stack.start + min(stack.num_distinct, config.stack_size)
                    spans.append((float(stack.start / video.fps), float(end / video.fps)))
            if not spans:
                raise MediaError(
                    "too_short",
                    f"{path}: {video.num_frames} frames, and with --tail drop a stack of {config.stack_size} needs "
                    f"{config.stack_size + 1}",
                )
            seconds = float(video.num_frames / video.fps)
        features = {stream: torch.cat(rows[stream]) for stream in config.streams}
        return Features(
            arrays={stream: rows.cpu().numpy() for stream, rows in features.items()},
            spans=spans,
            seconds=seconds,
            missing=video.missing,
            missing_seconds=video.missing_seconds,
            report=self._predictions(features, spans) if config.show_kinetics_pred else "",
        )

    def _rgb(self, group: list[Stack[Tensor]]) -> Tensor:
        """Return what I3D sees of the frames of some stacks but their last ones, (B, T, 3, 224, 224)."""
        size = self.config.stack_size
        frames = [center_crop(frame, CROP_SIZE) for stack in group for frame in stack.items[:size]]
        return normalize_rgb(torch.stack(frames)).view(len(group), size, 3, CROP_SIZE, CROP_SIZE)

    def _features(self, stream: str, images: Tensor) -> Tensor:
        """Return the features (B, 1024), float32, of stacks of images (B, T, C, 224, 224)."""
        network = self.i3d[stream]
        features: Tensor = network(images.transpose(1, 2).to(network.dtype))
        return features

    def _predictions(self, features: dict[str, Tensor], spans: list[tuple[float, float]]) -> str:
        """Return the likeliest classes of each stack, by the sum of the streams' logits."""
        logits = sum(self.i3d[stream].classify(rows).float() for stream, rows in features.items())
        assert isinstance(logits, Tensor)
        return describe(logits.cpu(), spans, self.class_names)

    def _make_i3d(self, channels: int, path: str | None) -> I3D:
        network = self._filled(I3D(channels, VARIANTS[self.config.i3d_variant]), path, checkpoint.our_key)
        network.fuse()
        if self.precision == "mixed":
            network.refine_weights()
        network.to(memory_format=torch.channels_last_3d)
        return network.to(self.device, dtype_of(self.precision, supports_fp16=False))

    def _make_pwc(self, path: str | None) -> PWCNet:
        network = fuse_decoders(self._filled(PWCNet(), path, our_pwc_key)).to(memory_format=torch.channels_last)
        return network.to(self.device, dtype_of(self.precision, supports_fp16=True))

    @staticmethod
    def _filled(network: Network, path: str | None, our_key: Callable[[str], str]) -> Network:
        """Return the network with the weights of a checkpoint, or with untrained ones, for inference."""
        if path is None:
            randomize_weights(network, seed=0)
        else:
            load_weights(network, Path(path), our_key)
        return network.eval()

    @torch.inference_mode()
    def _compile_kernels(self) -> None:
        """Have kernels compiled now, and not in the time of the first video."""
        with device_context(str(self.device)):
            frames = torch.zeros(2, 3, 128, 128, dtype=torch.uint8, device=self.device)
            self.pwc(frames[:1], frames[1:])
            torch.cuda.synchronize()

    def _batch_that_fits(self, num_sharing: int) -> int:
        """Return for how many frames flow is computed together; the stacks of so many go through I3D together."""
        if self.device.type == "cpu":
            return CPU_BATCH
        size = dtype_of(self.precision, supports_fp16=True).itemsize
        return items_that_fit(str(self.device), BYTES_PER_FRAME[size], LARGEST_BATCH, num_sharing)

    def _pairs_per_batch(self, batch_size: int, frame: Tensor) -> int:
        """Return how many pairs of frames of that size (3, H, W) are computed together."""
        if self.config.batch_size is not None:
            return batch_size
        return max(1, batch_size * REFERENCE_PIXELS // frame[0].numel())
