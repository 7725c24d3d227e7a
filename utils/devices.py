"""Device ids -> devices, checked against this machine; and how they compute."""

import gc
from collections.abc import Callable, Sequence
from typing import TypeVar

Result = TypeVar("Result")

CPU = "cpu"
NUM_LANES = 4  # of a GPU
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")  # in PyTorch's words


class NoMemoryError(Exception):
    """A video does not fit into the memory of its device, in batches of half the size either."""

    reason = "out_of_memory"
    better_alone = True  # where other videos take memory of the same device


class DeviceError(Exception):
    """A device id that this machine does not have, or that is none; the message lists what there is."""


def compute_in_float32() -> None:
    """Have this process compute float32 as float32: no TF32 on GPUs, whatever PyTorch's own defaults are."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def fitting(work: Callable[[int], Result], batch_size: int) -> Result:
    """What `work` gives, done in batches of that size; of half of it, where memory does not suffice.

    Raises NoMemoryError where that is too much, too.
    """
    for size in (batch_size, max(1, batch_size // 2)):
        try:
            return work(size)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            said = str(error) or type(error).__name__
        _free_memory()
    raise NoMemoryError(f"not enough memory, in batches of half the size either: {said}")


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in OUT_OF_MEMORY)


def _free_memory() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


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
