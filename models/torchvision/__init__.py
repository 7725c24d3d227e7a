"""torchvision's video models: their options. Imports no torch."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from models.base import WantedWeights
from models.options import ClassOptions, CropOptions, PrecisionOptions, StackOptions, WeightsOptions
from utils.option import option
from utils.video_list import VIDEO_SUFFIXES
from utils.weights.published import WeightsFile

HOME = "https://download.pytorch.org/models"


class Model(NamedTuple):
    """What there is to know of a model, and of its weights trained on Kinetics-400, before it is loaded."""

    file: str  # of its weights; the name ends with the first digits of the hash
    stack_size: int = 16  # frames that it was trained with
    least: int = 1  # frames that it takes: torchvision's `min_temporal_size`
    takes_more: bool = True  # not where it has a position for each of so many frames
    ported_from: str = ""  # whose the weights are, and their licence, where torchvision did not train them


PYTORCHVIDEO, SLOWFAST, SWIN = (f"{name}, Apache-2.0" for name in ("PyTorchVideo", "SlowFast", "Video Swin"))
MODELS = {
    "r3d_18": Model("r3d_18-b3b3357e.pth"),
    "mc3_18": Model("mc3_18-a90a0ba3.pth"),
    "r2plus1d_18": Model("r2plus1d_18-91a641e6.pth"),
    "s3d": Model("s3d-d76dad2f.pth", least=14),
    "mvit_v1_b": Model("mvit_v1_b-dbeb1030.pth", least=16, takes_more=False, ported_from=PYTORCHVIDEO),
    "mvit_v2_s": Model("mvit_v2_s-ae3be167.pth", least=16, takes_more=False, ported_from=SLOWFAST),
    "swin3d_t": Model("swin3d_t-7615ae03.pth", stack_size=32, ported_from=SWIN),
    "swin3d_s": Model("swin3d_s-da41c237.pth", stack_size=32, ported_from=SWIN),
    "swin3d_b": Model("swin3d_b_1k-24f7c7c6.pth", stack_size=32, ported_from=SWIN),
}


@dataclass(frozen=True, kw_only=True)
class Config(StackOptions, CropOptions, ClassOptions, PrecisionOptions, WeightsOptions):
    """The options of torchvision's video models."""

    title = "torchvision's video models"
    summary: ClassVar[str] = "512 to 1024 numbers a stack of frames from a video model of torchvision (Kinetics)"
    media_suffixes: ClassVar[frozenset[str]] = VIDEO_SUFFIXES
    suffixes: ClassVar[tuple[str, ...]] = ("torchvision",)
    required: ClassVar[tuple[str, ...]] = ("model_name",)
    network_paths: ClassVar[tuple[str, ...]] = ("checkpoint",)

    model_name: str = option(None, "which model", choices=tuple(MODELS), changes_features=True)
    stack_size: int = option(
        None,
        "frames a feature is made of (default: what the model was trained with: 16, and swin3d 32)",
        type=int,
        metavar="N",
        changes_features=True,
    )
    step_size: int = option(
        None,
        "frames from one stack's start to the next one's (default: those of a stack)",
        type=int,
        metavar="N",
        changes_features=True,
    )
    checkpoint: str | None = option(None, "checkpoint of the model, in place of the published one", metavar="PTH")

    def __post_init__(self) -> None:
        if self.model_name is not None and self.model_name not in MODELS:
            raise ValueError(f"--model_name {self.model_name}: must be one of {', '.join(MODELS)}")
        model = MODELS.get(self.model_name, Model(""))
        if self.stack_size is None:
            object.__setattr__(self, "stack_size", model.stack_size)
        if self.step_size is None:
            object.__setattr__(self, "step_size", self.stack_size)
        super().__post_init__()
        if self.stack_size < model.least or (self.stack_size > model.least and not model.takes_more):
            number = f"at least {model.least}" if model.takes_more else f"exactly {model.least}"
            raise ValueError(f"--stack_size {self.stack_size}: {self.model_name} takes {number} frames")

    def weights_wanted(self) -> WantedWeights:
        model = MODELS[self.model_name]
        published = WeightsFile(
            title=self.model_name,
            path=hub_folder() / model.file,
            urls=(f"{HOME}/{model.file}",),
            licence="BSD-3-Clause" + (f", ported from {model.ported_from}" if model.ported_from else ""),
            sha256=Path(model.file).stem.rpartition("-")[2],
        )
        return {"checkpoint": (published, self.checkpoint)}


def hub_folder() -> Path:
    """Return where torchvision keeps the weights that it downloads: `torch.hub.get_dir()`, and in it `checkpoints`."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))
    return Path(os.path.expanduser(home), "hub", "checkpoints")
