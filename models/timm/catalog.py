"""What timm knows of its models: their names, and where their weights are.

The weights of nearly all lie on Hugging Face's hub, of some on other servers. They are kept where timm keeps them, in
the hub's cache or that of torch.hub, which other programs share.
"""

import difflib
import os
import re
import textwrap
import urllib.error
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import huggingface_hub
import timm
import torch
from huggingface_hub.errors import EntryNotFoundError, HTTPError, LocalEntryNotFoundError
from timm.models import PretrainedCfg

from utils.errors import UnreachableError, WeightsError
from utils.weights.checkpoint import MAX_ERROR_LENGTH
from utils.weights.published import LibraryWeights

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


def find_weights(name: str) -> LibraryWeights:
    """Return the record of a model's published weights."""
    config = find_config(name)
    title = ".".join(filter(None, [config.architecture, config.tag]))
    licence = config.license or "licence unknown"
    if config.hf_hub_id:
        repository, _, revision = config.hf_hub_id.partition("@")
        names = (config.hf_hub_filename,) if config.hf_hub_filename else HUB_FILES
        place = _HubPlace(repository, revision or "main", names)
        folder = Path(huggingface_hub.constants.HF_HUB_CACHE)
        return LibraryWeights(title, folder, place.url, licence, place.find, place.fetch)
    if config.url:
        folder = Path(torch.hub.get_dir(), "checkpoints")
        path = folder / os.path.basename(urlsplit(config.url).path)
        find, fetch = partial(_find_file, path), partial(_fetch_file, config.url, path)
        return LibraryWeights(title, folder, config.url, licence, find, fetch)
    refuse = partial(_refuse, title)
    return LibraryWeights(title, Path(), "", licence, refuse, refuse)


class _HubPlace(NamedTuple):
    """The first of some files that is in a repository of the hub."""

    repository: str
    revision: str
    names: tuple[str, ...]

    @property
    def url(self) -> str:
        return f"{huggingface_hub.constants.ENDPOINT}/{self.repository}/resolve/{self.revision}/{self.names[0]}"

    def find(self) -> Path | None:
        for name in self.names:
            path = huggingface_hub.try_to_load_from_cache(self.repository, name, revision=self.revision)
            if isinstance(path, str):
                return Path(path)
        return None

    def fetch(self) -> Path:
        """Have the hub's library download the file, which locks it, resumes it, and puts it in place whole."""
        for name in self.names:
            try:
                return Path(huggingface_hub.hf_hub_download(self.repository, name, revision=self.revision))
            except LocalEntryNotFoundError as error:
                cause = error.__cause__ or error
                kind = WeightsError if hasattr(cause, "response") else UnreachableError  # no answer at all
                raise kind(f"{self.url}: {cause}") from error
            except EntryNotFoundError:
                continue
            except (OSError, HTTPError) as error:
                raise WeightsError(f"{self.url}: {textwrap.shorten(str(error), MAX_ERROR_LENGTH)}") from error
        raise WeightsError(f"{self.url}: not there, nor another of {', '.join(self.names)}")


def _find_file(path: Path) -> Path | None:
    return path if path.is_file() else None


def _fetch_file(url: str, path: Path) -> Path:
    """Have torch.hub download a file, which puts it in place whole, and checks it where its name has a hash."""
    match = re.search("-([0-9a-f]{8,})[.]", path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), match[1] if match else None)
    except urllib.error.HTTPError as error:
        raise WeightsError(f"{url}: {error}") from error
    except urllib.error.URLError as error:
        raise UnreachableError(f"{url}: {error.reason}") from error
    except (OSError, RuntimeError) as error:
        raise WeightsError(f"{url}: {error}") from error
    return path


def _refuse(title: str) -> Path:
    raise WeightsError(f"timm knows of no published weights of {title}: name a file with --checkpoint")
