"""The workers and their queue, with work that fails in every way."""

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.oracles import REPOSITORY
from tests.helpers.processes import is_running, wait_until
from tests.helpers.worker_jobs import Job
from utils.errors import CannotStartError
from utils.results import Row
from utils.workers import pool as workers
from utils.workers.pool import run
from utils.workers.process import GRACE_SECONDS


@pytest.fixture(params=[1, 3])
def lanes(request: pytest.FixtureRequest) -> int:
    """How many videos a worker has in hand."""
    number: int = request.param
    return number


def rows_of(
    job: Job, num_workers: int, names: list[str], timeout: float | None = None, lanes: int = 1
) -> dict[str, Row]:
    rows = list(run(job, ["cpu"] * num_workers, names, timeout, lambda device: lanes))
    assert Counter(row.path for row in rows) == Counter(names), "each video ends once"
    return {row.path: row for row in rows}


def worker_pids(folder: Path) -> list[int]:
    return [int(path.name.split()[-1]) for path in folder.glob("started *")]


def pids_of(folder: Path, name: str) -> list[int]:
    """Of the workers that tried a video, in turn."""
    return [int(line) for line in (folder / name).read_text().splitlines()]


def test_all_videos_are_worked_on_by_all_workers(tmp_path: Path) -> None:
    names = [f"sleep-{i}" for i in range(2)] + [f"ok-{i}" for i in range(20)]
    rows = rows_of(Job(tmp_path), 2, names)
    assert {row.status for row in rows.values()} == {"ok"}
    assert rows["ok-3"] == Row("ok-3", "ok", None, None, ["ok-3.npy"], 2.0, "report of ok-3")
    assert len({(tmp_path / name).read_text() for name in ("sleep-0", "sleep-1")}) == 2
    assert len(worker_pids(tmp_path)) == 2, "a worker starts once, not for each video"


def test_no_more_workers_start_than_there_are_videos(tmp_path: Path, lanes: int) -> None:
    rows_of(Job(tmp_path), 4, ["ok-1"], lanes=lanes)
    assert len(worker_pids(tmp_path)) == 1
    assert list(run(Job(tmp_path), ["cpu"], [])) == []


def test_a_video_that_fails_fails_alone(tmp_path: Path, lanes: int) -> None:
    rows = rows_of(Job(tmp_path), 1, ["ok-1", "bad-2", "bug-3", "ok-4"], lanes=lanes)
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


def test_fifty_kills_at_random_moments_lose_no_video(tmp_path: Path, lanes: int) -> None:
    names = [f"nap-{i}" for i in range(600)]
    chance = random.Random(0)
    stop = threading.Event()
    killed: set[int] = set()

    def kill_now_and_then() -> None:
        while not stop.wait(chance.uniform(0, 0.25)) and len(killed) < 50:
            alive = [pid for pid in worker_pids(tmp_path) if pid not in killed and is_running(pid)]
            if alive:
                pid = chance.choice(alive)
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)

    killer = threading.Thread(target=kill_now_and_then)
    killer.start()
    try:
        videos = slowly(names, lambda: len(killed) < 50)
        all_rows = run(Job(tmp_path), ["cpu"] * 3, videos, num_lanes=lambda device: lanes)
        rows = [row for row in all_rows if row.path.startswith("nap")]
    finally:
        stop.set()
        killer.join()
    assert len(killed) == 50
    assert Counter(row.path for row in rows) == Counter(names), "each video ends once"
    assert {row.reason for row in rows if row.status == "failed"} <= {"crashed"}
    assert 2 * sum(row.status == "failed" for row in rows) <= 50, "it takes two kills for a video to fail"
    for row in rows:
        attempts = len((tmp_path / row.path).read_text().split()) if (tmp_path / row.path).exists() else 0
        assert attempts <= (2 if lanes == 1 else 3)
    assert not any(map(is_running, worker_pids(tmp_path)))


def slowly(names: list[str], go_on: Callable[[], bool]) -> Iterator[str | Row]:
    """The names, and then others for as long as asked for, so that the work lasts."""
    yield from names
    for i in itertools.count():
        if not go_on():
            return
        time.sleep(0.005)
        yield f"ok-{i}" if i % 4 == 0 else Row(f"seen-{i}", "skipped")


def test_a_video_that_takes_too_long_fails_and_its_worker_is_replaced(tmp_path: Path, lanes: int) -> None:
    rows = rows_of(Job(tmp_path), 2, ["hang-1", "stop-2", *(f"ok-{i}" for i in range(3, 9))], 1.0, lanes)
    for name in ("hang-1", "stop-2"):
        row = rows.pop(name)
        assert (row.status, row.reason) == ("failed", "timeout")
        assert "not done after 1 s (--timeout_per_video)" in (row.error or "")
        if lanes == 1:
            assert len((tmp_path / name).read_text().split()) == 1, "it is not tried again"
    assert {row.status for row in rows.values()} == {"ok"}
    assert not any(map(is_running, worker_pids(tmp_path)))


def test_without_a_limit_a_video_may_take_ten_times_its_length(
    tmp_path: Path, lanes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "MIN_LIMIT_SECONDS", 0.5)
    rows = rows_of(Job(tmp_path), 1, ["long-1", "sleep-2"], lanes=lanes)
    assert rows["long-1"].status == "ok", "of 1000 s"
    assert rows["sleep-2"].reason == "timeout", "of unknown length"
    rows = rows_of(Job(tmp_path), 1, ["long-3"], 0.5, lanes)
    assert rows["long-3"].reason == "timeout", "a limit that is given holds for all"


def test_a_worker_that_breaks_is_replaced_and_its_video_tried_again(tmp_path: Path) -> None:
    rows = rows_of(Job(tmp_path), 1, ["break-1", "ok-2"])
    assert rows["break-1"].reason == "crashed"
    assert "the device is in an error state" in (rows["break-1"].error or "")
    assert rows["ok-2"].status == "ok"
    assert len(worker_pids(tmp_path)) == 3


def test_an_error_that_all_videos_would_meet_stops_the_run(tmp_path: Path) -> None:
    rows = list(run(Job(tmp_path), ["cpu"], ["ok-1", "full-2", "ok-3", "ok-4"]))
    assert [(row.path, row.status, row.reason) for row in rows] == [
        ("ok-1", "ok", None),
        ("full-2", "failed", "disk_full"),
    ]
    assert not any(map(is_running, worker_pids(tmp_path)))


def test_a_video_that_there_is_nothing_to_do_for_is_skipped(tmp_path: Path, lanes: int) -> None:
    assert rows_of(Job(tmp_path), 1, ["done-1"], lanes=lanes) == {"done-1": Row("done-1", "skipped")}


def test_rows_among_the_videos_are_given_as_they_are_and_need_no_worker(tmp_path: Path) -> None:
    row = Row("a.mp4", "skipped")
    assert list(run(Job(tmp_path), ["cpu"], [row])) == [row]
    assert worker_pids(tmp_path) == []


def test_work_begins_before_all_videos_have_been_looked_at(tmp_path: Path) -> None:
    def videos() -> Iterator[str | Row]:
        yield "ok-1"
        for i in range(100_000):
            if (tmp_path / "ok-1").exists():
                return
            time.sleep(0.01)
            yield Row(f"{i}.mp4", "skipped")

    rows = list(run(Job(tmp_path), ["cpu"], videos()))
    assert rows[-1].path == "ok-1" or rows[-2].path == "ok-1"
    assert 1 < len(rows) < 10_000


def test_a_device_that_no_worker_starts_on_is_done_without(tmp_path: Path) -> None:
    names = [f"nap-{i}" for i in range(20)]
    rows = list(run(Job(tmp_path, "die on cuda:1"), ["cuda:0", "cuda:1"], names))
    assert Counter(row.path for row in rows if row.status == "ok") == Counter(names)


def test_a_worker_that_hangs_at_start_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "MAX_START_SECONDS", 2.0)
    with pytest.raises(CannotStartError, match="was not ready after 2 s"):
        list(run(Job(tmp_path, "hang"), ["cpu"], ["ok-1"]))
    assert not any(map(is_running, worker_pids(tmp_path)))


@pytest.mark.parametrize(
    ("start", "message", "most_starts"),
    [
        ("refuse", "^the networks do not fit$", 1),
        ("bug", "unforeseen", 1),
        ("die", "SIGABRT", 3),
        ("be killed", "SIGKILL", 10),
    ],
)
def test_workers_that_cannot_start_end_the_run(tmp_path: Path, start: str, message: str, most_starts: int) -> None:
    with pytest.raises(CannotStartError, match=message):
        list(run(Job(tmp_path, start), ["cpu", "cpu"], ["ok-1", "ok-2", "ok-3"]))
    wait_until(lambda: not any(map(is_running, worker_pids(tmp_path))))
    assert len(worker_pids(tmp_path)) <= 2 * most_starts


def test_where_workers_started_before_more_patience_is_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PATIENCE_SECONDS", 2.0)
    start = time.monotonic()
    with pytest.raises(CannotStartError, match="SIGABRT"):
        list(run(Job(tmp_path, "die once ready"), ["cpu"], ["die-1", "ok-2"]))
    assert time.monotonic() - start > 2.0
    assert len(worker_pids(tmp_path)) > 4


PROGRAM = """
import sys
from pathlib import Path
from tests.helpers.worker_jobs import Job
from utils.workers.pool import run

if __name__ == "__main__":
    try:
        folder, num_workers, lanes, *names = sys.argv[1:]
        for row in run(Job(Path(folder)), ["cpu"] * int(num_workers), names, None, lambda device: int(lanes)):
            print(row.path, row.status, flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


@pytest.fixture(params=[(2, 1), (1, 2)])
def program(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., "subprocess.Popen[str]"]:
    """Starts a program that has two videos in hand: of two workers, or of one."""
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)

    def start(*names: str) -> "subprocess.Popen[str]":
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        command = [sys.executable, str(script), str(tmp_path), *map(str, request.param), *names]
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
    said, complaints = process.communicate(timeout=GRACE_SECONDS - 1)  # so the workers ended by themselves
    assert said.splitlines() == ["interrupted"]
    assert "Traceback" not in complaints
    assert not any(map(is_running, worker_pids(tmp_path)))


def test_workers_end_when_their_parent_is_killed(
    tmp_path: Path, program: Callable[..., "subprocess.Popen[str]"]
) -> None:
    process = program("hang-1", "hang-2")
    wait_until(lambda: (tmp_path / "hang-1").exists() and (tmp_path / "hang-2").exists())
    process.kill()
    _, complaints = process.communicate(timeout=10)
    wait_until(lambda: not any(map(is_running, worker_pids(tmp_path))), seconds=5)
    assert "Traceback" not in complaints


# Several videos in hand


def test_several_videos_are_worked_on_at_once_and_their_rows_come_as_they_end(tmp_path: Path) -> None:
    names = ["sleep-0", "gather-1 of 2", "gather-2 of 2", "bad-3"]
    rows = list(run(Job(tmp_path), ["cpu"], names, None, lambda device: 3))
    assert {row.path: row.status for row in rows} == dict(zip(names, ["ok", "ok", "ok", "failed"], strict=True))
    assert rows[-1].path == "sleep-0"
    assert len(worker_pids(tmp_path)) == 1


def test_one_video_at_a_time_is_worked_on_in_the_main_thread(tmp_path: Path, lanes: int) -> None:
    (row,) = rows_of(Job(tmp_path), 1, ["tell thread-1"], lanes=lanes).values()
    assert (row.report == "MainThread") == (lanes == 1)


@pytest.mark.parametrize(
    ("num_videos", "num_workers", "shares"),
    [(2, 2, [1, 1]), (4, 2, [2, 2]), (5, 2, [2, 3]), (4, 3, [1, 1, 2]), (3, 1, [3])],
)
def test_few_videos_are_spread_over_the_workers(
    tmp_path: Path, num_videos: int, num_workers: int, shares: list[int]
) -> None:
    names = [f"gather-{i} of {num_videos}" for i in range(num_videos)]
    rows_of(Job(tmp_path), num_workers, names, lanes=3)
    taken = Counter(pid for name in names for pid in pids_of(tmp_path, name))
    assert sorted(taken.values()) == shares


def test_a_worker_is_hired_rather_than_giving_another_one_a_second_video(tmp_path: Path) -> None:
    def videos() -> Iterator[str | Row]:
        yield "gather-0 of 2"
        while not (tmp_path / "gather-0 of 2").exists():
            time.sleep(0.01)
            yield Row("seen", "skipped")
        yield "gather-1 of 2"

    rows = [row for row in run(Job(tmp_path), ["cpu"] * 2, videos(), None, lambda device: 3) if row.path != "seen"]
    assert [row.status for row in rows] == ["ok", "ok"]
    assert pids_of(tmp_path, "gather-0 of 2") != pids_of(tmp_path, "gather-1 of 2")


def test_each_device_has_as_many_in_hand_as_it_may(tmp_path: Path) -> None:
    names = [f"gather-{i} of 4" for i in range(4)] + [f"ok-{i}" for i in range(4)]
    rows = run(Job(tmp_path), ["cpu", "cuda:0"], names, None, lambda device: 1 if device == "cpu" else 3)
    assert {row.status for row in rows} == {"ok"}
    devices = {path.name.split()[-1]: path.name.split()[1] for path in tmp_path.glob("started *")}
    taken = Counter(devices[str(pid)] for name in names[:4] for pid in pids_of(tmp_path, name))
    assert taken == {"cpu": 1, "cuda:0": 3}


def test_of_several_videos_whose_worker_dies_only_that_which_does_it_alone_fails(tmp_path: Path) -> None:
    guilty, innocent = "die among-0", ["hang once-1", "hang once-2"]
    videos = slowly([guilty, *innocent], lambda: len(company) < 8)  # there are always others that could be handed out
    company: list[str] = []
    rows = {}
    for row in run(Job(tmp_path), ["cpu"], videos, None, lambda device: 3):
        rows[row.path] = row
        company = (tmp_path / "company").read_text().splitlines() if (tmp_path / "company").exists() else []
    assert rows.pop(guilty).reason == "crashed"
    assert "failed" not in {row.status for row in rows.values()}
    assert company[2] == ", ".join(sorted([guilty, *innocent]))
    assert company[3:7] == [guilty, guilty, *innocent], "each alone, the guilty one twice, before the others"
    assert all(name.startswith("ok") for line in company[7:] for name in line.split(", "))


def test_a_death_among_others_is_held_against_no_video(tmp_path: Path) -> None:
    rows = rows_of(Job(tmp_path), 1, ["die twice among-0", "hang once-1", "hang once-2"], lanes=3)
    assert {row.status for row in rows.values()} == {"ok"}


def test_a_video_whose_worker_dies_with_nothing_else_in_hand_is_tried_once_more(tmp_path: Path, lanes: int) -> None:
    rows = rows_of(Job(tmp_path), 1, ["die-1"], lanes=lanes)
    assert "was killed by SIGKILL, 2 times on this video" in (rows["die-1"].error or "")
    assert len(pids_of(tmp_path, "die-1")) == 2


def test_of_several_videos_whose_worker_breaks_only_that_which_breaks_it_alone_fails(tmp_path: Path) -> None:
    rows = rows_of(Job(tmp_path), 1, ["break among-0", "hang once-1", "hang once-2"], lanes=3)
    broken = rows.pop("break among-0")
    assert broken.reason == "crashed"
    assert "the device is in an error state, 2 times on this video" in (broken.error or "")
    assert {row.status for row in rows.values()} == {"ok"}


def test_a_video_that_ends_the_process_costs_no_other_one(tmp_path: Path, lanes: int) -> None:
    rows = rows_of(Job(tmp_path), 1, ["exit-1", *(f"nap-{i}" for i in range(5))], lanes=lanes)
    ended = rows.pop("exit-1")
    assert ended.reason == "crashed"
    assert "ended with status 1" in (ended.error or "")
    assert {row.status for row in rows.values()} == {"ok"}


def test_of_several_videos_only_that_which_takes_too_long_alone_fails_and_the_others_begin_anew(tmp_path: Path) -> None:
    names = ["hang-0", "sleep-1", "sleep-2", "pair-3", "pair-4"]
    rows = rows_of(Job(tmp_path), 2, names[:1], timeout=1.5, lanes=3)
    assert rows["hang-0"].reason == "timeout"
    assert len(pids_of(tmp_path, "hang-0")) == 1, "it was alone"
    rows = rows_of(Job(tmp_path), 1, names, timeout=1.5, lanes=3)
    assert rows.pop("hang-0").reason == "timeout"
    assert {row.status for row in rows.values()} == {"ok"}, "the pair is in hand at once again, under no suspicion"
    assert [len(pids_of(tmp_path, name)) for name in names] == [3, 1, 1, 2, 2]


def test_a_video_that_another_one_keeps_waiting_too_long_is_tried_alone(tmp_path: Path) -> None:
    names = ["stop among-0", "hang once-1", "hang once-2"]
    rows = rows_of(Job(tmp_path), 1, names, timeout=0.7, lanes=3)
    assert rows.pop("stop among-0").reason == "timeout"
    assert {row.status for row in rows.values()} == {"ok"}
    assert [len(pids_of(tmp_path, name)) for name in names] == [2, 2, 2]


def test_what_is_in_hand_ends_where_an_error_stops_the_run(tmp_path: Path) -> None:
    rows = list(run(Job(tmp_path), ["cpu"], ["full-0", "sleep-1", "ok-2"], None, lambda device: 2))
    assert [(row.path, row.reason) for row in rows] == [("full-0", "disk_full"), ("sleep-1", None)]
    assert not (tmp_path / "ok-2").exists()


@pytest.mark.parametrize("name", ["cramped among-0", "crossed among-0"])
def test_a_video_that_lacks_room_or_meets_an_unforeseen_error_among_others_is_tried_alone(
    tmp_path: Path, name: str
) -> None:
    names = [name, "sleep-1", "sleep-2", "nap-3"]
    rows = rows_of(Job(tmp_path), 1, names, lanes=3)
    assert {row.status for row in rows.values()} == {"ok"}
    assert len(pids_of(tmp_path, name)) == 2
    assert len(worker_pids(tmp_path)) == 1
