"""The rate limiter that all threads share: when the next request may leave.

CircleCI's limit is not published, so the limiter learns it. It believes one sentence: **the service takes at most
`most` requests in any `window` seconds.** Whenever fewer were sent in the last `window` seconds, the next may leave.

* Before the first refusal there is no belief, and nobody waits.
* The first refusal gives both figures: the wait that it asks for is the window, and what was served in the last window
  is what the service takes.
* Success: the belief holds. Now and then, soon after `most` have left, more is tried until a request is refused: soon
  after the first belief, which others may have had a part in, then ever less often. What was served by then is the new
  `most`. A refusal at that time costs little: nobody could send for a while anyway.
* Refusal: everybody waits as long as the service asks. If `most` were served in the window, it was a little too short,
  or somebody else has sent a request, too. If fewer were served, the limit is lower now, and `most` is what was served.
  But if not even half of the first belief is served at once, the service is a token bucket that had saved requests up:
  from then on the belief follows the rate between two refusals, which is exact for a token bucket. It is left as soon
  as fewer or many more are served: others had a part in it.
* Others: one place is left free most of the time, so that a tap that comes later is served and gets its share.
* Silence (idle threads, slow answers) changes nothing.
* RateLimit-Remaining and -Reset: what answers tell is believed at once.

Why it is stable: the belief only moves to figures that were just measured, and it grows only by requests that were
served. What is tried costs at most a fiftieth of the time, the very first try somewhat more, and about a hundredth of
the requests, more only while few are served.

Libraries do parts of this. CUBIC (RFC 9438) and the adaptive mode of AWS' SDKs learn a rate, but cut it at each
refusal, which leaves much of a window unused. Netflix' concurrency-limits learn from latency, which tells nothing of a
quota before it is used up. aiolimiter, pyrate-limiter and GCRA keep to a limit, but have to be told it.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_right, insort
from dataclasses import dataclass

from tap_circleci.workers import POLL_SECONDS, Clock

BLIND_WAITS = (1.0, 4.0, 5.0, 20.0, 29.0)
"""Seconds to wait after refusals in a row that do not say how long: 1, 5, 10, 30, 59 in all, as long as windows are."""
SAME_MOMENT = 0.01
"""Seconds: requests that leave so shortly one after the other may arrive in the other order."""
LATE = 0.02
"""The share of the window that a slow request can at most have lost on its way; else the service itself was slow."""
LONGER = 1.01
"""A window that was a little too short becomes so much longer."""
FEW = 8
"""If no more were served at first, and the service asked for a wait no longer than `SHORT`, it may be a token bucket
with little to save, which takes more when it comes evenly: then shorter windows are tried."""
SHORT = 5.0
"""Seconds; such a bucket has saved a request again soon."""
ROOM = 80
"""Of so many places one is left free, of fewer one for a part of the time. A tap that comes later would find all taken
whenever it asks, and be refused until it gives up."""
SHORTER = 0.8
"""So much of a window is tried next."""
HELD = 2
"""A belief has held after so many windows: by then a token bucket has given all that it had saved."""
EXPLORE_AFTER = 120
"""Answers between two attempts to get more, each of which ends with a refusal: one in a hundred requests."""
EXPLORE_SECONDS = (10.0, 300.0)
"""Seconds after which it is tried even so, from the first to the last time: little may have been served since somebody
else used the limit up."""
EXPLORE_LATER = 1.5
"""So many times as many after each such attempt."""
EXPLORE_COST = 0.02
"""The share of the time that these attempts may cost: the wait after a refusal begins so much later than the window."""
FIRST_COST = 0.08
"""The share of the window that the very first may cost: as much may be gained by it as was taken by others before."""
MUCH = 2.5
"""Where so many times the rate of a token bucket is served at once, it is none, but others had taken the rest: a bucket
gives what it has saved in a pause of the length of its window, and as much again."""
CAUTION = 8
"""While more is tried, one request for so many that were served may be in flight: the rest of them will be refused."""
KEPT = 120.0
"""Seconds for which requests are remembered: the longest wait, and so the longest window, is a minute."""


@dataclass(frozen=True, eq=False)
class Permit:
    """Leave to send one request, given at `left_at`."""

    left_at: float


@dataclass
class _Refusal:
    """Refusals that come together: when the request of the first left, and whether it says how long to wait.

    `asked` is the longest wait that one of them asks for, or what is waited where they do not say.
    """

    left_at: float
    says_how_long: bool
    asked: float = 0.0


class Allowance:
    """What the service is believed to take. It has no clock: the caller tells the time; for one thread at a time."""

    def __init__(self) -> None:
        self.window = math.inf  # no belief yet
        self.most = 0
        self._saves = False  # the service is a token bucket
        self._may_be_shorter = False  # the window
        self._longer_window: float | None = None  # while a shorter one is tried
        self._least_window = 0.0  # if the waits that are asked for end with the window
        self._changed_at = -math.inf  # when the belief was changed
        self._is_new = False  # no refusal has followed the belief yet
        self._is_untested = False  # nobody has tried whether more is served
        self._explore_after = 0.0  # seconds after a refusal, even if few requests were served

        self._counted: list[float] = []  # when served requests counted at the latest, in order
        self._in_flight = 0
        self._quickest = math.inf  # seconds of the quickest answer
        self._exploring_until: float | None = None
        self._exploring_cost = math.inf  # seconds that were lost by the last refusal of this kind

        self.resume_at = -math.inf  # the end of the present or the last pause
        self._refusal: _Refusal | None = None  # that of the present pause
        self._refused_at = -math.inf
        self._resumed_at = -math.inf  # the end of the last pause that was learnt from
        self._served = 0  # answers to requests that left after the last pause
        self._in_a_row = 0  # pauses after which not even one request was served
        self.paused = 0.0  # seconds of these pauses and the one before them, without the present one
        self._pause = 0.0  # seconds of the present or the last pause
        self._careful = False  # the first requests after the last pause do not leave all at once

        self._remaining: float | None = None  # as told, until
        self._reset_at = 0.0

    # When the next request may leave

    def due(self, now: float) -> float:
        """When the next request may leave; infinity while that depends on an answer that is still to come."""
        if now < self.resume_at:
            return self.resume_at
        if self._refusal is not None:
            self._learn(self._refusal)
            self._refusal = None
        # After a pause one goes first, and then as many at once as were served.
        if self._careful and self._in_flight > self._served:
            return math.inf
        if self._remaining is not None:
            if now >= self._reset_at:
                self._remaining = None
                self._careful, self._served = True, 0
                return math.inf if self._in_flight else now
            if self._remaining <= self._in_flight:  # any of which may not have been counted yet
                return math.inf if self._in_flight else self._reset_at
        return now if self.window == math.inf else self._due_by_window(now)

    def _due_by_window(self, now: float) -> float:
        used = self._count(now - self.window) + self._in_flight
        if self._exploring_until is not None:
            if now < self._exploring_until:
                return now if self._in_flight * CAUTION <= max(0, used - self.most) else math.inf
            self._exploring_until = None
            self.most = max(self.most, used)  # none was refused
        places = self.most - self._leaves_one_free()
        if used < places:
            return now
        if self._in_flight >= places:
            return math.inf
        began = self._counted[self._in_flight - places]
        if self._may_be_shorter and not self._is_untested:
            self._shorten(now)
        elif self._may_explore(now, began):
            self._exploring_until = began + self.window
            return math.inf if self._in_flight else now
        return began + self.window

    def _leaves_one_free(self) -> bool:
        """Whether a place of the window is for others: a token bucket saves what nobody takes anyway."""
        return self.most > FEW and not self._saves and self._served % ROOM < self.most

    def _may_explore(self, now: float, began: float) -> bool:
        since = now - self._refused_at
        if self._is_untested and now - began <= FIRST_COST * self.window:
            return True
        cost = min(now - began, self._exploring_cost)
        is_due = self._is_untested or self._served >= EXPLORE_AFTER or since >= self._explore_after
        return is_due and cost <= EXPLORE_COST * since

    def _shorten(self, now: float) -> None:
        """Try a shorter window whenever one has held."""
        if self._holds(now) and self._served > HELD * self.most:
            self._longer_window, self.window, self._changed_at = self.window, SHORTER * self.window, now

    def _holds(self, now: float) -> bool:
        return now - self._changed_at > HELD * self.window

    def _count(self, since: float) -> int:
        return len(self._counted) - bisect_right(self._counted, since)

    # What happens

    def leave(self, now: float) -> Permit:
        """Take note of a request that leaves."""
        self._in_flight += 1
        return Permit(now)

    def served(self, permit: Permit, now: float, remaining: float | None = None, reset: float | None = None) -> None:
        """Take note of an answer that is no refusal, and of how many more it promises for the next `reset` seconds."""
        self._in_flight -= 1
        took = now - permit.left_at
        self._quickest = min(self._quickest, took)
        # The service may have counted it so much later after it left than the quickest one.
        late = min(took - self._quickest, LATE * self.window) + SAME_MOMENT / 2
        insort(self._counted, permit.left_at + late)
        if self._counted[0] < now - 2 * KEPT:
            del self._counted[: bisect_right(self._counted, now - KEPT)]
        if permit.left_at >= self.resume_at:  # a slow answer tells nothing of the time after the pause
            self._served += 1
            self._in_a_row = 0
        overtaken = remaining is None or (self._remaining is not None and self._remaining < remaining)
        if reset is not None and not overtaken:
            self._remaining, self._reset_at = remaining, now + max(reset, 1.0)  # it is told in whole seconds

    def failed(self) -> None:
        """Take note of a request without an answer."""
        self._in_flight -= 1

    def refused(self, permit: Permit, now: float, asked: float | None) -> bool:
        """Take note of a refusal that asks to wait so many seconds, if it says so.

        Gives whether it begins a pause: the other refusals that come together with it do not.
        """
        self._in_flight -= 1
        begins = self._refusal is None and permit.left_at >= self.resume_at
        if begins:
            again = self.resume_at > -math.inf and not self._served
            self._in_a_row, self.paused = (self._in_a_row + 1, self.paused + self._pause) if again else (0, 0.0)
            self._pause = 0.0
            self._refusal = _Refusal(permit.left_at, asked is not None)
        wait = BLIND_WAITS[min(self._in_a_row, len(BLIND_WAITS) - 1)]
        if asked is not None:
            wait = max(asked, wait if self._in_a_row > 1 else 0.0)  # somebody else may always be first
        if self._refusal is not None:
            self._refusal.asked = max(self._refusal.asked, wait if asked is None else asked)
        self.pause(now, wait)
        return begins

    def pause(self, now: float, seconds: float) -> None:
        """Let nothing leave for so long."""
        until = max(self.resume_at, now + seconds)
        self._pause += until - max(self.resume_at, now)
        self.resume_at = until

    # What is learnt from a refusal, at the end of its pause, when all answers to what left before are there

    def _learn(self, refusal: _Refusal) -> None:
        at, before = refusal.left_at, (self.window, self.most)
        held = self._holds(at)
        is_new, self._is_new = self._is_new and not held, False
        if self._in_a_row:
            self._wait_longer(refusal)
        elif self.window == math.inf or refusal.asked > max(1.0, 1.1 * self.window):
            self._believe_what_is_asked(refusal)
        elif self._exploring_until is not None:
            self._learn_from_exploring(refusal)
        elif self._longer_window is not None:
            self.window, self._longer_window, self._may_be_shorter = self._longer_window, None, False
        elif self._saves and self._served >= self.most:  # else it was somebody else who used it up
            self.window = self.most / self._rate()
        elif self._count(at - self.window - SAME_MOMENT) >= 0.98 * self.most:
            self._correct(refusal, held)
        else:
            self._lower(refusal, is_new)
        if self._exploring_until is not None:
            self._exploring_cost = self.resume_at - self._exploring_until
            self._is_untested = False
            self._explore_after = min(EXPLORE_LATER * self._explore_after, EXPLORE_SECONDS[1])
        if (self.window, self.most) != before:
            self._changed_at = self.resume_at
        if not self._in_a_row:
            self._refused_at = at
        self._careful, self._exploring_until = self._exploring_until is None, None
        self._resumed_at, self._served = self.resume_at, 0

    def _wait_longer(self, refusal: _Refusal) -> None:
        """Not even one was served after the pause: if nobody has said how long it is to be, the window is longer."""
        if not refusal.says_how_long and self.window < math.inf:
            self.window += refusal.asked
            self.most = max(self.most, self._count(self._refused_at - self.window))

    def _believe_what_is_asked(self, refusal: _Refusal) -> None:
        """Take the wait for the window, and what was served in it since the last pause for all that is served."""
        window = max(1.0, refusal.asked)
        count = max(self.most, self._count(max(refusal.left_at - window, self._resumed_at)))
        if count:  # else it was somebody else who used the limit up
            self._may_be_shorter = self.window == math.inf and count <= FEW and window <= SHORT
            self._longer_window = None
            self.window, self.most, self._is_new, self._is_untested = window, count, True, True
            self._explore_after = max(window, EXPLORE_SECONDS[0])
            self._least_window = self._waited_for(refusal)

    def _waited_for(self, refusal: _Refusal) -> float:
        """How long a window is at least whose end the service has named, in whole seconds.

        It began with the first of the last `most`, or with one of the two after that: a place may have been free, and
        what left at about the time of the refusal may have counted later.
        """
        if not self._counted:
            return 0.0  # all was so long ago that it is forgotten
        place = bisect_right(self._counted, refusal.left_at)
        return refusal.left_at - self._counted[max(0, min(place - self.most + 2, place - 1))] + refusal.asked - 1

    def _learn_from_exploring(self, refusal: _Refusal) -> None:
        """Believe in what was served until then, but never in less than before."""
        if not self._saves:
            self.most = max(self.most, self._count(refusal.left_at - self.window))
            return
        asked = max(1.0, refusal.asked)
        count = self._count(refusal.left_at - asked)
        if count / asked > MUCH * self.most / self.window:
            self.window, self.most, self._saves, self._is_new = asked, count, False, True
        else:
            self.window = min(self.window, self.most / self._rate())

    def _correct(self, refusal: _Refusal, held: bool) -> None:
        """Change a belief that was wrong by a little."""
        names_the_end = refusal.asked < 0.9 * self.window
        if names_the_end and refusal.asked > 1:
            self._least_window = self._waited_for(refusal)
        if names_the_end or held or self.most > 100:
            self.window = max(LONGER * self.window, math.ceil(self._least_window) if names_the_end else 0.0)
        else:
            self.most = max(1, min(self.most - 1, self._count(refusal.left_at - self.window)))

    def _lower(self, refusal: _Refusal, is_new: bool) -> None:
        """Believe in the lower limit that shows, or in a token bucket that has given what it had saved."""
        count = max(1, self._count(refusal.left_at - self.window))
        self._saves = is_new and self.window <= 1 and count <= self.most / 2
        self.most = count
        if self._saves:
            self.most = min(count, math.ceil(self._rate() * self.window))
            self.window = self.most / self._rate()

    def _rate(self) -> float:
        """What was served a second, from the end of the pause before to that of this one."""
        return max(1, self._served) / (self.resume_at - self._resumed_at)


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

    def on_throttled(self, permit: Permit, asked: float | None) -> tuple[float, float, bool]:
        """Hold everybody for the seconds that a refusal asks for, or longer and longer when it does not say.

        Gives the seconds until requests leave again, those for which all had been held in a row before without one that
        was served, and whether this is news: the other refusals of one burst are not.
        """
        with self._changed:
            now = self._clock.now()
            news = self._allowance.refused(permit, now, asked)
            self._changed.notify_all()
            return max(0.0, self._allowance.resume_at - now), self._allowance.paused, news

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
