"""References of the tests: data beside the repository, and independent libraries."""

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from torch import Tensor

Array = npt.NDArray[Any]

REPOSITORY = Path(__file__).parents[2]
IN_CI = os.environ.get("CI") == "true"
NEWEST_PYTHON_OF_TENSORFLOW = (3, 13)


def shared(*parts: str) -> Path:
    """Return the path of reference data beside the repository; without it, CI fails and others skip."""
    path = REPOSITORY.parent.joinpath("shared", *parts)
    if not path.exists():
        (pytest.fail if IN_CI else pytest.skip)(f"no reference data: {path}")
    return path


def oracle(name: str) -> Any:
    """Import an independent library; where it should be installed and is not, CI fails and others skip."""
    is_expected = name != "tensorflow" or sys.version_info[:2] <= NEWEST_PYTHON_OF_TENSORFLOW
    return importlib.import_module(name) if IN_CI and is_expected else pytest.importorskip(name)


def relative_difference(ours: Array | Tensor, expected: Array | Tensor) -> float:
    ours, expected = np.asarray(ours), np.asarray(expected)
    assert ours.shape == expected.shape
    return float(np.linalg.norm(ours - expected) / np.linalg.norm(expected))


def cosines(ours: Array, expected: Array) -> Array:
    """Return the cosine (N,) between each row (N, D) and that of the same index."""
    assert ours.shape == expected.shape
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(expected, axis=1)
    of_rows: Array = (ours * expected).sum(axis=1) / lengths
    return of_rows
