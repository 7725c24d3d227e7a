"""PWC-Net's decoders as sums of fused convolutions, without concatenations.

In the paper, layer i of a dense block reads the block's input and all outputs before it, concatenated: the input is
copied six times and read as often, by convolutions of as few as 2 outputs. A convolution is linear, so a convolution
of concatenated tensors is the sum of a convolution of each. Here each tensor is read once, by one convolution whose
outputs are the shares of all layers that read it; each layer's shares are added up.

The following layer is one of them: the refiner's first layer, or the transposed convolution to the next level, which
is a convolution to four times the channels followed by `pixel_shuffle`.

Channels are padded with zeros to multiples of 8, as tensor cores want them.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.pwc.cost_volume import NEGATIVE_SLOPE, NUM_DISPLACEMENTS
from models.pwc.matching import matching_costs
from models.pwc.net import DENSE_CHANNELS, FINEST, Decoder, PWCNet, leaky_relu

CHANNEL_MULTIPLE = 8
FLOW_CHANNELS = 2

Parameters = tuple[Tensor, Tensor]
"""Kernel (out, in, 3, 3) and bias (out,) of a convolution."""


def fuse_decoders(network: PWCNet) -> PWCNet:
    """Replace each decoder by a `FusedDecoder`, for inference, and return the network itself."""
    following, shuffles = _parameters(network.refiner[0]), False
    network.refiner[0] = nn.LeakyReLU(NEGATIVE_SLOPE)
    for level in range(FINEST, FINEST + len(network.decoders)):
        decoder = cast(Decoder, network.decoders[str(level)])
        network.decoders[str(level)] = FusedDecoder(decoder, following, shuffles)
        if hasattr(decoder, "upsample_dense"):
            following, shuffles = to_shuffled_convolution(decoder.upsample_dense), True
    return network


class FusedDecoder(nn.Module):
    """A `Decoder` that returns, in place of its dense features, the output of the layer that follows it.

    That is the finer level's two upsampled channels, or the refiner's first layer before its activation.
    """

    def __init__(self, decoder: Decoder, following: Parameters, shuffles: bool) -> None:
        """`following` is of that layer; `shuffles`: `pixel_shuffle` comes after it."""
        super().__init__()
        self.units_to_pixels = decoder.units_to_pixels
        self.upsample_flow = getattr(decoder, "upsample_flow", None)
        self.num_following = len(following[0])
        self.shuffles = shuffles
        layers = [*map(_parameters, decoder.dense), following, _parameters(decoder.to_flow)]
        kernels = [kernel for kernel, _ in layers]
        # Input channels of a kernel are in this order: the latest output, ..., the first output, the block's input.
        end = kernels[0].shape[1]
        self.kernels = nn.ParameterList([_stack_kernels([kernel[:, -end:] for kernel in kernels])])
        for i, growth in enumerate(DENSE_CHANNELS, start=1):
            self.kernels.append(_stack_kernels([kernel[:, -end - growth : -end] for kernel in kernels[i:]]))
            end += growth
        bias = torch.cat([bias for _, bias in layers])
        self.bias = nn.Parameter(F.pad(bias, (0, -len(bias) % CHANNEL_MULTIPLE)), requires_grad=False)

    def forward(
        self, first: Tensor, second: Tensor, coarse_flow: Tensor | None, upsampled: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        inputs = self._gather_inputs(first, second, coarse_flow, upsampled)
        sums = F.conv2d(inputs, self.kernels[0], self.bias, padding=1)
        for growth, kernel in zip(DENSE_CHANNELS, self.kernels[1:], strict=True):
            dense = leaky_relu(sums[:, :growth])  # dense in memory, too
            sums = sums[:, growth:].add_(F.conv2d(dense, kernel, padding=1))
        following = sums[:, : self.num_following]
        flow = sums[:, self.num_following : self.num_following + FLOW_CHANNELS]
        return flow, F.pixel_shuffle(following, 2) if self.shuffles else following

    def _gather_inputs(
        self, first: Tensor, second: Tensor, coarse_flow: Tensor | None, upsampled: Tensor | None
    ) -> Tensor:
        """Return costs and, except at the coarsest level, features of the first image, flow and upsampled features."""
        batch, _, height, width = first.shape
        inputs = first.new_empty((batch, height, width, self.kernels[0].shape[1])).permute(0, 3, 1, 2)
        end = NUM_DISPLACEMENTS
        if self.upsample_flow is None:
            matching_costs(first, second, None, inputs)
        else:
            assert upsampled is not None
            flow = self.upsample_flow(coarse_flow)
            matching_costs(first, second, flow * self.units_to_pixels, inputs)
            for part in (first, flow, upsampled):
                inputs[:, end : end + part.shape[1]] = part
                end += part.shape[1]
        inputs[:, end:] = 0
        return inputs


def to_shuffled_convolution(transposed: nn.ConvTranspose2d) -> Parameters:
    """Convert a transposed convolution of size 4, stride 2 and padding 1 to a convolution before `pixel_shuffle`.

    It has 4 * out channels. Output pixel 2i is the sum of input pixels i - 1 and i, weighted by taps 3 and 1; output
    pixel 2i + 1 that of i and i + 1, by taps 2 and 0.
    """
    channels_in, channels_out = transposed.weight.shape[:2]
    kernel = transposed.weight.new_zeros(channels_out, 2, 2, channels_in, 3, 3)
    taps = [(0, 0, 3), (0, 1, 1), (1, 1, 2), (1, 2, 0)]  # parity of the output, index in the kernel, tap
    for parity_y, y, tap_y in taps:
        for parity_x, x, tap_x in taps:
            kernel[:, parity_y, parity_x, :, y, x] = transposed.weight[:, :, tap_y, tap_x].t()
    return kernel.flatten(0, 2), cast(Tensor, transposed.bias).repeat_interleave(4)


def _parameters(layer: nn.Module) -> Parameters:
    """Return those of the convolution at the start of a layer."""
    conv = next(module for module in layer.modules() if isinstance(module, nn.Conv2d))
    return conv.weight, cast(Tensor, conv.bias)


def _stack_kernels(kernels: list[Tensor]) -> nn.Parameter:
    """Make one kernel of several that read the same input, with padded channels."""
    stacked = torch.cat(kernels)
    num_outputs, num_inputs = stacked.shape[:2]
    padding = (0, 0, 0, 0, 0, -num_inputs % CHANNEL_MULTIPLE, 0, -num_outputs % CHANNEL_MULTIPLE)
    padded = F.pad(stacked, padding).contiguous(memory_format=torch.channels_last)
    return nn.Parameter(padded, requires_grad=False)
