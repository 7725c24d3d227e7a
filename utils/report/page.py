"""A video's page: what an extractor saw of it and made of it, on one axis of time.

What each extractor adds is a part: plots, as JSON and pictures in the folder of the page. The page is made of all
parts that are there, so that those of I3D and of VGGish, from two runs, end on one axis.
"""

import json
import math
import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from utils.flow_colours import colour_flow, colour_wheel
from utils.outputs.atomic import locked, whole_file
from utils.outputs.files import Files
from utils.outputs.writers import lay_out
from utils.report import Report, page_path
from utils.report.pictures import Array, colour, find_centres, on_axis, save_picture
from utils.report.render import clock, url, write_html
from utils.results import Arrays, Features, Predictions, Span

if TYPE_CHECKING:
    from utils.report.sketch import Sketch, Sound, Strip

NUM_CLASSES = 10
FEW_NUMBERS = 256  # of a row, that are shown all
MOST_POINTS = 300  # of a curve
MOST_ALIKE = 120  # rows in the picture of likeness
MOST_TICKS = 12
WHEEL_SIDE = 96  # pixels
NICE_SECONDS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 36000, 86400)
# Of pictures: with those of two streams and sound, and a page of 60,000, a video has at most 300,000.
FRAMES_BYTES, FLOW_BYTES, SOUND_BYTES = 64_000, 32_000, 28_000
CLASSES_BYTES, NUMBERS_BYTES, LIKENESS_BYTES = 12_000, 24_000, 20_000

Plot = dict[str, Any]
Predict = Callable[[Arrays], Predictions] | None


def add_page(
    report: Report, stem: str, path: str, features: Features, sketch: "Sketch", predict: Predict, files: Files
) -> None:
    """Add what an extractor made of a video to its page, if there is room; `predict` is its, if it knows classes.

    Raises SaveError.
    """
    report.folder.mkdir(parents=True, exist_ok=True)
    with locked(report.folder):  # of workers that end at once
        if not report.has_room(stem):
            return
        plots = _Plots(page_path(report.folder, stem).parent, report.feature_type, features.spans, features.seconds)
        plots.draw(features.arrays, sketch, predict(features.arrays) if predict else None)
        part = _describe(stem, path, features, files) | {"title": report.title, "plots": plots.plots}
        with whole_file(plots.folder / f"{report.feature_type}.json") as file:
            file.write(json.dumps(part).encode())
        _write_page(report.folder, stem)


def _write_page(report: Path, stem: str) -> None:
    """Make the page of a video from its parts. Raises SaveError."""
    page = page_path(report, stem)
    parts = [json.loads(part.read_bytes()) for part in sorted(page.parent.glob("*.json"))]
    seconds = max(max(part["seconds"], part["rows"]["end"]) for part in parts)
    step = next((nice for nice in NICE_SECONDS if seconds / nice <= MOST_TICKS), seconds)
    ticks = [(i * step / seconds * 100, clock(i * step, int(step < 1))) for i in range(int(seconds / step) + 1)]
    path, data = parts[0]["path"], [part["rows"] | {"title": part["title"]} for part in parts]
    names = {"title": os.path.basename(path), "folder": os.path.dirname(path), "output": os.path.abspath(report.parent)}
    links = {"video": url(path, page.parent), "index": url(report / "index.html", page.parent)}
    values = {"seconds": seconds, "ticks": ticks, "parts": parts, "data": {"seconds": seconds, "parts": data}}
    write_html(page, "page.html", "page.js", **names, **links, **values)


def _describe(stem: str, path: str, features: Features, files: Files) -> dict[str, Any]:
    return {
        "path": os.path.abspath(path),
        "seconds": features.seconds,
        "fps": features.fps,
        "missing": features.missing,
        "arrays": [
            {"file": file, "shape": rows.shape, "type": files.options.dtype or str(rows.dtype), "bad": bad}
            for file, rows in zip(files.paths(Path(), stem), lay_out(features.arrays, files), strict=True)
            # Infinite or no numbers; of flow, which may not fit into memory, they are not counted.
            for bad in [int((~np.isfinite(rows)).sum()) if rows.ndim < 4 else 0]
        ],
        "rows": _describe_rows(features.spans),
    }


def _describe_rows(spans: Sequence[Span]) -> dict[str, float]:
    """Return what tells the times of all rows, which begin at equal distances and are equally long.

    But they are cut off at both ends of the video: the `first` one may begin before 0.
    """
    length = max(end - begin for begin, end in spans)
    steps = [after[side] - before[side] for before, after in pairwise(spans) for side in (0, 1)]
    first, end = round(spans[0][1] - length, 6), spans[-1][1]
    return {"count": len(spans), "first": first, "step": max(steps, default=0), "length": length, "end": end}


class _Plots:
    """The plots of a part; their pictures are written into a folder. Raises SaveError."""

    def __init__(self, folder: Path, feature_type: str, spans: Sequence[Span], seconds: float) -> None:
        self.folder, self.plots = folder, list[Plot]()
        self._feature_type, self._spans = feature_type, spans
        self._seconds = max(seconds, spans[-1][1])

    def draw(self, arrays: Arrays, sketch: "Sketch", predictions: Predictions | None) -> None:
        """Draw all that there is to see."""
        strip, sound = sketch.strip(self._spans), sketch.sound_seen()
        if strip is not None:
            self._draw_frames(strip)
        if sound is not None:
            self._draw_sound(sound)
        if predictions is not None:
            self._draw_classes(predictions)
        rows_of = {name: rows for name, rows in arrays.items() if rows.ndim < 4}
        for name in arrays.keys() - rows_of.keys():
            self._draw_motion(name, arrays[name])
        means = {name: rows.mean(axis=1) if rows.ndim == 3 else rows for name, rows in rows_of.items()}  # of crops
        features = {name: np.nan_to_num(rows.astype(np.float32), posinf=0, neginf=0) for name, rows in means.items()}
        for name, rows in features.items():
            if rows.shape[1] <= FEW_NUMBERS:
                self._draw_numbers(name, rows)
        if features:
            self._draw_curves(features)
        for name, rows in features.items():
            self._draw_likeness(name, rows)

    def _draw_frames(self, strip: "Strip") -> None:
        common = {
            "side": strip.frames.shape[1],
            "centres": find_centres(self._spans)[strip.rows].tolist(),
            "spacing": strip.every * _describe_rows(self._spans)["step"] or self._seconds,
        }
        note = f"The middle frame of each row, what the network sees of it or a square. {_tell_every(strip.every)}"
        file = self._save("frames", np.concatenate(strip.frames, axis=1), FRAMES_BYTES, lossless=False)
        self._add("strip", "Frames", note, file=file, **common)
        if strip.flows is not None:
            scale = max(1.0, float(np.percentile(np.hypot(strip.flows[:, 0], strip.flows[:, 1]), 99)))
            picture = np.concatenate(colour_flow(strip.flows.swapaxes(0, 1), scale), axis=1)
            file = self._save("flow", picture, FLOW_BYTES, lossless=False)
            wheel = self._save("wheel", colour_wheel(WHEEL_SIDE), FLOW_BYTES)
            note = (
                "How these frames move to the next one, as the network sees it. The colour tells where to, as on the "
                f"wheel: red to the right, blue to the left. White is no move, the full colour one of {scale:.1f} "
                "pixels, a darker one a longer one."
            )
            self._add("strip", "Motion (optical flow)", note, file=file, wheel=wheel, **common)

    def _draw_motion(self, name: str, flows: Array) -> None:
        """Draw how long flow (N, 2, H, W) is, in the mean of a row, of few rows of a long video."""
        rows = range(0, len(flows), -(-len(flows) // MOST_POINTS))
        lengths = [float(np.hypot(*flows[row].astype(np.float32)).mean()) for row in rows]
        points = np.stack([find_centres(self._spans)[rows], lengths], axis=1).round(4).tolist()
        note = f"How far a pixel moves from a frame to the next one, in the mean, in pixels. {_tell_every(rows.step)}"
        line = {"name": name, "points": points}
        self._add("curves", "Amount of motion", note, lines=[line], low=0.0, high=max(*lengths, 1e-9))

    def _draw_sound(self, sound: "Sound") -> None:
        (begin, end), num_rows, num_columns = self._spans[-1], *sound.levels.shape[:2]
        seconds = (end - begin) * sound.share
        rests = [begin + (i + 1) * seconds for i in range(num_rows - len(self._spans))]
        begins = np.array([*(span[0] for span in self._spans), *rests])[:, None]
        edges = begins + np.linspace(0, seconds, num_columns + 1)
        times = np.stack([edges[:, :-1], edges[:, 1:]], axis=-1).reshape(-1, 2)
        levels = sound.levels.reshape(len(times), -1)[:, ::-1]
        file = self._draw_rows("sound", levels, times, levels.min(), levels.max(), SOUND_BYTES)
        note = "How loud each pitch is, as the network hears it: the lighter, the louder."
        self._add("picture", "Sound (log-mel)", note, file=file, top=sound.highest, bottom=sound.lowest, size="middle")

    def _draw_classes(self, predictions: Predictions) -> None:
        probabilities = np.nan_to_num(list(predictions.probabilities.values())[-1])
        best = np.argsort(-probabilities.mean(axis=0), kind="stable")[:NUM_CLASSES]
        likeliest = probabilities[:, best]
        file = self._draw_rows("classes", likeliest, self._spans, 0, likeliest.max(), CLASSES_BYTES)
        note = (
            f"The likeliest classes of the whole video, and how likely they are: dark 0 %, light {likeliest.max():.0%}."
        )
        labels = [predictions.classes[index] for index in best]
        self._add("rows", "What it resembles", note, file=file, labels=labels)

    def _draw_numbers(self, name: str, rows: Array) -> None:
        low, high, number = rows.min(), rows.max(), rows.shape[1]
        file = self._draw_rows(f"{name}_numbers", rows, self._spans, low, high, NUMBERS_BYTES)
        note = f"All numbers of each row, from top to bottom: dark {low:.3g}, light {high:.3g}."
        self._add("picture", f"The {number} numbers", note, file=file, top="1", bottom=f"{number}", size="middle")

    def _draw_curves(self, features: Arrays) -> None:
        """Draw the length of the features, and the cosine of each row with the next one."""
        centres = find_centres(self._spans)
        group = -(-len(centres) // MOST_POINTS)
        lengths, cosines, largest = [], [], []

        def draw_line(name: str, times: Array, values: Array, choose: np.ufunc) -> dict[str, Any]:
            starts = np.arange(0, len(times), group)
            points = np.stack([times[starts], choose.reduceat(values, starts)], axis=1)
            return {"name": name, "points": points.round(4).tolist()}

        for name, rows in features.items():
            norms = np.linalg.norm(rows, axis=1)
            unit = rows / np.maximum(norms, 1e-12)[:, None]
            largest.append(f"{norms.max():.4g} of {name}")
            lengths.append(draw_line(name, centres, norms / max(norms.max(), 1e-12), np.maximum))
            if len(rows) > 1:
                between = (centres[1:] + centres[:-1]) / 2
                cosines.append(draw_line(name, between, (unit[1:] * unit[:-1]).sum(axis=1), np.minimum))
        of = f" Each point is the {{}} of {group} rows." if group > 1 else ""
        note = f"How large the features are (length of the vector), as a part of the largest: {', '.join(largest)}."
        self._add("curves", "Size of features", note + of.format("largest"), lines=lengths, low=0.0, high=1.0)
        if cosines:
            low = math.floor(10 * min(value for line in cosines for _, value in line["points"]) - 1e-9) / 10
            note = "How alike each row and the next one are (cosine): 1 is the same." + of.format("least")
            self._add("curves", "Likeness of neighbours", note, lines=cosines, low=low, high=1.0)

    def _draw_likeness(self, name: str, rows: Array) -> None:
        every = -(-len(rows) // MOST_ALIKE)
        unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        chosen = unit[every // 2 :: every]
        firsts = range(0, len(chosen) * every, every)
        spans = [(self._spans[i][0], self._spans[min(i + every, len(rows)) - 1][1]) for i in firsts]
        alike = chosen @ chosen.T
        file = self._draw_rows(f"{name}_likeness", alike, spans, alike.min(), 1, LIKENESS_BYTES)
        note = (
            f"How alike each row, from left to right, and each other one, from top to bottom, are in {name} (cosine): "
            f"dark {alike.min():.2f}, light 1. {_tell_every(every)}"
        )
        end = clock(self._spans[-1][1], 1)
        self._add("picture", f"Likeness of all rows: {name}", note, file=file, top="0:00", bottom=end, size="tall")

    def _draw_rows(
        self, name: str, rows: Array, spans: Sequence[Span] | Array, low: float, high: float, max_bytes: int
    ) -> str:
        return self._save(name, colour(on_axis(rows, spans, self._seconds), low, high), max_bytes)

    def _save(self, name: str, picture: npt.NDArray[np.uint8], max_bytes: int, lossless: bool = True) -> str:
        file = f"{self._feature_type}_{name}.webp"
        save_picture(picture, self.folder / file, max_bytes, lossless)
        return file

    def _add(self, kind: str, title: str, note: str, **values: Any) -> None:
        self.plots.append({"kind": kind, "title": title, "note": note.strip(), "seconds": self._seconds, **values})


def _tell_every(every: int) -> str:
    return f"One row in {every} is shown." if every > 1 else ""
