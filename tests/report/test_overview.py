"""The overview, made of the log and the settings of an output folder."""

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from utils.errors import CannotStartError
from utils.outputs.settings import record
from utils.outputs.status_log import StatusLog
from utils.report import Report
from utils.report.overview import note_run, write_overview
from utils.results import Row


def table_of(page: Path) -> Any:
    """Return the table in a page, as its script unpacks it."""
    match = re.search(r'id="table">([^<]*)<', page.read_text())
    assert match is not None
    return json.loads(gzip.decompress(base64.b64decode(match[1])))


def figures(page: Path) -> dict[str, str]:
    """Return the large figures of the first section, by what is said of them."""
    section = page.read_text().split("<section>")[1]
    return {name: figure for figure, name in re.findall(r'<div class="number"><b>([^<]*)</b>([^<]*)<', section)}


def log_rows(output: Path, rows: list[Row]) -> None:
    record(output, "i3d", {"stack_size": 64, "i3d_rgb_path": "sha256:0"})
    with StatusLog(output, "i3d") as log:
        for row in rows:
            log.add(row)


def test_the_last_row_of_a_video_counts_and_what_was_skipped_is_done(tmp_path: Path) -> None:
    log_rows(tmp_path, [
        Row("/v/a.mp4", "failed", "truncated", "/v/a.mp4: cut off"),
        Row("/v/b.mp4", "ok", seconds=3600, missing="1 s is damaged", missing_seconds=1.25),
        Row("/v/c.mp4", "failed", "unreadable", "/v/c.mp4: <no> video"),
        Row("/v/a.mp4", "ok", seconds=1800),
        Row("/v/a.mp4", "skipped", outputs=["a_rgb.npy"]),
        Row("/v/d.mp4", "failed", "corrupt", "/v/d.mp4: damaged"),
        Row("/v/d.mp4", "skipped", outputs=["d_rgb.npy"]),
        Row("/v/e.mp4", "skipped", error="it failed in an earlier run"),
    ])  # fmt: skip
    page = write_overview(tmp_path)
    assert page == tmp_path / "report" / "index.html"
    assert figures(page) == {"done": "3", "failed": "2", "extracted in part": "1", "hours of video": "1.50"}
    text = page.read_text()
    assert "3 skipped in the last run" in text
    assert "1.2 s are missing" in text
    assert "sha256:0" in text
    table = table_of(page)
    assert table["folders"] == ["/v"]
    states = {name: tuple(rest[:-1]) for _, name, _, *rest in table["rows"]}
    assert states == {
        "a.mp4": ("done", "", 1800, ""),
        "b.mp4": ("in part", "", 3600, "1 s is damaged"),
        "c.mp4": ("failed", "unreadable", 0, "/v/c.mp4: <no> video"),
        "d.mp4": ("done", "", 0, ""),
        "e.mp4": ("failed", "", 0, "it failed in an earlier run"),
    }
    assert [row[3] for row in table["rows"]] == ["failed", "failed", "in part", "done", "done"]


def test_what_was_run_is_told(tmp_path: Path) -> None:
    run: dict[str, object] = {"command": "python main.py 'a <b>.mp4'", "folder": "/here", "devices": ["cuda:0"]}
    run["weights"] = [{"title": "I3D", "source": "published", "licence": "MIT"}]
    note_run(Report(tmp_path / "report", "i3d", "I3D", 20), run)
    log_rows(tmp_path, [Row("/v/a.mp4", "ok", seconds=7)])
    text = write_overview(tmp_path).read_text()
    assert "python main.py &#39;a &lt;b&gt;.mp4&#39;" in text
    assert "cuda:0 (a worker each)" in text
    assert "licence: MIT" in text
    assert re.search(r"<th>torch</th><td>\d", text)
    assert "from 5 s" in text
    assert float(figures(tmp_path / "report" / "index.html")["seconds of video a second"]) <= 7


def test_a_folder_without_a_run_has_an_empty_overview_and_one_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    assert "No features have been extracted here." in write_overview(tmp_path).read_text()
    with pytest.raises(CannotStartError, match="nowhere: no such folder"):
        write_overview(tmp_path / "nowhere")


def test_rows_of_other_hands_do_no_harm(tmp_path: Path) -> None:
    log_rows(tmp_path, [])
    strange: list[dict[str, object]] = [
        {"path": "/v/\ud800.mp4", "status": "ok", "seconds": "long", "time": "never", "missing": 3},
        {"path": "/v/b.mp4"},
    ]
    with open(tmp_path / "status.jsonl", "a") as file:
        file.writelines(json.dumps(row | {"feature_type": "i3d"}) + "\n" for row in strange)
    assert len(table_of(write_overview(tmp_path))["rows"]) == 2
