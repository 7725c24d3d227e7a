"""Frames -> overlapping stacks. Pure arithmetic, streamed: one stack is held at a time.

A stack is `size` items. Either one starts every `step` items: the items after the last start are the tail, which is
repeated cyclically to one more stack if it holds at least a fifth of a stack and an item that is in no full stack, and
a sequence shorter than one stack is repeated to one whatever its length. Or one is centred on every `step`-th item.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import Generic, TypeVar

Item = TypeVar("Item")

SMALLEST_TAIL = Fraction(1, 5)  # of a stack


@dataclass(frozen=True)
class Stack(Generic[Item]):
    """Items in a row; where the sequence has no more, they are repeated: cyclically, or the one at the end."""

    row: int  # of features
    items: list[Item]
    indices: Sequence[int]  # of the items, in the sequence
    inside: range  # the positions of the items that are not repetitions

    def span(self, size: int, fps: Fraction) -> tuple[float, float]:
        """Return begin and end, in seconds, of the first `size` items without repetitions, of `fps` a second."""
        first = self.indices[self.inside.start]
        return float(first / fps), float((first + min(self.inside.stop, size) - self.inside.start) / fps)


def stacks(items: Iterable[Item], size: int, step: int, cycle_tail: bool) -> Iterator[Stack[Item]]:
    """Yield the stacks of a sequence of unknown length, each as soon as its last item is there."""
    source = iter(items)
    window = list(islice(source, size))
    row = start = 0
    while len(window) == size:
        yield Stack(row, window, range(start, start + size), range(size))
        num_seen = start + size
        row, start = row + 1, start + step
        window = window[step:]
        num_skipped = max(step - size, 0)
        window += islice(source, num_skipped, num_skipped + size - len(window))
        if start + len(window) <= num_seen:  # no new item
            return
    num_left = len(window)
    if cycle_tail and window and (row == 0 or num_left >= SMALLEST_TAIL * size):
        cycle = [i % num_left for i in range(size)]
        yield Stack(row, [window[i] for i in cycle], [start + i for i in cycle], range(num_left))


def centered_stacks(items: Iterable[Item], size: int, step: int, num_before: int) -> Iterator[Stack[Item]]:
    """Yield for every `step`-th item, from the first one on, the stack that has `num_before` items before it.

    Beyond both ends of the sequence, the item at the end is repeated.
    """
    window: dict[int, Item] = {}
    row = num_items = 0

    def make() -> Stack[Item]:
        start = row * step - num_before
        indices = [min(max(index, 0), num_items - 1) for index in range(start, start + size)]
        inside = range(max(-start, 0), min(num_items - start, size))
        return Stack(row, [window[index] for index in indices], indices, inside)

    for item in items:
        window[num_items] = item
        num_items += 1
        while row * step - num_before + size <= num_items:
            yield make()
            row += 1
        first = min(row * step - num_before, num_items - 1)  # that is needed from now on
        for index in [index for index in window if index < first]:
            del window[index]
    while row * step < num_items:
        yield make()
        row += 1
