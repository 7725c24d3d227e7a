"""Fixtures: the weights that stand in for the published ones, and material that lies beside the checkout."""

import os
from pathlib import Path

import pytest
import torch

from tests import seeded

REPOSITORY = Path(__file__).parent.parent
SHARED = REPOSITORY.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference material beside the checkout. Where it is absent its tests skip, and in CI they fail."""
    if not SHARED.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{SHARED} is absent")
        pytest.skip("needs the reference material, which lies beside the checkout of those who develop this")
    return SHARED


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Checkpoints in the published format, by the name of the option that takes them."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for name in seeded.SEEDS:
        torch.save(seeded.state_dict(name), folder / f"{name}.pt")
    return {f"{name}_path": str(folder / f"{name}.pt") for name in seeded.SEEDS}


@pytest.fixture(autouse=True, scope="session")
def _no_gradients() -> None:
    torch.set_grad_enabled(False)
