"""Features printed, and files that are whole or not there."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from utils.outputs import writers
from utils.results import Features, Predictions


@pytest.fixture
def features() -> Features:
    rows = np.random.default_rng(0).random((9, 1024), np.float32)
    spans = [(i * 2.56, i * 2.56 + 2.56) for i in range(9)]
    return Features({"rgb": rows, "flow": rows + 1}, spans, seconds=23.04)


def test_what_is_saved_is_there_as_it_was(tmp_path: Path, features: Features) -> None:
    folder = tmp_path / "new"
    paths = writers.save_numpy(features, folder, "a b")
    assert paths == [str(folder / "a b_rgb.npy"), str(folder / "a b_flow.npy")]
    assert paths == writers.output_paths(folder, "a b", ["rgb", "flow"])
    assert sorted(path.name for path in folder.iterdir()) == ["a b_flow.npy", "a b_rgb.npy"]
    assert writers.is_saved(folder, "a b", ["rgb", "flow"])
    assert writers.saved_stems(folder, "rgb") == {"a b"}
    for rows, path in zip(features.arrays.values(), paths, strict=True):
        saved = np.load(path, allow_pickle=False)
        assert saved.dtype == np.float32
        assert (saved == rows).all()


def test_a_set_with_a_file_that_is_not_later_than_a_time_is_not_saved_since_then(
    tmp_path: Path, features: Features
) -> None:
    for path, seconds in zip(writers.save_numpy(features, tmp_path, "clip"), (10, 12), strict=True):
        os.utime(path, (seconds, seconds))
    found = [writers.is_saved(tmp_path, "clip", ["rgb", "flow"], since) for since in (9.9, 10.0, 11.0, 12.0)]
    assert found == [True, False, False, False]


@pytest.mark.parametrize(
    "other",
    [
        None,
        b"",
        b"no array",
        slice(-1),
        "more",
        np.zeros((8, 1024), np.float32),
        np.zeros((9, 1024)),
        np.array([{}] * 9),
    ],
    ids=["missing", "empty", "text", "cut", "longer", "other length", "other type", "pickle"],
)
def test_a_set_that_is_not_whole_is_not_done(tmp_path: Path, features: Features, other: object) -> None:
    writers.save_numpy(features, tmp_path, "clip")
    path = tmp_path / "clip_flow.npy"
    if isinstance(other, np.ndarray):
        np.save(path, other, allow_pickle=True)
    elif other is None:
        path.unlink()
    elif isinstance(other, bytes):
        path.write_bytes(other)
    else:
        path.write_bytes(path.read_bytes()[other] if isinstance(other, slice) else path.read_bytes() + b"more")
    assert not writers.is_saved(tmp_path, "clip", ["rgb", "flow"])
    assert writers.is_saved(tmp_path, "clip", ["rgb"])


def test_the_description_shows_shapes_spans_and_values(features: Features) -> None:
    text = writers.describe("dir/clip.mp4", features)
    assert text.splitlines()[0] == "dir/clip.mp4: 23.04 s"
    assert "rgb (9, 1024) float32" in text
    assert "flow (9, 1024) float32" in text
    assert "0.00 -     2.56 s" in text
    assert "20.48 -    23.04 s" in text
    assert f"{features.arrays['rgb'][0, 0]:.4f}" in text
    assert f"{features.arrays['flow'][8, -1]:.4f}" in text
    assert len(text.splitlines()) < 20


def test_predictions_are_saved_a_line_for_each_stack_and_stream_with_the_likeliest_first(tmp_path: Path) -> None:
    classes = ['a "b", c', "d\ne", "f", "g", "h", "i"]
    rgb = np.log(np.array([[0.3, 0.1, 0.05, 0.2, 0.25, 0.1], [1e-9, 1, 1e-9, 1e-9, 1e-9, 1e-9]]))
    predictions = Predictions(classes, {"rgb": rgb, "flow": rgb[::-1]})
    writers.save_predictions(predictions, [(0, 2.56), (1.28, 3.84)], tmp_path, "x")
    with open(tmp_path / "x_predictions.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["begin"], line["end"], line["stream"]) for line in lines] == [
        (begin, end, stream)
        for begin, end in (("0.000000", "2.560000"), ("1.280000", "3.840000"))
        for stream in ("rgb", "flow")
    ]
    first = [(lines[0][f"class_{i}"], float(lines[0][f"probability_{i}"])) for i in range(1, 6)]
    assert first == [('a "b", c', 0.3), ("h", 0.25), ("g", 0.2), ("d\ne", 0.1), ("i", 0.1)]
    assert [line["class_1"] for line in lines] == ['a "b", c', "d\ne", "d\ne", 'a "b", c']


def test_timestamps_are_given_back_as_they_were(tmp_path: Path) -> None:
    spans = [(0.0, 16 / 29.97), (8 / 29.97, 20 / 29.97)]
    writers.save_timestamps(spans, tmp_path / "new", "x")
    saved = np.load(tmp_path / "new" / "x_timestamps.npy")
    assert saved.dtype == np.float64
    assert saved.tolist() == [list(span) for span in spans]
