"""Compiles the Triton kernels for GPUs that need not be here, and prints their load and store instructions.

    python -m tests.helpers.compile_kernel 80 90 100

A line is a variant. The numbers are architectures: 80 is an A100, 90 an H100, 100 a B200. The environment must not ask
for Triton's interpreter.
"""

import re
import sys
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from models import activation_kernel
from models.pwc import kernels

BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
MATCHING = (("fp32", 32, True), ("fp16", 196, False))  # channels as at PWC-Net's outer levels
ACTIVATION = (("fp32", 1, True), ("fp16", 1, True), ("fp16", 6, False), ("bf16", 7, True))  # parts; with a bias


def compile_matching(architecture: int, dtype: str, channels: int, with_flow: bool) -> str:
    """Return the kernel's PTX for images in dense channels-last memory."""
    constants: dict[str, int | None] = {"channels": channels, "channels_at_once": kernels.BYTES_AT_ONCE // BYTES[dtype]}
    constants |= {"alignment": 16 if channels % 16 == 0 else 4} | ({} if with_flow else {"flow": None})
    pointers = {"first": dtype, "second": dtype, "flow": "fp32", "out": dtype}
    return _compile(architecture, kernels.matching_costs_kernel, pointers, constants, kernels.OPTIONS)


def compile_activation(architecture: int, dtype: str, num_parts: int, with_bias: bool) -> str:
    """Return the kernel's PTX for numbers of channels that are multiples of 8."""
    vector = activation_kernel.BYTES_AT_ONCE // BYTES[dtype]
    constants: dict[str, int | None] = {"vector": vector, "vectors": activation_kernel.NUMBERS_PER_PROGRAM // vector}
    constants |= {} if with_bias else {"bias": None}
    pointers: dict[str, Any] = {"parts": (dtype,) * num_parts, "bias": "fp32", "out": dtype}
    kernel, options = activation_kernel.add_and_activate_kernel, activation_kernel.OPTIONS
    return _compile(architecture, kernel, pointers, constants, options)


def _compile(
    architecture: int,
    kernel: Any,
    pointers: dict[str, Any],
    constants: dict[str, Any],
    options: dict[str, Any],
) -> str:
    signature: dict[str, Any] = {}
    constexprs, attributes = {}, dict[tuple[int, ...], Any]()
    aligned = [["tt.divisibility", 16]]
    for index, name in enumerate(kernel.arg_names):
        if name in constants:
            signature[name] = "constexpr"
            constexprs[(index,)] = constants[name]
        elif name in pointers:
            of = pointers[name]
            signature[name] = f"*{of}" if isinstance(of, str) else tuple(f"*{part}" for part in of)
            attributes |= {(index,): aligned} if isinstance(of, str) else {(index, i): aligned for i in range(len(of))}
        else:
            signature[name] = "fp32" if name == "slope" else "i32"
    source = ASTSource(kernel, signature, constexprs, attributes)
    return str(triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options).asm["ptx"])


if __name__ == "__main__":
    for architecture in map(int, sys.argv[1:]):
        variants = [compile_matching(architecture, *variant) for variant in MATCHING]
        variants += [compile_activation(architecture, *variant) for variant in ACTIVATION]
        for ptx in variants:
            print(*sorted(set(re.findall(r"(?:ld|st)\.global[.\w]*", ptx))))
