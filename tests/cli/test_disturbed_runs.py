"""Runs that are disturbed, and what they leave: full disks, killed workers, interrupts, two programs at once."""

import contextlib
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.test_bad_videos import bound_by_permissions
from tests.helpers.processes import running_in, wait_until, workers_of
from tests.helpers.program import VGGISH, ended, lines_until, run_program, saving, start
from tests.helpers.sounds import chord, sound_of, write_wav

RATE_HZ = 16_000


@pytest.fixture(scope="module")
def long_sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a minute, which takes a worker a second or more."""
    return write_wav(tmp_path_factory.mktemp("long") / "long.wav", chord(30, RATE_HZ), RATE_HZ)


def write_sounds(folder: Path, number: int, seconds: float = 2.0) -> list[Path]:
    return [write_wav(folder / f"{i}.wav", sound_of(i, seconds), RATE_HZ) for i in range(number)]


def limit_file_size(num_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))


def test_row_21_a_disk_that_fills_up_stops_the_run_which_goes_on_when_there_is_room(tmp_path: Path) -> None:
    """What a full disk says, a limit of 4500 bytes to a file says too: of eight rows of features, 4224, and no more."""
    first, _, last = write_sounds(tmp_path, 3)
    second = write_wav(tmp_path / "large.wav", chord(10, RATE_HZ), RATE_HZ)
    output = tmp_path / "output"
    command = [*VGGISH, "--video_paths", first, second, last]
    stopped = run_program(*command, output=output, preexec_fn=lambda: limit_file_size(4500))
    assert stopped.status == 1
    assert [row["reason"] for row in stopped.rows] == [None, "disk_full"]
    assert f"{output}/large_vggish.npy: cannot be written: File too large. Make room for it" in stopped.stderr
    assert "1 done (2.0 s of video), 0 skipped, 1 failed (disk_full: 1), 1 not done" in stopped.stderr
    assert stopped.files.keys() == {"0_vggish.npy"}
    again = run_program(*command, output=output)
    assert again.status == 0
    assert again.paths("ok") == {str(second), str(last)}
    assert again.paths("skipped") == {str(first)}
    assert again.files.keys() == {f"{name}_vggish.npy" for name in ("0", "large", "2")}
    assert stopped.files.items() <= again.files.items()


@pytest.mark.parametrize("obstacle", ["a file", "no permission", "a full disk"])
def test_row_21_an_output_folder_that_cannot_be_written_to_is_told_at_the_start(tmp_path: Path, obstacle: str) -> None:
    output = tmp_path / "output"
    with contextlib.ExitStack() as stack:
        if obstacle == "a file":
            output.write_text("in the way")
        else:
            output.mkdir(mode=0o500)
        if obstacle == "a full disk":
            stack.enter_context(full_disk(output))
        command = [*VGGISH, "--video_paths", tmp_path / "any.wav", *saving(output)]
        run = ended(start(*command, preexec_fn=bound_by_permissions))
    words = {"a file": "File exists", "no permission": "Permission denied", "a full disk": "No space left on device"}
    assert run.status == 3
    assert re.search(f"cannot start: {output}.*cannot be (made|written): {words[obstacle]}", run.stderr)
    assert "Extracting" not in run.stderr


@contextlib.contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """A small disk at a folder, and full; skips the test where none can be made."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small disk")
    try:
        with contextlib.suppress(OSError), open(folder / "ballast", "wb", buffering=0) as ballast:
            while True:
                ballast.write(bytes(4096))
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_row_22_a_video_whose_worker_is_killed_is_tried_once_more(tmp_path: Path, long_sound: Path) -> None:
    once, twice = (tmp_path / f"{name}.wav" for name in ("killed once", "killed twice"))
    for path in (once, twice):
        shutil.copy(long_sound, path)
    good = write_sounds(tmp_path, 1)
    output = tmp_path / "output"
    kills = {str(once): 1, str(twice): 2}
    process = start(*VGGISH, "--video_paths", once, twice, *good, *saving(output), "--log_level", "debug")
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        taken = line.partition("cpu takes ")[2].rstrip("\n")
        if kills.get(taken):
            kills[taken] -= 1
            (worker,) = workers_of(process.pid)
            os.kill(worker, signal.SIGKILL)
    run = ended(process, output)
    assert run.status == 1
    assert {row["path"]: (row["status"], row["reason"]) for row in run.rows} == {
        str(once): ("ok", None),
        str(twice): ("failed", "crashed"),
        str(good[0]): ("ok", None),
    }
    assert "the worker was killed by SIGKILL (tried twice)" in run.row(twice)["error"]
    for path in (once, twice):
        assert said.count(f"{path}: the worker was killed by SIGKILL; trying this video once more") == 1
    assert run.files.keys() == {"killed once_vggish.npy", "0_vggish.npy"}


def test_row_25_a_video_that_takes_too_long_fails_and_quiet_says_no_more_than_that(
    tmp_path: Path, long_sound: Path
) -> None:
    quiet = run_program(
        *VGGISH, "--video_paths", long_sound, "--timeout_per_video", 0.01, "--quiet", output=tmp_path / "output"
    )
    assert quiet.status == 1
    (row,) = quiet.rows
    assert row["reason"] == "timeout"
    assert quiet.files == {}
    assert quiet.stdout == ""
    first, second = (line for line in quiet.stderr.splitlines() if "UNTRAINED" not in line)
    assert first.endswith("trying this video once more")
    assert second.startswith(f"failed (timeout): {long_sound}: not done after 0")
    assert quiet.stderr.count("UNTRAINED") == 2


def test_row_26_an_interrupt_lets_the_video_in_hand_end(tmp_path: Path, long_sound: Path) -> None:
    output = tmp_path / "output"
    others = write_sounds(tmp_path, 3)
    process = start(*VGGISH, "--video_paths", long_sound, *others, *saving(output), "--log_level", "debug")
    lines_until(process, "cpu takes")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    run = ended(process, output)
    assert run.status == 130
    assert run.paths("ok") == {row["path"] for row in run.rows} == {str(long_sound)}
    assert "Interrupted: 1 done (30.0 s of video), 0 skipped, 0 failed, 3 not done" in run.stderr
    assert run.files.keys() == {"long_vggish.npy"}


@pytest.mark.slow
def test_row_28_after_kills_at_any_moment_the_files_are_those_of_one_clean_run(tmp_path: Path) -> None:
    """Two programs at a time, killed while they start and while they work."""
    command = [*VGGISH, "--video_paths", *write_sounds(tmp_path, 48, 1.0)]
    clean = run_program(*command, output=tmp_path / "clean")
    output = tmp_path / "output"
    killed: list[int] = []

    def num_saved() -> int:
        return len(list(output.glob("*.npy")))

    def kill_some(chance: random.Random) -> None:
        for number in range(5):
            before = num_saved()
            process = start(*command, *saving(output), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if number % 3:
                wait_until(lambda: num_saved() > before or process.poll() is not None, 60)  # noqa: B023
            time.sleep(chance.uniform(0, 0.3 if number % 3 else 3))
            process.kill()
            if process.wait() == -signal.SIGKILL:
                killed.append(process.pid)

    programs = [threading.Thread(target=kill_some, args=(random.Random(seed),)) for seed in range(2)]
    for program in programs:
        program.start()
    for program in programs:
        program.join()
    assert len(killed) == 10
    wait_until(lambda: not any(map(running_in, killed)), seconds=10)
    last = run_program(*command, output=output)
    assert last.status == 0
    assert last.files == clean.files


def test_row_31_two_programs_in_one_folder_do_all_videos_between_them(tmp_path: Path) -> None:
    sounds = write_sounds(tmp_path, 7)
    output = tmp_path / "output"
    processes = [start(*VGGISH, "--video_paths", *sounds, *saving(output)) for _ in range(2)]
    runs = [ended(process, output) for process in processes]
    assert [run.status for run in runs] == [0, 0]
    rows = runs[1].rows  # of both programs
    assert Counter(row["path"] for row in rows) == {str(path): 2 for path in sounds}
    assert runs[1].paths("ok") == set(map(str, sounds))
    assert {row["status"] for row in rows} <= {"ok", "skipped"}
    assert sum(row["status"] == "ok" for row in rows) <= len(sounds) + 2  # nearly each is done once
    assert runs[1].files.keys() == {f"{path.stem}_vggish.npy" for path in sounds}
    assert len(set(runs[1].files.values())) == len(sounds)


def test_row_34_a_million_videos_are_begun_with_in_seconds_and_little_memory(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("".join(f"/no/such/folder/video {i:07d}.mp4\n" for i in range(1_000_000)))
    begin = time.monotonic()
    process = start(*VGGISH, "--file_with_video_paths", tmp_path / "list.txt", *saving(tmp_path / "output"))
    lines_until(process, "features of 1000000 videos on cpu")
    seconds = time.monotonic() - begin
    status = Path(f"/proc/{process.pid}/status").read_text()
    process.terminate()
    run = ended(process, tmp_path / "output")
    assert run.status == 130
    peak = re.search(r"VmHWM:\s*(\d+) kB", status)
    assert peak is not None
    assert seconds < 30
    assert int(peak[1]) < 500_000


def test_row_32_weights_that_cannot_be_loaded_are_told_once_and_nothing_is_begun(tmp_path: Path) -> None:
    checkpoint = tmp_path / "mine.pt"
    checkpoint.write_bytes(b"PK\x03\x04 cut off")
    (sound,) = write_sounds(tmp_path, 1)
    output = tmp_path / "output"
    command = ["--feature_type", "vggish", "--device_ids", "cpu", "--vggish_model_path", checkpoint]
    stopped = run_program(*command, "--video_paths", sound, output=output)
    assert stopped.status == 3
    assert stopped.stderr.count("cannot start") == 1
    assert str(checkpoint) in stopped.stderr
    assert stopped.rows == []
    assert stopped.files == {}


def test_row_35_when_nobody_reads_on_the_work_goes_on(tmp_path: Path) -> None:
    process = start(*VGGISH, "--video_paths", *write_sounds(tmp_path, 4))
    assert process.stdout is not None
    assert process.stdout.readline() == f"{tmp_path}/0.wav: 2.00 s\n"
    process.stdout.close()  # as `| head -1` does
    assert process.stderr is not None
    said = process.stderr.read()
    assert process.wait(timeout=60) == 0
    assert "4 done (8.0 s of video), 0 skipped, 0 failed" in said
    assert "Broken" not in said
    wait_until(lambda: not running_in(process.pid), seconds=10)
