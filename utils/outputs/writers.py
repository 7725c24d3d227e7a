"""Features -> files or text. The one place that knows the names and the format of output files."""

import contextlib
import csv
import io
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from utils.errors import MediaError
from utils.outputs import settings
from utils.outputs.atomic import whole_file
from utils.outputs.files import STEM, FileOptions, Files
from utils.outputs.growing import adopt_file, drop_file, growing_array
from utils.results import Arrays, Features, Predictions, Span

TYPES = (np.float32, np.float16, np.uint8)  # of features, plain, of flow and quantized
EXTRAS = {"timestamps": "npy", "predictions": "csv"}  # what can be saved beside features
NUM_CLASSES_TOLD = 5
NUM_ROWS_SHOWN = 6
NUM_VALUES_SHOWN = 3  # at either end of a row


def extra_path(folder: Path, stem: str, extra: str) -> Path:
    """Return the path of one of the `EXTRAS` of a video."""
    return folder / f"{stem}_{extra}.{EXTRAS[extra]}"


def saved_stems(folder: Path, files: Files) -> set[str]:
    """Return the stems of the videos that seem to have files, by names in one folder; others are in folders below."""
    begin, end = next(iter(files.names.values()))[0].split(STEM)
    parent, _, begin = begin.rpartition("/")
    end = end.partition("/")[0]  # of a folder of the video's own, where there is one
    with contextlib.suppress(FileNotFoundError):
        return set(filter(None, (_cut(entry.name, begin, end) for entry in os.scandir(folder / parent))))
    return set()


def find_stems(folder: Path, files: Files) -> list[str]:
    """Return the stems of all videos that have their first file, but for those in output folders below."""
    begin, end = next(iter(files.names.values()))[0].split(STEM)
    stems = []
    for parent, folders, names in os.walk(folder):
        if settings.FILE_NAME in names and not os.path.samefile(parent, folder):
            folders.clear()
            continue
        below = os.path.relpath(parent, folder)
        stems += [_cut(name if below == "." else f"{below}/{name}", begin, end) for name in names]
    return sorted(filter(None, stems))


def _cut(name: str, begin: str, end: str) -> str:
    """Return what is between the begin and the end of a name; nothing where it has others."""
    fits = name.startswith(begin) and name.endswith(end)
    return name[len(begin) : len(name) - len(end)] if fits else ""


def save_numpy(features: Features, folder: Path, stem: str, files: Files) -> list[str]:
    """Write each array, or each crop of it, to a file of its own; returns their paths.

    Raises SaveError, and MediaError where a number is too large for its type.
    """
    paths = files.paths(folder, stem)
    try:
        for path, rows in zip(paths, lay_out(features.arrays, files), strict=True):
            _save(rows, Path(path), files.options.dtype or str(rows.dtype))
    except FloatingPointError as error:
        problem = f"has features that are too large for --dtype {files.options.dtype}; leave it out"
        raise MediaError("out_of_range", f"{stem}: {problem}") from error
    return paths


def lay_out(arrays: Arrays, files: Files) -> Iterator[npt.NDArray[Any]]:
    """Yield what is in each file, but for the type of numbers, in the order of their names."""
    options = files.options
    if options.concatenate:
        arrays = {files.feature_type: np.concatenate([arrays[stream] for stream in files.streams], axis=-1)}
    for suffix, names in files.names.items():
        for crop in range(len(names)):
            rows = arrays[suffix][:, crop] if len(names) > 1 else arrays[suffix]
            yield rows.T if options.transpose else rows


def _save(rows: npt.NDArray[Any], path: Path, dtype: str) -> None:
    """Write an array; raises FloatingPointError for numbers that are too large for the type.

    One that was written as it was computed lies in such a file already, which gets its name, or is as large.
    """
    with np.errstate(over="raise"):
        if rows.dtype != dtype and rows.ndim == 4:
            with growing_array(path.parent) as array:
                for row in rows:
                    array.append(row[None].astype(dtype))
                drop_file(rows)
                rows = array.finish()
        if rows.dtype == dtype and adopt_file(rows, path):
            return
        with whole_file(path) as file:
            np.save(file, np.ascontiguousarray(rows, dtype), allow_pickle=False)


def load_numpy(folder: Path, stem: str, files: Files) -> Arrays:
    """Return the features that `save_numpy` wrote, as the extractor gave them, but rounded if they were."""
    options, arrays = files.options, {}
    parts = iter([np.load(path, mmap_mode="c", allow_pickle=False) for path in files.paths(folder, stem)])
    for suffix, names in files.names.items():
        crops = [part.T if options.transpose else part for part in itertools.islice(parts, len(names))]
        rows = np.stack(crops, axis=1) if len(crops) > 1 else crops[0]
        arrays[suffix] = rows.astype(np.float32) if options.dtype == "float16" else rows
    if options.concatenate:
        (rows,) = arrays.values()
        arrays = dict(zip(files.streams, np.split(rows, len(files.streams), axis=-1), strict=True))
    return arrays


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


def is_saved(folder: Path, stem: str, files: Files, since: float = 0.0) -> bool:
    """Return True if a video's files are all there, whole, equally long, and later than the st_mtime `since`."""
    num_rows = {_num_rows(path, files.options, since) for path in files.paths(folder, stem)}
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
    ends = row.ravel()[:NUM_VALUES_SHOWN], row.ravel()[-NUM_VALUES_SHOWN:]
    return " ... ".join(" ".join(f"{value:8.4f}" for value in end) for end in ends)


def _num_rows(path: str, options: FileOptions, since: float) -> int:
    """Return the number of rows in a file of features; 0 where it is not one, not whole, or not later than `since`."""
    try:
        state = os.stat(path)
        rows = np.load(path, mmap_mode="r", allow_pickle=False) if state.st_mtime > since else None
    except (OSError, EOFError, ValueError):  # also where the file is shorter than its header says
        return 0
    types = TYPES if options.dtype is None else (np.dtype(options.dtype),)
    if not isinstance(rows, np.memmap) or rows.ndim < 2 or rows.dtype not in types:
        return 0
    return rows.shape[-1 if options.transpose else 0] if state.st_size == rows.offset + rows.nbytes else 0
