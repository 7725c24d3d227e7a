"""Which videos are left to do, in an output folder that holds something."""

from pathlib import Path

import numpy as np
import pytest

from main import Job, not_done
from models.i3d import Config
from utils.settings import SettingsError, recorded

SETTINGS: dict[str, object] = {"stack_size": 64, "i3d_rgb_path": "abc"}
VIDEOS = ["a.mp4", "dir/b.mp4"]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job("i3d", Config(streams=("rgb",)), str(tmp_path / "output"), None, stems={}, num_threads=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An output folder with the features of b.mp4."""
    (tmp_path / "output").mkdir()
    np.save(tmp_path / "output" / "b_rgb.npy", np.ones((2, 1024), np.float32))
    return tmp_path / "output"


def test_an_empty_folder_has_all_left_to_do_and_a_record(job: Job, tmp_path: Path) -> None:
    assert not_done(job, VIDEOS, SETTINGS, overwrite=False) == VIDEOS
    assert recorded(tmp_path / "output", "i3d") == SETTINGS


def test_files_that_nobody_knows_how_they_were_made_are_left_alone(job: Job, folder: Path) -> None:
    with pytest.raises(SettingsError, match=r"1 of these videos' files.*--overwrite"):
        not_done(job, VIDEOS, SETTINGS, overwrite=False)
    assert recorded(folder, "i3d") == {}
    assert not_done(job, ["a.mp4"], SETTINGS, overwrite=False) == ["a.mp4"]


def test_what_was_made_with_the_same_settings_is_done(job: Job, folder: Path) -> None:
    assert not_done(job, VIDEOS, SETTINGS, overwrite=True) == VIDEOS
    assert not_done(job, VIDEOS, SETTINGS, overwrite=False) == ["a.mp4"]


@pytest.mark.parametrize("change", [{"stack_size": 24}, {"i3d_rgb_path": "random"}])
def test_other_settings_or_weights_are_refused_and_named(job: Job, folder: Path, change: dict[str, object]) -> None:
    not_done(job, VIDEOS, SETTINGS, overwrite=True)
    ((name, value),) = change.items()
    with pytest.raises(SettingsError, match=f"{name} was {SETTINGS[name]} and is {value}"):
        not_done(job, VIDEOS, SETTINGS | change, overwrite=False)
    assert not_done(job, VIDEOS, SETTINGS | change, overwrite=True) == VIDEOS
    assert recorded(folder, "i3d") == SETTINGS | change


def test_another_stream_goes_into_the_same_folder(job: Job, folder: Path) -> None:
    not_done(job, VIDEOS, SETTINGS, overwrite=True)
    both = SETTINGS | {"i3d_flow_path": "def", "pwc_path": "ghi"}
    assert not_done(job, VIDEOS, both, overwrite=False) == ["a.mp4"]
    assert recorded(folder, "i3d") == both


def test_printing_asks_nothing_of_the_output_folder(folder: Path) -> None:
    job = Job("i3d", Config(), None, None, stems={}, num_threads=1)
    assert not_done(job, VIDEOS, SETTINGS, overwrite=False) == VIDEOS
