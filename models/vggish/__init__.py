"""VGGish: its configuration and its options. Imports no torch."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from utils.video_list import AUDIO_SUFFIXES, VIDEO_SUFFIXES

if TYPE_CHECKING:
    from utils.weights.download import WeightsFile

MEDIA_SUFFIXES = VIDEO_SUFFIXES | AUDIO_SUFFIXES  # of the files that a folder or a glob means


@dataclass(frozen=True)
class Config:
    """What to extract with VGGish, and how. Raises ValueError for values that do not go together."""

    postprocess: bool = False
    precision: str | None = None
    batch_size: int | None = None
    weights: str = "pretrained"
    vggish_model_path: str | None = None
    vggish_pca_path: str | None = None

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"--batch_size {self.batch_size}: must be at least 1 patch")
        if self.weights == "random" and self.vggish_model_path is not None:
            raise ValueError("--vggish_model_path does not go with --weights random")
        if self.postprocess and self.weights == "random" and self.vggish_pca_path is None:
            raise ValueError(
                "--postprocess with --weights random: there is no random PCA; name one with --vggish_pca_path"
            )

    @property
    def suffixes(self) -> tuple[str, ...]:
        """What the names of a video's feature files end with."""
        return ("vggish",)

    @property
    def settings(self) -> dict[str, object]:
        """What the features depend on, besides the weights."""
        return {"postprocess": self.postprocess, "precision": self.precision or "default"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of VGGish, named as the fields of `Config`, with its defaults."""
    option = parser.add_argument_group("VGGish").add_argument
    option(
        "--postprocess",
        action="store_true",
        help="rotate the features by AudioSet's PCA and quantize them to 8 bits, as in its published features",
    )
    option(
        "--vggish_model_path",
        metavar="FILE",
        help="VGGish checkpoint, in place of the published one: for PyTorch, or AudioSet's own for TensorFlow",
    )
    option("--vggish_pca_path", metavar="NPZ", help="PCA parameters, in place of the published ones")


def weights_wanted(config: Config) -> Mapping[str, tuple["WeightsFile", str | None]]:
    """The weights that are needed: by the option that overrides it, each file and the path given for it."""
    from models.vggish import checkpoint as published

    wanted = {"vggish_model_path": (published.MODEL, config.vggish_model_path)}
    if config.postprocess:
        wanted["vggish_pca_path"] = (published.PCA, config.vggish_pca_path)
    return wanted
