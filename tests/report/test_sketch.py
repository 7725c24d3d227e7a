"""What a worker keeps of a video to show: frames that carry their number, against the stacks themselves."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from utils.report.sketch import MOST_COLUMNS, MOST_SHOWN, SIDE, Sketch
from utils.results import Span
from utils.stacks import Stack, stacks


def numbered(number: int) -> Tensor:
    """A frame whose three channels tell its number; its centre has that, and its border nothing."""
    frame = torch.zeros(3, 16, 20, dtype=torch.uint8)
    frame[:, 4:12, 6:14] = torch.tensor([number // 65536, number // 256 % 256, number % 256])[:, None, None]
    return frame


def watch(num_frames: int, size: int, step: int, extra: int) -> tuple[Sketch, list[Stack[int]], list[Span]]:
    """Have frames and flows seen as an extractor does; return what was seen, the stacks, and their times at 25 fps."""
    sketch = Sketch(size, step, crop_size=8)
    seen = sketch.frames(numbered(i) for i in range(num_frames))
    made = list(stacks(range(num_frames), size + extra, step, cycle_tail=True))
    for stack, _ in zip(made, stacks(seen, size + extra, step, cycle_tail=True), strict=True):
        middle = stack.indices[min(len(stack.inside), size) // 2]
        sketch.add_flow(stack.row, torch.full((2, 16, 20), float(middle)))
    for _ in seen:  # what comes after the last stack
        pass
    return sketch, made, [stack.span(size, Fraction(25)) for stack in made]


SHAPES = [(1, 16, 8), (5, 16, 8), (16, 16, 8), (17, 16, 8), (60, 16, 8), (63, 16, 16), (64, 16, 20), (77, 16, 40)]
SHAPES += [(5, 1, 1), (4021, 16, 8), (1000, 9, 1)]


@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize(("num_frames", "size", "step"), SHAPES)
def test_the_frames_shown_are_those_in_the_middle_of_their_stacks(
    num_frames: int, size: int, step: int, extra: int
) -> None:
    sketch, made, spans = watch(num_frames, size, step, extra)
    strip = sketch.strip(spans)
    assert strip is not None
    assert strip.rows == list(range(0, len(made), strip.every)), "every k-th row, from the first on"
    assert min(len(made), MOST_SHOWN // 2) < len(strip.rows) + 1 <= MOST_SHOWN + 1
    high, middle, low = strip.frames.astype(int).transpose(3, 0, 1, 2)
    numbers = high * 65536 + middle * 256 + low
    assert strip.frames.shape == (len(strip.rows), SIDE, SIDE, 3)
    expected = [made[row].indices[min(len(made[row].inside), size) // 2] for row in strip.rows]
    assert (numbers == np.array(expected)[:, None, None]).all(), "and nothing of what is outside the crop"
    assert strip.flows is not None
    assert (strip.flows == np.array(expected)[:, None, None, None]).all()


def test_a_second_try_forgets_the_first_one() -> None:
    sketch = Sketch(2, 2, 8)
    for last in (9, 4):
        for _ in sketch.frames(numbered(100 * last + i) for i in range(last)):
            pass
    strip = sketch.strip([(0.0, 2.0), (2.0, 4.0)])
    assert strip is not None
    assert strip.frames[:, 0, 0, 2].tolist() == [401 % 256, 403 % 256]
    assert strip.flows is None


@pytest.mark.parametrize("num_rows", [1, 20, 300])
def test_sound_is_the_mean_of_what_has_no_room(num_rows: int) -> None:
    patches = torch.rand(num_rows, 96, 64)
    sketch = Sketch(1, 1, 1)
    assert sketch.sound_seen() is None
    for _ in range(2):  # the second time as the only one
        assert torch.equal(torch.cat(list(sketch.sound(iter(torch.split(patches, 7)), "low", "high"))), patches)
    sound = sketch.sound_seen()
    assert sound is not None
    assert (sound.lowest, sound.highest) == ("low", "high")
    rows, width, _ = sound.levels.shape
    assert (rows, sound.share) == (num_rows, 1)
    assert width == 96 or num_rows * width <= MOST_COLUMNS < 2 * num_rows * width
    means = patches.numpy().reshape(num_rows, width, -1, 64).mean(axis=2)
    np.testing.assert_allclose(sound.levels, means, atol=1e-6)


@pytest.mark.parametrize(("step", "num_rows"), [(1, 5), (32, 1), (32, 5), (29, 4), (95, 3), (96, 3), (150, 3)])
def test_sound_of_rows_that_overlap_is_seen_once(step: int, num_rows: int) -> None:
    columns = torch.arange(96.0 + (num_rows - 1) * step)[:, None].expand(-1, 64)
    patches = columns.unfold(0, 96, step).transpose(1, 2)
    sketch = Sketch(1, 1, 1)
    for _ in sketch.sound(torch.split(patches, 2), "low", "high", step):
        pass
    sound = sketch.sound_seen()
    assert sound is not None
    shown = min(step, 96)
    assert sound.share == shown / 96
    starts = [i * step for i in range(num_rows)] + list(range(num_rows * step, len(columns) - shown + 1, shown))
    assert sound.levels[:, :, 0].tolist() == [list(range(start, start + shown)) for start in starts]
