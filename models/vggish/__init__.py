"""VGGish: its options. Imports no torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from models.base import WantedWeights
from models.options import PrecisionOptions, WeightsOptions
from models.vggish import checkpoint
from utils.option import option
from utils.video_list import AUDIO_SUFFIXES, VIDEO_SUFFIXES

if TYPE_CHECKING:
    from utils.results import Span

FRAMES_PER_SECOND = 100  # of log-mel
NUM_FRAMES = 96  # of a log-mel patch


@dataclass(frozen=True, kw_only=True)
class Config(PrecisionOptions, WeightsOptions):
    """The options of VGGish."""

    title = "VGGish"
    summary: ClassVar[str] = "128 numbers for each 0.96 s of sound (AudioSet)"
    media_suffixes: ClassVar[frozenset[str]] = VIDEO_SUFFIXES | AUDIO_SUFFIXES
    network_paths: ClassVar[tuple[str, ...]] = ("vggish_model_path",)

    postprocess: bool = option(
        False,
        "rotate the features by AudioSet's PCA and quantize them to 8 bits, as in its published features",
        changes_features=True,
    )
    hop_seconds: float = option(
        0.96, "from one row's start to the next's: 0.01 to 10, in steps of 0.01", metavar="SEC", changes_features=True
    )
    pad_short: bool = option(
        False, "pad a sound of less than 0.975 s with zeros, for one row; without it, it fails", changes_features=True
    )
    vggish_model_path: str | None = option(
        None,
        "VGGish checkpoint, in place of the published one: for PyTorch, or AudioSet's own for TensorFlow",
        metavar="FILE",
    )
    vggish_pca_path: str | None = option(None, "PCA parameters, in place of the published ones", metavar="NPZ")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.postprocess and self.weights == "random" and self.vggish_pca_path is None:
            raise ValueError(
                "--postprocess with --weights random: there is no random PCA; name one with --vggish_pca_path"
            )
        if self.hop_seconds not in [frames / FRAMES_PER_SECOND for frames in range(1, 1001)]:
            raise ValueError(f"--hop_seconds {self.hop_seconds}: must be a multiple of 0.01 from 0.01 to 10")

    @property
    def hop_frames(self) -> int:
        return round(self.hop_seconds * FRAMES_PER_SECOND)

    @property
    def suffixes(self) -> tuple[str, ...]:
        return ("vggish",)

    def spans(self, num_rows: int, seconds: float, fps: float | None) -> "list[Span]":
        starts = range(0, num_rows * self.hop_frames, self.hop_frames)
        return [(start / FRAMES_PER_SECOND, (start + NUM_FRAMES) / FRAMES_PER_SECOND) for start in starts]

    def weights_wanted(self) -> WantedWeights:
        wanted = {"vggish_model_path": (checkpoint.MODEL, self.vggish_model_path)}
        if self.postprocess:
            wanted["vggish_pca_path"] = (checkpoint.PCA, self.vggish_pca_path)
        return wanted
