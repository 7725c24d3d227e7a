"""Crops and centred stacks: what I3D is given, by a naive loop over whole lists of frames and flows."""

import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.flow import FLOWS, Encoded, FlowKind
from models.i3d import Config
from models.i3d.extract import Extractor
from tests.helpers.clips import write_clip
from tests.helpers.seeded import synthetic_clip
from utils.media.options import DecodeOptions
from utils.media.video import Video
from utils.results import Features

SIZE, MIN_SIDE = 9, 230  # of a stack and of frames


class Difference:
    """The flow of two frames is the difference of their first two channels, in pixels. It counts what it is given."""

    fills_batches = False

    def __init__(self) -> None:
        self.num_encoded = self.num_pairs = 0

    def encode(self, frames: Tensor) -> Encoded:
        self.num_encoded += len(frames)
        return {"levels": frames[:, :2].float()}

    def flow(self, first: Encoded, second: Encoded, height: int, width: int) -> Tensor:
        self.num_pairs += len(first["levels"])
        return second["levels"] - first["levels"]

    def pairs_that_fit(self, num_bytes: int, height: int, width: int) -> int:
        return 4


@pytest.fixture(autouse=True)
def _cheap_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "difference", SimpleNamespace(load=lambda *_: Difference()))
    monkeypatch.setitem(FLOWS, "difference", FlowKind("difference"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames = [frame.transpose(1, 2, 0)[:240, :300] for frame in synthetic_clip()[:14]]
    return write_clip(tmp_path_factory.mktemp("views") / "a clip.mp4", frames)


def make(checkpoints: dict[str, str], **options: Any) -> Extractor:
    paths: dict[str, Any] = {name: path for name, path in checkpoints.items() if name != "pwc_path"}
    return Extractor(Config(**paths, flow="difference", stack_size=SIZE, min_side_size=MIN_SIDE, **options), "cpu")


def extract(extractor: Extractor, clip: Path) -> Features:
    return extractor.extract(str(clip), DecodeOptions())


@torch.inference_mode()
def seen(extractor: Extractor, clip: Path) -> tuple[Tensor, Tensor]:
    """Return all frames in [-1, 1] and all flows in pixels, (T, 3, H, W) and (T - 1, 2, H, W)."""
    with Video(str(clip), MIN_SIDE) as video:
        frames = torch.stack([torch.from_numpy(frame).permute(2, 0, 1) for frame in video])
    encoded = [extractor.flow_method.encode(frame[None]) for frame in frames]
    flows = [extractor.flow_method.flow(one, two, *frames.shape[2:]) for one, two in pairwise(encoded)]
    return 2 * frames.float() / 255 - 1, torch.cat(flows)


def quantize(flow: Tensor) -> Tensor:
    return 2 * torch.round(128 + 6.375 * flow.clamp(-20, 20)) / 255 - 1


@torch.inference_mode()
def embed(extractor: Extractor, stream: str, images: Tensor) -> np.ndarray[Any, Any]:
    """Return the features of (T, C, H, W), of which the part in the middle is seen."""
    top, left = (images.shape[2] - 224) // 2, (images.shape[3] - 224) // 2
    cropped = images[:, :, top : top + 224, left : left + 224]
    return extractor.i3d[stream](cropped.transpose(0, 1)[None])[0].numpy()  # type: ignore[no-any-return]


def alike(ours: Any, expected: Any) -> bool:
    difference = np.linalg.norm(ours - expected) / np.linalg.norm(expected)
    return float(difference) < 1e-4


def test_each_crop_is_seen_as_it_is_and_a_mirrored_flow_goes_the_other_way(
    checkpoints: dict[str, str], clip: Path
) -> None:
    extractor = make(checkpoints, crops=("br", "mtl", "c"), step_size=SIZE, tail="drop")
    features = extract(extractor, clip)
    frames, flows = seen(extractor, clip)
    frames, flows = frames[:SIZE], flows[:SIZE]
    turned = torch.tensor([-1.0, 1.0])[:, None, None]
    views = {"br": (frames, flows), "mtl": (frames.flip(-1), flows.flip(-1) * turned), "c": (frames, flows)}
    places = {"br": (slice(-224, None), slice(-224, None)), "mtl": (slice(224), slice(224)), "c": (slice(None),) * 2}
    for stream, which in (("rgb", 0), ("flow", 1)):
        assert features.arrays[stream].shape == (1, 3, 1024)
        for number, (name, place) in enumerate(places.items()):
            images = views[name][which]
            images = (quantize(images) if which else images)[:, :, *place]
            assert alike(features.arrays[stream][0, number], embed(extractor, stream, images)), f"{stream} {name}"
    single = extract(make(checkpoints, step_size=SIZE, tail="drop"), clip)
    assert single.arrays["rgb"].shape == (1, 1024)
    np.testing.assert_allclose(features.arrays["rgb"][:, 2], single.arrays["rgb"], rtol=1e-4, atol=1e-5)
    told = extractor.predict(features.arrays).logits
    for stream in ("rgb", "flow"):
        rows = torch.from_numpy(features.arrays[stream].mean(axis=1))
        np.testing.assert_allclose(told[stream], extractor.i3d[stream].classify(rows).detach(), rtol=1e-4, atol=1e-4)


def test_flow_is_computed_once_a_frame_and_not_once_a_crop(checkpoints: dict[str, str], clip: Path) -> None:
    only = {"i3d_flow_path": checkpoints["i3d_flow_path"]}
    extractor = make(only, streams=("flow",), crops=("tl", "mtl"), step_size=4, align="center")
    extract(extractor, clip)
    assert (extractor.flow_method.num_pairs, extractor.flow_method.num_encoded) == (13, 14)  # type: ignore[attr-defined]


@pytest.mark.parametrize("edge", ["repeat", "zero"])
def test_centred_stacks_repeat_the_end_frames_without_motion_or_see_zeros(
    checkpoints: dict[str, str], clip: Path, edge: str
) -> None:
    step = 6
    extractor = make(checkpoints, step_size=step, align="center", edge=None if edge == "repeat" else edge)
    features = extract(extractor, clip)
    frames, flows = seen(extractor, clip)
    num_frames = len(frames)
    assert num_frames == 14
    rate = num_frames / features.seconds
    for row in range(3):
        wanted = range(row * step - SIZE // 2, row * step - SIZE // 2 + SIZE)
        rgb = torch.stack([frames[min(max(i, 0), num_frames - 1)] for i in wanted])
        flow = torch.stack([flows[i] if 0 <= i < num_frames - 1 else torch.zeros_like(flows[0]) for i in wanted])
        flow = quantize(flow)
        if edge == "zero":
            rgb[[not 0 <= i < num_frames for i in wanted]] = 0
            flow[[not 0 <= i < num_frames - 1 for i in wanted]] = 0
        assert alike(features.arrays["rgb"][row], embed(extractor, "rgb", rgb)), row
        assert alike(features.arrays["flow"][row], embed(extractor, "flow", flow)), row
        span = max(wanted[0], 0) / rate, min(wanted[-1] + 1, num_frames) / rate
        assert features.spans[row] == pytest.approx(span)
    assert len(features.arrays["rgb"]) == len(features.spans) == 3, "frames 0, 6 and 12"
    found = extractor.config.spans(3, features.seconds, features.fps)
    np.testing.assert_allclose(np.array(found), features.spans)


def test_a_feature_for_each_frame_of_a_video_shorter_than_a_stack(checkpoints: dict[str, str], tmp_path: Path) -> None:
    frames = [frame.transpose(1, 2, 0)[:240, :300] for frame in synthetic_clip()[:2]]
    clip = write_clip(tmp_path / "short.mp4", frames)
    only = {"i3d_rgb_path": checkpoints["i3d_rgb_path"]}
    features = extract(make(only, streams=("rgb",), step_size=1, align="center"), clip)
    assert features.arrays["rgb"].shape == (2, 1024)
    assert {begin for begin, _ in features.spans} == {0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"edge": "zero"}, "--edge zero: only with --align center"),
        ({"align": "center", "tail": "drop"}, "--tail drop: with --align center there is no tail"),
        ({"crops": ("five", "tl")}, "--crops five tl: a crop comes twice"),
        ({"crops": ("five",), "min_side_size": 200}, "--min_side_size 200: the network sees a crop of 224 pixels"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**options)


def test_settings_keep_views_apart_and_take_folders_of_before_them_as_the_default() -> None:
    assert Config(crops=("c",)).settings == Config().settings
    assert Config(crops=("five",)).settings["crops"] == "tl tr bl br c"
    assert Config(align="center").settings["edge"] == "repeat"
    assert "edge" not in Config().settings
    assert Config(align="center", crops=("ten",)).default_settings == Config().settings
