"""With the published weights, for those who have them in their default places."""

from pathlib import Path

import numpy as np
import pytest

from models.i3d import Config
from models.i3d.extract import Extractor
from tests.helpers.oracles import cosines
from utils.media.options import DecodeOptions

FILES = [file for file, _ in Config().weights_wanted().values()]

pytestmark = [
    pytest.mark.pretrained,
    pytest.mark.skipif(not all(file.path.exists() for file in FILES), reason="needs the published weights"),
]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("64_64", {}),
        ("24_24_25fps", {"stack_size": 24, "step_size": 24, "extraction_fps": 25.0}),
        ("24_12_15fps", {"stack_size": 24, "step_size": 12, "extraction_fps": 15.0}),
    ],
)
def test_i3d_features_are_near_those_that_were_published(shared: Path, name: str, settings: dict[str, float]) -> None:
    """Near, not equal: the published ones saw frames scaled by other means."""
    paths = {option: str(file.path) for option, (file, _) in Config().weights_wanted().items()}
    config = Config(tail="drop", **paths, **settings)  # type: ignore[arg-type]
    features = Extractor(config, "cpu").extract(str(shared / "videos" / "v_GGSY1Qvo990.mp4"), DecodeOptions())
    with np.load(shared / "reference" / "pretrained.npz") as published:
        for stream, rows in features.arrays.items():
            expected = published[f"{name}_{stream}"]
            num_rows = min(len(rows), len(expected))
            assert abs(len(rows) - len(expected)) <= 1
            assert cosines(rows[:num_rows], expected[:num_rows]).mean() > 0.97
