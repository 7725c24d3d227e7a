"""The extractors, a folder each; see `models/base.py` for what one is. Imports no torch."""

import dataclasses
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from models.base import Config, Extractor
from utils.devices import resolve
from utils.media.options import DecodeOptions
from utils.video_list import stem_of

if TYPE_CHECKING:
    from utils.results import Features

EXTRACTORS = {
    "i3d": "models.i3d",
    "vggish": "models.vggish",
    "flow": "models.flow",
    "timm": "models.timm",
    "torchvision": "models.torchvision",
}


def load_config(name: str) -> type[Config]:
    """Return the class of an extractor's options."""
    config: type[Config] = importlib.import_module(EXTRACTORS[name]).Config
    return config


def load_extractor(name: str) -> type[Extractor]:
    """Return the class of an extractor; imports torch."""
    extractor_class: type[Extractor] = importlib.import_module(f"{EXTRACTORS[name]}.extract").Extractor
    return extractor_class


def extractor(name: str, device: str | None = None, **options: Any) -> "Callable[[str], Features]":
    """Return a function from the path of a video to its features, as the program would save them.

    `device` is `cpu`, or `cuda:0` and the like; by default the first GPU, or else the CPU. `options` are those of the
    command line: the extractor's own, `max_pixels`, `max_loss` and `allow_partial`. Weights are downloaded and verified
    as by the program. No process is started. Of PyTorch's global state it turns off TF32 and, in matrix products, sums
    of reduced precision; `docs/running.md` names the flags.

    The function raises ExtractionError (`utils/errors.py`) for a video that cannot be used. This one raises ValueError
    for wrong options and devices, and CannotStartError where there are no weights.
    """
    from models.extraction import frames_folder, with_weights  # NumPy and more, which --help does without

    if name not in EXTRACTORS:
        raise ValueError(f"{name}: no such extractor; there are {', '.join(EXTRACTORS)}")
    device = resolve(None if device is None else [device.removeprefix("cuda:")])[0]
    shared = {field.name for field in dataclasses.fields(DecodeOptions)} & options.keys()
    decode = DecodeOptions(**{option: options.pop(option) for option in shared})
    config = load_config(name)(**options)
    config.check_devices([device])
    ready = load_extractor(name)(with_weights(config)[0], device)
    return lambda path: ready.extract(path, decode, frames_folder(config, stem_of(path)))
