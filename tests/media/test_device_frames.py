"""Frames that are scaled where the networks are, in chunks."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from models.i3d import Config
from models.i3d.extract import Extractor
from tests.helpers.clips import write_clip
from tests.helpers.oracles import cosines
from tests.helpers.seeded import synthetic_clip
from utils.errors import MediaError
from utils.media import device_frames as frames
from utils.media.device_frames import scaled_frames
from utils.media.scaling import scaled
from utils.media.video import Video

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    images = [frame.transpose(1, 2, 0)[:240, :320] for frame in synthetic_clip()]
    return str(write_clip(tmp_path_factory.mktemp("frames") / "a clip.mp4", images))


@pytest.mark.parametrize("pictures_in_chunk", [1, 5, 17, 100])
@pytest.mark.parametrize("fps", [None, 8.0, 60.0])
def test_frames_are_those_of_single_pictures_however_many_make_a_chunk(
    clip: str, fps: float | None, pictures_in_chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Video(clip, 224, fps) as video:
        expected = [scaled(torch.from_numpy(p.data)[None], p.format)[0] for p in video.raw_frames()]
    monkeypatch.setattr(frames, "CHUNK_FRAMES", pictures_in_chunk)
    with Video(clip, 224, fps) as video:
        given = list(scaled_frames(video, CPU))
    assert len(given) == len(expected) > 5
    differences = (torch.stack(given).int() - torch.stack(expected).int()).abs()
    assert differences.max() <= 1
    assert differences.float().mean() < 1e-4, "only the order of sums may depend on the chunk"


def test_chunks_hold_no_more_than_so_many_bytes(clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def noting(data: Tensor, form: object) -> Tensor:
        sizes.append(data.numel())
        return data.new_zeros(len(data), 3, 1, 1)

    monkeypatch.setattr(frames, "scaled", noting)
    monkeypatch.setattr(frames, "CHUNK_BYTES", 4 * 320 * 240 * 3 // 2 + 1)
    with Video(clip, 224) as video:
        assert len(list(scaled_frames(video, CPU))) == 17
    assert sizes == [4 * 320 * 240 * 3 // 2] * 4 + [320 * 240 * 3 // 2]


def test_a_picture_larger_than_a_chunk_is_one(clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "CHUNK_BYTES", 1000)
    with Video(clip, 224) as video:
        assert len(list(scaled_frames(video, CPU))) == 17


def test_a_file_that_is_cut_off_fails_as_with_frames_of_the_cpu(tmp_path: Path) -> None:
    path = tmp_path / "cut off.mkv"
    whole = write_clip(tmp_path / "whole.mkv", [frame.transpose(1, 2, 0)[:240, :320] for frame in synthetic_clip()])
    path.write_bytes(whole.read_bytes()[:-2000])
    with pytest.raises(MediaError, match="--allow_partial"), Video(str(path), 224) as video:
        list(scaled_frames(video, CPU))


def test_features_of_frames_scaled_on_the_device_are_near_those_of_swscale(
    clip: str, checkpoints: dict[str, str]
) -> None:
    class OnDevice(Extractor):
        def _frames(self, video: Video, folder: Path | None) -> Iterator[Tensor]:
            return scaled_frames(video, self.device)

    config = Config(stack_size=16, **checkpoints)  # type: ignore[arg-type]
    expected = Extractor(config, "cpu").extract(clip).arrays
    arrays = OnDevice(config, "cpu").extract(clip).arrays
    streams: Sequence[str] = ("rgb", "flow")
    for stream in streams:
        assert cosines(arrays[stream], expected[stream]).min() > 0.9995
        assert not np.array_equal(arrays[stream], expected[stream]), "both were scaled by swscale"
