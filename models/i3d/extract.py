"""Video -> I3D features of its RGB and flow streams."""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from models.clips import Embed, RowExtractor, Stacks, zero_beyond
from models.flow import load_flow
from models.flow.pairs import PairFlows, frames_per_batch, pair_flows
from models.i3d import CROP_SIZE, Config, checkpoint
from models.i3d.net import CHANNELS, I3D, VARIANTS
from models.i3d.transforms import mirror_flow, normalize_rgb, quantize_flow
from models.kinetics import class_names, mean_of_crops, predictions
from utils.crops import crop, is_mirrored
from utils.devices import CPU
from utils.media.options import DecodeOptions
from utils.results import Arrays, Predictions
from utils.stacks import Stack
from utils.weights.checkpoint import load_or_randomize


class Extractor(RowExtractor):
    """Holds the networks on one device."""

    config: Config

    def __init__(self, config: Config, device: str, num_sharing: int = 1) -> None:
        super().__init__(config, device, config.precision)
        self.i3d = {
            stream: load_i3d(config, stream, self.dtype, for_gpu=device != CPU).to(self.device)
            for stream in config.suffixes
        }
        if config.uses_flow:
            self.flow_method = load_flow(config.flow, config.flow_weights_path, self.device, self.dtype)
        if config.show_kinetics_pred or config.save_predictions:
            class_names(config.kinetics_class_labels)  # which says now what is wrong with them
        self.batch_size = frames_per_batch(config, device, self.dtype, num_sharing)
        self.min_side_size = config.min_side_size

    def begin(self, options: DecodeOptions, frames_folder: Path | None, batch_size: int) -> Embed:
        flows = None
        if self.config.uses_flow:
            flows = pair_flows(self.config, self.flow_method, self.dtype, batch_size, frames_folder)
        return lambda stacks: {
            stream: self._embed(stream, self._images(stream, stacks, flows, options)) for stream in self.i3d
        }

    def _images(self, stream: str, stacks: Stacks, flows: PairFlows | None, options: DecodeOptions) -> Iterator[Tensor]:
        """Yield what I3D sees of each crop of some stacks, (B, T, C, 224, 224)."""
        size = self.config.stack_size
        if stream == "rgb":
            images = [frame for stack in stacks for frame in stack.items[:size]]
        else:
            assert flows is not None
            images = self._flows(stacks, flows)
            if options.sketch is not None:
                for stack, first in zip(stacks, range(0, len(images), size), strict=True):
                    options.sketch.add_flow(stack.row, images[first + self._middle(stack)])
        for name in self.config.crop_names:
            cropped = torch.stack([crop(image, name, CROP_SIZE) for image in images])
            if stream == "rgb":
                seen = normalize_rgb(cropped)
            else:
                seen = quantize_flow(mirror_flow(cropped) if is_mirrored(name) else cropped)
            seen = seen.view(len(stacks), size, *seen.shape[1:])
            if self.config.edge == "zero":
                zero_beyond(seen, stacks, num_after=0 if stream == "rgb" else 1)
            yield seen

    def _flows(self, stacks: Stacks, flows: PairFlows) -> list[Tensor]:
        """Return the flow (2, H, W) from each frame of some stacks to the next one, in pixels."""
        frames = {index: frame for stack in stacks for index, frame in zip(stack.indices, stack.items, strict=True)}
        pairs = [pair for stack in stacks for pair in pairwise(stack.indices)]
        is_still = self.config.align == "center"  # where a frame is repeated
        moving = [(first, second) for first, second in pairs if first != second or not is_still]
        computed = flows.compute(frames, moving)
        still = torch.zeros((2, *stacks[0].items[0].shape[1:]), device=self.device)
        return [computed.get(pair, still) for pair in pairs]

    def _middle(self, stack: Stack[Tensor]) -> int:
        """Return the position of the frame of a stack that the report shows."""
        size = self.config.stack_size
        return (size if self.config.align == "center" else min(len(stack.inside), size)) // 2

    def _embed(self, stream: str, images: Iterable[Tensor]) -> Tensor:
        """Return the features of each crop's images, (B, K, 1024), or (B, 1024) of a single crop."""
        rows = torch.stack([self.i3d[stream](of_crop.transpose(1, 2)) for of_crop in images], dim=1)
        return rows if rows.shape[1] > 1 else rows[:, 0]

    @torch.inference_mode()
    def predict(self, arrays: Arrays) -> Predictions:
        """Return the logits of the Kinetics classes, (N, 400) a stream, of the mean of crops."""
        logits = {}
        for stream, network in self.i3d.items():
            rows = torch.from_numpy(arrays[stream]).to(self.device)
            logits[stream] = network.classify(mean_of_crops(rows))
        return predictions(logits, self.config.kinetics_class_labels)


def load_i3d(config: Config, stream: str, dtype: torch.dtype, *, for_gpu: bool) -> I3D:
    """Return the network of a stream, ready for inference. Raises WeightsError."""
    network = I3D(CHANNELS[stream], VARIANTS[config.i3d_variant])
    load_or_randomize(network, getattr(config, f"i3d_{stream}_path"), checkpoint.our_key)
    return network.optimize(dtype, for_gpu=for_gpu).to(memory_format=torch.channels_last_3d)
