"""Which videos are left to do, in an output folder that holds something."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from utils.errors import SaveError, SettingsError
from utils.outputs.resume import Output, pending_videos, prepare
from utils.outputs.settings import recorded
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


def save(folder: Path, stem: str, rows: int = 2) -> None:
    np.save(folder / f"{stem}_rgb.npy", np.ones((rows, 1024), np.float32))


def ready(folder: Path, settings: dict[str, object] = SETTINGS, overwrite: bool = False) -> Output:
    return prepare(folder, "i3d", ("rgb",), settings, map(stem_of, VIDEOS), overwrite)


def sorted_out(output: Output, videos: list[str] = VIDEOS, failed: frozenset[str] = frozenset()) -> list[str | Row]:
    return list(pending_videos(videos, stem_of, output, failed))


def test_an_empty_folder_has_all_left_to_do_and_a_record(tmp_path: Path) -> None:
    assert sorted_out(ready(tmp_path / "new" / "output")) == VIDEOS
    assert recorded(tmp_path / "new" / "output", "i3d") == SETTINGS
    assert [path.name for path in (tmp_path / "new" / "output").iterdir()] == ["settings.json"]


def test_files_that_nobody_knows_how_they_were_made_are_left_alone(folder: Path) -> None:
    with pytest.raises(SettingsError, match=r"some of these videos' files.*--overwrite"):
        ready(folder)
    assert recorded(folder, "i3d") == {}
    output = prepare(folder, "i3d", ("rgb",), SETTINGS, ["a"])
    assert sorted_out(output, ["a.mp4"]) == ["a.mp4"]


def test_what_was_made_with_the_same_settings_is_done(tmp_path: Path) -> None:
    folder = tmp_path / "output"
    ready(folder)
    save(folder, "b")
    done = Row("dir/b.mp4", "skipped", outputs=[str(folder / "b_rgb.npy")])
    assert sorted_out(ready(folder)) == ["a.mp4", done]


@pytest.mark.parametrize("change", [{"stack_size": 24}, {"i3d_rgb_path": "random"}])
def test_other_settings_or_weights_are_refused_and_named(folder: Path, change: dict[str, object]) -> None:
    ready(folder, overwrite=True)
    ((name, value),) = change.items()
    with pytest.raises(SettingsError, match=f"{name} was {SETTINGS[name]} and is {value}"):
        ready(folder, SETTINGS | change)
    assert sorted_out(ready(folder, SETTINGS | change, overwrite=True)) == VIDEOS
    assert recorded(folder, "i3d") == SETTINGS | change


def test_overwriting_that_was_interrupted_is_gone_on_with(folder: Path) -> None:
    assert sorted_out(ready(folder, overwrite=True)) == VIDEOS
    save(folder, "a")
    left, done = sorted_out(ready(folder))
    assert isinstance(done, str), "its files are older than the overwriting"
    assert isinstance(left, Row)
    assert (left.path, left.status, done) == ("a.mp4", "skipped", "dir/b.mp4")


def test_another_stream_goes_into_the_same_folder(tmp_path: Path) -> None:
    ready(tmp_path)
    both = SETTINGS | {"i3d_flow_path": "def", "pwc_path": "ghi"}
    ready(tmp_path, both)
    assert recorded(tmp_path, "i3d") == both


def test_a_file_that_is_cut_off_is_found_though_its_name_is_there(tmp_path: Path) -> None:
    ready(tmp_path)
    save(tmp_path, "b")
    os.truncate(tmp_path / "b_rgb.npy", 5000)
    assert sorted_out(ready(tmp_path)) == VIDEOS


def test_what_failed_before_is_left_out_when_asked(tmp_path: Path) -> None:
    output = ready(tmp_path)
    left_out, left = sorted_out(output, failed=frozenset([os.path.abspath("a.mp4")]))
    assert isinstance(left_out, Row)
    assert (left_out.path, left_out.status) == ("a.mp4", "skipped")
    assert left == "dir/b.mp4"


def test_a_video_of_another_folder_and_the_same_name_is_not_taken_for_done(tmp_path: Path) -> None:
    videos = [tmp_path / part / "x.mp4" for part in ("first", "second", "gone")]
    for video in videos[:2]:
        video.parent.mkdir()
        video.touch()
    folder = tmp_path / "output"
    output = prepare(folder, "i3d", ("rgb",), SETTINGS, ["x"])
    save(folder, "x")
    with StatusLog(folder, "i3d") as log:
        log.add(Row(str(videos[0]), "ok", outputs=output.files("x")))
    (same,) = sorted_out(output, [str(videos[0])])
    assert isinstance(same, Row)
    assert same.status == "skipped"
    (other,) = sorted_out(output, [str(videos[1])])
    assert isinstance(other, Row)
    assert (other.status, other.reason) == ("failed", "name_taken")
    assert str(videos[0]) in (other.error or "")
    videos[0].unlink()  # moved, as whole datasets are
    (moved,) = sorted_out(output, [str(videos[1])])
    assert isinstance(moved, Row)
    assert moved.status == "skipped"


def test_a_folder_that_cannot_be_written_to_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SaveError, match=f"{tmp_path}/file/output"):
        ready(tmp_path / "file" / "output")


@pytest.mark.parametrize("number", [10, 2000])  # asked for each file, or for the folder's list
def test_names_are_looked_up_in_folders_large_and_small(tmp_path: Path, number: int) -> None:
    videos = [f"{i}.mp4" for i in range(number)]
    output = prepare(tmp_path, "i3d", ("rgb", "flow"), SETTINGS, [])
    for name in ("3_rgb.npy", "3_flow.npy", "5_rgb.npy"):
        np.save(tmp_path / name, np.ones((1, 1024), np.float32))
    found = [row for row in sorted_out(output, videos) if isinstance(row, Row)]
    assert [row.path for row in found] == ["3.mp4"]


def test_a_hundred_thousand_videos_are_sorted_out_in_seconds(tmp_path: Path) -> None:
    videos = [f"/videos/{i}.mp4" for i in range(100_000)]
    output = prepare(tmp_path, "i3d", ("rgb",), SETTINGS, [])
    np.save(tmp_path / "0_rgb.npy", np.ones((1, 1024), np.float32))
    for i in range(1, 5000):
        os.link(tmp_path / "0_rgb.npy", tmp_path / f"{i}_rgb.npy")
    start = time.monotonic()
    assert sum(isinstance(video, Row) for video in pending_videos(videos, stem_of, output, frozenset())) == 5000
    assert time.monotonic() - start < 5
