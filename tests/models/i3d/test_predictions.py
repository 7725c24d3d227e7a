"""Kinetics classes of features that were saved before."""

from pathlib import Path

import numpy as np
import pytest

from models.i3d import STREAMS, Config
from models.i3d.predictions import class_names, describe_saved
from tests.helpers import seeded
from tests.helpers.clips import write_clip
from utils.errors import CannotStartError


def test_saved_features_are_classified_by_the_last_layers_of_both_networks(
    checkpoints: dict[str, str], tmp_path: Path
) -> None:
    logits, outputs = np.zeros((2, 400)), []
    for stream in STREAMS:
        rows = np.random.default_rng(0).random((2, 1024), np.float32)
        np.save(tmp_path / f"{stream}.npy", rows)
        outputs.append(str(tmp_path / f"{stream}.npy"))
        state = seeded.state_dict(f"i3d_{stream}")
        weight, bias = (state[f"conv3d_0c_1x1.conv3d.{kind}"].double().numpy() for kind in ("weight", "bias"))
        logits += rows @ weight.reshape(400, 1024).T + bias
    path = str(write_clip(tmp_path / "a clip.mp4", np.zeros((2, 32, 32, 3), np.uint8)))
    lines = describe_saved(Config(**checkpoints), path, outputs).splitlines()  # type: ignore[arg-type]
    shown = [float(line.split()[0]) for line in lines if line.startswith("    ")]
    np.testing.assert_allclose(shown, -np.sort(-logits, axis=1)[:, :5].ravel(), atol=1e-3)
    assert [lines[0], lines[1], lines[7]] == [path, "  from 0.00 s", "  from 2.56 s"]
    classes = class_names(None)
    assert [line.split(maxsplit=2)[2] for line in lines[2:7]] == [classes[i] for i in np.argsort(-logits[0])[:5]]


def test_a_file_of_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("archery\n\nbowling\n")
    with pytest.raises(ValueError, match=r"--kinetics_class_labels .*labels\.txt: 2 class names, not 400"):
        class_names(str(tmp_path / "labels.txt"))
    with pytest.raises(CannotStartError, match="2 class names, not 400"):
        describe_saved(Config(kinetics_class_labels=str(tmp_path / "labels.txt")), "a.mp4", [])
    with pytest.raises(ValueError, match="--kinetics_class_labels: no such file: nowhere"):
        class_names("nowhere")
