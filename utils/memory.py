"""The memory of devices: batches that fit, and smaller ones where they do not."""

import ctypes
import gc
from collections.abc import Callable
from typing import TypeVar

from utils.devices import CPU
from utils.errors import OutOfMemoryError

Result = TypeVar("Result")

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's mallopt
OUT_OF_MEMORY = (  # in the words of PyTorch, cuBLAS and cuDNN
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "alloc_failed",
    "allocation_failed",
    "unable to find an engine to execute this computation",  # after no plan of a convolution got its working space
)


def keep_freed_memory() -> None:
    """Have this process keep memory that it frees, where the C library can be told so.

    Networks free and take hundreds of megabytes in each layer; to get them from the kernel, as pages of zeros, costs a
    fifth of the time on a CPU.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def choose_batch_size(
    wanted: int | None, device: str, on_cpu: int, bytes_per_item: int, most: int, num_sharing: int
) -> int:
    """Return how many items make a batch: as wanted, if so; on a GPU at most so many, of that size, as fit.

    They are to fit into a worker's share of half the memory, and half of what is free.
    """
    if wanted is not None:
        return wanted
    if device == CPU:
        return on_cpu
    import torch

    free, total = torch.cuda.mem_get_info(device)
    return max(1, min(most, min(free // 2, total // (2 * num_sharing)) // bytes_per_item))


def retry_with_half_batch(work: Callable[[int], Result], batch_size: int) -> tuple[Result, int]:
    """Return what `work` gives for a batch size, and that size: half the given one where memory did not suffice.

    Raises OutOfMemoryError where half of it is too much as well.
    """
    import torch

    for size in (batch_size, max(1, batch_size // 2)):
        try:
            return work(size), size
        except (MemoryError, RuntimeError) as error:
            said = str(error) or type(error).__name__
            if not isinstance(error, MemoryError) and not any(words in said.lower() for words in OUT_OF_MEMORY):
                raise
        gc.collect()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()
    raise OutOfMemoryError(f"not enough memory, in batches of half the size either: {said}")
