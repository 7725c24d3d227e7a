"""The parts of an extractor: one folder and one line; and extractors called from Python."""

import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import models
from tests.helpers.clips import write_clip
from tests.helpers.oracles import REPOSITORY
from tests.helpers.program import run_program
from tests.helpers.sounds import chord, write_wav
from utils.errors import ExtractionError
from utils.report.sketch import SIDE

CONFIG = """
from dataclasses import dataclass
from typing import ClassVar

from models.options import PrecisionOptions, SizeOptions, StackOptions, WeightsOptions
from utils.option import option
from utils.video_list import VIDEO_SUFFIXES


@dataclass(frozen=True, kw_only=True)
class Config(StackOptions, SizeOptions, PrecisionOptions, WeightsOptions):
    title = "mean colour"
    summary: ClassVar[str] = "the mean colour of each stack"
    media_suffixes: ClassVar[frozenset[str]] = VIDEO_SUFFIXES
    suffixes: ClassVar[tuple[str, ...]] = ("colour",)

    scale: float = option(1.0, "what colours are multiplied by", changes_features=True)
"""

EXTRACT = """
import torch

from models.clips import RowExtractor


class Extractor(RowExtractor):
    def __init__(self, config, device, num_sharing=1):
        super().__init__(config, device, config.precision)
        self.batch_size, self.min_side_size = 2 * config.stack_size, config.min_side_size

    def embed(self, stacks):
        colours = [torch.stack(stack.items).float().mean(dim=(0, 2, 3)) for stack in stacks]
        return {"colour": self.config.scale * torch.stack(colours)}
"""


def coloured_clip(path: Path, reds: list[int]) -> Path:
    """Frames of one colour each, kept without loss."""
    frames = [np.full((32, 32, 3), (red, 7, 3), np.uint8) for red in reds]
    return write_clip(path, frames, codec="ffv1", pixel_format="bgr0")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the program, with one more extractor: a folder, and a line in the registry."""
    top = tmp_path_factory.mktemp("checkout")
    shutil.copy(REPOSITORY / "main.py", top)
    for room in ("models", "utils"):
        shutil.copytree(REPOSITORY / room, top / room, ignore=shutil.ignore_patterns("__pycache__", "checkpoints"))
    folder = top / "models" / "mean_colour"
    folder.mkdir()
    (folder / "__init__.py").write_text(CONFIG)
    (folder / "extract.py").write_text(EXTRACT)
    registry = top / "models" / "__init__.py"
    text = registry.read_text()
    line = '    "vggish": "models.vggish",\n'
    assert line in text
    registry.write_text(text.replace(line, line + '    "mean_colour": "models.mean_colour",\n'))
    return top


def test_an_extractor_of_a_folder_and_a_line_goes_through_the_whole_program(checkout: Path, tmp_path: Path) -> None:
    clips = [coloured_clip(tmp_path / f"{name}.mkv", reds) for name, reds in (("a", [10, 20, 30, 40]), ("b", [50]))]
    (tmp_path / "bad.mkv").write_text("no video")
    output = tmp_path / "output"
    command = ["--feature_type", "mean_colour", "--device_ids", "cpu", "--video_paths", *clips, tmp_path / "bad.mkv"]
    command += ["--stack_size", 2, "--step_size", 2, "--min_side_size", 32, "--scale", 2]
    first = run_program(*command, "--report", 1, "--save_timestamps", output=output, repository=checkout)
    assert first.status == 1
    (page,) = (output / "report").rglob("page.html")
    assert page.parent.name == "a"
    strip = np.asarray(Image.open(page.parent / "mean_colour_frames.webp"))
    assert strip[:, SIDE // 2 :: SIDE, 0].mean(axis=0) == pytest.approx([20, 40], abs=3), (
        "the middle frame of each stack"
    )
    assert "Likeness of all rows: colour" in page.read_text()
    assert np.load(io.BytesIO(first.files["a_timestamps.npy"])).tolist() == [[0, 0.08], [0.08, 0.16]]
    assert first.features("a.mkv").round(2).tolist() == [[30, 14, 6], [70, 14, 6]]
    assert first.features("b.mkv").round(2).tolist() == [[100, 14, 6]]
    assert first.files.keys() == {f"{name}_{end}.npy" for name in "ab" for end in ("colour", "timestamps")}
    assert {row["path"]: row["reason"] for row in first.rows} == {str(c): None for c in clips} | {
        str(tmp_path / "bad.mkv"): "unreadable"
    }
    assert {row["feature_type"] for row in first.rows} == {"mean_colour"}
    assert json.loads((output / "settings.json").read_text())["mean_colour"]["settings"]["scale"] == 2
    assert run_program(*command, output=output, repository=checkout).paths("skipped") == set(map(str, clips))
    changed = run_program(*command, "--scale", 3, output=output, repository=checkout)
    assert changed.status == 3
    assert "scale was 2.0 and is 3.0" in changed.stderr
    wrong = run_program("--feature_type", "i3d", "--video_paths", "a", "--scale", 3, repository=checkout)
    assert "--scale is an option of mean_colour, not of i3d" in wrong.stderr


def test_the_lines_of_the_readme_give_features(checkpoints: dict[str, str], tmp_path: Path) -> None:
    """As they stand there, but for the device and the weights, in a script without a guard."""
    text = (REPOSITORY / "README.md").read_text()
    match = re.search(r"```python\n(from models import extractor\n.*?)```", text, re.DOTALL)
    assert match is not None
    lines = match[1]
    assert '"cuda:0"' in lines
    lines = lines.replace('"cuda:0"', '"cpu"').replace(
        ', streams=("rgb",)', f', streams=("rgb",), i3d_rgb_path={checkpoints["i3d_rgb_path"]!r}, stack_size=9'
    )
    coloured_clip(tmp_path / "a.mp4.mkv", [10] * 12).rename(tmp_path / "a.mp4")
    probe = lines + "\nprint(features.arrays['rgb'].shape, features.spans)\n"
    command = [sys.executable, "-c", probe]
    answer = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=tmp_path, env={"PYTHONPATH": str(REPOSITORY)}
    )
    assert answer.stdout == "(1, 1024) [(0.0, 0.36)]\n"


def test_an_extractor_called_from_python_gives_what_the_program_saves(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", chord(2.5, 16_000), 16_000)
    extract = models.extractor("vggish", device="cpu", weights="random")
    features = extract(str(path))
    saved = run_program(
        "--feature_type", "vggish", "--weights", "random", "--video_paths", path, "--device_ids", "cpu", output=tmp_path
    )
    assert (features.arrays["vggish"] == saved.features("a.wav")).all()
    assert features.spans == [(0, 0.96), (0.96, 1.92)]
    (tmp_path / "bad.wav").write_text("no sound")
    with pytest.raises(ExtractionError, match=r"bad\.wav"):
        extract(str(tmp_path / "bad.wav"))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("i3d", {"stack_size": 3}, "at least 9"),
        ("i3d", {"device": "cuda:99"}, "99: no such GPU"),
        ("i3d", {"max_loss": 2.0}, "max_loss"),
        ("i3d", {"stack_sise": 24}, "stack_sise"),
        ("c3d", {}, "c3d"),
    ],
)
def test_wrong_options_from_python_are_named(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        models.extractor(name, **options)  # type: ignore[arg-type]
