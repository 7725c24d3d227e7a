"""I3D's published checkpoints: their files, and the names of their entries here."""

from pathlib import Path

from utils.weights.published import WeightsFile

_HOME = "https://github.com/hassony2/kinetics_i3d_pytorch/raw/786fbae/model"
_MIRROR = "https://github.com/v-iashin/video_features/raw/4fa02bd/models/i3d/checkpoints"


def _published(title: str, stream: str, git_blob: str) -> WeightsFile:
    return WeightsFile(
        title=title,
        path=Path(__file__).parent / "checkpoints" / f"i3d_{stream}.pt",
        urls=(f"{_HOME}/model_{stream}.pth", f"{_MIRROR}/i3d_{stream}.pt"),
        git_blob=git_blob,
        licence="MIT, converted from DeepMind's, Apache-2.0",
    )


RGB = _published("I3D RGB", "rgb", "2a7c22e23e6c74f50a0166ce61110bccd2ab48bb")
FLOW = _published("I3D flow", "flow", "5d552d2206f41089c428b0d9d8de3b1fccc85b5a")

# Parts of the published keys and their names in `I3D`; other parts keep their names.
_OUR_NAMES = {
    "conv3d_1a_7x7": "stem",
    "conv3d_2b_1x1": "point_2b",
    "conv3d_2c_3x3": "space_2c",
    "conv3d_0c_1x1.conv3d": "classifier",
    "branch_0": "point",
    "branch_1.0": "reduce_1",
    "branch_1.1": "space_1",
    "branch_2.0": "reduce_2",
    "branch_2.1": "space_2",
    "branch_3.1": "pool_point",
    "conv3d": "conv",
    "batch3d": "norm",
}


def our_key(published: str) -> str:
    """Return the name in `I3D` of an entry of the published state dicts.

    mixed_3b.branch_1.0.batch3d.running_mean -> mixed_3b.reduce_1.norm.running_mean
    """
    key = f".{published}."
    for theirs, ours in _OUR_NAMES.items():
        key = key.replace(f".{theirs}.", f".{ours}.")
    return key.strip(".")
