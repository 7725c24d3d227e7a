"""Workers and their queue, with extraction that fails in every way."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import count, repeat
from pathlib import Path

import pytest

from tests.helpers.oracles import REPOSITORY
from tests.helpers.processes import is_running, wait_until
from tests.helpers.worker_jobs import Start, attempts, noted, started
from utils.errors import CannotStartError
from utils.results import Row
from utils.workers import pool
from utils.workers.process import GRACE_SECONDS, UNGUARDED_STATUS


def rows_of(
    folder: Path, names: Iterable[str], devices: Iterable[str] = ("cpu",), timeout: float | None = None
) -> dict[str, Row]:
    names = list(names)
    rows = list(pool.run(Start(folder), list(devices), names, timeout))
    assert Counter(row.path for row in rows) == Counter(names), "each video ends once"
    assert not any(map(is_running, started(folder)))
    return {row.path: row for row in rows}


# Handing out


def test_all_workers_share_the_videos_and_start_once(tmp_path: Path) -> None:
    names = ["gather-1 of 2", "gather-2 of 2", *(f"ok-{i}" for i in range(20))]
    rows = rows_of(tmp_path, names, ["cpu", "cpu"])
    assert {row.status for row in rows.values()} == {"ok"}
    assert rows["ok-3"] == Row("ok-3", "ok", outputs=["ok-3.npy"], seconds=2.0, report="MainThread")
    assert len(started(tmp_path)) == 2


@pytest.mark.parametrize(
    ("num_videos", "expected"),
    [(0, {}), (1, {"cuda:0": 1}), (2, {"cuda:0": 1, "cuda:1": 1}), (3, {"cuda:0": 2, "cuda:1": 1})],
)
def test_as_many_workers_start_as_there_are_videos_and_one_on_each_device_first(
    tmp_path: Path, num_videos: int, expected: dict[str, int]
) -> None:
    names = [f"gather-{i} of {num_videos}" for i in range(num_videos)]
    rows_of(tmp_path, names, ["cuda:0", "cuda:0", "cuda:1", "cuda:1"])
    assert Counter(started(tmp_path).values()) == expected


def test_a_video_is_pulled_when_a_worker_is_free(tmp_path: Path) -> None:
    num_ended = []

    def videos() -> Iterator[str]:
        for i in range(4):
            num_ended.append(noted(tmp_path).count("end "))
            yield f"nap-{i}"

    assert len(list(pool.run(Start(tmp_path), ["cpu"], videos()))) == 4
    assert num_ended == [0, 1, 2, 3]


def test_rows_come_while_there_is_nothing_to_hand_out_which_costs_little(tmp_path: Path) -> None:
    def videos() -> Iterator[str | None]:
        yield "ok-1"
        while not has_come.is_set():
            time.sleep(0.01)
            yield None
        yield from repeat(None, 300_000)
        yield "ok-2"

    has_come = threading.Event()
    rows = pool.run(Start(tmp_path), ["cpu"], videos())
    assert next(rows).path == "ok-1"
    has_come.set()
    begin = time.process_time()
    assert [row.path for row in rows] == ["ok-2"]
    assert time.process_time() - begin < 1.5, "which a look at the workers for each would exceed"


# Videos that fail


def test_a_video_that_fails_fails_alone_and_at_once(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, ["ok-1", "bad-2", "bug-3", "ok-4"])
    assert [row.status for row in rows.values()] == ["ok", "failed", "failed", "ok"]
    assert (rows["bad-2"].reason, rows["bad-2"].error) == ("unreadable", "bad-2: no good")
    error = rows["bug-3"].error or ""
    assert rows["bug-3"].reason == "error"
    assert error.startswith("bug-3: Traceback")
    assert error.endswith("ZeroDivisionError: of zero by zero")
    assert len(started(tmp_path)) == 1


def test_a_video_that_ends_its_worker_or_lacks_memory_is_tried_twice(tmp_path: Path) -> None:
    expected = {
        "die-1": ("crashed", "die-1: the worker was killed by SIGKILL (tried twice)"),
        "exit-2": ("crashed", "exit-2: the worker ended with status 1 (tried twice)"),
        "break-3": ("crashed", "break-3: the device is in an error state (tried twice)"),
        "cramped-4": ("out_of_memory", "cramped-4: no room (tried twice)"),
    }
    twice = ["die once-5", "break once-6", "cramped once-7"]
    rows = rows_of(tmp_path, [*expected, *twice, "ok-8"], ["cpu", "cpu"])
    assert {path: (row.reason, row.error) for path, row in rows.items() if row.status == "failed"} == expected
    assert {path: attempts(tmp_path, path) for path in rows} == dict.fromkeys([*expected, *twice], 2) | {"ok-8": 1}


def test_the_second_try_comes_last_and_alone_on_the_device(tmp_path: Path) -> None:
    names = ["cramped once-1", "cramped once-2", "sleep-3", *(f"nap-{i}" for i in range(4, 10))]
    rows_of(tmp_path, names, ["cuda:0"] * 3)
    events = noted(tmp_path).splitlines()
    assert len(events) == 20
    assert sorted((events[-4:-2], events[-2:])) == [[f"begin {name}", f"end {name}"] for name in names[:2]]


def test_a_video_that_takes_too_long_twice_fails_and_its_worker_is_replaced(tmp_path: Path) -> None:
    names = ["hang-1", "stop-2", "hang once-3", *(f"ok-{i}" for i in range(4, 9))]
    rows = rows_of(tmp_path, names, ["cpu", "cpu"], timeout=0.7)
    for path in ("hang-1", "stop-2"):
        row = rows.pop(path)
        assert row.reason == "timeout"
        assert row.error == f"{path}: not done after 0.7 s (--timeout_per_video) (tried twice)"
    assert {row.status for row in rows.values()} == {"ok"}
    assert [attempts(tmp_path, name) for name in names[:4]] == [2, 2, 2, 1]


@pytest.mark.parametrize(
    ("num_workers", "name", "timeout", "reason"),
    [
        (1, "sleep-1", None, "timeout"),
        (1, "sleep for its length-1", None, "timeout"),
        (8, "sleep for its length-1", None, None),
        (8, "sleep for its length-1", 0.4, "timeout"),
    ],
)
def test_without_a_limit_a_video_may_take_ten_times_its_length_for_each_worker_on_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_workers: int, name: str, timeout: float, reason: str | None
) -> None:
    monkeypatch.setattr(pool, "MIN_LIMIT_SECONDS", 0.4)
    assert rows_of(tmp_path, [name], ["cpu"] * num_workers, timeout)[name].reason == reason


def test_an_error_that_all_videos_would_meet_stops_the_run_when_the_videos_in_hand_are_done(tmp_path: Path) -> None:
    rows = list(pool.run(Start(tmp_path), ["cpu", "cpu"], ["sleep-1", "full-2", "ok-3"]))
    assert {row.path: row.reason for row in rows} == {"sleep-1": None, "full-2": "disk_full"}
    assert attempts(tmp_path, "ok-3") == 0


def test_thirty_kills_at_random_moments_lose_no_video(tmp_path: Path) -> None:
    names = [f"nap-{i}" for i in range(250)]
    killed: set[int] = set()

    def kill_now_and_then() -> None:
        chance = random.Random(0)
        while len(killed) < 30 and not has_ended.wait(chance.uniform(0, 0.2)):
            if alive := [pid for pid in started(tmp_path) if pid not in killed and is_running(pid)]:
                killed.add(chance.choice(alive))
                os.kill(max(killed & set(alive)), signal.SIGKILL)

    def videos() -> Iterator[str | None]:
        yield from names
        for i in count():  # so that the work lasts
            if len(killed) == 30:
                return
            time.sleep(0.005)
            yield f"ok-{i}" if i % 4 == 0 else None

    has_ended = threading.Event()
    killer = threading.Thread(target=kill_now_and_then)
    killer.start()
    try:
        rows = [row for row in pool.run(Start(tmp_path), ["cpu"] * 3, videos()) if row.path in names]
    finally:
        has_ended.set()
        killer.join()
    assert len(killed) == 30
    assert Counter(row.path for row in rows) == Counter(names), "each video ends once"
    assert {row.reason for row in rows if row.status == "failed"} <= {"crashed"}
    assert 2 * sum(row.status == "failed" for row in rows) <= 30, "it takes two kills for a video to fail"
    assert max(attempts(tmp_path, name) for name in names) <= 2
    assert not any(map(is_running, started(tmp_path)))


# Workers that cannot start


@pytest.mark.parametrize(
    ("how", "message", "most_starts"),
    [
        ("refuse", "^the networks do not fit$", 1),
        ("bug", "RuntimeError: an unforeseen thing$", 1),
        ("hang", "was not ready after 1 s", 1),
        ("die", "SIGABRT", 3),
        ("be killed", "SIGKILL", 10),
    ],
)
def test_workers_that_cannot_start_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, message: str, most_starts: int
) -> None:
    if how == "hang":
        monkeypatch.setattr(pool, "MAX_START_SECONDS", 1.0)
    with pytest.raises(CannotStartError, match=message):
        list(pool.run(Start(tmp_path, how), ["cpu"], ["ok-1", "ok-2", "ok-3"]))
    assert len(started(tmp_path)) == most_starts
    assert not any(map(is_running, started(tmp_path)))


@pytest.mark.parametrize("how", ["refuse later", "die later"])
@pytest.mark.parametrize("device", ["cuda:0", "cuda:1"])
def test_the_workers_that_do_start_go_on_without_the_others(tmp_path: Path, how: str, device: str) -> None:
    names = [f"nap-{i}" for i in range(100)]
    rows = list(pool.run(Start(tmp_path, how), ["cuda:0", device], names))
    assert Counter(row.path for row in rows if row.status == "ok") == Counter(names)


def test_where_workers_started_before_more_starts_are_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "PATIENCE_SECONDS", 2.0)
    begin = time.monotonic()
    with pytest.raises(CannotStartError, match="SIGABRT"):
        list(pool.run(Start(tmp_path, "die later"), ["cpu"], ["die-1", "ok-2"]))
    assert time.monotonic() - begin > 2.0
    assert len(started(tmp_path)) > 4


# Programs that are interrupted, killed, or not guarded

PROGRAM = """
import multiprocessing
import sys
from pathlib import Path
from tests.helpers.worker_jobs import Start
from utils.workers.pool import run

folder, *names = sys.argv[1:]
{guard}
    try:
        for row in run(Start(Path(folder)), ["cpu", "cpu"], names):
            print(row.path, row.status, flush=True)
    except (KeyboardInterrupt, Exception) as error:
        print(type(error).__name__, error, flush=True)
"""
GUARDED = 'if __name__ == "__main__":'
UNGUARDED = (
    f'if getattr(multiprocessing.current_process(), "_inheriting", False):\n    sys.exit({UNGUARDED_STATUS})\nif True:'
)


def launch(folder: Path, *names: str, guard: str = GUARDED) -> "subprocess.Popen[str]":
    """Start a program of two workers, and wait until two videos are in hand."""
    (folder / "program.py").write_text(PROGRAM.format(guard=guard))
    process = subprocess.Popen(
        [sys.executable, str(folder / "program.py"), str(folder), *names],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    if guard == GUARDED:
        wait_until(lambda: noted(folder).count("begin ") == 2)
    return process


def test_the_first_interrupt_lets_the_videos_in_hand_end(tmp_path: Path) -> None:
    process = launch(tmp_path, "sleep-1", "sleep-2", "ok-3", "ok-4")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    said, complaints = process.communicate(timeout=20)
    assert sorted(said.split("\n")) == ["", "KeyboardInterrupt ", "sleep-1 ok", "sleep-2 ok"]
    assert complaints == "Stopping after the videos in hand; Ctrl-C again stops at once\n"
    assert noted(tmp_path).count("begin ") == 2
    assert not any(map(is_running, started(tmp_path)))


@pytest.mark.parametrize("signals", [[signal.SIGINT, signal.SIGINT], [signal.SIGTERM], [signal.SIGHUP]])
def test_a_second_interrupt_or_a_termination_stops_at_once(tmp_path: Path, signals: list[signal.Signals]) -> None:
    process = launch(tmp_path, "hang-1", "hang-2", "ok-3")
    for number in signals:
        process.send_signal(number)
        time.sleep(0.2)
    said, complaints = process.communicate(timeout=GRACE_SECONDS - 1)  # so the workers ended by themselves
    assert said == "KeyboardInterrupt \n"
    assert "Traceback" not in complaints
    assert not any(map(is_running, started(tmp_path)))


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    process = launch(tmp_path, "hang-1", "sleep-2")
    process.kill()
    wait_until(lambda: not any(map(is_running, started(tmp_path))), seconds=5)
    assert process.communicate(timeout=10) == ("", "")


def test_a_script_that_workers_would_start_anew_is_told_to_guard_itself(tmp_path: Path) -> None:
    said, complaints = launch(tmp_path, "ok-1", guard=UNGUARDED).communicate(timeout=20)
    assert said.splitlines() == [f"CannotStartError {pool.UNGUARDED}"]
    assert complaints == ""
