"""Features of I3D -> the likeliest Kinetics classes, for people to read."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from models.i3d import Config
from models.i3d.checkpoint import our_key
from models.i3d.net import CHANNELS, I3D, NUM_CLASSES, VARIANTS
from utils.errors import CannotStartError, MediaError
from utils.media.options import DecodeOptions
from utils.media.video import Video
from utils.weights.checkpoint import load_or_randomize

NUM_SHOWN = 5


@cache
def class_names(path: str | None) -> list[str]:
    """Return the 400 Kinetics classes in the order of I3D's logits: from a file, one a line, or from torchvision.

    Raises ValueError, which names the option.
    """
    if path is None:
        from torchvision.models.video import R3D_18_Weights

        return list(R3D_18_Weights.KINETICS400_V1.meta["categories"])
    try:
        with open(path, encoding="utf-8-sig") as file:
            names = [line.strip() for line in file if line.strip()]
    except FileNotFoundError as error:
        raise ValueError(f"--kinetics_class_labels: no such file: {path}") from error
    if len(names) != NUM_CLASSES:
        raise ValueError(f"--kinetics_class_labels {path}: {len(names)} class names, not {NUM_CLASSES}")
    return names


@torch.inference_mode()
def describe_saved(config: Config, path: str, outputs: Sequence[str]) -> str:
    """Return the predictions of features saved in `outputs`, by the weights that `config` names.

    The video is opened for its frame rate only. Where a tail ends is not known, so spans have no end. Raises
    CannotStartError for weights and class names that cannot be used.
    """
    try:
        names = class_names(config.kinetics_class_labels)
    except ValueError as error:
        raise CannotStartError(str(error)) from error
    logits = torch.zeros(())
    for stream, output in zip(config.streams, outputs, strict=True):
        classifier = load_classifier(stream, getattr(config, f"i3d_{stream}_path"))
        features = torch.from_numpy(np.load(output)).float()
        logits = logits + classifier(features[:, :, None, None, None]).flatten(1)
    try:
        with Video(path, config.min_side_size, config.extraction_fps, DecodeOptions(allow_partial=True)) as video:
            spans = [(float(i * config.step_size / video.fps), None) for i in range(len(logits))]
    except MediaError as error:
        return f"{path}\n  {error}"
    return f"{path}\n{describe(logits, spans, names)}"


@cache
def load_classifier(stream: str, path: str | None) -> nn.Conv3d:
    """Load the last layer of a stream's network, which is the same in both variants. Raises WeightsError."""
    return load_or_randomize(I3D(CHANNELS[stream], VARIANTS["ancestor"]), path, our_key).classifier


def describe(logits: Tensor, spans: Sequence[tuple[float, float | None]], names: Sequence[str]) -> str:
    """Return lines for each stack: its time span, then logit, probability and name of the five likeliest classes."""
    lines = []
    for row, (begin, end) in zip(logits.cpu(), spans, strict=True):
        lines.append(f"  from {begin:.2f} s" if end is None else f"  {begin:.2f} - {end:.2f} s")
        probabilities = row.softmax(dim=0)
        for index in row.topk(NUM_SHOWN).indices.tolist():
            lines.append(f"    {row[index]:9.3f}  {probabilities[index]:.4f}  {names[index]}")
    return "\n".join(lines)
