"""VGGish: its options. Imports no torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from models.base import PrecisionOptions, WantedWeights, WeightsOptions
from models.vggish import checkpoint
from utils.option import option
from utils.video_list import AUDIO_SUFFIXES, VIDEO_SUFFIXES

if TYPE_CHECKING:
    from utils.results import Span


@dataclass(frozen=True, kw_only=True)
class Config(PrecisionOptions, WeightsOptions):
    """The options of VGGish."""

    title = "VGGish"
    summary: ClassVar[str] = "128 numbers for each 0.96 s of sound (AudioSet)"
    row_seconds: ClassVar[float] = 0.96
    media_suffixes: ClassVar[frozenset[str]] = VIDEO_SUFFIXES | AUDIO_SUFFIXES
    network_paths: ClassVar[tuple[str, ...]] = ("vggish_model_path",)

    postprocess: bool = option(
        False,
        "rotate the features by AudioSet's PCA and quantize them to 8 bits, as in its published features",
        changes_features=True,
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

    @property
    def suffixes(self) -> tuple[str, ...]:
        return ("vggish",)

    def spans(self, num_rows: int, seconds: float, fps: float | None) -> "list[Span]":
        return [(i * self.row_seconds, (i + 1) * self.row_seconds) for i in range(num_rows)]

    def weights_wanted(self) -> WantedWeights:
        wanted = {"vggish_model_path": (checkpoint.MODEL, self.vggish_model_path)}
        if self.postprocess:
            wanted["vggish_pca_path"] = (checkpoint.PCA, self.vggish_pca_path)
        return wanted
