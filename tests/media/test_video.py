"""Decoding, with clips whose frames carry their numbers."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.helpers.clips import number_of, set_display_matrix, write_clip, write_numbered_clip
from tests.helpers.recordings import remux
from utils.errors import MediaError
from utils.media.raw_frame import LAYOUTS, SCALED, Bytes, RawFormat, RawFrame, copy_planes
from utils.media.video import Video, scale_size, write_png

CLIPS = [
    ("clip.mp4", "libx264", "yuv420p"),
    ("clip.mov", "libx264", "yuv420p"),
    ("clip.mkv", "libx264", "yuv420p"),
    ("clip.ts", "libx264", "yuv420p"),
    ("clip.webm", "libvpx-vp9", "yuv420p"),
    ("clip.avi", "mpeg4", "yuv420p"),
    ("reordered.avi", "libx264", "yuv420p"),
    ("raw.h264", "libx264", "yuv420p"),
    ("ten bits.mp4", "libx265", "yuv420p10le"),
    ("full range.mkv", "mjpeg", "yuvj422p"),
    ("full colour.mkv", "ffv1", "yuv444p"),
    ("gray.mkv", "ffv1", "gray"),
    ("two planes.nut", "rawvideo", "nv12"),  # which is none of `LAYOUTS`, as those below
    ("alpha.mkv", "ffv1", "bgra"),
    ("quarter.mkv", "ffv1", "yuv411p"),
    ("plane of alpha.mkv", "ffv1", "yuva420p"),
    ("twelve bits.mkv", "ffv1", "yuv420p12le"),
]


def numbers(path: Path | str, fps: float | None = None) -> list[int]:
    with Video(str(path), 256, fps) as video:
        return [number_of(frame) for frame in video]


def number_in(frame: RawFrame) -> int:
    """Return the number that a raw frame carries, by its luma; of two bytes of a sample the upper one tells."""
    form = frame.format
    bits = LAYOUTS[form.pixels].bits
    samples = frame.data.view("<u2" if bits > 8 else "u1")
    luma = samples[: form.width * form.height] >> (bits - 8)
    return number_of(luma.reshape(form.height, form.width, 1).astype(np.uint8))


@pytest.mark.parametrize(("name", "codec", "pixel_format"), CLIPS)
def test_every_frame_comes_once_and_in_order_scaled_and_raw(
    tmp_path: Path, name: str, codec: str, pixel_format: str
) -> None:
    num_frames = 30
    path = write_numbered_clip(tmp_path / name, num_frames, codec=codec, pixel_format=pixel_format)
    with Video(str(path), 256) as video:
        frames = list(video)
        assert video.fps == 25
        assert video.num_frames == num_frames
    assert [number_of(frame) for frame in frames] == list(range(num_frames))
    assert {(frame.shape, frame.dtype) for frame in frames} == {((256, 341, 3), np.dtype(np.uint8))}
    with Video(str(path), 256) as video:
        raw_frames = list(video.raw_frames())
    is_scaled = pixel_format not in LAYOUTS
    assert {frame.format.pixels for frame in raw_frames} == {SCALED if is_scaled else pixel_format}
    assert {(frame.format.scaled_width, frame.format.scaled_height) for frame in raw_frames} == {(341, 256)}
    if is_scaled:
        assert [frame.data.tobytes() for frame in raw_frames] == [frame.tobytes() for frame in frames]
    else:
        assert [number_in(frame) for frame in raw_frames] == list(range(num_frames))


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.webm"])
@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(24000, 1001), Fraction(10)])
def test_the_own_rate_is_the_videos_average(tmp_path: Path, name: str, rate: Fraction) -> None:
    codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
    path = write_numbered_clip(tmp_path / name, rate=rate, codec=codec)
    with Video(str(path), 256) as video:
        assert float(video.fps) == pytest.approx(float(rate), rel=1e-3)
    assert numbers(path) == list(range(50))


@pytest.mark.parametrize("num_frames", [1, 2])
@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi"])
def test_the_shortest_videos_have_all_their_frames(tmp_path: Path, name: str, num_frames: int) -> None:
    assert numbers(write_numbered_clip(tmp_path / name, num_frames, codec="mpeg4")) == list(range(num_frames))


def test_a_recording_that_tells_no_rate_has_the_average_of_its_times(tmp_path: Path) -> None:
    times = [33 * i + 7 * (i % 3) for i in range(60)]
    whole = write_numbered_clip(tmp_path / "whole.webm", 60, rate=1000, codec="libvpx-vp9", times_ms=times)
    path = remux(whole, tmp_path / "recorded.webm", {"live": "1"})
    with av.open(str(path)) as recorded:
        assert recorded.streams.video[0].average_rate is None
    with Video(str(path), 256) as video:
        assert float(video.fps) == pytest.approx(59 / times[-1] * 1000)
    assert numbers(path) == list(range(60))


def test_a_fractional_rate_is_kept_to_its_decimals(tmp_path: Path) -> None:
    with Video(str(write_numbered_clip(tmp_path / "clip.mp4")), 256, 12.34) as video:
        assert video.fps == Fraction(617, 50)
        assert len(list(video)) == pytest.approx(2 * 12.34, abs=2)


@pytest.mark.parametrize(
    ("size", "scaled"),
    [
        ((320, 240), (341, 256)),
        ((240, 320), (256, 341)),
        ((1920, 1080), (455, 256)),
        ((321, 243), (338, 256)),
        ((1, 1), (256, 256)),
        ((256, 256), (256, 256)),
    ],
)
def test_the_smaller_side_is_scaled_and_the_aspect_kept(size: tuple[int, int], scaled: tuple[int, int]) -> None:
    assert scale_size(*size, 256) == scaled


@pytest.mark.parametrize(
    ("matrix", "corners"),
    [
        ((1, 0, 0, 1), "RGBW"),
        ((0, 1, -1, 0), "BRWG"),
        ((-1, 0, 0, -1), "WBGR"),
        ((0, -1, 1, 0), "GWRB"),
        ((-1, 0, 0, 1), "GRWB"),
        ((1, 0, 0, -1), "BWRG"),
        ((0, 1, 1, 0), "RBGW"),
        ((0, -1, -1, 0), "WGBR"),
    ],
)
def test_the_display_matrix_is_applied(tmp_path: Path, matrix: tuple[int, int, int, int], corners: str) -> None:
    names = {(1, 0, 0): "R", (0, 1, 0): "G", (0, 0, 1): "B", (1, 1, 1): "W"}
    colours = np.array(list(names), np.uint8).reshape(2, 2, 3)
    picture = 255 * colours.repeat(60, axis=0).repeat(80, axis=1)
    path = write_clip(tmp_path / "turned.mp4", [picture] * 3)
    set_display_matrix(path, *matrix)
    with Video(str(path), 256) as video:
        frame = next(iter(video))
    height, width = frame.shape[:2]
    assert (height > width) == (matrix[0] == 0)
    quarters = frame[height // 4 :: height // 2, width // 4 :: width // 2].reshape(-1, 3) > 128
    assert "".join(names[tuple(quarter)] for quarter in quarters.astype(int).tolist()) == corners


def test_frames_of_a_real_clip_are_those_of_ffmpeg_to_the_bit(shared: Path) -> None:
    with np.load(shared / "reference" / "networks.npz") as values:
        expected = values["frames"]
    with Video(str(shared / "videos" / "v_GGSY1Qvo990.mp4"), 256) as video:
        frames = [frame for frame, _ in zip(video, expected, strict=False)]
    assert (np.stack(frames).transpose(0, 3, 1, 2) == expected).all()


@pytest.mark.parametrize(("fps", "num_frames"), [(None, 355), (25.0, 452)])
def test_a_real_clip_has_as_many_frames_as_ffmpeg_makes(shared: Path, fps: float | None, num_frames: int) -> None:
    with Video(str(shared / "videos" / "v_GGSY1Qvo990.mp4"), 256, fps) as video:
        assert sum(1 for _ in video) == num_frames


@pytest.mark.parametrize("fps", [10, 60])
def test_raw_frames_come_at_the_same_rate(tmp_path: Path, fps: float) -> None:
    path = write_numbered_clip(tmp_path / "clip.mp4")
    with Video(str(path), 256, fps) as video:
        assert [number_in(frame) for frame in video.raw_frames()] == numbers(path, fps)


def test_a_picture_that_is_repeated_is_the_same_object(tmp_path: Path) -> None:
    path = write_numbered_clip(tmp_path / "clip.mkv", 6, times_ms=[0, 40, 80, 400, 440, 480])
    with Video(str(path), 256, 25) as video:
        pictures = list(video.raw_frames())
    assert len({id(picture) for picture in pictures}) == 6
    assert len(pictures) > 10
    assert len({number_in(picture) for picture in pictures}) == 6


@pytest.mark.parametrize("pixel_format", ["yuv420p", "bgra"])
def test_the_memory_of_pictures_can_be_given(tmp_path: Path, pixel_format: str) -> None:
    path = write_numbered_clip(tmp_path / "clip.mkv", 5, codec="ffv1", pixel_format=pixel_format)
    given: list[Bytes] = []

    def allocate(raw_format: RawFormat) -> Bytes:
        given.append(np.zeros(raw_format.num_bytes, np.uint8))
        return given[-1]

    with Video(str(path), 256) as video:
        pictures = list(video.raw_frames(allocate))
    assert [id(picture.data) for picture in pictures] == [id(memory) for memory in given]


def test_a_frame_that_is_stored_from_below_is_copied_from_above() -> None:
    rows = np.arange(12, dtype=np.uint8)[:, None] * np.ones(16, np.uint8)
    graph = av.filter.Graph()
    source = graph.add_buffer(width=16, height=12, format=av.VideoFormat("gray"), time_base=Fraction(1, 25))
    graph.link_nodes(source, graph.add("vflip"), graph.add("buffersink")).configure()
    graph.vpush(av.VideoFrame.from_ndarray(rows, format="gray"))
    frame = graph.vpull()
    assert frame.planes[0].line_size < 0
    copy = np.empty(12 * 16, np.uint8)
    copy_planes(frame, RawFormat("gray", 16, 12, 2, True, (), 16, 12), copy)
    assert (copy.reshape(12, 16) == rows[::-1]).all()


@pytest.mark.parametrize("min_side_size", [256, None])
def test_a_frame_too_long_to_scale_is_refused(min_side_size: int | None, tmp_path: Path) -> None:
    path = write_numbered_clip(tmp_path / "thin.mkv", 1, 4000, 2, codec="ffv1", pixel_format="bgr0")
    with (
        Video(str(path), min_side_size) as video,
        pytest.raises(MediaError, match="4000x2 would be scaled to") as caught,
    ):
        list(video)
    assert caught.value.reason == "bad_size"


def test_a_png_holds_the_frame_to_the_bit(tmp_path: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (37, 51, 3), np.uint8)
    write_png(frame, tmp_path / "frame.png")
    with av.open(str(tmp_path / "frame.png")) as picture:
        decoded = next(picture.decode(video=0)).to_ndarray(format="rgb24")
    assert (decoded == frame).all()
