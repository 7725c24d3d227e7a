"""The flows behind their one interface: through the extractor, in the settings, and one more of them."""

import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.optical_flow import raft_large

from models.flow import FLOWS, TVL1_PARAMETERS, FlowKind
from models.i3d import Config
from models.i3d.extract import Extractor, load_i3d
from models.i3d.transforms import quantize_flow
from tests.helpers.clips import write_clip
from tests.helpers.oracles import cosines, oracle
from tests.helpers.seeded import synthetic_clip
from tests.models.i3d.test_pipeline import CLIP, LEAST_COSINE, first_seconds
from utils.crops import center_crop
from utils.errors import SettingsError
from utils.media.options import DecodeOptions
from utils.media.video import Video
from utils.outputs.settings import Settings, record

FAST = {"nscales": 2, "warps": 1, "innnerIterations": 5}  # of TV-L1, as OpenCV spells them


class Drift:
    """To the right and up, everywhere and always."""

    fills_batches = False

    def encode(self, frames: Tensor) -> dict[str, Tensor]:
        return {"zeros": torch.zeros_like(frames[:, :2], dtype=torch.float32)}

    def flow(self, first: dict[str, Tensor], second: dict[str, Tensor], height: int, width: int) -> Tensor:
        return first["zeros"] + torch.tensor([4.0, -8.0])[:, None, None]

    def pairs_that_fit(self, num_bytes: int, height: int, width: int) -> int:
        return 0


def test_another_flow_is_one_file_and_a_line(
    checkpoints: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "drift", SimpleNamespace(load=lambda *_: Drift()))
    monkeypatch.setitem(FLOWS, "drift", FlowKind("drift"))
    only_flow: dict[str, Any] = {"streams": ("flow",), "i3d_flow_path": checkpoints["i3d_flow_path"]}
    config = Config(flow="drift", stack_size=9, step_size=9, min_side_size=224, **only_flow)
    clip = write_clip(tmp_path / "a.mp4", [frame.transpose(1, 2, 0)[:224, :300] for frame in synthetic_clip()[:10]])
    features = Extractor(config, "cpu").extract(str(clip), DecodeOptions()).arrays["flow"]
    levels = torch.tensor([round(128 + 4 * 6.375), round(128 - 8 * 6.375)])  # 255 of them for 40 pixels
    images = (2 * levels / 255 - 1)[None, :, None, None, None].expand(1, 2, 9, 224, 224)
    expected = load_i3d(config, "flow", torch.float32, for_gpu=False)(images)
    np.testing.assert_allclose(features, expected.numpy(), rtol=0, atol=1e-4)
    assert config.settings["flow"] == "drift"


def raft_flows(frames: Tensor, state: dict[str, Tensor]) -> Tensor:
    """By torchvision, of frames whose width alone is no multiple of 8."""
    network = raft_large(weights=None).eval()
    network.load_state_dict(state)
    width = frames.shape[3]
    left = -width % 8 // 2
    padded = F.pad(2 * (frames.float() / 255) - 1, (left, -width % 8 - left, 0, 0), "replicate")
    flows = [network(one[None], two[None], num_flow_updates=1)[-1] for one, two in pairwise(padded)]
    return torch.cat(flows)[..., left : left + width]


def tvl1_flows(frames: Tensor) -> Tensor:
    """By OpenCV, in one thread."""
    cv2 = oracle("cv2")
    greys = [cv2.cvtColor(frame.permute(1, 2, 0).numpy().copy(), cv2.COLOR_RGB2GRAY) for frame in frames]
    method = cv2.optflow.DualTVL1OpticalFlow_create(**FAST)
    flows = [method.calc(one, two, None) for one, two in pairwise(greys)]
    return torch.from_numpy(np.stack(flows)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("flow", ["raft", "tvl1"])
def test_features_of_both_streams_of_a_real_clip_are_those_of_flow_by_the_library(
    flow: str, checkpoints: dict[str, str], shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With fewer updates and iterations, which take most of the time; `test_pipeline.py` has PWC-Net's."""
    monkeypatch.setattr("models.flow.raft.NUM_UPDATES", 1)
    for name, value in FAST.items():
        monkeypatch.setitem(TVL1_PARAMETERS, name.replace("nnn", "nn"), value)
    oracle("cv2")
    path = str(first_seconds(shared / CLIP, 1.3, tmp_path / "first seconds.mp4"))
    paths: dict[str, Any] = {option: path for option, path in checkpoints.items() if option != "pwc_path"}
    torch.manual_seed(0)
    state = raft_large(weights=None).state_dict()
    if flow == "raft":
        torch.save(state, tmp_path / "raft.pth")
        paths["raft_path"] = str(tmp_path / "raft.pth")
    settings: dict[str, Any] = {"stack_size": 24, "step_size": 24, "extraction_fps": 25.0, "tail": "drop"}
    config = Config(flow=flow, **settings, **paths)
    features = Extractor(config, "cpu").extract(path, DecodeOptions()).arrays
    with Video(path, config.min_side_size, config.extraction_fps) as video:
        frames = torch.stack([torch.from_numpy(frame).permute(2, 0, 1) for frame in video][:25])
    flows = raft_flows(frames, state) if flow == "raft" else tvl1_flows(frames)
    images = quantize_flow(center_crop(flows, 224)).transpose(0, 1)[None]
    expected = load_i3d(config, "flow", torch.float32, for_gpu=False)(images).numpy()
    assert cosines(features["flow"], expected).min() > LEAST_COSINE
    with np.load(shared / "reference" / "features_24_24_25fps.npz") as reference:
        assert cosines(features["rgb"], reference["rgb"][:1]).min() > LEAST_COSINE
        assert cosines(features["flow"], reference["flow"][:1]).min() < LEAST_COSINE, "PWC-Net's"


PWC: Settings = Config().settings | {"pwc_path": "abc"}  # as before there was --flow


def keep(folder: Path, settings: Settings) -> Settings:
    return record(folder, "i3d", settings, defaults=Config().settings).settings


@pytest.mark.parametrize("flow", ["raft", "tvl1"])
def test_flows_are_kept_apart_and_rgb_goes_with_any(flow: str, tmp_path: Path) -> None:
    other, rgb = Config(flow=flow).settings, Config(streams=("rgb",)).settings
    for name in ("pwc", "other"):
        (tmp_path / name).mkdir()
        keep(tmp_path / name, rgb)
    keep(tmp_path / "pwc", PWC)
    with pytest.raises(SettingsError, match=f"pwc_path was abc and is none, with --flow {flow}"):
        keep(tmp_path / "pwc", other)
    recorded = keep(tmp_path / "other", other)
    assert recorded["flow"] == flow
    assert recorded.get("tvl1") == (TVL1_PARAMETERS if flow == "tvl1" else None)
    assert keep(tmp_path / "other", rgb) == recorded
    with pytest.raises(SettingsError, match=f"pwc_path was none, with --flow {flow} and is abc"):
        keep(tmp_path / "other", PWC)
    with pytest.raises(SettingsError, match=f"flow was {flow} and is "):
        keep(tmp_path / "other", Config(flow="tvl1" if flow == "raft" else "raft").settings)
