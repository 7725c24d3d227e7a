"""torchvision's video models with untrained weights, beside the bare models on what the weights' transforms give."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as T
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights

import main
from models.kinetics import class_names
from models.torchvision import MODELS, Config, hub_folder
from models.torchvision.extract import Extractor, Preprocessing, load_network
from tests.helpers.clips import Frame, write_clip
from tests.helpers.oracles import cosines
from tests.helpers.program import run_program
from utils.crops import TEN
from utils.errors import MediaError, WeightsError
from utils.media.options import DecodeOptions
from utils.results import Features
from utils.weights.checkpoint import randomize_weights
from utils.weights.published import WeightsFile

CPU = torch.device("cpu")
LAST = {"r3d_18": "fc", "mc3_18": "fc", "r2plus1d_18": "fc", "s3d": "classifier"}  # the last layer; of others the head
STACK = {"s3d": 14, "mvit_v1_b": 16, "mvit_v2_s": 16}  # the least that it takes; here of others 2
NUM_FRAMES, HEIGHT, WIDTH = 10, 65, 91


def bare_model(name: str) -> Any:
    torch.manual_seed(1)
    model = get_model(name, weights=None).eval()
    randomize_weights(model, seed=1)
    return model


def without_last_layer(model: Any, name: str) -> Callable[[Tensor], Tensor]:
    setattr(model, LAST.get(name, "head"), nn.Identity())
    return model  # type: ignore[no-any-return]


def transforms(name: str) -> Any:
    return get_model_weights(name).DEFAULT.transforms()


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    coarse = np.random.default_rng(0).integers(0, 256, (NUM_FRAMES, HEIGHT // 5, WIDTH // 7, 3), np.uint8)
    return list(coarse.repeat(5, axis=1).repeat(7, axis=2))


@pytest.fixture(scope="module")
def clip(frames: list[Frame], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The frames, without loss."""
    path = tmp_path_factory.mktemp("clip") / "a clip.mkv"
    return write_clip(path, frames, codec="ffv1", pixel_format="bgr0")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("checkpoint") / "mc3_18.pth"
    torch.save(bare_model("mc3_18").state_dict(), path)
    return str(path)


def stack_of(frames: list[Frame], indices: list[int]) -> Tensor:
    """(T, 3, H, W)."""
    return torch.from_numpy(np.stack([frames[i] for i in indices])).permute(0, 3, 1, 2)


def extract(path: Path, **settings: Any) -> Features:
    return Extractor(Config(**settings), "cpu").extract(str(path), DecodeOptions())


@pytest.mark.parametrize("name", MODELS)
def test_features_and_logits_are_those_of_the_bare_model(
    name: str, clip: Path, frames: list[Frame], tmp_path: Path
) -> None:
    """Of one stack, which the clip's frames make cyclically where they are fewer."""
    model = bare_model(name)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    size = STACK.get(name, 2)
    images = transforms(name)(stack_of(frames, [i % NUM_FRAMES for i in range(size)]))[None]
    seen: list[Tensor] = []
    getattr(model, LAST.get(name, "head")).register_forward_pre_hook(lambda _, inputs: seen.extend(inputs))
    logits = model(images)
    expected = seen[0].flatten(2).mean(dim=2) if seen[0].dim() > 2 else seen[0]  # S3D's are (1, 1024, T, 1, 1)
    del model
    config = Config(model_name=name, stack_size=size, step_size=100, checkpoint=str(tmp_path / "weights.pth"))
    extractor = Extractor(config, "cpu")
    features = extractor.extract(str(clip), DecodeOptions())
    (rows,) = features.arrays.values()
    assert rows.dtype == np.float32
    assert 0.1 < expected.std() < 100
    torch.testing.assert_close(torch.from_numpy(rows), expected, rtol=1e-4, atol=1e-4)
    told = extractor.predict(features.arrays)
    torch.testing.assert_close(torch.from_numpy(told.logits["torchvision"]), logits, rtol=1e-4, atol=1e-3)
    assert told.classes == list(get_model_weights(name).DEFAULT.meta["categories"])
    assert features.spans == [(0, min(size, NUM_FRAMES) / 25)]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]),
        ({"step_size": 4}, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 8, 9]]),
        ({"step_size": 4, "tail": "drop", "batch_size": 8}, [[0, 1, 2, 3], [4, 5, 6, 7]]),
        ({"align": "center"}, [[0, 0, 0, 1], [1, 2, 3, 4], [4, 5, 6, 7], [7, 8, 9, 9]]),
        ({"align": "center", "edge": "zero"}, [[None, None, 0, 1], [1, 2, 3, 4], [4, 5, 6, 7], [7, 8, 9, None]]),
    ],
)
def test_rows_are_of_the_stacks_that_options_ask_for(
    settings: dict[str, Any], expected: list[list[int | None]], clip: Path, frames: list[Frame], checkpoint: str
) -> None:
    images = torch.stack([transforms("mc3_18")(stack_of(frames, [i or 0 for i in indices])) for indices in expected])
    for of_stack, indices in zip(images, expected, strict=True):
        of_stack[:, [index is None for index in indices]] = 0
    rows = without_last_layer(bare_model("mc3_18"), "mc3_18")(images)
    options = {"stack_size": 4, "step_size": 3} | settings
    features = extract(clip, model_name="mc3_18", checkpoint=checkpoint, **options)
    torch.testing.assert_close(torch.from_numpy(features.arrays["torchvision"]), rows, rtol=1e-4, atol=1e-4)


def test_several_crops_have_a_row_each_and_are_told_as_their_mean(
    clip: Path, frames: list[Frame], checkpoint: str
) -> None:
    config = Config(model_name="mc3_18", checkpoint=checkpoint, stack_size=2, step_size=5, crops=("mtr", "c"))
    extractor = Extractor(config, "cpu")
    features = extractor.extract(str(clip), DecodeOptions())
    preset, network = transforms("mc3_18"), without_last_layer(bare_model("mc3_18"), "mc3_18")
    expected = []
    for indices in ([0, 1], [5, 6]):
        stack = stack_of(frames, indices)
        scaled = T.resize(stack, preset.resize_size, antialias=False).flip(-1)[..., :112, -112:]
        corner = T.normalize(T.convert_image_dtype(scaled), preset.mean, preset.std).transpose(0, 1)
        expected.append(network(torch.stack([corner, preset(stack)])))
    rows = torch.from_numpy(features.arrays["torchvision"])
    assert rows.shape == (2, 2, 512)
    torch.testing.assert_close(rows, torch.stack(expected), rtol=1e-4, atol=1e-4)
    logits = bare_model("mc3_18").fc(rows.mean(dim=1))
    told = extractor.predict(features.arrays).logits["torchvision"]
    torch.testing.assert_close(torch.from_numpy(told), logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("height", "width"), [(97, 131), (240, 427), (200, 112)])
def test_a_stack_is_preprocessed_exactly_as_by_the_transforms_of_the_weights(
    name: str, height: int, width: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    decoded = torch.randint(256, (2, height, width, 3), dtype=torch.uint8, generator=generator).permute(0, 3, 1, 2)
    preset, ours = transforms(name), Preprocessing(name, TEN, CPU)
    cut = torch.stack([ours.cut(frame) for frame in decoded])
    assert torch.equal(ours.normalize(cut[:, TEN.index("c")]).transpose(0, 1), preset(decoded))
    scaled = T.resize(decoded, preset.resize_size, antialias=False)
    assert torch.equal(cut, torch.stack(T.ten_crop(scaled, preset.crop_size), dim=1))


def test_each_frame_is_scaled_once_where_stacks_overlap(
    clip: Path, checkpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = Preprocessing.cut
    num_cut = 0

    def counted(preprocessing: Preprocessing, frame: Tensor) -> Tensor:
        nonlocal num_cut
        num_cut += 1
        return cut(preprocessing, frame)

    monkeypatch.setattr(Preprocessing, "cut", counted)
    features = extract(clip, model_name="mc3_18", checkpoint=checkpoint, stack_size=2, step_size=1)
    assert features.arrays["torchvision"].shape == (NUM_FRAMES - 1, 512)
    assert num_cut == NUM_FRAMES


@pytest.mark.parametrize("name", ["s3d", "mvit_v2_s", "swin3d_t"])
def test_sixteen_bits_suffice(name: str) -> None:
    size = STACK.get(name, 2)
    images = torch.randn(1, 3, size, *transforms(name).crop_size, generator=torch.Generator().manual_seed(0))
    in_16_bits, in_32 = (load_network(name, None, dtype)(images) for dtype in (torch.bfloat16, torch.float32))
    assert in_16_bits.dtype == torch.float32
    assert cosines(in_16_bits.numpy(), in_32.numpy()).min() > 0.999


def test_untrained_weights_are_the_same_each_time_and_leave_random_numbers_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = load_network("mvit_v1_b", None, torch.float32).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    second = load_network("mvit_v1_b", None, torch.float32).state_dict()
    assert all(torch.equal(entry, second[key]) for key, entry in first.items())
    assert first["model.pos_encoding.class_token"].any()


def test_a_checkpoint_of_another_model_is_refused(checkpoint: str) -> None:
    with pytest.raises(WeightsError, match=r"mc3_18\.pth: not weights of VideoResNet: .*layer1.0.conv1.0.0.weight"):
        load_network("r2plus1d_18", checkpoint, torch.float32)


@pytest.mark.parametrize("name", MODELS)
def test_the_table_of_models_says_what_torchvision_says(name: str) -> None:
    weights, model = get_model_weights(name).DEFAULT, MODELS[name]
    published, given = Config(model_name=name).weights_wanted()["checkpoint"]
    assert given is None
    assert isinstance(published, WeightsFile)
    assert published.urls == (weights.url,)
    assert published.sha256 is not None
    assert published.path.name.endswith(f"-{published.sha256}.pth")
    assert len(published.sha256) == 8
    assert weights.name == "KINETICS400_V1"
    assert list(weights.meta["categories"]) == class_names(None)
    assert model.least == weights.meta.get("min_temporal_size", 1)
    assert model.takes_more != name.startswith("mvit")
    assert name == "s3d" or f"`clip_len={model.stack_size}`" in weights.meta["_docs"]


@pytest.mark.parametrize("variables", [{}, {"XDG_CACHE_HOME": "/c"}, {"TORCH_HOME": "~/t", "XDG_CACHE_HOME": "/c"}])
def test_weights_are_kept_where_torchvision_keeps_them(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(hub_folder()) == f"{torch.hub.get_dir()}/checkpoints"


def test_stacks_default_to_what_the_model_was_trained_with() -> None:
    for name, size in (("r3d_18", 16), ("s3d", 16), ("mvit_v2_s", 16), ("swin3d_b", 32)):
        config = Config(model_name=name)
        assert (config.stack_size, config.step_size) == (size, size)
    config = Config(model_name="swin3d_t", stack_size=24)
    assert (config.stack_size, config.step_size) == (24, 24)
    assert config.default_settings["stack_size"] == 32
    with pytest.raises(ValueError, match="--model_name r4d: must be one of r3d_18, "):
        Config(model_name="r4d")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "--model_name is needed"),
        ("--model_name r4d", "r3d_18"),
        ("--model_name r3d_18 --stack_size 0", "--stack_size 0"),
        ("--model_name s3d --stack_size 13", "--stack_size 13: s3d takes at least 14 frames"),
        ("--model_name mvit_v1_b --stack_size 15", "--stack_size 15: mvit_v1_b takes exactly 16 frames"),
        ("--model_name mvit_v2_s --stack_size 32", "--stack_size 32: mvit_v2_s takes exactly 16 frames"),
        ("--model_name r3d_18 --step_size 0", "--step_size 0"),
        ("--model_name r3d_18 --edge zero", "--edge zero"),
        ("--model_name r3d_18 --weights random --checkpoint p", "--checkpoint .* random"),
        ("--model_name r3d_18 --min_side_size 256", "--min_side_size is an option of i3d"),
    ],
)
def test_wrong_options_are_told_in_one_line(options: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(["--feature_type", "torchvision", "--video_paths", "a", *options.split()])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line)


def test_the_program_saves_features_and_tells_classes(clip: Path, checkpoint: str, tmp_path: Path) -> None:
    command: list[object] = ["--feature_type", "torchvision", "--model_name", "mc3_18", "--checkpoint", checkpoint]
    command += ["--stack_size", 4, "--device_ids", "cpu", "--video_paths", clip, "--show_kinetics_pred"]
    run = run_program(*command, "--save_predictions", "--save_timestamps", output=tmp_path / "output")
    assert run.status == 0
    expected = extract(clip, model_name="mc3_18", checkpoint=checkpoint, stack_size=4)
    np.testing.assert_allclose(run.features(clip), expected.arrays["torchvision"], rtol=1e-4, atol=1e-4)
    assert run.files.keys() == {"a clip_torchvision.npy", "a clip_timestamps.npy"}
    lines = (tmp_path / "output" / "a clip_predictions.csv").read_text().splitlines()
    assert [line.split(",")[:3] for line in lines[1:]] == [
        [f"{begin:.6f}", f"{end:.6f}", "torchvision"] for begin, end in ((0, 0.16), (0.16, 0.32), (0.32, 0.4))
    ]
    assert lines[1].split(",")[3] in run.stdout
    assert "  0.32 - 0.40 s" in run.stdout


def test_a_short_video_without_a_tail_is_too_short(clip: Path, checkpoint: str) -> None:
    with pytest.raises(MediaError, match="10 frames, and with --tail drop a stack of 16 needs 16"):
        extract(clip, model_name="mc3_18", checkpoint=checkpoint, tail="drop")
