"""Which videos to work on, and what their outputs are called."""

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path


def read_list(path: str) -> list[str]:
    """The paths in a text file, one a line; blank lines are nothing.

    Raises OSError, and ValueError where it names none.
    """
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline=None) as file:
        paths = [line for line in map(str.strip, file) if line]
    if not paths:
        raise ValueError("it names no video")
    return paths


def distinct(paths: Sequence[str]) -> list[str]:
    """The paths in their order, each file once."""
    return list({os.path.abspath(path): path for path in reversed(paths)}.values())[::-1]


def stem_of(path: str) -> str:
    """What a video's outputs are called after, unless another one has the same name."""
    return Path(path).stem


def stems_of_namesakes(paths: Sequence[str]) -> dict[str, str]:
    """What the outputs of videos are called after whose stem is not theirs alone; the others are not in it.

    They keep their folders below the common parent, and their extension where even that leaves two the same:
    a/x.mp4, b/x.mp4 and b/x.mkv become a/x, b/x.mp4 and b/x.mkv.
    """
    by_stem = defaultdict(list)
    for path in paths:
        by_stem[stem_of(path)].append(path)
    stems = {}
    for namesakes in by_stem.values():
        if len(namesakes) == 1:
            continue
        folders = {path: os.path.dirname(os.path.abspath(path)) for path in namesakes}
        parent = os.path.commonpath(folders.values())
        below = {path: os.path.relpath(folder, parent) for path, folder in folders.items()}
        for path in namesakes:
            alone = list(below.values()).count(below[path]) == 1
            stems[path] = os.path.normpath(os.path.join(below[path], stem_of(path) if alone else Path(path).name))
    return stems
