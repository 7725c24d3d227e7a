"""Image models of timm: their options. Imports neither torch nor timm."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from models.base import WantedWeights
from models.options import FrameOptions, PrecisionOptions, WeightsOptions
from utils.option import option
from utils.video_list import VIDEO_SUFFIXES

POOLINGS = ("model", "avg", "token")


def rate(text: str) -> float:
    """Return the frames a second that a text says, 0 for `all`. Raises ValueError."""
    return 0.0 if text == "all" else float(text)


def require_timm() -> None:
    """Raise ValueError where timm is not installed."""
    try:
        import timm  # noqa: F401
    except ImportError as error:
        raise ValueError(f'--feature_type timm needs timm: pip install "timm>=1.0.20" ({error})') from error


@dataclass(frozen=True, kw_only=True)
class Config(FrameOptions, PrecisionOptions, WeightsOptions):
    """The options of timm's image models."""

    title = "timm"
    summary: ClassVar[str] = "numbers of each frame from an image model of timm: ResNet, DINOv3, CLIP and many more"
    media_suffixes: ClassVar[frozenset[str]] = VIDEO_SUFFIXES
    suffixes: ClassVar[tuple[str, ...]] = ("timm",)
    required: ClassVar[tuple[str, ...]] = ("model_name",)
    network_paths: ClassVar[tuple[str, ...]] = ("checkpoint",)

    model_name: str = option(
        None,
        "the model's name in timm; or: list [PATTERN], to print the names of those with weights, as of 'resnet*'",
        nargs="+",
        metavar=("NAME", "PATTERN"),
        changes_features=True,
    )
    extraction_fps: float | None = option(
        1.0, "frames a second; 0 or all for each frame of the video", type=rate, metavar="FPS", changes_features=True
    )
    pooling: str = option(
        "model",
        "what makes one row of a frame: the model's own way, the mean over its patches or pixels, or its class token",
        choices=POOLINGS,
        changes_features=True,
    )
    keep_classifier: bool = option(False, "give the classifier's logits, before softmax", changes_features=True)
    checkpoint: str | None = option(
        None, "weights of the model, in place of the published ones: .safetensors, or PyTorch's", metavar="FILE"
    )

    def __post_init__(self) -> None:
        if isinstance(self.model_name, tuple):  # from the command line
            object.__setattr__(self, "model_name", " ".join(self.model_name))
        if self.extraction_fps == 0:
            object.__setattr__(self, "extraction_fps", None)
        super().__post_init__()
        if self.pooling not in POOLINGS:
            raise ValueError(f"--pooling {self.pooling}: must be one of {', '.join(POOLINGS)}")
        if self.keep_classifier and self.pooling != "model":
            raise ValueError(f"--pooling {self.pooling}: with --keep_classifier the model pools as for its classifier")

    @property
    def answer(self) -> str | None:
        command, _, pattern = (self.model_name or "").partition(" ")
        if command != "list":
            return None
        require_timm()
        from models.timm.catalog import list_names

        return "\n".join(list_names(pattern))

    def check_devices(self, devices: Sequence[str]) -> None:
        super().check_devices(devices)
        if devices:
            require_timm()
            from models.timm.net import check

            check(self)

    def weights_wanted(self) -> WantedWeights:
        require_timm()
        from models.timm.catalog import find_weights

        return {"checkpoint": (find_weights(self.model_name), self.checkpoint)}
