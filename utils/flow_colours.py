"""Optical flow -> colours: the code of Middlebury's evaluation.

Baker, Scharstein, Lewis, Roth, Black and Szeliski, A Database and Evaluation Methodology for Optical Flow (IJCV 2011):
the hue says whereto, by a wheel of 55 colours in which hues that are told apart well have more room, and the colour is
the fuller the longer the flow is.
"""

import numpy as np
import numpy.typing as npt

Flow = npt.NDArray[np.float32]
"""(2, ..., H, W) in pixels, x (to the right) before y (down)."""

# From each colour to the next one, in so many steps: red, yellow, green, cyan, blue, magenta, and red again.
CORNERS = ((1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1), (1, 0, 0))
STEPS = (15, 6, 4, 11, 13, 6)
DIMMED = 0.75  # of flow that is longer than the scale


def colour_flow(flow: Flow, scale: float) -> npt.NDArray[np.uint8]:
    """Return RGB (..., H, W, 3): white where nothing moves, the full colour at `scale` pixels, darker above it."""
    wheel = _wheel()
    x, y = np.nan_to_num(flow, posinf=0, neginf=0) / np.float32(scale)
    length = np.hypot(x, y)[..., None]
    place = (np.arctan2(-y, -x) / np.pi + 1) / 2 * (len(wheel) - 1)
    lower = place.astype(int)
    part = (place - lower)[..., None]
    colour = (1 - part) * wheel[lower] + part * wheel[(lower + 1) % len(wheel)]
    colour = np.where(length <= 1, 1 - length * (1 - colour), colour * DIMMED)
    levels: npt.NDArray[np.uint8] = (255 * colour).astype(np.uint8)
    return levels


def colour_wheel(size: int) -> npt.NDArray[np.uint8]:
    """Return RGB (size, size, 3) of the flow from the middle to each pixel; the full colour is at the rim."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    flow = np.stack(np.meshgrid(axis, axis))
    picture = colour_flow(flow, 1.0)
    picture[np.hypot(*flow) > 1] = 255
    return picture


def _wheel() -> npt.NDArray[np.float32]:
    """Return the 55 colours (55, 3) in 0..1."""
    parts = [
        np.linspace(begin, end, steps, endpoint=False)
        for begin, end, steps in zip(CORNERS, CORNERS[1:], STEPS, strict=False)
    ]
    return np.concatenate(parts).astype(np.float32)
