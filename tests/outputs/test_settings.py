"""The record of what an output folder's features were made with."""

import contextlib
import json
import math
import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest

from utils.errors import CollisionError, SettingsError
from utils.outputs.atomic import whole_file
from utils.outputs.settings import Record, Settings, read_records, record


def settings_in(folder: Path) -> dict[str, Settings]:
    return {feature_type: entry.settings for feature_type, entry in read_records(folder).items()}


def test_what_is_recorded_later_comes_on_top_if_it_agrees(tmp_path: Path) -> None:
    first = record(tmp_path, "i3d", {"tail": "cycle", "rgb": "abc"})
    assert record(tmp_path, "i3d", {"tail": "cycle", "flow": "def"}).since == first.since
    inode = (tmp_path / "settings.json").stat().st_ino
    record(tmp_path, "i3d", {"flow": "def"})
    assert (tmp_path / "settings.json").stat().st_ino == inode, "which other programs hold a lock on"
    with pytest.raises(SettingsError, match=r"features: tail was cycle and is drop\. .*--overwrite"):
        record(tmp_path, "i3d", {"tail": "drop", "rgb": "abc"})
    assert settings_in(tmp_path) == {"i3d": {"tail": "cycle", "rgb": "abc", "flow": "def"}}
    record(tmp_path, "i3d", {"tail": "drop"}, overwrite=True)
    assert settings_in(tmp_path) == {"i3d": {"tail": "drop"}}


def test_what_was_recorded_before_there_was_an_option_counts_as_its_default(tmp_path: Path) -> None:
    defaults: Settings = {"tail": "cycle", "hop": 0.96}
    first = record(tmp_path, "vggish", {"tail": "drop"})
    with pytest.raises(SettingsError, match=r"features: hop was 0\.96 and is 0\.32\."):
        record(tmp_path, "vggish", {"tail": "drop", "hop": 0.32}, defaults=defaults)
    later = record(tmp_path, "vggish", {"tail": "drop", "hop": 0.96}, defaults=defaults)
    assert later == Record(first.since, {"tail": "drop", "hop": 0.96})
    with pytest.raises(SettingsError, match=r"features: hop was 0\.96 and is 0\.32\."):
        record(tmp_path, "vggish", {"tail": "drop", "hop": 0.32})


def test_names_of_files_are_recorded_by_their_suffix_and_refused_where_two_can_be_the_same(tmp_path: Path) -> None:
    first = record(tmp_path, "i3d", {}, files={"rgb": ["{stem}_rgb.npy"]})
    both = record(tmp_path, "i3d", {}, files={"flow": ["{stem}_flow.npy"]})
    assert both == Record(first.since, {}, {"rgb": ["{stem}_rgb.npy"], "flow": ["{stem}_flow.npy"]})
    text = (tmp_path / "settings.json").read_bytes()
    for feature_type, files in [
        ("i3d", {"x": ["{stem}_rgb.npy"]}),
        ("vggish", {"vggish": ["{stem}.npy"]}),
        ("vggish", {"vggish": ["a/{stem}.npy", "{stem}_flow.npy"]}),
    ]:
        with pytest.raises(CollisionError, match=f"^--output_name: in {tmp_path}: .*or give another --output_path"):
            record(tmp_path, feature_type, {}, files=files)
        assert (tmp_path / "settings.json").read_bytes() == text
    record(tmp_path, "vggish", {}, files={"vggish": ["{stem}_vggish.npy"]})
    record(tmp_path, "i3d", {}, overwrite=True, files={"i3d": ["{stem}_rgb.npy"]})
    assert read_records(tmp_path)["i3d"].files == {"i3d": ["{stem}_rgb.npy"]}


def test_with_overwrite_no_file_of_before_is_later_than_since_and_each_after_a_tick_is(tmp_path: Path) -> None:
    for i in range(10):
        (tmp_path / "before").write_text(str(i))
        since = record(tmp_path, "i3d", {"stack_size": 64}, overwrite=True).since
        assert (tmp_path / "before").stat().st_mtime <= since
        time.sleep(0.02)  # the clock of file systems ticks each 1 to 10 ms
        (tmp_path / "after").write_text(str(i))
        assert (tmp_path / "after").stat().st_mtime > since


def test_records_without_a_time_go_on_to_count(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"i3d": {"stack_size": 64}, "vggish": {}}')
    assert record(tmp_path, "i3d", {"stack_size": 64, "pwc_path": "abc"}) == Record(
        0, {"stack_size": 64, "pwc_path": "abc"}
    )
    since = record(tmp_path, "i3d", {"stack_size": 24}, overwrite=True).since
    assert since > 0
    assert json.loads((tmp_path / "settings.json").read_text()) == {
        "i3d": {"since": since, "settings": {"stack_size": 24}, "files": {}},
        "vggish": {"since": 0.0, "settings": {}, "files": {}},
    }


def record_often(folder: Path, feature_type: str) -> None:
    for i in range(15):
        record(folder, feature_type, {"number": i}, overwrite=True)
        assert settings_in(folder)[feature_type] == {"number": i}


def test_programs_that_record_at_once_lose_nothing_of_each_other(tmp_path: Path) -> None:
    types = ["i3d", "vggish", "clip"]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=record_often, args=(tmp_path, name)) for name in types]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert settings_in(tmp_path) == {name: {"number": 14} for name in types}
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]


@pytest.mark.parametrize("other", [("vggish", {"postprocess": True}), ("i3d", {"stack_size": 24})])
def test_without_locks_the_first_of_programs_that_start_at_once_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: tuple[str, Settings]
) -> None:
    """Each is delayed at the worst moment, when it has read that there is nothing and has not yet written."""

    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    def delayed(path: Path, replaces: bool) -> contextlib.AbstractContextManager[BinaryIO]:
        if not replaces:
            barrier.wait(10)
        return whole_file(path, replaces)

    monkeypatch.setattr("fcntl.flock", no_locks)
    monkeypatch.setattr("utils.outputs.settings.whole_file", delayed)
    barrier = threading.Barrier(9)
    with ThreadPoolExecutor(9) as pool:
        calls = [("i3d", {"stack_size": 64})] * 8 + [other]
        programs = [pool.submit(record, tmp_path, *call) for call in calls]
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]
    records = settings_in(tmp_path)
    for (feature_type, settings), program in zip(calls, programs, strict=True):
        if settings == records[feature_type]:
            assert program.result().settings == settings
        else:
            with pytest.raises(SettingsError, match=r"stack_size was (24|64) and is (24|64)"):
                program.result()
    assert records.keys() == {"i3d", other[0]}


def test_without_locks_all_shards_go_by_the_time_that_the_first_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first: list[Record] = []

    def late(path: Path, replaces: bool) -> contextlib.AbstractContextManager[BinaryIO]:
        with monkeypatch.context() as others:
            others.setattr("utils.outputs.settings.whole_file", whole_file)
            first.append(record(tmp_path, "i3d", {"stack_size": 64}))
        time.sleep(0.02)  # the clock of file systems ticks each 1 to 10 ms
        return whole_file(path, replaces)

    monkeypatch.setattr("fcntl.flock", lambda *_: None)
    monkeypatch.setattr("utils.outputs.settings.whole_file", late)
    assert [record(tmp_path, "i3d", {"stack_size": 64})] == first
    assert read_records(tmp_path)["i3d"] == first[0]


def test_a_dry_run_tells_what_was_recorded_and_writes_nothing(tmp_path: Path) -> None:
    assert record(tmp_path / "missing", "i3d", {"tail": "cycle"}, dry_run=True).since == math.inf
    assert list(tmp_path.iterdir()) == []
    since = record(tmp_path, "i3d", {"tail": "cycle"}).since
    text = (tmp_path / "settings.json").read_bytes()
    assert record(tmp_path, "i3d", {"tail": "cycle", "flow": "def"}, dry_run=True).since == since
    assert record(tmp_path, "i3d", {"tail": "drop"}, overwrite=True, dry_run=True).since == math.inf
    with pytest.raises(SettingsError, match="tail was cycle and is drop"):
        record(tmp_path, "i3d", {"tail": "drop"}, dry_run=True)
    assert (tmp_path / "settings.json").read_bytes() == text


NO_NAMES = [
    f'{{"i3d": {{"since": 0, "settings": {{}}, "files": {files}}}}}' for files in ("3", '{"a": []}', '{"a": ["x"]}')
]
UNREADABLE = [
    *NO_NAMES,
    "",
    "[1]",
    '{"i3d": 3}',
    '{"i3d": {"since": "today", "settings": {}}}',
    '{"i3d": {"settings": {}}}',
]


@pytest.mark.parametrize("text", [*UNREADABLE, "\udcff"])
def test_a_record_that_cannot_be_read_is_told_and_stays(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.json").write_text(text, errors="surrogateescape")
    with pytest.raises(SettingsError, match=r"settings\.json cannot be read: .*Delete it"):
        record(tmp_path, "i3d", {}, overwrite=True)
    assert (tmp_path / "settings.json").read_text(errors="surrogateescape") == text
