"""When may the next request leave? One rate limiter for all threads.

CircleCI does not publish its limit, so the limiter learns it from refusals (429). After a refusal nothing leaves for as
long as the service asks; where it does not say, the wait grows with each refusal in a row. Then one request leaves
alone, and after it as many at once as have been served since. If a limit caused the refusal, the limiter also sets a
pace. It counts the requests that were served in the last seconds before the refusal, as many seconds as the pause
took. From then on it sends that number in that time, evenly spaced and 3 % slower. An even pace suits every kind of
limit (sliding window, fixed window, token bucket) and leaves gaps for other programs that use the same token.

Did a limit cause it? Once a limit is used up, most requests that leave after the refused one are refused, too. During
an incident CircleCI refuses requests at random: most of the others are served, and no pace is set. Each refusal also
judges the present pace. One that held for a while gets 3 % slower. One that did not hold is measured again, or dropped
if the refusal looks random. One that was not refused for long (ten pauses at first) grows by 20 % each second until a
refusal shows the new limit. Answers may tell how many requests are left (RateLimit-Remaining, RateLimit-Reset): the
limiter obeys, unless three answers in a row say that none is left though they were served.
"""

import math
import threading
from collections import deque
from dataclasses import dataclass, replace

from tap_circleci.workers import POLL_SECONDS, Clock

# Figures without a source are those with which the simulations in tests/test_rate_limit.py keep their promises.

BLIND_WAITS = (1.0, 4.0, 5.0, 20.0, 29.0)
"""Seconds to wait after refusals in a row that do not say how long: 1, 5, 10, 30, 59 in all, as long as limits last."""
MARGIN = 0.97
"""A pace sends this share of what was served; a pace that was nearly right slows down to this share."""
SLOWEST = 1.0
"""Seconds between two requests at most: if the service serves fewer, pauses bring the rest."""
LATE = 0.01
"""Seconds by which a thread may wake up too late without delaying the next request."""
ENOUGH = 10
"""Served requests that show that a pace held. With one in ten refused at random, one pace in three gets that far."""
STEADY = (10, 30)
"""A pace grows after so many times the pause without a refusal: at first, and at most."""
FIRST_STEADY = 120.0
"""Seconds after which a new pace grows at the latest: others may have used most of the limit when it was measured."""
GROWTH = 1.2
"""A pace that grows sends so many times as many requests each second."""
HIGHER = 1.15
"""A limit is higher if so many times as many requests were served; less is chance."""
DOUBT = 3
"""After so many served answers in a row that say "none is left", such answers are ignored."""
REMEMBERED = 20_000
"""Served requests that are remembered: more than a minute of CircleCI Server's default limit, 150 a second."""


@dataclass(frozen=True, eq=False)
class Permit:
    """The permission to send one request, given at `left_at`."""

    left_at: float


@dataclass(frozen=True)
class _Pace:
    """Seconds between two requests, and seconds without a refusal after which it grows."""

    interval: float
    steady: float


class Allowance:
    """What the service is assumed to serve. It has no clock: the caller passes the time. One thread at a time."""

    def __init__(self) -> None:
        self.resume_at = -math.inf  # the end of the present or the last pause
        self._pauses = [0.0]  # seconds of the pauses in a row after which nothing was served, the present one last
        self._in_flight = 0
        self._served: deque[float] = deque(maxlen=REMEMBERED)  # when the requests left that were served since then
        self._refused_at: float | None = None  # when the refused request left; None once one is served after the pause
        self._later: list[bool] = []  # of the requests that left after it, before the pause: was it refused, too?
        self._pace: _Pace | None = None
        self._next_at = -math.inf  # when the next request may leave at this pace
        self._left = (math.inf, math.inf)  # how many more requests are served, as an answer said, and until when
        self._zeros = 0  # served answers in a row that said "none is left"

    def due(self, now: float) -> float:
        """When the next request may leave; infinity while that depends on an answer that has not come yet."""
        if now < self.resume_at:
            return self.resume_at
        if now >= self._left[1]:
            self._start_again(self._left[1])
        served = len(self._served) if self._refused_at is None else 0
        is_too_many = self.resume_at > -math.inf and self._in_flight > served
        # The service may not have counted those in flight yet.
        return math.inf if is_too_many or self._in_flight >= self._left[0] else max(now, self._next_at)

    def leave(self, now: float) -> Permit:
        """Record a request that leaves."""
        self._in_flight += 1
        if self._pace is not None:
            growing = min(max(0.0, now - self.resume_at - self._pace.steady), 100.0)
            self._next_at = max(self._next_at, now - LATE) + self._pace.interval / GROWTH**growing
        return Permit(now)

    def served(self, permit: Permit, now: float, left: float | None = None, reset: float | None = None) -> bool:
        """Record an answer that is no refusal and may say how many more are served in the next `reset` seconds.

        Gives whether that begins a pause.
        """
        self._in_flight -= 1
        is_slow = permit.left_at < self.resume_at  # it left before the pause and says nothing about the time after it
        if self._refused_at is not None:
            if not is_slow:
                self._judge_pace(self._refused_at)
                self._refused_at = None
                self._served.clear()
            elif permit.left_at >= self._refused_at:
                self._later.append(False)
        if self._refused_at is not None or not is_slow:
            self._served.append(permit.left_at)
        return left is not None and reset is not None and self._obey(now, left, max(reset, 1.0))

    def _obey(self, now: float, left: float, reset: float) -> bool:
        """Obey what an answer says about the limit, in whole seconds; gives whether that begins a pause."""
        self._zeros = self._zeros + 1 if left <= 0 else 0
        if self._zeros >= DOUBT:
            self._left = (math.inf, math.inf)
            return False
        if left <= 0:
            begins = now >= self.resume_at
            self._start_again(now + reset)
            return begins
        if left <= self._left[0]:  # else a newer answer has overtaken it
            self._left = (left, now + reset)
        return False

    def failed(self) -> None:
        """Record a request without an answer."""
        self._in_flight -= 1

    def refused(self, permit: Permit, now: float, asked: float | None) -> tuple[float, float]:
        """Record a refusal that asks to wait `asked` seconds, if it says so.

        Gives the seconds to wait, and those of the earlier pauses in this row, after which nothing was served.
        """
        self._in_flight -= 1
        begins = permit.left_at >= self.resume_at
        if begins and self._refused_at is None:
            self._refused_at, self._pauses, self._later = permit.left_at, [0.0], []
        elif begins:
            self._pauses.append(0.0)
        elif self._refused_at is not None and permit.left_at >= self._refused_at and len(self._pauses) == 1:
            self._later.append(True)
        wait = BLIND_WAITS[min(len(self._pauses), len(BLIND_WAITS)) - 1]
        if asked is not None:  # a wait that was too short twice gets longer: other programs may always be first
            wait = max(asked, wait if len(self._pauses) > 2 else 0.0)
        until = max(self.resume_at, now + wait)
        self._pauses[-1] += until - max(self.resume_at, now)
        self.resume_at = until
        return wait, sum(self._pauses[:-1])

    def _judge_pace(self, refused_at: float) -> None:
        """Set, keep, change or drop the pace now that the pause is over, by what was served before it."""
        if not self._served:
            return
        pause = max(1.0, sum(self._pauses))
        lasted = refused_at - self._served[0]
        count = sum(left_at > refused_at - pause for left_at in self._served)
        measured = _Pace(pause / (MARGIN * max(1, count)), min(STEADY[0] * pause, FIRST_STEADY))
        pace = self._pace
        if pace is not None and lasted > pace.steady:
            if measured.interval * HIGHER >= pace.interval:
                measured = replace(pace, steady=max(measured.steady, min(2 * pace.steady, STEADY[1] * pause)))
            pace = measured
        elif pace is not None and len(self._served) >= ENOUGH:
            pace = replace(pace, interval=max(pace.interval / MARGIN, measured.interval if lasted < pause else 0.0))
        elif pace is not None and not self._later:
            pace = replace(pace, interval=pace.interval / 2)  # with more in flight the next refusal says more
        else:
            pace = measured if self._is_limit() else None
        self._pace = pace and replace(pace, interval=min(pace.interval, SLOWEST))
        self._next_at = self.resume_at + (self._pace.interval if self._pace else 0.0)

    def _is_limit(self) -> bool:
        """Whether a limit caused the refusal: most requests that left after it were refused, too."""
        return 2 * sum(self._later) > len(self._later) if self._later else len(self._served) >= ENOUGH

    def _start_again(self, at: float) -> None:
        """Let one request leave first at that time, without a pace: the service itself says how many it serves."""
        self.resume_at = max(self.resume_at, at)
        self._refused_at, self._pace, self._next_at = None, None, -math.inf
        self._left = (math.inf, math.inf)
        self._served.clear()


class RateLimiter:
    """Decides for all threads together when the next request may leave. Safe to use from many threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._turn = threading.Lock()  # held by the one thread that waits for the clock or for an answer
        self._changed = threading.Condition()
        self._allowance = Allowance()
        self._closed: Exception | None = None
        self._waiting_since: float | None = None
        self._waited = 0.0

    def acquire(self) -> Permit:
        """Wait until one request may leave; the caller then calls `on_success`, `on_throttled` or `on_failure`.

        Raises the reason for which the limiter was closed, or `Stopped`.
        """
        with self._turn:  # the other threads sleep here: each slot wakes one of them
            try:
                while (permit := self._try()) is None:
                    pass
                return permit
            finally:
                with self._changed:
                    self._waited, self._waiting_since = self._waited_until_now(), None

    def _try(self) -> Permit | None:
        """A permit, or None after at most half a second of waiting for one."""
        with self._changed:
            if self._closed is not None:
                raise self._closed
            now = self._clock.now()
            due = self._allowance.due(now)
            if due <= now:
                return self._allowance.leave(now)
            self._waiting_since = now if self._waiting_since is None else self._waiting_since
            if due == math.inf:
                self._changed.wait(POLL_SECONDS)  # for an answer, which comes in real time
        self._clock.wait(0.0 if due == math.inf else min(due - now, POLL_SECONDS))
        return None

    def _waited_until_now(self) -> float:
        return self._waited + (0.0 if self._waiting_since is None else self._clock.now() - self._waiting_since)

    @property
    def waited(self) -> float:
        """Seconds during which a request waited for the limit, with the present wait."""
        with self._changed:
            return self._waited_until_now()

    def waiting(self) -> tuple[float, float] | None:
        """Since when a request waits for the end of a pause, and when the pause ends; None if no request waits."""
        with self._changed:
            since, until = self._waiting_since, self._allowance.resume_at
            return None if since is None or until <= self._clock.now() else (since, until)

    def on_success(self, permit: Permit, left: float | None = None, reset: float | None = None) -> bool:
        """Record an answer, as `Allowance.served` does."""
        with self._changed:
            begins = self._allowance.served(permit, self._clock.now(), left, reset)
            self._changed.notify()
            return begins

    def on_failure(self) -> None:
        """Record a request without an answer."""
        with self._changed:
            self._allowance.failed()
            self._changed.notify()

    def on_throttled(self, permit: Permit, asked: float | None) -> tuple[float, float]:
        """Record a refusal, as `Allowance.refused` does."""
        with self._changed:
            waits = self._allowance.refused(permit, self._clock.now(), asked)
            self._changed.notify()
            return waits

    def give_up(self, seconds: float, reason: Exception) -> None:
        """Wait this long, which counts as waiting for the limit, and then close."""
        with self._changed:
            self._waiting_since = self._clock.now() if self._waiting_since is None else self._waiting_since
        self._clock.wait(seconds)
        self.close(reason)

    def close(self, reason: Exception) -> None:
        """Let no more requests leave: `acquire` raises `reason`."""
        with self._changed:
            self._closed = reason
            self._waited, self._waiting_since = self._waited_until_now(), None
            self._changed.notify()
