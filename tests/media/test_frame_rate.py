"""Constant frame rate, against the arithmetic of time."""

from fractions import Fraction

import pytest

from utils.media.frame_rate import to_constant_fps


def regular(num_items: int, rate: Fraction) -> list[tuple[Fraction, int]]:
    return [(i / rate, i) for i in range(num_items)]


@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30000, 1001), Fraction(981, 50), Fraction(1, 3)])
@pytest.mark.parametrize("offset", [Fraction(0), Fraction(7, 5), Fraction(-1, 50)])
def test_at_its_own_rate_every_frame_comes_once(rate: Fraction, offset: Fraction) -> None:
    timed = [(seconds + offset, i) for seconds, i in regular(100, rate)]
    assert list(to_constant_fps(timed, rate, rate)) == list(range(100))


def test_times_in_whole_milliseconds_do_not_repeat_or_drop_frames() -> None:
    rate = Fraction(30000, 1001)
    timed = [(Fraction(round(1000 * seconds), 1000), i) for seconds, i in regular(1000, rate)]
    assert list(to_constant_fps(timed, rate, rate)) == list(range(1000))


@pytest.mark.parametrize("rate", [Fraction(5), Fraction(12), Fraction(24), Fraction(50), Fraction(60000, 1001)])
def test_at_another_rate_each_frame_comes_near_its_time_and_none_goes_back(rate: Fraction) -> None:
    own = Fraction(25)
    given = list(to_constant_fps(regular(500, own), rate, own))
    assert abs(len(given) - 500 / own * rate) <= 2
    assert given == sorted(given)
    late = [slot / rate - i / own for slot, i in enumerate(given)]
    slack = Fraction(11, 10) / rate + 1 / own
    assert max(late) <= slack
    assert min(late) >= -slack


def test_doubling_the_rate_doubles_all_frames_but_the_first() -> None:
    """As `ffmpeg -r` does: the second frame comes before the first is more than a slot late."""
    assert list(to_constant_fps(regular(4, Fraction(25)), Fraction(50), Fraction(25))) == [0, 1, 1, 2, 2, 3, 3]


def test_a_gap_is_filled_with_the_frame_before_it() -> None:
    timed = [(Fraction(0), "a"), (Fraction(1, 25), "b"), (Fraction(11, 25), "c"), (Fraction(12, 25), "d")]
    given = list(to_constant_fps(timed, Fraction(25), Fraction(25)))
    assert len(given) == 13
    assert given[0] == "a"
    assert given[1:10] == ["b"] * 9
    assert given[-1] == "d"


def test_frames_of_a_slide_show_last_as_long_as_those_before() -> None:
    timed = [(Fraction(10 * i), i) for i in range(4)]
    given = list(to_constant_fps(timed, Fraction(1), Fraction(1, 10)))
    assert [given.count(i) for i in range(4)] == pytest.approx([10, 10, 10, 10], abs=1)


def test_frames_that_crowd_are_left_out() -> None:
    timed = [(Fraction(i, 1000), i) for i in range(100)]
    given = list(to_constant_fps(timed, Fraction(25), Fraction(25)))
    assert len(given) == 5
    assert given == sorted(given)


def test_nothing_and_one_frame() -> None:
    assert list(to_constant_fps([], Fraction(25), Fraction(25))) == []
    assert list(to_constant_fps([(Fraction(3), "only")], Fraction(5), Fraction(25))) == ["only"]
