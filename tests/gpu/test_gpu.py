"""Features that a GPU computes, alone, shared, short of memory, and by the whole program."""

import dataclasses
import multiprocessing
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import models
from models import vggish
from models.i3d import Config
from models.i3d.extract import Extractor
from models.vggish.extract import Extractor as VGGishExtractor
from tests.helpers import seeded
from tests.helpers.clips import write_clip
from tests.helpers.gpu import GPU, needs_gpu
from tests.helpers.oracles import REPOSITORY, Array, cosines
from tests.helpers.sounds import chord, write_wav
from utils.media.options import DecodeOptions

pytestmark = needs_gpu

Arrays = dict[str, Array]

NUM_FRAMES = 68


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A texture that drifts and a disc that crosses it, four times over."""
    frames = [frame.transpose(1, 2, 0)[:256, :340] for frame in seeded.synthetic_clip()]
    path = write_clip(tmp_path_factory.mktemp("clips") / "a clip.mp4", frames * 4)
    assert len(frames) * 4 == NUM_FRAMES
    return str(path)


def config_of(checkpoints: dict[str, str], **settings: object) -> Config:
    return Config(**checkpoints, **settings)  # type: ignore[arg-type]


def extract(config: Config, device: torch.device, path: str) -> Arrays:
    return Extractor(config, str(device)).extract(path, DecodeOptions()).arrays


@pytest.mark.parametrize("precision", ["fp32", "mixed"])
def test_features_are_the_reference(precision: str, checkpoints: dict[str, str], shared: Path) -> None:
    video = str(shared / "videos" / "v_GGSY1Qvo990.mp4")
    arrays = extract(config_of(checkpoints, precision=precision), GPU, video)
    with np.load(shared / "reference" / "features_64_64.npz") as reference:
        least = {stream: cosines(rows, reference[stream]).min() for stream, rows in arrays.items()}
    assert least["rgb"] > 0.9999
    assert least["flow"] > 0.9999


@pytest.fixture(scope="module")
def of_the_cpu(clip: str, checkpoints: dict[str, str]) -> Arrays:
    return extract(config_of(checkpoints, stack_size=12, step_size=20), torch.device("cpu"), clip)


@pytest.mark.parametrize(("precision", "least_cosine"), [("fp32", 0.9999), ("mixed", 0.999), ("bf16", 0.98)])
def test_features_are_those_of_the_cpu(
    clip: str, checkpoints: dict[str, str], of_the_cpu: Arrays, precision: str, least_cosine: float
) -> None:
    arrays = extract(config_of(checkpoints, stack_size=12, step_size=20, precision=precision), GPU, clip)
    for stream, rows in arrays.items():
        assert cosines(rows, of_the_cpu[stream]).min() > least_cosine


OTHERS: dict[str, dict[str, Any]] = {
    "timm": {"model_name": "vit_small_patch16_224"},
    "torchvision": {"model_name": "r2plus1d_18", "crops": ("five",)},
    "flow": {"pwc_path": "pwc_path"},
    "i3d": {"crops": ("c", "mtl"), "align": "center", "edge": "zero", "stack_size": 12, "step_size": 20},
}


@pytest.mark.parametrize(("precision", "least_cosine"), [("fp32", 0.9999), ("mixed", 0.999)])
@pytest.mark.parametrize("name", OTHERS)
def test_features_of_others_are_those_of_the_cpu(
    name: str, clip: str, checkpoints: dict[str, str], precision: str, least_cosine: float
) -> None:
    """Of a row of flow, all its vectors are compared at once, with PWC-Net's stand-in for weights."""
    options = {option: checkpoints.get(str(value), value) for option, value in OTHERS[name].items()}
    weights = checkpoints if name == "i3d" else {} if name == "flow" else {"weights": "random"}
    found = []
    for device in (GPU, torch.device("cpu")):
        chosen = precision if device == GPU else "fp32"
        extract_one = models.extractor(name, str(device), precision=chosen, **options, **weights)
        found.append(extract_one(clip).arrays)
    for suffix, rows in found[0].items():
        ours, expected = (array.astype(np.float32).reshape(len(array), -1) for array in (rows, found[1][suffix]))
        assert cosines(ours, expected).min() > least_cosine


@pytest.mark.parametrize("precision", ["fp32", "mixed", "bf16"])
def test_sound_has_the_features_of_the_cpu(tmp_path: Path, precision: str) -> None:
    model = tmp_path / "vggish.pt"
    torch.save(seeded.state_dict("vggish"), model)
    sound = str(write_wav(tmp_path / "chord.wav", chord(20, 44_100), 44_100))
    config = vggish.Config(vggish_model_path=str(model))
    expected = VGGishExtractor(config, "cpu").extract(sound, DecodeOptions()).arrays["vggish"]
    config = dataclasses.replace(config, precision=precision)
    rows = VGGishExtractor(config, str(GPU)).extract(sound, DecodeOptions()).arrays["vggish"]
    assert cosines(rows, expected).min() > 0.999


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_a_second_gpu_gives_the_features_of_the_first(clip: str, checkpoints: dict[str, str]) -> None:
    """PyTorch's current GPU stays the first."""
    config = config_of(checkpoints, stack_size=16, step_size=16)
    first, second = (extract(config, device, clip) for device in (GPU, torch.device(GPU.type, 1)))
    for stream, rows in second.items():
        assert cosines(rows, first[stream]).min() > 0.99999


def test_nothing_waits_for_the_gpu_but_what_bounds_the_work_ahead_of_it(
    clip: str, checkpoints: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch calls waiting for all work an error, until features are fetched; waiting for an event is none.

    The second time, because compiling kernels and filters for a size may wait.
    """
    extractor = Extractor(config_of(checkpoints, stack_size=10, step_size=9, batch_size=32), str(GPU))
    expected = extractor.extract(clip, DecodeOptions()).arrays
    fetch, fetched = Tensor.cpu, []

    def stop_watching_and_fetch(tensor: Tensor) -> Tensor:
        torch.cuda.set_sync_debug_mode("default")
        fetched.append(tensor)
        return fetch(tensor)

    monkeypatch.setattr(Tensor, "cpu", stop_watching_and_fetch)
    torch.cuda.set_sync_debug_mode("error")
    try:
        arrays = extractor.extract(clip, DecodeOptions()).arrays
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(fetched) == len(arrays), "only features are fetched"
    for stream, rows in arrays.items():
        assert cosines(rows, expected[stream]).min() > 0.99999


def extract_short_of_memory(config: Config, clip: str) -> tuple[list[int], Arrays, Arrays]:
    """Return the batch sizes after two extractions with memory for the half, their features, and those expected."""
    extractor = Extractor(config, str(GPU))
    sizes = (extractor.batch_size, extractor.batch_size // 2)
    needed, arrays = [], {}
    for size in sizes:
        extractor.batch_size = size
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(GPU)
        arrays = extractor.extract(clip, DecodeOptions()).arrays
        needed.append(torch.cuda.max_memory_reserved(GPU))
    torch.cuda.empty_cache()
    limit = needed[1] + (needed[0] - needed[1]) / 4
    torch.cuda.set_per_process_memory_fraction(limit / torch.cuda.mem_get_info(GPU)[1], GPU)
    extractor.batch_size = sizes[0]
    seen = []
    for _ in range(2):
        short = extractor.extract(clip, DecodeOptions()).arrays
        seen.append(extractor.batch_size)
    return seen, short, arrays


def test_where_memory_does_not_suffice_half_a_batch_is_taken_from_then_on(
    clip: str, checkpoints: dict[str, str]
) -> None:
    config = config_of(checkpoints, stack_size=64, tail="drop", batch_size=64)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        seen, short, expected = process.submit(extract_short_of_memory, config, clip).result()
    assert seen == [32, 32]
    for stream, rows in short.items():
        assert cosines(rows, expected[stream]).min() > 0.99999


def run_i3d(output: Path, checkpoints: dict[str, str], clips: list[Path], num_workers: int) -> dict[str, bytes]:
    """Run the whole program, and return what it saved by the names of the files."""
    command = [sys.executable, str(REPOSITORY / "main.py"), "--feature_type", "i3d", "--device_ids"]
    command += [str(GPU).removeprefix("cuda:"), "--workers_per_gpu", str(num_workers)]
    command += ["--batch_size", "32", "--stack_size", "16", "--step_size", "8"]
    command += ["--on_extraction", "save_numpy", "--output_path", str(output), "--video_paths", *map(str, clips)]
    command += [f"--{option}={path}" for option, path in checkpoints.items()]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert answer.returncode == 0, answer.stderr
    assert "without the Triton kernel" not in answer.stderr
    return {path.name: path.read_bytes() for path in output.glob("*.npy")}


def test_two_workers_of_the_program_save_the_bits_that_one_does(tmp_path: Path, checkpoints: dict[str, str]) -> None:
    images = [frame.transpose(1, 2, 0)[:240, :320] for frame in seeded.synthetic_clip()]
    clips = [write_clip(tmp_path / f"{i}.mp4", images[i:] + images[:i] * 2) for i in range(6)]
    of_one = run_i3d(tmp_path / "one", checkpoints, clips, 1)
    of_two = run_i3d(tmp_path / "two", checkpoints, clips, 2)
    assert len(of_one) == 12
    assert of_one == of_two
