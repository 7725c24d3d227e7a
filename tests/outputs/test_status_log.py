"""The log of what became of each video: whole lines, whoever writes, and however they end."""

import dataclasses
import json
import os
import random
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.helpers.oracles import REPOSITORY
from tests.helpers.processes import wait_until
from utils.errors import SaveError
from utils.outputs.status_log import MAX_LINE_BYTES, StatusLog, failed_before, read_log
from utils.results import Row
from utils.video_list import Shard

OK = Row("dir/a b.mp4", "ok", None, None, ["output/a b_rgb.npy"], 2.5, "a report")


def paths_in(folder: Path) -> list[str]:
    text = (folder / "status.jsonl").read_bytes()
    assert text.endswith(b"\n")
    return [json.loads(line)["path"] for line in text.splitlines()]


# One line a video


def test_a_row_is_a_line_that_says_all_but_the_report(tmp_path: Path) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    with StatusLog(tmp_path / "new folder", "i3d") as log:
        log.add(dataclasses.replace(OK, fps=29.97))
        log.add(Row("b.mp4", "failed", "corrupt", "b.mp4: half\nis left", [], 0.0, "", "the rest", 0.25))
    rows = [json.loads(line) for line in (tmp_path / "new folder" / "status.jsonl").read_bytes().splitlines()]
    times = [datetime.fromisoformat(row.pop("time")) for row in rows]
    assert before <= times[0] <= times[1] <= datetime.now(UTC)
    fields = [
        "path",
        "status",
        "reason",
        "error",
        "outputs",
        "seconds",
        "fps",
        "missing",
        "missing_seconds",
        "feature_type",
    ]
    values = [
        ("dir/a b.mp4", "ok", None, None, ["output/a b_rgb.npy"], 2.5, 29.97, None, 0.0, "i3d"),
        ("b.mp4", "failed", "corrupt", "b.mp4: half\nis left", [], 0.0, None, "the rest", 0.25, "i3d"),
    ]
    assert rows == [dict(zip(fields, row, strict=True)) for row in values]


def test_rows_are_written_at_once_but_skipped_ones_by_the_thousand_or_with_others_or_in_the_end(tmp_path: Path) -> None:
    def written() -> int:
        return len(paths_in(tmp_path)) if (tmp_path / "status.jsonl").exists() else 0

    numbers = []
    with StatusLog(tmp_path, "i3d") as log:
        for i in range(2502):
            log.add(Row(str(i), "ok" if i == 2500 else "skipped"))
            numbers.append(written())
    assert [numbers[i] for i in (998, 999, 1998, 1999, 2499, 2500, 2501)] == [0, 1000, 1000, 2000, 2000, 2501, 2501]
    log.close()
    assert paths_in(tmp_path) == [str(i) for i in range(2502)]


# Torn lines and full disks

LINE = '{"path": "whole", "status": "ok"}'
LONG = '{"path": "whole", "error": "%s"}' % ("x" * (MAX_LINE_BYTES - 40))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        (LINE, f"{LINE}\n"),
        (f"{LINE}\n{LINE}", f"{LINE}\n{LINE}\n"),
        (LINE[:-1], ""),
        ("123", ""),
        ("[" * 100_000, ""),
        (f"{LINE}\nno JSON\n\n{LINE[:3]}", f"{LINE}\nno JSON\n\n"),
        (f"{LINE}\n{LONG}", f"{LINE}\n{LONG}\n"),
        (f"{LINE}\n{LONG[:-1]}", f"{LINE}\n"),
    ],
)
def test_a_torn_end_is_cut_off_and_a_whole_one_kept(tmp_path: Path, before: str, after: str) -> None:
    (tmp_path / "status.jsonl").write_text(before)
    with StatusLog(tmp_path, "i3d") as log:
        log.add(OK)
    text = (tmp_path / "status.jsonl").read_text()
    assert text.startswith(after)
    assert json.loads(text.removeprefix(after))["path"] == OK.path
    assert text.removeprefix(after).count("\n") == 1


@pytest.mark.parametrize("before", ["", f"{LINE}\n", LINE])
def test_a_row_that_finds_no_room_leaves_no_part_of_it(tmp_path: Path, before: str) -> None:
    (tmp_path / "status.jsonl").write_text(before)
    log = StatusLog(tmp_path, "i3d")
    log.add(Row("s", "skipped"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))
        with pytest.raises(SaveError, match=r"status\.jsonl: cannot be written: File too large") as caught:
            log.add(OK)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.reason == "disk_full"
    log.close()
    assert (tmp_path / "status.jsonl").read_text() == before
    log.add(OK)
    assert paths_in(tmp_path)[-1] == OK.path


# Several programs

WRITER = """
import os, random, sys
from pathlib import Path
from utils.outputs.status_log import StatusLog
from utils.results import Row

folder, name, num_rows = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
write = os.write
os.write = lambda descriptor, data: write(descriptor, data[:97])  # many writes a line: only the lock keeps it whole
lengths = random.Random(name)
with StatusLog(folder, "i3d") as log, open(folder / name, "w") as written:
    for i in range(num_rows):
        log.add(Row(f"{name}-{i}", "ok", error="x" * lengths.randrange(2000)))
        print(f"{name}-{i}", file=written, flush=True)
"""


def test_programs_that_write_at_once_and_are_killed_tear_and_lose_nothing(tmp_path: Path) -> None:
    def start(name: str, num_rows: int) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([sys.executable, "-c", WRITER, tmp_path, name, str(num_rows)], cwd=REPOSITORY)

    lasting = [start(f"lasting{i}", 200) for i in range(2)]
    for i in range(3):
        victim = start(f"victim{i}", 10**9)
        name = tmp_path / f"victim{i}"
        wait_until(lambda name=name: name.exists() and name.stat().st_size > 200)  # type: ignore[misc]
        time.sleep(random.uniform(0, 0.02))
        victim.kill()
        victim.wait()
    assert [process.wait() for process in lasting] == [0, 0]
    with StatusLog(tmp_path, "i3d") as log:
        log.add(Row("last", "ok"))
    logged = paths_in(tmp_path)
    assert len(set(logged)) == len(logged)
    for path in tmp_path.glob("*[0-9]"):
        noted = path.read_text().splitlines()
        mine = [name for name in logged if name.startswith(f"{path.name}-")]
        assert mine[: len(noted)] == noted
        assert len(mine) <= len(noted) + 1, "a killed program may have logged one row that it did not yet note"
        assert path.name.startswith("victim") or len(mine) == 200


# Reading


def line(path: str, status: str, feature_type: str = "i3d") -> str:
    return json.dumps({"path": path, "status": status, "feature_type": feature_type})


NAMES = [b"\xff\xfe.mp4", "ü 😀.mp4".encode(), b"\xf0\x9f\xff", b"a\nb\r\"\\'\t\x1b", b'", "status": "skipped"']


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("statuses", ["ok", "ok failed", "failed ok failed", "failed skipped", "failed ok skipped"])
def test_the_last_row_that_is_no_skip_decides_whatever_the_name(tmp_path: Path, statuses: str, name: bytes) -> None:
    names = [b"./" + name if i % 2 else name for i in range(len(statuses.split()))]
    for spelling, status in zip(names, statuses.split(), strict=True):
        with StatusLog(tmp_path, "i3d") as log:
            log.add(Row(os.fsdecode(spelling), status, error=f"{os.fsdecode(name)}: no"))
            log.add(Row("another.mp4", "failed"))
    assert (tmp_path / "status.jsonl").read_bytes().isascii()
    assert [os.fsencode(logged) for logged in paths_in(tmp_path)[::2]] == names
    is_failed = statuses.removesuffix(" skipped").endswith("failed")
    failed = ["another.mp4", os.fsdecode(name)] if is_failed else ["another.mp4"]
    assert failed_before(tmp_path, "i3d") == set(map(os.path.abspath, failed))
    assert failed_before(tmp_path / "missing", "i3d") == set()


def add_row(folder: Path, shard: Shard | None, time: str, path: str, status: str) -> None:
    """Log a row as at a time of one day."""
    log = StatusLog(folder, "i3d", shard)
    log.add(Row(path, status, "truncated" if status == "failed" else None))
    log.close()
    name = f"status.{shard.number}-of-{shard.count}.jsonl" if shard else "status.jsonl"
    *lines, last = (folder / name).read_text().splitlines()
    last = json.dumps(json.loads(last) | {"time": f"2026-11-26T{time}+00:00"})
    (folder / name).write_text("\n".join([*lines, last, ""]))


def test_shards_have_logs_of_their_own_and_of_all_of_them_the_latest_row_counts(tmp_path: Path) -> None:
    add_row(tmp_path, Shard(1, 2), "10:00:03", "/a", "failed")
    add_row(tmp_path, Shard(2, 2), "10:00:01", "/b", "ok")
    add_row(tmp_path, Shard(2, 2), "10:00:05", "/a", "ok")
    add_row(tmp_path, Shard(2, 2), "10:00:06", "/c", "failed")
    add_row(tmp_path, None, "10:00:02", "/a", "ok")
    add_row(tmp_path, None, "10:00:04", "/b", "failed")
    add_row(tmp_path, Shard(12, 128), "10:00:00", "/d", "failed")
    names = {"status.jsonl", "status.1-of-2.jsonl", "status.2-of-2.jsonl", "status.12-of-128.jsonl"}
    assert {path.name for path in tmp_path.iterdir()} == names
    for other in ("status.1-of-2.jsonl~", "status.1.jsonl", "my status.jsonl", "status.a-of-b.jsonl"):
        (tmp_path / other).write_text(line("/e", "failed") + "\n")
    with open(tmp_path / "status.2-of-2.jsonl", "a") as file:
        file.write(line("/f", "failed")[:-1])  # torn
    assert [row["path"] for row in read_log(tmp_path, "i3d")] == ["/d", "/b", "/a", "/a", "/b", "/a", "/c"]
    assert failed_before(tmp_path, "i3d") == {"/b", "/c", "/d"}


def test_in_one_log_the_order_counts_also_when_clocks_differ(tmp_path: Path) -> None:
    add_row(tmp_path, Shard(1, 2), "10:00:05", "/a", "failed")
    add_row(tmp_path, Shard(1, 2), "10:00:01", "/a", "ok")
    add_row(tmp_path, Shard(2, 2), "10:00:03", "/b", "ok")
    assert failed_before(tmp_path, "i3d") == set()


def test_more_logs_than_a_program_may_have_open_are_read(tmp_path: Path) -> None:
    for number in range(1, 101):
        with StatusLog(tmp_path, "i3d", Shard(number, 100)) as log:
            log.add(Row(f"/{number}", "failed"))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 10, limits[1]))
        assert failed_before(tmp_path, "i3d") == {f"/{number}" for number in range(1, 101)}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_log_longer_than_what_is_read_at_once_is_read_whole(tmp_path: Path) -> None:
    paths = [f"/{i}" * 200 for i in range(3000)]
    assert sum(map(len, paths)) > 5 * MAX_LINE_BYTES
    (tmp_path / "status.jsonl").write_text("".join(line(path, "failed") + "\n" for path in paths))
    assert [row["path"] for row in read_log(tmp_path, "i3d")] == paths


def test_lines_that_say_nothing_change_nothing_and_rows_of_before_count(tmp_path: Path) -> None:
    strange = [
        b"",
        b"{",
        b"[" * 100_000,
        b"\0\xff\xfe",
        b'"failed"',
        b'{"status": "failed", "feature_type": "i3d"}',
        b'{"path": "/b.mp4", "status": "failed"}',
        b'{"path": ["/b.mp4"], "status": "failed", "feature_type": "i3d"}',
        b'{"path": "/b.mp4", "status": "failed", "feature_type": "i3d"',
        line("/a.mp4", "ok", "vggish").encode(),
        line("/b.mp4", "failed", "vggish").encode(),
    ]
    old = b'{"path":"/\\u00fc.mp4","status":"failed","losses":null,"feature_type":"i3d"}'
    with StatusLog(tmp_path, "i3d") as log:
        log.add(Row("/c.mp4", "failed", "disk_full", "no room"))
    with open(tmp_path / "status.jsonl", "ab") as file:
        file.write(b"\n".join([line("/a.mp4", "failed").encode(), *strange, old, strange[-1]]))
    assert failed_before(tmp_path, "i3d") == {"/a.mp4", "/ü.mp4"}
    assert [row["path"] for row in read_log(tmp_path, "i3d")] == ["/c.mp4", "/a.mp4", "/ü.mp4"]
