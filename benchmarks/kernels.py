"""Tells what kinds of kernels a network's time on a GPU goes to."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity

from benchmarks.parts import Figure
from benchmarks.pipeline import GFLOP_PER_FRAME, network_calls, read_on_device
from models import i3d
from models.i3d.extract import Extractor

NUM_COSTLIEST = 5  # kernels that are named
CLASSES = {  # of a kernel by its name, in lower case; the first that fits
    "ours": "matching_costs|add_and_activate",
    "pool": "pool",
    "convolution": "conv(?!ert)|xmma|cutlass|gemm|cudnn_|winograd|nvjet|splitk|im2col|vol2col",
    "copies": "copy|memcpy|memset|nchwtonhwc|nhwctonchw|transpose|catarray|fill|flip|index_elementwise|aten::cat",
    "pointwise": "elementwise|pointwise|upsample|op_tensor",
    "other": "",
}


def profile(device: torch.device, config: i3d.Config, clip: Path, matrix_gflop_per_s: float) -> Iterator[Figure]:
    """Yield the microseconds a frame that a batch of flow and a call of each I3D spend in each class of kernels."""
    extractor = Extractor(config, str(device))
    frames = read_on_device(str(clip), device)
    for name, call in network_calls(extractor, torch.stack(frames[: extractor.batch_size])).items():
        num_frames = call()
        times = {kernel: time / num_frames for kernel, time in kernel_times(call, device).items()}
        classes = dict.fromkeys(CLASSES, 0.0)
        for kernel, microseconds in times.items():
            classes[class_of(kernel)] += microseconds
        yield f"{name}: us a frame", sum(times.values())
        for kind, microseconds in classes.items():
            yield f"{name}: {kind}: us a frame", microseconds
        if classes["convolution"]:
            rate = GFLOP_PER_FRAME[name] / classes["convolution"] * 1e6
            yield f"{name}: convolutions' share of the matrix rate", rate / matrix_gflop_per_s
        for kernel in sorted(times, key=lambda kernel: -times[kernel])[:NUM_COSTLIEST]:
            yield f"{name}: {kernel}", times[kernel]


def class_of(kernel: str) -> str:
    return next(kind for kind, pattern in CLASSES.items() if re.search(pattern, kernel.lower()))


def kernel_times(call: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Return the microseconds of a call in each kernel, by its name; of each operation, on a CPU.

    Raises RuntimeError where the profiler sees none.
    """
    is_gpu = device.type == "cuda"
    with torch.profiler.profile(activities=[ProfilerActivity.CUDA if is_gpu else ProfilerActivity.CPU]) as profiler:
        call()
        if is_gpu:
            torch.cuda.synchronize(device)
    events = [event for event in profiler.key_averages() if event.device_type.name == device.type.upper()]
    times = {
        event.key: float(event.self_device_time_total if is_gpu else event.self_cpu_time_total) for event in events
    }
    if not sum(times.values()):
        raise RuntimeError("PyTorch's profiler saw no kernels: it needs CUPTI, and the right to use it")
    return times
