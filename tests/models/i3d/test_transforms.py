"""The input of I3D; test_networks.py shows the rest of it."""

import torch

from models.i3d.transforms import mirror_flow, quantize_flow


def test_flow_is_clamped_and_rounded_to_eight_bits() -> None:
    flow = torch.tensor([-99.0, -20.0, 0.0, 0.07, 0.08, 19.9, 20.0, 99.0])
    levels = torch.tensor([0.0, 0.0, 128.0, 128.0, 129.0, 255.0, 256.0, 256.0])
    # 128 - 127.5 and 128 + 127.5 are ties, which go to the even number.
    torch.testing.assert_close(quantize_flow(flow), 2 * levels / 255 - 1)


def test_the_flow_of_a_mirrored_image_goes_the_other_way_along_x() -> None:
    flow = torch.tensor([3.0, -2.0])[None, :, None, None].expand(2, 2, 4, 5)
    assert mirror_flow(flow)[:, 0].eq(-3).all()
    assert mirror_flow(flow)[:, 1].eq(-2).all()
