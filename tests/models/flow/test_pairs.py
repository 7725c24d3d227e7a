"""The encodings and flows of stacks, by a method that only records its calls."""

from collections import Counter
from itertools import islice, pairwise
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from models.flow import Encoded
from models.flow.pairs import PairFlows, fill_up, split_evenly
from utils.stacks import centered_stacks, stacks


class RecordingMethod:
    """Frames are filled with their number; the flow between two is (first, second) / 100."""

    fills_batches: ClassVar[bool] = True

    def __init__(self) -> None:
        self.encoded: Counter[int] = Counter()
        self.pairs: Counter[tuple[int, int]] = Counter()
        self.batches: list[int] = []

    def encode(self, frames: Tensor) -> Encoded:
        numbers = frames[:, 0, 0, 0]
        self.encoded.update(numbers.int().tolist())
        return {2: numbers[:, None], 3: numbers[:, None]}

    def flow(self, first: Encoded, second: Encoded, height: int, width: int) -> Tensor:
        numbers = torch.cat([first[2], second[3]], dim=1)
        self.pairs.update((int(a), int(b)) for a, b in numbers.tolist())
        self.batches.append(len(numbers))
        return (numbers / 100)[:, :, None, None].expand(-1, -1, height, width)

    def pairs_that_fit(self, num_bytes: int, height: int, width: int) -> int:
        raise AssertionError("it is told")


def run(
    num_frames: int,
    stack_size: int,
    step_size: int,
    pairs_per_batch: int,
    stacks_at_once: int = 1,
    is_centered: bool = False,
) -> RecordingMethod:
    """Compute the flows of all stacks and check each of them."""
    method = RecordingMethod()
    flows = PairFlows(method, lambda height, width: pairs_per_batch)
    frames = (torch.full((3, 3, 3), float(i)) for i in range(num_frames))
    if is_centered:
        every = centered_stacks(frames, stack_size + 1, step_size, stack_size // 2)
    else:
        every = stacks(frames, stack_size + 1, step_size, cycle_tail=True)
    while group := list(islice(every, stacks_at_once)):
        pairs = [pair for stack in group for pair in pairwise(stack.indices) if pair[0] != pair[1] or not is_centered]
        of_group = {index: frame for stack in group for index, frame in zip(stack.indices, stack.items, strict=True)}
        seen = flows.compute(of_group, pairs)
        assert seen.keys() == set(pairs)
        for pair, flow in seen.items():
            assert flow.shape == (2, 3, 3)
            assert torch.equal(flow[:, 1, 1], torch.tensor(pair) / 100)
    return method


@pytest.mark.parametrize("stacks_at_once", [1, 3, 9])
@pytest.mark.parametrize("pairs_per_batch", [1, 3, 12])
@pytest.mark.parametrize("step_size", [1, 4, 9, 10])
def test_each_frame_and_each_pair_is_computed_once(step_size: int, pairs_per_batch: int, stacks_at_once: int) -> None:
    num_frames = 11 + 3 * step_size  # full stacks only
    method = run(num_frames, 10, step_size, pairs_per_batch, stacks_at_once)
    assert method.encoded == Counter(range(num_frames))
    assert method.pairs == Counter((i, i + 1) for i in range(num_frames - 1))
    assert max(method.batches) <= pairs_per_batch


@pytest.mark.parametrize("stacks_at_once", [1, 5])
@pytest.mark.parametrize("step_size", [1, 3, 10])
def test_centred_stacks_compute_no_flow_twice(step_size: int, stacks_at_once: int) -> None:
    method = run(30, 10, step_size, 4, stacks_at_once, is_centered=True)
    last = 29 // step_size * step_size + 5  # the last frame of the last stack, if the video had it
    assert method.pairs == Counter((i, i + 1) for i in range(min(last, 29)))
    assert method.encoded == Counter(range(min(last, 29) + 1))


def test_frames_that_no_stack_holds_cost_nothing() -> None:
    method = run(11 + 15, 10, 15, 4)
    assert method.pairs == Counter((i, i + 1) for i in [*range(10), *range(15, 25)])


@pytest.mark.parametrize("num_frames", [1, 2, 5, 10])
def test_a_short_video_is_cycled_and_no_pair_computed_twice(num_frames: int) -> None:
    method = run(num_frames, 10, 10, 3)
    assert method.encoded == Counter(range(num_frames))
    assert method.pairs == Counter({(i, (i + 1) % num_frames): 1 for i in range(num_frames)})


@pytest.mark.parametrize("stacks_at_once", [1, 2])
def test_the_tail_wraps_from_the_last_frame_to_its_first(stacks_at_once: int) -> None:
    method = run(10 + 6, 10, 10, 4, stacks_at_once)
    assert method.pairs == Counter([*((i, i + 1) for i in range(15)), (15, 10)])
    assert method.encoded == Counter(range(16))


def test_pairs_of_several_stacks_are_computed_together() -> None:
    method = run(11 + 3 * 2, 10, 2, 100, stacks_at_once=4)
    assert method.batches == [16]


def test_what_a_batch_is_filled_up_with_changes_no_flow() -> None:
    method = run(11 + 3 * 9, 10, 9, 100, stacks_at_once=9)
    assert method.batches == [40], "37 pairs"
    assert method.encoded.total() == 40, "38 frames"
    assert run(301, 10, 10, 256, stacks_at_once=30).batches == [160, 144], "300 pairs"


def test_rows_are_selected_by_no_index_that_a_gpu_would_wait_for() -> None:
    with torch.profiler.profile() as profiler:
        run(11 + 3 * 9, 10, 9, 100, stacks_at_once=9)  # filled up
        run(15, 10, 10, 100)  # cycled
    operations = {event.key for event in profiler.key_averages()}
    assert "aten::cat" in operations
    assert "aten::index" not in operations


@pytest.mark.parametrize(
    ("number", "most", "sizes"),
    [
        (256, 191, [128, 128]),
        (64, 4, [4] * 16),
        (9, 4, [4, 4, 1]),
        (21, 20, [16, 5]),
        (40, 30, [20, 20]),
        (17, 256, [18]),
        (200, 200, [104, 96]),
        (129, 256, [144]),
        (3, 1, [1, 1, 1]),
        (0, 4, []),
    ],
)
def test_items_are_split_into_even_batches_of_few_sizes(number: int, most: int, sizes: list[int]) -> None:
    assert [len(batch) for batch in split_evenly(list(range(number)), most, fill_up)] == sizes


@pytest.mark.parametrize("most", [1, 4, 16, 100, 191, 256])
def test_batches_hold_all_items_in_order_and_little_else(most: int) -> None:
    sizes = set()
    for number in range(1, 3 * most):
        batches = split_evenly(list(range(number)), most, fill_up)
        items = [item for batch in batches for item in batch]
        assert items[:number] == list(range(number))
        assert set(items[number:]) <= {number - 1}
        assert len(items) - number <= len(batches[-1]) // 8
        assert len({len(batch) for batch in batches[:-1]}) <= 1
        assert len(batches) == -(-number // len(batches[0]))
        sizes |= set(map(len, batches))
    assert max(sizes) <= most
    assert len(sizes) <= 48
