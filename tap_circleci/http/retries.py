"""When a failed request is repeated."""

import random
from collections.abc import Callable, Iterator
from typing import TypeVar

import backoff

from tap_circleci.errors import LocalError, Unreadable
from tap_circleci.http.traffic import Meter
from tap_circleci.workers import Clock

T = TypeVar("T")

ATTEMPTS = 5
"""Attempts at a request if the failure may be temporary: 408, 5xx, the network, a broken body."""
LONGEST_WAIT = 30.0
"""Seconds between two attempts at most, unless the service asks for more."""


class Retriable(Exception):
    """A failure that may be temporary; `after` is how many seconds the service asked to wait.

    `may_be_done`: the service may have carried out the request.
    """

    def __init__(self, reason: str, after: float = 0.0, *, may_be_done: bool = False) -> None:
        super().__init__(reason)
        self.after = after
        self.may_be_done = may_be_done


class Attempts:
    """The attempts at one request, whose name in messages is `name`."""

    def __init__(self, name: str, clock: Clock, meter: Meter) -> None:
        self._name = name
        self._clock = clock
        self._meter = meter
        self._waits = _growing_waits()
        self._failures = 0

    def failed(self, failure: Retriable, last: type[LocalError] = Unreadable) -> None:
        """Wait for the next attempt; raise the error `last` after the last one."""
        self._failures += 1
        if self._failures == ATTEMPTS:
            raise last(f"{self._name}: {failure} in each of {ATTEMPTS} attempts") from None
        self._meter.retry(str(failure))
        self._clock.wait(max(next(self._waits), failure.after))

    def until_it_succeeds(self, attempt: Callable[[], T]) -> T:
        """The result of the first attempt that does not raise `Retriable`."""
        while True:
            try:
                return attempt()
            except Retriable as failure:
                self.failed(failure)


def _growing_waits() -> Iterator[float]:
    """1, 2, 4, 8 … seconds, each between half and the whole of it.

    Only the numbers come from backoff. Its decorators wait with `time.sleep`: a signal to this run would not end such a
    wait, and a test could not shorten it.
    """
    doubling = backoff.expo(base=2, factor=1, max_value=LONGEST_WAIT)
    next(doubling)
    for seconds in doubling:
        yield seconds / 2 + random.uniform(0, seconds / 2)  # noqa: S311 - not for security
