"""PWC-Net's decoders with the same arithmetic in another order, so that nothing is concatenated.

As the paper draws it, a dense block's convolution i reads the block's input and all outputs before it, concatenated:
that copies the input six times and reads it as often, by convolutions of as few as 2 outputs. A convolution is linear,
so here each of these tensors is read once, by one convolution to all that it is wanted for, whose results are added
up. The transposed convolution to the next level (a convolution to four times the channels, whose pixels are then
spread) and the refiner's first layer read the same tensors, so they are in it.

Channels are padded with zeros to multiples of 8, as tensor cores want them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.pwc.cost_volume import NEGATIVE_SLOPE, NUM_DISPLACEMENTS
from models.pwc.matching import matching_costs
from models.pwc.net import DENSE_CHANNELS, FINEST, Decoder, PWCNet, leaky_relu

CHANNEL_MULTIPLE = 8
FLOW_CHANNELS = 2


def fuse_decoders(network: PWCNet) -> PWCNet:
    """Put each decoder into the form that concatenates nothing, for inference; gives the network itself."""
    finer = None
    for level in range(FINEST, FINEST + len(network.decoders)):
        decoder = network.decoders[str(level)]
        assert isinstance(decoder, Decoder)
        if finer is None:
            first_layer = network.refiner[0]
            assert isinstance(first_layer, nn.Sequential)
            following, network.refiner[0] = _parameters(first_layer), nn.LeakyReLU(NEGATIVE_SLOPE)
        else:
            following = spread_kernel(finer.upsample_dense)
        network.decoders[str(level)] = FusedDecoder(decoder, *following, spreads=finer is not None)
        finer = decoder
    return network


class FusedDecoder(nn.Module):
    """Does what a `Decoder` does, but gives in place of its dense features what the next step makes of them: the
    finer level's two upsampled channels, or the refiner's first layer before its activation.
    """

    def __init__(self, decoder: Decoder, following: Tensor, following_bias: Tensor, *, spreads: bool) -> None:
        """`following` (C, dense channels, 3, 3) is the kernel that makes it; `spreads`: of `spread_kernel`."""
        super().__init__()
        self.units_to_pixels = decoder.units_to_pixels
        self.upsample_flow = getattr(decoder, "upsample_flow", None)
        self.num_following = len(following)
        self.spreads = spreads
        dense = [_parameters(layer) for layer in decoder.dense]
        assert decoder.to_flow.bias is not None
        kernels = [kernel for kernel, _ in dense] + [following, decoder.to_flow.weight]
        biases = [bias for _, bias in dense] + [following_bias, decoder.to_flow.bias]
        # What a kernel reads stands in the order latest output, ..., first output, input.
        num_inputs = kernels[0].shape[1]
        self.kernels = nn.ParameterList([_stacked([kernel[:, -num_inputs:] for kernel in kernels])])
        end = num_inputs
        for i, growth in enumerate(DENSE_CHANNELS, start=1):
            wanted = [kernel[:, -end - growth : -end] for kernel in kernels[i:]]
            self.kernels.append(_stacked(wanted))
            end += growth
        bias = torch.cat(biases)
        self.bias = nn.Parameter(F.pad(bias, (0, -len(bias) % CHANNEL_MULTIPLE)), requires_grad=False)

    def forward(
        self, first: Tensor, second: Tensor, coarse_flow: Tensor | None, upsampled: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        sums = F.conv2d(self._inputs(first, second, coarse_flow, upsampled), self.kernels[0], self.bias, padding=1)
        for growth, kernel in zip(DENSE_CHANNELS, self.kernels[1:], strict=True):
            dense = leaky_relu(sums[:, :growth])  # dense in memory, too
            sums = sums[:, growth:].add_(F.conv2d(dense, kernel, padding=1))
        following = sums[:, : self.num_following]
        flow = sums[:, self.num_following : self.num_following + FLOW_CHANNELS]
        return flow, F.pixel_shuffle(following, 2) if self.spreads else following

    def _inputs(self, first: Tensor, second: Tensor, coarse_flow: Tensor | None, upsampled: Tensor | None) -> Tensor:
        """Costs and, but for the coarsest level, the first image's features, flow and upsampled dense features."""
        batch, _, height, width = first.shape
        inputs = first.new_empty((batch, height, width, self.kernels[0].shape[1])).permute(0, 3, 1, 2)
        end = NUM_DISPLACEMENTS
        if coarse_flow is None:
            matching_costs(first, second, None, inputs)
        else:
            assert self.upsample_flow is not None
            flow = self.upsample_flow(coarse_flow)
            matching_costs(first, second, flow * self.units_to_pixels, inputs)
            for part in (first, flow, upsampled):
                assert part is not None
                inputs[:, end : end + part.shape[1]] = part
                end += part.shape[1]
        inputs[:, end:] = 0
        return inputs


def spread_kernel(transposed: nn.ConvTranspose2d) -> tuple[Tensor, Tensor]:
    """Kernel (4 * out, in, 3, 3) and bias of the convolution that, its pixels spread by `pixel_shuffle`, does what a
    transposed one of size 4, stride 2 and padding 1 does.

    An even output pixel 2i is made of the input pixels i - 1 and i by taps 3 and 1, an odd one 2i + 1 of i and i + 1 by
    taps 2 and 0.
    """
    assert transposed.bias is not None
    channels_in, channels_out = transposed.weight.shape[:2]
    taps = (((0, 3), (1, 1)), ((1, 2), (2, 0)))  # by parity: (place in the kernel, tap)
    kernel = transposed.weight.new_zeros(channels_out, 2, 2, channels_in, 3, 3)
    for parity_y, taps_y in enumerate(taps):
        for parity_x, taps_x in enumerate(taps):
            for y, tap_y in taps_y:
                for x, tap_x in taps_x:
                    kernel[:, parity_y, parity_x, :, y, x] = transposed.weight[:, :, tap_y, tap_x].t()
    return kernel.flatten(0, 2), transposed.bias.repeat_interleave(4)


def _parameters(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Kernel and bias of the convolution that a layer begins with."""
    assert isinstance(layer, nn.Sequential)
    conv = layer[0]
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    return conv.weight, conv.bias


def _stacked(kernels: list[Tensor]) -> nn.Parameter:
    """Kernels of one input (C, in, 3, 3) as one; its channels padded."""
    stacked = torch.cat(kernels)
    num_outputs, num_inputs = stacked.shape[:2]
    padding = (0, 0, 0, 0, 0, -num_inputs % CHANNEL_MULTIPLE, 0, -num_outputs % CHANNEL_MULTIPLE)
    padded = F.pad(stacked, padding).contiguous(memory_format=torch.channels_last)
    return nn.Parameter(padded, requires_grad=False)
