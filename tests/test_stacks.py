"""Stacks and the tail, against a rule for whole sequences."""

import weakref
from collections.abc import Iterator
from fractions import Fraction

import pytest

from utils.stacks import centered_stacks, stacks


def naive_stacks(num_items: int, size: int, step: int, cycle_tail: bool) -> list[list[int]]:
    """Apply the documented rule to a whole sequence."""
    num_full = (num_items - size) // step + 1 if num_items >= size else 0
    full = [list(range(i * step, i * step + size)) for i in range(num_full)]
    leftover = list(range(num_full * step, num_items))
    seen = {item for stack in full for item in stack}
    is_tail = not full or (5 * len(leftover) >= size and not set(leftover) <= seen)
    if cycle_tail and leftover and is_tail:
        full.append([leftover[i % len(leftover)] for i in range(size)])
    return full


@pytest.mark.parametrize("cycle_tail", [True, False])
@pytest.mark.parametrize("size", [1, 2, 5, 10])
def test_stacks_are_those_of_a_naive_count(size: int, cycle_tail: bool) -> None:
    for step in range(1, 2 * size + 3):
        for num_items in range(5 * size + 3):
            made = list(stacks(range(num_items), size, step, cycle_tail))
            expected = naive_stacks(num_items, size, step, cycle_tail)
            case = f"{num_items} items, step {step}"
            assert [stack.items for stack in made] == expected, case
            assert [list(stack.indices) for stack in made] == expected, case


def test_a_stack_is_given_before_what_comes_after_it_is_read() -> None:
    num_read = 0

    def items() -> Iterator[int]:
        nonlocal num_read
        for item in range(100):
            num_read += 1
            yield item

    made = stacks(items(), 10, 3, cycle_tail=True)
    for i in range(5):
        next(made)
        assert num_read == 10 + 3 * i


@pytest.mark.parametrize("num_after", [0, 1])
@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_a_centred_stack_is_round_every_step_th_item_and_repeats_the_ends(size: int, num_after: int) -> None:
    for step in range(1, size + 3):
        for num_items in range(2 * size + 3):
            made = list(centered_stacks(range(num_items), size + num_after, step, size // 2))
            assert [stack.row * step for stack in made] == list(range(0, num_items, step))
            for stack in made:
                wanted = [stack.row * step - size // 2 + i for i in range(size + num_after)]
                assert stack.items == list(stack.indices) == [min(max(i, 0), num_items - 1) for i in wanted]
                assert list(stack.inside) == [place for place, i in enumerate(wanted) if 0 <= i < num_items]
                begin, end = stack.span(size, Fraction(2))
                assert (2 * begin, 2 * end) == (max(wanted[0], 0), min(wanted[0] + size, num_items))


def test_centred_stacks_hold_no_more_items_than_they_need() -> None:
    class Item:
        pass

    alive: weakref.WeakSet[Item] = weakref.WeakSet()

    def items() -> Iterator[Item]:
        for _ in range(300):
            item = Item()
            alive.add(item)
            yield item

    most = 0
    for stack in centered_stacks(items(), 10, 3, 5):
        del stack
        most = max(most, len(alive))
    assert most <= 10 + 3 + 1
