"""Stacks and the tail, against a rule for whole sequences."""

from collections.abc import Iterator

import pytest

from utils.stacks import stacks


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
