"""The names of files of features, and what in them can be the same."""

import contextlib
import itertools
import pickle
from pathlib import Path

import pytest

from utils.outputs.files import FileOptions, Files, check_apart

STREAMS = ("rgb", "flow")


def names(
    template: str, streams: tuple[str, ...] = STREAMS, num_crops: int = 1, concatenate: bool = False
) -> list[str]:
    options = FileOptions(output_name=template, concatenate=concatenate)
    return Files("i3d", streams, num_crops, options).paths(Path(), "a b")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (names("{stem}_{suffix}"), ["a b_rgb.npy", "a b_flow.npy"]),
        (names("{suffix}/x {stem}"), ["rgb/x a b.npy", "flow/x a b.npy"]),
        (names("{stem}/{suffix}", num_crops=5), ["a b/rgb.npy", "a b/flow.npy"]),
        (names("{stem}__{crop}", ("rgb",), 3), ["a b__0.npy", "a b__1.npy", "a b__2.npy"]),
        (names("{stem}", concatenate=True), ["a b.npy"]),
        (names("{stem}_{suffix}", concatenate=True), ["a b_i3d.npy"]),
        (names("{suffix}{crop}/{stem}", num_crops=2), [f"{s}{i}/a b.npy" for s in STREAMS for i in (0, 1)]),
    ],
)
def test_files_are_called_as_the_template_says_a_crop_by_its_number(found: list[str], expected: list[str]) -> None:
    assert found == expected


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{suffix}", "must have {stem} in it, once"),
        ("{stem}{stem}_{suffix}", "must have {stem} in it, once"),
        ("{stem}_{stream}", "braces are for"),
        ("{stem!r}_{suffix}", "braces are for"),
        ("{stem:>8}_{suffix}", "braces are for"),
        ("{stem.__class__}_{suffix}", "braces are for"),
        ("{stem[0]}_{suffix}", "braces are for"),
        ("{{stem}}_{suffix}", "braces are for"),
        ("{stem}_{suffix}}", "braces are for"),
        ("{stem}_{}", "braces are for"),
        ("/{stem}_{suffix}", "must be a relative path"),
        ("../{stem}_{suffix}", "must be a relative path"),
        ("a/../{stem}_{suffix}", "must be a relative path"),
        ("./{stem}_{suffix}", "must be a relative path"),
        ("a//{stem}_{suffix}", "must be a relative path"),
        ("{stem}_{suffix}/", "must be a relative path"),
        ("{stem}", "of one video two are {stem}.npy"),
        ("{suffix}/{stem}_{crop}", "{crop} is for files of one crop each"),
        (f"{'x' * 40}{{stem}}_{{suffix}}", "too long for a file's name"),
    ],
)
def test_a_template_that_cannot_be_is_refused(template: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"^--output_name .*") as error:
        names(template)
    assert message in str(error.value)
    assert template in str(error.value)


PIECES = ["", "a", "_rgb", "rgb/", "/rgb", "b_rgb"]


def test_names_that_can_be_the_same_are_found_and_no_others() -> None:
    """Against all pairs of stems from a few parts, which are enough for such short names."""
    parts = ["a", "b", "_rgb", "rgb/", "/rgb"]
    stems = ["".join(some) for number in (1, 2, 3, 4) for some in itertools.product(parts, repeat=number)]
    templates = [f"{begin}{{stem}}{end}.npy" for begin in ("", "a", "rgb/") for end in PIECES]
    filled = {template: {template.replace("{stem}", stem) for stem in stems} for template in templates}
    for pair in itertools.combinations(templates, 2):
        one, other = (filled[template] for template in pair)
        with contextlib.nullcontext() if one.isdisjoint(other) else pytest.raises(ValueError, match="can be the same"):
            check_apart("", pair)
    with pytest.raises(ValueError, match=r"^x: of one video two are \{stem\}\.npy"):
        check_apart("x", ["{stem}.npy", "{stem}_rgb", "{stem}.npy"])


def test_files_are_the_same_when_they_come_out_of_a_pickle() -> None:
    files = Files("i3d", STREAMS, 2, FileOptions(output_name="{stem}_{suffix}_{crop}"))
    assert pickle.loads(pickle.dumps(files)) == files
    assert pickle.loads(pickle.dumps(files)).paths(Path("x"), "y") == files.paths(Path("x"), "y")
