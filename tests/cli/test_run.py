"""The program as a user runs it, on videos that have features."""

import csv
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import av
import numpy as np
import pytest

from tests.helpers import seeded
from tests.helpers.clips import Frame, write_clip
from tests.helpers.program import I3D, VGGISH, Run, run_program, saving
from tests.helpers.seeded import synthetic_clip
from tests.helpers.sounds import chord, write_wav
from utils.media.video import Video


def i3d(checkpoints: dict[str, str], *arguments: object, streams: Sequence[str] = ("rgb", "flow")) -> Run:
    """Run on small stacks, with stand-in weights, on the CPU unless told otherwise."""
    options: list[object] = ["--feature_type", "i3d", "--stack_size", 9, "--step_size", 9, "--min_side_size", 224]
    options += ["--streams", *streams]
    for option, path in checkpoints.items():
        options += [f"--{option}", path]
    if "--device_ids" not in arguments:
        options += ["--device_ids", "cpu"]
    return run_program(*options, *arguments)


def small_frames(number: int) -> list[Frame]:
    return [frame.transpose(1, 2, 0)[:224, :300] for frame in synthetic_clip()[:number]]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """15 frames of which a stack and a tail can be made."""
    return write_clip(tmp_path / "a clip's name.mp4", small_frames(15))


def test_two_workers_extract_both_streams_and_a_bad_video_fails_alone(
    tmp_path: Path, clip: Path, checkpoints: dict[str, str]
) -> None:
    other = tmp_path / "second.mp4"
    shutil.copy(clip, other)
    (tmp_path / "bad.mp4").write_text("no video at all\n" * 100)
    paths = [clip, tmp_path / "bad.mp4", other]
    (tmp_path / "list.txt").write_text("\n".join(map(str, paths)))
    command: list[object] = ["--file_with_video_paths", tmp_path / "list.txt", "--device_ids", "cpu", "cpu"]
    command += [*saving(tmp_path / "output"), "--report"]
    answer = i3d(checkpoints, *command)
    assert answer.status == 1, answer.stderr
    assert f"failed (unreadable): {tmp_path}/bad.mp4: " in answer.stderr
    assert "2 done" in answer.stderr
    assert "1 failed (unreadable: 1)" in answer.stderr
    assert "video-seconds/s" in answer.stderr
    names = {f"{path.stem}_{stream}.npy" for path in (clip, other) for stream in ("rgb", "flow")}
    assert {path.name for path in (tmp_path / "output").iterdir()} == names | {
        "settings.json",
        "status.jsonl",
        "report",
    }
    for path in (clip, other):
        page = (tmp_path / "output" / "report" / "videos" / path.stem / "page.html").read_text()
        titles = ["Frames", "Motion (optical flow)", "What it resembles", "Size of features", "Likeness of neighbours"]
        titles += ["Likeness of all rows: rgb", "Likeness of all rows: flow"]
        assert re.findall("<h3>(.*?)</h3>", page) == ["Video", "Time", *titles]
    (tmp_path / "output" / "report" / "index.html").unlink()
    again = run_program("--feature_type", "i3d", "--output_path", tmp_path / "output", "--report_only")
    assert again.status == 0, again.stderr
    overview = (tmp_path / "output" / "report" / "index.html").read_text()
    assert re.findall(r"<b>(\d+)</b>(done|failed)", overview) == [("2", "done"), ("1", "failed")]
    assert f"--file_with_video_paths {tmp_path}/list.txt --device_ids cpu cpu" in overview
    for stream in ("rgb", "flow"):
        rows = np.load(tmp_path / "output" / f"{clip.stem}_{stream}.npy")
        assert rows.shape == (2, 1024)
        assert rows.dtype == np.float32
        assert np.isfinite(rows).all()
        assert rows.std() > 0
        again = np.load(tmp_path / "output" / f"second_{stream}.npy")
        assert (again == rows).all(), "the same video has the same features on any worker"


def test_rgb_alone_needs_no_flow_weights_and_overwrites_when_asked(
    tmp_path: Path, clip: Path, checkpoints: dict[str, str]
) -> None:
    only = {"i3d_rgb_path": checkpoints["i3d_rgb_path"]}
    command = ["--video_paths", clip, *saving(tmp_path / "output")]
    assert i3d(only, *command, streams=["rgb"]).status == 0
    settings = json.loads((tmp_path / "output" / "settings.json").read_text())
    assert settings["i3d"]["settings"].keys() >= {"stack_size", "i3d_rgb_path"}
    assert "pwc_path" not in settings["i3d"]["settings"]
    assert {path.name for path in (tmp_path / "output").glob("*.npy")} == {f"{clip.stem}_rgb.npy"}
    assert np.load(tmp_path / "output" / f"{clip.stem}_rgb.npy").shape == (2, 1024)
    assert i3d(only, *command, "--tail", "drop", "--overwrite", streams=["rgb"]).status == 0
    assert np.load(tmp_path / "output" / f"{clip.stem}_rgb.npy").shape == (1, 1024)


def test_features_are_printed_with_shapes_and_spans(clip: Path, checkpoints: dict[str, str]) -> None:
    answer = i3d(checkpoints, "--video_paths", clip, "--show_kinetics_pred", streams=["rgb"])
    assert answer.status == 0, answer.stderr
    lines = answer.stdout.splitlines()
    assert lines[0] == f"{clip}: 0.60 s"
    assert "rgb (2, 1024) float32" in answer.stdout
    predictions = lines[lines.index("  0.00 - 0.36 s") :]
    assert predictions[6] == "  0.36 - 0.60 s"
    assert len(predictions) == 12
    for first in (1, 7):
        rows = [line.split(maxsplit=2) for line in predictions[first : first + 5]]
        logits, probabilities = ([float(row[i]) for row in rows] for i in (0, 1))
        assert logits == sorted(logits, reverse=True)
        expected = probabilities[0] * np.exp(np.subtract(logits, logits[0]))
        assert probabilities == pytest.approx(expected, abs=1e-3)
        assert len({row[2] for row in rows}) == 5


def test_predictions_join_both_streams_and_are_printed_beside_saving_and_of_what_is_saved(
    tmp_path: Path, clip: Path, checkpoints: dict[str, str]
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"class {i}\n" for i in range(400)))
    command = ["--video_paths", clip, *saving(tmp_path / "output"), "--show_kinetics_pred"]
    answer = i3d(checkpoints, *command, "--kinetics_class_labels", labels)
    assert answer.status == 0, answer.stderr
    features = {
        stream: np.load(tmp_path / "output" / f"{clip.stem}_{stream}.npy").astype(np.float64)
        for stream in ("rgb", "flow")
    }
    logits = np.zeros((2, 400))
    for stream, rows in features.items():
        state = seeded.state_dict(f"i3d_{stream}")
        kernel = state["conv3d_0c_1x1.conv3d.weight"].reshape(400, 1024).double().numpy()
        logits += rows @ kernel.T + state["conv3d_0c_1x1.conv3d.bias"].double().numpy()
    printed = [line.split(maxsplit=2) for line in answer.stdout.splitlines() if " class " in line]
    best = np.argsort(-logits, axis=1)[:, :5]
    assert [row[2] for row in printed] == [f"class {i}" for row in best for i in row]
    assert [float(row[0]) for row in printed] == pytest.approx(np.take_along_axis(logits, best, 1).ravel(), abs=2e-3)

    again = i3d(checkpoints, *command, "--kinetics_class_labels", labels)
    assert "1 skipped" in again.stderr
    saved = [line.split(maxsplit=2) for line in again.stdout.splitlines() if " class " in line]
    assert [row[2] for row in saved] == [row[2] for row in printed]
    assert [float(row[0]) for row in saved] == pytest.approx([float(row[0]) for row in printed], abs=2e-3)


def test_times_and_predictions_are_saved_and_made_later_of_features_that_are_there(
    tmp_path: Path, clip: Path, checkpoints: dict[str, str]
) -> None:
    output = tmp_path / "output"
    both = ["--save_timestamps", "--save_predictions"]
    command = ["--video_paths", clip, *saving(output)]
    assert i3d(checkpoints, *command, *both).status == 0
    times = np.load(output / f"{clip.stem}_timestamps.npy")
    assert times.dtype == np.float64
    assert times.tolist() == [[0, 9 / 25], [9 / 25, 15 / 25]]
    (row,) = (json.loads(line) for line in (output / "status.jsonl").read_text().splitlines())
    assert row["fps"] == 25
    files = {path: path.read_bytes() for path in output.glob("*_*.*")}
    with open(output / f"{clip.stem}_predictions.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["stream"] for line in lines] == ["rgb", "flow", "both"] * 2
    logits = np.zeros((3, 2, 400))
    for i, stream in enumerate(("rgb", "flow")):
        state = seeded.state_dict(f"i3d_{stream}")
        weight, bias = (state[f"conv3d_0c_1x1.conv3d.{part}"].double().numpy() for part in ("weight", "bias"))
        logits[i] = np.load(output / f"{clip.stem}_{stream}.npy") @ weight.reshape(400, 1024).T + bias
    logits[2] = logits[0] + logits[1]
    likeliest = (np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)).max(axis=-1)
    assert [float(line["probability_1"]) for line in lines] == pytest.approx(likeliest.T.ravel(), abs=1e-3)

    for extra in ("timestamps.npy", "predictions.csv"):
        (output / f"{clip.stem}_{extra}").unlink()
    is_done = i3d(checkpoints, *command, *both[1:])
    assert "1 skipped" in is_done.stderr, "nothing is extracted again"
    assert i3d(checkpoints, *command, *both[:1]).status == 0
    assert {path: path.read_bytes() for path in output.glob("*_*.*")} == files
    (output / f"{clip.stem}_timestamps.npy").unlink()
    (output / "status.jsonl").unlink()
    assert "1 done" in i3d(checkpoints, *command, *both).stderr, "whose rate nobody knows is extracted again"
    assert {path: path.read_bytes() for path in output.glob("*_*.*")} == files


def test_times_of_sound_follow_from_the_number_of_rows(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", chord(2.5, 16_000), 16_000)
    for saves_times in (False, True):
        answer = run_program(
            *VGGISH, "--video_paths", path, *["--save_timestamps"] * saves_times, output=tmp_path / "output"
        )
        assert answer.status == 0
    assert np.load(tmp_path / "output" / "a_timestamps.npy").tolist() == [[0, 0.96], [0.96, 1.92]]
    assert answer.row(path)["status"] == "skipped"


def test_frames_are_kept_without_loss_and_their_flow_in_colours(
    tmp_path: Path, clip: Path, checkpoints: dict[str, str]
) -> None:
    answer = i3d(checkpoints, "--video_paths", clip, "--keep_flow", "--tmp_path", tmp_path / "tmp", streams=["flow"])
    assert answer.status == 0, answer.stderr
    kept = {path.name: sorted(path.iterdir()) for path in (tmp_path / "tmp").iterdir()}
    names = {name: [path.name for path in pictures] for name, pictures in kept.items()}
    numbers = [f"{i:06d}.png" for i in range(1, 16)]
    assert names == {f"{clip.stem}_frames": numbers, f"{clip.stem}_flow": numbers[:-1]}
    with Video(str(clip), 224) as video:
        for frame, path in zip(video, kept[f"{clip.stem}_frames"], strict=True):
            assert (read_png(path) == frame).all()
    assert {read_png(path).shape for path in kept[f"{clip.stem}_flow"]} == {(224, 300, 3)}


def read_png(path: Path) -> Frame:
    with av.open(str(path)) as picture:
        return cast(Frame, next(picture.decode(video=0)).to_ndarray(format="rgb24"))


def test_untrained_networks_are_told_of_on_every_run(clip: Path) -> None:
    answer = run_program(*I3D, "--video_paths", clip)
    assert answer.status == 0, answer.stderr
    assert answer.stderr.count("UNTRAINED") == 2
    assert "rgb (2, 1024) float32" in answer.stdout


def test_features_of_before_hops_could_be_chosen_are_not_mixed_with_those_of_another(tmp_path: Path) -> None:
    settings = {"postprocess": False, "precision": "default", "vggish_model_path": "random"}
    (tmp_path / "settings.json").write_text(json.dumps({"vggish": {"since": 0.0, "settings": settings}}))
    command = [*VGGISH, "--video_paths", tmp_path / "a.wav", *saving(tmp_path), "--dry_run"]
    assert run_program(*command).status == 0
    refused = run_program(*command, "--hop_seconds", 0.32, "--pad_short")
    assert refused.status == 3
    assert "hop_seconds was 0.96 and is 0.32, pad_short was False and is True" in refused.stderr
