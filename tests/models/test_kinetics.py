"""What logits of Kinetics classes tell."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.kinetics import class_names, mean_of_crops, predictions
from utils.outputs.writers import describe_predictions


def test_both_streams_together_tell_the_sum_of_their_logits() -> None:
    logits = {"rgb": torch.zeros(1, 400), "flow": torch.zeros(1, 400)}
    logits["rgb"][0, 7], logits["flow"][0, [7, 9]] = 2.0, torch.tensor([1.0, 2.5])
    told = predictions(logits, None)
    assert list(told.logits) == ["rgb", "flow", "both"]
    expected = np.exp([3.0, 2.5]) / (np.exp(3.0) + np.exp(2.5) + 398)
    np.testing.assert_allclose(told.probabilities["both"][0, [7, 9]], expected, rtol=1e-6)
    lines = describe_predictions(told, [(0.0, 2.56)]).splitlines()
    assert lines[0] == "  0.00 - 2.56 s"
    assert lines[1].split(maxsplit=2) == ["3.000", f"{expected[0]:.4f}", class_names(None)[7]]
    assert len(lines) == 6


def test_rows_whose_times_are_lost_are_numbered() -> None:
    assert describe_predictions(predictions({"rgb": torch.zeros(2, 400)}, None), None).splitlines()[6] == "  row 2"


def test_crops_are_told_as_their_mean() -> None:
    rows = torch.rand(3, 10, 8, dtype=torch.float16)
    np.testing.assert_allclose(mean_of_crops(rows), rows.float().numpy().mean(axis=1), rtol=1e-6)
    assert torch.equal(mean_of_crops(rows[:, 0]), rows[:, 0].float())


def test_a_file_of_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("archery\n\nbowling\n")
    with pytest.raises(ValueError, match=r"--kinetics_class_labels .*labels\.txt: 2 class names, not 400"):
        class_names(str(tmp_path / "labels.txt"))
    with pytest.raises(ValueError, match="--kinetics_class_labels: no such file: nowhere"):
        class_names("nowhere")
