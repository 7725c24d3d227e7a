"""Crops of images, by name: `c` is the centre, `tl tr bl br` the corners, and with `m` before them those of the
image mirrored from left to right. Imports nothing heavy."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

FIVE = ("tl", "tr", "bl", "br", "c")  # in the order of torchvision's five_crop,
TEN = (*FIVE, *(f"m{name}" for name in FIVE))  # and of its ten_crop
SETS = {"center": ("c",), "five": FIVE, "ten": TEN}


def crop_names(crops: Sequence[str]) -> tuple[str, ...]:
    """Return the names that `SETS` and names stand for. Raises ValueError where one comes twice."""
    names = [name for crop in crops for name in SETS.get(crop, (crop,))]
    if len(set(names)) < len(names):
        raise ValueError(f"--crops {' '.join(crops)}: a crop comes twice")
    return tuple(names)


def is_mirrored(name: str) -> bool:
    return name.startswith("m")


def center_crop(images: "Tensor", size: int) -> "Tensor":
    """Crop the central `size` x `size` of images (..., H, W); an odd margin has its smaller part before."""
    top, left = ((side - size) // 2 for side in images.shape[-2:])
    return images[..., top : top + size, left : left + size]


def crop(images: "Tensor", name: str, size: int, center: Callable[["Tensor", int], "Tensor"] = center_crop) -> "Tensor":
    """Return the crop of images (..., H, W) that is called so, (..., size, size); `center` makes a central one."""
    if is_mirrored(name):
        return crop(images.flip(-1), name[1:], size, center)
    if name == "c":
        return center(images, size)
    rows, columns = (slice(size) if is_first else slice(-size, None) for is_first in (name[0] == "t", name[1] == "l"))
    return images[..., rows, columns]
