"""Measures each stage alone, and all of it from files to files beside a plain version and the CPU's own rates.

python -m benchmarks.pipeline [--quick]

`benchmarks/gpu.py` measures the same stages on a GPU.

Prints a table and writes `benchmarks/latest.json`. Networks have random weights, whose arithmetic is the same.
"""

import argparse
import datetime
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded; as in the program's workers

import av
import numpy as np
import torch
from torch import Tensor

from benchmarks.files import HEIGHT, SOUND_RATE_HZ, least_cosine, write_clip, write_sound
from benchmarks.plain import PlainExtractor
from models import i3d, vggish
from models.i3d import CROP_SIZE
from models.i3d.extract import Extractor as I3DExtractor
from models.i3d.net import CHANNELS, I3D
from models.vggish import mel
from models.vggish.extract import Extractor as VGGishExtractor
from models.vggish.resample import RATE_HZ, resample
from utils.devices import forbid_reduced_precision, precision_on
from utils.media.audio import Audio
from utils.media.device_frames import CHUNK_FRAMES, scale_on_device
from utils.media.options import DecodeOptions
from utils.media.scaling import scale
from utils.media.video import Video
from utils.memory import keep_freed_memory
from utils.outputs.files import Files
from utils.outputs.writers import save_numpy

LATEST = Path(__file__).parent / "latest.json"
STORED_SIZES = ((320, 240), (1920, 1080))  # of the clips that are decoded
MATRIX_SIZE = {"cpu": 2048, "cuda": 8192}
# Multiply-adds counted as two, of one frame of 256 x 341, by the shapes of the layers.
GFLOP_PER_FRAME = {"flow": 35.0, "I3D rgb": 3.5, "I3D flow": 3.2}

Stages = Iterator[tuple[str, dict[str, float]]]


@dataclass(frozen=True)
class Size:
    """The amount of work to measure."""

    stack_size: int
    num_stacks: int
    num_decoded: int
    sound_seconds: int
    stage_seconds: float
    num_clips: int  # that are extracted end to end
    num_rounds: int


FULL = Size(64, num_stacks=2, num_decoded=200, sound_seconds=300, stage_seconds=5.0, num_clips=1, num_rounds=3)
QUICK = Size(9, num_stacks=1, num_decoded=5, sound_seconds=5, stage_seconds=0.0, num_clips=1, num_rounds=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", help="what the networks compute in (default: as the program)")
    parser.add_argument("--quick", action="store_true", help="less of everything: to see that it runs")
    parser.add_argument("--output", type=Path, default=LATEST, help="the JSON file to write")
    options = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    keep_freed_memory()  # as the program's workers do
    figures = measure(options.precision, QUICK if options.quick else FULL)
    options.output.write_text(json.dumps(figures, indent=2) + "\n")
    print(table(figures))


@torch.inference_mode()
def measure(wanted: str | None, size: Size) -> dict[str, Any]:
    """Return all figures, as they go to the JSON file."""
    device, config = torch.device("cpu"), config_of(size, wanted)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = folder / "clip.mp4"
        write_clip(clip, size.stack_size * size.num_stacks + 1)
        peak = matrix_rate(device, size)
        stages = dict(measure_i3d(device, config, size, clip))
        stages |= dict(measure_vggish(device, wanted, size, folder))
        for stage, gflop in GFLOP_PER_FRAME.items():
            stages[stage] |= {"gflop_per_s": stages[stage]["per_s"] * gflop}
            stages[stage] |= {"of_matrix_rate": stages[stage]["gflop_per_s"] / peak}
        decoding = {}
        for width, height in STORED_SIZES:
            stored = folder / f"{width}x{height}.mp4"
            write_clip(stored, size.num_decoded, width, height)
            decoding[stored.stem] = measure_decoding(stored, size)
        return {
            "date": datetime.date.today().isoformat(),
            "command": " ".join(["python", *sys.argv]),
            "device": f"{torch.get_num_threads()} CPU cores",
            "torch": torch.__version__,
            "precision": precision_on("cpu", wanted),
            "size": vars(size),
            "matrix_gflop_per_s": peak,
            "decoding": decoding,
            "stages": stages,
            "end_to_end": measure_whole(device, config, size, clip),
        }


def config_of(size: Size, precision: str | None) -> i3d.Config:
    """Return the options of I3D for random weights and whole stacks."""
    stack = {"stack_size": size.stack_size, "step_size": size.stack_size, "tail": "drop"}
    return i3d.Config(weights="random", precision=precision, **stack)  # type: ignore[arg-type]


def measure_decoding(clip: Path, size: Size) -> dict[str, float]:
    """Return frames a second on one core, as planes for a GPU and scaled to RGB: the best of some rounds, in turn."""
    kinds: dict[str, Callable[[Video], Iterable[object]]] = {"planes": Video.raw_frames, "rgb": iter}
    best = dict.fromkeys(kinds, 0.0)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})  # of this thread and those that it starts
    for _ in range(2 * size.num_rounds):
        for kind, read in kinds.items():
            with Video(str(clip), HEIGHT) as video:
                start = time.perf_counter()
                number = sum(1 for _ in read(video))
                best[kind] = max(best[kind], number / (time.perf_counter() - start))
    os.sched_setaffinity(0, cores)
    return {"planes_per_s": best["planes"], "rgb_per_s": best["rgb"], "ratio": best["planes"] / best["rgb"]}


def measure_i3d(device: torch.device, config: i3d.Config, size: Size, path: Path) -> Stages:
    """Yield frames a second of each stage alone, of a clip."""
    clip = str(path)
    with Video(clip, HEIGHT) as video:
        raw_frames = list(video.raw_frames())
    chunk = torch.stack([torch.from_numpy(frame.data) for frame in raw_frames[:CHUNK_FRAMES]])
    chunk = chunk.pin_memory() if device.type == "cuda" else chunk
    on_device = chunk.to(device)
    extractor = I3DExtractor(config, str(device))
    features = extractor.extract(clip, DecodeOptions())

    def decode() -> int:
        with av.open(clip) as container:
            container.streams.video[0].thread_type = "AUTO"
            return sum(1 for _ in container.decode(video=0))

    def read() -> int:
        return len(read_on_device(clip, device))

    def save() -> int:
        save_numpy(features, path.parent, "saved", Files("i3d", extractor.config.suffixes))
        return size.stack_size * size.num_stacks

    networks = network_calls(extractor, torch.stack(read_on_device(clip, device)[: extractor.batch_size]))
    yield "decode", measure_rate(decode, device, size)
    yield "transfer", measure_rate(lambda: len(chunk.to(device, copy=True)), device, size)
    yield "scale", measure_rate(lambda: len(scale(on_device, raw_frames[0].format)), device, size)
    yield "decode to device", measure_rate(read, device, size)
    for name, compute in networks.items():
        yield name, measure_rate(compute, device, size)
    yield "save", measure_rate(save, device, size)


def read_on_device(clip: str, device: torch.device) -> list[Tensor]:
    """Return the scaled frames of a clip."""
    with Video(clip, HEIGHT) as video:
        return list(scale_on_device(video, device))


def network_calls(extractor: I3DExtractor, batch: Tensor) -> dict[str, Callable[[], int]]:
    """Return a call of each network, by the names of GFLOP_PER_FRAME, on a batch of frames or as many stacks as fit in.

    Each returns the number of its frames.
    """
    before = extractor.flow_method.encode(batch)
    num_frames = extractor.config.stack_size
    shape = (max(1, extractor.batch_size // num_frames), num_frames, CROP_SIZE, CROP_SIZE)

    def compute_flow() -> int:
        """Compute, as in a running video, new pyramids for as many frames as pairs."""
        extractor.flow_method.flow(before, extractor.flow_method.encode(batch), *batch.shape[2:])
        return len(batch)

    def compute_features(network: I3D, stacks: Tensor) -> int:
        network(stacks)
        return shape[0] * num_frames

    calls = {"flow": compute_flow}
    for stream, network in extractor.i3d.items():
        stacks = torch.rand(shape[0], CHANNELS[stream], *shape[1:], device=batch.device)
        calls[f"I3D {stream}"] = partial(compute_features, network, stacks)
    return calls


def measure_vggish(device: torch.device, precision: str | None, size: Size, folder: Path) -> Stages:
    """Yield seconds of sound a second of each stage alone, and of all of it."""
    path = str(folder / "sound.m4a")
    write_sound(Path(path), size.sound_seconds)
    with Audio(path) as audio:
        blocks = [torch.from_numpy(block).to(device).float().mean(dim=1) / 2**15 for block in audio]
    extractor = VGGishExtractor(vggish.Config(weights="random", precision=precision), str(device))
    at_16_khz = list(resample(blocks, SOUND_RATE_HZ))
    patches = [batch.to(extractor.dtype) for batch in mel.patches(at_16_khz, extractor.batch_size)]

    def decode() -> int:
        with Audio(path) as audio:
            return sum(map(len, audio)) // SOUND_RATE_HZ

    def resample_all() -> int:
        return sum(map(len, resample(blocks, SOUND_RATE_HZ))) // RATE_HZ

    def compute_mel() -> int:
        return round(sum(map(len, mel.patches(at_16_khz, extractor.batch_size))) * mel.PATCH_SECONDS)

    def compute_embeddings() -> int:
        return round(sum(len(extractor.network(batch)) for batch in patches) * mel.PATCH_SECONDS)

    def extract() -> int:
        save_numpy(extractor.extract(path, DecodeOptions()), folder, "sound", Files("vggish", ("vggish",)))
        return size.sound_seconds

    yield "sound: decode", measure_rate(decode, device, size)
    yield "sound: resample", measure_rate(resample_all, device, size)
    yield "sound: mel", measure_rate(compute_mel, device, size)
    yield "sound: network", measure_rate(compute_embeddings, device, size)
    yield "sound: end to end", measure_rate(extract, device, size)


def measure_whole(device: torch.device, config: i3d.Config, size: Size, clip: Path) -> dict[str, float]:
    """Return frames a second from a clip on disk to files beside it, both streams, of ours and of the plain version.

    The best of some rounds, of which the first warms up. The plain version has a process of its own, because ours
    changes how its process handles memory.
    """
    extractor = I3DExtractor(config, str(device))
    folder = clip.parent

    def extract() -> int:
        for _ in range(size.num_clips):
            save_numpy(extractor.extract(str(clip), DecodeOptions()), folder, "ours", Files("i3d", config.suffixes))
        return size.num_clips * size.stack_size * size.num_stacks

    best = {"ours": 0.0, "plain": 0.0}
    arguments = (size.stack_size, str(device), clip, folder)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as plain:
        runs: dict[str, Callable[[], int]] = {
            "ours": extract,
            "plain": lambda: plain.submit(extract_plainly, *arguments).result(),
        }
        for _ in range(size.num_rounds):  # in turn, because a shared machine's speed drifts
            for name, run in runs.items():
                start = time.perf_counter()
                number = run()
                _synchronize(device)
                best[name] = max(best[name], number / (time.perf_counter() - start))
    files = [(folder / f"ours_{stream}.npy", folder / f"{stream}.npy") for stream in config.streams]
    return {
        "frames_per_s": best["ours"],
        "plain_frames_per_s": best["plain"],
        "ratio_to_plain": best["ours"] / best["plain"],
        "least_cosine": min(least_cosine(np.load(ours), np.load(plain)) for ours, plain in files),
    }


def extract_plainly(stack_size: int, device: str, clip: Path, folder: Path) -> int:
    """Save features by the plain version, in a process of its own; return the number of their frames."""
    return load_plain(stack_size, device).extract(clip, folder)


@cache
def load_plain(stack_size: int, device: str) -> PlainExtractor:
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    forbid_reduced_precision()
    return PlainExtractor(stack_size, device)


def measure_rate(stage: Callable[[], int], device: torch.device, size: Size) -> dict[str, float]:
    """Return how much of its own count a stage does in a second, over `stage_seconds` after a run to warm up.

    With 0 seconds it runs once, on a CPU without warming up.
    """
    if size.stage_seconds or device.type == "cuda":
        stage()
        _synchronize(device)
    number, start = 0, time.perf_counter()
    while number == 0 or time.perf_counter() - start < size.stage_seconds:
        number += stage()
        _synchronize(device)
    return {"per_s": number / (time.perf_counter() - start)}


def matrix_rate(device: torch.device, size: Size) -> float:
    """Return GFLOP/s of a matrix product, in half precision on a GPU and in float32 on a CPU."""
    side = MATRIX_SIZE[device.type]
    dtype = torch.float32 if device.type == "cpu" else torch.float16
    matrix = torch.randn(side, side, device=device, dtype=dtype)

    def product() -> int:
        matrix @ matrix
        return 1

    return measure_rate(product, device, size)["per_s"] * 2 * side**3 / 1e9


def table(figures: dict[str, Any]) -> str:
    """Format the figures for people to read."""
    lines = [
        f"{figures['device']}, torch {figures['torch']}, {figures['precision']}",
        f"matrix product: {figures['matrix_gflop_per_s']:.0f} GFLOP/s",
    ]
    for name, stage in figures["stages"].items():
        line = f"{name:<20}{stage['per_s']:>12.1f} {'s of sound' if name.startswith('sound') else 'frames'}/s"
        if "gflop_per_s" in stage:
            line += f"{stage['gflop_per_s']:>8.0f} GFLOP/s: {stage['of_matrix_rate']:.2f} of the matrix product's"
        lines.append(line)
    for name, rates in figures["decoding"].items():
        lines.append(f"decoding {name} on one core: " + ", ".join(f"{key} {rate:.2f}" for key, rate in rates.items()))
    lines.append("end to end: " + ", ".join(f"{key} {value:.6g}" for key, value in figures["end_to_end"].items()))
    return "\n".join(lines)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
