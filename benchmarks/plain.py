"""I3D's features of both streams in the simplest way: what the program's own pipeline is measured against.

The networks are those of `models/` as they are defined, without what the extractor does for speed: no layers are
fused or merged, both pyramids of each pair are computed, frames are decoded and scaled first, in one thread, and all
is float32.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.i3d import CROP_SIZE
from models.i3d.checkpoint import our_key as i3d_key
from models.i3d.net import CHANNELS, I3D, VARIANTS
from models.i3d.transforms import normalize_rgb, quantize_flow
from models.pwc.checkpoint import our_key as pwc_key
from models.pwc.net import PWCNet
from utils.crops import center_crop
from utils.media.video import Video
from utils.weights.checkpoint import load_or_randomize

PAIRS_PER_BATCH = {"cpu": 1, "cuda": 16}


class PlainExtractor:
    """Extracts both streams of videos that are a whole number of stacks, with the weights of `--weights random`."""

    def __init__(self, stack_size: int, device: str) -> None:
        self.stack_size = stack_size
        self.device = torch.device(device)
        self.pwc = load_or_randomize(PWCNet(), None, pwc_key).to(self.device)
        self.i3d = {
            stream: load_or_randomize(I3D(channels, VARIANTS["ancestor"]), None, i3d_key).to(self.device)
            for stream, channels in CHANNELS.items()
        }

    @torch.inference_mode()
    def extract(self, path: Path, output: Path) -> int:
        """Save `rgb.npy` and `flow.npy`, (N, 1024), in a folder; return the number of frames in the stacks."""
        with Video(str(path), min_side_size=256) as video:
            frames = [torch.from_numpy(frame).to(self.device).permute(2, 0, 1) for frame in video]
        rows: dict[str, list[Tensor]] = {stream: [] for stream in CHANNELS}
        for start in range(0, len(frames) - self.stack_size, self.stack_size):
            stack = torch.stack(frames[start : start + self.stack_size + 1])
            step = PAIRS_PER_BATCH[self.device.type]
            pairs = zip(torch.split(stack[:-1], step), torch.split(stack[1:], step), strict=True)
            flow = torch.cat([self.pwc(first, second) for first, second in pairs])
            images = {"rgb": normalize_rgb(stack[:-1]), "flow": quantize_flow(flow)}
            for stream, network in self.i3d.items():
                rows[stream].append(network(center_crop(images[stream], CROP_SIZE).transpose(0, 1)[None]))
        for stream, features in rows.items():
            np.save(output / f"{stream}.npy", torch.cat(features).cpu().numpy())
        return len(rows["rgb"]) * self.stack_size
