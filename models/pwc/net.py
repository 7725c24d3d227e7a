"""PWC-Net: CNNs for Optical Flow Using Pyramid, Warping, and Cost Volume (arXiv:1709.02371).

Written from the paper for the weights published by its authors (see `checkpoint.py`; CC BY-NC-SA 4.0, non-commercial).
As in those weights' training, levels 6 to 2 are decoded with dense blocks, a dilated refiner ends level 2, costs
are means over channels, and flow is in units of 20 pixels inside the network.

A frame's pyramid is a function of its own: `pyramid` is computed once a frame, `flow` once a pair.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.pwc.cost_volume import NEGATIVE_SLOPE, NUM_DISPLACEMENTS, cost_volume, warp

PYRAMID_CHANNELS = (16, 32, 64, 96, 128, 196)  # levels 1 to 6, each half the size of the one before
DENSE_CHANNELS = (128, 128, 96, 64, 32)
REFINER_LAYERS = ((128, 1), (128, 2), (128, 4), (96, 8), (64, 16), (32, 1))  # channels, dilation
COARSEST, FINEST = 6, 2  # the pyramid levels that are decoded
PIXELS_PER_UNIT = 20.0
SIZE_MULTIPLE = 2**COARSEST

Pyramid = dict[int, Tensor]
"""Features of frames by level, FINEST to COARSEST: level l is (B, PYRAMID_CHANNELS[l - 1], H64 / 2**l, W64 / 2**l)."""


class PWCNet(nn.Module):
    """Optical flow in pixels between two RGB images; the only state is the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleList()
        for channels_in, channels in zip((3, *PYRAMID_CHANNELS), PYRAMID_CHANNELS, strict=False):
            convs = _conv(channels_in, channels, stride=2), _conv(channels, channels), _conv(channels, channels)
            self.levels.append(nn.Sequential(*convs))
        self.decoders = nn.ModuleDict({str(level): Decoder(level) for level in range(COARSEST, FINEST - 1, -1)})
        # The context network: dilated convolutions from dense features to a correction of the flow.
        channels, refiner = Decoder.channels(FINEST), []
        for channels_out, dilation in REFINER_LAYERS:
            refiner.append(_conv(channels, channels_out, dilation=dilation))
            channels = channels_out
        self.refiner = nn.Sequential(*refiner, nn.Conv2d(channels, 2, kernel_size=3, padding=1))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the flow (B, 2, H, W) in pixels from `first` to `second`, RGB images (B, 3, H, W) in 0..255."""
        height, width = first.shape[2:]
        return self.flow(self.pyramid(first), self.pyramid(second), height, width)

    def pyramid(self, frames: Tensor) -> Pyramid:
        """Return the features of RGB images (B, 3, H, W) in 0..255, of any dtype."""
        height, width = frames.shape[2:]
        padded = [math.ceil(side / SIZE_MULTIPLE) * SIZE_MULTIPLE for side in (height, width)]
        bgr = frames.flip(1).float() / 255
        features = F.interpolate(bgr, size=padded, mode="bilinear", align_corners=False)
        features = features.to(next(self.parameters()).dtype, memory_format=torch.channels_last)
        pyramid = {}
        for level, convs in enumerate(self.levels, start=1):
            features = convs(features)
            if level >= FINEST:
                pyramid[level] = features[:, : PYRAMID_CHANNELS[level - 1]]  # without the ones of fused layers
        return pyramid

    def flow(self, first: Pyramid, second: Pyramid, height: int, width: int) -> Tensor:
        """Return the flow (B, 2, height, width) in pixels between images of that size, from their pyramids."""
        flow, dense = None, None
        for level, decode in self.decoders.items():
            flow, dense = decode(first[int(level)], second[int(level)], flow, dense)
        assert flow is not None
        flow = PIXELS_PER_UNIT * (flow.float() + self.refiner(dense).float())
        padded_height, padded_width = (side << FINEST for side in flow.shape[2:])
        flow = F.interpolate(flow, size=(height, width), mode="bilinear", align_corners=False)
        flow[:, 0] *= width / padded_width  # one by one: a tensor of both would have to wait for the GPU
        flow[:, 1] *= height / padded_height
        return flow


class Decoder(nn.Module):
    """Flow of one level, from both images' features and the coarser level's flow and dense features."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self.units_to_pixels = PIXELS_PER_UNIT / 2**level
        if level < COARSEST:
            self.upsample_flow = nn.ConvTranspose2d(2, 2, kernel_size=4, stride=2, padding=1)
            self.upsample_dense = nn.ConvTranspose2d(Decoder.channels(level + 1), 2, kernel_size=4, stride=2, padding=1)
        channels = Decoder.channels(level) - sum(DENSE_CHANNELS)
        self.dense = nn.ModuleList()
        for growth in DENSE_CHANNELS:
            self.dense.append(_conv(channels, growth))
            channels += growth
        self.to_flow = nn.Conv2d(channels, 2, kernel_size=3, padding=1)

    @staticmethod
    def channels(level: int) -> int:
        """Return the number of dense features at the end of a level."""
        inputs = NUM_DISPLACEMENTS if level == COARSEST else NUM_DISPLACEMENTS + PYRAMID_CHANNELS[level - 1] + 2 + 2
        return inputs + sum(DENSE_CHANNELS)

    def forward(
        self, first: Tensor, second: Tensor, coarse_flow: Tensor | None, coarse_dense: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        if coarse_flow is None:
            dense = leaky_relu(cost_volume(first, second))
        else:
            flow = self.upsample_flow(coarse_flow)
            costs = leaky_relu(cost_volume(first, warp(second, flow * self.units_to_pixels)))
            dense = torch.cat([costs, first, flow, self.upsample_dense(coarse_dense)], dim=1)
        dense = dense.contiguous(memory_format=torch.channels_last)
        for conv in self.dense:
            dense = torch.cat([conv(dense), dense], dim=1)
        return self.to_flow(dense), dense


def leaky_relu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, NEGATIVE_SLOPE)


def _conv(channels_in: int, channels_out: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=dilation, dilation=dilation),
        nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True),
    )
