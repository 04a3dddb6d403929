"""The rate limiter that all threads share: when the next request may leave."""

from __future__ import annotations

import threading
from collections import deque

from tap_circleci.workers import POLL_SECONDS, Clock

RECOVERY = 3.0
"""Seconds after a refusal until the pace is again near what the service last bore."""
PROBE = 25.0
"""Seconds after that until the pace is half as much again; most of them pass near what the service last bore."""
PLATEAU = 0.96
"""The share of what the service last bore that is held for long: a little less, or it would refuse again at once."""
INITIAL_RATE = 10
"""Requests a second and thread that the service may bear, as long as nothing is known."""


def pace(ceiling: float, seconds: float) -> float:
    """Requests a second that are allowed so long after a refusal at `ceiling` requests a second.

    Half at once, soon back near the ceiling, for long hardly more, and at last boldly beyond it: the two branches of a
    cubic, like that of CUBIC (RFC 9438).
    """
    since = seconds - RECOVERY
    if since < 0:
        return ceiling * (PLATEAU + (PLATEAU - 0.5) * (since / RECOVERY) ** 3)
    return ceiling * (PLATEAU + 0.5 * (since / PROBE) ** 3)


class RateLimiter:
    """Decides for all threads together when the next request may leave.

    A refusal holds everybody until the time that the service named, then halves the pace, which grows again while all
    goes well. Safe to use from many threads.
    """

    def __init__(self, clock: Clock, workers: int) -> None:
        self._clock = clock
        self._workers = workers
        self._lock = threading.Lock()
        self._resume_at = 0.0
        self._next_slot = 0.0
        self._ceiling: float | None = None  # None: no refusal lately, so no limit but the number of threads
        self._cut_at = -1.0
        self._answers: deque[float] = deque(maxlen=10_000)
        self._closed: Exception | None = None
        self.waited = 0.0

    def acquire(self) -> float:
        """Wait for leave to send one request; gives the time of leave, for `on_throttled`."""
        slot: float | None = None
        while True:
            with self._lock:
                if self._closed is not None:
                    raise self._closed
                now = self._clock.now()
                due = max(self._resume_at, slot or 0.0)
                if slot is None and due <= now:
                    slot = due = self._reserve(now)
            if due <= now:
                return now
            self._clock.wait(min(due - now, POLL_SECONDS))

    def _reserve(self, now: float) -> float:
        """The time of the next free slot, which is the caller's."""
        if self._ceiling is None:
            return now
        allowed = pace(self._ceiling, now - self._resume_at)
        if allowed > 1000:
            self._ceiling = None
            return now
        slot = max(self._next_slot, now)
        self._next_slot = slot + 1 / allowed
        return slot

    def on_success(self) -> None:
        """Take note of a request that was served."""
        self._answers.append(self._clock.now())

    def pause(self, seconds: float) -> bool:
        """Let nobody send for so long: the service has said that nothing is left. Tells whether this is news."""
        with self._lock:
            news = self._clock.now() >= self._resume_at
            self._pause(seconds)
            return news

    def on_throttled(self, left_at: float, seconds: float) -> bool:
        """Hold everybody for so long; `left_at` is what `acquire` gave for the refused request.

        Tells whether this is news: the other refusals of one burst are not.
        """
        with self._lock:
            now = self._clock.now()
            news = left_at > self._cut_at
            if news:
                served = sum(1 for moment in list(self._answers) if moment > now - 1.0)
                guess = self._workers * INITIAL_RATE if self._ceiling is None else self._ceiling / 4
                self._ceiling = max(served, guess, 1.0)
                self._cut_at = now
            self._pause(seconds)
            return news

    def _pause(self, seconds: float) -> None:
        now = self._clock.now()
        until = now + seconds
        if until > self._resume_at:
            self.waited += until - max(self._resume_at, now)
            self._resume_at = until
            self._next_slot = until

    def close(self, reason: Exception) -> None:
        """Let no request leave any more: whoever asks gets `reason`."""
        with self._lock:
            self._closed = reason
