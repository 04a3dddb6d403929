"""When a request that failed is repeated."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import TypeVar

import backoff

from tap_circleci.errors import Unreadable
from tap_circleci.http.traffic import Meter
from tap_circleci.workers import Clock

T = TypeVar("T")

ATTEMPTS = 5
"""Attempts at a request that fails in a way that may pass: 408, 5xx, the network, a broken body."""
LONGEST_WAIT = 30.0
"""Seconds between two attempts at most, unless the service asks for more."""


class Retriable(Exception):
    """A failure that another attempt may mend; `after` is how long the service asked to wait, in seconds.

    `may_be_done`: the service may have done what it was asked for.
    """

    def __init__(self, reason: str, after: float = 0.0, *, may_be_done: bool = False) -> None:
        super().__init__(reason)
        self.after = after
        self.may_be_done = may_be_done


class Attempts:
    """The attempts at one request, which is called `name` in messages."""

    def __init__(self, name: str, clock: Clock, meter: Meter) -> None:
        self._name = name
        self._clock = clock
        self._meter = meter
        self._waits = _growing_waits()
        self._failures = 0

    def failed(self, failure: Retriable) -> None:
        """Wait for the next attempt; raise `Unreadable` after the last one."""
        self._failures += 1
        if self._failures == ATTEMPTS:
            raise Unreadable(f"{self._name}: {failure} in each of {ATTEMPTS} attempts") from None
        self._meter.retry(str(failure))
        self._clock.wait(max(next(self._waits), failure.after))

    def until_it_succeeds(self, attempt: Callable[[], T]) -> T:
        """What the first attempt gives that is not `Retriable`."""
        while True:
            try:
                return attempt()
            except Retriable as failure:
                self.failed(failure)


def _growing_waits() -> Iterator[float]:
    """1, 2, 4, 8 … seconds, each between half and the whole of it.

    Only the numbers are backoff's: its decorators wait with `time.sleep`, which no signal to this run would end and no
    test could shorten.
    """
    doubling = backoff.expo(base=2, factor=1, max_value=LONGEST_WAIT)
    next(doubling)
    for seconds in doubling:
        yield seconds / 2 + random.uniform(0, seconds / 2)  # noqa: S311 - nothing secret about it
