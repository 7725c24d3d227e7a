"""The videos that are left to do, in an output folder that holds something."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import models
from models.extraction import Job
from models.run import _remove_unfinished
from tests.helpers.oracles import REPOSITORY
from utils.errors import SaveError, SettingsError
from utils.media.options import DecodeOptions
from utils.outputs.files import FileOptions, Files
from utils.outputs.resume import Output, pending_videos, prepare, probe
from utils.outputs.settings import read_records
from utils.outputs.status_log import StatusLog
from utils.results import Row
from utils.video_list import Shard, stem_of

VIDEOS = ["a.mp4", "dir/b.mp4"]


def save(folder: Path, stem: str, suffix: str = "rgb") -> str:
    """Save features, as late as a program does it; returns their path."""
    time.sleep(0.02)
    np.save(folder / f"{stem}_{suffix}.npy", np.ones((2, 1024), np.float32))
    return str(folder / f"{stem}_{suffix}.npy")


def ready(folder: Path, stack_size: int = 64, overwrite: bool = False, suffixes: tuple[str, ...] = ("rgb",)) -> Output:
    return prepare(folder, Files("i3d", suffixes), {"stack_size": stack_size}, map(stem_of, VIDEOS), overwrite)


def pending(
    output: Output, videos: list[str] = VIDEOS, failed: frozenset[str] = frozenset()
) -> tuple[list[str], list[Row]]:
    """Return the videos that are to be done, and the rows of the others."""
    rows: list[Row] = []
    paths = [path for path in pending_videos(videos, stem_of, output, failed, rows.append) if path is not None]
    return paths, rows


def test_what_was_made_with_the_same_settings_is_done(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "output"
    assert pending(ready(folder)) == (VIDEOS, [])
    assert [path.name for path in folder.iterdir()] == ["settings.json"]
    assert pending(ready(folder)) == (VIDEOS, [])
    path = save(folder, "b")
    assert pending(ready(folder)) == (["a.mp4"], [Row("dir/b.mp4", "skipped", outputs=[path])])


def test_a_folder_keeps_to_one_format_of_files_and_an_old_one_to_the_default(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"i3d": {"since": 0, "settings": {"stack_size": 64}}}')
    path = save(tmp_path, "b")
    for option, value in [("transpose", True), ("dtype", "float16"), ("output_name", "{stem}"), ("concatenate", True)]:
        files = Files("i3d", ("rgb",), options=FileOptions(**{option: value}))  # type: ignore[arg-type]
        with pytest.raises(SettingsError, match=f"features: {option} was"):
            prepare(tmp_path, files, {"stack_size": 64}, [])
    assert pending(ready(tmp_path)) == (["a.mp4"], [Row("dir/b.mp4", "skipped", outputs=[path])])
    joined = Files("i3d", ("rgb",), options=FileOptions(concatenate=True))
    prepare(tmp_path, joined, {}, [], overwrite=True)
    prepare(tmp_path, joined, {}, [])
    with pytest.raises(SettingsError, match=r"concatenate was \['rgb'\] and is \['rgb', 'flow'\]"):
        prepare(tmp_path, replace(joined, streams=("rgb", "flow")), {}, [])


@pytest.mark.parametrize("template", ["{suffix}/{stem}", "{stem}/{suffix}", "all/{stem}/x{suffix}"])
def test_videos_are_done_by_the_files_that_the_template_names(tmp_path: Path, template: str) -> None:
    files = Files("i3d", ("rgb", "flow"), options=FileOptions(output_name=template))
    output = prepare(tmp_path, files, {}, [])
    assert pending(output) == (VIDEOS, [])
    paths = output.paths("b")
    for path in paths:
        assert not output.has_features("b")
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        os.rename(save(tmp_path, "b"), path)
    assert pending(output) == (["a.mp4"], [Row("dir/b.mp4", "skipped", outputs=paths)])


def test_what_killed_workers_left_in_the_folders_of_files_is_removed(tmp_path: Path) -> None:
    files = Files("vggish", ("vggish",), options=FileOptions(output_name="{stem}/{suffix}"))
    job = Job("vggish", models.load_config("vggish")(), DecodeOptions(), {}, Output(tmp_path, files), ("cpu",))
    for folder in (tmp_path, tmp_path / "b", tmp_path / "other"):
        folder.mkdir(exist_ok=True)
        (folder / ".0123456789abcdef.part").touch()
        os.utime(folder / ".0123456789abcdef.part", (0, 0))
    _remove_unfinished(job, VIDEOS)
    assert [path.parent.name for path in tmp_path.rglob(".*.part")] == ["other"]


def test_files_that_nobody_knows_how_they_were_made_are_left_alone(tmp_path: Path) -> None:
    save(tmp_path, "b")
    with pytest.raises(SettingsError, match=r"some of these videos' files.*--overwrite"):
        ready(tmp_path)
    assert read_records(tmp_path) == {}
    output = prepare(tmp_path, Files("i3d", ("rgb",)), {}, ["a"])
    assert pending(output) == (VIDEOS, [])


def test_overwriting_makes_all_anew_and_is_gone_on_with_when_it_was_interrupted(tmp_path: Path) -> None:
    ready(tmp_path)
    save(tmp_path, "b")
    with pytest.raises(SettingsError, match="stack_size was 64 and is 24"):
        ready(tmp_path, 24)
    assert pending(ready(tmp_path, 24, overwrite=True)) == (VIDEOS, [])
    path = save(tmp_path, "a")
    left, rows = pending(ready(tmp_path, 24))
    assert left == ["dir/b.mp4"], "its files are older than the overwriting"
    assert rows == [Row("a.mp4", "skipped", outputs=[path])]


def test_a_video_lacks_what_is_to_be_beside_its_features_unless_they_are_of_another_one(tmp_path: Path) -> None:
    output = prepare(tmp_path, Files("i3d", ("rgb",)), {}, [], extras=("timestamps",))
    for stem in ("a", "b"):
        save(tmp_path, stem)
    assert pending(output) == (VIDEOS, [])
    (tmp_path / "a_timestamps.npy").touch()
    left, rows = pending(output)
    assert (left, [row.path for row in rows]) == (["dir/b.mp4"], ["a.mp4"])
    other = tmp_path / "other" / "b.mp4"
    other.parent.mkdir()
    other.touch()
    with StatusLog(tmp_path, "i3d") as log:
        log.add(Row(str(other), "ok", outputs=[str(tmp_path / "b_rgb.npy")]))
    left, rows = pending(output)
    assert (left, [row.reason for row in rows]) == ([], [None, "name_taken"])


def test_what_failed_before_is_left_out_when_asked(tmp_path: Path) -> None:
    left, rows = pending(ready(tmp_path), failed=frozenset([os.path.abspath("a.mp4")]))
    assert left == ["dir/b.mp4"]
    assert rows == [Row("a.mp4", "skipped", None, "it failed in an earlier run (--skip_failed)")]


@pytest.mark.parametrize("shard", [None, Shard(1, 2)])
def test_a_video_of_another_folder_and_the_same_name_is_not_taken_for_done(tmp_path: Path, shard: Shard | None) -> None:
    first, second = tmp_path / "first" / "x.mp4", tmp_path / "second" / "x.mp4"
    for video in (first, second):
        video.parent.mkdir()
        video.touch()
    (tmp_path / "link").symlink_to(first.parent)
    folder = tmp_path / "output"
    output = ready(folder)
    outputs = [save(folder, "x")]
    with StatusLog(folder, "i3d", shard) as log:
        log.add(Row(str(second), "ok", outputs=outputs))
        log.add(Row(str(first), "ok", outputs=outputs))
        log.add(Row(str(second), "failed", "truncated"))
        log.add(Row(str(second), "skipped", outputs=outputs))
    for same in (str(first), str(tmp_path / "link" / "x.mp4")):
        assert pending(output, [same]) == ([], [Row(same, "skipped", outputs=outputs)])
    _, (row,) = pending(output, [str(second)])
    assert (row.status, row.reason) == ("failed", "name_taken")
    assert f"{second}: {outputs[0]} holds the features of {first}" in str(row.error)
    first.unlink()  # moved, as whole datasets are
    assert pending(output, [str(second)]) == ([], [Row(str(second), "skipped", outputs=outputs)])


def test_videos_that_seem_done_by_their_first_file_come_last(tmp_path: Path) -> None:
    output = ready(tmp_path, suffixes=("rgb", "flow"))
    for name in ("3_rgb", "3_flow", "5_rgb", "7_flow"):
        save(tmp_path, *name.split("_"))
    left, rows = pending(output, [f"{i}.mp4" for i in range(9)])
    assert left == [f"{i}.mp4" for i in (0, 1, 2, 4, 6, 7, 8, 5)]
    assert [row.path for row in rows] == ["3.mp4"]


# Several programs in one folder


def test_what_another_program_did_meanwhile_is_skipped(tmp_path: Path) -> None:
    rows: list[Row] = []
    videos = pending_videos(["a.mp4", "b.mp4", "c.mp4"], stem_of, ready(tmp_path), set(), rows.append)
    assert next(videos) == "a.mp4"
    path = save(tmp_path, "b")
    assert list(filter(None, videos)) == ["c.mp4"]
    assert rows == [Row("b.mp4", "skipped", outputs=[path])]


PROGRAM = """
import sys, time
from pathlib import Path
import numpy as np
from utils.outputs.files import Files
from utils.outputs.resume import pending_videos, prepare
from utils.video_list import stem_of

folder, num_videos = Path(sys.argv[1]), int(sys.argv[2])
output = prepare(folder, Files("i3d", ("rgb",)), {}, [])
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


@pytest.mark.parametrize(("num_programs", "num_videos", "most"), [(1, 6, 6), (2, 31, 32), (3, 40, 60)])
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
    done: list[str] = []
    for program in programs:
        said = program.communicate()[0].splitlines()
        assert program.returncode == 0
        assert len(said) - 1 + int(said[-1].removeprefix("skipped ")) == num_videos
        done += said[:-1]
    videos = [f"{i}.mp4" for i in range(num_videos)]
    assert set(done) == set(videos)
    assert len(done) <= most
    assert num_programs > 1 or done == videos, "alone, it keeps the order"


def test_without_locks_a_program_keeps_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.lockf", no_locks)
    assert pending(ready(tmp_path))[0] == VIDEOS


def test_a_shard_keeps_the_order_and_takes_no_turn_from_other_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = ready(tmp_path)
    monkeypatch.setattr("fcntl.lockf", lambda *_: pytest.fail("it asks for its turn"))
    videos = [f"{i}.mp4" for i in range(20)]
    assert list(pending_videos(videos, stem_of, output, set(), lambda _: None, in_order=True)) == videos


# Dry runs


def test_a_dry_run_finds_what_a_run_would_and_makes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "output"

    def try_out(stack_size: int = 64, overwrite: bool = False) -> Output:
        return prepare(folder, Files("i3d", ("rgb",)), {"stack_size": stack_size}, ["a", "b"], overwrite, dry_run=True)

    assert not try_out().is_done("b")
    assert list(tmp_path.iterdir()) == []
    folder.mkdir(parents=True)
    save(folder, "b")
    with pytest.raises(SettingsError, match="made nobody knows how"):
        try_out()
    (folder / "b_rgb.npy").unlink()
    ready(folder)
    save(folder, "b")
    part = folder / ".0123456789abcdef.part"
    part.touch()
    os.utime(part, (0, 0))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert try_out().is_done("b")
    assert not try_out(24, overwrite=True).is_done("b")
    with pytest.raises(SettingsError, match="stack_size was 64 and is 24"):
        try_out(24)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_dry_run_tells_of_a_folder_that_cannot_be_made_or_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(SaveError, match=f"^{tmp_path}/file: cannot be written: Not a directory"):
            probe(folder, dry_run=True)
    monkeypatch.chdir(tmp_path)
    probe(Path("a/b"), dry_run=True)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)  # the tests may run as root
    for folder in (tmp_path, tmp_path / "a" / "b", Path("a/b")):
        with pytest.raises(SaveError, match=f"^{tmp_path}: cannot be written: Permission denied"):
            probe(folder, dry_run=True)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_of_many_videos_the_first_comes_at_once_and_all_in_seconds(tmp_path: Path) -> None:
    videos = [f"/videos/{i}.mp4" for i in range(20_000)]
    output = ready(tmp_path)
    path = save(tmp_path, "0")
    for i in range(1, 1000):
        os.link(path, tmp_path / f"{i}_rgb.npy")
    with open(tmp_path / "status.jsonl", "w") as log:
        for i, video in enumerate(videos):
            row = {"path": video, "status": "ok", "outputs": output.paths(str(i)), "feature_type": "i3d"}
            log.write(json.dumps(row) + "\n")
    start = time.process_time()
    waiting = pending_videos(videos, stem_of, output, set(), lambda _: None)
    assert next(waiting) == "/videos/1000.mp4"
    assert time.process_time() - start < 0.5
    assert sum(path is not None for path in waiting) == 18_999
    assert time.process_time() - start < 3
