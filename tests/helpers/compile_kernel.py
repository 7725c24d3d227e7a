"""Compiles the Triton kernel for GPUs that need not be here, and prints its load instructions, a line per variant.

    python -m tests.helpers.compile_kernel 80 90

The numbers are architectures: 80 is an A100, 90 an H100. The environment must not ask for Triton's interpreter.
"""

import re
import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from models.pwc import kernels

BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
VARIANTS = (("fp32", 32, True), ("fp16", 196, False))  # channels as at PWC-Net's outer levels


def compile_kernel(architecture: int, dtype: str, channels: int, with_flow: bool) -> str:
    """Return the kernel's PTX for images in dense channels-last memory."""
    function = kernels.matching_costs_kernel
    constants: dict[str, int | None] = {"channels": channels, "channels_at_once": kernels.BYTES_AT_ONCE // BYTES[dtype]}
    constants |= {"alignment": 16 if channels % 16 == 0 else 4} | ({} if with_flow else {"flow": None})
    pointers = {"first": dtype, "second": dtype, "flow": "fp32", "out": dtype}
    signature, constexprs, attributes = {}, {}, {}
    for index, name in enumerate(function.arg_names):
        if name in constants:
            signature[name] = "constexpr"
            constexprs[(index,)] = constants[name]
        elif name in pointers:
            signature[name] = f"*{pointers[name]}"
            attributes[(index,)] = [["tt.divisibility", 16]]
        else:
            signature[name] = "i32"
    source = ASTSource(function, signature, constexprs, attributes)
    return str(triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=kernels.OPTIONS).asm["ptx"])


if __name__ == "__main__":
    for architecture in sys.argv[1:]:
        for dtype, channels, with_flow in VARIANTS:
            ptx = compile_kernel(int(architecture), dtype, channels, with_flow)
            print(*sorted(set(re.findall(r"ld\.global[.\w]*", ptx))))
