"""Items that are computed ahead in a thread, and that thread's end."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import NoReturn

import pytest

from tests.helpers.processes import wait_until
from utils.media.prefetch import prefetch


class Source:
    """Numbers, with notes of what their generator does."""

    def __init__(self, num_items: int, error: Exception | None = None, seconds: float = 0.0) -> None:
        self.num_items, self.error, self.seconds = num_items, error, seconds
        self.num_given = 0
        self.threads: list[threading.Thread] = []

    def __iter__(self) -> Iterator[int]:
        self.threads.append(threading.current_thread())
        try:
            for number in range(self.num_items):
                time.sleep(self.seconds)
                self.num_given += 1
                yield number
            if self.error:
                raise self.error
        finally:
            self.threads.append(threading.current_thread())

    def has_ended_in_its_thread(self) -> bool:
        began, ended = self.threads
        return began is ended is not threading.current_thread() and not began.is_alive()


@pytest.mark.parametrize("num_items", [0, 1, 3, 4, 20])
def test_all_items_come_in_order(num_items: int) -> None:
    source = Source(num_items)
    assert list(prefetch(iter(source), 3)) == list(range(num_items))
    assert source.has_ended_in_its_thread()


def test_items_are_computed_ahead_of_their_use_but_no_more_than_wanted_until_it_is_closed() -> None:
    source = Source(100)
    items = prefetch(iter(source), 3)
    for number in range(5):
        assert next(items) == number
        wait_until(lambda: source.num_given == number + 3)  # noqa: B023
        time.sleep(0.02)
        assert source.num_given == number + 3
    items.close()
    assert source.has_ended_in_its_thread()
    assert source.num_given <= 8


def test_an_error_comes_at_its_place() -> None:
    source = Source(2, OSError("no more"))
    items = prefetch(iter(source), 5)
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(OSError, match="no more"):
        next(items)
    assert source.has_ended_in_its_thread()


def test_an_exit_while_an_item_is_waited_for_ends_the_thread() -> None:
    def exit_soon(*_: object) -> NoReturn:
        sys.exit(1)

    source = Source(100, seconds=0.3)
    items = prefetch(iter(source), 3)
    before = signal.signal(signal.SIGALRM, exit_soon)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(SystemExit):
            next(items)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert source.has_ended_in_its_thread()
    assert source.num_given == 1
