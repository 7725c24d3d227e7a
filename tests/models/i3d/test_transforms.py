"""What I3D sees, against arithmetic."""

import torch

from models.i3d.transforms import center_crop, normalize_rgb, quantize_flow


def test_the_crop_is_central_with_the_smaller_margin_before() -> None:
    images = torch.arange(256 * 341).reshape(1, 256, 341)
    assert torch.equal(center_crop(images, 224), images[:, 16:240, 58:282])


def test_grey_levels_become_minus_one_to_one() -> None:
    levels = torch.tensor([0, 51, 255], dtype=torch.uint8)
    torch.testing.assert_close(normalize_rgb(levels), torch.tensor([-1.0, -0.6, 1.0]))


def test_flow_is_clamped_and_rounded_to_eight_bits() -> None:
    flow = torch.tensor([-99.0, -20.0, 0.0, 0.07, 0.08, 19.9, 20.0, 99.0])
    levels = torch.tensor([0.0, 0.0, 128.0, 128.0, 129.0, 255.0, 256.0, 256.0])
    # 128 - 127.5 and 128 + 127.5 are ties, which go to the even number.
    torch.testing.assert_close(quantize_flow(flow), 2 * levels / 255 - 1)
