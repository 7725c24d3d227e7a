"""PWC-Net's layers with their sums, biases and activations fused, for inference.

In the paper, layer i of a dense block reads the block's input and all outputs before it, concatenated: the input is
copied six times and read as often, by convolutions of as few as 2 outputs. A convolution is linear, so a convolution
of concatenated tensors is the sum of a convolution of each. Here each tensor is read once, by one convolution whose
outputs are the shares of all layers that read it. `add_and_activate` sums a layer's shares when its output is needed.

The following layer is one of them: the refiner's first layer, or the transposed convolution to the next level, which
is a convolution to four times the channels followed by `pixel_shuffle`.

Channels are padded to multiples of 8, as tensor cores want them.

On GPUs biases are weights of channels of ones in the padding, because a convolution rounds its outputs to half
precision before anything else can be added. Added afterwards, a bias would be rounded again, by the same error for all
outputs of a similar size: such errors do not average out, and triple those of the flow.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.activation import add_and_activate, new_output
from models.pwc.cost_volume import NEGATIVE_SLOPE, NUM_DISPLACEMENTS
from models.pwc.matching import matching_costs
from models.pwc.net import DENSE_CHANNELS, FINEST, Decoder, PWCNet

CHANNEL_MULTIPLE = 8
FLOW_CHANNELS = 2
NO_ACTIVATION = 1.0  # as a slope
FOLLOWING, FLOW = -2, -1  # layers at the end of a block

Parameters = tuple[Tensor, Tensor]
"""Kernel (out, in, 3, 3) and bias (out,) of a convolution."""


def fuse(network: PWCNet) -> PWCNet:
    """Replace the network's layers by fused ones, for inference, and return the network itself."""
    following, shuffles = _parameters(network.refiner[0]), False
    network.refiner[0] = nn.Identity()
    for level in range(FINEST, FINEST + len(network.decoders)):
        decoder = cast(Decoder, network.decoders[str(level)])
        network.decoders[str(level)] = FusedDecoder(decoder, following, shuffles)
        if hasattr(decoder, "upsample_dense"):
            following, shuffles = to_shuffled_convolution(decoder.upsample_dense), True
    for layers in cast("list[nn.Sequential]", [*network.levels, network.refiner]):
        for index, layer in enumerate(layers):
            if not isinstance(layer, nn.Identity):
                layers[index] = FusedLayer(layer)
    return network


class FusedLayer(nn.Module):
    """A convolution and, unless it is the last one, its activation. Where ones are wanted, it has and gives them."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        conv = next(module for module in layer.modules() if isinstance(module, nn.Conv2d))
        self.geometry: dict[str, Any] = {"stride": conv.stride, "padding": conv.padding, "dilation": conv.dilation}
        self.kernel = _stack_kernels([conv.weight], conv.bias)
        self.num_outputs = conv.out_channels
        self.num_ones = 0 if layer is conv else num_ones_after(conv.out_channels)
        self.slope = NO_ACTIVATION if layer is conv else NEGATIVE_SLOPE

    def forward(self, x: Tensor) -> Tensor:
        kernel, num_inputs = self.kernel, x.shape[1]
        if wants_ones(x):
            missing = kernel.shape[1] - num_inputs  # of images
            x = F.pad(x, (0, 0, 0, 0, 0, missing), value=1.0) if missing else x
            convolved = F.conv2d(x, kernel, **self.geometry)[:, : self.num_outputs]
            return add_and_activate([convolved], None, self.slope, new_output(convolved, self.num_ones))
        bias = kernel[: self.num_outputs, num_inputs:, 1, 1].sum(dim=1)
        features = F.conv2d(x, kernel[: self.num_outputs, :num_inputs], bias, **self.geometry)
        return F.leaky_relu(features, self.slope, inplace=True)


class FusedDecoder(nn.Module):
    """A `Decoder` that returns, in place of its dense features, the output of the layer that follows it.

    That is the finer level's two upsampled channels, or the output of the refiner's first layer.
    """

    def __init__(self, decoder: Decoder, following: Parameters, shuffles: bool) -> None:
        """`following` is of that layer; `shuffles`: it has no activation, and `pixel_shuffle` comes after it."""
        super().__init__()
        self.units_to_pixels = decoder.units_to_pixels
        self.upsample_flow = getattr(decoder, "upsample_flow", None)
        layers = [*map(_parameters, decoder.dense), following, _parameters(decoder.to_flow)]
        kernels = [kernel for kernel, _ in layers]
        # Input channels of a kernel are in this order: the latest output, ..., the first output, the block's input.
        end = kernels[0].shape[1]
        bias = torch.cat([bias for _, bias in layers])
        self.kernels = nn.ParameterList([_stack_kernels([kernel[:, -end:] for kernel in kernels], bias)])
        for i, growth in enumerate(DENSE_CHANNELS, start=1):
            self.kernels.append(_stack_kernels([kernel[:, -end - growth : -end] for kernel in kernels[i:]]))
            end += growth
        self.widths = [len(kernel) for kernel in kernels]
        self.widths[-1] += -len(bias) % CHANNEL_MULTIPLE
        self.shuffles = shuffles

    def forward(
        self, first: Tensor, second: Tensor, coarse_flow: Tensor | None, upsampled: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        x = self._gather_inputs(first, second, coarse_flow, upsampled)
        shares: list[tuple[Tensor, ...]] = []  # in each convolution, those of the layers to come
        for layer, kernel in enumerate(self.kernels, start=-len(self.widths)):
            shares.append(F.conv2d(x, kernel, padding=1).split_with_sizes(self.widths[layer:], dim=1))
            x = self._add_shares(shares, layer)
        flow = self._add_shares(shares, FLOW)[:, :FLOW_CHANNELS]
        return flow, F.pixel_shuffle(x, 2) if self.shuffles else x

    def _add_shares(self, shares: list[tuple[Tensor, ...]], layer: int) -> Tensor:
        """Return the output of a layer; they are counted from the end."""
        parts = [of_layers[layer] for of_layers in shares]
        to_refiner = layer == FOLLOWING and not self.shuffles
        num_ones = num_ones_after(self.widths[layer]) if to_refiner and wants_ones(parts[0]) else 0
        slope = NEGATIVE_SLOPE if layer < FOLLOWING or to_refiner else NO_ACTIVATION
        return add_and_activate(parts, None, slope, new_output(parts[0], num_ones) if num_ones else None)

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
        inputs[:, end:] = 1
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


def wants_ones(x: Tensor) -> bool:
    """Return whether `FusedLayer` wants ones after the channels of `x`.

    On a CPU, which only simulates half precision, a convolution adds its bias before it rounds, at no cost.
    """
    return x.is_cuda or x.dtype == torch.float16


def num_ones_after(num_channels: int) -> int:
    """Return the number of channels of ones that are wanted after others, at least two."""
    return (-num_channels - 2) % CHANNEL_MULTIPLE + 2


def _stack_kernels(kernels: list[Tensor], bias: Tensor | None = None) -> nn.Parameter:
    """Make one kernel of several that read the same input, with padded channels.

    With a bias, channels of ones follow in the input. The first two's weights add up to the bias, so that it keeps 16
    bits and more in half precision.
    """
    stacked = torch.cat(kernels)
    num_outputs, num_inputs = stacked.shape[:2]
    more_inputs = -num_inputs % CHANNEL_MULTIPLE if bias is None else num_ones_after(num_inputs)
    padded = F.pad(stacked, (0, 0, 0, 0, 0, more_inputs, 0, -num_outputs % CHANNEL_MULTIPLE))
    if bias is not None:
        rounded = bias.bfloat16().to(bias.dtype)
        padded[:num_outputs, num_inputs, 1, 1] = rounded
        padded[:num_outputs, num_inputs + 1, 1, 1] = bias - rounded
    return nn.Parameter(padded.contiguous(memory_format=torch.channels_last), requires_grad=False)
