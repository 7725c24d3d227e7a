"""The report's overview: what became of all videos of an output folder, by its log and its settings.

The table of videos is in the page, compressed: a page that was opened from the disk may not load data from other files.
"""

import base64
import gzip
import importlib.metadata
import json
import os
import platform
from bisect import bisect
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from utils.errors import CannotStartError
from utils.outputs.atomic import whole_file
from utils.outputs.settings import read_records
from utils.outputs.status_log import read_log
from utils.report import FOLDER, PAGE, Report, find_parts
from utils.report.render import clock, shown, url, write_html
from utils.video_list import absolute

RUNS = "runs.json"  # in the report's folder: of each feature type the last run's command, devices and so on
MOST_ROWS = 100_000  # of the table
MOST_TABLE_BYTES = 4_000_000
NUM_BARS = 40  # of the speed over the time
# Of the histogram of lengths, by where they begin, in seconds.
BINS = {0: "0 s", 1: "1 s", 2: "2 s", 5: "5 s", 10: "10 s", 20: "20 s", 30: "30 s", 60: "1 min", 120: "2 min"}
BINS |= {300: "5 min", 600: "10 min", 1200: "20 min", 1800: "30 min", 3600: "1 h", 7200: "2 h"}


Row = dict[str, Any]


def note_run(report: Report, run: dict[str, object]) -> None:
    """Write down what is to be told of a run that begins, in place of the one before of that type. Raises SaveError."""
    packages = {name: importlib.metadata.version(name) for name in ("torch", "av", "numpy")}
    run |= {
        "title": report.title,
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()} | packages,
    }
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
        rows, num_skipped = _read_rows(output, feature_type, record.since)
        settings = {name: value for name, value in record.settings.items() if value is not None}
        section = {"feature_type": feature_type, "run": run, "settings": settings, "skipped": num_skipped}
        sections.append(section | _count(rows) | {"speed": _measure_speed(rows, run.get("began"))})
        links = _find_pages(report, feature_type)
        videos += [(path, row, links.get(path)) for path, row in rows.items()]
    videos.sort(key=lambda video: _STATES.index(_state_of(video[1])))
    values = _pack(videos) | {"num_videos": len(videos), "sections": sections, "output": os.path.abspath(output)}
    write_html(page, "overview.html", "overview.js", **values)
    return page


def _read_rows(output: Path, feature_type: str, since: float) -> tuple[dict[str, Row], int]:
    """Return the row of each video that tells how it stands, by absolute path, and how many were skipped last."""
    rows: dict[str, Row] = {}
    skipped = set()
    for row in read_log(output, feature_type, with_skipped=True):
        path = absolute(row["path"])
        if 0 < _parse_time(row.get("time")) < int(since):  # from before all was overwritten
            continue
        if row.get("status") == "skipped":
            skipped.add(path)
            if row.get("outputs") and rows.get(path, row).get("status") == "failed":  # another program has done it
                rows[path] = row
            rows.setdefault(path, row)
        else:
            skipped.discard(path)
            rows[path] = row
    return rows, len(skipped)


_STATES = ("failed", "in part", "done")


def _state_of(row: Row) -> str:
    if row.get("status") == "failed" or row.get("error"):
        return "failed"
    return "in part" if row.get("missing") else "done"


def _count(rows: dict[str, Row]) -> dict[str, Any]:
    states = Counter(map(_state_of, rows.values()))
    lengths = [_number(row, "seconds") for row in rows.values() if row.get("status") == "ok"]
    begins = list(BINS)
    bins = Counter(bisect(begins, seconds) - 1 for seconds in lengths)
    used = begins[min(bins, default=0) : max(bins, default=-1) + 1]
    reasons = Counter(str(row.get("reason") or "error") for row in rows.values() if _state_of(row) == "failed")
    return {
        "done": states["done"] + states["in part"],
        "in_part": states["in part"],
        "failed": states["failed"],
        "hours": sum(lengths) / 3600,
        "missing_seconds": sum(_number(row, "missing_seconds") for row in rows.values()),
        "lengths": [(f"from {BINS[begin]}", bins[begins.index(begin)]) for begin in used],
        "reasons": reasons.most_common(),
    }


def _measure_speed(rows: dict[str, Row], began: object) -> dict[str, Any] | None:
    """Return seconds of video per second over the time of the last run, or of all runs where its begin is not known."""
    begin = _parse_time(began)
    ok = [row for row in rows.values() if row.get("status") == "ok"]
    done = sorted((_parse_time(row.get("time")), _number(row, "seconds")) for row in ok)
    done = [(time, seconds) for time, seconds in done if time >= begin]
    if not done or (not begin and done[0][0] == done[-1][0]):
        return None
    start = begin or done[0][0]
    duration = max(1.0, done[-1][0] - start)
    num_bars = max(1, min(NUM_BARS, int(duration)))
    bars = [0.0] * num_bars
    for time, seconds in done:
        bars[min(num_bars - 1, int((time - start) / duration * num_bars))] += seconds * num_bars / duration
    return {"bars": bars, "duration": clock(duration), "mean": sum(seconds for _, seconds in done) / duration}


def _pack(videos: Sequence[tuple[str, Row, str | None]]) -> dict[str, Any]:
    """Return the table, compressed, and how many videos are in it: the first ones that have room."""
    num_listed = min(len(videos), MOST_ROWS)
    while True:
        folders: dict[str, int] = {}
        lines = []
        for path, row, link in videos[:num_listed]:
            folder, name = os.path.split(shown(path))
            message = row.get("error") or row.get("missing") or ""
            place = folders.setdefault(folder, len(folders))
            kind = row["feature_type"], _state_of(row), str(row.get("reason") or "")
            lines.append([place, name, *kind, round(_number(row, "seconds"), 2), shown(message), link or ""])
        text = json.dumps({"folders": list(folders), "rows": lines}, separators=(",", ":"))
        table = base64.b64encode(gzip.compress(text.encode(), 6)).decode()
        if len(table) <= MOST_TABLE_BYTES:
            return {"table": table, "num_listed": num_listed}
        num_listed //= 2


def _find_pages(report: Path, feature_type: str) -> dict[str, str]:
    """Return the URL of each page, by the absolute path of its video."""
    pages = {}
    for part in find_parts(report, feature_type):
        page = part.parent / PAGE
        if page.exists():
            pages[str(json.loads(part.read_bytes())["path"])] = url(page, report)
    return pages


def _read_runs(report: Path) -> dict[str, Any]:
    try:
        runs = json.loads((report / RUNS).read_bytes())
    except (OSError, ValueError):
        return {}
    return runs if isinstance(runs, dict) else {}


def _number(row: Row, name: str) -> float:
    value = row.get(name)
    return float(value) if isinstance(value, int | float) else 0.0


def _parse_time(text: object) -> float:
    """Return a time in seconds; 0 for what is none."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return 0.0
