"""Where things stand in an output folder, by its logs."""

import dataclasses
import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from utils.errors import CannotStartError, SettingsError
from utils.outputs.settings import record
from utils.outputs.status_report import Outcome, read_outcomes, report_status
from utils.results import Row

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


def log_rows(folder: Path, *rows: Row, log: str = "status", feature_type: str = "vggish", second: int = 0) -> None:
    time = (NOON + timedelta(seconds=second)).isoformat()
    with open(folder / f"{log}.jsonl", "a") as file:
        for row in rows:
            file.write(json.dumps(dataclasses.asdict(row) | {"feature_type": feature_type, "time": time}) + "\n")


def failed(path: str, reason: str = "truncated") -> Row:
    return Row(path, "failed", reason, "no good")


def ok(path: str, seconds: float = 1.0) -> Row:
    return Row(path, "ok", outputs=[f"{path}.npy"], seconds=seconds)


def done_before(path: str) -> Row:
    return Row(path, "skipped", outputs=[f"{path}.npy"])


def test_videos_are_counted_over_all_logs_and_with_a_list_those_of_it(tmp_path: Path) -> None:
    log_rows(tmp_path, ok("/a", 3000), failed("/b"), failed("/c", "no_audio"), second=1)
    log_rows(tmp_path, failed("/d"), ok("/e", 4200.5), ok("/b", 0.5), log="status.1-of-2", second=2)
    log_rows(tmp_path, ok("/c", 100), log="status.2-of-2", second=0)
    log_rows(tmp_path, ok("/i", 9), feature_type="i3d")
    report = report_status(tmp_path, "vggish", None)
    assert report._asdict() == {
        "feature_type": "vggish",
        "output_path": str(tmp_path),
        "done": 3,
        "failed": 2,
        "reasons": {"no_audio": 1, "truncated": 1},
        "left": None,
        "seconds": 7201.0,
        "hours": pytest.approx(7201 / 3600),
    }
    listed = report_status(tmp_path, "vggish", ["/x", "/./e", "/d", "/y", "//e", "/z"])
    assert (listed.done, listed.reasons, listed.left, listed.seconds) == (1, {"truncated": 1}, 3, 4200.5)
    table = listed.table().splitlines()
    assert table[0] == f"vggish features in {tmp_path}"
    rows = ["done 1 1.17 hours (4200.5 s) of video", "failed 1", "truncated 1", "left 3"]
    assert [" ".join(line.split()) for line in table[1:]] == rows
    assert "left" not in report.table()


@pytest.mark.parametrize(
    ("rows", "done", "failed_by", "seconds"),
    [
        ([failed("/a"), ok("/a", 2)], 1, {}, 2),
        ([ok("/a", 2), failed("/a", "timeout")], 0, {"timeout": 1}, 0),
        ([failed("/a"), failed("/a", "crashed")], 0, {"crashed": 1}, 0),
        ([ok("/a", 2), done_before("/a")], 1, {}, 2),
        ([done_before("/a")], 1, {}, 0),  # as where a program was killed between a file and its row
        ([failed("/a"), done_before("/a")], 1, {}, 0),
        (
            [failed("/a"), Row("/a", "skipped", None, "it failed in an earlier run (--skip_failed)")],
            0,
            {"truncated": 1},
            0,
        ),
        ([ok("/a", 2), ok("/a", 2)], 1, {}, 2),
    ],
)
def test_the_latest_row_of_a_video_decides(
    tmp_path: Path, rows: list[Row], done: int, failed_by: dict[str, int], seconds: float
) -> None:
    log_rows(tmp_path, *rows)
    report = report_status(tmp_path, "vggish", ["/a"])
    assert (report.done, report.reasons, report.left, report.seconds) == (done, failed_by, 0, seconds)


def test_random_logs_are_counted_as_a_naive_loop_does(tmp_path: Path) -> None:
    chance = random.Random(1)
    rows: list[dict[str, Any]] = []
    for second in range(2000):
        path = f"/{chance.randrange(300)}"
        status = chance.choice(["ok", "failed", "skipped"])
        entry: dict[str, Any] = {
            "path": path,
            "status": status,
            "feature_type": "vggish",
            "seconds": second / 4,
            "outputs": [],
        }
        entry["reason"] = chance.choice(["corrupt", "timeout"]) if status == "failed" else None
        entry["time"] = (NOON + timedelta(seconds=second)).isoformat()
        rows.append(entry)
        name = f"status.{chance.randrange(1, 6)}-of-5.jsonl" if chance.random() < 0.8 else "status.jsonl"
        with open(tmp_path / name, "a") as file:
            file.write(json.dumps(entry) + "\n" + chance.choice(["", "", '{"path": "/x", "status"\n', "\n"]))
    latest = {row["path"]: row for row in rows if row["status"] != "skipped"}
    videos = [f"/{i}" for i in range(0, 400, 2)]
    report = report_status(tmp_path, "vggish", videos)
    mine = [latest[path] for path in videos if path in latest]
    assert report.done == sum(row["status"] == "ok" for row in mine)
    for reason in ("corrupt", "timeout"):
        assert report.reasons[reason] == sum(row["reason"] == reason for row in mine)
    assert report.left == len(videos) - len(mine)
    assert report.seconds == sum(row["seconds"] for row in mine if row["status"] == "ok")


def test_what_was_made_before_an_overwriting_is_left(tmp_path: Path) -> None:
    since = record(tmp_path, "vggish", {}, overwrite=True).since
    for path, seconds in [("/before", -2), ("/failed before", -60), ("/after", 0), ("/later", 3)]:
        entry = {"path": path, "status": "failed" if "failed" in path else "ok", "feature_type": "vggish", "seconds": 1}
        entry["time"] = datetime.fromtimestamp(since + seconds, UTC).isoformat(timespec="seconds")
        with open(tmp_path / "status.jsonl", "a") as file:
            file.write(json.dumps(entry) + "\n")
    report = report_status(tmp_path, "vggish", ["/before", "/failed before", "/after", "/later"])
    assert (report.done, report.failed, report.left) == (2, 0, 2)


def test_a_folder_where_nothing_was_saved_is_told_and_one_that_a_run_has_just_begun_in_is_not(tmp_path: Path) -> None:
    record(tmp_path, "i3d", {})
    (tmp_path / "file").touch()
    for folder in (tmp_path / "missing", tmp_path):
        with pytest.raises(CannotStartError, match=f"^{folder}: no vggish features were ever saved here"):
            report_status(folder, "vggish", ["/a"])
    assert report_status(tmp_path, "i3d", ["/a"]).left == 1
    (tmp_path / "settings.json").write_text("[]")
    with pytest.raises(SettingsError):
        report_status(tmp_path, "vggish", None)


def test_a_failure_forgets_nothing_that_an_extraction_told(tmp_path: Path) -> None:
    extracted = dataclasses.replace(ok("/a", 2), fps=29.97, missing="the end", missing_seconds=0.5)
    log_rows(tmp_path, extracted, failed("/a", "disk_full"))
    failure = read_outcomes(tmp_path, "vggish", 0)["/a"]
    assert failure == Outcome("failed", "disk_full", "no good", 2, 29.97, 0.5, NOON.timestamp())
    log_rows(tmp_path, done_before("/a"))
    assert read_outcomes(tmp_path, "vggish", 0)["/a"] == failure._replace(
        state="done", reason="", message="", is_skipped=True
    )
    log_rows(tmp_path, ok("/b", 3))
    assert read_outcomes(tmp_path, "vggish", 0)["/b"].fps is None, "of a version that did not tell the rate"
