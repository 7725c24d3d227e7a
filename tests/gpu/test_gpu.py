"""A GPU computes the same as the CPU. Runs where there is one."""

import dataclasses
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from models import activation
from models.i3d import Config
from models.i3d.extract import Extractor
from models.pwc import matching
from models.pwc.cost_volume import NUM_DISPLACEMENTS
from models.pwc.matching import matching_costs, plain_matching_costs
from models.pwc.net import COARSEST, FINEST, PYRAMID_CHANNELS
from tests.helpers.clips import write_clip
from tests.helpers.oracles import REPOSITORY, cosines
from tests.helpers.seeded import synthetic_clip
from utils.devices import resolve
from utils.media.options import DecodeOptions

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("level", range(FINEST, COARSEST + 1))
def test_the_kernel_is_used_and_computes_what_the_plain_version_does_on_the_cpu(level: int, dtype: torch.dtype) -> None:
    height, width, channels = 256 >> level, 384 >> level, PYRAMID_CHANNELS[level - 1]
    generator = torch.Generator().manual_seed(level)
    first, second = torch.randn(2, 2, height, width, channels, generator=generator).to(dtype).permute(0, 1, 4, 2, 3)
    flow = None if level == COARSEST else 3 * torch.randn(2, 2, height, width, generator=generator)
    out = torch.full((2, height, width, NUM_DISPLACEMENTS + 7), -7.0, dtype=dtype).permute(0, 3, 1, 2)
    expected = out.clone()
    plain_matching_costs(first, second, flow, expected)
    out = out.cuda()
    matching_costs(first.cuda(), second.cuda(), None if flow is None else flow.cuda(), out)
    assert matching._kernel(out.device, dtype) is not plain_matching_costs
    eps = torch.finfo(dtype).eps
    # In single precision what differs are the coordinates, which grid_sample has in halves of the image's size.
    atol, rtol = (5e-5, 0) if dtype == torch.float32 else (eps / 8, 2 * eps)
    torch.testing.assert_close(out.cpu(), expected, atol=atol, rtol=rtol)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_kernel_that_sums_and_activates_is_used(dtype: torch.dtype) -> None:
    assert activation._kernel(torch.device("cuda:0"), dtype) is not activation.plain_add_and_activate


@pytest.mark.parametrize(
    ("precision", "least_cosine"),
    [("fp32", 0.9999), ("tf32", 0.999), ("mixed", 0.999), ("fp16", 0.999), ("bf16", 0.98)],
)
def test_features_are_those_of_the_cpu(
    tmp_path: Path, checkpoints: dict[str, str], precision: str, least_cosine: float
) -> None:
    frames: Sequence[np.ndarray] = [frame.transpose(1, 2, 0)[:256, :340] for frame in synthetic_clip()]
    clip = write_clip(tmp_path / "clip.mp4", frames)
    config = Config(stack_size=12, step_size=4, **checkpoints)  # type: ignore[arg-type]
    expected = Extractor(config, "cpu").extract(str(clip), DecodeOptions()).arrays
    config = dataclasses.replace(config, precision=precision)
    arrays = Extractor(config, resolve(["0"])[0]).extract(str(clip), DecodeOptions()).arrays
    for stream, rows in arrays.items():
        assert cosines(rows, expected[stream]).min() > least_cosine


def test_the_whole_program_works_on_a_gpu(tmp_path: Path, checkpoints: dict[str, str]) -> None:
    clips = [write_clip(tmp_path / f"{i}.mp4", [np.full((240, 320, 3), 30 * i, np.uint8)] * 30) for i in range(6)]
    command = [sys.executable, str(REPOSITORY / "main.py"), "--feature_type", "i3d", "--device_ids", "0"]
    command += ["--stack_size", "16", "--step_size", "8", "--on_extraction", "save_numpy"]
    command += ["--output_path", str(tmp_path / "output"), "--video_paths", *map(str, clips)]
    command += [f"--{option}={path}" for option, path in checkpoints.items()]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert answer.returncode == 0, answer.stderr
    assert len(list((tmp_path / "output").glob("*.npy"))) == 12
    assert "slower" not in answer.stderr, "the kernel did not work"
