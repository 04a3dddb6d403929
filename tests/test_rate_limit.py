"""The rate limiter on a clock that stands still but for waits."""

from __future__ import annotations

import threading

import pytest

from tap_circleci.errors import Refused
from tap_circleci.rate_limit import PLATEAU, PROBE, RECOVERY, RateLimiter, pace
from tap_circleci.workers import Clock


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
    limiter = RateLimiter(clock, 8)
    granted: list[float] = []
    refusals = 0
    while clock.time < 400:
        left_at = limiter.acquire()
        clock.time += 0.0025  # eight workers at 20 ms
        recent = [moment for moment in granted[-40:] if moment > clock.time - 1]
        if len(recent) < 40:
            granted.append(clock.time)
            limiter.on_success()
        else:
            refusals += 1
            limiter.on_throttled(left_at, 1.0)
    assert len(granted) / 300 > 34
    assert refusals / len(granted) < 0.01


def test_a_low_limit_is_found_within_a_few_refusals():
    """Against one request a second, no request is refused as often as ends a run."""
    clock = Scripted()
    limiter = RateLimiter(clock, 8)
    last = 0.0
    rows = 0
    for _ in range(60):
        refused = 0
        while True:
            left_at = limiter.acquire()
            if clock.time - last >= 1:
                last = clock.time
                limiter.on_success()
                break
            refused += 1
            limiter.on_throttled(left_at, 1.0)
        rows = max(rows, refused)
    assert rows < 6


def test_refusals_of_one_burst_count_once():
    """Requests that left before the first refusal was known lower the pace no further."""
    clock = Scripted()
    limiter = RateLimiter(clock, 8)
    tickets = [limiter.acquire() for _ in range(8)]
    clock.time += 1
    assert [limiter.on_throttled(ticket, 1.0) for ticket in tickets] == [True] + [False] * 7
    assert limiter.waited == 1.0


def test_nobody_waits_on_once_the_run_is_given_up():
    """Whoever waits for leave is told within a second when no request is to leave any more."""
    limiter = RateLimiter(Clock(), 2)
    limiter.pause(3600)
    found: list[Exception] = []

    def acquire() -> None:
        try:
            limiter.acquire()
        except Refused as refused:
            found.append(refused)

    thread = threading.Thread(target=acquire, daemon=True)
    thread.start()
    limiter.close(Refused("given up"))
    thread.join(timeout=2)
    assert [str(refused) for refused in found] == ["given up"]
