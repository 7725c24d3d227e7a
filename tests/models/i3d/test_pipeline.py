"""From a real video to features, against what the reference implementation made of it without lossy frames."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from models.i3d import Config
from models.i3d.extract import Extractor
from tests.helpers.oracles import cosines
from utils.results import Features

CLIP = Path("videos", "v_GGSY1Qvo990.mp4")
LEAST_COSINE = 0.9999  # least of a row; rounding alone leaves 0.999999

Extract = Callable[..., Features]


@pytest.fixture
def extract(checkpoints: dict[str, str]) -> Extract:
    def run(path: Path, streams: tuple[str, ...] = ("rgb", "flow"), **settings: Any) -> Features:
        needed: dict[str, Any] = {
            option: place for option, place in checkpoints.items() if "flow" in streams or "rgb" in option
        }
        return Extractor(Config(streams=streams, **needed, **settings), "cpu").extract(str(path))

    return run


def reference_of(shared: Path, name: str) -> dict[str, npt.NDArray[np.float32]]:
    with np.load(shared / "reference" / name) as values:
        return {stream: values[stream] for stream in ("rgb", "flow")}


def first_seconds(path: Path, seconds: float, into: Path) -> Path:
    """The packets of a video's pictures up to a time, as they are."""
    with av.open(str(path)) as source, av.open(str(into), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.pts is not None and packet.time_base is not None and packet.pts * packet.time_base < seconds:
                packet.stream = copy
                target.mux(packet)
    return into


def test_features_of_a_whole_video_are_the_reference_tail_included(extract: Extract, shared: Path) -> None:
    features = extract(shared / CLIP)
    expected = reference_of(shared, "features_64_64.npz")
    for stream in ("rgb", "flow"):
        assert features.arrays[stream].shape == (6, 1024)
        assert cosines(features.arrays[stream], expected[stream]).min() > LEAST_COSINE
    assert features.seconds == pytest.approx(355 / 19.62)
    assert features.spans[1] == pytest.approx((64 / 19.62, 128 / 19.62))
    assert features.spans[5] == pytest.approx((320 / 19.62, 355 / 19.62))


def test_rgb_features_at_another_rate_are_the_reference_and_one_more(extract: Extract, shared: Path) -> None:
    features = extract(shared / CLIP, ("rgb",), stack_size=24, step_size=24, extraction_fps=25.0)
    expected = reference_of(shared, "features_24_24_25fps.npz")["rgb"]
    assert features.arrays["rgb"].shape == (19, 1024)
    assert cosines(features.arrays["rgb"][:18], expected).min() > LEAST_COSINE
    assert features.spans[18] == pytest.approx((432 / 25, 452 / 25))


def test_flow_features_at_another_rate_are_the_reference(extract: Extract, shared: Path, tmp_path: Path) -> None:
    path = first_seconds(shared / CLIP, 6.0, tmp_path / "first seconds.mp4")
    features = extract(path, stack_size=24, step_size=24, extraction_fps=25.0, tail="drop")
    expected = reference_of(shared, "features_24_24_25fps.npz")
    for stream in ("rgb", "flow"):
        num_rows = len(features.arrays[stream])
        assert num_rows >= 5
        assert cosines(features.arrays[stream], expected[stream][:num_rows]).min() > LEAST_COSINE


def test_overlapping_stacks_have_the_features_of_stacks_alone(extract: Extract, shared: Path, tmp_path: Path) -> None:
    path = first_seconds(shared / CLIP, 1.3, tmp_path / "clip.mp4")
    overlapping = extract(path, stack_size=12, step_size=4, tail="drop").arrays
    alone = extract(path, stack_size=12, step_size=12, tail="drop").arrays
    for stream in ("rgb", "flow"):
        assert len(overlapping[stream]) > len(alone[stream]) >= 2
        assert cosines(overlapping[stream][::3][: len(alone[stream])], alone[stream]).min() > 0.999999
