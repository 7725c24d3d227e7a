"""Features -> files or text. The one place that knows the names and the format of output files."""

import functools
import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from utils.outputs.atomic import whole_file
from utils.results import Features

TYPES = (np.float32, np.uint8)  # of features, plain and quantized
MAX_HEADER_BYTES = 1024
NUM_ROWS_SHOWN = 6
NUM_VALUES_SHOWN = 3  # at either end of a row


def output_paths(folder: Path, stem: str, suffixes: Sequence[str]) -> list[str]:
    """Return the paths of a video's files, one for each of its arrays."""
    return [f"{folder}/{stem}_{suffix}.npy" for suffix in suffixes]


def saved_stems(folder: Path, suffix: str) -> set[str]:
    """Return the stems of the videos of which there is an array, but for those in folders below."""
    end = f"_{suffix}.npy"
    return {entry.name.removesuffix(end) for entry in os.scandir(folder) if entry.name.endswith(end)}


def save_numpy(features: Features, folder: Path, stem: str) -> list[str]:
    """Write each array, (N, D), as it is, to a file of its own; returns their paths. Raises SaveError."""
    paths = output_paths(folder, stem, list(features.arrays))
    for path, rows in zip(paths, features.arrays.values(), strict=True):
        with whole_file(Path(path)) as file:
            np.save(file, np.ascontiguousarray(rows), allow_pickle=False)
    return paths


def load(folder: Path, stem: str, suffixes: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """Return a video's saved arrays, by suffix. Raises OSError and ValueError where they cannot be read."""
    paths = output_paths(folder, stem, suffixes)
    return {suffix: np.load(path, allow_pickle=False) for suffix, path in zip(suffixes, paths, strict=True)}


def is_saved(folder: Path, stem: str, suffixes: Sequence[str], since: float = 0.0) -> bool:
    """Say if all of a video's files are there, whole, with equally many rows, and later than the st_mtime `since`."""
    num_rows = {_num_rows(path, since) for path in output_paths(folder, stem, suffixes)}
    return len(num_rows) == 1 and 0 not in num_rows


def describe(path: str, features: Features) -> str:
    """Return shapes, time spans and an excerpt of each array, for people to read."""
    lines = [f"{path}: {features.seconds:.2f} s"]
    for suffix, rows in features.arrays.items():
        lines.append(f"  {suffix} {rows.shape} {rows.dtype}, mean {rows.mean():.4f}, largest {rows.max():.4f}")
        for i, (row, (begin, end)) in enumerate(zip(rows, features.spans, strict=True), start=1):
            if i < NUM_ROWS_SHOWN or i == len(rows):
                first, last = (
                    " ".join(f"{value:8.4f}" for value in part)
                    for part in (row[:NUM_VALUES_SHOWN], row[-NUM_VALUES_SHOWN:])
                )
                lines.append(f"    {begin:8.2f} - {end:8.2f} s  {first} ... {last}")
            elif i == NUM_ROWS_SHOWN:
                lines.append("    ...")
    return "\n".join(lines)


def _num_rows(path: str, since: float) -> int:
    """Return the number of rows in a file of features; 0 where it is not one, not whole, or not later than `since`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, ValueError):
        return 0
    try:
        state = os.fstat(descriptor)
        num_rows, num_bytes = _parse_header(os.pread(descriptor, MAX_HEADER_BYTES, 0).partition(b"\n")[0])
    except OSError:
        return 0
    finally:
        os.close(descriptor)
    return num_rows if state.st_size == num_bytes and state.st_mtime > since else 0


@functools.lru_cache(maxsize=1000)  # a folder's files have few different headers, and NumPy takes long to read one
def _parse_header(header: bytes) -> tuple[int, int]:
    """Return how many rows and bytes a file has by its header; 0 rows where it is none of features."""
    file = io.BytesIO(header + b"\n")
    try:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    except ValueError:
        return 0, 0
    if len(shape) != 2 or dtype not in TYPES:
        return 0, 0
    return shape[0], file.tell() + dtype.itemsize * math.prod(shape)
