"""How fast each stage is alone, and all of it from files to files, beside a plain version and what the device can do.

python benchmarks/pipeline.py [--device cuda:0] [--quick]

Prints a table and writes `benchmarks/latest.json`. Networks have random weights, whose arithmetic is the same.
"""

import argparse
import datetime
import json
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded; as in the program's workers

import av  # noqa: E402
import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from benchmarks.files import HEIGHT, SOUND_RATE_HZ, WIDTH, write_clip, write_sound  # noqa: E402
from benchmarks.plain import PlainExtractor  # noqa: E402
from models import i3d, vggish  # noqa: E402
from models.i3d import CROP_SIZE  # noqa: E402
from models.i3d.extract import Extractor as I3DExtractor  # noqa: E402
from models.vggish import mel  # noqa: E402
from models.vggish.extract import Extractor as VGGishExtractor  # noqa: E402
from models.vggish.resample import resampled  # noqa: E402
from utils.devices import precision_on, set_tf32  # noqa: E402
from utils.media.audio import Audio  # noqa: E402
from utils.media.device_frames import CHUNK_FRAMES, scaled_frames  # noqa: E402
from utils.media.scaling import scaled  # noqa: E402
from utils.media.video import Video  # noqa: E402
from utils.memory import keep_freed_memory  # noqa: E402
from utils.outputs.writers import save_numpy  # noqa: E402

Rows = npt.NDArray[Any]

LATEST = REPOSITORY / "benchmarks" / "latest.json"
STORED_SIZES = ((320, 240), (1920, 1080))  # of the clips that are decoded
MATRIX_SIZE = {"cpu": 2048, "cuda": 8192}
COPY_BYTES = 2**28
# Multiply-adds counted as two, of one frame of 256 x 341 (see the counts of the layers).
GFLOP_PER_FRAME = {"flow": 35.0, "I3D rgb": 3.5, "I3D flow": 3.2}


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    stack_size: int
    num_stacks: int
    num_decoded: int
    sound_seconds: int
    stage_seconds: float
    num_rounds: int


FULL = {
    "cpu": Size(stack_size=64, num_stacks=2, num_decoded=200, sound_seconds=300, stage_seconds=5.0, num_rounds=3),
    "cuda": Size(stack_size=64, num_stacks=16, num_decoded=200, sound_seconds=600, stage_seconds=3.0, num_rounds=3),
}
QUICK = Size(stack_size=9, num_stacks=1, num_decoded=5, sound_seconds=5, stage_seconds=0.0, num_rounds=1)
NUM_CLIPS = {"cpu": 1, "cuda": 16}  # that are extracted end to end
NUM_THREADS = 3  # that extract them on a GPU


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", help="what the networks compute in (default: as the program)")
    parser.add_argument("--quick", action="store_true", help="less of everything: to see that it runs")
    parser.add_argument("--output", type=Path, default=LATEST, help="the JSON file to write")
    options = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    if options.device == "cpu":
        keep_freed_memory()  # as the program's workers do
    device = torch.device(options.device)
    figures = measure(device, options.precision, QUICK if options.quick else FULL[device.type])
    options.output.write_text(json.dumps(figures, indent=2) + "\n")
    print(table(figures))


@torch.inference_mode()
def measure(device: torch.device, wanted: str | None, size: Size) -> dict[str, object]:
    """All figures, as they are written down."""
    precision = precision_on(str(device), wanted)
    config = i3d.Config(
        weights="random", stack_size=size.stack_size, step_size=size.stack_size, tail="drop", precision=wanted
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_clip(folder / "clip.mp4", size.stack_size * size.num_stacks + 1, WIDTH, HEIGHT)
        peak = matrix_rate(device, size)
        decoding = {f"{width}x{height}": decoding_of(width, height, size, folder) for width, height in STORED_SIZES}
        stages = dict(stages_of_i3d(device, config, size, folder)) | dict(
            stages_of_vggish(device, wanted, size, folder)
        )
        for stage, gflop in GFLOP_PER_FRAME.items():
            stages[stage] |= {"gflop_per_s": stages[stage]["per_s"] * gflop}
            stages[stage] |= {"of_matrix_rate": stages[stage]["gflop_per_s"] / peak}
        return {
            "date": datetime.date.today().isoformat(),
            "command": " ".join(["python", *sys.argv]),
            "device": device_name(device),
            "torch": torch.__version__,
            "precision": precision,
            "size": vars(size),
            "matrix_gflop_per_s": peak,
            "copy_gb_per_s": copy_rate(device, size),
            "decoding": decoding,
            "stages": stages,
            "end_to_end": end_to_end(device, config, size, folder),
        }


def decoding_of(width: int, height: int, size: Size, folder: Path) -> dict[str, float]:
    """Frames a second on one core, of H.264 of that size: into the planes that are handed to a GPU, and scaled to RGB.

    The best of some rounds, in turn.
    """
    clip = folder / f"{width}x{height}.mp4"
    write_clip(clip, size.num_decoded, width, height)
    ways: dict[str, Callable[[Video], Iterable[object]]] = {"planes": Video.raw_frames, "rgb": iter}
    best = dict.fromkeys(ways, 0.0)
    for _ in range(2 * size.num_rounds):
        for name, way in ways.items():
            with Video(str(clip), HEIGHT) as video:
                video._stream.thread_type = "NONE"
                start = time.perf_counter()
                number = sum(1 for _ in way(video))
                best[name] = max(best[name], number / (time.perf_counter() - start))
    return {"planes_per_s": best["planes"], "rgb_per_s": best["rgb"], "ratio": best["planes"] / best["rgb"]}


def stages_of_i3d(
    device: torch.device, config: i3d.Config, size: Size, folder: Path
) -> Iterator[tuple[str, dict[str, float]]]:
    """Frames a second of each stage alone."""
    clip = str(folder / "clip.mp4")
    with Video(clip, HEIGHT) as video:
        pictures = list(video.raw_frames())
    form, packed = pictures[0].format, torch.stack([torch.from_numpy(picture.data) for picture in pictures])
    chunk = packed[:CHUNK_FRAMES]
    if device.type == "cuda":
        chunk = chunk.pin_memory()
    on_device = chunk.to(device)
    yield "decode", rate(lambda: sum(1 for _ in decoded(clip)), device, size)
    yield "decode and swscale", rate(lambda: sum(1 for _ in frames_of(clip)), device, size)
    yield "transfer", rate(lambda: len(chunk.to(device, copy=True)), device, size)
    yield "scale", rate(lambda: len(scaled(on_device, form)), device, size)
    yield "decode to device", rate(lambda: sum(1 for _ in frames_on(device, clip)), device, size)

    extractor = I3DExtractor(config, str(device))
    frames = list(frames_on(device, clip))
    height, width = frames[0].shape[1:]
    num_pairs = min(len(frames), extractor._pairs_per_batch(extractor.batch_size, frames[0]))
    batch = torch.stack(frames[:num_pairs])
    before = extractor.pwc.pyramid(batch)

    def flow() -> int:
        """As in a running video: new pyramids for as many frames as pairs."""
        extractor.pwc.flow(before, extractor.pwc.pyramid(batch), height, width)
        return num_pairs

    yield "flow", rate(flow, device, size)
    num_stacks = max(1, extractor.batch_size // size.stack_size)
    for stream, channels in (("rgb", 3), ("flow", 2)):
        stack = torch.randn(num_stacks, size.stack_size, channels, CROP_SIZE, CROP_SIZE, device=device)

        def network(stream: str = stream, stack: Tensor = stack) -> int:
            extractor._features(stream, stack)
            return num_stacks * size.stack_size

        yield f"I3D {stream}", rate(network, device, size)
    features = extractor.extract(clip)

    def save() -> int:
        save_numpy(features, folder, "clip")
        return size.stack_size * size.num_stacks

    yield "save", rate(save, device, size)


def stages_of_vggish(
    device: torch.device, precision: str | None, size: Size, folder: Path
) -> Iterator[tuple[str, dict[str, float]]]:
    """Seconds of sound a second of each stage alone, and of all of it."""
    path = str(folder / "sound.m4a")
    write_sound(Path(path), size.sound_seconds)
    with Audio(path) as sound:
        blocks = [torch.from_numpy(block).to(device).float().mean(dim=1) / 2**15 for block in sound]
    extractor = VGGishExtractor(vggish.Config(weights="random", precision=precision), str(device))

    def decode() -> int:
        with Audio(path) as sound:
            return sum(map(len, sound)) // sound.rate_hz

    def waveform() -> int:
        return sum(map(len, resampled(iter(blocks), SOUND_RATE_HZ))) // 16_000

    at_16_khz = list(resampled(iter(blocks), SOUND_RATE_HZ))
    patches = [batch.to(extractor.dtype) for batch in mel.patches(iter(at_16_khz), extractor.batch_size)]

    def network() -> int:
        num_patches = sum(len(extractor.network(batch)) for batch in patches)
        return round(num_patches * mel.PATCH_SECONDS)

    def front_end() -> int:
        return round(sum(map(len, mel.patches(iter(at_16_khz), extractor.batch_size))) * mel.PATCH_SECONDS)

    def extract() -> int:
        in_lanes(device, lambda number: save_numpy(extractor.extract(path), folder, f"sound{number}"))
        return NUM_CLIPS[device.type] * size.sound_seconds

    for name, stage in {
        "sound: decode": decode,
        "sound: resample": waveform,
        "sound: mel": front_end,
        "sound: network": network,
        "sound: end to end": extract,
    }.items():
        yield name, rate(stage, device, size)


def end_to_end(device: torch.device, config: i3d.Config, size: Size, folder: Path) -> dict[str, float]:
    """Frames a second from files on disk to files on disk, both streams, of ours and of the plain version.

    The best of some rounds, of which the first warms up. The plain version has a process of its own, because ours
    changes how its process handles memory.
    """
    ours = I3DExtractor(config, str(device))
    clip = folder / "clip.mp4"
    num_frames = size.stack_size * size.num_stacks

    def extract() -> int:
        in_lanes(device, lambda number: save_numpy(ours.extract(str(clip)), folder, f"clip{number}"))
        return NUM_CLIPS[device.type] * num_frames

    best: dict[str, float] = {"ours": 0.0, "plain": 0.0}
    with ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn"), start_plain, (size.stack_size, str(device))
    ) as plain:
        plain.submit(int).result()  # it has started
        for _ in range(size.num_rounds):  # in turn, because a shared machine's speed drifts
            start = time.perf_counter()
            number = extract()
            _synchronize(device)
            best["ours"] = max(best["ours"], number / (time.perf_counter() - start))
            start = time.perf_counter()
            number = plain.submit(extract_plainly, clip, folder).result()
            best["plain"] = max(best["plain"], number / (time.perf_counter() - start))
    figures = {
        "frames_per_s": best["ours"],
        "plain_frames_per_s": best["plain"],
        "ratio_to_plain": best["ours"] / best["plain"],
        "least_cosine": min(
            least_cosine(np.load(folder / f"clip0_{stream}.npy"), np.load(folder / f"{stream}.npy"))
            for stream in config.streams
        ),
    }
    if device.type == "cuda":
        figures["busy"] = busy(extract)
    return figures


def start_plain(stack_size: int, device: str) -> None:
    """Make a process ready for `extract_plainly`."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    set_tf32("fp32")
    extract_plainly.extractor = PlainExtractor(stack_size, device)  # type: ignore[attr-defined]


def extract_plainly(clip: Path, folder: Path) -> int:
    """How many frames' features the plain version has saved."""
    number: int = extract_plainly.extractor.extract(clip, folder)  # type: ignore[attr-defined]
    return number


def in_lanes(device: torch.device, work: Callable[[int], object]) -> None:
    """Do the work on so many clips, several at once on a GPU."""
    numbers = range(NUM_CLIPS[device.type])
    if device.type == "cpu":
        list(map(work, numbers))
        return
    with ThreadPoolExecutor(NUM_THREADS) as lanes:
        list(lanes.map(work, numbers))


def busy(work: Callable[[], object]) -> float:
    """The part of the time of some work in which a GPU computes or copies."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in profiler.events() or []
        if str(event.device_type).endswith("CUDA")
    )
    microseconds, until = 0.0, float("-inf")
    for begin, end in spans:
        microseconds += max(0.0, end - max(begin, until))
        until = max(until, end)
    return microseconds / 1e6 / seconds


def least_cosine(ours: Rows, expected: Rows) -> float:
    """Of a row (N, D) with its fellow."""
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(expected, axis=1)
    return float(((ours * expected).sum(axis=1) / lengths).min())


def rate(stage: Callable[[], int], device: torch.device, size: Size) -> dict[str, float]:
    """How many of what it counts a stage does in a second, over at least some seconds, after once to warm up.

    What takes long is done but once on a CPU, which has little to warm up.
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
    """GFLOP/s of a matrix product, in half precision on a GPU and in float32 on a CPU."""
    side = MATRIX_SIZE[device.type]
    dtype = torch.float32 if device.type == "cpu" else torch.float16
    matrix = torch.randn(side, side, device=device, dtype=dtype)

    def product() -> int:
        matrix @ matrix
        return 1

    return rate(product, device, size)["per_s"] * 2 * side**3 / 1e9


def copy_rate(device: torch.device, size: Size) -> float:
    """GB/s that are read and written by a copy within the device's memory."""
    source = torch.empty(COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def copy() -> int:
        target.copy_(source)
        return 1

    return rate(copy, device, size)["per_s"] * 2 * COPY_BYTES / 1e9


def decoded(path: str) -> Iterable[av.VideoFrame]:
    """Frames as they come out of the decoder."""
    with av.open(path) as container:
        container.streams.video[0].thread_type = "AUTO"
        yield from container.decode(video=0)


def frames_of(path: str) -> Iterable[object]:
    """Frames as a CPU works on them."""
    with Video(path, HEIGHT) as video:
        yield from video


def frames_on(device: torch.device, path: str) -> Iterator[Tensor]:
    """Frames as a GPU works on them, on any device."""
    with Video(path, HEIGHT) as video:
        yield from scaled_frames(video, device)


def table(figures: dict[str, object]) -> str:
    """The figures for people to read."""
    stages, whole, decoding = figures["stages"], figures["end_to_end"], figures["decoding"]
    assert isinstance(stages, dict)
    assert isinstance(whole, dict)
    assert isinstance(decoding, dict)
    lines = [
        f"{figures['device']}, torch {figures['torch']}, {figures['precision']}",
        f"matrix product {figures['matrix_gflop_per_s']:.0f} GFLOP/s, copies {figures['copy_gb_per_s']:.1f} GB/s",
        f"{'stage':<20}{'frames/s':>12}{'GFLOP/s':>10}{'of matrix rate':>16}",
    ]
    for name, stage in stages.items():
        line = f"{name:<20}{stage['per_s']:>12.1f}"
        if "gflop_per_s" in stage:
            line += f"{stage['gflop_per_s']:>10.0f}{stage['of_matrix_rate']:>16.2f}"
        lines.append(line + ("  seconds of sound/s" if name.startswith("sound") else ""))
    lines.append(
        f"end to end {whole['frames_per_s']:.2f} frames/s, plain {whole['plain_frames_per_s']:.2f}: "
        f"ratio {whole['ratio_to_plain']:.2f}, least cosine {whole['least_cosine']:.6f}"
    )
    if "busy" in whole:
        lines.append(f"device busy {whole['busy']:.0%} of that time")
    for name, way in decoding.items():
        lines.append(
            f"decoding {name} on one core: {way['planes_per_s']:.0f} frames/s into planes, {way['rgb_per_s']:.0f} "
            f"scaled to RGB: ratio {way['ratio']:.2f}"
        )
    return "\n".join(lines)


def device_name(device: torch.device) -> str:
    """What it calls itself."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return f"{torch.get_num_threads()} cores of {model}"


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
