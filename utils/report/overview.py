"""The report's overview: what became of all videos of an output folder, by its log and its settings.

The table of videos is in the page, compressed: a page that was opened from the disk may not load data from other files.
"""

import base64
import gzip
import importlib.metadata
import json
import math
import os
import platform
import time
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import CannotStartError
from utils.outputs.atomic import whole_file
from utils.outputs.settings import read_records
from utils.outputs.status_report import STATES, Outcome, read_outcomes
from utils.report import FOLDER, PAGE, Report, find_parts
from utils.report.render import clock, shown, url, write_html

RUNS = "runs.json"  # in the report's folder: of each feature type the last run's command, devices and so on
MOST_ROWS = 100_000  # of the table
MOST_TABLE_BYTES = 4_000_000
NUM_BARS = 12  # of the speed over the time
# Of the histogram of lengths, by where they begin, in seconds.
BINS = {0: "0 s", 1: "1 s", 2: "2 s", 5: "5 s", 10: "10 s", 20: "20 s", 30: "30 s", 60: "1 min", 120: "2 min"}
BINS |= {300: "5 min", 600: "10 min", 1200: "20 min", 1800: "30 min", 3600: "1 h", 7200: "2 h"}


def note_run(report: Report, run: dict[str, object]) -> None:
    """Write down what is to be told of a run that begins, in place of the one before of that type. Raises SaveError."""
    packages = {name: importlib.metadata.version(name) for name in ("torch", "av", "numpy")}
    versions = {"python": platform.python_version()} | packages
    run |= {"title": report.title, "began": int(time.time()), "versions": versions}
    runs = _read_runs(report.folder) | {report.feature_type: run}
    with whole_file(report.folder / RUNS) as file:
        file.write((json.dumps(runs, indent=2) + "\n").encode())


def write_overview(output: Path) -> Path:
    """Make the overview of an output folder and return its path.

    Raises CannotStartError where there is no such folder or its settings are not readable, and SaveError.
    """
    if not output.is_dir():
        raise CannotStartError(f"{output}: no such folder, so there is nothing to report; name one with --output_path")
    report = output / FOLDER
    runs, records, page = _read_runs(report), read_records(output), report / "index.html"
    sections, videos = [], []
    for feature_type, record in records.items():
        run = runs.get(feature_type, {})
        outcomes = read_outcomes(output, feature_type, record.since)
        settings = {name: value for name, value in record.settings.items() if value is not None}
        section = {"feature_type": feature_type, "run": run, "settings": settings} | _count(outcomes.values())
        sections.append(section | {"speed": _measure_speed(outcomes.values(), run.get("began", 0))})
        links = _find_pages(report, feature_type)
        videos += [(path, feature_type, outcome, links.get(path, "")) for path, outcome in outcomes.items()]
    videos.sort(key=lambda video: STATES.index(video[2].state))
    values = _pack(videos) | {"num_videos": len(videos), "sections": sections}
    write_html(page, "overview.html", "overview.js", title=f"Features in {os.path.abspath(output)}", **values)
    return page


def _count(outcomes: Collection[Outcome]) -> dict[str, Any]:
    states = Counter(outcome.state for outcome in outcomes)
    lengths = [outcome.seconds for outcome in outcomes if outcome.state != "failed" and outcome.seconds]
    numbers = np.histogram(lengths, [*BINS, math.inf])[0].tolist()
    bars = [(f"from {begin}", number) for begin, number in zip(BINS.values(), numbers, strict=True)]
    used = [i for i, number in enumerate(numbers) if number]
    return {
        "done": states["done"] + states["in part"],
        "in_part": states["in part"],
        "failed": states["failed"],
        "skipped": sum(outcome.is_skipped for outcome in outcomes),
        "hours": sum(lengths) / 3600,
        "missing_seconds": sum(outcome.missing_seconds for outcome in outcomes if outcome.state == "in part"),
        "lengths": bars[used[0] : used[-1] + 1] if used else [],
        "reasons": Counter(outcome.reason for outcome in outcomes if outcome.state == "failed").most_common(),
    }


def _measure_speed(outcomes: Collection[Outcome], began: float) -> dict[str, Any] | None:
    """Return seconds of video per second over the time of the last run, or of all runs where its begin is not known."""
    done = [(o.time, o.seconds) for o in outcomes if o.state != "failed" and o.time and o.time >= began]
    if not done or (not began and len({time for time, _ in done}) == 1):
        return None
    times, seconds = np.array(done).T
    begin = began or times.min()
    duration = max(1.0, float(times.max() - begin))
    num_bars = min(NUM_BARS, int(duration))
    bars = np.histogram(times, num_bars, (begin, begin + duration), weights=seconds)[0] * num_bars / duration
    labels = [f"from {clock(i * duration / num_bars)}" for i in range(num_bars)]
    return {
        "bars": list(zip(labels, bars.round(2).tolist(), strict=True)),
        "mean": float(seconds.sum()) / duration,
    }


def _pack(videos: Sequence[tuple[str, str, Outcome, str]]) -> dict[str, Any]:
    """Return the table, compressed, and how many videos are in it: the first ones that have room."""
    num_listed = min(len(videos), MOST_ROWS)
    while True:
        rows = [
            [*os.path.split(shown(path)), kind, one.state, one.reason, round(one.seconds, 2), shown(one.message), link]
            for path, kind, one, link in videos[:num_listed]
        ]
        text = json.dumps(rows, separators=(",", ":"))
        table = base64.b64encode(gzip.compress(text.encode(), 6)).decode()
        if len(table) <= MOST_TABLE_BYTES:
            return {"table": table, "num_listed": num_listed}
        num_listed //= 2


def _find_pages(report: Path, feature_type: str) -> dict[str, str]:
    """Return the URL of each page, by the absolute path of its video."""
    parts = [part for part in find_parts(report, feature_type) if (part.parent / PAGE).exists()]
    return {json.loads(part.read_bytes())["path"]: url(part.parent / PAGE, report) for part in parts}


def _read_runs(report: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((report / RUNS).read_bytes()))
    except (OSError, ValueError, TypeError):
        return {}
