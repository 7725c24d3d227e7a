"""Measures the program's worker pool once it is running, and how busy the machine is meanwhile."""

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

import torch

from models import i3d
from models.extraction import Job
from utils.media.options import DecodeOptions
from utils.outputs.files import Files
from utils.outputs.resume import Output
from utils.workers import pool

SAMPLE_SECONDS = 0.2  # between two looks at how busy the machine is


@dataclass(frozen=True)
class Sample:
    """How busy the machine is at a time."""

    time: float
    core_seconds: float  # for which its cores were busy so far
    gpu: tuple[float, float] | None  # percent of the time in which a kernel ran, and MiB in use; None: not told


@dataclass(frozen=True)
class Rate:
    """How many videos are done in a second, and how busy the machine is then."""

    videos_per_s: float
    busy_cores: float | None
    gpu_busy: float | None  # share of the time in which a kernel ran


@dataclass
class Measured:
    rates: dict[str, Rate] = field(default_factory=dict)  # by the stems of the clips
    gpu_bytes: float | None = None  # most that all workers together took


def measure_workers(
    num_workers: int, device: str, config: i3d.Config, clips: Sequence[Path], seconds: float, folder: Path
) -> Measured:
    """Have workers extract one clip for so many seconds, and then the next; features go to the folder."""
    ends: dict[str, list[float]] = {clip.stem: [] for clip in clips}
    counted: dict[str, list[float]] = {}

    def videos() -> Iterator[str]:
        """Yield a clip as often as workers ask, until it was measured for long enough."""
        for clip in clips:
            times = ends[clip.stem]
            while len(times) < 2 * num_workers or times[-1] < times[num_workers - 1] + seconds:
                yield str(clip)
            counted[clip.stem] = list(times)

    devices = (device,) * num_workers
    job = Job("i3d", config, DecodeOptions(), {}, Output(folder, Files("i3d", i3d.STREAMS)), devices)
    with sampling(device) as samples:
        for row in pool.run(job, devices, videos()):
            if row.status != "ok":
                raise RuntimeError(row.error)
            ends[Path(row.path).stem].append(time.monotonic())
    memory = [sample.gpu[1] for sample in samples if sample.gpu]
    return Measured(
        {name: rate_of(times, num_workers, samples) for name, times in counted.items()},
        (max(memory) - memory[0]) * 2**20 if memory else None,
    )


def rate_of(ends: Sequence[float], num_workers: int, samples: Sequence[Sample]) -> Rate:
    """Return the rate by when each video ended, without the first round, in which workers warm up.

    A round is a video of each worker: in whole rounds it does not matter whether videos end together or in turn.
    """
    num_videos = (len(ends) - num_workers) // num_workers * num_workers
    begin, end = ends[num_workers - 1], ends[num_workers - 1 + num_videos]
    inside = [sample for sample in samples if begin <= sample.time <= end]
    busy_cores = None
    if len(inside) > 1:
        first, last = inside[0], inside[-1]
        busy_cores = (last.core_seconds - first.core_seconds) / (last.time - first.time)
    percents = [sample.gpu[0] for sample in inside if sample.gpu]
    return Rate(num_videos / (end - begin), busy_cores, mean(percents) / 100 if percents else None)


@contextlib.contextmanager
def sampling(device: str) -> Iterator[list[Sample]]:
    """Give a list to which a sample of the machine is added every now and then while `with` lasts."""
    samples: list[Sample] = []
    has_ended = threading.Event()
    query = [] if device == "cpu" else [f"--id=GPU-{torch.cuda.get_device_properties(device).uuid}"]

    def look() -> None:
        while not has_ended.wait(SAMPLE_SECONDS):
            user, nice, system = map(int, Path("/proc/stat").read_text().split(maxsplit=4)[1:4])
            seconds = (user + nice + system) / os.sysconf("SC_CLK_TCK")
            samples.append(Sample(time.monotonic(), seconds, ask_gpu(query) if query else None))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield samples
    finally:
        has_ended.set()
        thread.join()


def ask_gpu(query: Sequence[str]) -> tuple[float, float] | None:
    """Return what nvidia-smi tells: percent of the last moments in which a kernel ran, and MiB in use."""
    command = ["nvidia-smi", *query, "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits"]
    with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        percent, used = map(float, answer.stdout.split(","))
        return percent, used
    return None
