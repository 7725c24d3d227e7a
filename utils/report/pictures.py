"""Numbers -> pictures on a time axis, and their files.

Pillow writes the files, which torchvision brings along: WebP of the sizes here takes a half of what PNG does.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from utils.outputs.atomic import whole_file
from utils.results import Span

Array = npt.NDArray[Any]

TOLERANCE = 1e-6  # seconds
WIDTH = 1200  # pixels of a picture over time
QUALITIES = (75, 50, 25, 5)  # of pictures with losses, the first that makes the file small enough

# Colours of growing lightness, which colour-blind people tell apart, too: viridis, of Matplotlib (CC0), in steps.
VIRIDIS = [(68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141), (39, 173, 129), (92, 200, 99)]
VIRIDIS += [(170, 220, 50), (253, 231, 37)]


def find_centres(spans: Sequence[Span] | Array) -> Array:
    """Return the middle of each row, in seconds; of centred rows, which both ends of a video cut off, as if whole."""
    rows: Array = np.array(spans, float)
    length = (rows[:, 1] - rows[:, 0]).max()
    if rows[0, 1] > length - TOLERANCE:
        centres: Array = rows.mean(axis=1)
    else:
        centres = np.where(rows[:, 0] == 0, rows[:, 1] - length / 2, rows[:, 0] + length / 2)
    return centres


def on_axis(values: Array, spans: Sequence[Span] | Array, seconds: float, width: int = WIDTH) -> Array:
    """Return values (N, K) of rows over the time from 0 to `seconds`, (K, width); NaN where there is no row.

    A column is of the row whose middle is nearest.
    """
    rows, centres = np.array(spans, float), find_centres(spans)
    begins, column = np.arange(width) * seconds / width, seconds / width
    nearest = np.searchsorted((centres[1:] + centres[:-1]) / 2, begins + column / 2)
    is_in = (rows[nearest, 0] < begins + column) & (rows[nearest, 1] > begins)
    return np.where(is_in, values[nearest].T, np.nan)


def colour(values: Array, low: float, high: float) -> npt.NDArray[np.uint8]:
    """Return RGBA (..., 4) of values from `low` (dark) to `high` (light); NaN is transparent."""
    place = np.clip(np.nan_to_num((values - low) / max(high - low, 1e-9)), 0, 1) * (len(VIRIDIS) - 1)
    channels = [np.interp(place, range(len(VIRIDIS)), [rgb[channel] for rgb in VIRIDIS]) for channel in range(3)]
    return np.stack([*channels, np.where(np.isnan(values), 0, 255)], axis=-1).astype(np.uint8)


def save_picture(picture: npt.NDArray[np.uint8], path: Path, max_bytes: int, lossless: bool = True) -> None:
    """Write RGB or RGBA (H, W, C) as WebP of at most so many bytes, if need be with losses, or smaller.

    Raises SaveError.
    """
    image = Image.fromarray(picture)
    settings: list[dict[str, Any]] = [{"lossless": True, "quality": 0}] if lossless else []
    settings += [{"quality": quality} for quality in QUALITIES]
    while True:
        for setting in settings:
            buffer = io.BytesIO()
            image.save(buffer, "WEBP", method=0, **setting)
            if buffer.tell() <= max_bytes:
                with whole_file(path) as file:
                    file.write(buffer.getvalue())
                return
        image = image.reduce(2)
