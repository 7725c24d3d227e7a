"""The benchmark runs and measures the right things."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from benchmarks.precision import Simulated, truncate
from tests.helpers.oracles import REPOSITORY


def test_simulated_products_take_what_tensor_cores_take() -> None:
    generator = torch.Generator().manual_seed(0)
    images, kernel = torch.randn(1, 8, 5, 5, generator=generator), torch.randn(4, 8, 3, 3, generator=generator)
    bias = torch.randn(4, generator=generator)
    with torch.inference_mode(), Simulated():  # type: ignore[no-untyped-call]
        in_tf32 = F.conv2d(images, kernel, bias)
        in_half = F.conv2d(images.half(), kernel.half())
        product = images[0, 0] @ kernel[0, 0, :1].repeat(5, 2)[:, :5]
    assert torch.equal(in_tf32, F.conv2d(truncate(images), truncate(kernel), bias))
    assert not torch.equal(in_tf32, F.conv2d(images, kernel, bias))
    assert torch.equal(product, images[0, 0] @ kernel[0, 0, :1].repeat(5, 2)[:, :5]), "matrix products are no TF32"
    exact = F.conv2d(images.half().double(), kernel.half().double())
    torch.testing.assert_close(in_half.double(), exact, rtol=2**-11, atol=1e-6)


def test_tf32_cuts_numbers_off_after_ten_bits() -> None:
    step = 2**-10
    numbers = torch.tensor([1 + 0.75 * step, -1 - 1.75 * step, 1 + step, 0.0])
    assert truncate(numbers).tolist() == [1, -1 - step, 1 + step, 0]
    of_half = torch.tensor([3 * 2**-24, 65504, -1 / 3]).half().float()
    assert torch.equal(truncate(of_half), of_half)


@pytest.mark.slow
def test_a_quick_run_prints_a_table_and_writes_the_figures(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.pipeline", "--quick"]
    command += ["--output", str(tmp_path / "latest.json")]
    answer = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=600, check=True)
    figures = json.loads((tmp_path / "latest.json").read_text())
    whole = figures["end_to_end"]
    assert whole["ratio_to_plain"] == pytest.approx(whole["frames_per_s"] / whole["plain_frames_per_s"])
    assert whole["least_cosine"] > 0.99999, "both compute the same features"
    assert all(rates["ratio"] > 1 for rates in figures["decoding"].values())
    assert {"decode", "transfer", "scale", "flow", "I3D rgb", "I3D flow", "save", "sound: network"} <= figures[
        "stages"
    ].keys()
    assert all(stage["per_s"] > 0 for stage in figures["stages"].values())
    assert "end to end" in answer.stdout
