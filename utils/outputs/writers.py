"""Features -> files or text. The one place that knows the names and the format of output files."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from utils.outputs.atomic import whole_file
from utils.outputs.growing import adopt_file
from utils.results import Arrays, Features, Predictions, Span

TYPES = (np.float32, np.float16, np.uint8)  # of features, plain, of flow and quantized
EXTRAS = {"timestamps": "npy", "predictions": "csv"}  # what can be saved beside features
NUM_CLASSES_TOLD = 5
NUM_ROWS_SHOWN = 6
NUM_VALUES_SHOWN = 3  # at either end of a row


def output_paths(folder: Path, stem: str, suffixes: Sequence[str]) -> list[str]:
    """Return the paths of a video's files, one for each of its arrays."""
    return [str(folder / f"{stem}_{suffix}.npy") for suffix in suffixes]


def extra_path(folder: Path, stem: str, extra: str) -> Path:
    """Return the path of one of the `EXTRAS` of a video."""
    return folder / f"{stem}_{extra}.{EXTRAS[extra]}"


def saved_stems(folder: Path, suffix: str) -> set[str]:
    """Return the stems of the videos of which there is an array, but for those in folders below."""
    end = f"_{suffix}.npy"
    return {entry.name.removesuffix(end) for entry in os.scandir(folder) if entry.name.endswith(end)}


def save_numpy(features: Features, folder: Path, stem: str) -> list[str]:
    """Write each array as it is to a file of its own; returns their paths. Raises SaveError.

    One that was written as it was computed lies in such a file already, which gets its name.
    """
    paths = output_paths(folder, stem, list(features.arrays))
    for path, rows in zip(paths, features.arrays.values(), strict=True):
        if not adopt_file(rows, Path(path)):
            with whole_file(Path(path)) as file:
                np.save(file, np.ascontiguousarray(rows), allow_pickle=False)
    return paths


def load_numpy(folder: Path, stem: str, suffixes: Sequence[str]) -> Arrays:
    """Return the features that `save_numpy` wrote, which are read when they are used."""
    paths = output_paths(folder, stem, suffixes)
    return {
        suffix: np.load(path, mmap_mode="c", allow_pickle=False) for suffix, path in zip(suffixes, paths, strict=True)
    }


def save_timestamps(spans: Sequence[Span], folder: Path, stem: str) -> None:
    """Write begin and end of each row of features, float64 (N, 2). Raises SaveError."""
    with whole_file(extra_path(folder, stem, "timestamps")) as file:
        np.save(file, np.array(spans, np.float64).reshape(-1, 2), allow_pickle=False)


def save_predictions(predictions: Predictions, spans: Sequence[Span], folder: Path, stem: str) -> None:
    """Write a line for each row and stream: its time, and the likeliest classes with their probabilities.

    Raises SaveError.
    """
    text = io.StringIO(newline="")
    lines = csv.writer(text)
    numbers = range(1, NUM_CLASSES_TOLD + 1)
    lines.writerow(["begin", "end", "stream", *(f"{part}_{i}" for i in numbers for part in ("class", "probability"))])
    for row, (begin, end) in enumerate(spans):
        for stream, probabilities in predictions.probabilities.items():
            best = np.argsort(-probabilities[row], kind="stable")[:NUM_CLASSES_TOLD]
            pairs = [(predictions.classes[i], f"{probabilities[row, i]:.6f}") for i in best]
            lines.writerow([f"{begin:.6f}", f"{end:.6f}", stream, *(part for pair in pairs for part in pair)])
    with whole_file(extra_path(folder, stem, "predictions")) as file:
        file.write(text.getvalue().encode(errors="replace"))


def is_saved(folder: Path, stem: str, suffixes: Sequence[str], since: float = 0.0) -> bool:
    """Return True if a video's files are all there, whole, equally long, and later than the st_mtime `since`."""
    num_rows = {_num_rows(path, since) for path in output_paths(folder, stem, suffixes)}
    return len(num_rows) == 1 and 0 not in num_rows


def describe(path: str, features: Features) -> str:
    """Return shapes, time spans and an excerpt of each array, for people to read."""
    lines = [f"{path}: {features.seconds:.2f} s"]
    for suffix, rows in features.arrays.items():
        lines.append(f"  {suffix} {rows.shape} {rows.dtype}, mean {rows.mean():.4f}, largest {rows.max():.4f}")
        for i, (row, (begin, end)) in enumerate(zip(rows, features.spans, strict=True), start=1):
            if i < NUM_ROWS_SHOWN or i == len(rows):
                lines.append(f"    {begin:8.2f} - {end:8.2f} s  {_excerpt(row)}")
            elif i == NUM_ROWS_SHOWN:
                lines.append("    ...")
    return "\n".join(lines)


def describe_predictions(predictions: Predictions, spans: Sequence[Span] | None) -> str:
    """Return lines for each row: its time, if known, then logit, probability and name of the likeliest classes."""
    logits = list(predictions.logits.values())[-1]
    probabilities = list(predictions.probabilities.values())[-1]
    lines = []
    for row, of_row in enumerate(logits):
        lines.append(f"  {spans[row][0]:.2f} - {spans[row][1]:.2f} s" if spans else f"  row {row + 1}")
        for index in np.argsort(-of_row, kind="stable")[:NUM_CLASSES_TOLD]:
            lines.append(f"    {of_row[index]:9.3f}  {probabilities[row, index]:.4f}  {predictions.classes[index]}")
    return "\n".join(lines)


def _excerpt(row: npt.NDArray[Any]) -> str:
    """Return numbers of both ends of a row, or of pictures (C, H, W) the means."""
    if row.ndim == 3:
        return " ".join(["means", *(f"{plane.mean(dtype=np.float32):8.4f}" for plane in row)])
    values = [f"{value:8.4f}" for value in row.ravel()]
    return " ".join([*values[:NUM_VALUES_SHOWN], "...", *values[-NUM_VALUES_SHOWN:]])


def _num_rows(path: str, since: float) -> int:
    """Return the number of rows in a file of features; 0 where it is not one, not whole, or not later than `since`."""
    try:
        state = os.stat(path)
        rows = np.load(path, mmap_mode="r", allow_pickle=False) if state.st_mtime > since else None
    except (OSError, EOFError, ValueError):  # also where the file is shorter than its header says
        return 0
    if not isinstance(rows, np.memmap) or rows.ndim < 2 or rows.dtype not in TYPES:
        return 0
    return len(rows) if state.st_size == rows.offset + rows.nbytes else 0
