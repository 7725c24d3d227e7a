"""TV-L1 beside OpenCV called directly, and without OpenCV."""

import sys
import types
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

import main
from models.flow import TVL1_PARAMETERS, load_flow
from tests.helpers.oracles import Array, oracle
from tests.helpers.seeded import synthetic_clip

cv2 = oracle("cv2")


def flows_of(frames: Array) -> Array:
    """The flows (B, 2, H, W) of frames (B + 1, 3, H, W)."""
    method = load_flow("tvl1", None, torch.device("cpu"), torch.float32)
    encoded = method.encode(torch.from_numpy(frames))
    first, second = ({"grey": encoded["grey"][part]} for part in (slice(len(frames) - 1), slice(1, None)))
    flows: Array = method.flow(first, second, *frames.shape[2:]).numpy()
    return flows


def test_flows_of_many_pairs_are_those_of_opencv_called_on_each() -> None:
    frames = synthetic_clip()[:9, :, :64, :100]
    greys = [cv2.cvtColor(np.ascontiguousarray(frame.transpose(1, 2, 0)), cv2.COLOR_RGB2GRAY) for frame in frames]
    method = cv2.optflow.DualTVL1OpticalFlow_create()
    expected = [method.calc(first, second, None) for first, second in pairwise(greys)]
    flows = flows_of(frames)
    assert flows.dtype == np.float32
    assert (flows == np.stack(expected).transpose(0, 3, 1, 2)).all()
    assert np.abs(flows).mean() > 0.5


def test_a_translation_is_found_to_a_fifth_of_a_pixel() -> None:
    """What is at (x, y) in the first frame is at (x + 3, y - 2) in the second."""
    image = synthetic_clip()[0]
    frames = np.stack([image[:, 10:138, 10:170], image[:, 12:140, 7:167]])
    assert (frames[0][:, 2:, :-3] == frames[1][:, :-2, 3:]).all()
    assert flows_of(frames)[0].mean(axis=(1, 2)) == pytest.approx([3, -2], abs=0.2)


def test_the_recorded_parameters_are_the_defaults_of_opencv() -> None:
    method = cv2.optflow.DualTVL1OpticalFlow_create()
    getters = {"nscales": "ScalesNumber", "warps": "WarpingsNumber"}
    found = {name: getattr(method, f"get{getters.get(name, name[0].upper() + name[1:])}")() for name in TVL1_PARAMETERS}
    assert found == TVL1_PARAMETERS


@pytest.mark.parametrize("there", [None, types.ModuleType("cv2")], ids=["no OpenCV", "OpenCV without more modules"])
@pytest.mark.parametrize("more", [[], ["--dry_run"]])
def test_without_the_package_a_run_ends_with_how_to_install_it(
    there: Any, more: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", there)
    options = ["--feature_type", "i3d", "--flow", "tvl1", "--video_paths", "a.mp4", "--device_ids", "cpu"]
    with pytest.raises(SystemExit) as ended:
        main.main([*options, "--weights", "random", *more])
    assert ended.value.code == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    with pytest.raises(ValueError, match="pip install opencv"):  # as on a machine of a cluster
        load_flow("tvl1", None, torch.device("cpu"), torch.float32)
    assert "pip install opencv-contrib-python-headless" in said[0]
