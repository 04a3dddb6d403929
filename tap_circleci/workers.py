"""Threads and waiting: a clock that a signal interrupts, and a pool that keeps an order."""

import heapq
import itertools
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tap_circleci.errors import Stopped, TapError

LOGGER = logging.getLogger(__name__)

T = TypeVar("T")
Wait = Callable[[Future[Any]], Any]
"""Gives the result of a future; the run can be stopped during the wait."""

POLL_SECONDS = 0.5
"""Seconds after which a waiting thread checks whether the run has ended."""
MOST_AHEAD = 20_000
"""Rows that may be read ahead of the output; with more, only the rows that the output waits for are read."""


class Clock:
    """A clock whose waits end at once when the run is asked to stop."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._signum = 0

    def now(self) -> float:
        """Seconds of a clock that never runs backwards."""
        return time.monotonic()

    def stop(self, signum: int) -> None:
        """Ask every waiting thread to end; called by a signal handler."""
        self._signum = signum
        self._stop.set()

    def check(self) -> None:
        """Raise `Stopped` if the run was asked to stop."""
        if self._stop.is_set():
            raise Stopped(self._signum)

    def wait(self, seconds: float) -> None:
        """Wait this long, or raise `Stopped`."""
        self._stop.wait(max(seconds, 0.0))
        self.check()


Order = tuple[int, ...]
"""The place of a piece of work in the order of the output."""


@dataclass(frozen=True, order=True)
class _Work:
    """Work that waits for a thread; `ticket` keeps the order of work at the same place."""

    order: Order
    ticket: int
    run: Callable[[], None] = field(compare=False)


class Pool:
    """Threads that always begin the work that is earliest in the order of the output.

    So work that other work submits (the jobs of a workflow) goes before all later work, and no thread ever waits for
    another thread. Rows that are read ahead of the output are counted: at `MOST_AHEAD` rows, only work for the place at
    which the output is begins. If the machine allows fewer threads than requested, those that could be started do all
    the work; `workers` is their number. Raises `TapError` if there are none.
    """

    def __init__(self, workers: int) -> None:
        self._changed = threading.Condition()
        self._waiting: list[_Work] = []
        self._ticket = itertools.count()
        self._held: Counter[int] = Counter()  # rows by the place in the output that they are for
        self._all_held = 0
        self._output_at = -1
        self._is_closed = False
        self.workers = 0
        try:
            while self.workers < workers:
                # Daemons, since a thread that waits for a slow answer must not delay the end of the program.
                threading.Thread(target=self._work, name=f"worker-{self.workers}", daemon=True).start()
                self.workers += 1
        except RuntimeError:  # a container's limit, or no memory for another stack
            if not self.workers:
                raise TapError("The machine allows no thread: raise the limit of processes or memory.") from None
            LOGGER.warning("Only %d of %d threads could be started; these do all the work", self.workers, workers)

    def submit(self, order: Order, work: Callable[[], T]) -> Future[T]:
        """Have `work` done after all waiting work with a smaller `order`."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(work())
            except BaseException as error:  # `result` raises it in the thread that asks
                future.set_exception(error)

        self._put(order, run)
        return future

    def submit_steps(self, order: Order, work: Callable[[], Generator[int, None, T]]) -> Future[T]:
        """Have work done in steps; earlier work goes first between two steps.

        Each step gives how many rows it has read. They count as read ahead until the output has passed the place in
        `order`.
        """
        future: Future[T] = Future()
        steps = work()

        def run() -> None:
            try:
                rows = next(steps)
                with self._changed:
                    self._held[order[0]] += rows
                    self._all_held += rows
                self._put(order, run)
            except StopIteration as end:
                future.set_result(end.value)
            except BaseException as error:
                future.set_exception(error)

        self._put(order, run)
        return future

    def output_at(self, place: int) -> None:
        """The output has reached this place: rows before it no longer count as read ahead."""
        with self._changed:
            for earlier in [one for one in self._held if one < place]:
                self._all_held -= self._held.pop(earlier)
            self._output_at = place
            if self._waiting:  # otherwise the threads have nothing to wake up for
                self._changed.notify_all()

    def is_held_up(self) -> bool:
        """Whether so many rows are held that only work for the output begins."""
        with self._changed:
            return self._all_held >= MOST_AHEAD

    def _put(self, order: Order, run: Callable[[], None]) -> None:
        with self._changed:
            heapq.heappush(self._waiting, _Work(order, next(self._ticket), run))
            self._changed.notify()

    def _take(self) -> _Work | None:
        """The earliest work that may begin; None once the pool is closed."""
        with self._changed:
            while not self._is_closed:
                if self._waiting and self._may_begin(self._waiting[0].order):
                    return heapq.heappop(self._waiting)
                self._changed.wait()
        return None

    def _may_begin(self, order: Order) -> bool:
        return order[:1] <= (self._output_at,) or self._all_held < MOST_AHEAD

    def _work(self) -> None:
        while self._work_once():
            pass

    def _work_once(self) -> bool:
        """Do a piece of work; False once the pool is closed. A thread that waits for the next keeps nothing of it."""
        work = self._take()
        if work is not None:
            work.run()
        return work is not None

    def close(self) -> None:
        """End each thread after its present work; waiting work is never done."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()


class Once:
    """Work that is done once, however often it is submitted. Safe to use from many threads."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._lock = threading.Lock()
        self._futures: dict[Hashable, Future[Any]] = {}

    def submit_steps(self, key: Hashable, order: Order, work: Callable[[], Generator[int, None, T]]) -> Future[T]:
        """Have `work` done in steps, or give the future of the work that has the same key."""
        with self._lock:
            if key not in self._futures:
                self._futures[key] = self._pool.submit_steps(order, work)
            return self._futures[key]


def result(future: Future[T], clock: Clock, tick: Callable[[], None]) -> T:
    """The result of `future`; calls `tick` every half second during the wait.

    Raises `Stopped` on a stop, also if no wait is needed: a run whose threads are far ahead of its output seldom waits.
    """
    clock.check()
    while not future.done():
        wait([future], timeout=POLL_SECONDS)
        clock.check()
        tick()
    return future.result()


def ahead(items: Iterable[T], most: Callable[[], int]) -> Iterator[T]:
    """The items in their order; up to `most()` items are drawn (and so begun) before they are needed.

    An error of `items` is raised at its own place, after all items drawn before.
    """
    pulled: deque[T] = deque()
    try:
        for item in items:
            pulled.append(item)
            while len(pulled) > most():
                yield pulled.popleft()
    except Exception:
        yield from pulled
        raise
    yield from pulled
