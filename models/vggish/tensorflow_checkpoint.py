"""AudioSet's own checkpoint, which is TensorFlow's format V1: one file, a sorted table of named slices of tensors.

It is read by TensorFlow, which is imported only then.
"""

import os
from pathlib import Path

import torch
from torch import Tensor

from utils.errors import WeightsError

TABLE_MAGIC = bytes.fromhex("57fb808b247547db")  # the last bytes of a table in LevelDB's format


def is_tensorflow(path: Path) -> bool:
    """Return True for a TensorFlow V1 checkpoint, by its content. Raises WeightsError."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - len(TABLE_MAGIC)))
            return file.read() == TABLE_MAGIC
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror}") from error


def read(path: Path) -> dict[str, Tensor]:
    """Read the variables by name, with axes in PyTorch's order: (out, in) and (out, in, height, width).

    Raises WeightsError.
    """
    try:
        import tensorflow as tf
    except ImportError as error:
        raise WeightsError(
            f"{path} is a TensorFlow checkpoint, and TensorFlow is not installed: python -m pip install tensorflow; "
            "or leave out --vggish_model_path, for the same weights as published for PyTorch"
        ) from error
    try:
        reader = tf.train.load_checkpoint(str(path))
        variables = {name: torch.from_numpy(reader.get_tensor(name)) for name in reader.get_variable_to_shape_map()}
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise WeightsError(f"{path}: unreadable TensorFlow checkpoint: {error}") from error
    return {
        name: variable.movedim((-1, -2), (0, 1)) if variable.dim() > 1 else variable
        for name, variable in variables.items()
    }
