"""The options of timm's models on the command line."""

import re
import sys

import pytest

import main
from models import recipes
from models.timm import Config
from utils import cli


def said(capsys: pytest.CaptureFixture[str], options: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main.main(["--feature_type", "timm", *options.split()])
    assert isinstance(ended.value.code, int)
    return ended.value.code, *capsys.readouterr()


def test_names_are_listed_without_videos(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "--model_name list test_resnet*") == (0, "test_resnet.r160_in1k\n", "")
    status, out, err = said(capsys, "--model_name list")
    assert (status, err) == (0, "")
    assert {"resnet50.a1_in1k", "vit_small_patch14_dinov2.lvd142m"} < set(out.splitlines())
    assert "test_vit4" not in out, "it has no weights"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--video_paths a", "--model_name is needed"),
        ("--model_name list resnet", "list resnet: no name is like that; 'resnet\\*' "),
        ("--model_name resnet50", "one of --video_paths and --file_with_video_paths"),
        ("--model_name resnet5O --video_paths a --device_ids cpu", "resnet5O: .* did you mean resnet50 or"),
        ("--model_name resnet50 vit --video_paths a --device_ids cpu", "--model_name resnet50 vit: .*no such model"),
        ("--model_name qqq --video_paths a --device_ids cpu", "qqq: .*no such model; see --model_name list"),
        ("--model_name test_resnet --pooling token --video_paths a --device_ids cpu", "has no class token"),
        ("--model_name x --pooling max", "--pooling: invalid choice: 'max'"),
        ("--model_name x --pooling avg --keep_classifier", "--pooling avg: with --keep_classifier"),
        ("--model_name x --extraction_fps fast", "--extraction_fps: invalid rate value: 'fast'"),
        ("--model_name x --extraction_fps -1", "--extraction_fps -1.0: must be"),
        ("--model_name x --weights random --checkpoint c", "--checkpoint does not go with --weights random"),
        ("--model_name x --min_side_size 256", "--min_side_size is an option of i3d"),
    ],
)
def test_a_wrong_option_gets_one_line_and_status_2(
    options: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = said(capsys, options)
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert re.search(message, err)


@pytest.mark.parametrize(("text", "fps"), [("all", None), ("0", None), ("2.5", 2.5)])
def test_the_rate_is_a_number_or_that_of_the_video(text: str, fps: float | None) -> None:
    options = ["--feature_type", "timm", "--model_name", "x", "--video_paths", "a", "--extraction_fps", text]
    config = cli.parse(options, {"timm": Config}, recipes).config
    assert config == Config(model_name="x", extraction_fps=fps)
    assert config.settings["extraction_fps"] == fps
    assert config.default_settings["extraction_fps"] == 1


def test_without_timm_it_is_told_how_to_install_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    for options in ("--model_name list", "--model_name resnet50 --video_paths a --device_ids cpu"):
        status, out, err = said(capsys, options)
        assert (status, out) == (2, "")
        assert 'needs timm: pip install "timm>=1.0.20"' in err
