"""Constant frame rate, against the arithmetic of time."""

import math
import random
from collections import deque
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TypeVar

import pytest

from utils.media.frame_rate import to_constant_fps

Item = TypeVar("Item")

LATE, PART_LEFT = Fraction(11, 10), Fraction(6, 10)  # of FFmpeg's `-r`, in slots


def give(timed: Sequence[tuple[Fraction, Item]], rate: Fraction, own_rate: Fraction) -> list[Item]:
    """Return the items at a constant rate, from times in seconds."""
    tick = Fraction(1, math.lcm(*(seconds.denominator for seconds, _ in timed)))
    return list(to_constant_fps([(int(seconds / tick), item) for seconds, item in timed], tick, rate, own_rate))


def in_fractions(timed: Sequence[tuple[Fraction, int]], rate: Fraction, own_rate: Fraction) -> Iterator[int]:
    """Give the items at a constant rate, slot by slot, in exact fractions of a slot."""
    num_given, previous = 0, timed[0][1]
    gaps: deque[int] = deque([0, 0, 0], maxlen=3)
    for seconds, item in timed:
        gap = (seconds - timed[0][0]) * rate - num_given
        until = gap + min(rate / own_rate, Fraction(1))
        repeats = 0 if until < -LATE else 1 if until <= LATE else round(until)
        of_previous = min(round(gap - PART_LEFT), repeats) if repeats > 1 and gap > LATE else 0
        yield from [previous] * of_previous + [item] * (repeats - of_previous)
        num_given += repeats
        gaps.append(of_previous)
        previous = item
    yield from [previous] * sorted(gaps)[1]


def regular(num_items: int, rate: Fraction) -> list[tuple[Fraction, int]]:
    return [(i / rate, i) for i in range(num_items)]


@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30000, 1001), Fraction(981, 50), Fraction(1, 3)])
@pytest.mark.parametrize("offset", [Fraction(0), Fraction(7, 5), Fraction(-1, 50)])
def test_at_its_own_rate_every_frame_comes_once(rate: Fraction, offset: Fraction) -> None:
    timed = [(seconds + offset, i) for seconds, i in regular(100, rate)]
    assert give(timed, rate, rate) == list(range(100))


def test_times_in_whole_milliseconds_do_not_repeat_or_drop_frames() -> None:
    rate = Fraction(30000, 1001)
    timed = [(Fraction(round(1000 * seconds), 1000), i) for seconds, i in regular(1000, rate)]
    assert give(timed, rate, rate) == list(range(1000))


@pytest.mark.parametrize("rate", [Fraction(5), Fraction(12), Fraction(24), Fraction(50), Fraction(60000, 1001)])
def test_at_another_rate_each_frame_comes_near_its_time_and_none_goes_back(rate: Fraction) -> None:
    own = Fraction(25)
    given = give(regular(500, own), rate, own)
    assert abs(len(given) - 500 / own * rate) <= 2
    assert given == sorted(given)
    late = [slot / rate - i / own for slot, i in enumerate(given)]
    slack = Fraction(11, 10) / rate + 1 / own
    assert max(late) <= slack
    assert min(late) >= -slack


def test_doubling_the_rate_doubles_all_frames_but_the_first() -> None:
    """As `ffmpeg -r` does: the second frame comes before the first is more than a slot late."""
    assert give(regular(4, Fraction(25)), Fraction(50), Fraction(25)) == [0, 1, 1, 2, 2, 3, 3]


def test_a_gap_is_filled_with_the_frame_before_it() -> None:
    timed = [(Fraction(0), "a"), (Fraction(1, 25), "b"), (Fraction(11, 25), "c"), (Fraction(12, 25), "d")]
    given = give(timed, Fraction(25), Fraction(25))
    assert len(given) == 13
    assert given[0] == "a"
    assert given[1:10] == ["b"] * 9
    assert given[-1] == "d"


def test_frames_of_a_slide_show_last_as_long_as_those_before() -> None:
    timed = [(Fraction(10 * i), i) for i in range(4)]
    given = give(timed, Fraction(1), Fraction(1, 10))
    assert [given.count(i) for i in range(4)] == pytest.approx([10, 10, 10, 10], abs=1)


def test_frames_that_crowd_are_left_out() -> None:
    timed = [(Fraction(i, 1000), i) for i in range(100)]
    given = give(timed, Fraction(25), Fraction(25))
    assert len(given) == 5
    assert given == sorted(given)


def test_nothing_and_one_frame() -> None:
    assert give([], Fraction(25), Fraction(25)) == []
    assert give([(Fraction(3), "only")], Fraction(5), Fraction(25)) == ["only"]


TICKS = list(map(Fraction, ["1/1000", "1/90000", "1/12800", "1001/30000", "1/1000000000", "1/2147483647", "7/3"]))
RATES = list(map(Fraction, ["25", "30000/1001", "617/50", "1/3", "1000", "2147483647/1073741824", "999983/999979"]))


@pytest.mark.parametrize("seed", range(20))
def test_whole_parts_of_slots_give_what_fractions_give(seed: int) -> None:
    """At any rate, with times that are regular, rounded, jittered, with gaps, or crowded."""
    choose = random.Random(seed)
    for _ in range(20):
        rate = choose.choice(RATES)
        own_rate = choose.choice([rate, *RATES])
        tick = choose.choice([1 / (10 * rate), *TICKS])
        step = 1 / (own_rate * tick)  # ticks
        ticks, times = choose.randrange(-(10**6), 10**6), []
        for i in range(60):
            times.append((ticks, i))
            paces = Fraction(1), Fraction(choose.randrange(7, 21), 10), Fraction(1, 9), Fraction(37, 7)
            (pace,) = choose.choices(paces, weights=(4, 2, 1, 1))
            ticks += max(1, round(step * pace))
            if tick * rate * (ticks - times[0][0]) > 1000:  # slots
                break
        expected = list(in_fractions([(number * tick, i) for number, i in times], rate, own_rate))
        assert list(to_constant_fps(times, tick, rate, own_rate)) == expected
