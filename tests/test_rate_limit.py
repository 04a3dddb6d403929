"""The rate limiter, simulated request by request against limits of all kinds, and its threads."""

from __future__ import annotations

import heapq
import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count, zip_longest
from statistics import fmean, median
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tap_circleci.errors import Refused
from tap_circleci.http.rate_limit import BLIND_WAITS, Allowance, Permit, RateLimiter
from tap_circleci.workers import Clock
from tests.circleci.limits import FixedWindow, RateLimit, SlidingWindow, TokenBucket
from tests.tap import FastClock, until

REFUSALS = 6
"""429 answers to one request until a run ends."""
MOST_WAITING = 60.0
"""Seconds of waiting until a run ends."""


@dataclass
class Job:
    """A request: how often it was refused, and for how many seconds it was told to wait."""

    refusals: int = 0
    waited: float = 0.0


@dataclass
class Tap:
    """One tap with its workers."""

    allowance: Allowance = field(default_factory=Allowance)
    idle: int = 0
    refused: deque[Job] = field(default_factory=deque)
    first_burst_ends: float = math.inf
    is_new: bool = True
    ends: float = math.inf
    wakes_at: float = math.inf


@dataclass
class Outcome:
    """What a simulation comes to: `refused` without the first burst of each tap, `given_up` for having been refused."""

    seconds: float = 0.0
    served: int = 0
    refused: int = 0
    first_burst: int = 0
    given_up: int = 0
    left_in_pause: int = 0

    @property
    def share_refused(self) -> float:
        """The share that was refused, without the first burst."""
        return self.refused / self.served


def simulate(  # noqa: PLR0915 - one loop over events
    limit: RateLimit,
    answers: int = 1000,
    *,
    workers: int = 8,
    latency: float = 0.05,
    starts: Sequence[float] = (0.0,),
    ends: Sequence[float] = (),
    changes: Sequence[tuple[int, Callable[[], Any]]] = (),
    seed: int = 1,
) -> Outcome:
    """Let taps that start and end at these times send requests until so many were served.

    A change is made after so many answers. Each tap sends one request first, and then with all workers. A request is
    counted when it arrives, after half of the latency and a jitter of 2 ms on average.
    """
    jitter = random.Random(seed)
    taps = [Tap(ends=end) for _, end in zip_longest(starts, ends, fillvalue=math.inf)]
    outcome, due_changes, number = Outcome(), deque(changes), count()
    events: list[tuple[float, int, str, Tap, Any]] = []

    def later(at: float, what: str, tap: Tap, details: Any = None) -> None:
        heapq.heappush(events, (at, next(number), what, tap, details))

    for tap, start in zip(taps, starts, strict=True):
        later(start, "start", tap)
    while outcome.served < answers:
        now, _, what, tap, details = heapq.heappop(events)
        if what == "start":
            tap.idle = 1
        elif what == "wake":
            tap.wakes_at = math.inf
        elif what == "arrive":
            job, permit = details
            later(now + latency / 2, "answer", tap, (job, permit, *limit.answer(now)))
            continue
        elif what == "answer":
            job, permit, served, headers = details
            tap.idle += 1
            if served:
                outcome.served += 1
                tap.idle += workers - 1 if tap.is_new else 0
                tap.is_new = False
                tap.allowance.served(permit, now, _told(headers, "Remaining"), _told(headers, "Reset"))
            else:
                wait, before = tap.allowance.refused(permit, now, _told(headers, "Retry-After"))
                tap.first_burst_ends = min(tap.first_burst_ends, tap.allowance.resume_at)
                first = permit.left_at < tap.first_burst_ends
                outcome.first_burst += first
                outcome.refused += not first
                job.refusals += 1
                job.waited += wait
                outcome.given_up += job.refusals == REFUSALS or max(job.waited, before + wait) > MOST_WAITING
                tap.refused.append(job)
            while due_changes and outcome.served >= due_changes[0][0]:
                due_changes.popleft()[1]()
        while tap.idle and now < tap.ends:
            due = tap.allowance.due(now)
            if due > now:
                if due < tap.wakes_at:
                    tap.wakes_at = due
                    later(due, "wake", tap)
                break
            outcome.left_in_pause += now < tap.allowance.resume_at
            tap.idle -= 1
            job = tap.refused.popleft() if tap.refused else Job()
            permit = tap.allowance.leave(now)
            later(now + latency / 2 + jitter.expovariate(500), "arrive", tap, (job, permit))
    outcome.seconds = now
    return outcome


def _told(headers: Any, name: str) -> float | None:
    return next((float(value) for header, value in headers.items() if header.endswith(name)), None)


def sliding(most: int, seconds: float, retry_after: float | str | None = "left", told: str = "") -> RateLimit:
    return RateLimit(SlidingWindow(most, seconds), retry_after, told)


def check(runs: Sequence[tuple[float, Outcome]], least: float, most_refused: float) -> None:
    """Assert the medians of what was used, given the seconds that a perfect limiter takes, and of what was refused."""
    assert median(ideal / outcome.seconds for ideal, outcome in runs) >= least
    assert median(outcome.share_refused for _, outcome in runs) <= most_refused
    assert not any(outcome.given_up for _, outcome in runs)


SEEDS = range(5)
SLIDING = {
    "200 in 10 s": (200, 10, 8, 0.02, 0.92, 0.01),
    "100 in 10 s": (100, 10, 8, 0.05, 0.92, 0.01),
    "150 in 1 s": (150, 1, 16, 0.02, 0.80, 0.02),
    "40 in 1 s": (40, 1, 16, 0.02, 0.85, 0.02),
    "10 in 1 s": (10, 1, 8, 0.1, 0.85, 0.02),
    "3 in 1 s": (3, 1, 8, 0.05, 0.85, 0.02),
}


@pytest.mark.parametrize("retry_after", ["window", "left", None])
@pytest.mark.parametrize("name", SLIDING)
def test_a_sliding_window_is_used_and_seldom_overrun(name, retry_after):
    """Over 1,000 answers most of the limit is used and few requests are refused, with and without Retry-After."""
    most, seconds, workers, latency, least, refused = SLIDING[name]
    runs = []
    for seed in SEEDS:
        limit = sliding(most, seconds, float(seconds) if retry_after == "window" else retry_after)
        runs.append((1000 * seconds / most, simulate(limit, workers=workers, latency=latency, seed=seed)))
    check(runs, least, refused)


@pytest.mark.parametrize("latency", [0.02, 0.1])
@pytest.mark.parametrize("since", [0, -20, -50])
def test_a_fixed_window_is_used(latency, since):
    """600 a minute, with Retry-After to the end of the minute, wherever in it the run begins."""
    limits = [RateLimit(FixedWindow(600, 60, since)) for _ in SEEDS]
    runs = [simulate(limit, 5980, latency=latency, seed=seed) for seed, limit in enumerate(limits)]
    check([(540 + since, run) for run in runs], 0.87, 0.01)


@pytest.mark.parametrize("retry_after", ["left", None])
@pytest.mark.parametrize(("burst", "workers", "least"), [(100, 8, 0.95), (100, 16, 0.95), (5, 8, 0.8), (1, 8, 0.6)])
def test_a_token_bucket_is_followed_at_its_rate(burst, workers, least, retry_after):
    """A limit of 10 requests a second that allows a burst is used at its rate."""
    limits = [RateLimit(TokenBucket(burst, 10), retry_after) for _ in SEEDS]
    runs = [simulate(limit, workers=workers, seed=seed) for seed, limit in enumerate(limits)]
    check([((1000 - burst) / 10, run) for run in runs], least, 0.02)


@pytest.mark.parametrize(
    ("limit", "workers", "answers"),
    [
        (lambda: RateLimit(FixedWindow(600, 60)), 8, 1850),
        (lambda: sliding(200, 10), 8, 1000),
        (lambda: sliding(200, 10, 10.0), 8, 990),
        (lambda: sliding(40, 1), 8, 1000),
        (lambda: sliding(150, 1), 16, 6000),
    ],
)
def test_a_limit_that_halves_and_doubles_is_followed(limit, workers, answers):
    """A lower limit is kept at once; a higher one is found within a few of its windows."""
    runs = []
    for seed in SEEDS:
        changing = limit()
        full = changing.kind.most
        changes = [
            (answers, lambda kind=changing.kind, most=full // 2: setattr(kind, "most", most)),
            (2 * answers, lambda kind=changing.kind, most=full: setattr(kind, "most", most)),
        ]
        ideal = 4 * answers / full * changing.kind.seconds
        runs.append((ideal, simulate(changing, 3 * answers, workers=workers, changes=changes, seed=seed)))
    check(runs, 0.8, 0.02)


@pytest.mark.parametrize(
    ("limit", "least", "refused"),
    [
        (lambda: sliding(100, 10, 10.0), 0.95, 0.02),
        (lambda: RateLimit(FixedWindow(600, 60)), 0.95, 0.02),
        (lambda: sliding(10, 1, 1.0), 0.75, 0.15),
    ],
)
def test_two_taps_share_a_limit(limit, least, refused):
    """Together they get most of what one would get, and neither is refused until it gives up."""
    check([(100, simulate(limit(), starts=[0.0, 0.0], seed=seed)) for seed in SEEDS], least, refused)


@pytest.mark.parametrize(
    ("most", "seconds", "retry_after"),
    [(100, 10, 10.0), (100, 10, "left"), (200, 10, 10.0), (40, 1, 1.0), (40, 1, None)],
)
def test_a_tap_that_comes_later_finds_a_place(most, seconds, retry_after):
    """A second tap is served before it would give up, and on average most of the limit is used."""
    outcomes = [
        simulate(sliding(most, seconds, retry_after), 12 * most, starts=[0.0, (0.2 + 0.37 * seed) * seconds], seed=seed)
        for seed in range(8)
    ]
    assert not any(outcome.given_up for outcome in outcomes)
    assert 12 * seconds / fmean(outcome.seconds for outcome in outcomes) >= 0.8
    assert fmean(outcome.share_refused for outcome in outcomes) <= 0.04


@pytest.mark.parametrize(
    ("limit", "rate"),
    [
        (lambda: RateLimit(TokenBucket(100, 10)), 10),
        (lambda: sliding(10, 1, 1.0), 10),
        (lambda: sliding(40, 1, 1.0), 40),
        (lambda: sliding(100, 10, 10.0), 10),
    ],
)
def test_what_another_tap_leaves_is_taken(limit, rate):
    """A tap that shared the limit for a while uses most of it some time after the other has ended."""
    shares, refused = [], []
    for seed in range(12):
        starts, ends = [0.0, 2 + 0.37 * seed], [math.inf, 40.0]
        before = simulate(limit(), 41 * rate, starts=starts, ends=ends, seed=seed)
        after = simulate(limit(), 200 * rate, starts=starts, ends=ends, seed=seed)
        shares.append(159 / (after.seconds - before.seconds))
        refused.append(after.share_refused)
    assert median(shares) >= 0.65
    assert median(refused) <= 0.04


def test_refusals_that_always_name_the_whole_minute_are_followed():
    """A limit of 600 in 60 s whose Retry-After is always 60 is used for ten minutes."""
    check([(600, simulate(sliding(600, 60, 60.0), 6000, seed=seed)) for seed in SEEDS], 0.75, 0.02)


# Refusals that no limit causes


class Incident(RateLimit):
    """Refuses this share of all requests at random, whatever the pace."""

    def __init__(self, share: float, wait: float | None, seed: int) -> None:
        super().__init__(SlidingWindow(10**9, 1))
        self._share, self._wait, self._random = share, wait, random.Random(seed)

    def answer(self, now: float) -> tuple[bool, dict[str, str]]:
        if self._random.random() >= self._share:
            return True, {}
        return False, {} if self._wait is None else {"Retry-After": f"{self._wait:g}"}


@pytest.mark.parametrize("workers", [1, 4, 8, 32])
@pytest.mark.parametrize("wait", [1.0, None])
@pytest.mark.parametrize(("share", "most"), [(0.01, 1.5), (0.05, 2.5), (0.1, 2.5), (0.3, 3.0)])
def test_an_incident_costs_about_what_its_refusals_ask_for(share, most, wait, workers):
    """If 1 to 30 % of the requests are refused at random, a run takes at most a few times its work and waits."""
    shares = []
    for seed in SEEDS:
        outcome = simulate(Incident(share, wait, seed), workers=workers, seed=seed)
        shares.append(outcome.seconds / (1000 * 0.052 / workers + outcome.refused + outcome.first_burst))
        assert not outcome.given_up or share > 0.1  # six refusals of one request: 1 in 1,400 then
    assert median(shares) <= most


@pytest.mark.parametrize("told", ["RateLimit-", "X-RateLimit-"])
def test_a_limit_that_answers_tell_is_never_overrun(told):
    """With Remaining and Reset in time, no request is refused and the whole limit is used."""
    for kind, least in ((FixedWindow(600, 60, -20), 160), (TokenBucket(100, 10), 190)):
        outcome = simulate(RateLimit(kind, told=told), 2000)
        assert least / outcome.seconds >= 0.95
        assert outcome.refused + outcome.first_burst == 0
    outcome = simulate(sliding(200, 10, told=told), 1000)
    assert outcome.refused + outcome.first_burst == 0


@pytest.mark.parametrize(("reset", "workers"), [(60, 1), (60, 8), (5, 8)])
def test_answers_that_say_in_vain_that_nothing_is_left_are_ignored_after_three(reset, workers):
    """If each answer has RateLimit-Remaining: 0 and all are served, there are two pauses, then none."""

    class Wrong(RateLimit):
        def answer(self, now: float) -> tuple[bool, dict[str, str]]:
            return True, {"RateLimit-Remaining": "0", "RateLimit-Reset": f"{reset}"}

    outcome = simulate(Wrong(SlidingWindow(10**9, 1)), workers=workers)
    assert outcome.seconds < 2 * reset + 1.15 * 1000 * 0.052 / workers


def test_an_answer_that_says_that_something_is_left_ends_the_doubt():
    """After an answer with requests left, it again takes three in a row until such answers are ignored."""
    allowance, now = Allowance(), 0.0
    paused = []
    for left in (0, 0, 1, 0, 0, 0, 0, 1, 0):
        now = max(now, allowance.due(now))
        paused.append(allowance.served(allowance.leave(now), now, left, 60.0))
    assert paused == [True, True, False, True, True, False, False, False, True]


def test_a_pause_that_an_answer_told_of_never_counts_as_waited_in_vain():
    """The pauses that answers announce do not count towards the 60 seconds after which a run ends."""
    allowance, now = Allowance(), 0.0
    for _ in range(8):
        now = allowance.due(now)
        assert allowance.served(allowance.leave(now), now, 0, 10.0)
        now += 10.0
        assert allowance.due(now) == now
        allowance.served(allowance.leave(now), now, 4, 10.0)
    assert allowance.refused(allowance.leave(now), now, 3.0) == (3.0, 0.0)


@pytest.mark.parametrize("number", [1, 2, 6, 50])
@pytest.mark.parametrize("seconds", [1.0, 10.0, 60.0])
def test_a_refusal_for_what_others_sent_is_not_taken_for_the_limit(number, seconds):
    """If only one early request is refused, all workers are busy again in less than a minute."""

    class Once(RateLimit):
        asked = 0

        def answer(self, now: float) -> tuple[bool, dict[str, str]]:
            self.asked += 1
            return self.asked != number, {"Retry-After": f"{seconds:g}"} if self.asked == number else {}

    outcome = simulate(Once(SlidingWindow(10**9, 1)), 2000)
    assert outcome.refused == 0
    assert outcome.seconds < seconds + 2000 * 0.05 / 8 + 60


def test_without_a_limit_nobody_waits():
    """Without refusals the run takes no longer than the latency of its requests."""
    outcome = simulate(sliding(10**9, 1), 5000, workers=32)
    assert outcome.seconds < 1.1 * 5000 * 0.05 / 32


def test_what_is_told_to_wait_waits():
    """No request leaves before the end of a pause; only requests in flight are refused in it."""
    outcome = simulate(sliding(40, 1, 1.0), 400, workers=16)
    assert outcome.left_in_pause == 0
    assert outcome.first_burst <= 16


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    most=st.integers(10, 300),
    seconds=st.sampled_from([1.0, 2.0, 5.0, 10.0, 15.0, 60.0]),
    kind=st.sampled_from(["sliding", "fixed", "bucket"]),
    retry_after=st.sampled_from(["window", "left"]),
    workers=st.integers(1, 32),
    latency=st.floats(0.01, 0.3),
    seed=st.integers(0, 1000),
)
def test_any_limit_is_learnt_to_some_extent(most, seconds, kind, retry_after, workers, latency, seed):
    """Of any limit of 10 requests and 1 a second or more, half is used and no run gives up; from 3 a second a quarter
    is refused at most."""
    rate = most / seconds
    assume(rate >= 1)
    limits = {
        "sliding": SlidingWindow(most, seconds),
        "fixed": FixedWindow(most, seconds, -seed / 1000 * seconds),
        "bucket": TokenBucket(most, rate),
    }
    asks_for = seconds if retry_after == "window" and kind == "sliding" else "left"
    answers = max(500, 8 * most)
    outcome = simulate(RateLimit(limits[kind], asks_for), answers, workers=workers, latency=latency, seed=seed)
    possible = min(rate, workers / latency)
    assert answers / (possible * outcome.seconds) >= 0.5
    assert outcome.share_refused <= 0.25 or rate < 3
    assert not outcome.given_up


TIMES = st.one_of(st.just(0.0), st.floats(0, 2), st.floats(0, 400))
ANSWERS = st.one_of(
    st.tuples(st.just("served"), st.just((None, None))),
    st.tuples(st.just("served"), st.tuples(st.sampled_from([0, 1, 100]), st.sampled_from([None, 0.5, 60.0]))),
    st.tuples(st.just("refused"), st.tuples(st.sampled_from([None, 0.001, 1.0, 2.0, 10.0, 60.0, 3600.0]))),
    st.tuples(st.just("failed"), st.just(())),
)


@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(TIMES, st.booleans(), st.integers(0, 31), ANSWERS), min_size=20, max_size=200))
def test_whatever_comes_it_goes_on(steps):
    """After any answers and any times, a request may leave at some time, or one is in flight."""
    allowance, now = Allowance(), 0.0
    under_way: list[Permit] = []
    for pause, leaves, number, (what, told) in steps:
        now += pause
        due = allowance.due(now)
        assert due < math.inf or under_way
        if leaves and due < math.inf:
            now = max(now, due)
            if allowance.due(now) <= now:
                under_way.append(allowance.leave(now))
        elif under_way:
            permit = under_way.pop(number % len(under_way))
            if what == "served":
                allowance.served(permit, now, *told)
            elif what == "refused":
                allowance.refused(permit, now, *told)
            else:
                allowance.failed()


def test_refusals_of_one_burst_are_one_pause():
    """Refusals of requests that left before the first refusal was known begin no other pause."""
    allowance = Allowance()
    permits = [allowance.leave(100.0) for _ in range(8)]
    waits = [allowance.refused(permit, 101 + place / 10, 1.0) for place, permit in enumerate(permits)]
    assert waits == [(1.0, 0.0)] * 8
    assert allowance.due(101.5) == allowance.resume_at == 102.7


def test_a_refusal_that_does_not_say_how_long_is_waited_out_longer_and_longer():
    """The wait grows with each refusal in a row; a served request ends the row."""
    allowance, now, waits = Allowance(), 0.0, []
    for _ in BLIND_WAITS:
        allowance.refused(allowance.leave(now), now, None)
        waits.append(allowance.resume_at - now)
        now = allowance.resume_at
        assert allowance.due(now) == now
    assert tuple(waits) == BLIND_WAITS
    allowance.served(allowance.leave(now), now)
    allowance.refused(allowance.leave(now), now, None)
    assert allowance.resume_at - now == BLIND_WAITS[0]


def test_a_wait_that_was_too_short_twice_becomes_longer():
    """Six attempts then take about a minute, with any asked wait."""
    allowance, now, waits = Allowance(), 0.0, []
    for _ in range(5):
        allowance.refused(allowance.leave(now), now, 2.0)
        waits.append(allowance.resume_at - now)
        now = allowance.resume_at
        allowance.due(now)
    assert waits == [2, 2, *BLIND_WAITS[2:]]


def test_the_pauses_in_a_row_are_told_whichever_request_is_refused():
    """Different requests that are refused in turn wait a minute together, not each; a served one ends the row."""
    clock = FastClock()
    limiter = RateLimiter(clock)
    told = []
    for _ in range(4):
        told.append(limiter.on_throttled(limiter.acquire(), 10.0)[1])
        clock.wait(100)
    assert told == pytest.approx([0, 10, 20, 30])
    limiter.on_success(limiter.acquire())
    assert limiter.on_throttled(limiter.acquire(), 10.0)[1] == 0


def test_an_answer_of_minutes_leaves_nothing_to_count():
    """A refusal is handled also if all counted requests are forgotten by then."""
    allowance = Allowance()
    served, refused = allowance.leave(0.0), allowance.leave(0.0)
    allowance.served(served, 0.1)
    allowance.refused(refused, 0.1, 1.0)
    assert allowance.due(1.1) == 1.1
    allowance.served(allowance.leave(1.1), 300.0)
    allowance.refused(allowance.leave(300.0), 300.0, 10.0)
    assert allowance.due(310.0) == 310.0


def paced(served: int, asked: float) -> tuple[Allowance, float]:
    """What is allowed after so many served in as many seconds as a refusal asks for, and when the next may leave."""
    allowance = Allowance()
    for number in range(served):
        now = (number + 0.5) * asked / served
        allowance.served(allowance.leave(now), now)
    first, second = allowance.leave(asked), allowance.leave(asked)
    allowance.refused(first, asked, asked)
    allowance.refused(second, asked, asked)
    now = allowance.due(asked)
    allowance.served(allowance.leave(now), now)
    return allowance, allowance.due(now)


@pytest.mark.parametrize(("served", "asked", "interval"), [(100, 10.0, 0.1), (40, 1.0, 0.025), (20, 60.0, 1.0)])
def test_the_pace_is_even_and_a_little_slower_than_what_was_served(served, asked, interval):
    """One request leaves in each interval, which is 3 % longer than the mean one before and a second at most."""
    allowance, begin = paced(served, asked)
    now = begin
    for _ in range(20):
        allowance.served(allowance.leave(now), now)
        now = allowance.due(now)
    assert (now - begin) / 20 == pytest.approx(min(interval / 0.97, 1.0), rel=1e-6)


def test_a_thread_that_wakes_up_late_slows_nothing_down_and_an_idle_time_is_not_caught_up():
    """The next request makes up for a few milliseconds, but not for seconds."""
    allowance, begin = paced(100, 10.0)
    now = begin
    for _ in range(20):
        allowance.served(allowance.leave(now + 0.005), now + 0.005)
        now = allowance.due(now)
    assert now - begin == pytest.approx(20 * 0.1 / 0.97, abs=0.006)
    now += 5.0
    for _ in range(2):
        allowance.served(allowance.leave(now), now)
    assert allowance.due(now) - now > 0.19


def test_a_pace_that_others_had_a_part_in_grows_after_two_minutes():
    """If another program used 550 of 600 a minute and has ended, the run uses the whole limit in the third minute."""
    outcome = simulate(RateLimit(FixedWindow(600, 60, 0, 550)), 3000)
    assert outcome.seconds < 600


def test_a_slow_answer_is_no_sign_that_a_pause_was_long_enough():
    """After a pause one request leaves; an answer to a request from before it lets no other leave."""
    allowance = Allowance()
    slow, refused = allowance.leave(0.0), allowance.leave(0.0)
    allowance.refused(refused, 1.0, 5.0)
    assert allowance.due(6.0) == math.inf  # the slow one is still under way
    allowance.served(slow, 6.0)
    assert allowance.due(6.0) == 6.0
    first = allowance.leave(6.0)
    assert allowance.due(6.0) == math.inf
    allowance.served(first, 6.1)
    assert allowance.due(6.1) == 6.1


def test_nobody_waits_on_once_the_run_is_given_up():
    """When the limiter is closed, every waiting thread gets the reason within a second."""
    limiter = RateLimiter(Clock())
    limiter.on_throttled(limiter.acquire(), 3600.0)
    found = []

    def acquire() -> None:
        try:
            limiter.acquire()
        except Refused as refused:
            found.append(str(refused))

    threads = started([acquire] * 8)
    limiter.close(Refused("given up"))
    for thread in threads:
        thread.join(timeout=2)
    assert found == ["given up"] * 8


def test_whoever_waits_for_an_answer_hears_of_it():
    """After a pause the second request leaves as soon as the first is answered or has failed."""
    for answered in (True, False):
        limiter = RateLimiter(Clock())
        limiter.on_throttled(limiter.acquire(), 0.01)
        first, found = limiter.acquire(), []
        (thread,) = started([lambda found=found, limiter=limiter: found.append(limiter.acquire())])
        thread.join(0.05)
        assert not found
        if answered:
            limiter.on_success(first)
        else:
            limiter.on_failure()
        thread.join(0.4)
        assert isinstance(found[0], Permit)
        assert 0 < limiter.waited < 1


class GatedClock(FastClock):
    """A clock that moves on only when a test says so; `waiting` threads wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 100.0
        self.waiting = self.most_waiting = 0
        self._moved = threading.Condition()

    def now(self) -> float:
        return self.time

    def wait(self, seconds: float) -> None:
        end = self.time + seconds
        with self._moved:
            self.waiting += 1
            self.most_waiting = max(self.most_waiting, self.waiting)
            self._moved.wait_for(lambda: self.time >= end)
            self.waiting -= 1

    def move(self, seconds: float) -> None:
        with self._moved:
            self.time += seconds
            self._moved.notify_all()


def test_one_thread_waits_for_the_clock_and_each_slot_wakes_one():
    """Of 16 waiting threads only one watches the clock, so no slot wakes all of them."""
    clock = GatedClock()
    limiter = RateLimiter(clock)
    limiter.on_throttled(limiter.acquire(), 2.0)
    left: list[Permit] = []

    def ask() -> None:
        left.append(limiter.acquire())
        limiter.on_success(left[-1])

    threads = started([ask] * 16)
    while any(thread.is_alive() for thread in threads):
        clock.move(0.1)
        time.sleep(0.001)
    assert len(left) == 16
    assert clock.most_waiting == 1


def test_a_wait_is_told_while_it_lasts():
    """`waiting` gives the begin and the end of the present wait, and `waited` includes it."""
    clock = GatedClock()
    limiter = RateLimiter(clock)
    limiter.on_throttled(limiter.acquire(), 60.0)
    assert limiter.waiting() is None  # nobody does
    clock.move(5.0)
    (thread,) = started([limiter.acquire])
    until(lambda: clock.waiting == 1)
    clock.move(0.25)
    assert (limiter.waiting(), limiter.waited) == ((105.0, 160.0), 0.25)
    clock.move(60.0)
    until(lambda: not thread.is_alive())
    assert (limiter.waiting(), limiter.waited) == (None, 60.25)


def started(works: Sequence[Callable[[], Any]]) -> list[threading.Thread]:
    """A thread for each work, each of which has begun."""
    threads = [threading.Thread(target=work, daemon=True) for work in works]
    for thread in threads:
        thread.start()
    return threads
