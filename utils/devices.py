"""Device ids -> devices, checked against this machine; how many workers each takes; and how they compute."""

import subprocess
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

CPU = "cpu"
# The default comes first: the fastest whose features stay within a cosine of 0.9999 of float32's. Mixed is half
# precision with biases and sums in float32. See benchmarks/README.md.
PRECISIONS = {"cpu": ("fp32", "bf16"), "cuda": ("mixed", "fp32", "bf16")}
DEFAULT_PRECISION = {kind: precisions[0] for kind, precisions in PRECISIONS.items()}
MAX_WORKERS_PER_GPU = 3
BYTES_PER_WORKER = 12 * 10**9  # of a GPU's memory, for both I3D streams at full speed: an estimate, unmeasured on a GPU
PRINT_FREE_BYTES = "import sys, torch; print(*(torch.cuda.mem_get_info(gpu)[0] for gpu in sys.argv[1:]))"


def precision_on(device: str, wanted: str | None) -> str:
    """Return the wanted precision, or the device's default. Raises ValueError where that is slow or not there."""
    kind = device.partition(":")[0]
    if wanted is not None and wanted not in PRECISIONS[kind]:
        raise ValueError(f"--precision {wanted}: a CPU computes in {' or '.join(PRECISIONS[kind])}")
    return wanted or DEFAULT_PRECISION[kind]


def forbid_reduced_precision() -> None:
    """Have this process's GPUs multiply float32 numbers as they are, not as TF32, and add products up in float32."""
    import torch

    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False


def dtype_of(precision: str) -> "torch.dtype":
    """Return the type of the numbers that a precision computes with."""
    import torch

    return {"mixed": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[precision]


def device_context(device: str) -> AbstractContextManager[object]:
    """Return a context in which new streams, pinned memory and kernels are the device's; each thread needs its own."""
    import torch

    return nullcontext() if device == CPU else torch.cuda.device(device)


def resolve(ids: Sequence[str] | None) -> list[str]:
    """Return PyTorch's names of the devices with the given ids, or of all GPUs, or else of the CPU.

    An id is a GPU's number, each at most once, or `cpu`, as often as workers are to share it. Raises ValueError, which
    lists what there is.
    """
    for device_id in ids or ():
        if device_id != CPU and not (device_id.isascii() and device_id.isdigit()):
            raise ValueError(f"device id {device_id!r}: must be the number of a GPU, or {CPU}")
    numbers = [int(device_id) for device_id in ids or () if device_id != CPU]
    twice = sorted({number for number in numbers if numbers.count(number) > 1})
    if twice:
        raise ValueError(f"device id {twice[0]} is given twice; --workers_per_gpu sets how many workers a GPU takes")
    if ids and not numbers:
        return list(ids)

    import torch

    num_gpus = torch.cuda.device_count()
    for number in numbers:
        if number >= num_gpus:
            there = ", ".join([*map(str, range(num_gpus)), CPU])
            raise ValueError(f"device id {number}: no such GPU here; there is {there}")
    if ids:
        return [device_id if device_id == CPU else f"cuda:{int(device_id)}" for device_id in ids]
    return [f"cuda:{number}" for number in range(num_gpus)] or [CPU]


def workers_on(devices: Sequence[str], per_gpu: int | None = None) -> list[str]:
    """Name each device once for each worker on it: all once, then the GPUs that take a second worker, and so on.

    A GPU takes `per_gpu` workers, by default as many as its free memory suits.
    """
    gpus = [device for device in devices if device != CPU]
    if per_gpu is None:
        num_workers = [max(1, min(MAX_WORKERS_PER_GPU, free // BYTES_PER_WORKER)) for free in _free_bytes(gpus)]
    else:
        num_workers = [per_gpu] * len(gpus)
    names = list(devices)
    for number in range(1, max(num_workers, default=1)):
        names += [gpu for gpu, most in zip(gpus, num_workers, strict=True) if most > number]
    return names


def _free_bytes(gpus: list[str]) -> list[int]:
    """Return the free memory of each GPU, or zeros where it cannot be told, for which workers will give the reason.

    Another process asks, and ends: asking takes memory on each GPU, and one in exclusive compute mode altogether.
    """
    if not gpus:
        return []
    answer = subprocess.run([sys.executable, "-c", PRINT_FREE_BYTES, *gpus], capture_output=True, check=False)
    return [int(number) for number in answer.stdout.split()] if answer.returncode == 0 else [0] * len(gpus)
