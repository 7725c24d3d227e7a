"""What timm knows of its models: their names, and where their weights are.

The weights of nearly all lie on Hugging Face's hub, whose library downloads them; of some on other servers. They are
kept where timm keeps them, in the hub's cache or that of torch.hub, which other programs share.
"""

import difflib
import os
import re
import textwrap
from functools import partial
from pathlib import Path

import huggingface_hub
import timm
import torch
from huggingface_hub.errors import EntryNotFoundError, HTTPError, LocalEntryNotFoundError
from timm.models import PretrainedCfg

from utils.errors import UnreachableError, WeightsError
from utils.weights.checkpoint import MAX_ERROR_LENGTH
from utils.weights.published import LibraryWeights, PublishedWeights, WeightsFile

HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # timm's names, in the order of its preference


def list_names(pattern: str) -> list[str]:
    """Return the names of the models with published weights, all or those like a pattern. Raises ValueError."""
    names: list[str] = timm.list_models(pattern, pretrained=True)
    if not names:
        raise ValueError(f"--model_name list {pattern}: no name is like that; 'resnet*' stands for all that begin so")
    return names


def find_config(name: str) -> PretrainedCfg:
    """Return what timm knows of the model of a name. Raises ValueError where there is none."""
    names = {*timm.list_models(), *timm.list_models(include_tags=True)}
    if name not in names:
        close = difflib.get_close_matches(name, names, n=3)
        meant = f"did you mean {' or '.join(close)}?" if close else "see --model_name list"
        raise ValueError(f"--model_name {name}: timm {timm.__version__} has no such model; {meant}")
    config = timm.get_pretrained_cfg(name)
    assert config is not None  # as for all that are listed
    return config


def find_weights(name: str) -> PublishedWeights:
    """Return the record of a model's published weights."""
    config = find_config(name)
    title = ".".join(filter(None, [config.architecture, config.tag]))
    licence = config.license or "licence unknown"
    if not config.hf_hub_id:
        folder, file = Path(torch.hub.get_dir(), "checkpoints"), os.path.basename(config.url or "")
        hashed = re.search("-([0-9a-f]{8,})[.]", file)  # not in all names
        return WeightsFile(title, folder / file, (config.url or "",), licence, sha256=hashed[1] if hashed else "")
    repository, folder = config.hf_hub_id, Path(huggingface_hub.constants.HF_HUB_CACHE)
    find, fetch = partial(_find_on_hub, repository), partial(_fetch_from_hub, repository)
    return LibraryWeights(title, folder, _hub_url(repository), licence, find, fetch)


def _hub_url(repository: str) -> str:
    return f"{huggingface_hub.constants.ENDPOINT}/{repository}/resolve/main/{HUB_FILES[0]}"


def _find_on_hub(repository: str) -> Path | None:
    found = [huggingface_hub.try_to_load_from_cache(repository, name) for name in HUB_FILES]
    return next((Path(path) for path in found if isinstance(path, str)), None)


def _fetch_from_hub(repository: str) -> Path:
    """Have the hub's library download the file, which locks it, resumes it, and puts it in place whole."""
    for name in HUB_FILES:
        try:
            return Path(huggingface_hub.hf_hub_download(repository, name))
        except LocalEntryNotFoundError as error:
            cause = error.__cause__ or error
            kind = WeightsError if hasattr(cause, "response") else UnreachableError  # without any answer
            raise kind(f"{_hub_url(repository)}: {cause}") from error
        except EntryNotFoundError:
            continue
        except (OSError, HTTPError) as error:
            told = textwrap.shorten(str(error), MAX_ERROR_LENGTH)
            raise WeightsError(f"{_hub_url(repository)}: {told}") from error
    raise WeightsError(f"{_hub_url(repository)}: not there, nor another of {', '.join(HUB_FILES)}")
