"""Threads and waiting, without any HTTP."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Generator, Iterator
from concurrent.futures import Future

import pytest

from tap_circleci.errors import Stopped
from tap_circleci.workers import MOST_AHEAD, Clock, Pool, ahead, result


def test_a_stop_ends_a_wait_at_once():
    """A wait of minutes ends as soon as the run is asked to stop."""
    clock = Clock()
    threading.Timer(0.1, clock.stop, [15]).start()
    began = time.monotonic()
    with pytest.raises(Stopped):
        clock.wait(600)
    assert time.monotonic() - began < 5


def test_a_stop_is_seen_also_where_nothing_is_waited_for():
    """A run whose threads are far ahead of its output ends at the next result, though all of them are there."""
    clock = Clock()
    there: Future[str] = Future()
    there.set_result("there")
    assert result(there, clock, lambda: None) == "there"
    clock.stop(15)
    with pytest.raises(Stopped):
        result(there, clock, lambda: None)


def test_an_error_between_two_steps_comes_out_at_the_result():
    """The thread lives on, and nobody waits for ever."""
    pool = Pool(1)

    def steps() -> Generator[int, None, str]:
        yield "no number"  # type: ignore[misc]
        return "never"

    with pytest.raises(TypeError):
        pool.submit_steps((0,), steps).result(timeout=5)
    assert pool.submit((1,), lambda: "alive").result(timeout=5) == "alive"
    pool.close()


def test_work_that_comes_earlier_in_the_output_goes_first():
    """Work that other work submits is done before all later work, whenever that was submitted."""
    pool = Pool(1)
    gate = threading.Event()
    done: list[str] = []

    def first() -> None:
        gate.wait(5)
        pool.submit((1, 0), lambda: done.append("below the first"))
        done.append("first")

    pool.submit((1,), first)
    last = pool.submit((3,), lambda: done.append("third"))
    pool.submit((2,), lambda: done.append("second"))
    gate.set()
    result(last, Clock(), lambda: None)
    pool.close()
    assert done == ["first", "below the first", "second", "third"]


@pytest.mark.parametrize(("rows", "is_held_up"), [(MOST_AHEAD, True), (MOST_AHEAD - 1, False)])
def test_nothing_is_read_ahead_while_many_rows_wait_for_the_output(rows, is_held_up):
    """With many held rows, only work for the present place of the output begins."""
    pool = Pool(1)
    clock = Clock()
    pool.output_at(0)

    def wide() -> Generator[int, None, str]:
        yield rows
        return "wide"

    assert result(pool.submit_steps((0,), wide), clock, lambda: None) == "wide"
    later = pool.submit((1,), lambda: "later")
    assert result(pool.submit((0, 5), lambda: "here"), clock, lambda: None) == "here"
    if is_held_up:
        assert not later.done()
    pool.output_at(1)
    assert result(later, clock, lambda: None) == "later"
    pool.close()


def test_a_thread_without_work_keeps_nothing():
    """The result of a piece of work is freed once nobody uses it, also if its thread has no other work."""
    pool = Pool(1)
    gone = threading.Event()

    def rows() -> set[int]:
        found = {1, 2, 3}
        weakref.finalize(found, gone.set)
        return found

    assert pool.submit((1,), rows).result() == {1, 2, 3}
    assert gone.wait(10)
    pool.close()


def test_a_failure_comes_out_at_its_own_place():
    """Items before a failure are given before it, and no more than the window is drawn ahead."""
    pulled: list[int] = []

    def source() -> Iterator[int]:
        for number in range(10):
            pulled.append(number)
            yield number
        raise ValueError("broken")

    items = ahead(source(), lambda: 4)
    assert next(items) == 0
    assert pulled == [0, 1, 2, 3, 4]
    rest = []
    with pytest.raises(ValueError, match="broken"):
        for item in items:
            rest.append(item)
    assert rest == list(range(1, 10))
