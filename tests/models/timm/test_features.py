"""Frames -> features of timm's models, against the bare models and timm's own preprocessing."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from torch import Tensor

from models.timm import Config
from models.timm.extract import SUFFIX, Extractor
from models.timm.net import Embedder, check, load_model
from models.timm.preprocessing import Preprocessing
from tests.helpers.clips import Frame, write_clip
from tests.helpers.oracles import cosines, relative_difference
from utils.errors import OverflowingError
from utils.media.options import DecodeOptions
from utils.media.video import Video


def picture(seed: int, width: int = 320, height: int = 200) -> Frame:
    """A frame with large shapes, edges and some noise, as videos have them."""
    draw = np.random.default_rng(seed)
    coarse = Image.fromarray(draw.integers(0, 256, (height // 20, width // 20, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    smooth[:, width // 3 : width // 2] = draw.integers(0, 256, 3)
    return (smooth + draw.integers(-12, 13, smooth.shape)).clip(0, 255).astype(np.uint8)


def on_device(frame: Frame) -> Tensor:
    """A frame as extractors get it."""
    return torch.from_numpy(frame).permute(2, 0, 1)


def write_pictures(path: Path, frames: list[Frame], rate: int = 1) -> Path:
    return write_clip(path, frames, rate=rate, codec="ffv1", pixel_format="bgr0")


def timms_images(model: torch.nn.Module, frames: list[Frame]) -> Tensor:
    transform = create_transform(**resolve_model_data_config(model))
    return torch.stack([transform(Image.fromarray(frame)) for frame in frames])


# Of each family: a small model, its features, and if these are what it gives whole, as of CLIP's towers, or without the
# classifier; and a smaller size, to save time.
@pytest.mark.parametrize(
    ("name", "num_features", "is_whole", "size"),
    [
        ("test_resnet", 96, False, None),
        ("test_convnext", 64, False, None),
        ("test_vit", 64, False, None),
        ("vit_small_patch14_dinov2", 384, False, 70),
        ("vit_small_patch16_dinov3", 384, False, 64),
        ("vit_base_patch16_siglip_224", 768, False, 64),
        ("vit_xsmall_patch16_clip_224.tinyclip_yfcc15m", 512, True, 64),
    ],
)
def test_features_are_those_of_the_bare_model(name: str, num_features: int, is_whole: bool, size: int | None) -> None:
    torch.manual_seed(1)
    model = timm.create_model(name, img_size=size).eval()
    bare = deepcopy(model)
    if not is_whole:
        bare.reset_classifier(0)
    images = torch.randn(2, 3, size or 160, size or 160)
    rows = Embedder(Config(model_name=name), model)(images)
    assert rows.shape == (2, num_features)
    assert relative_difference(rows, bare(images)) < 1e-5


@pytest.mark.parametrize(
    ("name", "num_features"),
    [
        ("vit_base_patch16_clip_224.openai", 512),
        ("vit_base_patch16_clip_224.openai_ft_in1k", 768),  # whose projection is gone
        ("eva02_base_patch16_clip_224.merged2b", 512),
        ("resnet50_clip.openai", 1024),
        ("resnet50_clip_gap.openai", 2048),
        ("convnext_base.clip_laion2b", 640),
        ("vitamin_small_224.datacomp1b_clip", 384),
        ("vit_pe_core_tiny_patch16_384.fb", 512),
        ("fastvit_mci0.apple_mclip", 512),
        ("mvitv2_base_cls.fb_inw21k", 768),  # of more classes than ImageNet's
    ],
)
def test_towers_of_clip_have_their_projection(name: str, num_features: int) -> None:
    with torch.device("meta"):
        model = timm.create_model(name).eval()
        images = torch.empty(1, *model.pretrained_cfg["input_size"])
    assert Embedder(Config(model_name=name), model)(images).shape == (1, num_features)


def test_towers_of_clip_are_without_projection_where_they_are_tuned_to_classes_or_pooled_otherwise() -> None:
    name = "vit_base_patch16_clip_224.openai"
    with torch.device("meta"):
        images = torch.empty(1, 3, 224, 224)
        tuned, pooled = timm.create_model(name, num_classes=7), timm.create_model(name)
    for config, model in ((Config(model_name=name), tuned), (Config(model_name=name, pooling="token"), pooled)):
        assert Embedder(config, model)(images).shape == (1, 768)


def test_the_features_of_a_video_are_those_of_the_bare_model_on_timms_own_images(tmp_path: Path) -> None:
    frames = [picture(seed) for seed in range(3)]
    path = write_pictures(tmp_path / "a.mkv", frames)
    for name, num_features in (("test_resnet", 96), ("test_convnext", 64), ("test_vit", 64)):
        extractor = Extractor(Config(model_name=name, weights="random", batch_size=2), "cpu")
        features = extractor.extract(str(path), DecodeOptions())
        rows = features.arrays[SUFFIX]
        assert rows.shape == (3, num_features)
        assert rows.dtype == np.float32
        assert features.spans == [(0, 1), (1, 2), (2, 3)]
        bare = load_model(extractor.config)
        bare.reset_classifier(0)
        similarity = cosines(rows, bare(timms_images(bare, frames)).numpy())
        assert similarity.min() > 0.9999
        assert (1 - similarity).max() < 0.1 * (1 - cosines(rows[:2], rows[1:])).min(), "other frames are less alike"


@pytest.mark.parametrize(
    "name",
    [
        "resnet18.tv_in1k",  # bilinear, the centre of 0.875
        "convnext_tiny.dinov3_lvd1689m",  # bicubic, the centre of 1.0
        "vit_base_patch16_siglip_256",  # bicubic, squashed
        "test_resnet",
    ],
)
@pytest.mark.parametrize("size", [(320, 200), (97, 131), (640, 480)])
def test_images_are_those_of_timms_transform_but_for_rounding(name: str, size: tuple[int, int]) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
    frames = [picture(seed, *size) for seed in range(2)]
    ours = Preprocessing(model, torch.device("cpu"))([on_device(frame) for frame in frames])
    levels = levels_apart(model, ours, timms_images(model, frames))
    assert levels.max() <= 2
    assert (levels > 0).float().mean() < 0.01


def levels_apart(model: Any, first: Tensor, second: Tensor) -> Tensor:
    """By how many of 255 levels images differ."""
    assert first.shape == second.shape
    std: Tensor = torch.tensor(model.pretrained_cfg["std"]).view(3, 1, 1)
    return ((first - second) * std * 255).round().abs()


def test_images_with_a_border_and_of_sizes_that_are_not_square_are_timms(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [picture(seed, 150, 90) for seed in range(2)]
    model = timm.create_model("test_resnet")
    for settings in (
        {"crop_mode": "border", "crop_pct": 1.0},
        {"input_size": (3, 96, 64), "crop_pct": 0.9},
        {"input_size": (3, 96, 64), "crop_mode": "squash"},
    ):
        monkeypatch.setattr(model, "pretrained_cfg", model.pretrained_cfg | settings)
        ours = Preprocessing(model, torch.device("cpu"))([on_device(frame) for frame in frames])
        assert levels_apart(model, ours, timms_images(model, frames)).max() <= 1


def test_frames_that_are_scaled_together_are_those_scaled_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a GPU scales them."""
    preprocess = Preprocessing(timm.create_model("test_resnet"), torch.device("cpu"))
    frames = [on_device(picture(seed)) for seed in range(5)]
    scale = preprocess._scale
    assert torch.equal(torch.cat([scale(frames[:3]), scale(frames[3:])]), torch.cat([scale([f]) for f in frames]))


@pytest.mark.parametrize(
    ("name", "pooling", "expected"),
    [
        ("test_vit", "avg", lambda model, maps: maps[:, 1:].mean(dim=1)),
        ("test_vit", "token", lambda model, maps: maps[:, 0]),
        ("test_resnet", "avg", lambda model, maps: maps.mean(dim=(2, 3))),
        ("test_convnext", "avg", lambda model, maps: model.head.norm(maps.mean(dim=(2, 3), keepdim=True)).flatten(1)),
        ("test_mambaout", "avg", lambda model, maps: model.head(maps, pre_logits=True)),  # its own way
    ],
)
def test_pooling_takes_the_mean_or_the_class_token(
    name: str, pooling: str, expected: Callable[[torch.nn.Module, Tensor], Tensor]
) -> None:
    config = Config(model_name=name, weights="random", pooling=pooling)
    network = Embedder(config, load_model(config))
    images = torch.randn(2, *network.model.pretrained_cfg["input_size"], generator=torch.Generator().manual_seed(1))
    rows = network(images)
    whole = expected(network.model, network.model.forward_features(images))
    assert relative_difference(rows.numpy(), whole.numpy()) < 1e-5


def test_the_classifiers_logits_are_what_the_bare_model_gives() -> None:
    config = Config(model_name="test_vit", weights="random", keep_classifier=True)
    network = Embedder(config, load_model(config))
    images = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(1))
    assert torch.equal(network(images), network.model(images))
    assert network(images).shape == (2, 1000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_name": "resnet5O"}, "has no such model; did you mean resnet50"),
        ({"model_name": "resnet50.tv_in2k"}, "did you mean resnet50.tv2?_in1k"),
        ({"model_name": "hf-hub:timm/resnet50"}, "has no such model"),
        ({"model_name": "test_resnet", "pooling": "token"}, "--pooling token: test_resnet has no class token"),
        ({"model_name": "test_vit2", "pooling": "token"}, "--pooling token: test_vit2 has no class token"),
        ({"model_name": "vit_small_patch14_dinov2", "keep_classifier": True}, "dinov2 has no classifier"),
        ({"model_name": "vit_base_patch16_clip_224.openai", "keep_classifier": True}, "openai has no classifier"),
        (
            {"model_name": "mobilenetv5_300m_enc", "weights": "random"},
            "mobilenetv5_300m_enc: gives no features of images",
        ),
    ],
)
def test_what_a_model_cannot_give_is_refused_before_the_run(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(Config(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize(("fps", "rate"), [(1.0, 1), (0.0, 5), (None, 5), (2.5, 2.5)])
def test_rows_are_of_the_frames_at_the_rate_that_is_asked_for(fps: float | None, rate: float, tmp_path: Path) -> None:
    frames = [picture(i, 160, 160) for i in range(15)]
    path = str(write_pictures(tmp_path / "a.mkv", frames, rate=5))
    with Video(path, None, rate) as video:
        expected = frames if rate == 5 else list(video)
    extractor = Extractor(Config(model_name="test_vit", weights="random", extraction_fps=fps, batch_size=4), "cpu")
    features = extractor.extract(path, DecodeOptions())
    images = extractor.preprocess([on_device(frame) for frame in expected])
    assert relative_difference(features.arrays[SUFFIX], extractor.network(images)) < 1e-5
    np.testing.assert_allclose(features.spans, [(i / rate, (i + 1) / rate) for i in range(len(expected))])
    assert features.spans == extractor.config.spans(len(expected), features.seconds, features.fps)


def test_bfloat16_stays_close_and_numbers_that_are_none_are_no_features(tmp_path: Path) -> None:
    path = str(write_pictures(tmp_path / "a.mkv", [picture(0)]))
    exact, rough = (
        Extractor(Config(model_name="test_vit", weights="random", precision=precision), "cpu")
        for precision in ("fp32", "bf16")
    )
    rows = [extractor.extract(path, DecodeOptions()).arrays[SUFFIX] for extractor in (exact, rough)]
    assert 1e-7 < 1 - cosines(*rows).min() < 1e-3
    exact.network.model.norm.bias.fill_(torch.inf)
    with pytest.raises(OverflowingError, match="test_vit needs more than"):
        exact.extract(path, DecodeOptions())
