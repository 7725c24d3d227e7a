"""Video -> I3D features of its RGB and flow streams."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from models.i3d import CROP_SIZE, Config, published
from models.i3d.flow import StackFlows
from models.i3d.net import I3D, VARIANTS
from models.i3d.predictions import class_names, describe
from models.i3d.transforms import center_crop, normalize_rgb
from models.pwc.net import PWCNet
from models.pwc.published import our_key as our_pwc_key
from utils import weights
from utils.container import MediaError
from utils.devices import compute_in_float32, fitting
from utils.features import Features
from utils.files import whole_folder
from utils.media import Frame, Video, write_png
from utils.reading import Reading
from utils.stacks import Stack, stacks

# Of the frames whose flow is computed together. On a CPU more are no faster, and take more memory.
PIXELS_PER_BATCH = {"cpu": 4 * 256 * 341, "cuda": 16 * 256 * 341}

Network = TypeVar("Network", bound=nn.Module)


class Extractor:
    """Holds the networks on one device. Its arithmetic is float32: TF32 is switched off for the whole process."""

    def __init__(self, config: Config, device: str) -> None:
        compute_in_float32()
        self.config = config
        self.device = torch.device(device)
        self.i3d: dict[str, I3D] = {}
        if "rgb" in config.streams:
            self.i3d["rgb"] = self._i3d(3, config.i3d_rgb_path)
        if "flow" in config.streams:
            self.i3d["flow"] = self._i3d(2, config.i3d_flow_path)
            self.pwc = self._ready(PWCNet(), config.pwc_path, our_pwc_key).to(memory_format=torch.channels_last)
        self.class_names = class_names(config.kinetics_class_labels) if config.show_kinetics_pred else []

    def extract(self, path: str, frames_folder: Path | None = None, reading: Reading | None = None) -> Features:
        """The features of a video, float32 (N, 1024) a stream.

        Its frames, scaled, are also written to `frames_folder`, if given, which appears when all are there. Raises
        MediaError, SaveError and NoMemoryError.
        """
        work = partial(self._extract, path, frames_folder, reading)
        return fitting(work, PIXELS_PER_BATCH[self.device.type])

    @torch.inference_mode()
    def _extract(
        self, path: str, frames_folder: Path | None, reading: Reading | None, pixels_per_batch: int
    ) -> Features:
        config = self.config
        rows: dict[str, list[Tensor]] = {stream: [] for stream in config.streams}
        spans = []
        flows = StackFlows(self.pwc, pixels_per_batch) if "flow" in config.streams else None
        with (
            Video(path, config.min_side_size, config.extraction_fps, reading) as video,
            whole_folder(frames_folder) if frames_folder else nullcontext() as folder,
        ):
            frames = self._on_device(_kept(video, folder) if folder else video)
            for stack in stacks(frames, config.stack_size + 1, config.step_size, config.tail == "cycle"):
                if "rgb" in rows:
                    rows["rgb"].append(self._features("rgb", self._rgb(stack)))
                if flows is not None:
                    rows["flow"].append(self._features("flow", flows.of(stack)))
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
            losses=video.losses,
            report=self._predictions(features, spans) if config.show_kinetics_pred else "",
        )

    def _on_device(self, frames: Iterable[Frame]) -> Iterator[Tensor]:
        """Frames (H, W, 3) as tensors (3, H, W)."""
        for frame in frames:
            yield torch.from_numpy(frame).to(self.device).permute(2, 0, 1)

    def _rgb(self, stack: Stack[Tensor]) -> Tensor:
        """What I3D sees of the frames of a stack but its last, (T, 3, 224, 224)."""
        frames = [center_crop(frame, CROP_SIZE) for frame in stack.items[: self.config.stack_size]]
        return normalize_rgb(torch.stack(frames))

    def _features(self, stream: str, images: Tensor) -> Tensor:
        """The feature (1, 1024) of a stack of images (T, C, 224, 224)."""
        features: Tensor = self.i3d[stream](images.transpose(0, 1)[None])
        return features

    def _predictions(self, features: dict[str, Tensor], spans: list[tuple[float, float]]) -> str:
        """The likeliest classes of each stack, by the sum of the streams' logits."""
        logits = sum(self.i3d[stream].classify(rows) for stream, rows in features.items())
        assert isinstance(logits, Tensor)
        return describe(logits.cpu(), spans, self.class_names)

    def _i3d(self, channels: int, path: str | None) -> I3D:
        network = self._ready(I3D(channels, VARIANTS[self.config.i3d_variant]), path, published.our_key)
        return network.fold_batch_norm().to(memory_format=torch.channels_last_3d)

    def _ready(self, network: Network, path: str | None, our_key: Callable[[str], str]) -> Network:
        """The network with its weights, for inference, on the device."""
        if path is None:
            weights.randomize(network, seed=0)
        else:
            weights.load(network, Path(path), our_key)
        return network.eval().to(self.device)


def _kept(video: Iterable[Frame], folder: Path) -> Iterator[Frame]:
    """The frames of a video, each written to `folder` when it comes, as 000001.png and on."""
    for number, frame in enumerate(video, start=1):
        write_png(frame, folder / f"{number:06d}.png")
        yield frame
