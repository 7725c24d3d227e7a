"""Frames -> overlapping stacks and the tail. Pure arithmetic, streamed: no more than one stack is held.

A stack is `size` items, starting every `step` items. What the full stacks leave over becomes one more, its items
repeated cyclically, when it holds at least a fifth of a stack and an item that no full stack has seen. Fewer items
than one stack are cycled to one whatever their number.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import Generic, TypeVar

Item = TypeVar("Item")

SMALLEST_TAIL = Fraction(1, 5)  # of a stack


@dataclass(frozen=True)
class Stack(Generic[Item]):
    """`size` items in a row, or `num_distinct` items in a row, repeated cyclically to `size` of them."""

    start: int  # the first item's place in the sequence
    items: list[Item]
    num_distinct: int

    def place(self, i: int) -> int:
        """The place in the sequence of the stack's item `i`."""
        return self.start + i % self.num_distinct


def stacks(items: Iterable[Item], size: int, step: int, cycle_tail: bool) -> Iterator[Stack[Item]]:
    """The stacks of a sequence of unknown length, each as soon as its last item is there."""
    source = iter(items)
    window = list(islice(source, size))
    start = 0
    while len(window) == size:
        yield Stack(start, window, size)
        num_seen = start + size
        start += step
        window = window[step:]
        num_skipped = max(step - size, 0)
        window += islice(source, num_skipped, num_skipped + size - len(window))
        if start + len(window) <= num_seen:  # no new item
            return
    is_whole_video = start == 0
    if cycle_tail and window and (is_whole_video or len(window) >= SMALLEST_TAIL * size):
        yield Stack(start, [window[i % len(window)] for i in range(size)], len(window))
