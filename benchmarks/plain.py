"""I3D's features of both streams computed plainly: what the program's own pipeline is measured against.

The same networks and numbers, as one writes them down at first: frames decoded and scaled in one thread; both
pyramids of each pair computed; costs by 81 products of images; concatenations as in the paper; batch norm as a layer
of its own; PyTorch's default memory format; float32.
"""

from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.i3d import CROP_SIZE
from models.i3d.net import I3D, VARIANTS, Mixed, Pool, Unit
from models.i3d.transforms import center_crop, normalize_rgb, quantize_flow
from models.pwc.cost_volume import MAX_DISPLACEMENT, warp
from models.pwc.net import FINEST, PIXELS_PER_UNIT, SIZE_MULTIPLE, Decoder, PWCNet
from utils.media.video import Video
from utils.weights.checkpoint import randomize_weights

Network = TypeVar("Network", bound=nn.Module)

PAIRS_PER_BATCH = {"cpu": 1, "cuda": 16}


class PlainExtractor:
    """Both streams of videos that are so many full stacks, with the weights that `--weights random` has."""

    def __init__(self, stack_size: int, device: str) -> None:
        self.stack_size = stack_size
        self.device = torch.device(device)
        self.pwc = self._ready(PWCNet())
        self.rgb = self._ready(I3D(3, VARIANTS["ancestor"]))
        self.flow = self._ready(I3D(2, VARIANTS["ancestor"]))

    @torch.inference_mode()
    def extract(self, path: Path, output: Path) -> int:
        """Save `rgb.npy` and `flow.npy`, (N, 1024), in a folder; gives how many frames the features are of."""
        with Video(str(path), min_side_size=256) as video:
            frames = [torch.from_numpy(frame).to(self.device).permute(2, 0, 1) for frame in video]
        rows: dict[str, list[Tensor]] = {"rgb": [], "flow": []}
        for start in range(0, len(frames) - self.stack_size, self.stack_size):
            stack = torch.stack(frames[start : start + self.stack_size + 1])
            rgb = normalize_rgb(center_crop(stack[:-1], CROP_SIZE))
            flow = quantize_flow(center_crop(self._flows(stack.float()), CROP_SIZE))
            rows["rgb"].append(i3d(self.rgb, rgb.transpose(0, 1)[None]))
            rows["flow"].append(i3d(self.flow, flow.transpose(0, 1)[None]))
        for stream, features in rows.items():
            np.save(output / f"{stream}.npy", torch.cat(features).cpu().numpy())
        return len(rows["rgb"]) * self.stack_size

    def _flows(self, stack: Tensor) -> Tensor:
        step = PAIRS_PER_BATCH[self.device.type]
        starts = range(0, len(stack) - 1, step)
        ends = [min(start + step, len(stack) - 1) for start in starts]
        pairs = [(stack[start:end], stack[start + 1 : end + 1]) for start, end in zip(starts, ends, strict=True)]
        return torch.cat([pwc(self.pwc, first, second) for first, second in pairs])

    def _ready(self, network: Network) -> Network:
        randomize_weights(network, seed=0)
        return network.eval().to(self.device)


def pwc(network: PWCNet, first: Tensor, second: Tensor) -> Tensor:
    """Flow (B, 2, H, W) in pixels between RGB images (B, 3, H, W) in 0..255."""
    height, width = first.shape[2:]
    padded = [-(-side // SIZE_MULTIPLE) * SIZE_MULTIPLE for side in (height, width)]
    pyramids = []
    for frames in (first, second):
        features = F.interpolate(frames.flip(1) / 255, size=padded, mode="bilinear", align_corners=False)
        pyramids.append([features := convs(features) for convs in network.levels])
    flow, dense = None, None
    for level, decoder in network.decoders.items():
        of_first, of_second = (pyramid[int(level) - 1] for pyramid in pyramids)
        flow, dense = decode(cast(Decoder, decoder), of_first, of_second, flow, dense)
    flow = PIXELS_PER_UNIT * (flow + network.refiner(dense))
    scale = [side / (small << FINEST) for side, small in zip((width, height), reversed(flow.shape[2:]), strict=True)]
    flow = F.interpolate(flow, size=(height, width), mode="bilinear", align_corners=False)
    return flow * flow.new_tensor(scale)[:, None, None]


def decode(
    decoder: Decoder, first: Tensor, second: Tensor, coarse_flow: Tensor | None, coarse_dense: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Flow and dense features of one level."""
    if coarse_flow is None:
        dense = F.leaky_relu(cost_volume(first, second), 0.1)
    else:
        flow = decoder.upsample_flow(coarse_flow)
        costs = F.leaky_relu(cost_volume(first, warp(second, flow * decoder.units_to_pixels)), 0.1)
        dense = torch.cat([costs, first, flow, decoder.upsample_dense(coarse_dense)], dim=1)
    for conv in decoder.dense:
        dense = torch.cat([conv(dense), dense], dim=1)
    return decoder.to_flow(dense), dense


def cost_volume(first: Tensor, second: Tensor) -> Tensor:
    """Mean products (B, 81, H, W) of features with each of their 81 neighbours."""
    height, width = first.shape[2:]
    padded = F.pad(second, [MAX_DISPLACEMENT] * 4)
    reach = range(2 * MAX_DISPLACEMENT + 1)
    costs = [(first * padded[:, :, y : y + height, x : x + width]).mean(dim=1) for y in reach for x in reach]
    return torch.stack(costs, dim=1)


def i3d(network: I3D, x: Tensor) -> Tensor:
    """Features (B, 1024) of stacks (B, C, T, 224, 224) in [-1, 1]."""
    for name, layer in network.named_children():
        if name == "classifier":
            break
        x = _layer(layer, x)
    return F.avg_pool3d(x, (min(2, x.shape[2]), 7, 7), stride=1).mean(dim=(2, 3, 4))


def _layer(layer: nn.Module, x: Tensor) -> Tensor:
    match layer:
        case Unit():
            return F.relu(layer.norm(layer.conv(_padded(x, layer.conv.kernel_size, layer.conv.stride))))
        case Pool() if layer.stride == (1, 1, 1):
            return F.max_pool3d(x, layer.size, layer.stride, padding=1)
        case Pool():
            return F.max_pool3d(_padded(x, layer.size, layer.stride), layer.size, layer.stride, ceil_mode=True)
        case Mixed():
            chains = (
                [layer.point],
                [layer.reduce_1, layer.space_1],
                [layer.reduce_2, layer.space_2],
                [layer.pool, layer.pool_point],
            )
            branches = []
            for chain in chains:
                branch = x
                for part in chain:
                    branch = _layer(part, branch)
                branches.append(branch)
            return torch.cat(branches, dim=1)
    raise TypeError(type(layer))


def _padded(x: Tensor, size: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """Zeros around what strides: half of them before, the rest after."""
    if stride == (1, 1, 1):
        return x
    padding: list[int] = []
    for side, step in zip(size, stride, strict=True):
        total = max(side - step, 0)
        padding = [total // 2, total - total // 2, *padding]
    return F.pad(x, padding)
