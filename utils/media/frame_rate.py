"""Frames with times -> frames at a constant rate, as `ffmpeg -r` makes them. Pure arithmetic.

The frame filter `fps` of FFmpeg rounds otherwise: features of published datasets were made with `-r`.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TypeVar

Item = TypeVar("Item")

# Of FFmpeg's `ffmpeg -r`, in slots: how early or late a frame may be before one is left out or repeated, and the part
# of a late frame's delay that is not filled with the frame before it (delta0 in `video_sync_process`).
SLACK, SLACK_BEFORE = Fraction(11, 10), Fraction(6, 10)


def to_constant_fps(
    timed: Iterable[tuple[int, Item]], seconds_per_tick: Fraction, rate: Fraction, own_rate: Fraction
) -> Iterator[Item]:
    """Items at `rate` a second, from (ticks, item) pairs in order of time that come at about `own_rate`.

    Output i is what is shown i / rate seconds after the first item, give or take a slot. An item that comes too
    early for its slot is left out. One that comes late fills the slots up to its end, where it left a gap, with the
    item before it; the last item lasts as long as such gaps before it.
    """
    # In parts of a slot, so small that all times are whole numbers of them: fractions take 10 us a frame.
    slots_per_tick = rate * seconds_per_tick
    length = min(rate / own_rate, Fraction(1))  # of an item, in slots
    slot = math.lcm(slots_per_tick.denominator, length.denominator, SLACK.denominator)
    tick_parts, length_parts, slack = int(slots_per_tick * slot), int(length * slot), int(SLACK * slot)
    num_given = 0
    first = None
    previous = None
    gaps: deque[int] = deque([0, 0, 0], maxlen=3)
    for ticks, item in timed:
        first = ticks if first is None else first
        gap = (ticks - first) * tick_parts - num_given * slot  # between the last output's end and this item
        until = gap + length_parts
        repeats = 0 if until < -slack else 1 if until <= slack else round(Fraction(until, slot))
        of_previous = 0
        if repeats > 1 and gap > slack:
            of_previous = min(round(Fraction(gap, slot) - SLACK_BEFORE), repeats)
        for number in range(repeats):
            yield item if number >= of_previous or previous is None else previous
        num_given += repeats
        gaps.append(of_previous)
        previous = item
    for _ in range(sorted(gaps)[1]):
        assert previous is not None
        yield previous
