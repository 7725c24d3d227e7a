"""From a real video to features, against what the reference implementation made of it without lossy frames."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from models.i3d import Config
from models.i3d.extract import Extractor
from tests.helpers.oracles import cosines
from utils.media.options import DecodeOptions
from utils.results import Features

CLIP = Path("videos", "v_GGSY1Qvo990.mp4")
LEAST_COSINE = 0.9999  # least of a row; rounding alone leaves 0.999999


def first_seconds(path: Path, seconds: float, into: Path) -> Path:
    """Copy the packets of the video stream up to a time."""
    with av.open(str(path)) as source, av.open(str(into), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.pts is not None and packet.time_base is not None and packet.pts * packet.time_base < seconds:
                packet.stream = copy
                target.mux(packet)
    return into


def extract(path: Path, checkpoints: dict[str, str], **settings: Any) -> Features:
    config = Config(**checkpoints, **settings)  # type: ignore[arg-type]
    return Extractor(config, "cpu").extract(str(path), DecodeOptions())


def test_rgb_features_of_the_first_stack_and_of_the_tail_are_the_reference(
    checkpoints: dict[str, str], shared: Path
) -> None:
    """The reference has rows from frames 0, 64, ..., 320; test_flow.py shows which flows a tail has."""
    features = extract(shared / CLIP, checkpoints, streams=("rgb",), stack_size=64, step_size=320)
    with np.load(shared / "reference" / "features_64_64.npz") as reference:
        expected = reference["rgb"][[0, 5]]
    assert cosines(features.arrays["rgb"], expected).min() > LEAST_COSINE
    assert features.seconds == pytest.approx(355 / 19.62)
    np.testing.assert_allclose(features.spans, [(0, 64 / 19.62), (320 / 19.62, 355 / 19.62)])


def test_flow_features_at_another_rate_are_the_reference(
    checkpoints: dict[str, str], shared: Path, tmp_path: Path
) -> None:
    path = first_seconds(shared / CLIP, 1.3, tmp_path / "first seconds.mp4")
    settings = {"stack_size": 24, "step_size": 24, "extraction_fps": 25.0, "tail": "drop"}
    features = extract(path, checkpoints, streams=("flow",), **settings)
    with np.load(shared / "reference" / "features_24_24_25fps.npz") as reference:
        assert cosines(features.arrays["flow"], reference["flow"][:1]).min() > LEAST_COSINE
