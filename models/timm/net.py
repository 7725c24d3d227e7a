"""timm's models, and which of their outputs are features."""

import textwrap
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from timm.models import PretrainedCfg
from torch import Tensor, nn

from models.timm import Config
from models.timm.catalog import find_config
from utils.errors import WeightsError
from utils.weights.checkpoint import MAX_ERROR_LENGTH

UNREADABLE = (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, EOFError, SafetensorError)


class Embedder(nn.Module):
    """A model that gives features. Raises ValueError where it has none of the kind that the options ask for.

    They are what timm calls pre-logits: pooled and normalized, as the classifier sees them. The towers of CLIP have a
    projection in the classifier's place, which is part of them.
    """

    def __init__(self, config: Config, model: Any) -> None:
        super().__init__()
        self.model = model
        known = find_config(config.model_name)
        has_projection = model.num_classes == known.num_classes > 0 and _is_projected(known)
        if config.keep_classifier and (has_projection or model.num_classes == 0):
            raise ValueError(f"--keep_classifier: {config.model_name} has no classifier")
        self.is_whole = config.keep_classifier or (has_projection and config.pooling == "model")
        if config.pooling != "model":
            try:
                model.reset_classifier(0, config.pooling)
            except (AssertionError, TypeError, ValueError) as error:
                what = {"avg": "mean over patches or pixels", "token": "class token"}[config.pooling]
                raise ValueError(f"--pooling {config.pooling}: {config.model_name} has no {what} ({error})") from error

    def forward(self, images: Tensor) -> Tensor:
        """Return the features (B, D) of preprocessed images (B, 3, H, W)."""
        if self.is_whole:
            features: Tensor = self.model(images)
        else:
            features = self.model.forward_head(self.model.forward_features(images), pre_logits=True)
        return features


def _is_projected(known: PretrainedCfg) -> bool:
    """Return True if a model's last layer projects into a space that it shares with texts: its outputs are no classes.

    timm says so nowhere, so that the names do: CLIP, MobileCLIP, Perception Encoder, but for those fine-tuned since.
    """
    name = f"{known.architecture}.{known.tag}"
    return ("clip" in name or "_pe_core_" in name) and timm.data.infer_imagenet_subset(known.to_dict()) is None


def check(config: Config) -> None:
    """Raise ValueError where there is no such model, or it cannot give what the options ask for.

    Raises WeightsError where it needs a file of weights from the user.
    """
    known = find_config(config.model_name)
    if config.weights == "pretrained" and config.checkpoint is None and not known.has_weights:
        raise WeightsError(f"timm knows of no published weights of {config.model_name}: name a file with --checkpoint")
    if config.keep_classifier and config.checkpoint is not None:
        return  # which may have a classifier where the published weights have none
    with torch.device("meta"), torch.inference_mode():  # shapes without numbers
        try:
            features = Embedder(config, timm.create_model(config.model_name).eval())(torch.empty(1, *known.input_size))
        except (NotImplementedError, TypeError) as error:  # of those that are parts of something else
            raise ValueError(f"--model_name {config.model_name}: gives no features of images ({error})") from error
    if features.dim() != 2:
        raise ValueError(f"--pooling model: {config.model_name} has no way of its own: choose avg or token")


def load_model(config: Config) -> Any:
    """Return the model with the weights of `config.checkpoint`, or with untrained ones. Raises WeightsError.

    timm unpickles only tensors and plain values, interpolates position embeddings for the model's size, and is strict
    about all else. The number of classes is that of the file.
    """
    if config.checkpoint is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return timm.create_model(config.model_name).eval()
    try:
        state = timm.models.load_state_dict(config.checkpoint)
    except UNREADABLE as error:
        raise WeightsError(f"{config.checkpoint}: not a readable file of tensors: {_shorten(error)}") from error
    classifier = find_config(config.model_name).classifier
    name = classifier if isinstance(classifier, str) else (classifier or ("",))[0]
    overlay: dict[str, object] = {"file": config.checkpoint}
    weight = state.get(f"{name}.weight")
    if weight is not None:
        overlay["num_classes"] = len(weight)
    del state
    try:
        return timm.create_model(config.model_name, pretrained=True, pretrained_cfg_overlay=overlay).eval()
    except UNREADABLE as error:
        raise WeightsError(f"{config.checkpoint}: not weights of {config.model_name}: {_shorten(error)}") from error


def _shorten(error: Exception) -> str:
    return textwrap.shorten(str(error), MAX_ERROR_LENGTH)
