"""The program as a user runs it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest

from tests.helpers import seeded
from tests.helpers.clips import Frame, set_display_matrix, write_clip
from tests.helpers.oracles import REPOSITORY, cosines
from tests.helpers.processes import wait_until
from tests.helpers.seeded import synthetic_clip
from utils.media.video import Video

SMALL = ["--stack_size", "9", "--step_size", "9", "--min_side_size", "224"]


def run(*arguments: object, timeout: float = 120) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(REPOSITORY / "main.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def i3d(
    checkpoints: dict[str, str], *arguments: object, streams: Sequence[str] = ("rgb", "flow")
) -> "subprocess.CompletedProcess[str]":
    """Run on small stacks, with stand-in weights, on the CPU unless told otherwise."""
    options: list[object] = [*SMALL, "--streams", *streams]
    for option, path in checkpoints.items():
        options += [f"--{option}", path]
    if "--device_ids" not in arguments:
        options += ["--device_ids", "cpu"]
    return run("--feature_type", "i3d", *options, *arguments)


def small_frames(number: int) -> list[Frame]:
    return [frame.transpose(1, 2, 0)[:224, :300] for frame in synthetic_clip()[:number]]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """15 frames of which a stack and a tail can be made."""
    return write_clip(tmp_path / "a clip's name.mp4", small_frames(15))


# Options


def test_help_answers_at_once_and_needs_no_torch() -> None:
    run("--help")  # compiles the modules
    start = time.monotonic()
    answer = run("--help")
    assert time.monotonic() - start < 0.5
    assert answer.returncode == 0
    for option in ("--feature_type", "--device_ids", "--stack_size", "--tail", "--weights", "--keep_frames"):
        assert option in answer.stdout
    probe = "import sys; sys.argv = ['main.py', '--help']\ntry: import main; main.main()\nexcept SystemExit: pass\n"
    probe += "assert not {'torch', 'tensorflow', 'numpy'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", probe], cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--feature_type", "i3d"], "--video_paths"),
        (["--feature_type", "i3d", "--video_paths", "a", "--file_with_video_paths", "b"], "not allowed with"),
        (["--feature_type", "c3d", "--video_paths", "a"], "c3d"),
        (["--video_paths", "a"], "--feature_type"),
        (["--feature_type", "i3d", "--video_paths", "a", "--stack_size", "8"], "--stack_size 8: .* at least 9"),
        (["--feature_type", "i3d", "--video_paths", "a", "--stack_size", "many"], "many"),
        (["--feature_type", "i3d", "--video_paths", "a", "--step_size", "0"], "--step_size 0"),
        (["--feature_type", "i3d", "--video_paths", "a", "--extraction_fps", "0"], "--extraction_fps"),
        (["--feature_type", "i3d", "--video_paths", "a", "--extraction_fps", "nan"], "--extraction_fps"),
        (["--feature_type", "i3d", "--video_paths", "a", "--min_side_size", "223"], "--min_side_size 223"),
        (["--feature_type", "i3d", "--video_paths", "a", "--batch_size", "0"], "--batch_size 0"),
        (["--feature_type", "vggish", "--video_paths", "a", "--batch_size", "-1"], "--batch_size -1"),
        (["--feature_type", "i3d", "--video_paths", "a", "--device_ids", "cpu", "--precision", "fp16"], "fp16: a CPU"),
        (["--feature_type", "i3d", "--video_paths", "a", "--precision", "fp8"], "fp8"),
        (["--feature_type", "i3d", "--video_paths", "a", "--device_ids", "cpu", "--hardware_decoding"], "by GPUs"),
        (["--feature_type", "i3d", "--video_paths", "a", "--device_ids", "gpu"], "'gpu'"),
        (["--feature_type", "i3d", "--video_paths", "a", "--device_ids", "4096"], "4096: no such GPU"),
        (["--feature_type", "i3d", "--video_paths", "a", "--streams", "depth"], "depth"),
        (["--feature_type", "i3d", "--video_paths", "a", "--stack", "64"], "--stack"),
        (["--feature_type", "i3d", "--file_with_video_paths", "/no/such.txt"], "/no/such.txt: No such file"),
        (["--feature_type", "i3d", "--file_with_video_paths", os.devnull], "names no video"),
        (["--feature_type", "i3d", "--video_paths", "a", "--kinetics_class_labels", "/no/such.txt"], "/no/such.txt"),
        (["--feature_type", "i3d", "--video_paths", "a", "--weights", "random", "--pwc_path", "p.pt"], "--pwc_path"),
    ],
)
def test_a_wrong_option_gets_one_line_and_status_2(arguments: list[str], message: str) -> None:
    answer = run(*arguments)
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert len(answer.stderr.splitlines()) == 1
    assert re.search(message, answer.stderr)


@pytest.mark.parametrize("content", [None, b"not weights"])
def test_weights_that_cannot_be_loaded_stop_the_program_before_any_work(
    tmp_path: Path, clip: Path, checkpoints: dict[str, str], content: bytes | None
) -> None:
    path = tmp_path / "mine.pt"
    if content is not None:
        path.write_bytes(content)
    answer = i3d(checkpoints | {"pwc_path": str(path)}, "--video_paths", clip)
    assert answer.returncode == 3
    assert answer.stderr.count("cannot start") == 1
    assert str(path) in answer.stderr
    assert "Traceback" not in answer.stderr


def test_an_output_folder_that_cannot_be_made_stops_the_program(clip: Path, checkpoints: dict[str, str]) -> None:
    answer = i3d(checkpoints, "--video_paths", clip, "--on_extraction", "save_numpy", "--output_path", clip / "below")
    assert answer.returncode == 3
    assert f"{clip}/below: this folder cannot be made: Not a directory" in answer.stderr


def group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


# Work


def test_two_workers_extract_both_streams_and_a_bad_video_fails_alone(
    tmp_path: Path, clip: Path, checkpoints: dict[str, str]
) -> None:
    others = [tmp_path / name for name in ("second.mp4", "third.mp4")]
    for other in others:
        shutil.copy(clip, other)
    (tmp_path / "bad.mp4").write_text("no video at all\n" * 100)
    paths = [clip, tmp_path / "bad.mp4", *others]
    (tmp_path / "list.txt").write_text("\n".join(map(str, paths)))
    command: list[object] = ["--file_with_video_paths", tmp_path / "list.txt", "--device_ids", "cpu", "cpu"]
    command += ["--on_extraction", "save_numpy", "--output_path", tmp_path / "output"]
    answer = i3d(checkpoints, *command)
    assert answer.returncode == 1, answer.stderr
    assert f"failed (unreadable): {tmp_path}/bad.mp4: " in answer.stderr
    assert "3 done" in answer.stderr
    assert "1 failed (unreadable: 1)" in answer.stderr
    assert "video-seconds/s" in answer.stderr
    names = {f"{path.stem}_{stream}.npy" for path in [clip, *others] for stream in ("rgb", "flow")}
    assert {path.name for path in (tmp_path / "output").iterdir()} == names | {"settings.json", "status.jsonl"}
    for stream in ("rgb", "flow"):
        rows = np.load(tmp_path / "output" / f"{clip.stem}_{stream}.npy")
        assert rows.shape == (2, 1024)
        assert rows.dtype == np.float32
        assert np.isfinite(rows).all()
        assert rows.std() > 0
        again = np.load(tmp_path / "output" / f"third_{stream}.npy")
        assert (again == rows).all(), "the same video has the same features on any worker"

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "output").iterdir()}
    (tmp_path / "output" / "second_flow.npy").unlink()
    answer = i3d(checkpoints, *command)
    assert answer.returncode == 1
    assert "1 done" in answer.stderr
    assert "2 skipped" in answer.stderr
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "output").iterdir()}
    changed = {path.name for path in after if after[path] != before[path]}
    assert changed == {"second_rgb.npy", "second_flow.npy", "status.jsonl"}

    answer = i3d(checkpoints, *command, "--tail", "drop")
    assert answer.returncode == 3
    assert "tail was cycle and is drop" in answer.stderr
    answer = i3d(checkpoints, *command, "--tail", "drop", "--overwrite", streams=["rgb"])
    assert answer.returncode == 1
    assert np.load(tmp_path / "output" / "second_rgb.npy").shape == (1, 1024)


def test_rgb_alone_needs_no_flow_weights(tmp_path: Path, clip: Path, checkpoints: dict[str, str]) -> None:
    only = {"i3d_rgb_path": checkpoints["i3d_rgb_path"]}
    save = ["--on_extraction", "save_numpy", "--output_path", tmp_path / "output"]
    answer = i3d(only, "--video_paths", clip, *save, streams=["rgb"])
    assert answer.returncode == 0, answer.stderr
    settings = json.loads((tmp_path / "output" / "settings.json").read_text())
    assert settings["i3d"]["settings"].keys() >= {"stack_size", "i3d_rgb_path"}
    assert "pwc_path" not in settings["i3d"]["settings"]
    assert {path.suffix for path in (tmp_path / "output").iterdir()} == {".npy", ".json", ".jsonl"}
    assert not (tmp_path / "output" / f"{clip.stem}_flow.npy").exists()


def test_features_are_printed_with_shapes_and_spans(clip: Path, checkpoints: dict[str, str]) -> None:
    answer = i3d(checkpoints, "--video_paths", clip, "--show_kinetics_pred")
    assert answer.returncode == 0, answer.stderr
    lines = answer.stdout.splitlines()
    assert lines[0] == f"{clip}: 0.60 s"
    assert "rgb (2, 1024) float32" in answer.stdout
    assert "flow (2, 1024) float32" in answer.stdout
    predictions = lines[lines.index("  0.00 - 0.36 s") :]
    assert predictions[6] == "  0.36 - 0.60 s"
    from torchvision.models.video import R3D_18_Weights

    names = R3D_18_Weights.KINETICS400_V1.meta["categories"]
    assert len(predictions) == 12
    for first in (1, 7):
        rows = [line.split(maxsplit=2) for line in predictions[first : first + 5]]
        logits, probabilities = ([float(row[i]) for row in rows] for i in (0, 1))
        assert logits == sorted(logits, reverse=True)
        assert all(0 <= p <= 1 for p in probabilities)
        expected = probabilities[0] * np.exp(np.subtract(logits, logits[0]))
        assert probabilities == pytest.approx(expected, abs=1e-3)
        assert all(row[2] in names for row in rows)


def test_predictions_join_both_streams_and_are_printed_beside_saving(
    tmp_path: Path, clip: Path, checkpoints: dict[str, str]
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"class {i}\n" for i in range(400)))
    save = ["--on_extraction", "save_numpy", "--output_path", tmp_path / "output"]
    answer = i3d(checkpoints, "--video_paths", clip, *save, "--show_kinetics_pred", "--kinetics_class_labels", labels)
    assert answer.returncode == 0, answer.stderr
    features = {
        stream: np.load(tmp_path / "output" / f"{clip.stem}_{stream}.npy").astype(np.float64)
        for stream in ("rgb", "flow")
    }
    logits = np.zeros((2, 400))
    for stream, rows in features.items():
        state = seeded.state_dict(f"i3d_{stream}")
        kernel = state["conv3d_0c_1x1.conv3d.weight"].reshape(400, 1024).double().numpy()
        logits += rows @ kernel.T + state["conv3d_0c_1x1.conv3d.bias"].double().numpy()
    printed = [line.split(maxsplit=2) for line in answer.stdout.splitlines() if "class" in line]
    best = np.argsort(-logits, axis=1)[:, :5]
    assert [row[2] for row in printed] == [f"class {i}" for row in best for i in row]
    assert [float(row[0]) for row in printed] == pytest.approx(np.take_along_axis(logits, best, 1).ravel(), abs=2e-3)


def test_frames_are_kept_without_loss(tmp_path: Path, clip: Path, checkpoints: dict[str, str]) -> None:
    answer = i3d(checkpoints, "--video_paths", clip, "--keep_frames", "--tmp_path", tmp_path / "tmp", streams=["rgb"])
    assert answer.returncode == 0, answer.stderr
    kept = sorted((tmp_path / "tmp" / f"{clip.stem}_frames").iterdir())
    assert [path.name for path in kept] == [f"{i:06d}.png" for i in range(1, 16)]
    with Video(str(clip), 224) as video:
        for frame, path in zip(video, kept, strict=True):
            with av.open(str(path)) as picture:
                assert (next(picture.decode(video=0)).to_ndarray(format="rgb24") == frame).all()


def test_any_container_any_name_a_rotated_a_ten_bit_and_a_one_frame_video_have_features(
    tmp_path: Path, checkpoints: dict[str, str]
) -> None:
    frames = small_frames(10)
    clips = [write_clip(tmp_path / f"clip.{ending}", frames) for ending in ("mp4", "mkv", "mov", "avi")]
    clips.append(write_clip(tmp_path / "vp9.webm", frames, codec="libvpx-vp9"))
    clips.append(write_clip(tmp_path / 'it\'s "q".mp4', frames))
    clips.append(write_clip(tmp_path / "ten bits.mkv", frames, codec="libx265", pixel_format="yuv420p10le"))
    clips.append(write_clip(tmp_path / "one.mp4", frames[:1]))
    clips.append(write_clip(tmp_path / "turned.mp4", [frame.transpose(1, 0, 2)[::-1].copy() for frame in frames]))
    set_display_matrix(clips[-1], 0, 1, -1, 0)
    save = ["--on_extraction", "save_numpy", "--output_path", tmp_path / "output"]
    answer = i3d(checkpoints, "--video_paths", *clips, *save, streams=["rgb"])
    assert answer.returncode == 0, answer.stderr
    rows = {path.name: np.load(tmp_path / "output" / path.name) for path in (tmp_path / "output").glob("*.npy")}
    assert len(rows) == len(clips)
    assert {array.shape for array in rows.values()} == {(1, 1024)}
    reference = rows["clip.mp4_rgb.npy"]
    for name, array in rows.items():
        assert cosines(array, reference).min() > (0.99 if name != "one_rgb.npy" else 0.5), name


def test_untrained_networks_are_told_of_on_every_run(clip: Path) -> None:
    answer = run("--feature_type", "i3d", "--video_paths", clip, "--weights", "random", "--device_ids", "cpu", *SMALL)
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr.count("UNTRAINED") == 2
    assert "rgb (2, 1024) float32" in answer.stdout


def test_an_interrupt_ends_with_status_130_and_no_worker_left(tmp_path: Path, clip: Path) -> None:
    command = [sys.executable, str(REPOSITORY / "main.py"), "--feature_type", "i3d", "--weights", "random"]
    command += ["--video_paths", str(clip), "--device_ids", "cpu", "--stack_size", "200", "--step_size", "1"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    while "features of 1 video" not in process.stderr.readline():
        pass
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=15)
    assert process.returncode == 130
    assert "Interrupted: 0 done" in said
    assert "Traceback" not in said
    wait_until(lambda: not group_exists(process.pid), seconds=5)


def test_output_that_nobody_reads_does_not_end_the_work(tmp_path: Path, clip: Path) -> None:
    command = [sys.executable, str(REPOSITORY / "main.py"), "--feature_type", "i3d", "--weights", "random", *SMALL]
    command += ["--video_paths", str(clip), "--device_ids", "cpu", "--streams", "rgb"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read()
    assert process.wait(timeout=60) == 0
    assert "1 done" in said
    assert "BrokenPipe" not in said
