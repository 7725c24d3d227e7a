"""Fixtures of the VGGish tests, which name this file in `pytest_plugins`."""

from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
import torch

from tests.helpers import seeded
from tests.helpers.oracles import Array, shared


@pytest.fixture(scope="session")
def reference() -> dict[str, Array]:
    with np.load(shared("reference", "vggish.npz")) as file:
        return dict(file)


@pytest.fixture(scope="session")
def clip() -> str:
    return str(shared("videos", "v_GGSY1Qvo990.mp4"))


@pytest.fixture(scope="session")
def clip_samples(clip: str) -> npt.NDArray[np.int16]:
    """The clip's sound (samples,), 44.1 kHz, decoded here: it is AAC, mono, and starts with the first frame."""
    convert = av.AudioResampler("s16")
    with av.open(clip) as container:
        blocks = [block.to_ndarray()[0] for frame in container.decode(audio=0) for block in convert.resample(frame)]
    return np.concatenate(blocks)


@pytest.fixture(scope="session")
def seeded_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PyTorch checkpoint of stand-in weights, with a suffix of no known kind."""
    path = tmp_path_factory.mktemp("weights") / "seeded weights.ckpt"
    torch.save(seeded.state_dict("vggish"), path)
    return path
