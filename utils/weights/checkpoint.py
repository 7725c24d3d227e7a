"""Checkpoints -> networks, strictly; or untrained weights, for trying the program out."""

import math
import pickle
import textwrap
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from utils.errors import WeightsError

Network = TypeVar("Network", bound=nn.Module)

MAGIC = (b"PK\x03\x04", b"\x80")  # what checkpoints begin with, as zip files and as pickles of before PyTorch 1.6
MAX_ERROR_LENGTH = 300


def load_weights(network: nn.Module, path: Path, our_key: Callable[[str], str]) -> None:
    """Fill `network` with a published state dict, whose keys `our_key` turns into the network's own.

    Strict: every entry must be there with its shape, and no other. Only tensors are unpickled. Raises WeightsError.
    """
    no_tensors = f"{path}: not a plain state dict of tensors"
    try:
        with open(path, "rb") as file:
            if not file.read(4).startswith(MAGIC):
                raise WeightsError(f"{path}: not a PyTorch checkpoint")
        published = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError) as error:
        is_whole = isinstance(error, pickle.UnpicklingError) and zipfile.is_zipfile(path)
        raise WeightsError(no_tensors if is_whole else f"{path}: a checkpoint that is cut off or damaged") from error
    if not isinstance(published, dict) or not all(isinstance(entry, Tensor) for entry in published.values()):
        raise WeightsError(no_tensors)
    fill_weights(network, published, path, our_key)


def fill_weights(
    network: nn.Module, published: Mapping[str, Tensor], path: Path, our_key: Callable[[str], str]
) -> None:
    """Fill `network` with the entries of a checkpoint that was read from `path`, as strictly as `load_weights`."""
    problem = f"{path}: not weights of {type(network).__name__}"
    state = {}
    for key, entry in published.items():
        try:
            state[our_key(key)] = entry
        except (LookupError, ValueError) as error:
            raise WeightsError(f"{problem}: unknown entry {key!r}") from error
    try:
        network.load_state_dict(state)
    except RuntimeError as error:  # which names every entry that is missing, too many, or of another shape
        raise WeightsError(f"{problem}: {textwrap.shorten(str(error), MAX_ERROR_LENGTH)}") from error


def randomize_weights(network: nn.Module, seed: int) -> None:
    """Give `network` untrained weights, the same at every call: He-normal kernels, no biases."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.dim() > 1:
                spread = math.sqrt(2 / parameter[0].numel())
                parameter.copy_(spread * torch.randn(parameter.shape, generator=generator))
            elif name.endswith("bias"):
                parameter.zero_()


def load_or_randomize(network: Network, path: str | None, our_key: Callable[[str], str]) -> Network:
    """Return `network` for inference, with the weights of a checkpoint, or with untrained ones. Raises WeightsError."""
    if path is None:
        randomize_weights(network, seed=0)
    else:
        load_weights(network, Path(path), our_key)
    return network.eval()
