"""The rate limiter that all threads share: when the next request may leave.

CircleCI's limit is not published, so the limiter learns it. It believes one sentence: **the service takes at most
`most` requests in any `window` seconds**, counted from when they leave. It plans with no more than that.

* Before the first refusal there is no belief, and nobody waits.
* The first refusal gives both figures: the wait that it asks for is the window, and what was served within the last
  window is what the service takes.
* Success: the belief holds. Now and then one request more is tried, when a window's requests have left early. If it is
  served, more follow until one is refused. A refusal at that time costs little: nobody could send before the end of
  the window anyway.
* Refusal: everybody waits as long as the service asks. A belief that had held for long was nearly right: the window
  gets 2 % longer. Any other is replaced by what was served in the last window. Part of that may have been saved up (a
  token bucket): what exceeds the rate since the last pause leaves one by one until it has held for some windows.
* Silence (idle threads, slow answers) changes nothing.
* RateLimit-Remaining and -Reset: what answers tell is believed at once.

Why it is stable: the belief only moves to figures that were just measured; it grows only by requests that were served;
few requests are in flight while it is in doubt; tests that fail become rarer.

Libraries do parts of this. CUBIC (RFC 9438) and the adaptive mode of AWS' SDKs learn a rate, but cut it at each
refusal, which leaves much of a window unused. Netflix' concurrency-limits learn from latency, which tells nothing of a
quota before it is used up. aiolimiter, pyrate-limiter and GCRA keep to a limit, but have to be told it.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass
from itertools import chain

from tap_circleci.workers import POLL_SECONDS, Clock

MARGIN = 1.02
"""The window that is kept, as a multiple of the service's: requests are not under way equally long."""
BLIND_WAITS = (1.0, 4.0, 5.0, 20.0, 29.0)
"""Seconds to wait after refusals in a row that do not say how long: 1, 5, 10, 30, 59 in all, as long as windows are."""
HELD = 4
"""A belief is beyond doubt after so many windows: by then a token bucket has given all that it had saved."""
TEST_FIRST, TEST_LAST = 64, 160
"""Answers between two tests for more, at first and when tests keep failing; each may cost a refusal, so under 1 %."""
TEST_COST = 0.03
"""The share of time that tests may cost: one is refused so long after its window began, and all of that is lost."""
CAUTION = 8
"""Beyond what is sure, one more request may be in flight for each so many served: what a wrong belief risks."""
SHORTER = 0.8
"""The part of a window after which a request tests whether the service's window is shorter."""
SHORTER_AFTER = 150
"""Windows between such tests, each of which may cost a whole one."""
JUST_OVER = 1.05
"""How much longer than a window to look back: a refusal just after one may mean that it is longer."""
REMEMBERED = 20_000
"""Requests whose time is kept: twenty times what people report as CircleCI's limit for a minute."""


@dataclass(frozen=True, eq=False)
class Permit:
    """Leave to send one request, given at `left_at`; where it tests for a shorter window, that is so many seconds."""

    left_at: float
    shorter_window: float | None = None


class Allowance:
    """What the service is believed to take. It has no clock: the caller tells the time; for one thread at a time."""

    def __init__(self) -> None:
        self.window = math.inf  # no belief yet
        self.most = 0
        self._sure = 0  # so many of `most` are beyond doubt
        self._left: deque[float] = deque(maxlen=REMEMBERED)  # when the requests left that were not refused
        self._passed: deque[float] = deque(maxlen=REMEMBERED)  # those of before the present window
        self._in_flight = 0
        self._held = 0  # answers under this belief
        self._whole = True  # a whole window has been served under the first belief

        self._testing = False
        self._test_after = 0
        self._longer_window: float | None = None  # what was believed before a test, until the shorter one has held
        self._shorter_at = 0.0

        self._refused_at = 0.0
        self._resumed_at = 0.0  # the end of the pause before this one
        self._served = 0  # answers since the last refusal

        self.resume_at = -math.inf
        self._refusal: Permit | None = None  # the first of the present pause
        self._burst = 0  # refusals that belong to it
        self._asked = 0.0
        self._in_a_row = 0  # pauses after which not even one request was served
        self._careful = False  # there was a pause
        self._since_pause = 0  # answers to requests that left after it

        self._remaining: float | None = None  # as told, until
        self._reset_at = 0.0

    def due(self, now: float) -> float:
        """When the next request may leave; infinity while that depends on an answer that is still to come."""
        if now < self.resume_at:
            return self.resume_at
        if self._refusal is not None:
            self._learn(self._refusal)
            self._refusal = None
        # After a pause one goes first, and then as many at once as were served, or a quarter while little is known.
        if self._careful and self._in_flight > self._since_pause // (1 if self._whole else 4):
            return math.inf
        if self._remaining is not None:
            if now >= self._reset_at:
                self._remaining = None
                self._begin_carefully()
                return math.inf if self._in_flight else now
            if self._remaining <= self._in_flight:  # any of which may not have been counted yet
                return math.inf if self._in_flight else self._reset_at
        return now if self.window == math.inf else self._due_by_window(now)

    def _due_by_window(self, now: float) -> float:
        left = self._left
        while left and left[0] + self.window <= now:
            self._passed.append(left.popleft())
        beyond = len(left) - (self.most if self._testing else self._sure)
        unsure = beyond >= 0 and (self._testing or len(left) < self.most)
        if unsure and self._in_flight and self._in_flight * CAUTION >= beyond:
            return math.inf
        if len(left) < self.most:
            return now
        next_slot, began = left[0] + self.window, now - left[0]
        if self._testing:
            if began < SHORTER * self.window:
                return now
            if self._in_flight:
                return math.inf
            # Nothing was refused: what was believed before is beyond doubt.
            self._testing, self._sure, self.most, self._held = False, self.most, len(left), 0
        if len(left) > self.most:
            return next_slot
        cheap = began < self.window / 2 or began <= TEST_COST * (now - self._refused_at)
        if cheap and self._sure == self.most and self._served >= self._test_after:
            self._testing = True
            return now
        shorter = left[0] + SHORTER * self.window
        if shorter - self._shorter_at > SHORTER_AFTER * self.window:
            return math.inf if self._in_flight else shorter
        return next_slot

    def leave(self, now: float) -> Permit:
        """Take note of a request that leaves."""
        full = self.window < math.inf and 0 < self.most <= len(self._left)
        shorter_window = None
        if full and not self._testing and now < self._left[0] + self.window:
            shorter_window, self._shorter_at = now - self._left[0], now
        self._left.append(now)
        self._in_flight += 1
        return Permit(now, shorter_window)

    def served(self, permit: Permit, now: float, remaining: float | None = None, reset: float | None = None) -> None:
        """Take note of an answer that is no refusal, and of how many more it promises for the next `reset` seconds."""
        self._in_flight -= 1
        self._served += 1
        self._held += 1
        if permit.left_at >= self.resume_at:  # a slow answer tells nothing of the time after the pause
            self._since_pause += 1
            self._in_a_row = 0
        if permit.shorter_window is not None and self._refusal is None:
            self._longer_window, self.window, self._held = self.window, permit.shorter_window, 0
            self._shorter_at = now - (SHORTER_AFTER - HELD) * self.window
        self._whole = self._whole or self._held > self.most
        if self._held > HELD * self.most and not self._testing:
            self._sure, self._longer_window = self.most, None
        overtaken = remaining is None or (self._remaining is not None and self._remaining < remaining)
        if reset is not None and not overtaken:
            self._remaining, self._reset_at = remaining, now + max(reset, 1.0)  # it is told in whole seconds

    def failed(self) -> None:
        """Take note of a request without an answer: the service may have counted it."""
        self._in_flight -= 1

    def refused(self, permit: Permit, now: float, asked: float | None) -> bool:
        """Take note of a refusal that asks to wait so many seconds, if it says so.

        Gives whether it begins a pause: the other refusals of one burst do not.
        """
        self._in_flight -= 1
        if permit.left_at in self._left:
            self._left.remove(permit.left_at)
        news = self._refusal is None and permit.left_at >= self.resume_at
        if news:
            again = self.resume_at > -math.inf and not self._since_pause
            self._in_a_row = self._in_a_row + 1 if again else 0
            self._refusal, self._asked, self._burst = permit, 0.0, 0
            if not self._testing:
                self._begin_carefully()
        self._burst += 1
        wait = BLIND_WAITS[min(self._in_a_row, len(BLIND_WAITS) - 1)]
        if asked is not None:
            wait = max(asked, wait) if self._in_a_row else asked
        self._asked = max(self._asked, wait if asked is None else asked)
        self.pause(now, wait)
        return news

    def pause(self, now: float, seconds: float) -> None:
        """Let nothing leave for so long."""
        self.resume_at = max(self.resume_at, now + seconds)
        self._since_pause = 0

    def _begin_carefully(self) -> None:
        self._careful, self._since_pause = True, 0

    def _learn(self, refusal: Permit) -> None:
        """Change the belief at the end of the pause after `refusal`, when all answers to what left before are there."""
        at, known = refusal.left_at, self.window < math.inf
        confirmed = False
        if not known or self._asks_for_more_than_believed(refusal):
            self._believe_what_is_asked(at)
        elif refusal.shorter_window is not None:
            pass  # the window is as long as believed
        elif self._testing:
            confirmed = self._learn_from_test(at)
        elif self._in_a_row:
            self.window += self._asked  # not even one was served after the pause
        elif self._longer_window is not None:
            self.window, self._shorter_at = self._longer_window, at
        elif self._held > HELD * self.most:
            self._correct(at)
        else:
            self._measure(at)
        if known:
            self._test_after = max(self._test_after, TEST_FIRST)
        if not confirmed:
            self._held = 0
        self._testing, self._longer_window = False, None
        self._refused_at, self._resumed_at, self._served = at, self.resume_at, 0

    def _asks_for_more_than_believed(self, refusal: Permit) -> bool:
        """Whether the refusal asks to wait longer than a window; one second may stand for any part of it."""
        if refusal.shorter_window is not None or self._longer_window is not None or self._in_a_row:
            return False
        return self._asked > 1 and self._asked * MARGIN > 1.1 * self.window

    def _believe_what_is_asked(self, at: float) -> None:
        """Take the wait for the window, and what was served in it for all that is served."""
        window = max(1.0, self._asked) * MARGIN
        count = max(self.most, self._count(at - window))
        if count:  # else it was somebody else who used the limit up
            self._whole = self.window < math.inf
            self.window, self.most, self._sure = window, count, count
            # Hardly any served: that may be a token bucket with little to save, which takes more when it comes evenly.
            self._shorter_at = at if count > self._burst else -math.inf

    def _learn_from_test(self, at: float) -> bool:
        """Believe what was served before a test was refused; gives whether the belief was right."""
        count = self._count(at - self.window)
        saved = min(2 + 0.05 * self._served, self.most / 2)  # by a token bucket, since less was asked for than it gives
        self._test_less()
        if self.most <= count <= self.most + saved:
            return True
        self.most = count if count > self.most else self._sure
        return False

    def _correct(self, at: float) -> None:
        """Change a belief that had held for long: by little, or to what is served now that the limit is lower."""
        count = self._count(at - JUST_OVER * self.window)
        if count < min(0.9 * self.most, self.most - 1):
            self.most = self._sure = max(1, count)
        else:
            self._lengthen(self._goes_on_sooner())

    def _measure(self, at: float) -> None:
        """Replace a belief that did not hold by what was served in its window, or at least since the pause before."""
        count = max(1, min(self._count(at - JUST_OVER * self.window), self.most))
        sure = max(1, min(count, math.floor(self._rate() * self.window)))
        if self._sure < self.most:
            self.most = self._sure = max(self._sure, sure)
            self._test_less()
        elif count == sure == self.most or (count >= 0.9 * self.most and self._goes_on_sooner()):
            self._lengthen(True)
        else:
            if count == self.most:
                self._lengthen(False)
            self.most, self._sure = count, sure

    def _rate(self) -> float:
        """What was served a second, from the end of the pause before to that of this one."""
        return max(1, self._served) / (self.resume_at - self._resumed_at)

    def _goes_on_sooner(self) -> bool:
        """Whether the service goes on sooner than after a whole window: then it has named the end of a fixed one."""
        return 1 < self._asked < 0.9 * self.window

    def _lengthen(self, to_rate: bool) -> None:
        """Believe in a window a little longer, or as long as what was served needs."""
        self.window = max(self.window, self.most / self._rate() if to_rate else 0.0) * MARGIN

    def _test_less(self) -> None:
        self._test_after = min(max(2 * self._test_after, TEST_FIRST), TEST_LAST)

    def _count(self, since: float) -> int:
        return sum(1 for moment in chain(self._passed, self._left) if moment > since)


class RateLimiter:
    """Decides for all threads together when the next request may leave. Safe to use from many threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._allowance = Allowance()
        self._closed: Exception | None = None
        self._held_until = 0.0
        self.waited = 0.0  # seconds in which a request had to wait for the limit

    def acquire(self) -> Permit:
        """Wait for leave to send one request; then one of `on_success`, `on_throttled`, `on_failure` has to follow."""
        while True:
            with self._changed:
                if self._closed is not None:
                    raise self._closed
                now = self._clock.now()
                due = self._allowance.due(now)
                if due <= now:
                    return self._allowance.leave(now)
                if due == math.inf:
                    self._changed.wait(POLL_SECONDS)  # for an answer, which comes in real time
                else:
                    self.waited += max(0.0, due - max(now, self._held_until))
                    self._held_until = max(self._held_until, due)
            self._clock.wait(0.0 if due == math.inf else min(due - now, POLL_SECONDS))

    def on_success(self, permit: Permit, remaining: float | None = None, reset: float | None = None) -> None:
        """Take note of an answer, no refusal; it may tell how many more are served in the `reset` seconds to come."""
        with self._changed:
            self._allowance.served(permit, self._clock.now(), remaining, reset)
            self._changed.notify_all()

    def on_failure(self) -> None:
        """Take note of a request that got no answer."""
        with self._changed:
            self._allowance.failed()
            self._changed.notify_all()

    def on_throttled(self, permit: Permit, asked: float | None) -> tuple[float, bool]:
        """Hold everybody for the seconds that a refusal asks for, or longer and longer when it does not say.

        Gives the seconds until requests leave again, and whether this is news: the other refusals of one burst are not.
        """
        with self._changed:
            now = self._clock.now()
            news = self._allowance.refused(permit, now, asked)
            self._changed.notify_all()
            return max(0.0, self._allowance.resume_at - now), news

    def pause(self, seconds: float) -> bool:
        """Let nobody send for so long: the service has said that nothing is left. Tells whether this is news."""
        with self._changed:
            now = self._clock.now()
            news = now >= self._allowance.resume_at
            self._allowance.pause(now, seconds)
            return news

    def close(self, reason: Exception) -> None:
        """Let no request leave any more: whoever asks gets `reason`."""
        with self._changed:
            self._closed = reason
            self._changed.notify_all()
