"""Middlebury's colours of flow, by the arithmetic of their definition."""

import numpy as np
import pytest

from utils.flow_colours import colour_flow, colour_wheel

WHEEL = {  # of 55 colours, 54 steps a turn, clockwise from the right
    (1, 0): (1, 0, 0),
    (0, 1): (1, 13.5 / 15, 0),  # down, 13.5 steps on, of 15 from red to yellow
    (-1, 0): (0, 1 - 2 / 11, 1),  # 27 steps on: 25 to cyan, and 2 of 11 to blue
    (0, -1): (4.5 / 13, 0, 1),  # 40.5 steps on: 36 to blue, and 4.5 of 13 to magenta
}


def colour(x: float, y: float, scale: float = 1.0) -> list[int]:
    flow = np.array([x, y], np.float32)[:, None, None]
    levels: list[int] = colour_flow(flow, scale)[0, 0].tolist()
    return levels


@pytest.mark.parametrize(("direction", "full"), WHEEL.items())
def test_the_hue_tells_the_direction_and_fullness_the_length(
    direction: tuple[float, float], full: tuple[float, ...]
) -> None:
    x, y = direction
    for length in (0.0, 0.25, 1.0):
        expected = [255 * (1 - length * (1 - part)) for part in full]
        assert colour(3 * length * x, 3 * length * y, scale=3) == pytest.approx(expected, abs=1)
    assert colour(2 * x, 2 * y) == pytest.approx([0.75 * 255 * part for part in full], abs=1), "beyond the scale"


def test_hues_change_little_from_one_direction_to_the_next() -> None:
    angles = np.linspace(-np.pi, np.pi, 361)[1:]
    rim = colour_flow(np.stack([np.cos(angles), np.sin(angles)])[:, None].astype(np.float32) * 0.999, 1.0)[0].astype(
        int
    )
    assert np.abs(np.diff(rim, axis=0, append=rim[:1])).max() < 50
    assert len(np.unique(rim, axis=0)) > 200


def test_the_wheel_is_white_in_the_middle_and_outside() -> None:
    wheel = colour_wheel(65)
    assert wheel.shape == (65, 65, 3)
    assert (wheel[32, 32] == 255).all()
    assert (wheel[[0, 0, -1, -1], [0, -1, 0, -1]] == 255).all()
    assert wheel[32, 63, 0] > 250
    assert wheel[32, 63, 1:].max() < 10


def test_flow_that_is_no_number_is_shown_as_none() -> None:
    assert colour(float("nan"), float("nan")) == [255, 255, 255]
