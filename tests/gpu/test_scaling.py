"""Frames that a GPU copies and scales, beside FFmpeg's swscale."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.gpu import GPU, needs_gpu
from tests.media.test_scaling import assert_same, write_noise
from utils.media.device_frames import frames_on_device, scale_on_device
from utils.media.raw_frame import LAYOUTS
from utils.media.video import Video

pytestmark = needs_gpu

SIZES = [(320, 240), (1920, 1080), (3840, 2160)]


@pytest.mark.parametrize(
    ("pixels", "width", "height"),
    [("yuv420p", *size) for size in SIZES] + [(pixels, 320, 240) for pixels in LAYOUTS if pixels != "yuv420p"],
)
def test_frames_are_scaled_as_by_ffmpeg(tmp_path: Path, pixels: str, width: int, height: int) -> None:
    path = str(write_noise(tmp_path / "noise.nut", pixels, width, height, num_frames=3))
    with Video(path, 256) as video:
        expected = np.stack(list(video))
    with Video(path, 256) as video, frames_on_device(video, GPU) as frames:
        ours = torch.stack(list(frames))
    assert ours.device == GPU
    assert_same(ours.permute(0, 2, 3, 1).cpu().numpy(), expected)


def test_frames_of_many_chunks_arrive_whole_and_in_order_while_the_gpu_computes(tmp_path: Path) -> None:
    """Many chunks are on their way at once, and the memory of each is taken again soon after."""
    path = str(write_noise(tmp_path / "noise.nut", "yuv420p", 1280, 720, num_frames=60))
    work = torch.rand(2048, 2048, device=GPU)
    sums = []
    with Video(path, 256) as video, frames_on_device(video, GPU) as frames:
        for frame in frames:
            for _ in range(5):
                work = work @ work / work.norm()
            sums.append(frame.clone())
    with Video(path, 256) as video:
        expected = torch.stack(list(scale_on_device(video, torch.device("cpu"))))
    off = (torch.stack(sums).cpu().int() - expected.int()).abs()
    assert off.max() <= 1
    assert (off > 0).float().mean() < 1e-3
