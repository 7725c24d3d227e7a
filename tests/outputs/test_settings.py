"""The record of what an output folder's features were made with."""

import json
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from utils.errors import SettingsError
from utils.outputs import settings
from utils.outputs.settings import differences, record, recorded, since


def test_each_feature_type_has_its_own_record(tmp_path: Path) -> None:
    assert recorded(tmp_path, "i3d") == {}
    record(tmp_path, "i3d", {"stack_size": 64, "extraction_fps": None})
    record(tmp_path, "vggish", {"postprocess": False})
    assert recorded(tmp_path, "i3d") == {"stack_size": 64, "extraction_fps": None}
    assert recorded(tmp_path, "vggish") == {"postprocess": False}
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]


def test_what_changed_is_named_and_what_is_new_is_no_change() -> None:
    before = {"stack_size": 64, "tail": "cycle"}
    assert differences(before, before | {"pwc_path": "abc"}) == ""
    assert differences(before, {"stack_size": 24, "tail": "cycle"}) == "stack_size was 64 and is 24"
    assert differences({}, before) == ""


def test_what_is_recorded_later_comes_on_top_unless_it_is_anew(tmp_path: Path) -> None:
    record(tmp_path, "i3d", {"tail": "cycle", "rgb": "abc"})
    record(tmp_path, "i3d", {"tail": "drop", "flow": "def"})
    assert recorded(tmp_path, "i3d") == {"tail": "drop", "rgb": "abc", "flow": "def"}
    record(tmp_path, "i3d", {"tail": "cycle"}, anew=True)
    assert recorded(tmp_path, "i3d") == {"tail": "cycle"}


def test_what_is_recorded_already_is_not_written_again(tmp_path: Path) -> None:
    record(tmp_path, "i3d", {"stack_size": 64, "extraction_fps": None})
    before = (tmp_path / "settings.json").stat()
    record(tmp_path, "i3d", {"stack_size": 64, "extraction_fps": None})
    record(tmp_path, "i3d", {"stack_size": 64})
    after = (tmp_path / "settings.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


# From when on


def stamp(path: Path) -> float:
    """When a file that is written now was written."""
    path.write_text("features")
    return path.stat().st_mtime


def test_nothing_is_known_of_when_before_anything_is_recorded(tmp_path: Path) -> None:
    assert since(tmp_path, "i3d") == 0
    record(tmp_path, "i3d", {})
    assert since(tmp_path, "i3d") > 0
    assert since(tmp_path, "vggish") == 0


def test_the_time_is_between_the_files_before_and_those_after(tmp_path: Path) -> None:
    for i in range(30):
        before = stamp(tmp_path / f"before {i}")
        record(tmp_path, "i3d", {"stack_size": 64}, anew=True)
        after = stamp(tmp_path / f"after {i}")
        assert before < since(tmp_path, "i3d") <= after


def test_the_time_is_the_file_systems_not_this_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1e6)
    record(tmp_path, "i3d", {})
    assert since(tmp_path, "i3d") <= stamp(tmp_path / "a.npy") < since(tmp_path, "i3d") + 60


def test_a_clock_that_stands_still_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "MAX_TICK_SECONDS", 0.05)
    monkeypatch.setattr(os, "utime", lambda *_: None)
    record(tmp_path, "i3d", {})
    assert 0 < since(tmp_path, "i3d") <= stamp(tmp_path / "a.npy")


def test_the_time_stays_until_all_is_made_anew(tmp_path: Path) -> None:
    record(tmp_path, "i3d", {"stack_size": 64})
    begin = since(tmp_path, "i3d")
    record(tmp_path, "i3d", {"stack_size": 64})
    record(tmp_path, "i3d", {"stack_size": 64, "pwc_path": "abc"})
    record(tmp_path, "vggish", {}, anew=True)
    assert since(tmp_path, "i3d") == begin
    record(tmp_path, "i3d", {"stack_size": 64, "pwc_path": "abc"}, anew=True)
    assert since(tmp_path, "i3d") > begin
    assert since(tmp_path, "vggish") > begin


def test_records_without_a_time_go_on_to_count(tmp_path: Path) -> None:
    old = {"i3d": {"stack_size": 64}, "vggish": {}}
    (tmp_path / "settings.json").write_text(json.dumps(old))
    assert recorded(tmp_path, "i3d") == {"stack_size": 64}
    assert since(tmp_path, "i3d") == 0
    record(tmp_path, "i3d", {"stack_size": 64, "pwc_path": "abc"})
    assert since(tmp_path, "i3d") == 0
    record(tmp_path, "i3d", {"stack_size": 24}, anew=True)
    assert since(tmp_path, "i3d") > 0
    assert (recorded(tmp_path, "vggish"), since(tmp_path, "vggish")) == ({}, 0)
    assert json.loads((tmp_path / "settings.json").read_text()) == {
        "i3d": {"since": since(tmp_path, "i3d"), "settings": {"stack_size": 24}},
        "vggish": {"since": 0.0, "settings": {}},
    }


# Several programs, and damage


def record_often(folder: Path, feature_type: str) -> None:
    for i in range(30):
        record(folder, feature_type, {"number": i}, anew=i % 10 == 0)
        assert recorded(folder, feature_type) == {"number": i}


def test_programs_that_record_at_once_lose_nothing_of_each_other(tmp_path: Path) -> None:
    types = ["i3d", "vggish", "clip"]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=record_often, args=(tmp_path, name)) for name in types]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert [recorded(tmp_path, name) for name in types] == [{"number": 29}] * 3
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1]",
        "3",
        '{"i3d": 3}',
        '{"i3d": {"since": "today", "settings": {}}}',
        '{"i3d": {"since": 1.5, "settings": []}}',
        '{"i3d": {"settings": {}}}',
        "\udcff",
    ],
)
def test_a_record_that_cannot_be_read_is_told_and_stays(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.json").write_text(text, errors="surrogateescape")
    for ask in (recorded, since, lambda folder, name: record(folder, name, {}, anew=True)):
        with pytest.raises(SettingsError, match=r"settings\.json"):
            ask(tmp_path, "i3d")
    assert (tmp_path / "settings.json").read_text(errors="surrogateescape") == text
