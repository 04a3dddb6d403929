"""What was requested: calls and their seconds by endpoint, retries, refusals, routes that end; from many threads."""

import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from tap_circleci.workers import Clock


@dataclass
class Traffic:
    """What was requested so far, `calls` and their `seconds` by the label of the endpoint.

    `retries` are requests repeated after a failure, the last of them for a `reason`; `refusals` are 429s. `endings` say
    by label that a route is deprecated or gone.
    """

    calls: Counter[str] = field(default_factory=Counter)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    refusals: int = 0
    retries: int = 0
    reason: str = ""
    endings: dict[str, str] = field(default_factory=dict)


class Meter:
    """Counts traffic. Safe to use from many threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._traffic = Traffic()

    @contextmanager
    def call(self, label: str) -> Iterator[None]:
        """Count the call inside the context and its seconds, also if it fails."""
        began = self._clock.now()
        try:
            yield
        finally:
            seconds = self._clock.now() - began
            with self._lock:
                self._traffic.calls[label] += 1
                self._traffic.seconds[label] += seconds

    def retry(self, reason: str) -> None:
        """Count a retry and keep its reason."""
        with self._lock:
            self._traffic.retries += 1
            self._traffic.reason = reason

    def refusal(self) -> None:
        """Count a 429."""
        with self._lock:
            self._traffic.refusals += 1

    def ending(self, label: str, clause: str) -> None:
        """Record that the route of an endpoint ends; the first clause is kept."""
        with self._lock:
            self._traffic.endings.setdefault(label, clause)

    def read(self) -> Traffic:
        """A copy of what was counted so far."""
        with self._lock:
            known = self._traffic
            return replace(known, calls=known.calls.copy(), seconds=known.seconds.copy(), endings=known.endings.copy())
