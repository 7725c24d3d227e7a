"""Stand-ins for the published weights, which the tests have no network to get: random, but the same everywhere.

The values are raw bits of the Philox generator, keyed by an entry's name, so that they depend on no library's
distributions. Kernels are a smooth bump plus some detail, and I3D's batch-norm statistics (`data/bn_stats.npz`) fit
them, so that activations keep a healthy spread. `data/synthetic.npz` holds what the reference implementation of the
networks computes with these weights for `synthetic_clip`.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

DATA = Path(__file__).parent / "data"
SEEDS = {"pwc": 1, "i3d_rgb": 2, "i3d_flow": 3, "vggish": 4}
OF_I3D = ("pwc", "i3d_rgb", "i3d_flow")
GAIN = 2.0
SMOOTH = 0.98
DETAIL = 0.19899748742132398  # SMOOTH**2 + DETAIL**2 == 1

Array = npt.NDArray[np.float64]


def state_dict(name: str) -> dict[str, Tensor]:
    """Make a stand-in for the published checkpoint `name` under its published keys."""
    shapes = json.loads((DATA / "state_dict_shapes.json").read_text())[name]
    state = {key: torch.from_numpy(_entry(key, tuple(shape), SEEDS[name])) for key, shape in shapes.items()}
    if name.startswith("i3d"):
        prefix = name.removeprefix("i3d_") + "/"
        statistics = np.load(DATA / "bn_stats.npz")
        state |= {
            key.removeprefix(prefix): torch.from_numpy(statistics[key])
            for key in statistics.files
            if key.startswith(prefix)
        }
    return state


def synthetic_clip() -> npt.NDArray[np.uint8]:
    """17 RGB frames (17, 3, 256, 341): a texture drifts and slowly grows while a disc crosses it."""
    frames = np.empty((17, 3, 256, 341), np.uint8)
    height, width = frames.shape[2:]
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    for t in range(len(frames)):
        zoom = 1 + 0.004 * t
        u = (x - width / 2) / zoom + width / 2 - 2.5 * t
        v = (y - height / 2) / zoom + height / 2 + 1.25 * t
        disc = 1 / (1 + np.exp((np.hypot(x - 60 - 9 * t, y - 128 + 3 * t) - 30) / 2))
        for c in range(3):
            texture = np.sin(u / (7 + c)) * np.cos(v / (11 - c)) + np.sin((u + v) / (23 + 3 * c))
            texture = texture + 0.5 * np.cos((u - 2 * v) / (5 + c))
            frames[t, c] = np.clip(np.round(128 + 45 * texture * (1 - disc) + (90 - 60 * c) * disc), 0, 255)
    return frames


def _entry(key: str, shape: tuple[int, ...], seed: int) -> npt.NDArray[np.float32] | npt.NDArray[np.int64]:
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    values = _uniform(key, shape, seed)
    if len(shape) == 1:
        is_scale = "batch3d" in key and key.endswith("weight")
        return np.asarray(1 + 0.5 * values if is_scale else 0.1 * values, np.float32)
    if "Upf" in key:  # transposed convolutions, (in, out, 4, 4), stride 2
        return np.asarray(values * np.sqrt(3 * GAIN / (shape[0] * 4)), np.float32)
    detail = values * np.sqrt(3 * GAIN / np.prod(shape[1:]))
    if np.prod(shape[2:]) == 1:
        return np.asarray(detail, np.float32)
    mixing = _uniform(f"{key}/mixing", shape[:2], seed) * np.sqrt(3 * GAIN / shape[1])
    return np.asarray(SMOOTH * np.multiply.outer(mixing, _bump(shape[2:])) + DETAIL * detail, np.float32)


def _uniform(key: str, shape: tuple[int, ...], seed: int) -> Array:
    """Values in [-1, 1)."""
    bits = np.random.Philox(key=[seed, zlib.crc32(key.encode())]).random_raw(int(np.prod(shape)))
    return ((bits >> np.uint64(11)).astype(np.float64) / 2**53 * 2 - 1).reshape(shape)


def _bump(shape: tuple[int, ...]) -> Array:
    """Make a smooth window that sums to 1."""
    window = np.ones(())
    for size in shape:
        axis = np.sin(np.pi * (np.arange(size) + 1) / (size + 1)) ** 2
        window = np.multiply.outer(window, axis / axis.sum())
    return window
