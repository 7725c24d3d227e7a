"""Crops of images by name, against torchvision's."""

import pytest
import torch
from torchvision.transforms.v2 import functional

from utils.crops import SETS, crop, crop_names

IMAGE = torch.randint(0, 256, (3, 30, 44), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_five_and_ten_are_those_of_torchvision_in_its_order() -> None:
    for name, expected in (("five", functional.five_crop(IMAGE, [20])), ("ten", functional.ten_crop(IMAGE, [20]))):
        crops = [crop(IMAGE, each, 20) for each in crop_names([name])]
        assert len(crops) == len(expected)
        for ours, theirs in zip(crops, expected, strict=True):
            assert torch.equal(ours, theirs)


def test_a_crop_as_large_as_the_image_is_the_image() -> None:
    square = IMAGE[:, :, :30]
    assert all(torch.equal(crop(square, name, 30), square) for name in SETS["five"])
    assert all(torch.equal(crop(square, f"m{name}", 30), square.flip(-1)) for name in SETS["five"])


def test_an_odd_margin_has_its_smaller_part_before_the_centre() -> None:
    assert torch.equal(crop(IMAGE, "c", 27), IMAGE[:, 1:28, 8:35])
    assert torch.equal(crop(IMAGE, "c", 20, center=lambda images, size: images[..., :size, :size]), IMAGE[:, :20, :20])


def test_sets_and_names_can_be_joined_but_none_comes_twice() -> None:
    assert crop_names(["center"]) == crop_names(["c"]) == ("c",)
    assert crop_names(["mc", "five"]) == ("mc", "tl", "tr", "bl", "br", "c")
    with pytest.raises(ValueError, match="--crops five c: a crop comes twice"):
        crop_names(["five", "c"])
