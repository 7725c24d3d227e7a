"""Device ids -> devices, checked against this machine; and how they compute."""

from collections.abc import Sequence

CPU = "cpu"


class DeviceError(Exception):
    """A device id that this machine does not have, or that is none; the message lists what there is."""


def compute_in_float32() -> None:
    """Have this process compute float32 as float32: no TF32 on GPUs, whatever PyTorch's own defaults are."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


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
