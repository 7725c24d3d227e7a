"""The Kinetics classes, which networks that were trained on them tell."""

from collections.abc import Mapping
from functools import cache

import numpy as np
from torch import Tensor

from utils.results import Arrays, Predictions

NUM_CLASSES = 400


@cache
def class_names(path: str | None) -> list[str]:
    """Return the 400 Kinetics classes in the order of the networks' logits: from a file, one a line, or torchvision's.

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


def mean_of_crops(rows: Tensor) -> Tensor:
    """Return features (N, D), float32, of the features of each crop, (N, K, D), or of rows (N, D) as they are."""
    rows = rows.float()
    return rows.mean(dim=1) if rows.dim() == 3 else rows


def predictions(logits: Mapping[str, Tensor], labels: str | None) -> Predictions:
    """Return what the logits (N, 400) of each stream tell, and those of all streams together.

    `labels` is as for `class_names`. Raises ValueError.
    """
    arrays: Arrays = {stream: of_stream.float().cpu().numpy() for stream, of_stream in logits.items()}
    if len(arrays) > 1:
        arrays["both"] = np.sum(list(arrays.values()), axis=0)
    return Predictions(class_names(labels), arrays)
