"""I3D, the inflated Inception-v1 of Quo Vadis, Action Recognition? (arXiv:1705.07750).

The weights are the Kinetics ones published by DeepMind (Apache-2.0), in their PyTorch conversion (MIT; see
`checkpoint.py`). Two variants run them:

- `ancestor`: batch norm with eps 1e-5 and, along time too, padding from kernel and stride alone. The conversion runs
  so, and features were published with it.
- `deepmind`: eps 1e-3 and TensorFlow's SAME padding, which depends on the input's length, as in the published scores.

Different from both: the average pool spans two time steps, but takes one where only one is left, so that stacks of 9
frames have features. The reference fails there.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

CHANNELS = {"rgb": 3, "flow": 2}  # of the input, by stream
NUM_FEATURES = 1024
NUM_CLASSES = 400

Triple = tuple[int, int, int]


class Variant(NamedTuple):
    """The differences between two uses of the published weights."""

    batch_norm_eps: float
    pads_by_length: bool


VARIANTS = {"ancestor": Variant(1e-5, pads_by_length=False), "deepmind": Variant(1e-3, pads_by_length=True)}


class I3D(nn.Module):
    """Stacks of frames -> features, and features -> Kinetics classes."""

    def __init__(self, channels_in: int, variant: Variant) -> None:
        super().__init__()
        self.stem = Unit(channels_in, 64, 7, stride=2, variant=variant)
        self.pool_2a = Pool((1, 3, 3), (1, 2, 2), variant)
        self.point_2b = Unit(64, 64, 1, variant=variant)
        self.space_2c = Unit(64, 192, 3, variant=variant)
        self.pool_3a = Pool((1, 3, 3), (1, 2, 2), variant)
        self.mixed_3b = Mixed(192, (64, 96, 128, 16, 32, 32), variant)
        self.mixed_3c = Mixed(256, (128, 128, 192, 32, 96, 64), variant)
        self.pool_4a = Pool((3, 3, 3), (2, 2, 2), variant)
        self.mixed_4b = Mixed(480, (192, 96, 208, 16, 48, 64), variant)
        self.mixed_4c = Mixed(512, (160, 112, 224, 24, 64, 64), variant)
        self.mixed_4d = Mixed(512, (128, 128, 256, 24, 64, 64), variant)
        self.mixed_4e = Mixed(512, (112, 144, 288, 32, 64, 64), variant)
        self.mixed_4f = Mixed(528, (256, 160, 320, 32, 128, 128), variant)
        self.pool_5a = Pool((2, 2, 2), (2, 2, 2), variant)
        self.mixed_5b = Mixed(832, (256, 160, 320, 32, 128, 128), variant)
        self.mixed_5c = Mixed(832, (384, 192, 384, 48, 128, 128), variant)
        self.classifier = nn.Conv3d(NUM_FEATURES, NUM_CLASSES, 1)

    def forward(self, stacks: Tensor) -> Tensor:
        """Return features (B, 1024), the layer before the classifier, of stacks (B, C, T >= 9, 224, 224) in [-1, 1]."""
        x = stacks.contiguous(memory_format=torch.channels_last_3d)
        x = self.stem(x)  # (B, 64, T/2, 112, 112)
        x = self.pool_2a(x)
        x = self.space_2c(self.point_2b(x))
        x = self.pool_3a(x)  # (B, 192, T/2, 28, 28)
        x = self.mixed_3c(self.mixed_3b(x))
        x = self.pool_4a(x)  # (B, 480, T/4, 14, 14)
        x = self.mixed_4d(self.mixed_4c(self.mixed_4b(x)))
        x = self.mixed_4f(self.mixed_4e(x))
        x = self.pool_5a(x)  # (B, 832, T/8, 7, 7)
        x = self.mixed_5c(self.mixed_5b(x))
        x = F.avg_pool3d(x.float(), (min(2, x.shape[2]), 7, 7), stride=1)
        features: Tensor = x.mean(dim=(2, 3, 4))
        return features

    def classify(self, features: Tensor) -> Tensor:
        """Return Kinetics logits (B, 400) of features (B, 1024).

        The classifier is linear, so the mean over time of its outputs is its output for the mean.
        """
        logits: Tensor = self.classifier(features[:, :, None, None, None].to(self.dtype)).flatten(1)
        return logits

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights and of the input."""
        return self.classifier.weight.dtype

    def fuse(self) -> "I3D":
        """Fold batch norms into convolutions and merge each block's pointwise ones, for inference; returns itself."""
        for module in self.modules():
            if isinstance(module, Unit) and isinstance(module.norm, nn.BatchNorm3d):
                module.conv = fuse_conv_bn_eval(module.conv, module.norm)
                module.norm = nn.Identity()
        for module in self.modules():
            if isinstance(module, Mixed):
                module.merge_pointwise()
        return self

    def refine_weights(self) -> "I3D":
        """Keep TF32 from rounding the weights of the first layers, where features suffer most; returns itself."""
        for unit in (self.stem, self.point_2b, self.space_2c):
            unit.refine_weights()
        return self


def tf32(x: Tensor) -> Tensor:
    """Round float32 numbers to the 10 bits after the point that TF32 keeps, halves to even."""
    bits = x.contiguous().view(torch.int32)
    return ((bits + 0x0FFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)


class Unit(nn.Module):
    """Convolution, batch norm, ReLU; SAME padding."""

    def __init__(self, channels_in: int, channels_out: int, size: int, *, variant: Variant, stride: int = 1) -> None:
        super().__init__()
        self.pads_by_length = variant.pads_by_length
        symmetric = stride == 1  # SAME padding of an odd kernel: the convolution pads by itself, without a copy
        self.conv = nn.Conv3d(channels_in, channels_out, size, stride, size // 2 if symmetric else 0, bias=False)
        self.norm: nn.Module = nn.BatchNorm3d(channels_out, eps=variant.batch_norm_eps)
        self.has_two_terms = False

    def forward(self, x: Tensor) -> Tensor:
        if self.conv.stride != (1, 1, 1):
            x = _pad_same(x, self.conv.kernel_size, self.conv.stride, self.pads_by_length)
        if self.has_two_terms:
            x = torch.cat([x, x], dim=1)
        # On a CPU some small convolutions lose the memory format, which would slow down the next layer.
        x = self.conv(x).contiguous(memory_format=torch.channels_last_3d)
        return F.relu_(self.norm(x))

    def refine_weights(self) -> None:
        """Split each weight into a sum of two TF32 numbers, and repeat the input for the second."""
        rounded = tf32(self.conv.weight)
        both = torch.cat([rounded, self.conv.weight - rounded], dim=1)
        self.conv.weight = nn.Parameter(both, requires_grad=False)
        self.has_two_terms = True


class Pool(nn.Module):
    """Max pool with SAME padding, by zeros because the input comes from a ReLU."""

    def __init__(self, size: Triple, stride: Triple, variant: Variant) -> None:
        super().__init__()
        self.size, self.stride, self.pads_by_length = size, stride, variant.pads_by_length

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == (1, 1, 1):
            return F.max_pool3d(x, self.size, self.stride, padding=[side // 2 for side in self.size])
        x = _pad_same(x, self.size, self.stride, self.pads_by_length)
        return F.max_pool3d(x, self.size, self.stride, ceil_mode=True)


class Mixed(nn.Module):
    """An Inception block: four branches, concatenated on channels."""

    def __init__(self, channels_in: int, channels_out: tuple[int, int, int, int, int, int], variant: Variant) -> None:
        """`channels_out` is of the units, in the order in which they are built here."""
        super().__init__()
        point, reduce_1, space_1, reduce_2, space_2, pool_point = channels_out
        self.point = Unit(channels_in, point, 1, variant=variant)
        self.reduce_1 = Unit(channels_in, reduce_1, 1, variant=variant)
        self.space_1 = Unit(reduce_1, space_1, 3, variant=variant)
        self.reduce_2 = Unit(channels_in, reduce_2, 1, variant=variant)
        self.space_2 = Unit(reduce_2, space_2, 3, variant=variant)
        self.pool = Pool((3, 3, 3), (1, 1, 1), variant)
        self.pool_point = Unit(channels_in, pool_point, 1, variant=variant)
        self.pointwise_channels = (point, reduce_1, reduce_2)
        self.is_merged = False

    def forward(self, x: Tensor) -> Tensor:
        if self.is_merged:
            point, reduced_1, reduced_2 = self.point(x).split(self.pointwise_channels, dim=1)
        else:
            point, reduced_1, reduced_2 = self.point(x), self.reduce_1(x), self.reduce_2(x)
        branches = [point, self.space_1(reduced_1), self.space_2(reduced_2), self.pool_point(self.pool(x))]
        return torch.cat(branches, dim=1)

    def merge_pointwise(self) -> None:
        """Merge the three 1x1x1 units that read the block's input, whose batch norms are folded, into one."""
        for name in ("weight", "bias"):
            merged = torch.cat([getattr(unit.conv, name) for unit in (self.point, self.reduce_1, self.reduce_2)])
            setattr(self.point.conv, name, nn.Parameter(merged, requires_grad=False))
        del self.reduce_1, self.reduce_2
        self.is_merged = True


def _pad_same(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], by_length: bool) -> Tensor:
    """Pad the last three axes with zeros: half of them before, the rest after."""
    padding: list[int] = []
    for size, k, s in zip(x.shape[2:], kernel, stride, strict=True):
        total = max((-(-size // s) - 1) * s + k - size, 0) if by_length else max(k - s, 0)
        padding = [total // 2, total - total // 2, *padding]  # F.pad wants the last axis first
    return F.pad(x, padding) if any(padding) else x
