"""Device ids -> devices, checked against this machine; and how they compute."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

CPU = "cpu"
# The fastest whose features stay within a cosine of 0.9999 of float32's comes first: see benchmarks/README.md. Mixed is
# half precision for the networks that bear it, and TF32 for the others.
PRECISIONS = {"cpu": ("fp32", "bf16"), "cuda": ("mixed", "fp32", "tf32", "fp16", "bf16")}
DEFAULT_PRECISION = {kind: precisions[0] for kind, precisions in PRECISIONS.items()}
MAX_WORKERS_PER_GPU = 3
NUM_LANES = 4  # of a GPU, so that it need not wait while videos are opened and decoded


class DeviceError(ValueError):
    """A device id that this machine does not have, or that is none; the message lists what there is."""


def precision_on(device: str, wanted: str | None) -> str:
    """The precision to compute in on a device: the wanted one, or the device's default.

    Raises DeviceError where the device does not have it, or so slowly that nobody can mean it.
    """
    kind = device.partition(":")[0]
    if wanted is not None and wanted not in PRECISIONS[kind]:
        raise DeviceError(f"--precision {wanted}: a CPU computes in {' or '.join(PRECISIONS[kind])}")
    return wanted or DEFAULT_PRECISION[kind]


def set_tf32(precision: str) -> None:
    """Have this process compute convolutions of float32 in TF32 where, and only where, the precision says so, whatever
    PyTorch's own defaults are; and matrix products, which front ends are made of, never.
    """
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = precision in ("tf32", "mixed")


def dtype_of(precision: str, supports_fp16: bool) -> "torch.dtype":
    """The type of the numbers of a network, which bears half precision or does not."""
    import torch

    if precision == "mixed":
        precision = "fp16" if supports_fp16 else "tf32"
    return {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)


def device_context(device: str) -> AbstractContextManager[object]:
    """A context in which new streams, pinned memory and kernels belong to the device; each thread needs its own."""
    import torch

    return nullcontext() if device == CPU else torch.cuda.device(device)


def num_lanes(device: str) -> int:
    """How many videos are in hand at once on a device: several on a GPU, so that it has work while one is opened."""
    return 1 if device == CPU else NUM_LANES


def resolve(ids: Sequence[str] | None) -> list[str]:
    """PyTorch's names of the devices with the given ids, or of all GPUs, or else of the CPU.

    An id is a GPU's number, each at most once, or `cpu`, as often as workers are to share it.
    """
    for device_id in ids or ():
        if device_id != CPU and not (device_id.isascii() and device_id.isdigit()):
            raise DeviceError(f"device id {device_id!r}: must be the number of a GPU, or {CPU}")
    numbers = [int(device_id) for device_id in ids or () if device_id != CPU]
    twice = sorted({number for number in numbers if numbers.count(number) > 1})
    if twice:
        raise DeviceError(f"device id {twice[0]} is given twice; a GPU takes one worker")
    if ids and not numbers:
        return list(ids)

    import torch

    num_gpus = torch.cuda.device_count()
    for number in numbers:
        if number >= num_gpus:
            there = ", ".join([*map(str, range(num_gpus)), CPU])
            raise DeviceError(f"device id {number}: no such GPU here; there is {there}")
    if ids:
        return [device_id if device_id == CPU else f"cuda:{int(device_id)}" for device_id in ids]
    return [f"cuda:{number}" for number in range(num_gpus)] or [CPU]


def workers_on(devices: Sequence[str], per_gpu: int | None) -> list[str]:
    """Return the device of each worker."""
    return [device for _ in range(per_gpu or 1) for device in devices if device != CPU] + [
        device for device in devices if device == CPU
    ]
