"""Triton kernels, each used on a device only after it computed there what its plain version does on the CPU."""

import importlib
import logging
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., Any]
CPU = torch.device("cpu")

log = logging.getLogger("video_features")


def find_kernel(
    module: str,
    plain: Function,
    try_out: Callable[[Function, torch.device], Iterable[Tensor]],
    device: torch.device,
    dtype: torch.dtype,
) -> Function:
    """Return the kernel NAME of `module`, which plain_NAME defines, or plain_NAME where the kernel does not work.

    `try_out(function, device)` yields results of either, numbers of about 1 in `dtype`. `module` may import Triton,
    which comes with PyTorch for CUDA and not for the CPU.
    """
    name = plain.__name__.removeprefix("plain_")
    try:
        kernel: Function = getattr(importlib.import_module(module), name)
        for result, expected in zip(try_out(kernel, device), try_out(plain, CPU), strict=True):
            error = (result.cpu().float() - expected.float()).abs().max().item()
            if not error < (1e-4 if dtype == torch.float32 else 1e-2):
                raise RuntimeError(f"the kernel is wrong by {error:.3g}")
    except Exception as error:  # compilers and drivers fail in many ways, and the plain version gives the same result
        log.warning("%s, %s: runs without the Triton kernel %s, which is slower: %r", device, dtype, name, error)
        return plain
    return kernel
