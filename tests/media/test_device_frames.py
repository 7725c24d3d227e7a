"""Frames that are scaled on the device, in chunks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.helpers.clips import write_clip
from tests.helpers.seeded import synthetic_clip
from utils.media import device_frames
from utils.media.device_frames import scale_on_device
from utils.media.scaling import scale
from utils.media.video import Video

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    images = [frame.transpose(1, 2, 0)[:120, :160] for frame in synthetic_clip()]
    return str(write_clip(tmp_path_factory.mktemp("frames") / "a clip.mp4", images))


@pytest.mark.parametrize(("fps", "frames_in_chunk"), [(None, 5), (60.0, 1), (60.0, 5), (60.0, 100)])
def test_frames_are_those_of_single_frames_however_many_make_a_chunk(
    clip: str, fps: float | None, frames_in_chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Video(clip, 64, fps) as video:
        expected = [scale(torch.from_numpy(frame.data)[None], frame.format)[0] for frame in video.raw_frames()]
    monkeypatch.setattr(device_frames, "CHUNK_FRAMES", frames_in_chunk)
    with Video(clip, 64, fps) as video:
        given = list(scale_on_device(video, CPU))
    assert len(given) == len(expected) > 5
    differences = (torch.stack(given).int() - torch.stack(expected).int()).abs()
    assert differences.max() <= 1
    assert differences.float().mean() < 1e-4, "only the order of sums may depend on the chunk"


@pytest.mark.parametrize("frames_in_chunk", [4, 1])
def test_chunks_hold_no_more_than_so_many_bytes_or_one_frame(
    clip: str, frames_in_chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame_bytes = 160 * 120 * 3 // 2
    sizes = []

    def record(data: Tensor, raw_format: object) -> Tensor:
        sizes.append(data.numel())
        return data.new_zeros(len(data), 3, 1, 1)

    monkeypatch.setattr(device_frames, "scale", record)
    monkeypatch.setattr(
        device_frames, "CHUNK_BYTES", frames_in_chunk * frame_bytes + (1 if frames_in_chunk > 1 else -1)
    )
    with Video(clip, 64) as video:
        assert len(list(scale_on_device(video, CPU))) == 17
    assert sizes == [frames_in_chunk * frame_bytes] * (17 // frames_in_chunk) + [frame_bytes] * (17 % frames_in_chunk)


def test_a_chunk_ends_where_frames_of_as_many_bytes_have_another_format(tmp_path: Path) -> None:
    both, rng = tmp_path / "both.ts", np.random.default_rng(0)
    for size in ((120, 160, 3), (160, 120, 3), (120, 160, 3)):
        part = write_clip(tmp_path / "part.ts", rng.integers(0, 256, (2, *size), np.uint8))
        with both.open("ab") as file:
            file.write(part.read_bytes())
    with Video(str(both), 64) as video:
        expected = [scale(torch.from_numpy(frame.data)[None], frame.format)[0] for frame in video.raw_frames()]
    with Video(str(both), 64) as video:
        given = list(scale_on_device(video, CPU))
    assert len(given) == 6
    assert (torch.stack(given).int() - torch.stack(expected).int()).abs().max() <= 1
