"""Measures whether all works on a GPU, how fast it is, and how far that is from where it should be.

python -m benchmarks.gpu [--device cuda:0] [--quick]

Prints one table, which `docs/gpu.md` explains, and writes it as JSON. Each part has a process of its own and a limit of
time, so that one that fails, hangs or dies costs its own figures only. The exit status is 1 where a part failed, and 3
where there is no GPU.
"""

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")  # read when torch is loaded; as in workers

import torch

from benchmarks import kernels, pipeline
from benchmarks.files import least_cosine, write_clip
from benchmarks.parts import Figure, Part, Result, run_part, show, table
from benchmarks.pipeline import GFLOP_PER_FRAME, config_of, matrix_rate
from benchmarks.workers import measure_workers
from models.flow.pwc import BYTES_PER_FRAME
from models.i3d.extract import Extractor
from tests.helpers import seeded
from utils.cli import EXIT_CANNOT_START, EXIT_OK, EXIT_SOME_FAILED
from utils.devices import BYTES_PER_WORKER, PRECISIONS
from utils.media.options import DecodeOptions

ROOT = Path(__file__).parents[1]
MAX_SECONDS = 470  # of all parts together
KINDS = ("failure", "error", "skipped")  # of tests that did not pass, in pytest's report

Figures = Iterator[Figure]


@dataclass(frozen=True)
class Goal:
    """What should be reached; None where it was not measured."""

    name: str
    least: float
    reached: float | None = None

    def __str__(self) -> str:
        if self.reached is None:
            return f"{self.name}, at least {self.least:g}: not measured"
        verdict = "met" if self.reached >= self.least else "NOT MET"
        return f"{self.name}, at least {self.least:g}: {show(self.reached)}, {verdict}"


@dataclass(frozen=True)
class Amount:
    """How much is measured."""

    stages: pipeline.Size
    frame_sizes: tuple[tuple[int, int], ...]
    num_times: int  # that a clip repeats what was encoded of it
    window_seconds: float  # that the whole program is measured for, once it is running
    video: Path | None  # whose features are compared; None: a clip's
    tests: tuple[str, ...]
    num_workers: tuple[int, ...] = (1, 2, 3)
    patience: float = 1.0  # times the limits

    @property
    def clips(self) -> list[str]:
        return [f"{width}x{height}" for width, height in self.frame_sizes]

    @property
    def num_frames(self) -> int:
        """Frames of a clip, of which the last is only the second of a pair."""
        return self.stages.stack_size * self.stages.num_stacks


SIZE = pipeline.Size(64, num_stacks=8, num_decoded=0, sound_seconds=300, stage_seconds=1.0, num_clips=8, num_rounds=2)
SIZES = ((320, 240), (640, 480), (1920, 1080))
TESTS = ("tests/gpu", "tests/models/pwc/test_kernels.py", "tests/models/test_activation.py", "-m", "not slow")
FULL = Amount(SIZE, SIZES, 9, 4.0, ROOT / "sample" / "cobbles_zoom_speech.mp4", TESTS)
QUICK = Amount(pipeline.QUICK, ((160, 120),), 1, 0.0, None, ("tests/gpu/test_gpu.py",), num_workers=(1,), patience=8.0)


def probe(device: torch.device, amount: Amount, folder: Path) -> Figures:
    yield "torch, cuDNN", f"{torch.__version__}, {torch.backends.cudnn.version()}"  # type: ignore[no-untyped-call]
    if device.type == "cuda":
        yield "compute capability", ".".join(map(str, torch.cuda.get_device_capability(device)))
        free, total = torch.cuda.mem_get_info(device)
        yield "memory, free of all: GB", f"{free / 1e9:.1f} of {total / 1e9:.1f}"
    torch.backends.cudnn.allow_tf32 = True
    number = 1 + 0.75 * 2**-10
    images = torch.full((4, 64, 32, 32), number, device=device).contiguous(memory_format=torch.channels_last)
    kernel = torch.zeros(64, 64, 3, 3, device=device)
    kernel[range(64), range(64), 1, 1] = 1
    products = torch.nn.functional.conv2d(images, kernel.contiguous(memory_format=torch.channels_last), padding=1)
    (product,) = set(products.flatten().tolist())
    meanings = {1.0: "truncates", 1 + 2**-10: "rounds", number: "is not used"}
    yield "1.000732 times 1, where TF32 is allowed", f"{product:.6f}: TF32 {meanings.get(product, 'is wrong')}"
    assert product in meanings, f"a convolution of {number} with 1 gave {product}"


def write_clips(device: torch.device, amount: Amount, folder: Path) -> Figures:
    num_encoded = (amount.num_frames + 1) // amount.num_times
    for name, size in zip(amount.clips, amount.frame_sizes, strict=True):
        write_clip(folder / f"{name}.mp4", num_encoded, *size, num_times=amount.num_times)
        yield f"{name}: Mbit/s", (folder / f"{name}.mp4").stat().st_size * 8 * 25 / (amount.num_frames + 1) / 1e6
    write_clip(folder / "short.mp4", amount.stages.stack_size + 1)


def run_tests(device: torch.device, amount: Amount, folder: Path) -> Figures:
    command = [sys.executable, "-m", "pytest", "-v", "--tb=short", f"--junitxml={folder}/tests.xml", *amount.tests]
    status = subprocess.run(command, cwd=ROOT, check=False).returncode
    cases = list(ElementTree.parse(folder / "tests.xml").iter("testcase"))
    outcomes = {kind: [case for case in cases if case.find(kind) is not None] for kind in KINDS}
    yield "passed", len(cases) - sum(map(len, outcomes.values()))
    for kind, found in outcomes.items():
        yield kind, len(found)
    for case in outcomes["failure"] + outcomes["error"]:
        yield f"FAILED {case.get('name')}"[:100], str(case[0].get("message")).partition("\n")[0][:100]
    assert status == 0, f"pytest ended with status {status}"


def measure_stages(device: torch.device, amount: Amount, folder: Path) -> Figures:
    peak = matrix_rate(device, amount.stages)
    yield "matrix product: TFLOP/s", peak / 1e3
    clip = folder / f"{amount.clips[0]}.mp4"
    for name, rate in pipeline.measure_i3d(device, config_of(amount.stages, None), amount.stages, clip):
        yield f"{name}: frames/s", rate["per_s"]
        if name in GFLOP_PER_FRAME:
            yield f"{name}: share of the matrix rate", rate["per_s"] * GFLOP_PER_FRAME[name] / peak


def measure_sound(device: torch.device, amount: Amount, folder: Path) -> Figures:
    for name, rate in pipeline.measure_vggish(device, None, amount.stages, folder):
        yield f"{name.removeprefix('sound: ')}: s of sound a second", rate["per_s"]


def profile(device: torch.device, amount: Amount, folder: Path) -> Figures:
    clip = folder / f"{amount.clips[0]}.mp4"
    return kernels.profile(device, config_of(amount.stages, None), clip, matrix_rate(device, amount.stages))


def measure_program(num_workers: int, device: torch.device, amount: Amount, folder: Path) -> Figures:
    clips = [folder / f"{name}.mp4" for name in amount.clips]
    config, output = config_of(amount.stages, None), folder / f"output of {num_workers}"
    measured = measure_workers(num_workers, str(device), config, clips, amount.window_seconds, output)
    for name, rate in measured.rates.items():
        yield f"{name}: frames/s", rate.videos_per_s * amount.num_frames
        if rate.busy_cores is not None:
            yield f"{name}: busy cores", rate.busy_cores
        if rate.gpu_busy is not None:
            yield f"{name}: share of the time in which a kernel runs", rate.gpu_busy
    if measured.gpu_bytes is not None:
        yield "memory a worker: GB", measured.gpu_bytes / 1e9 / num_workers
        yield "memory a worker, as counted on: GB", BYTES_PER_WORKER / 1e9


def measure_memory(device: torch.device, amount: Amount, folder: Path) -> Figures:
    extractor = Extractor(config_of(amount.stages, None), str(device))
    yield "frames in a batch", extractor.batch_size
    if device.type == "cpu":
        return
    yield "a frame, as counted on: MB", BYTES_PER_FRAME[extractor.dtype.itemsize] / 1e6
    for name in amount.clips:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        extractor.extract(str(folder / f"{name}.mp4"), DecodeOptions())
        taken = torch.cuda.max_memory_allocated(device) - before
        yield f"{name}: a frame, MB", taken / extractor.batch_size / 1e6
        yield f"{name}: reserved, GB", torch.cuda.max_memory_reserved(device) / 1e9


def measure_plain(device: torch.device, amount: Amount, folder: Path) -> Figures:
    clip = folder / f"{amount.clips[0]}.mp4"
    figures = pipeline.measure_whole(device, config_of(amount.stages, None), amount.stages, clip)
    yield "the plain version: frames/s", figures["plain_frames_per_s"]
    yield "ours in one process: frames/s", figures["frames_per_s"]
    yield "ratio", figures["ratio_to_plain"]
    yield "least cosine of ours with the plain version's", figures["least_cosine"]


def measure_decoding(device: torch.device, amount: Amount, folder: Path) -> Figures:
    for name in amount.clips:
        rates = pipeline.measure_decoding(folder / f"{name}.mp4", replace(amount.stages, num_rounds=1))
        yield f"{name}: frames/s on a core", rates["planes_per_s"]


def measure_start(device: torch.device, amount: Amount, folder: Path) -> Figures:
    device_id = "cpu" if device.type == "cpu" else str(device.index or 0)
    command = [sys.executable, "main.py", "--feature_type", "i3d", "--weights", "random", "--device_ids", device_id]
    command += ["--stack_size", str(amount.stages.stack_size), "--video_paths", str(folder / "short.mp4")]
    environment = os.environ | {"TRITON_CACHE_DIR": str(folder / "triton")}
    for name in ("with kernels to compile", "after that"):
        start = time.perf_counter()
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
        yield f"one stack from start to end, {name}: s", time.perf_counter() - start


def measure_precision(device: torch.device, amount: Amount, folder: Path) -> Figures:
    paths: dict[str, Any] = {}
    for name in seeded.OF_I3D:
        paths[f"{name}_path"] = str(folder / f"{name}.pt")
        torch.save(seeded.state_dict(name), folder / f"{name}.pt")
    video = str(amount.video or folder / f"{amount.clips[0]}.mp4")
    features = {}
    for precision in sorted(PRECISIONS[device.type], key=lambda precision: precision != "fp32"):
        config = replace(config_of(amount.stages, precision), weights="pretrained", **paths)
        features[precision] = Extractor(config, str(device)).extract(video, DecodeOptions()).arrays
        if precision != "fp32":
            for stream, rows in features[precision].items():
                yield f"{precision}: {stream}, least cosine with fp32", least_cosine(rows, features["fp32"][stream])


def parts(device: torch.device, amount: Amount, folder: Path) -> list[Part]:
    """Return the parts in their order; they share a folder."""
    rows: list[tuple[str, Callable[..., Figures], float, str]] = [
        ("device", probe, 60, "a GPU that PyTorch computes on, and in TF32 a product of 1.000000 or 1.000977"),
        ("clips", write_clips, 60, "that PyAV writes clips"),
        ("tests", run_tests, 180, "that the tests pass, or skip what is not here"),
        ("stages", measure_stages, 60, "that each stage works alone"),
        ("profile", profile, 60, "kernels in PyTorch's profiler, for which CUPTI has to work"),
        *(
            (f"workers: {n}", partial(measure_program, n), 70, "videos extracted by workers")
            for n in amount.num_workers
        ),
        ("start-up", measure_start, 60, "that main.py extracts a short video"),
        ("precision", measure_precision, 60, "features in each precision"),
        ("plain", measure_plain, 60, "that the plain version extracts a clip, too"),
        ("memory", measure_memory, 30, "that batches fit"),
        ("decoding", measure_decoding, 40, "that FFmpeg decodes the clips"),
        ("sound", measure_sound, 60, "that each stage of VGGish works alone"),
    ]
    return [
        Part(name, partial(measure, device=device, amount=amount, folder=folder), limit * amount.patience, expected)
        for name, measure, limit, expected in rows
    ]


def compare_with_goals(results: dict[str, Result]) -> list[Goal]:
    """Return what an H100 with 16 cores should reach, and what was reached, if it was measured."""
    figures = {f"{part}: {name}": value for part, result in results.items() for name, value in result.figures.items()}

    def find(pattern: str) -> list[float]:
        return [float(value) for name, value in figures.items() if re.fullmatch(pattern, name)]

    small, large = (max(find(rf"workers: \d: {size}: frames/s"), default=None) for size in ("320x240", "1920x1080"))
    plain = find("plain: the plain version: frames/s")
    return [
        Goal("320x240, both streams, the best number of workers: frames/s", 6000, small),
        Goal("1920x1080, the same: frames/s", 2000, large),
        Goal("flow: share of the matrix rate", 0.4, *find("stages: flow: share of the matrix rate")),
        Goal("320x240: times the plain version", 15, small / plain[0] if small and plain else None),
        Goal("mixed: least cosine with fp32", 0.9999, min(find("precision: mixed: .*"), default=None)),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=torch.device, default="cuda:0", help="the GPU, by PyTorch's name")
    parser.add_argument("--quick", action="store_true", help="less of everything: to see that it runs, also on a CPU")
    parser.add_argument("--parts", nargs="+", metavar="PART", help="only these, and the clips that they need")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "gpu.json", help="the JSON file to write")
    options = parser.parse_args()
    try:
        name = torch.cuda.get_device_name(options.device) if options.device.type == "cuda" else "CPU"
    except (AssertionError, RuntimeError) as error:
        print(f"benchmarks.gpu: no GPU to measure: {str(error).splitlines()[0]}", file=sys.stderr)
        return EXIT_CANNOT_START
    heading = f"{name}, {len(os.sched_getaffinity(0))} cores, {datetime.date.today()}"
    amount = QUICK if options.quick else FULL
    deadline = time.monotonic() + MAX_SECONDS * amount.patience
    results: dict[str, Result] = {}
    with tempfile.TemporaryDirectory() as folder:
        all_parts = {part.name: part for part in parts(options.device, amount, Path(folder))}
        if unknown := set(options.parts or ()) - all_parts.keys():
            parser.error(f"--parts {' '.join(unknown)}: there are {', '.join(all_parts)}")
        for part in all_parts.values():
            if options.parts and part.name not in [*options.parts, "clips"]:
                continue
            print(f"{part.name} ...", file=sys.stderr, flush=True)
            results[part.name] = run_part(part, Path(folder), deadline - time.monotonic())
            goals = compare_with_goals(results)
            written = json.dumps({"device": heading, "parts": results, "goals": goals}, indent=2, default=asdict)
            options.output.write_text(written + "\n")
    print(heading, table(results), *map(str, goals), sep="\n")
    return EXIT_SOME_FAILED if any(result.failure for result in results.values()) else EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
