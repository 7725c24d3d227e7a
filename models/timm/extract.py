"""Video -> features of its frames, by an image model of timm."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.clips import RowExtractor, Stacks
from models.timm import Config
from models.timm.net import Embedder, load_model
from models.timm.preprocessing import Preprocessing
from utils.errors import OverflowingError
from utils.media.options import DecodeOptions
from utils.memory import choose_batch_size
from utils.results import Features

SUFFIX = "timm"
CPU_BATCH = 4  # frames; more are no faster: measured with resnet50, vit_small_patch16_224 and convnext_tiny
LARGEST_BATCH = 64  # frames, on a GPU: an estimate
BYTES_PER_PIXEL = 400  # of what a model sees, in half precision, of large convolutional networks: an estimate


class Extractor(RowExtractor):
    """Holds a model on one device."""

    config: Config

    def __init__(self, config: Config, device: str, num_sharing: int = 1) -> None:
        super().__init__(config, device, config.precision)
        model = load_model(config)
        self.preprocess = Preprocessing(model, self.device)
        height, width = model.pretrained_cfg["input_size"][1:]
        # With channels last, convolutions are faster: on a CPU by 4 % with resnet50.
        self.network = Embedder(config, model).to(self.device, self.dtype).to(memory_format=torch.channels_last)
        num_bytes = BYTES_PER_PIXEL * self.dtype.itemsize // 2 * height * width
        self.batch_size = choose_batch_size(config.batch_size, device, CPU_BATCH, num_bytes, LARGEST_BATCH, num_sharing)

    def extract(self, path: str, options: DecodeOptions, frames_folder: Path | None = None) -> Features:
        """Return the features of a video's frames, float32 (N, D); these are also written to `frames_folder`, if given.

        Raises MediaError, SaveError, OutOfMemoryError and OverflowingError.
        """
        features = super().extract(path, options, frames_folder)
        if not np.isfinite(features.arrays[SUFFIX]).all():
            needed = f"{self.config.model_name} needs more than {self.dtype}"
            raise OverflowingError(f"{path}: {needed}: add --precision fp32")
        return features

    def embed(self, stacks: Stacks) -> dict[str, Tensor]:
        images = self.preprocess([frame for stack in stacks for frame in stack.items])
        return {SUFFIX: self.network(images.to(self.dtype)).float()}
