"""Features -> printed, or files that appear whole or not at all."""

import functools
import io
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils.outputs.atomic import whole_file
from utils.results import Arrays, Features

TYPES = (np.float32, np.uint8)  # of features, plain and quantized
LONGEST_HEADER = 1024  # bytes
NUM_ROWS_SHOWN = 6
NUM_VALUES_SHOWN = 3  # at either end of a row


def save_numpy(features: Features, folder: Path, stem: str) -> list[str]:
    """Write `<stem>_<suffix>.npy` for each array, (N, D), of its own type; gives their paths. Raises SaveError."""
    outputs = []
    for suffix, rows in features.arrays.items():
        path = file_of(folder, stem, suffix)
        with whole_file(path) as file:
            np.save(file, np.ascontiguousarray(rows), allow_pickle=False)
        outputs.append(str(path))
    return outputs


def is_saved(folder: Path, stem: str, suffixes: Sequence[str], since: float = 0.0) -> bool:
    """Whether all of a video's files are there, whole, of as many rows, and none older than `since`."""
    lengths = {_num_rows(f"{folder}/{stem}_{suffix}.npy", since) for suffix in suffixes}
    return len(lengths) == 1 and 0 not in lengths


def _num_rows(path: str, since: float) -> int:
    """How many rows a file of features has; 0 where it is not one, not whole, or too old."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return 0
    try:
        state = os.fstat(descriptor)
        shape, num_bytes = _described(os.pread(descriptor, LONGEST_HEADER, 0).partition(b"\n")[0])
    except OSError:
        return 0
    finally:
        os.close(descriptor)
    return shape[0] if shape and state.st_size == num_bytes and state.st_mtime >= since else 0


@functools.lru_cache(maxsize=1000)
def _described(header: bytes) -> tuple[tuple[int, ...], int]:
    """The shape of the features and the size of the file that begins with a header; no shape where it is of none.

    There are few different headers in a folder of many files, and NumPy takes long to read one.
    """
    try:
        file = io.BytesIO(header + b"\n")
        version = np.lib.format.read_magic(file)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[
            version
        ]
        shape, _, dtype = read_header(file)
    except (KeyError, ValueError):
        return (), 0
    if len(shape) != 2 or dtype not in TYPES:
        return (), 0
    return shape, file.tell() + dtype.itemsize * math.prod(shape)


def file_of(folder: Path, stem: str, suffix: str) -> Path:
    """Where a video's features of one stream are kept."""
    return folder / f"{stem}_{suffix}.npy"


def load(outputs: Sequence[str]) -> Arrays:
    return {Path(path).stem.rpartition("_")[2]: np.load(path, allow_pickle=False) for path in outputs}


def describe(path: str, features: Features) -> str:
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
