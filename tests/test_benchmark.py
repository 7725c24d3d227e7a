"""The benchmark runs and measures the right things."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from benchmarks.precision import Simulated
from models.i3d.net import tf32
from tests.helpers.oracles import REPOSITORY


def test_simulated_products_take_what_tensor_cores_take() -> None:
    generator = torch.Generator().manual_seed(0)
    images, kernel = torch.randn(1, 8, 5, 5, generator=generator), torch.randn(4, 8, 3, 3, generator=generator)
    bias = torch.randn(4, generator=generator)
    with torch.inference_mode(), Simulated():  # type: ignore[no-untyped-call]
        in_tf32 = F.conv2d(images, kernel, bias)
        in_half = F.conv2d(images.half(), kernel.half(), bias.half())
    assert torch.equal(in_tf32, F.conv2d(tf32(images), tf32(kernel), bias))
    assert not torch.equal(in_tf32, F.conv2d(images, kernel, bias))
    exact = F.conv2d(images.half().double(), kernel.half().double(), bias.half().double())
    torch.testing.assert_close(in_half.double(), exact, rtol=2**-11, atol=1e-6)


@pytest.mark.slow
def test_a_quick_run_prints_a_table_and_writes_the_figures(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.pipeline", "--quick", "--device", "cpu"]
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
