"""Flow as features: what the method gives, as float16, in a file that grows as it is computed."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import main
import models
from models.flow import TVL1_PARAMETERS, Config
from models.flow.extract import Extractor
from tests.helpers.clips import write_clip
from tests.helpers.oracles import REPOSITORY, Array, oracle
from tests.helpers.processes import wait_until, workers_of
from tests.helpers.program import ended, run_program, saving, start
from tests.helpers.seeded import synthetic_clip
from utils.errors import MediaError, OutOfMemoryError
from utils.flow_colours import colour_flow
from utils.media.options import DecodeOptions
from utils.media.video import Video
from utils.outputs.atomic import PART

FAST = {"nscales": 2, "warps": 1, "innerIterations": 5, "outerIterations": 2}  # of TV-L1


def write_small(path: Path, num_frames: int, height: int = 48, width: int = 64) -> Path:
    """A texture that drifts, to and fro where there are many frames."""
    frames = synthetic_clip()[:, :, :height, :width]
    turns = [*range(17), *range(15, 0, -1)]
    return write_clip(path, [frames[turns[i % 32]].transpose(1, 2, 0) for i in range(num_frames)])


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("clips") / "a clip's name.mp4", 8)


@pytest.fixture
def _fast_tvl1(monkeypatch: pytest.MonkeyPatch) -> None:
    oracle("cv2")
    for name, value in FAST.items():
        monkeypatch.setitem(TVL1_PARAMETERS, name, value)


def frames_of(path: Path, min_side_size: int, fps: float | None = None) -> Array:
    """RGB (N, H, W, 3)."""
    with Video(str(path), min_side_size, fps) as video:
        return np.stack(list(video))


# What it gives


@pytest.mark.usefixtures("_fast_tvl1")
@pytest.mark.parametrize("batch_size", [None, 1, 3, 7])
def test_tvl1_is_what_opencv_gives_of_each_pair(batch_size: int | None, clip: Path) -> None:
    cv2 = oracle("cv2")
    features = Extractor(Config(flow="tvl1", min_side_size=40, batch_size=batch_size), "cpu").extract(
        str(clip), DecodeOptions()
    )
    greys = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames_of(clip, 40)]
    names = {"innerIterations": "innnerIterations"}  # as OpenCV spells it
    method = cv2.optflow.DualTVL1OpticalFlow_create(**{names.get(name, name): value for name, value in FAST.items()})
    expected = np.stack([method.calc(*pair, None) for pair in pairwise(greys)]).transpose(0, 3, 1, 2)
    (rows,) = features.arrays.values()
    assert rows.dtype == np.float16
    assert rows.shape == (7, 2, 40, 53)
    assert (rows == expected.astype(np.float16)).all()
    assert np.abs(expected).mean() > 0.3


@pytest.mark.parametrize("flow", ["pwc", "raft"])
def test_networks_give_what_they_give_of_each_pair_alone(
    flow: str, checkpoints: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.flow.raft.NUM_UPDATES", 1)
    side = 128 if flow == "raft" else 48
    path = write_small(tmp_path / "a.mp4", 4, side, side + 20)
    weights = {"pwc_path": checkpoints["pwc_path"]} if flow == "pwc" else {"weights": "random"}
    extractor = Extractor(Config(flow=flow, min_side_size=side, batch_size=2, **weights), "cpu")  # type: ignore[arg-type]
    rows = extractor.extract(str(path), DecodeOptions()).arrays[f"flow_{flow}"]
    frames = torch.from_numpy(frames_of(path, side)).permute(0, 3, 1, 2)
    first, second = (extractor.method.encode(frames[part]) for part in (slice(3), slice(1, None)))
    expected = extractor.method.flow(first, second, side, side + 20).numpy()
    assert rows.shape == (3, 2, side, side + 20)
    assert np.abs(rows - expected).max() < 1e-3 * np.abs(expected).max()
    assert np.abs(expected).mean() > 0.1


@pytest.mark.usefixtures("_fast_tvl1")
@pytest.mark.parametrize("fps", [None, 10.0])
def test_row_i_is_of_the_time_from_frame_i_to_the_next_one(fps: float | None, clip: Path) -> None:
    config = Config(flow="tvl1", min_side_size=40, extraction_fps=fps)
    features = Extractor(config, "cpu").extract(str(clip), DecodeOptions())
    num_frames, rate = len(frames_of(clip, 40, fps)), fps or 25
    assert features.arrays["flow_tvl1"].shape[0] == num_frames - 1
    assert features.spans == [(row / rate, (row + 1) / rate) for row in range(num_frames - 1)]
    assert features.seconds == num_frames / rate
    assert config.spans(num_frames - 1, features.seconds, features.fps) == features.spans


def test_a_video_of_one_frame_has_no_flow(tmp_path: Path) -> None:
    oracle("cv2")
    path = write_small(tmp_path / "one.mp4", 1)
    with pytest.raises(MediaError, match="1 frame, and flow needs two") as caught:
        Extractor(Config(flow="tvl1", min_side_size=40), "cpu").extract(str(path), DecodeOptions(scratch=tmp_path))
    assert caught.value.reason == "too_short"
    assert os.listdir(tmp_path) == ["one.mp4"]


@pytest.mark.usefixtures("_fast_tvl1")
def test_flow_and_frames_are_kept_as_pictures(clip: Path, tmp_path: Path) -> None:
    extract = models.extractor(
        "flow", "cpu", flow="tvl1", min_side_size=40, keep_flow=True, tmp_path=str(tmp_path), batch_size=3
    )
    flows = extract(str(clip)).arrays["flow_tvl1"]
    pictures = sorted((tmp_path / f"{clip.stem}_flow").iterdir())
    assert [path.name for path in pictures] == [f"{i:06d}.png" for i in range(1, 8)]
    assert len(os.listdir(tmp_path / f"{clip.stem}_frames")) == 8
    for path, flow in zip(pictures, flows.astype(np.float32), strict=True):
        difference = np.asarray(Image.open(path)).astype(int) - colour_flow(flow, 20.0)
        assert np.abs(difference).max() <= 2, "of float32, before it was rounded"


# Memory


@pytest.mark.usefixtures("_fast_tvl1")
def test_what_was_written_begins_again_where_memory_did_not_suffice(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor = Extractor(Config(flow="tvl1", min_side_size=40, batch_size=4), "cpu")
    expected = extractor.extract(str(clip), DecodeOptions()).arrays["flow_tvl1"]
    compute, sizes = extractor.method.flow, []

    def fail_once(first: dict[str, torch.Tensor], *rest: object) -> torch.Tensor:
        sizes.append(len(first["grey"]))
        if len(sizes) == 2:
            raise MemoryError
        return compute(first, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(extractor.method, "flow", fail_once)
    rows = extractor.extract(str(clip), DecodeOptions(scratch=tmp_path)).arrays["flow_tvl1"]
    assert sizes == [4, 3, 2, 2, 2, 1]
    assert len(os.listdir(tmp_path)) == 1
    assert (rows == expected).all()
    monkeypatch.setattr(extractor.method, "flow", lambda *_: (_ for _ in ()).throw(MemoryError))
    with contextlib.suppress(OutOfMemoryError):
        extractor.extract(str(clip), DecodeOptions(scratch=tmp_path))
    assert len(os.listdir(tmp_path)) == 1


PEAKS = """
import re, sys, torch
from pathlib import Path
from models.flow import TVL1_PARAMETERS, Config
from models.flow.extract import Extractor
from utils.media.options import DecodeOptions
torch.set_num_threads(1)
TVL1_PARAMETERS |= {"nscales": 1, "warps": 1, "innerIterations": 1, "outerIterations": 1, "medianFiltering": 1}
extractor = Extractor(Config(flow="tvl1", min_side_size=192, batch_size=4), "cpu")
for path in sys.argv[1:]:
    rows = extractor.extract(path, DecodeOptions()).arrays["flow_tvl1"]
    peak = re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]
    print(rows.nbytes // 1000, peak)
"""


def test_memory_does_not_grow_with_the_video(tmp_path: Path) -> None:
    oracle("cv2")
    paths = [str(write_small(tmp_path / f"{number}.mp4", number, 192, 256)) for number in (100, 300)]
    answer = subprocess.run(
        [sys.executable, "-c", PEAKS, *paths], cwd=REPOSITORY, capture_output=True, check=True, text=True
    )
    (_, before), (size, after) = (map(int, line.split()) for line in answer.stdout.splitlines())
    assert size > 58_000, "kB of flow, of which 39,000 more than before"
    assert after - before < 8_000


# The program

FLOW: list[object] = ["--feature_type", "flow", "--device_ids", "cpu", "--min_side_size", 40]


def test_the_program_saves_reports_prints_and_goes_on(tmp_path: Path, checkpoints: dict[str, str], clip: Path) -> None:
    (tmp_path / "x").mkdir()
    clips = [clip, write_small(tmp_path / "x" / "b.mp4", 5), write_small(tmp_path / "b.mp4", 3)]
    one = write_small(tmp_path / "one.mp4", 1)
    output, options = tmp_path / "output", [*FLOW, "--pwc_path", checkpoints["pwc_path"]]
    command = [*options, "--video_paths", *clips, one, "--save_timestamps"]
    first = run_program(*command, "--report", 1, output=output)
    assert first.status == 1
    assert first.row(one)["reason"] == "too_short"
    stems = [clip.stem, "x/b", "b"]
    assert {name for name in first.files if name.endswith("_pwc.npy")} == {f"{stem}_flow_pwc.npy" for stem in stems}
    for path, num_rows in zip(clips, (7, 4, 2), strict=True):
        rows = first.features(path)
        assert rows.shape == (num_rows, 2, 40, 53)
        assert rows.dtype == np.float16
        assert np.isfinite(rows).all()
    (page,) = output.rglob("page.html")
    titles = re.findall("<h3>(.*?)</h3>", page.read_text())
    assert titles == ["Video", "Time", "Frames", "Motion (optical flow)", "Amount of motion"]
    (output / "b_timestamps.npy").unlink()
    again = run_program(*command, output=output)
    assert again.paths("skipped") == set(map(str, clips))
    assert np.load(output / "b_timestamps.npy").tolist() == [[0, 0.04], [0.04, 0.08]]
    assert again.files.items() >= first.files.items()
    other = run_program(*FLOW, "--flow", "tvl1", "--video_paths", clip, output=output)
    assert other.status == 3
    assert "is none, with --flow tvl1" in other.stderr
    printed = run_program(*options, "--video_paths", clip)
    assert printed.status == 0
    assert printed.stdout.startswith(f"{clip}: 0.32 s\n  flow_pwc (7, 2, 40, 53) float16, mean ")
    means = first.features(clip)[6].astype(np.float64).mean(axis=(1, 2))
    assert printed.stdout.splitlines()[-1].split()[:5] == ["0.24", "-", "0.28", "s", "means"]
    assert np.abs(np.array(printed.stdout.split()[-2:], float) - means).max() < 1e-3


def test_a_worker_that_is_killed_while_it_writes_leaves_nothing_that_counts(tmp_path: Path) -> None:
    oracle("cv2")
    path, output = write_small(tmp_path / "a.mp4", 40), tmp_path / "output"
    process = start(*FLOW, "--flow", "tvl1", "--batch_size", 2, "--video_paths", path, *saving(output))

    def is_writing() -> bool:
        parts = [part for part in output.glob(".*") if PART.fullmatch(part.name)]
        return any(part.stat().st_size > 30_000 for part in parts)  # of 331 kB

    wait_until(is_writing, seconds=120)
    (worker,) = workers_of(process.pid)
    os.kill(worker, signal.SIGKILL)
    run = ended(process, output)
    assert run.status == 0
    assert "the worker was killed by SIGKILL; trying this video once more" in run.stderr
    assert run.features("a.mp4").shape == (39, 2, 40, 53)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--flow", "raft", "--min_side_size", 120], "--min_side_size 120: --flow raft needs at least 121"),
        (["--flow", "tvl1", "--weights", "random"], "--weights random does nothing with --flow tvl1"),
        (["--flow", "tvl1", "--pwc_path", "a"], "--pwc_path: is for --flow pwc, not for tvl1"),
        (["--streams", "rgb"], "--streams is an option of i3d, not of flow"),
    ],
)
def test_wrong_options_are_told_in_a_line(
    options: list[object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended_with:
        main.main(["--feature_type", "flow", "--video_paths", "a.mp4", *map(str, options)])
    assert ended_with.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
