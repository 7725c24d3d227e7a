"""Kinetics classes of features that were saved before."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.i3d import Config
from models.i3d.extract import Extractor
from models.i3d.predictions import class_names, classify_saved, describe_saved
from tests.helpers import seeded
from tests.helpers.clips import write_clip
from utils.media.options import DecodeOptions


def test_saved_features_are_classified_by_the_last_layers_of_both_networks(checkpoints: dict[str, str]) -> None:
    features = {stream: np.random.default_rng(0).random((3, 1024), np.float32) for stream in ("rgb", "flow")}
    logits = classify_saved(features, {stream: checkpoints[f"i3d_{stream}_path"] for stream in features})
    expected = np.zeros((3, 400))
    for stream, rows in features.items():
        state = seeded.state_dict(f"i3d_{stream}")
        weight, bias = (state[f"conv3d_0c_1x1.conv3d.{kind}"].double().numpy() for kind in ("weight", "bias"))
        expected += rows @ weight.reshape(400, 1024).T + bias
    torch.testing.assert_close(logits.double(), torch.from_numpy(expected), atol=1e-4, rtol=1e-5)


def test_predictions_of_saved_features_are_those_printed_when_they_were_extracted(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (19, 224, 224, 3), np.uint8)
    path = str(write_clip(tmp_path / "a clip.mp4", frames))
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"class {i}\n" for i in range(400)))
    shown = {"show_kinetics_pred": True, "kinetics_class_labels": str(labels)}
    config = Config(streams=("rgb",), stack_size=9, step_size=9, weights="random", **shown)  # type: ignore[arg-type]
    features = Extractor(config, "cpu").extract(path, DecodeOptions())
    np.save(tmp_path / "rgb.npy", features.arrays["rgb"])
    lines = describe_saved(config, path, [str(tmp_path / "rgb.npy")]).splitlines()
    before = features.report.splitlines()
    assert lines[0] == path
    assert lines[1::6] == ["  from 0.00 s", "  from 0.36 s"]
    del lines[1::6], before[::6]
    assert lines[1:] == before
    assert len(before) == 2 * 5


def test_a_file_of_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("archery\n\nbowling\n")
    with pytest.raises(ValueError, match=r"--kinetics_class_labels .*labels\.txt: 2 class names, not 400"):
        class_names(str(tmp_path / "labels.txt"))
    with pytest.raises(ValueError, match="--kinetics_class_labels: no such file: nowhere"):
        class_names("nowhere")
