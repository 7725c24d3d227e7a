"""Frames -> overlapping stacks and the tail. Pure arithmetic, streamed: one stack is held at a time.

A stack is `size` items; one starts every `step` items. The items after the last start are the tail, which is repeated
cyclically to one more stack if it holds at least a fifth of a stack and an item that is in no full stack. A sequence
shorter than one stack is repeated to one whatever its length.
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

    start: int  # index of the first item in the sequence
    items: list[Item]
    num_distinct: int

    def index_of(self, i: int) -> int:
        """Return the index in the sequence of the stack's item `i`."""
        return self.start + i % self.num_distinct

    def span(self, size: int, fps: Fraction) -> tuple[float, float]:
        """Return begin and end, in seconds, of the first `size` items without repetitions, of `fps` a second."""
        return float(self.start / fps), float((self.start + min(self.num_distinct, size)) / fps)


def stacks(items: Iterable[Item], size: int, step: int, cycle_tail: bool) -> Iterator[Stack[Item]]:
    """Yield the stacks of a sequence of unknown length, each as soon as its last item is there."""
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
    is_only_stack = start == 0
    if cycle_tail and window and (is_only_stack or len(window) >= SMALLEST_TAIL * size):
        yield Stack(start, [window[i % len(window)] for i in range(size)], len(window))
