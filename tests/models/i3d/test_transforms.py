"""The input of I3D; test_networks.py shows the rest of it."""

import torch

from models.i3d.transforms import flow_in_pixels, quantize_flow


def test_flow_is_clamped_and_rounded_to_eight_bits() -> None:
    flow = torch.tensor([-99.0, -20.0, 0.0, 0.07, 0.08, 19.9, 20.0, 99.0])
    levels = torch.tensor([0.0, 0.0, 128.0, 128.0, 129.0, 255.0, 256.0, 256.0])
    # 128 - 127.5 and 128 + 127.5 are ties, which go to the even number.
    torch.testing.assert_close(quantize_flow(flow), 2 * levels / 255 - 1)


def test_quantized_flow_in_pixels_is_the_flow_to_half_a_level() -> None:
    flow = torch.linspace(-25, 25, 101)
    pixels = flow_in_pixels(quantize_flow(flow))
    assert (pixels - flow.clamp(-20, 20)).abs().max() <= 20 / 255 + 1e-5
    assert pixels[50].abs() < 1e-5, "no move is none"
