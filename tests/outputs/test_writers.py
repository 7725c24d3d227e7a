"""Features printed, and files that are whole or not there."""

import os
from pathlib import Path

import numpy as np
import pytest

from utils.outputs import writers as sinks
from utils.results import Features


@pytest.fixture
def features() -> Features:
    rows = np.random.default_rng(0).random((9, 1024), np.float32)
    spans = [(i * 2.56, i * 2.56 + 2.56) for i in range(9)]
    return Features({"rgb": rows, "flow": rows + 1}, spans, seconds=23.04)


def test_what_is_saved_is_loaded_as_it_was(tmp_path: Path, features: Features) -> None:
    outputs = sinks.save_numpy(features, tmp_path / "new", "a b")
    assert outputs == [str(tmp_path / "new" / "a b_rgb.npy"), str(tmp_path / "new" / "a b_flow.npy")]
    for suffix, rows in features.arrays.items():
        loaded = np.load(tmp_path / "new" / f"a b_{suffix}.npy", allow_pickle=False)
        assert loaded.dtype == np.float32
        assert (loaded == rows).all()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a b_flow.npy", "a b_rgb.npy"]
    assert sinks.is_saved(tmp_path / "new", "a b", ["rgb", "flow"])


def test_a_file_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, features: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        sinks.save_numpy(features, tmp_path, "clip")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "text", "other length", "other type", "pickle"])
def test_a_set_that_is_not_whole_is_not_done(tmp_path: Path, features: Features, damage: str) -> None:
    sinks.save_numpy(features, tmp_path, "clip")
    path = tmp_path / "clip_flow.npy"
    match damage:
        case "missing":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "cut":
            path.write_bytes(path.read_bytes()[:-1])
        case "text":
            path.write_text("no array")
        case "other length":
            np.save(path, np.zeros((8, 1024), np.float32))
        case "other type":
            np.save(path, np.zeros((9, 1024), np.float64))
        case "pickle":
            np.save(path, np.array([{}] * 9), allow_pickle=True)
    assert not sinks.is_saved(tmp_path, "clip", ["rgb", "flow"])
    assert sinks.is_saved(tmp_path, "clip", ["rgb"])


def test_the_description_shows_shapes_spans_and_values(features: Features) -> None:
    text = sinks.text_of("dir/clip.mp4", features)
    assert text.splitlines()[0] == "dir/clip.mp4: 23.04 s"
    assert "rgb (9, 1024) float32" in text
    assert "flow (9, 1024) float32" in text
    assert "0.00 -     2.56 s" in text
    assert "20.48 -    23.04 s" in text
    assert f"{features.arrays['rgb'][0, 0]:.4f}" in text
    assert f"{features.arrays['flow'][8, -1]:.4f}" in text
    assert len(text.splitlines()) < 20
