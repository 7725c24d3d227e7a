"""The sum of parts, a bias and their activation, and its Triton kernel: on a GPU, or else in Triton's interpreter.

The interpreter rounds to bfloat16 by truncation; `tests/gpu` has it.
"""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.activation import new_output, plain_add_and_activate
from models.checked_kernel import Function

kernel: Function = pytest.importorskip("models.activation_kernel").add_and_activate

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
UNTOUCHED = -7.0


@pytest.mark.parametrize(("slope", "expected"), [(0.0, [0.0, 3.0]), (0.1, [-0.5, 3.0]), (1.0, [-5.0, 3.0])])
@pytest.mark.parametrize("function", [plain_add_and_activate, kernel])
def test_the_sum_of_parts_and_bias_is_activated(function: Function, slope: float, expected: list[float]) -> None:
    parts = [
        torch.tensor([-1.0, 1.0]).view(1, 2, 1, 1).to(DEVICE),
        torch.tensor([-2.0, 4.0]).view(1, 2, 1, 1).to(DEVICE),
    ]
    bias = torch.tensor([-2.0, -2.0]).to(DEVICE)
    result = function(parts, bias, slope, new_output(parts[0], 1))
    torch.testing.assert_close(result.flatten().tolist(), [*expected, 1.0])


@pytest.mark.parametrize("function", [plain_add_and_activate, kernel])
def test_sums_of_half_precision_are_rounded_once(function: Function) -> None:
    """1 + 2^-11 + 2^-12 is 1 if each sum is rounded to half precision, and 1 + 2^-10 if only the last one is."""
    parts = [torch.full((1, 8, 2, 2), value, dtype=torch.float16, device=DEVICE) for value in (1.0, 2**-11)]
    result = function(parts, torch.full((8,), 2**-12, device=DEVICE), 1.0)
    assert result.dtype == torch.float16
    assert result.unique().tolist() == [1 + 2**-10]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(
    ("num_parts", "channels", "size", "num_ones"),
    [
        (1, 64, (5, 7), 0),
        (6, 128, (3, 9), 0),
        (6, 128, (3, 9), 8),
        (7, 2, (1, 1), 0),
        (2, 34, (4, 5), 6),
        (1, 196, (4, 6), 4),
        (3, 24, (2, 3, 5), 0),
        (1, 1, (2, 3), 0),
        (1, 16, (40, 60), 8),
    ],
)
def test_the_kernel_computes_what_the_plain_version_does(
    num_parts: int, channels: int, size: tuple[int, ...], num_ones: int, dtype: torch.dtype
) -> None:
    parts, bias = _random(num_parts, channels, size, dtype)
    _assert_like_plain(parts, bias, num_ones)
    _assert_like_plain([part[:, : channels // 2 + 1] for part in parts], None, num_ones)  # at odd addresses, in part


def test_tensors_that_are_not_channels_last_are_taken() -> None:
    parts, bias = _random(2, 6, (3, 4), torch.float32)
    _assert_like_plain([part.contiguous() for part in parts], bias, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_nothing_outside_of_views_is_read_or_written(dtype: torch.dtype) -> None:
    parts, bias = _random(2, 24, (3, 5), dtype)
    expected = plain_add_and_activate(parts, bias, 0.1)
    surrounded = [
        torch.nn.functional.pad(part, (0, 0, 0, 0, 8, 3, 1, 1), value=math.nan).contiguous(
            memory_format=torch.channels_last
        )
        for part in parts
    ]
    buffer = torch.full((4, 37, 3, 5), UNTOUCHED, dtype=dtype, device=DEVICE)
    buffer = buffer.contiguous(memory_format=torch.channels_last)
    out = buffer[1:-1, 8:-5]
    more_bias = torch.nn.functional.pad(bias, (1, 1), value=math.nan).to(DEVICE)[1:-1]
    result = kernel([part.to(DEVICE)[1:-1, 8:-3] for part in surrounded], more_bias, 0.1, out)
    assert result is out
    torch.testing.assert_close(out.cpu(), expected, rtol=0, atol=0)
    out.fill_(UNTOUCHED)
    assert (buffer == UNTOUCHED).all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the interpreter
@pytest.mark.parametrize("slope", [0.0, 0.1, 1.0])
def test_what_is_no_number_or_too_large_is_treated_as_in_the_plain_version(slope: float) -> None:
    values = torch.tensor([math.nan, math.inf, -math.inf, 65504.0, -65504.0, 0.0, -0.0, 6e-8])
    first, second = (part.half().view(1, 8, 8, 1) for part in (values.repeat(8), values.repeat_interleave(8)))
    parts = [part.contiguous(memory_format=torch.channels_last) for part in (first, second)]
    result = kernel([part.to(DEVICE) for part in parts], None, slope).cpu()
    expected = plain_add_and_activate(parts, None, slope)
    assert expected.isnan().any()
    torch.testing.assert_close(result, expected, rtol=0, atol=0, equal_nan=True)


def test_the_kernels_compile_for_gpus_that_are_not_here(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    command = [sys.executable, "-m", "tests.helpers.compile_kernel", "80", "90", "100"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no warnings either
    variants = done.stdout.splitlines()
    assert len(variants) == 3 * (2 + 4)
    for variant in variants:  # a thread loads 8 or 16 bytes of channels at once
        assert "ld.global.v" in variant
        assert "ld.global.b16" not in variant
    assert sum(variant == "ld.global.v4.b32 st.global.v4.b32" for variant in variants) == 3 * 4  # of the activation


def _random(num_parts: int, channels: int, size: tuple[int, ...], dtype: torch.dtype) -> tuple[list[Tensor], Tensor]:
    """Slices of wider tensors in channels-last memory, and a bias."""
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(num_parts, 2, *size, channels + 8, generator=generator).to(dtype).movedim(-1, 2)
    return [part[:, 8:] for part in wide], torch.randn(channels, generator=generator)


def _assert_like_plain(parts: list[Tensor], bias: Tensor | None, num_ones: int) -> None:
    """Sums are in the same order, so that results are equal."""
    out = new_output(parts[0], num_ones) if num_ones else None
    expected = plain_add_and_activate(parts, bias, 0.1, out)
    out = new_output(parts[0].to(DEVICE), num_ones) if num_ones else None
    result = kernel([part.to(DEVICE) for part in parts], None if bias is None else bias.to(DEVICE), 0.1, out)
    assert result.stride() == expected.stride()
    assert result.movedim(1, -1).is_contiguous()
    torch.testing.assert_close(result.cpu(), expected, rtol=0, atol=0)
