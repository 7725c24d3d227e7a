"""What the CPU computes, a GPU computes too. Runs where there is one."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from models.i3d import Config
from models.i3d.extract import Extractor
from models.pwc.cost_volume import cost_volume, warp
from tests.clips import write_clip
from tests.oracles import cosines
from tests.seeded import synthetic_clip
from utils.devices import resolve

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]


def test_cost_volume_and_warp_are_those_of_the_cpu() -> None:
    first, second = torch.randn(2, 2, 32, 24, 40, generator=torch.Generator().manual_seed(0))
    flow = 4 * torch.randn(2, 2, 24, 40, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(cost_volume(first.cuda(), second.cuda()).cpu(), cost_volume(first, second))
    torch.testing.assert_close(warp(first.cuda(), flow.cuda()).cpu(), warp(first, flow), atol=1e-4, rtol=1e-4)


def test_features_are_those_of_the_cpu(tmp_path: Path, checkpoints: dict[str, str]) -> None:
    frames: Sequence[np.ndarray] = [frame.transpose(1, 2, 0)[:256, :340] for frame in synthetic_clip()]
    clip = write_clip(tmp_path / "clip.mp4", frames)
    config = Config(stack_size=12, step_size=4, **checkpoints)  # type: ignore[arg-type]
    expected = Extractor(config, "cpu").extract(str(clip)).arrays
    arrays = Extractor(config, resolve(["0"])[0]).extract(str(clip)).arrays
    for stream, rows in arrays.items():
        assert cosines(rows, expected[stream]).min() > 0.9999
