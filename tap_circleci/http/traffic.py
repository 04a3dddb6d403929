"""How much has been asked: calls and their seconds by endpoint, retries, refusals; counted for many threads."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from tap_circleci.workers import Clock


@dataclass
class Traffic:
    """What has been asked so far, `calls` and their `seconds` by the label of the endpoint.

    `retries` are requests repeated after a failure, the last of them for a `reason`; `refusals` are 429s.
    """

    calls: Counter[str] = field(default_factory=Counter)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    refusals: int = 0
    retries: int = 0
    reason: str = ""


class Meter:
    """Counts traffic. Safe to use from many threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._traffic = Traffic()

    @contextmanager
    def call(self, label: str) -> Iterator[None]:
        """Count a call that is made within, and its seconds, also if it fails."""
        began = self._clock.now()
        try:
            yield
        finally:
            seconds = self._clock.now() - began
            with self._lock:
                self._traffic.calls[label] += 1
                self._traffic.seconds[label] += seconds

    def retry(self, reason: str) -> None:
        """Count a request that is repeated for this reason."""
        with self._lock:
            self._traffic.retries += 1
            self._traffic.reason = reason

    def refusal(self) -> None:
        """Count a 429."""
        with self._lock:
            self._traffic.refusals += 1

    def read(self) -> Traffic:
        """What has been counted so far, in figures that stay as they are."""
        with self._lock:
            known = self._traffic
            return replace(known, calls=known.calls.copy(), seconds=known.seconds.copy())
