"""Embeddings -> AudioSet's published form of them: rotated by a PCA, quantized to 8 bits."""

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.vggish.net import NUM_FEATURES
from utils.errors import WeightsError

BOUND = 2.0  # of the rotated embeddings
NUM_STEPS = 255


PCA = tuple[Tensor, Tensor]
"""The rotation: eigen vectors (128, 128), one a row, and means (128,), float64."""


def load_pca(path: Path, device: torch.device) -> PCA:
    """Load AudioSet's .npz file. Raises WeightsError."""
    try:
        with np.load(path, allow_pickle=False) as file:
            eigen_vectors, means = file["pca_eigen_vectors"].astype(float), file["pca_means"].astype(float).squeeze()
    except (OSError, ValueError, LookupError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path}: unreadable PCA parameters: {error}") from error
    if (eigen_vectors.shape, means.shape) != ((NUM_FEATURES, NUM_FEATURES), (NUM_FEATURES,)):
        raise WeightsError(
            f"{path}: PCA parameters of shapes {eigen_vectors.shape} and {means.shape}, not for {NUM_FEATURES} features"
        )
    return torch.from_numpy(eigen_vectors).to(device), torch.from_numpy(means).to(device)


def postprocess(embeddings: Tensor, pca: PCA) -> Tensor:
    """Rotate embeddings (N, 128), clip them to [-2, 2] and scale that to 0 to 255, rounded down to uint8."""
    eigen_vectors, means = pca
    rotated = (embeddings.double() - means) @ eigen_vectors.T
    levels = (rotated.clamp(-BOUND, BOUND) + BOUND) * (NUM_STEPS / (2 * BOUND))
    return levels.to(torch.uint8)
