"""Frames -> what a model of timm sees of them, as timm's own transform makes it of images."""

from collections.abc import Sequence
from typing import Any

import torch
from timm.data import create_transform, resolve_model_data_config
from timm.data.transforms import ResizeKeepRatio
from torch import Tensor
from torchvision.transforms import CenterCrop, Resize
from torchvision.transforms.functional import pil_to_tensor, to_pil_image
from torchvision.transforms.v2.functional import resize

CHUNK_BYTES = 2**28  # of frames in float32, which a GPU scales together


class Preprocessing:
    """A model's own: timm's steps on uint8 tensors, on their device.

    Of these, scaling is done by torchvision's newer function, which is nearer to Pillow's, for which models were
    trained, and on CPUs eight times as fast. A model with steps that do not take tensors gets its images from Pillow.
    """

    def __init__(self, model: Any, device: torch.device) -> None:
        *self.steps, _, normalize = create_transform(**resolve_model_data_config(model)).transforms
        self.takes_tensors = all(isinstance(step, Resize | ResizeKeepRatio | CenterCrop) for step in self.steps)
        self.mean, self.std = (values.view(3, 1, 1).to(device) for values in (normalize.mean, normalize.std))

    def __call__(self, frames: Sequence[Tensor]) -> Tensor:
        """Return the images (B, 3, h, w), float32, of frames of one size, uint8 (3, H, W)."""
        first = frames[0]
        # One by one, CPUs keep them in their caches.
        num_together = 1 if first.device.type == "cpu" else max(1, CHUNK_BYTES // (4 * first.numel()))
        chunks = [frames[i : i + num_together] for i in range(0, len(frames), num_together)]
        images = torch.cat([self._scale(chunk) for chunk in chunks])
        return (images.float() / 255).sub_(self.mean).div_(self.std)

    def _scale(self, frames: Sequence[Tensor]) -> Tensor:
        if not self.takes_tensors:
            return torch.stack([self._scale_with_pillow(frame) for frame in frames])
        images = torch.stack(list(frames)) if len(frames) > 1 else frames[0][None]
        for step in self.steps:
            if isinstance(step, CenterCrop):
                images = step(images)
            else:
                is_keeping = isinstance(step, ResizeKeepRatio)
                size = step.get_params(images, step.size, step.longest) if is_keeping else step.size
                images = resize(images, size, step.interpolation, antialias=True)
        return images

    def _scale_with_pillow(self, frame: Tensor) -> Tensor:
        image = to_pil_image(frame.cpu())
        for step in self.steps:
            image = step(image)
        scaled: Tensor = pil_to_tensor(image)
        return scaled.to(frame.device)
