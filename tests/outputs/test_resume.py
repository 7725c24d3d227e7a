"""Which videos are left to do, in an output folder that holds something."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.oracles import REPOSITORY
from utils.errors import SettingsError
from utils.outputs.resume import Output, pending_videos, prepare
from utils.outputs.settings import read_records
from utils.outputs.status_log import StatusLog
from utils.results import Row
from utils.video_list import stem_of

SETTINGS: dict[str, object] = {"stack_size": 64, "i3d_rgb_path": "abc"}
VIDEOS = ["a.mp4", "dir/b.mp4"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An output folder with the features of b.mp4."""
    (tmp_path / "output").mkdir()
    save(tmp_path / "output", "b")
    return tmp_path / "output"


def save(folder: Path, stem: str, suffix: str = "rgb") -> None:
    """Save features, as late as a program does it."""
    time.sleep(0.02)
    np.save(folder / f"{stem}_{suffix}.npy", np.ones((2, 1024), np.float32))


def ready(folder: Path, settings: dict[str, object] = SETTINGS, overwrite: bool = False) -> Output:
    return prepare(folder, "i3d", ("rgb",), settings, map(stem_of, VIDEOS), overwrite)


def pending(
    output: Output, videos: list[str] = VIDEOS, failed: frozenset[str] = frozenset()
) -> tuple[list[str], list[Row]]:
    """Return the videos that are to be done, and the rows of the others."""
    rows: list[Row] = []
    paths = [path for path in pending_videos(videos, stem_of, output, failed, rows.append) if path is not None]
    return paths, rows


def settings_in(folder: Path) -> object:
    return read_records(folder)["i3d"].settings


def test_an_empty_folder_has_all_left_to_do_and_a_record(tmp_path: Path) -> None:
    assert pending(ready(tmp_path / "new" / "output")) == (VIDEOS, [])
    assert settings_in(tmp_path / "new" / "output") == SETTINGS
    assert [path.name for path in (tmp_path / "new" / "output").iterdir()] == ["settings.json"]


def test_files_that_nobody_knows_how_they_were_made_are_left_alone(folder: Path) -> None:
    with pytest.raises(SettingsError, match=r"some of these videos' files.*--overwrite"):
        ready(folder)
    assert not (folder / "settings.json").exists()
    output = prepare(folder, "i3d", ("rgb",), SETTINGS, ["a"])
    assert pending(output, VIDEOS) == (VIDEOS, [])


def test_what_was_made_with_the_same_settings_is_done(tmp_path: Path) -> None:
    ready(tmp_path)
    save(tmp_path, "b")
    assert pending(ready(tmp_path)) == (["a.mp4"], [Row("dir/b.mp4", "skipped", outputs=[str(tmp_path / "b_rgb.npy")])])


@pytest.mark.parametrize("change", [{"stack_size": 24}, {"i3d_rgb_path": "random"}])
def test_other_settings_or_weights_are_refused_unless_all_is_made_anew(folder: Path, change: dict[str, object]) -> None:
    ready(folder, overwrite=True)
    ((name, value),) = change.items()
    with pytest.raises(SettingsError, match=f"{name} was {SETTINGS[name]} and is {value}"):
        ready(folder, SETTINGS | change)
    assert pending(ready(folder, SETTINGS | change, overwrite=True))[0] == VIDEOS
    assert settings_in(folder) == SETTINGS | change


def test_overwriting_that_was_interrupted_is_gone_on_with(folder: Path) -> None:
    assert pending(ready(folder, overwrite=True)) == (VIDEOS, [])
    save(folder, "a")
    left, (done,) = pending(ready(folder))
    assert left == ["dir/b.mp4"], "its files are older than the overwriting"
    assert (done.path, done.status) == ("a.mp4", "skipped")


def test_what_failed_before_is_left_out_when_asked(tmp_path: Path) -> None:
    left, (left_out,) = pending(ready(tmp_path), failed=frozenset([os.path.abspath("a.mp4")]))
    assert left == ["dir/b.mp4"]
    assert (left_out.path, left_out.status) == ("a.mp4", "skipped")
    assert left_out.error == "it failed in an earlier run (--skip_failed)"


def test_a_video_of_another_folder_and_the_same_name_is_not_taken_for_done(tmp_path: Path) -> None:
    videos = [tmp_path / part / "x.mp4" for part in ("first", "second")]
    for video in videos:
        video.parent.mkdir()
        video.touch()
    (tmp_path / "link").symlink_to(tmp_path / "first")
    folder = tmp_path / "output"
    output = ready(folder)
    save(folder, "x")
    with StatusLog(folder, "i3d") as log:
        log.add(Row(str(videos[1]), "ok", outputs=output.paths("x")))
        log.add(Row(str(videos[0]), "ok", outputs=output.paths("x")))
        log.add(Row(str(videos[1]), "failed", "truncated"))
        log.add(Row(str(videos[1]), "skipped", outputs=output.paths("x")))
    for same in (videos[0], tmp_path / "link" / "x.mp4"):
        _, (row,) = pending(output, [str(same)])
        assert row.status == "skipped"
    _, (row,) = pending(output, [str(videos[1])])
    assert (row.status, row.reason) == ("failed", "name_taken")
    assert f"{videos[1]}: {folder}/x_rgb.npy holds the features of {videos[0]}" in str(row.error)
    videos[0].unlink()  # moved, as whole datasets are
    _, (row,) = pending(output, [str(videos[1])])
    assert row.status == "skipped"


def test_videos_that_seem_done_by_their_first_file_come_last(tmp_path: Path) -> None:
    videos = [f"{i}.mp4" for i in range(9)]
    output = prepare(tmp_path, "i3d", ("rgb", "flow"), SETTINGS, [])
    for name in ("3_rgb", "3_flow", "5_rgb", "7_flow"):
        save(tmp_path, *name.split("_"))
    left, rows = pending(output, videos)
    assert [row.path for row in rows] == ["3.mp4"]
    assert left == [f"{i}.mp4" for i in (0, 1, 2, 4, 6, 7, 8, 5)]


# Several programs in one folder


def test_what_another_program_did_meanwhile_is_skipped(tmp_path: Path) -> None:
    output = ready(tmp_path)
    rows: list[Row] = []
    videos = pending_videos(["a.mp4", "b.mp4", "c.mp4"], stem_of, output, set(), rows.append)
    assert next(videos) == "a.mp4"
    save(tmp_path, "b")
    assert list(filter(None, videos)) == ["c.mp4"]
    assert rows == [Row("b.mp4", "skipped", outputs=[str(tmp_path / "b_rgb.npy")])]


PROGRAM = """
import sys, time
from pathlib import Path
import numpy as np
from utils.outputs.resume import pending_videos, prepare
from utils.video_list import stem_of

folder, num_videos = Path(sys.argv[1]), int(sys.argv[2])
output = prepare(folder, "i3d", ("rgb",), {}, [])
print("ready", flush=True)
input()
rows = []
for path in pending_videos([f"{i}.mp4" for i in range(num_videos)], stem_of, output, set(), rows.append):
    if path is not None:
        print(path, flush=True)
        time.sleep(0.05)
        np.save(folder / f"{stem_of(path)}_rgb.npy", np.ones((2, 8), np.float32))
assert all(row.status == "skipped" for row in rows)
print("skipped", len(rows))
"""


@pytest.mark.parametrize(("num_programs", "num_videos", "most"), [(1, 6, 6), (2, 6, 7), (2, 31, 32), (3, 40, 60)])
def test_programs_with_one_list_do_each_video_about_once(
    tmp_path: Path, num_programs: int, num_videos: int, most: int
) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(num_videos)]
    programs = [
        subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(num_programs)
    ]
    for program in programs:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
    for program in programs:
        assert program.stdin is not None
        program.stdin.write("go\n")
        program.stdin.flush()
    done: Counter[str] = Counter()
    for program in programs:
        said = program.communicate()[0].splitlines()
        assert program.returncode == 0
        assert len(said) - 1 + int(said[-1].removeprefix("skipped ")) == num_videos
        done.update(said[:-1])
    videos = [f"{i}.mp4" for i in range(num_videos)]
    assert done.keys() == set(videos)
    assert done.total() <= most
    if num_programs == 1:
        assert said[:-1] == videos, "alone, it keeps the order"


def test_without_locks_a_program_keeps_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.lockf", no_locks)
    assert pending(ready(tmp_path))[0] == VIDEOS


# Many videos


def test_of_many_videos_the_first_comes_at_once_and_all_in_seconds(tmp_path: Path) -> None:
    videos = [f"/videos/{i}.mp4" for i in range(20_000)]
    output = prepare(tmp_path, "i3d", ("rgb",), SETTINGS, [])
    save(tmp_path, "0")
    for i in range(1, 1000):
        os.link(tmp_path / "0_rgb.npy", tmp_path / f"{i}_rgb.npy")
    with open(tmp_path / "status.jsonl", "w") as log:
        for i, path in enumerate(videos):
            row = {"path": path, "status": "ok", "outputs": output.paths(str(i)), "feature_type": "i3d"}
            log.write(json.dumps(row) + "\n")
    start = time.process_time()
    waiting = pending_videos(videos, stem_of, output, set(), lambda _: None)
    assert next(waiting) == "/videos/1000.mp4"
    assert time.process_time() - start < 0.5
    assert sum(path is not None for path in waiting) == 18_999
    assert time.process_time() - start < 3
