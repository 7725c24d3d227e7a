"""Video -> clip features of torchvision's video models: what they give their last layer."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights
from torchvision.transforms.functional import center_crop, resize

from models.clips import RowExtractor, Stacks, zero_beyond
from models.kinetics import class_names, mean_of_crops, predictions
from models.torchvision import Config
from utils.crops import crop
from utils.memory import choose_batch_size
from utils.results import Arrays, Predictions
from utils.weights.checkpoint import load_or_randomize

SUFFIX = "torchvision"
CPU_BATCH = 16  # frames, which are one stack; more are no faster
LARGEST_BATCH = 256  # frames, on a GPU, where more are no faster: an estimate
# By a number's size: twice what swin3d_b takes, the largest, on a CPU; an estimate for GPUs.
BYTES_PER_FRAME = {4: 60 * 10**6, 2: 30 * 10**6}


class Extractor(RowExtractor):
    """Holds a network on one device."""

    config: Config

    def __init__(self, config: Config, device: str, num_sharing: int = 1) -> None:
        super().__init__(config, device, config.precision)
        self.network = load_network(config.model_name, config.checkpoint, self.dtype).to(self.device)
        self.preprocess = Preprocessing(config.model_name, config.crop_names, self.device)
        if config.show_kinetics_pred or config.save_predictions:
            class_names(config.kinetics_class_labels)  # which says now what is wrong with them
        self.batch_size = choose_batch_size(
            config.batch_size, device, CPU_BATCH, BYTES_PER_FRAME[self.dtype.itemsize], LARGEST_BATCH, num_sharing
        )

    def prepare(self, frame: Tensor) -> Tensor:
        return self.preprocess.cut(frame)

    def embed(self, stacks: Stacks) -> dict[str, Tensor]:
        """Return the features of stacks of cut frames, (B, D), or (B, K, D) of K crops."""
        cut = torch.stack([frame for stack in stacks for frame in stack.items])  # (B T, K, 3, H, W)
        rows = []
        for of_crop in cut.unbind(dim=1):
            images = self.preprocess.normalize(of_crop).view(len(stacks), -1, *of_crop.shape[1:])
            if self.config.edge == "zero":
                zero_beyond(images, stacks)
            rows.append(self.network(images.transpose(1, 2)))
        return {SUFFIX: torch.stack(rows, dim=1) if len(rows) > 1 else rows[0]}

    @torch.inference_mode()
    def predict(self, arrays: Arrays) -> Predictions:
        """Return the logits of the Kinetics classes, (N, 400), of the mean of crops."""
        rows = torch.from_numpy(arrays[SUFFIX]).to(self.device)
        return predictions({SUFFIX: self.network.classify(mean_of_crops(rows))}, self.config.kinetics_class_labels)


class Preprocessing:
    """What the `transforms()` of a model's weights do, in two steps: of each frame once, and of stacks."""

    def __init__(self, model_name: str, crop_names: tuple[str, ...], device: torch.device) -> None:
        self.preset: Any = get_model_weights(model_name)["KINETICS400_V1"].transforms()
        self.crop_names = crop_names
        self.mean, self.std = (
            torch.tensor(values, device=device).view(3, 1, 1) for values in (self.preset.mean, self.preset.std)
        )

    def cut(self, frame: Tensor) -> Tensor:
        """Return the crops (K, 3, H, W) of a frame (3, H, W), scaled to the model's size; all are uint8."""
        scaled = resize(frame, self.preset.resize_size, self.preset.interpolation, antialias=False)
        size = self.preset.crop_size[0]
        return torch.stack([crop(scaled, name, size, center_crop) for name in self.crop_names])

    def normalize(self, images: Tensor) -> Tensor:
        """Return what the model sees of images (..., 3, H, W) with values up to 255, float32."""
        return (images / 255).sub_(self.mean).div_(self.std)


class ClipNetwork(nn.Module):
    """A video model of torchvision, split before its last layer and the dropout that comes before that."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        name, last = list(model.named_children())[-1]  # `fc`, `head` or `classifier`
        self.layer: Any = last[-1] if isinstance(last, nn.Sequential) else last  # linear; a Conv3d of size 1 in S3D
        setattr(model, name, nn.Identity())
        self.model = model.to(dtype)
        self.dtype = dtype
        pool = getattr(model, "avgpool", None)
        if pool is not None:  # which then takes the mean in float32
            pool.register_forward_pre_hook(lambda _, inputs: inputs[0].float())

    def forward(self, images: Tensor) -> Tensor:
        """Return features (B, D), float32, of normalized stacks (B, 3, T, H, W)."""
        features: Tensor = self.model(images.to(self.dtype)).float()
        return features

    def classify(self, features: Tensor) -> Tensor:
        """Return logits (B, 400) of features (B, D). S3D takes the mean of its logits over time, which is the same."""
        return F.linear(features, self.layer.weight.flatten(1), self.layer.bias)


def load_network(model_name: str, path: str | None, dtype: torch.dtype) -> ClipNetwork:
    """Return a model that computes in `dtype`, with a checkpoint's weights, or untrained ones. Raises WeightsError."""
    with torch.random.fork_rng(devices=[]):  # not all untrained weights are those of `load_or_randomize`
        torch.manual_seed(0)
        model = get_model(model_name, weights=None)
    return ClipNetwork(load_or_randomize(model, path, our_key=str), dtype)
