"""Threads and waiting: a clock that a signal interrupts, a governor of the pace, a pool that keeps an order."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from typing import TypeVar

from tap_circleci.errors import Stopped

T = TypeVar("T")

RECOVERY = 3.0
"""Seconds after a refusal until the pace is again near what the service last bore."""
PROBE = 25.0
"""Seconds after that until the pace is half as much again; most of them pass near what the service last bore."""
PLATEAU = 0.96
"""The share of what the service last bore that is held for long: a little less, or it would refuse again at once."""
GUESS = 10
"""Requests a second and thread that the service may bear, as long as nothing is known."""

GLANCE = 0.5
"""Seconds after which somebody who waits looks up: the run may have been given up meanwhile."""


class Clock:
    """Seconds that pass, and waits that end at once when the run is asked to stop."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._signum = 0

    def now(self) -> float:
        """Seconds of a clock that never goes back."""
        return time.monotonic()

    def stop(self, signum: int) -> None:
        """Ask every waiting thread to end, from a signal handler."""
        self._signum = signum
        self._stop.set()

    def check(self) -> None:
        """Raise `Stopped` if the run has been asked to end."""
        if self._stop.is_set():
            raise Stopped(self._signum)

    def wait(self, seconds: float) -> None:
        """Wait that long, or raise `Stopped`."""
        self._stop.wait(max(seconds, 0.0))
        self.check()


def pace(ceiling: float, seconds: float) -> float:
    """Requests a second that are allowed so long after a refusal at `ceiling` requests a second.

    Half at once, soon back near the ceiling, for long hardly more, and at last boldly beyond it: the two branches of a
    cubic, like that of CUBIC (RFC 9438).
    """
    since = seconds - RECOVERY
    if since < 0:
        return ceiling * (PLATEAU + (PLATEAU - 0.5) * (since / RECOVERY) ** 3)
    return ceiling * (PLATEAU + 0.5 * (since / PROBE) ** 3)


class Governor:
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

    def enter(self) -> float:
        """Wait for leave to send one request; gives the time of leave, for `refused`."""
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
            self._clock.wait(min(due - now, GLANCE))

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

    def answered(self) -> None:
        """Take note of a request that was served."""
        self._answers.append(self._clock.now())

    def hold(self, seconds: float) -> bool:
        """Let nobody send for so long: the service has said that nothing is left. Tells whether this is news."""
        with self._lock:
            news = self._clock.now() >= self._resume_at
            self._pause(seconds)
            return news

    def refused(self, left_at: float, seconds: float) -> bool:
        """Hold everybody for so long; `left_at` is what `enter` gave for the refused request.

        Tells whether this is news: the other refusals of one burst are not.
        """
        with self._lock:
            now = self._clock.now()
            news = left_at > self._cut_at
            if news:
                served = sum(1 for moment in list(self._answers) if moment > now - 1.0)
                guess = self._workers * GUESS if self._ceiling is None else self._ceiling / 4
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


class Pool:
    """Threads that always take up the work that comes earliest in the order of the output.

    So work that a piece of work hands in (the jobs of a workflow) goes before all that stands later, and no thread
    ever waits for another.
    """

    def __init__(self, workers: int) -> None:
        self._queue: queue.PriorityQueue[tuple[tuple[int, ...], int, Callable[[], None] | None]] = queue.PriorityQueue()
        self._ticket = itertools.count()
        for number in range(workers):
            # Daemons, since a thread that waits for a slow answer must not hold up the end of the program.
            threading.Thread(target=self._work, name=f"worker-{number}", daemon=True).start()
        self.workers = workers

    def submit(self, order: tuple[int, ...], work: Callable[[], T]) -> Future[T]:
        """Have `work` done, after all that has a smaller `order` and waits as well."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(work())
            except BaseException as error:  # handed on to whoever asks for the result
                future.set_exception(error)

        self._queue.put((order, next(self._ticket), run))
        return future

    def _work(self) -> None:
        while True:
            *_, run = self._queue.get()
            if run is None:
                return
            run()

    def close(self) -> None:
        """Let the threads go once they have done what they are at; what has not been begun is never done."""
        for _ in range(self.workers):
            self._queue.put(((), next(self._ticket), None))


def result(future: Future[T], clock: Clock, tick: Callable[[], None]) -> T:
    """What `future` gives or raises, calling `tick` now and then meanwhile; a stop of the run ends the wait."""
    while not future.done():
        wait([future], timeout=GLANCE)
        clock.check()
        tick()
    return future.result()


def ahead(items: Iterable[T], window: Callable[[], int]) -> Iterator[T]:
    """The items in their order, with up to `window()` of them pulled (and so begun) before they are asked for.

    What goes wrong while pulling comes out at its own place, after all items pulled before.
    """
    pulled: deque[T] = deque()
    failure: Exception | None = None
    source = iter(items)
    while True:
        try:
            pulled.append(next(source))
        except StopIteration:
            break
        except Exception as error:
            failure = error
            break
        while len(pulled) > window():
            yield pulled.popleft()
    yield from pulled
    if failure is not None:
        raise failure
