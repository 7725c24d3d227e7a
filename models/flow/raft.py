"""RAFT: Recurrent All-Pairs Field Transforms for Optical Flow (arXiv:2003.12039), by torchvision's `raft_large`.

Its weights are the authors' `raft-sintel`, which torchvision has converted (BSD-3-Clause). As in the authors'
evaluation, frames are padded to multiples of 8 by repeating their edges, half on each side, and flow is cut back.

`torchvision.models.optical_flow.RAFT.forward` encodes both frames of each pair and makes a full-size flow of each
update. Here its parts are called one by one: a frame is encoded once, and the last update alone is made full-size.
In half precision its layers compute; correlations, positions and the full-size flow are float32.
"""

import re
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.optical_flow import raft_large
from torchvision.models.optical_flow._utils import make_coords_grid, upsample_flow

from models.flow import Encoded
from utils.weights.checkpoint import load_or_randomize

NUM_UPDATES = 20
CELL = 8  # pixels; the network works on cells of so many squared
# Of a pair. Its tensors take 350 bytes a pixel, counted without numbers, and convolutions working memory; and the
# correlation of each cell with each of the other frame takes 8, while it is scaled.
BYTES_PER_PIXEL, BYTES_PER_CORRELATION = 700, 8

# What the authors' checkpoint calls parts, and torchvision: an example of each is in tests/models/flow/test_raft.py.
AUTHORS_NAMES = (
    (r"^module\.", ""),
    (r"^fnet\.", "feature_encoder."),
    (r"^cnet\.", "context_encoder."),
    (r"^(\w+_encoder)\.conv1\.", r"\1.convnormrelu.0."),
    (r"^(\w+_encoder)\.norm1\.", r"\1.convnormrelu.1."),
    (r"^(\w+_encoder)\.conv2\.", r"\1.conv."),
    (r"^(\w+_encoder\.layer\d\.\d)\.conv(\d)\.", r"\1.convnormrelu\2.0."),
    (r"^(\w+_encoder\.layer\d\.\d)\.norm([12])\.", r"\1.convnormrelu\2.1."),
    (r"^(\w+_encoder\.layer\d\.\d)\.norm3\.", r"\1.downsample.1."),
    (r"^update_block\.encoder\.conv\.", "update_block.motion_encoder.conv.0."),
    (r"^update_block\.encoder\.convc(\d)\.", r"update_block.motion_encoder.convcorr\1.0."),
    (r"^update_block\.encoder\.convf(\d)\.", r"update_block.motion_encoder.convflow\1.0."),
    (r"^update_block\.gru\.(conv\w)(\d)\.", r"update_block.recurrent_block.convgru\2.\1."),
    (r"^update_block\.mask\.0\.", "mask_predictor.convrelu.0."),
    (r"^update_block\.mask\.2\.", "mask_predictor.conv."),
)


class RAFTFlow(nn.Module):
    """A frame is encoded as its features and, for pairs of which it is the first, its context."""

    fills_batches: ClassVar[bool] = True

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network  # torchvision's, which has no types
        self.dtype = next(network.parameters()).dtype

    def encode(self, frames: Tensor) -> Encoded:
        padded = F.pad(2 * (frames.float() / 255) - 1, _padding(*frames.shape[2:]), mode="replicate").to(self.dtype)
        return {"features": self.network.feature_encoder(padded), "context": self.network.context_encoder(padded)}

    def flow(self, first: Encoded, second: Encoded, height: int, width: int) -> Tensor:
        correlations, update = self.network.corr_block, self.network.update_block
        correlations.build_pyramid(first["features"].float(), second["features"].float())
        hidden, context = first["context"].split_with_sizes(
            [update.hidden_state_size, first["context"].shape[1] - update.hidden_state_size], dim=1
        )
        hidden, context = torch.tanh(hidden), F.relu(context)
        start = make_coords_grid(len(hidden), *hidden.shape[2:]).to(hidden.device)
        end = start
        for _ in range(NUM_UPDATES):
            # Not by cuDNN, which samples at most 65,535 cells at once (PyTorch's issue 88380).
            with torch.backends.cudnn.flags(enabled=False, allow_tf32=False):
                correlated = correlations.index_pyramid(end).to(self.dtype)
            hidden, change = update(hidden, context, correlated, (end - start).to(self.dtype))
            end = end + change.float()
        correlations.corr_pyramid = []  # which takes most of the memory
        flow: Tensor = upsample_flow(end - start, self.network.mask_predictor(hidden).float(), CELL)
        left, _, top, _ = _padding(height, width)
        return flow[:, :, top : top + height, left : left + width]

    def pairs_that_fit(self, num_bytes: int, height: int, width: int) -> int:
        num_cells = -(-height // CELL) * -(-width // CELL)
        return num_bytes // (BYTES_PER_PIXEL * height * width + BYTES_PER_CORRELATION * num_cells**2)


def load(path: str | None, device: torch.device, dtype: torch.dtype) -> RAFTFlow:
    return RAFTFlow(load_or_randomize(raft_large(weights=None), path, our_key).to(device, dtype))


def our_key(published: str) -> str:
    """Return torchvision's name of an entry of a state dict, of which it or the authors' code may be the source."""
    for pattern, ours in AUTHORS_NAMES:
        published = re.sub(pattern, ours, published)
    return published


def _padding(height: int, width: int) -> tuple[int, int, int, int]:
    """Return the pixels to add left, right, above and below."""
    more_x, more_y = -width % CELL, -height % CELL
    return more_x // 2, more_x - more_x // 2, more_y // 2, more_y - more_y // 2
