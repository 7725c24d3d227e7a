"""YUV -> RGB with the numbers of FFmpeg's swscale, which has three ways to convert. Pure functions on tensors.

All take Y, U and V in grey levels, 0 to 255 where they are not over or under, and give red, green and blue to be
clamped to that. It takes integers for most of it, whose roundings show: the tables' U and V count whole steps of Y.
"""

from dataclasses import dataclass

from torch import Tensor

RGB = tuple[Tensor, ...]

# The parts of red and blue in luma, by the numbers of matrices in ITU-T H.273. What does not tell is taken for BT.601.
PARTS = {
    1: (0.2126, 0.0722),  # BT.709
    2: (0.299, 0.114),
    4: (0.3, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.601
    6: (0.299, 0.114),
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020
}
ONE = 2**16
GREY = 128  # where U and V are none
LIMIT = 512  # grey levels, from which on swscale's integers overflow to less than 0


@dataclass(frozen=True)
class Conversion:
    """R = luma (Y - black) + red_v V; G = luma (Y - black) - green_u U - green_v V; B likewise; in units of 1 / ONE."""

    is_full_range: bool
    luma: int
    red_v: int
    green_u: int
    green_v: int
    blue_u: int

    @classmethod
    def of(cls, matrix: int, is_full_range: bool) -> "Conversion":
        """By the number of the matrix in ITU-T H.273."""
        red, blue = PARTS[matrix]
        green = 1 - red - blue
        factors = 2 * (1 - red), 2 * (1 - blue) * blue / green, 2 * (1 - red) * red / green, 2 * (1 - blue)
        chroma = [round(ONE * 255 / 224 * factor) for factor in factors]
        if is_full_range:
            return cls(True, ONE, *(value * 224 // 255 for value in chroma))
        return cls(False, ONE * 255 // 219, *chroma)

    @property
    def black(self) -> int:
        return 0 if self.is_full_range else 16

    def rounded(self, bits: int) -> list[int]:
        """luma, red_v, -green_u, -green_v and blue_u to so many binary places."""
        values = self.luma, self.red_v, -self.green_u, -self.green_v, self.blue_u
        return [(value + (1 << (15 - bits))) >> (16 - bits) for value in values]


def by_tables(y: Tensor, u: Tensor, v: Tensor, conversion: Conversion) -> RGB:
    """Of an even number of columns scaled: U and V have half as many, each for two."""
    y = _rounded(y)
    u, v = (_rounded(chroma).clamp_(0, 255) for chroma in (u, v))
    luma = conversion.luma
    # Entry 0 of the table is 384 below black, of which entry `start` is for Y = 0.
    start = 384 if conversion.is_full_range else 326
    y = y * luma + (start * luma - (384 + conversion.black) * ONE + ONE // 2)

    def steps(chroma: Tensor, factor: int) -> Tensor:
        """What U or V adds, in steps of Y."""
        per_level = int((factor * ONE + ONE // 2) / luma)
        return (chroma * per_level >> 16) - (per_level >> 9)

    red = steps(v, conversion.red_v)
    green = steps(u, -conversion.green_u) + steps(v, -conversion.green_v)
    blue = steps(u, conversion.blue_u)
    return tuple((y + (added * luma).repeat_interleave(2, dim=-1)) >> 16 for added in (red, green, blue))


def in_full(y: Tensor, u: Tensor, v: Tensor, conversion: Conversion) -> RGB:
    """Of an odd number of columns, or of chroma in full: it is interpolated for each column."""
    luma, red_v, green_u, green_v, blue_u = (value / 2**13 for value in conversion.rounded(13))
    y = (y - conversion.black) * luma + 0.5
    u, v = u - GREY, v - GREY
    colours = y + red_v * v, y + green_u * u + green_v * v, y + blue_u * u
    return tuple(colour.masked_fill_(colour >= LIMIT, 0) for colour in colours)


def unscaled(y: Tensor, u: Tensor, v: Tensor, conversion: Conversion) -> RGB:
    """Of pictures that keep their size, with the integers of x86 processors; U and V are repeated, not interpolated."""
    luma, red_v, green_u, green_v, blue_u = conversion.rounded(13)
    y = (y.int() - conversion.black) * luma >> 13
    u, v = u.int() - GREY, v.int() - GREY
    return y + (v * red_v >> 13), y + (u * green_u >> 13) + (v * green_v >> 13), y + (u * blue_u >> 13)


def _rounded(levels: Tensor) -> Tensor:
    return (levels + 0.5).floor_().int()
