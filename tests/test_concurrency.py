"""Threads and waiting, without any HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from tap_circleci.concurrency import PLATEAU, PROBE, RECOVERY, Clock, Governor, Pool, ahead, pace, result
from tap_circleci.errors import Refused, Stopped


class Scripted(Clock):
    """A clock that stands still but for waits."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 100.0

    def now(self) -> float:
        return self.time

    def wait(self, seconds: float) -> None:
        self.time += seconds


def test_the_pace_is_halved_and_comes_back_carefully():
    """Half at once, the old pace after the time of recovery, hardly more around it, then boldly."""
    assert pace(40, 0) == 20
    assert pace(40, RECOVERY) == pytest.approx(40 * PLATEAU)
    assert 38 < pace(40, RECOVERY * 0.8) < pace(40, RECOVERY + PROBE / 3) < 40
    assert pace(40, RECOVERY + PROBE * 4) > 400


def test_under_a_limit_the_pace_settles_near_it_with_few_refusals():
    """Against a limit of 40 a second, eight eager workers get most of it and are seldom refused."""
    clock = Scripted()
    governor = Governor(clock, 8)
    granted: list[float] = []
    refusals = 0
    while clock.time < 400:
        left_at = governor.enter()
        clock.time += 0.0025  # eight workers at 20 ms
        recent = [moment for moment in granted[-40:] if moment > clock.time - 1]
        if len(recent) < 40:
            granted.append(clock.time)
            governor.answered()
        else:
            refusals += 1
            governor.refused(left_at, 1.0)
    assert len(granted) / 300 > 34
    assert refusals / len(granted) < 0.01


def test_a_low_limit_is_found_within_a_few_refusals():
    """Against one request a second, no request is refused as often as ends a run."""
    clock = Scripted()
    governor = Governor(clock, 8)
    last = 0.0
    rows = 0
    for _ in range(60):
        refused = 0
        while True:
            left_at = governor.enter()
            if clock.time - last >= 1:
                last = clock.time
                governor.answered()
                break
            refused += 1
            governor.refused(left_at, 1.0)
        rows = max(rows, refused)
    assert rows < 6


def test_refusals_of_one_burst_count_once():
    """Requests that left before the first refusal was known lower the pace no further."""
    clock = Scripted()
    governor = Governor(clock, 8)
    tickets = [governor.enter() for _ in range(8)]
    clock.time += 1
    assert [governor.refused(ticket, 1.0) for ticket in tickets] == [True] + [False] * 7
    assert governor.waited == 1.0


def test_nobody_waits_on_once_the_run_is_given_up():
    """Whoever waits for leave is told within a second when no request is to leave any more."""
    governor = Governor(Clock(), 2)
    governor.hold(3600)
    found: list[Exception] = []

    def enter() -> None:
        try:
            governor.enter()
        except Refused as refused:
            found.append(refused)

    thread = threading.Thread(target=enter, daemon=True)
    thread.start()
    governor.close(Refused("given up"))
    thread.join(timeout=2)
    assert [str(refused) for refused in found] == ["given up"]


def test_a_stop_ends_a_wait_at_once():
    """A wait of minutes ends as soon as the run is asked to stop."""
    clock = Clock()
    threading.Timer(0.1, clock.stop, [15]).start()
    began = time.monotonic()
    with pytest.raises(Stopped):
        clock.wait(600)
    assert time.monotonic() - began < 5


def test_work_that_comes_earlier_in_the_output_goes_first():
    """What a piece of work hands in is done before all that stands later, whenever it was handed in."""
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


def test_a_failure_comes_out_at_its_own_place():
    """What was pulled before a failure is given before it, and no more than the window is pulled ahead."""
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
