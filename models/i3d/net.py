"""I3D, the inflated Inception-v1 of Quo Vadis, Action Recognition? (arXiv:1705.07750).

The weights are the Kinetics ones published by DeepMind (Apache-2.0), in their PyTorch conversion (MIT; see
`checkpoint.py`). Two variants run them:

- `ancestor`: batch norm with eps 1e-5 and, along time too, padding from kernel and stride alone. The conversion runs
  so, and features were published with it.
- `deepmind`: eps 1e-3 and TensorFlow's SAME padding, which depends on the input's length, as in the published scores.

Different from both: the average pool spans two time steps, but takes one where only one is left, so that stacks of 9
frames have features. The reference fails there.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from models.activation import add_and_activate

CHANNELS = {"rgb": 3, "flow": 2}  # of the input, by stream
NUM_FEATURES = 1024
NUM_CLASSES = 400
INPUT_SCALE = 255 / 256  # makes the input, of multiples of 1 / 255, exact in 16 bits

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
        x = self.stem(stacks)  # (B, 64, T/2, 112, 112)
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
        logits: Tensor = self.classifier(features[:, :, None, None, None]).flatten(1)
        return logits

    def optimize(self, dtype: torch.dtype, *, for_gpu: bool) -> "I3D":
        """Rebuild for inference in numbers of `dtype`, and return the network itself.

        Batch norms are folded into convolutions. For a GPU, biases stay float32 and are added by `add_and_activate`,
        a block's pointwise convolutions are merged, and in 16 bits the weights of the first three layers, whose
        rounding costs most, have two terms, and the input is scaled.
        """
        if for_gpu and dtype.itemsize == 2:
            self.stem.num_terms = self.point_2b.num_terms = self.space_2c.num_terms = 2
            self.stem.input_scale = INPUT_SCALE
        for module in self.modules():
            if isinstance(module, Unit):
                module.optimize(dtype, separates_bias=for_gpu)
        for module in self.modules():
            if for_gpu and isinstance(module, Mixed):
                module.merge_pointwise()
        return self


class Unit(nn.Module):
    """Convolution, batch norm, ReLU; SAME padding."""

    def __init__(self, channels_in: int, channels_out: int, size: int, *, variant: Variant, stride: int = 1) -> None:
        super().__init__()
        self.pads_by_length = variant.pads_by_length
        self.copies_input = stride > 1  # to pad it; SAME padding of an odd kernel is symmetric without a stride
        self.conv = nn.Conv3d(channels_in, channels_out, size, stride, 0 if stride > 1 else size // 2, bias=False)
        self.norm: nn.Module = nn.BatchNorm3d(channels_out, eps=variant.batch_norm_eps)
        self.bias: Tensor | None = None  # where it is separate from the convolution
        self.num_terms = 1  # of a weight
        self.input_scale = 1.0

    def forward(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """`out`, which may be some channels of a larger tensor, receives the result; only with a separate bias."""
        return self.activate(self.conv(self._copy_input(x) if self.copies_input else x), out)

    def activate(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Compute what follows the convolution."""
        if self.bias is not None:
            return add_and_activate([x], self.bias, 0.0, out)
        # On a CPU some small convolutions lose the memory format, which would slow down the next layer.
        return F.relu_(self.norm(x.contiguous(memory_format=torch.channels_last_3d)))

    def optimize(self, dtype: torch.dtype, *, separates_bias: bool) -> None:
        """Fold batch norm into the convolution, in numbers of `dtype`; a separate bias is float32."""
        norm: Any = self.norm  # a BatchNorm3d
        statistics = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
        weights, bias = map(torch.Tensor.detach, fuse_conv_bn_weights(self.conv.weight, None, *statistics))
        if self.num_terms == 2:
            weights = split_weights(weights / self.input_scale, dtype)
            self.copies_input, self.conv.padding = True, (0, 0, 0)
        self.conv.weight = nn.Parameter(weights.to(dtype), requires_grad=False)
        if separates_bias:
            self.bias = nn.Parameter(bias, requires_grad=False)
        else:
            self.conv.bias = nn.Parameter(bias.to(dtype), requires_grad=False)
        self.norm = nn.Identity()

    def _copy_input(self, x: Tensor) -> Tensor:
        """Return `x` of the weights' type, channels-last, padded, scaled, and once for each term along channels."""
        weights = self.conv.weight
        padding = _same_padding(x, self.conv.kernel_size, self.conv.stride, self.pads_by_length)
        lengths = [length + sum(sides) for length, sides in zip(x.shape[2:], padding, strict=True)]
        copy = weights.new_zeros((len(x), *lengths, weights.shape[1])).movedim(-1, 1)
        inner = copy
        for axis, (before, _) in enumerate(padding, start=2):
            inner = inner.narrow(axis, before, x.shape[axis])
        for term in range(self.num_terms):
            torch.mul(x, self.input_scale, out=inner.narrow(1, term * x.shape[1], x.shape[1]))
        return copy


def split_weights(weights: Tensor, dtype: torch.dtype) -> Tensor:
    """Make each weight a sum of two numbers of `dtype`, the second of which is for the same input, repeated.

    In half precision one number is wrong by up to 2^-11 of the weight, two by 2^-22 or, of small weights, by 2^-25.
    """
    first = weights.to(dtype)
    terms = torch.cat([first, (weights - first.float()).to(dtype)], dim=1)
    return F.pad(terms, [0] * 7 + [-terms.shape[1] % 8])  # channels, in eights as tensor cores want them


class Pool(nn.Module):
    """Max pool with SAME padding, over space and then over time, because PyTorch's 3-D pools are slow.

    Rows and columns must be even where the stride is 2, as of 224 x 224 pixels they are.
    """

    def __init__(self, size: Triple, stride: Triple, variant: Variant) -> None:
        super().__init__()
        self.size, self.stride, self.pads_by_length = size, stride, variant.pads_by_length

    def forward(self, x: Tensor) -> Tensor:
        (before, _), *space = _same_padding(x, self.size, self.stride, self.pads_by_length)
        images = x.transpose(1, 2).flatten(0, 1)  # (B * T, C, H, W), a view
        # The pixel that is padded only after the others is one that `ceil_mode` cuts off.
        images = F.max_pool2d(images, self.size[1:], self.stride[1:], [side for side, _ in space], ceil_mode=True)
        x = images.view(len(x), -1, *images.shape[1:]).transpose(1, 2)
        size, stride = self.size[0], self.stride[0]
        if size == stride == 1:
            return x
        pooled = x[:, :, ::stride].clone()  # a window for each frame at offset 0
        for offset in [*range(-before, 0), *range(1, size - before)]:
            first = max(0, -(offset // stride))  # the first window that has a frame at this offset
            frames = x[:, :, first * stride + offset :: stride][:, :, : pooled.shape[2] - first]
            windows = pooled[:, :, first : first + frames.shape[2]]
            torch.maximum(windows, frames, out=windows)
        return pooled


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
        self.pointwise_channels = [point, reduce_1, reduce_2]
        self.branch_channels = [point, space_1, space_2, pool_point]
        self.is_merged = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.is_merged:
            reduced_1, reduced_2 = self.reduce_1(x), self.reduce_2(x)
            branches = [self.point(x), self.space_1(reduced_1), self.space_2(reduced_2), self.pool_point(self.pool(x))]
            return torch.cat(branches, dim=1)
        joined = x.new_empty((len(x), *x.shape[2:], sum(self.branch_channels))).movedim(-1, 1)
        outs = torch.split(joined, self.branch_channels, dim=1)
        pointwise = torch.split(self.point.conv(x), self.pointwise_channels, dim=1)
        self.point.activate(pointwise[0], outs[0])
        self.space_1(self.reduce_1.activate(pointwise[1]), outs[1])
        self.space_2(self.reduce_2.activate(pointwise[2]), outs[2])
        self.pool_point(self.pool(x), outs[3])
        return joined

    def merge_pointwise(self) -> None:
        """Merge the convolutions of the three 1x1x1 units that read the block's input into `point`'s."""
        weights = torch.cat([unit.conv.weight for unit in (self.point, self.reduce_1, self.reduce_2)])
        self.point.conv.weight = nn.Parameter(weights, requires_grad=False)
        del self.reduce_1.conv, self.reduce_2.conv
        self.is_merged = True


def _same_padding(x: Tensor, kernel: Sequence[int], stride: Sequence[int], by_length: bool) -> list[tuple[int, int]]:
    """Return the padding before and after each of the last three axes: half of all, and the rest."""
    padding = []
    for size, k, s in zip(x.shape[2:], kernel, stride, strict=True):
        total = max((-(-size // s) - 1) * s + k - size, 0) if by_length else max(k - s, 0)
        padding.append((total // 2, total - total // 2))
    return padding
