"""Frames and flows -> the input of I3D. Pure functions on tensors."""

import torch
from torch import Tensor

FLOW_BOUND = 20.0  # pixels


def normalize_rgb(frames: Tensor) -> Tensor:
    """Map grey levels in 0..255, of any dtype, to float32 in [-1, 1]."""
    return 2 * frames.float() / 255 - 1


def mirror_flow(flow: Tensor) -> Tensor:
    """Return the flow of a mirrored image, (..., 2, H, W): x is turned round."""
    return torch.stack([-flow[..., 0, :, :], flow[..., 1, :, :]], dim=-3)


def quantize_flow(flow: Tensor) -> Tensor:
    """Round flow in pixels to the 8-bit grid that I3D was trained on, in [-1, 1].

    A flow of exactly +20 pixels gives 256 on that grid, hence 1.0078, as in the reference.
    """
    levels = torch.round(128 + 255 / (2 * FLOW_BOUND) * flow.clamp(-FLOW_BOUND, FLOW_BOUND))
    return 2 * levels / 255 - 1
