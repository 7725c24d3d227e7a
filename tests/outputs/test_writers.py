"""Features printed, and files that are whole or not there."""

import csv
import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from utils.errors import MediaError
from utils.outputs import writers
from utils.outputs.files import FileOptions, Files
from utils.results import Arrays, Features, Predictions

BOTH = Files("i3d", ("rgb", "flow"))


@pytest.fixture
def features() -> Features:
    rows = np.random.default_rng(0).random((9, 1024), np.float32)
    spans = [(i * 2.56, i * 2.56 + 2.56) for i in range(9)]
    return Features({"rgb": rows, "flow": rows + 1}, spans, seconds=23.04)


def test_what_is_saved_is_there_as_it_was(tmp_path: Path, features: Features) -> None:
    folder = tmp_path / "new"
    paths = writers.save_numpy(features, folder, "a b", BOTH)
    assert paths == [str(folder / "a b_rgb.npy"), str(folder / "a b_flow.npy")]
    assert paths == BOTH.paths(folder, "a b")
    assert sorted(path.name for path in folder.iterdir()) == ["a b_flow.npy", "a b_rgb.npy"]
    assert writers.is_saved(folder, "a b", BOTH)
    assert writers.saved_stems(folder, BOTH) == {"a b"}
    for rows, path in zip(features.arrays.values(), paths, strict=True):
        saved = np.load(path, allow_pickle=False)
        assert saved.dtype == np.float32
        assert (saved == rows).all()


def test_a_set_with_a_file_that_is_not_later_than_a_time_is_not_saved_since_then(
    tmp_path: Path, features: Features
) -> None:
    for path, seconds in zip(writers.save_numpy(features, tmp_path, "clip", BOTH), (10, 12), strict=True):
        os.utime(path, (seconds, seconds))
    found = [writers.is_saved(tmp_path, "clip", BOTH, since) for since in (9.9, 10.0, 11.0, 12.0)]
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
    writers.save_numpy(features, tmp_path, "clip", BOTH)
    path = tmp_path / "clip_flow.npy"
    if isinstance(other, np.ndarray):
        np.save(path, other, allow_pickle=True)
    elif other is None:
        path.unlink()
    elif isinstance(other, bytes):
        path.write_bytes(other)
    else:
        path.write_bytes(path.read_bytes()[other] if isinstance(other, slice) else path.read_bytes() + b"more")
    assert not writers.is_saved(tmp_path, "clip", BOTH)
    assert writers.is_saved(tmp_path, "clip", Files("i3d", ("rgb",)))


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


FORMATS = [
    FileOptions(),
    FileOptions(concatenate=True),
    FileOptions(transpose=True),
    FileOptions(concatenate=True, transpose=True, output_name="{suffix}/{stem}"),
    FileOptions(output_name="{stem}/{suffix}_{crop}"),
    FileOptions(concatenate=True, transpose=True, dtype="float16", output_name="{stem}_{crop}"),
]


@pytest.mark.parametrize("options", FORMATS, ids=lambda options: " ".join(options.given) or "default")
@pytest.mark.parametrize("num_crops", [1, 3])
def test_features_come_back_from_each_format_as_they_were(tmp_path: Path, options: FileOptions, num_crops: int) -> None:
    if num_crops == 1 and "{crop}" in options.output_name:
        options = dataclasses.replace(options, output_name=options.output_name.replace("{crop}", "x"))
    files = Files("i3d", ("rgb", "flow"), num_crops, options)
    shape = (5, 8) if num_crops == 1 else (5, 3, 8)
    arrays: Arrays = {
        "flow": np.arange(120, dtype=np.float32)[-np.prod(shape) :].reshape(shape),
        "rgb": np.arange(120, dtype=np.float32)[: np.prod(shape)].reshape(shape) / 4,  # exact in half precision
    }
    paths = writers.save_numpy(Features(arrays, [], 1.0), tmp_path, "x", files)
    assert {str(path) for path in tmp_path.rglob("*.npy")} == set(paths)
    assert writers.is_saved(tmp_path, "x", files)
    assert writers.saved_stems(tmp_path, files) == {"x"}
    loaded = writers.load_numpy(tmp_path, "x", files)
    assert list(loaded) == ["rgb", "flow"]
    for stream, rows in loaded.items():
        assert rows.dtype == np.float32
        assert (rows == arrays[stream]).all()
    os.truncate(paths[-1], os.path.getsize(paths[-1]) - 1)
    assert not writers.is_saved(tmp_path, "x", files)


def test_streams_are_joined_rgb_first_and_arrays_turned_and_rounded_as_asked(tmp_path: Path) -> None:
    rgb, flow = np.array([[1, 2], [3, 4], [5, 6.0001]], np.float32), np.full((3, 2), 7, np.float32)
    options = FileOptions(concatenate=True, transpose=True, dtype="float16", output_name="{stem}")
    features = Features({"flow": flow, "rgb": rgb}, [], 1.0)
    assert writers.save_numpy(features, tmp_path, "x", Files("i3d", ("rgb", "flow"), 1, options)) == [
        str(tmp_path / "x.npy")
    ]
    saved = np.load(tmp_path / "x.npy")
    assert saved.dtype == np.float16
    assert saved.tolist() == [[1, 3, 5], [2, 4, 6], [7, 7, 7], [7, 7, 7]]
    assert saved.flags["C_CONTIGUOUS"]


def test_crops_are_turned_with_the_features_first_and_have_a_file_each_if_named_so(tmp_path: Path) -> None:
    rows = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    features = Features({"rgb": rows}, [], 1.0)
    turned = Files("i3d", ("rgb",), 3, FileOptions(transpose=True))
    (path,) = writers.save_numpy(features, tmp_path, "x", turned)
    saved = np.load(path)
    assert [[saved[d, k].tolist() for k in range(3)] for d in range(4)] == [
        [[rows[n, k, d] for n in range(2)] for k in range(3)] for d in range(4)
    ]
    each = Files("i3d", ("rgb",), 3, FileOptions(transpose=True, output_name="{stem}__{crop}"))
    for crop, path in enumerate(writers.save_numpy(features, tmp_path, "x", each)):
        assert path == str(tmp_path / f"x__{crop}.npy")
        assert np.load(path).tolist() == [[rows[n, crop, d] for n in range(2)] for d in range(4)]
    np.save(path, np.zeros((4, 3), np.float32))
    assert not writers.is_saved(tmp_path, "x", each), "one crop has more rows than the others"


def test_quantized_features_are_saved_in_the_type_asked_for_and_flow_as_it_is(tmp_path: Path) -> None:
    rows = np.array([[0, 255]], np.uint8)
    files = Files("vggish", ("vggish",), options=FileOptions(dtype="float32"))
    (path,) = writers.save_numpy(Features({"vggish": rows}, [(0, 1)], 1.0), tmp_path, "x", files)
    assert np.load(path).dtype == np.float32
    assert np.load(path).tolist() == [[0, 255]]
    assert not writers.is_saved(tmp_path, "x", Files("vggish", ("vggish",), options=FileOptions(dtype="float16")))
    maps = np.arange(48, dtype=np.float32).reshape(3, 2, 2, 4)
    flow = Files("flow", ("flow",))
    (path,) = writers.save_numpy(Features({"flow": maps}, [], 1.0), tmp_path, "y", flow)
    assert (np.load(path) == maps).all()
    assert writers.is_saved(tmp_path, "y", flow)


def test_the_description_shows_both_ends_of_a_row_of_several_crops() -> None:
    rows = np.arange(16, dtype=np.float32).reshape(1, 2, 8)
    text = writers.describe("x.mp4", Features({"rgb": rows}, [(0, 1)], 1.0))
    assert "0.0000   1.0000   2.0000 ...  13.0000  14.0000  15.0000" in text.splitlines()[-1]


def test_features_that_are_too_large_for_their_type_are_no_file(tmp_path: Path) -> None:
    features = Features({"rgb": np.array([[70_000.0]], np.float32)}, [], 1.0)
    with pytest.raises(MediaError, match="x: has features that are too large for --dtype float16"):
        writers.save_numpy(features, tmp_path, "x", Files("i3d", ("rgb",), options=FileOptions(dtype="float16")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("template", "quick"),
    [("{stem}_{suffix}", {"a", "b"}), ("{suffix}/p {stem}", {"a", "b"}), ("{stem}/{suffix}", {"a", "b", "x"})],
)
def test_stems_are_found_by_names_and_in_all_folders_when_asked(tmp_path: Path, template: str, quick: set[str]) -> None:
    files = Files("i3d", ("rgb",), options=FileOptions(output_name=template))
    assert writers.saved_stems(tmp_path / "none", files) == set()
    features = Features({"rgb": np.ones((1, 2), np.float32)}, [], 1.0)
    for stem in ("a", "b", "x/c"):
        writers.save_numpy(features, tmp_path, stem, files)
    writers.save_numpy(features, tmp_path / "of another run", "z", files)
    (tmp_path / "of another run" / "settings.json").touch()
    (tmp_path / "settings.json").touch()
    (tmp_path / "a.npy").touch()
    (tmp_path / "_rgb.npy").touch()
    assert writers.saved_stems(tmp_path, files) & {"a", "b", "c", "x", "z", "", "x/c"} == quick
    assert writers.find_stems(tmp_path, files) == ["a", "b", "x/c"]
