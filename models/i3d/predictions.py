"""Kinetics logits -> the likeliest classes, for people to read."""

from collections.abc import Sequence

from torch import Tensor

from models.i3d.net import NUM_CLASSES

NUM_SHOWN = 5


def class_names(path: str | None) -> list[str]:
    """The 400 Kinetics classes in the order of I3D's logits: from a file, one a line, or from torchvision."""
    if path is None:
        from torchvision.models.video import R3D_18_Weights

        return list(R3D_18_Weights.KINETICS400_V1.meta["categories"])
    with open(path, encoding="utf-8-sig") as file:
        names = [line.strip() for line in file if line.strip()]
    if len(names) != NUM_CLASSES:
        raise ValueError(f"--kinetics_class_labels {path}: {len(names)} class names, not {NUM_CLASSES}")
    return names


def describe(logits: Tensor, spans: Sequence[tuple[float, float]], names: Sequence[str]) -> str:
    """For each stack, from its logits (N, 400): time span, then logit, probability and name of the top five."""
    lines = []
    for row, (begin, end) in zip(logits, spans, strict=True):
        lines.append(f"  {begin:.2f} - {end:.2f} s")
        probabilities = row.softmax(dim=0)
        for index in row.topk(NUM_SHOWN).indices.tolist():
            lines.append(f"    {row[index]:9.3f}  {probabilities[index]:.4f}  {names[index]}")
    return "\n".join(lines)
