"""Recipes: their table, docs/recipes.md, and what the command line makes of them."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import main
import models
from models import recipes
from models.recipes import RECIPES, REFUSED
from models.vggish.mel import patches
from tests.helpers.oracles import REPOSITORY
from utils import cli
from utils.outputs.files import Files

CONFIGS = {name: models.load_config(name) for name in models.EXTRACTORS}


def parse(*arguments: str) -> cli.Command:
    return cli.parse([*arguments, "--video_paths", "a.mp4"], CONFIGS, recipes)


def values(command: cli.Command) -> dict[str, Any]:
    """The values of all options."""
    rest = ("arguments", "caution", "error")
    return {name: value for name, value in vars(command).items() if name not in rest}


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the program says, in one line, as it refuses its options."""
    with pytest.raises(SystemExit) as ended:
        main.main(arguments)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    return err


def test_the_page_is_what_the_program_lists(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(["--recipe", "list"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert (REPOSITORY / "docs" / "recipes.md").read_text() == text
    for name, feature_type in RECIPES:
        assert f"## {name}, {feature_type}\n" in text
    for name in REFUSED:
        assert f"- `{name}`. " in text


@pytest.mark.parametrize(("name", "feature_type"), RECIPES)
def test_a_recipe_means_the_options_that_the_page_shows(name: str, feature_type: str) -> None:
    page = (REPOSITORY / "docs" / "recipes.md").read_text()
    section = page.split(f"## {name}, {feature_type}\n")[1]
    shown = section.split("```\n")[1].split()
    assert shown[:2] == ["--feature_type", feature_type]
    recipe = ["--recipe", name, "--feature_type", feature_type]
    assert values(parse(*recipe)) == values(parse(*shown))
    override = ["--batch_size", "3", "--quiet"]
    assert values(parse(*recipe, *override)) == values(parse(*shown, *override))
    assert values(parse(*override, *recipe)) == values(parse(*shown, *override))


@pytest.mark.parametrize(("name", "feature_type"), RECIPES)
def test_files_are_called_as_the_page_says(name: str, feature_type: str) -> None:
    command = parse("--recipe", name, "--feature_type", feature_type)
    files = Files(feature_type, command.config.suffixes, command.config.num_crops, command.files)
    names = re.findall(r"`(\S*ID\S*[.]npy)`", RECIPES[name, feature_type].files.partition(";")[0])
    assert names[0] == files.paths(Path(), "ID")[0]
    assert set(names) <= set(files.paths(Path(), "ID"))


def test_a_recipe_sets_values_of_the_types_that_options_have() -> None:
    config = parse("--recipe", "mdvc", "--feature_type", "i3d").config
    assert (config.extraction_fps, config.stack_size, config.step_size, config.tail) == (25.0, 24, 24, "cycle")
    assert parse("--recipe", "unav100", "--feature_type", "vggish").config.hop_seconds == 0.32


def test_given_options_win_also_where_they_are_the_defaults() -> None:
    given = ["--stack_size", "64", "--step_size", "64", "--tail", "cycle", "--flow", "pwc", "--extraction_fps", "30"]
    assert (
        parse("--recipe", "unav100", "--feature_type", "i3d", *given).config
        == parse("--feature_type", "i3d", *given).config
    )


def test_switches_that_a_recipe_sets_can_be_turned_off() -> None:
    recipe = ["--recipe", "mstcn", "--feature_type", "i3d"]
    shown = list(recipes.find("mstcn", "i3d")[0])
    for switch in ("--concatenate", "--transpose"):
        shown.remove(switch)
    turned = parse(*recipe, "--no_concatenate", "--no_transpose", "--output_name", "{stem}_{suffix}")
    assert values(turned) == values(parse("--feature_type", "i3d", *shown, "--output_name", "{stem}_{suffix}"))


def test_a_switch_that_no_recipe_sets_has_no_opposite(capsys: pytest.CaptureFixture[str]) -> None:
    for recipe in ([], ["--recipe", "mdvc"]):
        line = said(capsys, "--feature_type", "i3d", *recipe, "--video_paths", "a", "--no_keep_frames")
        assert "--no_keep_frames" in line


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_had_is_refused_with_the_reason(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert f"--recipe {name} cannot be had. {REFUSED[name]}" in said(capsys, "--recipe", name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--recipe mdcv --feature_type i3d", "--recipe mdcv: there is no such recipe; did you mean mdvc"),
        ("--recipe actionformer", "did you mean actionformer-anet or actionformer-thumos14"),
        ("--recipe qqq", "--recipe qqq: there is no such recipe; --recipe list tells which there are"),
        ("--recipe umt --feature_type vggish --video_paths a", "--recipe umt is for --feature_type i3d (see"),
        ("--recipe mdvc --video_paths a", "--recipe mdvc is for --feature_type i3d or vggish (see"),
        ("--feature_type i3d --video_paths a --recipe", "--recipe: expected one argument"),
        ("--feature_type i3d --video_paths a --recip umt", "--recip: did you mean --recipe?"),
        ("--feature_type i3d --recipe mdvc --video_paths a --stack_size 8", "--stack_size 8: must be at least 9"),
    ],
)
def test_wrong_recipes_get_one_line(capsys: pytest.CaptureFixture[str], options: str, message: str) -> None:
    assert message in said(capsys, *options.split())


def test_each_run_says_once_what_is_different(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    run = ["--video_paths", str(tmp_path), "--weights", "random", "--device_ids", "cpu", "--quiet", "--dry_run"]
    assert main.main(["--recipe", "unav100", "--feature_type", "i3d", *run]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "recipe" in line]
    assert lines == [f"recipe unav100: {RECIPES['unav100', 'i3d'].notes}"]
    assert main.main(["--recipe", "unav100", "--feature_type", "vggish", *run]) == 0  # of which nothing is different
    assert "recipe" not in capsys.readouterr().err


def test_status_says_nothing_of_a_recipe(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "status.jsonl").write_text("")
    main.main(["--recipe", "unav100", "--feature_type", "i3d", "--status", "--output_path", str(tmp_path)])
    assert "recipe" not in "".join(capsys.readouterr())


@pytest.mark.parametrize(("num_frames", "num_rows"), [(5088, 1268), (5089, 1269), (5092, 1269), (5093, 1270)])
def test_actionformers_rows_are_those_published(num_frames: int, num_rows: int) -> None:
    config = parse("--recipe", "actionformer-thumos14", "--feature_type", "i3d").config
    assert sum(1 for _ in config.stacks(range(num_frames))) == num_rows


@pytest.mark.parametrize("name", ["cmcs-thumos14", "cmcs-anet", "ucf-crime-deepmil", "pel4vad"])
def test_ten_crops_are_five_and_the_same_mirrored(name: str) -> None:
    crops = parse("--recipe", name, "--feature_type", "i3d").config.crop_names
    assert len(set(crops)) == 10
    assert crops[5:] == tuple(f"m{crop}" for crop in crops[:5])


def test_at_a_hop_of_a_second_patches_are_those_of_slices_of_a_second() -> None:
    waveform = torch.rand(10 * 16000, generator=torch.Generator().manual_seed(0)) * 2 - 1
    hop_frames = parse("--recipe", "ave", "--feature_type", "vggish").config.hop_frames
    whole = torch.cat(list(patches([waveform], 4, hop_frames)))
    slices = torch.cat([patch for piece in waveform.view(10, 16000) for patch in patches([piece], 4)])
    assert whole.shape == (10, 96, 64)
    assert torch.allclose(whole, slices, atol=1e-5)
