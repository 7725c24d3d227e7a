"""Features -> printed, or files that appear whole or not at all."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils.features import Features
from utils.files import whole_file

TYPES = (np.float32, np.uint8)  # of features, plain and quantized
NUM_ROWS_SHOWN = 6
NUM_VALUES_SHOWN = 3  # at either end of a row


def save_numpy(features: Features, folder: Path, stem: str) -> list[str]:
    """Write `<stem>_<suffix>.npy` for each array, (N, D), of its own type; gives their paths."""
    outputs = []
    for suffix, rows in features.arrays.items():
        path = file_of(folder, stem, suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            np.save(file, np.ascontiguousarray(rows), allow_pickle=False)
        outputs.append(str(path))
    return outputs


def is_saved(folder: Path, stem: str, suffixes: Sequence[str]) -> bool:
    """Whether all of a video's files are there, whole, and of as many rows."""
    lengths = set()
    for suffix in suffixes:
        try:
            rows = np.lib.format.open_memmap(file_of(folder, stem, suffix), mode="r")
        except (OSError, ValueError):
            return False
        if rows.ndim != 2 or rows.dtype not in TYPES:
            return False
        lengths.add(len(rows))
    return len(lengths) == 1


def file_of(folder: Path, stem: str, suffix: str) -> Path:
    """Where a video's features of one stream are kept."""
    return folder / f"{stem}_{suffix}.npy"


def text_of(path: str, features: Features) -> str:
    """Shapes, time spans and an excerpt of each array, for people to read."""
    lines = [f"{path}: {features.seconds:.2f} s"]
    for suffix, rows in features.arrays.items():
        lines.append(f"  {suffix} {rows.shape} {rows.dtype}, mean {rows.mean():.4f}, largest {rows.max():.4f}")
        shown = list(range(len(rows)))
        if len(rows) > NUM_ROWS_SHOWN:
            shown = [*range(NUM_ROWS_SHOWN - 1), len(rows) - 1]
        for i in shown:
            begin, end = features.spans[i]
            first, last = (
                " ".join(f"{value:8.4f}" for value in values)
                for values in (rows[i, :NUM_VALUES_SHOWN], rows[i, -NUM_VALUES_SHOWN:])
            )
            if i == len(rows) - 1 and len(rows) > NUM_ROWS_SHOWN:
                lines.append("    ...")
            lines.append(f"    {begin:8.2f} - {end:8.2f} s  {first} ... {last}")
    return "\n".join(lines)
