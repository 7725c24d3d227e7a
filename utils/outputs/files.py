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
        for part in itertools.chain(*(name.split("/") for name in self.all_names)):
            if len(os.fsencode(part.replace(STEM, "x" * MOST_STEM_BYTES))) > _MOST_NAME_BYTES:
                raise ValueError(f"--output_name {self.options.output_name}: {part} is too long for a file's name")

    @cached_property
    def names(self) -> Names:
        template = self.options.output_name
        suffixes = (self.feature_type,) if self.options.concatenate else self.streams
        num_files = self.num_crops if "{crop}" in template else 1
        return fill_template("--output_name", template, dict.fromkeys(suffixes, num_files), ending=".npy")

    @cached_property
    def all_names(self) -> list[str]:
        return list(itertools.chain(*self.names.values()))

    @property
    def settings(self) -> dict[str, object]:
        """What a folder keeps to. Of what is joined it keeps the streams, which the name does not tell."""
        return dataclasses.asdict(self.options) | {"concatenate": self.options.concatenate and list(self.streams)}

    def paths(self, folder: Path, stem: str) -> list[str]:
        """Return the paths of a video's files, one for each of its arrays, or for each crop of each."""
        return [str(folder / name.replace(STEM, stem)) for name in self.all_names]


def check_template(name: str, template: str) -> None:
    """Raise ValueError, with the option's name, for a template that is no relative path with `{stem}` in it."""
    rest = _FIELD.sub("x", template)
    if "{" in rest or "}" in rest:
        raise ValueError(f"{name} {template}: braces are for {{stem}}, {{suffix}} and {{crop}}, written just so")
    if template.count(STEM) != 1:
        raise ValueError(f"{name} {template}: must have {{stem}} in it, once")
    if not {"", ".", ".."}.isdisjoint(rest.split("/")):
        raise ValueError(f"{name} {template}: must be a relative path, without empty parts, . and ..")


def fill_template(name: str, template: str, num_files: Mapping[str, int], ending: str = "") -> Names:
    """Return the names of the files, so many of each suffix. Raises ValueError, with the option's name."""
    if "{crop}" in template and 1 in num_files.values():
        raise ValueError(f"{name} {template}: {{crop}} is for files of one crop each, of several --crops")
    names = {
        suffix: [template.replace("{suffix}", suffix).replace("{crop}", str(i)) + ending for i in range(number)]
        for suffix, number in num_files.items()
    }
    check_apart(f"{name} {template}", itertools.chain(*names.values()))
    return names


def check_apart(subject: str, names: Iterable[str]) -> None:
    """Raise ValueError if two names can be the same when the stems of two videos, or of one, are filled in."""
    for one, other in itertools.combinations(names, 2):
        (begin, end), (other_begin, other_end) = one.split(STEM), other.split(STEM)
        begins_alike = begin.startswith(other_begin) or other_begin.startswith(begin)
        if begins_alike and (end.endswith(other_end) or other_end.endswith(end)):
            problem = (
                f"of one video two are {one}" if one == other else f"of two videos {one} and {other} can be the same"
            )
            raise ValueError(f"{subject}: {problem}; tell them apart, as with {{suffix}}")
