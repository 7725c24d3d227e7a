"""Parts of a list as batch schedulers run them, where they stand, and what a run would do."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cli.test_disturbed_runs import RATE_HZ, write_sounds
from tests.helpers.oracles import REPOSITORY
from tests.helpers.program import VGGISH, ended, run_program, saving, start
from tests.helpers.sounds import chord, write_wav

NO_LOCKS = """
import fcntl, os

def no_locks(*_):
    open(os.path.join(os.path.dirname(__file__), "asked"), "w").close()
    raise OSError(37, "No locks available")

fcntl.flock = fcntl.lockf = no_locks
"""


def tell_status(*arguments: object) -> tuple[int, str, str]:
    """Return the exit status, stdout and stderr of --status."""
    run = run_program("--feature_type", "vggish", "--status", *arguments)
    return run.status, run.stdout, run.stderr


def rows_in(log: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def listing(folder: Path) -> dict[str, int]:
    return {str(path): path.lstat().st_mtime_ns for path in [folder, *folder.rglob("*")]}


def test_two_shards_at_once_in_one_folder_without_locks_and_their_status(tmp_path: Path) -> None:
    """As on a network file system. A folder has two videos of one name, which are in different shards."""
    sounds = write_sounds(tmp_path, 4)
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        sounds.insert(1, write_wav(tmp_path / name / "same.wav", chord(2, RATE_HZ), RATE_HZ))
    (bad := tmp_path / "bad.wav").write_text("no sound at all")
    sounds.append(bad)  # 0, y/same, x/same, 1, 2, 3, bad
    (tmp_path / "list.txt").write_text("\n".join(map(str, sounds)))
    (tmp_path / "sitecustomize.py").write_text(NO_LOCKS)
    output = tmp_path / "output"
    listed = ["--file_with_video_paths", tmp_path / "list.txt"]
    where = ["--output_path", output]

    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [*VGGISH, *listed, *saving(output)]
    shards = [start(*command, "--shard", f"{number}/2", env=environment) for number in (1, 2)]
    runs = [ended(process, output) for process in shards]

    assert (tmp_path / "asked").exists()
    assert [run.status for run in runs] == [1, 0]
    assert {path.name for path in output.iterdir() if path.is_file() and path.suffix != ".npy"} == {
        "settings.json",
        "status.1-of-2.jsonl",
        "status.2-of-2.jsonl",
    }
    logs = [rows_in(output / f"status.{number}-of-2.jsonl") for number in (1, 2)]
    assert [[row["path"] for row in rows] for rows in logs] == [list(map(str, sounds[start::2])) for start in (0, 1)]
    names = {f"{name}_vggish.npy" for name in ("0", "1", "2", "3", "x/same", "y/same")}
    assert runs[1].files.keys() == names

    status, out, err = tell_status(*where, *listed, "--json")
    assert (status, err) == (1, "")
    report = json.loads(out)
    assert report.pop("hours") == pytest.approx(12 / 3600)
    assert report == {
        "feature_type": "vggish",
        "output_path": str(output),
        "done": 6,
        "failed": 1,
        "reasons": {"unreadable": 1},
        "left": 0,
        "seconds": pytest.approx(12),
    }
    assert tell_status(*where, *listed, "--shard", "2/2")[0] == 0
    status, out, err = tell_status(*where, "--video_paths", *sounds[:3], tmp_path / "new.wav")
    assert (status, err) == (1, "")
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [["done", "3"], ["failed", "0"], ["left", "1"]]

    shutil.copy(sounds[0], bad)
    assert run_program(*command, output=output).paths("ok") == {str(bad)}, "another run, without shards"
    status, out, _ = tell_status(*where)
    assert status == 0
    assert "done" in out
    assert json.loads(tell_status(*where, *listed, "--json")[1])["done"] == 7


def test_shards_print_also_and_one_that_no_video_is_left_for_does_nothing(tmp_path: Path) -> None:
    sounds = write_sounds(tmp_path, 2)
    run = run_program(*VGGISH, "--video_paths", *sounds, "--shard", "2/3")
    assert run.status == 0
    assert run.stdout.startswith(f"{sounds[1]}: 2.00 s\n")
    assert str(sounds[0]) not in run.stdout
    empty = run_program(*VGGISH, "--video_paths", *sounds, "--shard", "3/3", output=tmp_path / "output")
    assert empty.status == 0
    assert "features of 0 videos" in empty.stderr
    assert "0 done" in empty.stderr
    assert [path.name for path in (tmp_path / "output").iterdir()] == ["settings.json"]


@pytest.mark.parametrize("obstacle", ["missing", "another type", "a file", "settings"])
def test_the_status_of_a_folder_that_tells_nothing_is_one_line(tmp_path: Path, obstacle: str) -> None:
    output = tmp_path / "output"
    if obstacle == "a file":
        output.touch()
    elif obstacle != "missing":
        output.mkdir()
        text = "[]" if obstacle == "settings" else '{"i3d": {"since": 0.0, "settings": {}}}'
        (output / "settings.json").write_text(text)
    status, out, err = tell_status("--output_path", output)
    assert (status, out) == (3, "")
    assert len(err.splitlines()) == 1
    assert f"cannot start: {output}" in err


def test_the_status_comes_without_torch(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"vggish": {"since": 0.0, "settings": {}}}')
    options = ["--feature_type", "vggish", "--status", "--output_path", str(tmp_path), "--video_paths", "a.wav"]
    probe = f"import sys, main; assert main.main({options}) == 1; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", probe], cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)


def dry_run(*arguments: object) -> tuple[int, list[str], str]:
    """Return the exit status, the lines on stdout, and stderr, of a run that must change nothing."""
    run = run_program(*arguments, "--dry_run")
    return run.status, run.stdout.splitlines(), run.stderr


def test_a_dry_run_tells_what_would_be_done_and_changes_nothing(tmp_path: Path) -> None:
    sounds = write_sounds(tmp_path, 3)
    (bad := tmp_path / "bad.wav").touch()
    output = tmp_path / "new" / "output"
    before = listing(tmp_path)
    command: Sequence[object] = [*VGGISH, "--video_paths", *sounds, bad]
    plan = "vggish features of 4 videos: 4 to extract on cpu; 0 done"
    assert dry_run(*command, *saving(output))[:2] == (0, [plan])
    assert dry_run(*command)[:2] == (0, [plan])
    assert listing(tmp_path) == before
    assert run_program(*VGGISH, "--video_paths", sounds[0], bad, output=output).status == 1
    before = listing(tmp_path)
    plan = "vggish features of 4 videos: 3 to extract on cpu; 1 done"
    assert dry_run(*command, *saving(output))[:2] == (0, [plan])
    status, lines, _ = dry_run(*command, *saving(output), "--skip_failed", "--device_ids", "cpu", "cpu")
    assert (status, lines) == (0, ["vggish features of 4 videos: 2 to extract on cpu, cpu; 1 done; 1 failed before"])
    plan = "vggish features of 4 videos: 4 to extract on cpu; 0 done"
    assert dry_run(*command, *saving(output), "--overwrite")[:2] == (0, [plan])
    assert dry_run(*command, *saving(output), "--shard", "1/2")[1] == [
        "vggish features of 2 videos: 1 to extract on cpu; 1 done"
    ]
    (other := tmp_path / "mine.pt").touch()
    given = ["--feature_type", "vggish", "--device_ids", "cpu", "--vggish_model_path", other]
    status, lines, err = dry_run(*given, "--video_paths", *sounds, *saving(output))
    assert (status, lines) == (3, [])
    assert "vggish_model_path was random and is" in err
    assert dry_run(*given, "--video_paths", *sounds)[1][0] == f"VGGish weights: {other} is taken as it is"
    other.unlink()
    assert dry_run(*given, "--video_paths", *sounds)[0] == 3
    assert listing(tmp_path) == {**before, str(tmp_path): tmp_path.stat().st_mtime_ns}


def test_a_dry_run_tells_which_weights_would_be_downloaded(tmp_path: Path) -> None:
    """In a copy of the program, which has no weights."""
    for name in ("main.py", "models", "utils"):
        copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
        copy(REPOSITORY / name, tmp_path / name)
    shutil.rmtree(tmp_path / "models" / "vggish" / "checkpoints", ignore_errors=True)
    before = {path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts}
    options = ["--feature_type", "vggish", "--device_ids", "cpu", "--video_paths", tmp_path / "a.wav", "--dry_run"]
    run = ended(start(*options, repository=tmp_path))
    assert run.status == 0
    weights, plan = run.stdout.splitlines()
    assert weights.startswith("VGGish weights: https://")
    assert " would be downloaded to " in weights
    assert weights.endswith("models/vggish/checkpoints/vggish-10086976.pth") or str(tmp_path) in weights
    assert plan.endswith("1 to extract on cpu; 0 done")
    assert {path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts} == before
