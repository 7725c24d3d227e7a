"""How files of features are named and laid out: the options, and what follows for a feature type. Imports no NumPy."""

import dataclasses
import itertools
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from utils.option import option
from utils.video_list import MOST_STEM_BYTES

STEM = "{stem}"
_FIELD = re.compile(r"\{(stem|suffix|crop)\}")
_MOST_NAME_BYTES = 255  # file systems' limit

Names = Mapping[str, list[str]]
"""By suffix the names of its files, one or one a crop; `{stem}` is left in them."""


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """What files of features are called, and how features lie in them."""

    title = "files of features"

    concatenate: bool = option(False, "save one array of all streams, side by side; its suffix is the feature type")
    transpose: bool = option(False, "save (D, N), or of several crops (D, crops, N), in place of (N, D)")
    dtype: str | None = option(
        None, "the type of the numbers saved (default: as they are computed)", choices=("float32", "float16")
    )
    output_name: str = option(
        "{stem}_{suffix}",
        "what files are called, without .npy: with {stem}, the video's name, {suffix}, the stream's, and {crop}, the "
        "number of the crop, for a file each; it may have folders",
        metavar="TEMPLATE",
    )

    def __post_init__(self) -> None:
        check_template("--output_name", self.output_name)

    @property
    def given(self) -> list[str]:
        """The options that have not their defaults."""
        return [field.name for field in dataclasses.fields(self) if getattr(self, field.name) != field.default]


@dataclass(frozen=True)
class Files:
    """The files of a feature type. Small and picklable. Raises ValueError where they cannot be named so."""

    feature_type: str
    streams: tuple[str, ...]  # the suffixes of the extractor's arrays, in the order that they are joined in
    num_crops: int = 1
    options: FileOptions = dataclasses.field(default_factory=FileOptions)

    def __post_init__(self) -> None:
        self.check_beside([])

    @cached_property
    def names(self) -> Names:
        template = self.options.output_name
        suffixes = (self.feature_type,) if self.options.concatenate else self.streams
        num_files = self.num_crops if "{crop}" in template else 1
        return fill_template("--output_name", template, dict.fromkeys(suffixes, num_files), ending=".npy")

    @property
    def settings(self) -> dict[str, object]:
        """What a folder keeps to. Of what is joined it keeps the streams, which the name does not tell."""
        return dataclasses.asdict(self.options) | {"concatenate": self.options.concatenate and list(self.streams)}

    def paths(self, folder: Path, stem: str) -> list[str]:
        """Return the paths of a video's files, one for each of its arrays, or for each crop of each."""
        return [str(folder / name.replace(STEM, stem)) for name in itertools.chain(*self.names.values())]

    def check_beside(self, others: Iterable[str]) -> None:
        """Raise ValueError if two files, of one video or of two, can have the same name, `others` among them."""
        pair = find_collision([*itertools.chain(*self.names.values()), *others])
        if pair is not None:
            raise ValueError(f"--output_name {self.options.output_name}: {tell_collision(pair)}")
        for part in itertools.chain(*(name.split("/") for name in itertools.chain(*self.names.values()))):
            if len(os.fsencode(part.replace(STEM, "x" * MOST_STEM_BYTES))) > _MOST_NAME_BYTES:
                raise ValueError(f"--output_name {self.options.output_name}: {part} is too long for a file's name")


def check_template(name: str, template: str) -> None:
    """Raise ValueError, with the option's name, for a template that is no relative path with `{stem}` in it."""
    rest = _FIELD.sub("x", template)
    if "{" in rest or "}" in rest:
        raise ValueError(f"{name} {template}: braces are for {{stem}}, {{suffix}} and {{crop}}, written just so")
    if template.count(STEM) != 1:
        raise ValueError(f"{name} {template}: must have {{stem}} in it, once")
    if not {"", ".", ".."}.isdisjoint(rest.split("/")):
        raise ValueError(f"{name} {template}: must be a relative path, without empty parts, . and ..")


def fill_template(name: str, template: str, num_files: Mapping[str, int], ending: str = "") -> dict[str, list[str]]:
    """Return the names of the files, or one a crop, of each suffix, in which `{stem}` is left. Raises ValueError."""
    if "{crop}" in template and 1 in num_files.values():
        raise ValueError(f"{name} {template}: {{crop}} is for files of one crop each, of several --crops")
    return {
        suffix: [template.replace("{suffix}", suffix).replace("{crop}", str(i)) + ending for i in range(number)]
        for suffix, number in num_files.items()
    }


def find_collision(names: Iterable[str]) -> tuple[str, str] | None:
    """Return two names that can be the same when the stems of two videos, or of one, are filled in."""
    for pair in itertools.combinations(names, 2):
        (begin, end), (other_begin, other_end) = (name.split(STEM) for name in pair)
        shorter, longer = sorted([begin, other_begin], key=len)
        shorter_end, longer_end = sorted([end, other_end], key=len)
        if longer.startswith(shorter) and longer_end.endswith(shorter_end):
            return pair
    return None


def tell_collision(pair: tuple[str, str]) -> str:
    """Return what is wrong with two names, and the way out."""
    one, other = pair
    same = f"two files are called {one}" if one == other else f"of two videos {one} and {other} can be the same file"
    return f"{same}; tell them apart, as with {{suffix}}"
