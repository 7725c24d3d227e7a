"""Scaling on the device, beside FFmpeg's swscale, through which the frames of a video come otherwise."""

from pathlib import Path
from typing import cast

import av
import numpy as np
import numpy.typing as npt
import pytest
import torch

from tests.helpers.clips import set_display_matrix, write_clip
from utils.media import scaling
from utils.media.raw_frame import LAYOUTS, SCALED
from utils.media.scaling import scale
from utils.media.video import Video

Frames = npt.NDArray[np.uint8]

SIZES = [(320, 240), (640, 480), (321, 241), (340, 256), (341, 256), (340, 255), (9, 8)]  # from the fourth: not scaled
CODECS = {"yuvj420p": "mjpeg", "yuvj422p": "mjpeg", "yuvj444p": "mjpeg"}


def write_noise(
    path: Path, pixels: str, width: int, height: int, matrix: int = 2, color_range: int = 0, num_frames: int = 1
) -> Path:
    """Encode frames of which all planes are noise, without loss where the format has a codec for that."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as output:
        stream = cast(av.VideoStream, output.add_stream(CODECS.get(pixels, "ffv1"), rate=25))
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, color_range
        for _ in range(num_frames):
            frame = av.VideoFrame(width, height, pixels)
            frame.colorspace, frame.color_range = matrix, color_range
            for plane in frame.planes:
                noise = rng.integers(0, 256, plane.buffer_size, np.uint8)
                if pixels == "yuv420p10le":
                    noise[1::2] &= 3
                plane.update(noise.tobytes())
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def scale_by_both(path: Path, min_side_size: int = 256) -> tuple[Frames, Frames, set[str]]:
    """Return all frames as scaled here and by swscale, (T, H, W, 3), and their pixel formats."""
    with Video(str(path), min_side_size) as video:
        raw_frames = list(video.raw_frames())
    ours = [scale(torch.from_numpy(frame.data)[None], frame.format)[0] for frame in raw_frames]
    with Video(str(path), min_side_size) as video:
        expected = np.stack(list(video))
    return torch.stack(ours).permute(0, 2, 3, 1).numpy(), expected, {frame.format.pixels for frame in raw_frames}


def assert_same(ours: Frames, expected: Frames, exact: float = 0.99) -> None:
    """Check that all but one value in 1000 are within a grey level, and that the share `exact` is equal."""
    assert ours.shape == expected.shape
    off = np.abs(ours.astype(int) - expected)
    assert (off <= 1).mean() >= 0.999
    assert (off == 0).mean() >= exact


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("pixels", LAYOUTS)
def test_noise_of_every_format_is_scaled_as_by_ffmpeg(tmp_path: Path, pixels: str, width: int, height: int) -> None:
    path = write_noise(tmp_path / "noise.nut", pixels, width, height)
    ours, expected, formats = scale_by_both(path, 255 if height == 255 else 256)
    assert formats == {pixels}
    assert_same(ours, expected)


@pytest.mark.parametrize(("width", "height"), [(16, 4), (7, 9), (1, 1)])
def test_tiny_frames_are_those_of_ffmpeg(tmp_path: Path, width: int, height: int) -> None:
    ours, expected, formats = scale_by_both(write_noise(tmp_path / "noise.mkv", "yuv444p", width, height))
    assert formats == {SCALED}
    assert (ours == expected).all()


@pytest.mark.parametrize(
    ("width", "height", "min_side_size"), [(1920, 1080, 256), (1920, 1080, 270), (1280, 720, 256), (4096, 16, 16)]
)
def test_large_frames_are_scaled_as_by_ffmpeg(tmp_path: Path, width: int, height: int, min_side_size: int) -> None:
    path = write_noise(tmp_path / "noise.mkv", "yuv420p", width, height)
    ours, expected, _ = scale_by_both(path, min_side_size)
    assert_same(ours, expected)


@pytest.mark.parametrize(
    ("matrix", "color_range", "min_side_size"),
    [(matrix, 1, 258) for matrix in (1, 2, 4, 5, 6, 7)]
    + [(9, color_range, side) for color_range in (0, 1, 2) for side in (240, 256, 258)],  # unscaled, odd, even width
)
def test_every_colour_matrix_and_range_is_converted_as_by_ffmpeg(
    tmp_path: Path, matrix: int, color_range: int, min_side_size: int
) -> None:
    path = write_noise(tmp_path / "noise.mkv", "yuv420p", 320, 240, matrix, color_range)
    ours, expected, formats = scale_by_both(path, min_side_size)
    assert formats == {"yuv420p"}
    assert_same(ours, expected)


@pytest.mark.parametrize(
    ("pixels", "width", "height"),
    [("yuv420p", 322, 242), ("yuv422p", 322, 242), ("yuv444p", 322, 242), ("yuv420p", 340, 256)],
)
@pytest.mark.parametrize(
    "matrix", [(0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0), (-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0)]
)
def test_turned_and_mirrored_frames_are_scaled_as_by_ffmpeg(
    tmp_path: Path, pixels: str, width: int, height: int, matrix: tuple[int, int, int, int]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)
    path = write_clip(tmp_path / "turned.mp4", noise, pixel_format=pixels)
    set_display_matrix(path, *matrix)
    ours, expected, formats = scale_by_both(path)
    is_oblong = pixels == "yuv422p" and matrix[0] == 0
    assert formats == {SCALED if is_oblong else pixels}
    assert_same(ours, expected)


@pytest.mark.parametrize("changed", [((640, 360), "yuv420p"), ((242, 320), "yuv420p"), ((320, 240), "yuv444p")])
def test_a_change_in_mid_stream_is_scaled_as_by_ffmpeg(tmp_path: Path, changed: tuple[tuple[int, int], str]) -> None:
    path, rng = tmp_path / "both.ts", np.random.default_rng(0)
    for (width, height), pixels in (((320, 240), "yuv420p"), changed):
        noise = rng.integers(0, 256, (2, height, width, 3), np.uint8)
        part = write_clip(tmp_path / "part.ts", noise, pixel_format=pixels)
        with path.open("ab") as both:
            both.write(part.read_bytes())
    ours, expected, formats = scale_by_both(path)
    assert formats == {"yuv420p", changed[1]}
    assert ours.shape == (4, 256, 341, 3)
    assert_same(ours, expected)


@pytest.mark.parametrize("pixels_per_slice", [1, 2 * 176 * 144])
def test_frames_are_scaled_together_as_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixels_per_slice: int
) -> None:
    with Video(str(write_noise(tmp_path / "noise.mkv", "yuv420p", 176, 144, num_frames=5)), 256) as video:
        raw_frames = list(video.raw_frames())
    data = torch.from_numpy(np.stack([frame.data for frame in raw_frames]))
    alone = torch.cat([scale(frame[None], raw_frames[0].format) for frame in data])
    monkeypatch.setattr(scaling, "PIXELS_PER_SLICE", pixels_per_slice)
    assert_same(scale(data, raw_frames[0].format).numpy(), alone.numpy(), exact=0.999)
