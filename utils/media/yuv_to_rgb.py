"""YUV -> RGB with the numbers of FFmpeg's swscale, which converts in three ways. Pure functions on tensors.

All take Y, U and V in grey levels, about 0 to 255, and return red, green and blue, to be clamped to that. swscale
computes mostly in integers, whose rounding shows: its tables' U and V count whole steps of Y.
"""

from dataclasses import dataclass

from torch import Tensor

RGB = tuple[Tensor, ...]

LUMA_WEIGHTS = {  # of red and blue, by the numbers of matrices in ITU-T H.273
    1: (0.2126, 0.0722),  # BT.709
    2: (0.299, 0.114),  # not stated: taken for BT.601
    4: (0.3, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.601
    6: (0.299, 0.114),
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020
}
ONE = 2**16  # in fixed point
NEUTRAL = 128  # U and V of grey
LIMIT = 512  # grey levels, from which on swscale's integers overflow to less than 0


@dataclass(frozen=True)
class Matrix:
    """R = luma (Y - black) + red_v V; G = luma (Y - black) - green_u U - green_v V; B likewise; in units of 1 / ONE."""

    black: int
    luma: int
    red_v: int
    green_u: int
    green_v: int
    blue_u: int

    @classmethod
    def from_number(cls, number: int, is_full_range: bool) -> "Matrix":
        red, blue = LUMA_WEIGHTS[number]
        green = 1 - red - blue
        factors = 2 * (1 - red), 2 * (1 - blue) * blue / green, 2 * (1 - red) * red / green, 2 * (1 - blue)
        chroma = [round(ONE * 255 / 224 * factor) for factor in factors]
        if is_full_range:
            return cls(0, ONE, *(value * 224 // 255 for value in chroma))
        return cls(16, ONE * 255 // 219, *chroma)

    def round_to(self, bits: int) -> list[int]:
        """Return luma, red_v, -green_u, -green_v and blue_u with so many binary places."""
        values = self.luma, self.red_v, -self.green_u, -self.green_v, self.blue_u
        return [(value + (1 << (15 - bits))) >> (16 - bits) for value in values]


def convert_half_chroma(y: Tensor, u: Tensor, v: Tensor, matrix: Matrix) -> RGB:
    """Convert scaled frames with an even number of columns, by tables; U and V have half as many, each for two."""
    y = _round(y)
    u, v = (_round(chroma).clamp_(0, 255) for chroma in (u, v))
    luma = matrix.luma
    # Entry 0 of swscale's table is 384 below black; entry `start` is for Y = 0.
    start = 326 if matrix.black else 384
    y = y * luma + (start * luma - (384 + matrix.black) * ONE + ONE // 2)

    def to_steps(chroma: Tensor, factor: int) -> Tensor:
        """Return the share of U or V in steps of Y."""
        per_level = int((factor * ONE + ONE // 2) / luma)
        return (chroma * per_level >> 16) - (per_level >> 9)

    red = to_steps(v, matrix.red_v)
    green = to_steps(u, -matrix.green_u) + to_steps(v, -matrix.green_v)
    blue = to_steps(u, matrix.blue_u)
    return tuple((y + (share * luma).repeat_interleave(2, dim=-1)) >> 16 for share in (red, green, blue))


def convert_full_chroma(y: Tensor, u: Tensor, v: Tensor, matrix: Matrix) -> RGB:
    """Convert scaled frames whose U and V have as many columns as Y."""
    luma, red_v, green_u, green_v, blue_u = (value / 2**13 for value in matrix.round_to(13))
    y = (y - matrix.black) * luma + 0.5
    u, v = u - NEUTRAL, v - NEUTRAL
    colours = y + red_v * v, y + green_u * u + green_v * v, y + blue_u * u
    return tuple(colour.masked_fill_(colour >= LIMIT, 0) for colour in colours)


def convert_unscaled(y: Tensor, u: Tensor, v: Tensor, matrix: Matrix) -> RGB:
    """Convert frames that keep their size, with the integers of x86 processors; U and V are repeated."""
    luma, red_v, green_u, green_v, blue_u = matrix.round_to(13)
    y = (y.int() - matrix.black) * luma >> 13
    u, v = u.int() - NEUTRAL, v.int() - NEUTRAL
    return y + (v * red_v >> 13), y + (u * green_u >> 13) + (v * green_v >> 13), y + (u * blue_u >> 13)


def _round(levels: Tensor) -> Tensor:
    return (levels + 0.5).floor_().int()
