"""The job on a cluster: real Ray, of which several nodes run on this machine."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import utils.cluster  # noqa: F401, which tells Ray how to start
from tests.cli.test_every_extractor import CASES
from tests.helpers import program
from tests.helpers.clips import write_numbered_clip
from tests.helpers.oracles import REPOSITORY
from tests.helpers.processes import is_running, wait_until
from tests.helpers.program import VGGISH, ended, launch, rows_of, run_program, saving
from tests.helpers.sounds import chord, write_wav
from tests.helpers.worker_jobs import attempts, noted, started
from utils.errors import CannotStartError
from utils.results import Row

HAS_RAY = importlib.util.find_spec("ray") is not None
pytestmark = pytest.mark.slow
NUM_NODES = 3
MAX_SECONDS = 300.0  # for a test, however busy the machine is
# A node that has died is found dead within some two seconds, and not ten.
HEALTH_CHECKS = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 3,
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Three nodes of one core."""
    if not HAS_RAY and not os.environ.get("CI"):
        pytest.skip("Ray is not installed")
    from ray.cluster_utils import Cluster

    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # the paths of sockets may have 107 characters only
    head = {"num_cpus": 1, "include_dashboard": False, "include_log_monitor": False, "temp_dir": folder}
    cluster = Cluster(initialize_head=True, head_node_args={**head, "_system_config": HEALTH_CHECKS})
    try:
        for _ in range(NUM_NODES - 1):
            cluster.add_node(wait=False, num_cpus=1)
        cluster.wait_for_nodes()
        yield cluster
    finally:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def _watchdog() -> Iterator[None]:
    """Have a test that hangs fail, and again where its cleaning up hangs, too."""

    def fail(*_: object) -> None:
        raise TimeoutError(f"not done after {MAX_SECONDS:.0f} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, MAX_SECONDS, MAX_SECONDS / 4)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def work(cluster: Any, folder: Path, paths: list[str], timeout: float | None = None, **job: Any) -> Iterator[Row]:
    from tests.helpers.cluster_jobs import ClusterJob
    from utils.cluster import driver

    slots = driver.Cluster(cluster.address, cpus_per_slot=1, max_slots=None)
    return driver.run(ClusterJob(folder, **job), slots, paths, timeout)


def start_on_one_core(*arguments: object, output: Path) -> "subprocess.Popen[str]":
    """A run without Ray, with one thread, as slots of one core have: sums on a CPU depend on the number of threads."""
    core = min(os.sched_getaffinity(0))
    return program.start(*arguments, *saving(output), preexec_fn=lambda: os.sched_setaffinity(0, {core}))


def nodes_that_worked(folder: Path) -> set[str]:
    return {line for line in noted(folder).splitlines() if line.startswith("node ")}


def test_videos_that_fail_in_every_way_get_the_rows_of_one_machine_and_cost_no_slot(
    cluster: Any, tmp_path: Path
) -> None:
    paths = [f"nap-{i}" for i in range(30)]
    paths += ["die-1", "die once-1", "hang-1", "bad-1", "bug-1", "cramped-1", "break-1"]
    rows = {row.path: row for row in work(cluster, tmp_path, [*paths, "odd \udcff-1"], timeout=2.0)}
    assert {path: row.reason for path, row in rows.items() if row.status == "failed"} == {
        "die-1": "crashed",
        "hang-1": "timeout",
        "bad-1": "unreadable",
        "bug-1": "error",
        "cramped-1": "out_of_memory",
        "break-1": "crashed",
    }
    assert {path for path, row in rows.items() if row.status == "ok"} == {*paths[:30], "die once-1", "odd \udcff-1"}
    assert rows["die-1"].error == "die-1: the worker was killed by SIGKILL (tried twice)"
    twice = {"die-1", "die once-1", "hang-1", "cramped-1", "break-1"}
    assert {path: attempts(tmp_path, path) for path in paths} == {path: 1 + (path in twice) for path in paths}
    assert len(nodes_that_worked(tmp_path)) == NUM_NODES


def test_a_video_that_loses_its_node_twice_has_failed_and_no_other_one_has(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("utils.cluster.driver.MANY_SLOTS", 1)  # so that chunks have several videos
    paths = ["kill slot-1", *(f"nap-{i}" for i in range(100))]
    rows = list(work(cluster, tmp_path, paths))
    assert sorted(row.path for row in rows) == sorted(paths)
    (failed,) = (row for row in rows if row.status == "failed")
    assert (failed.path, failed.reason) == ("kill slot-1", "crashed")
    assert failed.error == "kill slot-1: the node that worked on it was lost (tried twice)"
    assert attempts(tmp_path, "kill slot-1") == 2


def test_what_a_lost_node_had_in_hand_is_done_by_others_and_a_node_that_joins_gets_work(
    cluster: Any, tmp_path: Path
) -> None:
    paths = [f"pause-{i}" for i in range(60)]
    counts: Counter[str] = Counter()
    for row in work(cluster, tmp_path, paths):
        assert row.status in ("ok", "skipped"), row.error  # skipped, where the row was lost and not the features
        counts[row.path] += 1
        if len(counts) == 10:
            cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
            cluster.add_node(num_cpus=1)
    assert counts == dict.fromkeys(paths, 1)
    assert sum(attempts(tmp_path, path) == 2 for path in paths) <= 1  # what it had in hand
    assert {noted(tmp_path).count(f"end {path}\n") for path in paths} == {1}
    assert len(nodes_that_worked(tmp_path)) == NUM_NODES + 1


def test_slots_that_cannot_work_take_no_videos_and_where_none_can_the_run_ends_and_says_why(
    cluster: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = [f"pause-{i}" for i in range(6)]
    assert Counter(row.status for row in work(cluster, tmp_path, paths, num_unfit=NUM_NODES - 1)) == {"ok": 6}
    assert len(nodes_that_worked(tmp_path)) == 1
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(CannotStartError, match=r"this node sees nothing \(node [\d.]+\)"):
        list(work(cluster, other, paths, num_unfit=NUM_NODES))
    assert noted(other) == ""


def test_no_video_fails_or_runs_where_workers_cannot_start(cluster: Any, tmp_path: Path) -> None:
    with pytest.raises(CannotStartError, match="the networks do not fit"):
        list(work(cluster, tmp_path, ["ok-1"], how="refuse"))
    assert noted(tmp_path) == ""


def test_ctrl_c_once_lets_videos_in_hand_end_and_begins_no_others(cluster: Any, tmp_path: Path) -> None:
    rows: list[Row] = []
    num_begun = 0

    def interrupt_after_first_row() -> None:
        nonlocal num_begun
        for row in work(cluster, tmp_path, [f"sleep-{i}" for i in range(2000)]):
            if not rows:
                signal.raise_signal(signal.SIGINT)
                num_begun = noted(tmp_path).count("begin sleep")
            rows.append(row)

    with pytest.raises(KeyboardInterrupt):
        interrupt_after_first_row()
    assert {row.status for row in rows} == {"ok"}
    assert len(rows) <= num_begun + 2 * NUM_NODES  # as slots ask once a second whether to go on
    events = noted(tmp_path)
    assert events.count("begin sleep") == events.count("end sleep") == len(rows)
    wait_until(lambda: not any(map(is_running, started(tmp_path))))


def test_ctrl_c_twice_stops_at_once(cluster: Any, tmp_path: Path) -> None:
    def interrupt_twice() -> None:
        wait_until(lambda: "begin hang" in noted(tmp_path), seconds=60)
        before = signal.getsignal(signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        wait_until(lambda: signal.getsignal(signal.SIGINT) is not before)  # two at once would count as one
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt_twice)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        list(work(cluster, tmp_path, ["hang-1", "hang-2"]))
    thread.join()
    wait_until(lambda: not any(map(is_running, started(tmp_path))))


def test_a_driver_that_is_killed_leaves_no_slots(cluster: Any, tmp_path: Path) -> None:
    paths = [f"pause-{i}" for i in range(1000)]
    command = [sys.executable, "-m", "tests.helpers.cluster_jobs", cluster.address, str(tmp_path), *paths]
    process = launch(command, cwd=REPOSITORY)
    wait_until(lambda: noted(tmp_path).count("end pause") >= 5, seconds=60)
    process.kill()
    process.communicate()
    wait_until(lambda: not any(map(is_running, started(tmp_path))))
    num_begun = noted(tmp_path).count("begin pause")
    time.sleep(1)
    assert noted(tmp_path).count("begin pause") == num_begun


def test_features_are_those_of_one_machine_to_the_bit_also_after_an_interruption(cluster: Any, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    (videos / "a b").mkdir(parents=True)
    for number in range(9):
        write_wav(videos / "a b" / f"sound {number}.wav", chord(4.0 + number, 16_000), 16_000)
    one_machine = start_on_one_core(*VGGISH, "--video_paths", videos, output=tmp_path / "plain")
    output = tmp_path / "ray"
    arguments = [*VGGISH[:-2], "--ray", cluster.address, "--cpus_per_slot", 1, "--video_paths", videos]
    process = program.start(*arguments, *saving(output))
    wait_until(lambda: len(rows_of(output)) >= 1, seconds=120)
    process.send_signal(signal.SIGINT)
    interrupted = ended(process, output)
    assert interrupted.status == 130
    assert 1 <= len(interrupted.files) < 9
    assert len(interrupted.paths("ok")) == len(interrupted.files)
    rest = run_program(*arguments, output=output)
    plain = ended(one_machine, tmp_path / "plain")
    assert (plain.status, rest.status) == (0, 0)
    assert len(rest.paths("ok")) == 9 - len(interrupted.files)
    assert rest.files == plain.files
    again = run_program(*arguments, "--max_slots", 1, output=output)
    assert (again.status, len(again.paths("skipped"))) == (0, 9)


@pytest.mark.parametrize("feature_type", [name for name in CASES if name != "vggish"])
def test_features_of_frames_are_those_of_one_machine_to_the_bit(
    feature_type: str, cluster: Any, tmp_path: Path
) -> None:
    clips = [write_numbered_clip(tmp_path / f"clip {number}.mp4", 10 + number) for number in range(3)]
    command = ["--feature_type", feature_type, *CASES[feature_type].options, "--extraction_fps", 25]
    one_machine = start_on_one_core(*command, "--device_ids", "cpu", "--video_paths", *clips, output=tmp_path / "plain")
    slots = ["--ray", cluster.address, "--cpus_per_slot", 1, "--max_slots", 2]
    arguments = [*command, *slots, "--video_paths", *clips, tmp_path / "none.mp4"]
    distributed = run_program(*arguments, output=tmp_path / "ray")
    plain = ended(one_machine, tmp_path / "plain")
    assert (plain.status, distributed.status) == (0, 1)
    assert distributed.row("none.mp4")["reason"] == "not_found"
    assert distributed.files == plain.files
    assert len(plain.files) == 3


@pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed")
def test_an_address_that_nobody_answers_is_one_line_and_status_3(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        run = run_program(*VGGISH[:-2], "--ray", address, "--quiet", "--video_paths", "a.wav")
    assert run.status == 3
    (line,) = (line for line in run.stderr.splitlines() if "UNTRAINED" not in line)
    assert line == f"main.py: cannot start: --ray {address}: [Errno 111] Connection refused"
