"""The workers and their queue, with work that fails in every way."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.oracles import REPOSITORY
from tests.processes import is_running, wait_until
from tests.worker_jobs import Job
from utils.workers import CannotStartError, Row, run


def rows_of(job: Job, num_workers: int, names: list[str]) -> dict[str, Row]:
    rows = list(run(job, ["cpu"] * num_workers, names))
    assert Counter(row.path for row in rows) == Counter(names), "each video ends once"
    return {row.path: row for row in rows}


def worker_pids(folder: Path) -> list[int]:
    return [int(path.name.split()[-1]) for path in folder.glob("started *")]


def test_all_videos_are_worked_on_by_all_workers(tmp_path: Path) -> None:
    names = [f"sleep-{i}" for i in range(2)] + [f"ok-{i}" for i in range(20)]
    rows = rows_of(Job(tmp_path), 2, names)
    assert {row.status for row in rows.values()} == {"ok"}
    assert rows["ok-3"] == Row("ok-3", "ok", None, None, ["ok-3.npy"], 2.0, "report of ok-3")
    assert len({(tmp_path / name).read_text() for name in ("sleep-0", "sleep-1")}) == 2
    assert len(worker_pids(tmp_path)) == 2, "a worker starts once, not for each video"


def test_no_more_workers_start_than_there_are_videos(tmp_path: Path) -> None:
    rows_of(Job(tmp_path), 4, ["ok-1"])
    assert len(worker_pids(tmp_path)) == 1
    assert list(run(Job(tmp_path), ["cpu"], [])) == []


def test_a_video_that_fails_fails_alone(tmp_path: Path) -> None:
    rows = rows_of(Job(tmp_path), 1, ["ok-1", "bad-2", "bug-3", "ok-4"])
    assert [rows[name].status for name in ("ok-1", "ok-4")] == ["ok", "ok"]
    assert (rows["bad-2"].reason, rows["bad-2"].error) == ("unreadable", "bad-2: no good")
    assert rows["bug-3"].reason == "error"
    assert "Traceback" in (rows["bug-3"].error or "")
    assert "ZeroDivisionError" in (rows["bug-3"].error or "")
    assert len(worker_pids(tmp_path)) == 1


def test_a_video_that_kills_its_worker_is_tried_twice_and_then_fails(tmp_path: Path) -> None:
    rows = rows_of(Job(tmp_path), 2, ["ok-1", "die-2", "die once-3", *(f"ok-{i}" for i in range(4, 12))])
    assert rows.pop("die-2").reason == "crashed"
    assert {row.status for row in rows.values()} == {"ok"}
    assert len((tmp_path / "die-2").read_text().split()) == 2
    assert len((tmp_path / "die once-3").read_text().split()) == 2


def test_a_worker_killed_from_outside_at_any_moment_loses_no_video(tmp_path: Path) -> None:
    names = [f"nap-{i}" for i in range(200)]
    stop = threading.Event()
    killed: set[int] = set()

    def kill_now_and_then() -> None:
        while not stop.wait(0.25) and len(killed) < 8:
            alive = [pid for pid in worker_pids(tmp_path) if pid not in killed and is_running(pid)]
            if alive:
                os.kill(alive[0], signal.SIGKILL)
                killed.add(alive[0])

    killer = threading.Thread(target=kill_now_and_then)
    killer.start()
    try:
        rows = rows_of(Job(tmp_path), 2, names)
    finally:
        stop.set()
        killer.join()
    assert len(killed) >= 4
    assert all(row.reason == "crashed" for row in rows.values() if row.status == "failed")
    assert sum(row.status == "ok" for row in rows.values()) >= len(names) - 5


@pytest.mark.parametrize(
    ("start", "message"), [("refuse", "^the networks do not fit$"), ("bug", "unforeseen"), ("die", "SIGKILL")]
)
def test_workers_that_cannot_start_end_the_run(tmp_path: Path, start: str, message: str) -> None:
    with pytest.raises(CannotStartError, match=message):
        list(run(Job(tmp_path, start), ["cpu", "cpu"], ["ok-1", "ok-2", "ok-3"]))
    wait_until(lambda: not any(map(is_running, worker_pids(tmp_path))))
    assert len(worker_pids(tmp_path)) <= 5


PROGRAM = """
import sys
from pathlib import Path
from tests.worker_jobs import Job
from utils.workers import run

if __name__ == "__main__":
    try:
        for row in run(Job(Path(sys.argv[1])), ["cpu", "cpu"], sys.argv[2:]):
            print(row.path, row.status, flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., "subprocess.Popen[str]"]:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)

    def start(*names: str) -> "subprocess.Popen[str]":
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        command = [sys.executable, str(script), str(tmp_path), *names]
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    return start


def test_the_first_interrupt_lets_the_videos_in_hand_end(
    tmp_path: Path, program: Callable[..., "subprocess.Popen[str]"]
) -> None:
    process = program("sleep-1", "sleep-2", "ok-3", "ok-4")
    wait_until(lambda: (tmp_path / "sleep-1").exists() and (tmp_path / "sleep-2").exists())
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    said, complaints = process.communicate(timeout=20)
    assert sorted(said.splitlines()) == ["interrupted", "sleep-1 ok", "sleep-2 ok"]
    assert "Traceback" not in complaints
    assert not (tmp_path / "ok-3").exists()
    assert not any(map(is_running, worker_pids(tmp_path)))


@pytest.mark.parametrize("signals", [[signal.SIGINT, signal.SIGINT], [signal.SIGTERM]])
def test_a_second_interrupt_or_a_termination_stops_at_once(
    tmp_path: Path, program: Callable[..., "subprocess.Popen[str]"], signals: list[signal.Signals]
) -> None:
    process = program("hang-1", "hang-2", "ok-3")
    wait_until(lambda: (tmp_path / "hang-1").exists() and (tmp_path / "hang-2").exists())
    for number in signals:
        process.send_signal(number)
        time.sleep(0.2)
    said, complaints = process.communicate(timeout=10)
    assert said.splitlines() == ["interrupted"]
    assert "Traceback" not in complaints
    assert not any(map(is_running, worker_pids(tmp_path)))


def test_workers_end_when_their_parent_is_killed(
    tmp_path: Path, program: Callable[..., "subprocess.Popen[str]"]
) -> None:
    process = program("hang-1", "hang-2")
    wait_until(lambda: (tmp_path / "hang-1").exists() and (tmp_path / "hang-2").exists())
    process.kill()
    process.communicate(timeout=10)
    wait_until(lambda: not any(map(is_running, worker_pids(tmp_path))), seconds=5)
