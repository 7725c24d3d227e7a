"""Embeddings -> AudioSet's published form of them: rotated by a PCA, quantized to 8 bits."""

import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.vggish.net import NUM_FEATURES
from utils.errors import WeightsError

BOUND = 2.0  # of the rotated embeddings
NUM_STEPS = 255


class PCA(NamedTuple):
    """The rotation: `eigen_vectors` (128, 128), one a row, and `means` (128,), float64."""

    eigen_vectors: Tensor
    means: Tensor

    def to(self, device: torch.device) -> "PCA":
        return PCA(self.eigen_vectors.to(device), self.means.to(device))


def load_pca(path: Path) -> PCA:
    """Load AudioSet's .npz file. Raises WeightsError."""
    try:
        with np.load(path, allow_pickle=False) as file:
            pca = PCA(*(torch.from_numpy(file[f"pca_{name}"].astype(np.float64)) for name in PCA._fields))
    except (OSError, ValueError, LookupError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path}: unreadable PCA parameters: {error}") from error
    shapes = tuple(pca.eigen_vectors.shape), tuple(pca.means.squeeze().shape)
    if shapes != ((NUM_FEATURES, NUM_FEATURES), (NUM_FEATURES,)):
        raise WeightsError(
            f"{path}: PCA parameters of shapes {shapes[0]} and {shapes[1]}, not for {NUM_FEATURES} features"
        )
    return PCA(pca.eigen_vectors, pca.means.squeeze())


def postprocess(embeddings: Tensor, pca: PCA) -> Tensor:
    """Rotate embeddings (N, 128), clip them to [-2, 2] and scale that to 0 to 255, rounded down to uint8."""
    rotated = (embeddings.double() - pca.means) @ pca.eigen_vectors.T
    levels = (rotated.clamp(-BOUND, BOUND) + BOUND) * (NUM_STEPS / (2 * BOUND))
    return levels.to(torch.uint8)
