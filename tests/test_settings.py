"""The record of what an output folder's features were made with."""

from pathlib import Path

import pytest

from utils.settings import SettingsError, differences, record, recorded


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


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"i3d": 3}'])
def test_a_record_that_cannot_be_read_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(SettingsError, match=r"settings\.json"):
        recorded(tmp_path, "i3d")
