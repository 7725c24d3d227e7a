"""Fixtures: the weights that stand in for the published ones, and material that lies beside the checkout."""

import os
from pathlib import Path

import pytest
import torch

from tests.helpers import oracles, seeded


def pytest_configure() -> None:
    if not torch.cuda.is_available():
        os.environ["TRITON_INTERPRET"] = "1"  # before anything imports Triton


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference material beside the checkout."""
    return oracles.shared()


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Checkpoints in the published format, by the name of the option that takes them."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for name in seeded.OF_I3D:
        torch.save(seeded.state_dict(name), folder / f"{name}.pt")
    return {f"{name}_path": str(folder / f"{name}.pt") for name in seeded.OF_I3D}


@pytest.fixture(autouse=True, scope="session")
def _no_gradients() -> None:
    torch.set_grad_enabled(False)
