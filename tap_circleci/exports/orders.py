"""Orders exports, waits until they are ready, and reacts to each answer.

Each organization has at most one export at a time, and the run waits for all of them together. CircleCI makes only a
few exports an hour, so a long history takes several runs. https://circleci.com/docs/usage-api/
"""

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from tap_circleci.client import Client
from tap_circleci.errors import Damaged, LocalError, Unreadable
from tap_circleci.exports.answers import (
    Denied,
    Failed,
    Limited,
    NotReady,
    OrderAnswer,
    Ready,
    StatusAnswer,
    Unknown,
    order,
    status_of,
)
from tap_circleci.exports.plan import A_DAY, Due, Span, oldest_day, span_of
from tap_circleci.exports.rows import Batch, Broken, ExportRows, Whole
from tap_circleci.state.state import Export
from tap_circleci.streams import Stream
from tap_circleci.streams.addresses import title_of
from tap_circleci.values.rows import Ids
from tap_circleci.workers import Clock, Pool, Wait

LOGGER = logging.getLogger(__name__)

WAITS = (5.0, 10.0, 20.0, 30.0)
"""Seconds between two status requests for an export; the last one repeats. These requests are limited, too."""
MAX_WAIT = 600.0
"""Seconds of waiting after which an export is left to the next run."""


@dataclass(frozen=True)
class Made:
    """CircleCI makes this export, which replaces the one before."""

    ids: Ids
    export: Export


@dataclass(frozen=True)
class Stage:
    """The present work on an export, for the progress."""

    ids: Ids
    export: Export
    doing: str


@dataclass(frozen=True)
class Collected:
    """An export was read. `left_out`: what could not be read, "" for nothing."""

    ids: Ids
    export: Export
    left_out: str = ""


@dataclass(frozen=True)
class Ended:
    """This problem ends the exports of an organization in this run."""

    ids: Ids
    problem: LocalError


Event = Made | Stage | Batch | Collected | Ended
Outcome = StatusAnswer | Whole | Broken
"""The status of an export by CircleCI's answer, or the result of reading its files."""


@dataclass(frozen=True)
class _UnderWay:
    """An export that is being made, and the spans to order after it.

    `next_request` is the time of the next status request by the clock, `waits` the number of waits for the export,
    `waited` their seconds. `is_again`: this run has given up another export of the same days.
    """

    ids: Ids
    export: Export
    spans: tuple[Span, ...]
    next_request: float
    waits: int = 0
    waited: float = 0.0
    is_again: bool = False


Going = Generator[Event, None, list[_UnderWay]]
"""Gives events, and at the end the exports that are still under way."""


class Exports:
    """Orders and reads the exports of one stream, with the fields of the schema that is `wanted`.

    Used by the one thread that writes.
    """

    def __init__(
        self,
        stream: Stream,
        wanted: Mapping[str, Any],
        client: Client,
        pool: Pool,
        wait: Wait,
        clock: Clock,
        now: Callable[[], datetime],
    ) -> None:
        self._stream = stream
        self._client = client
        self._pool = pool
        self._wait = wait
        self._clock = clock
        self._now = now
        self._rows = ExportRows(stream, wanted, client, self._in_pool, clock)

    def events(self, dues: Iterable[Due]) -> Iterator[Event]:
        """The events, in an order that depends only on when CircleCI has made the exports."""
        under_way: list[_UnderWay] = []
        for due in dues:
            if due.export is None:
                under_way += yield from self._order(due.ids, due.spans)
            else:
                under_way.append(_UnderWay(due.ids, due.export, due.spans, self._clock.now()))
        while under_way:
            first = min(under_way, key=lambda one: one.next_request)
            yield Stage(first.ids, first.export, "waiting for CircleCI to make an export")
            answers: list[tuple[_UnderWay, StatusAnswer | None]] = self._in_pool(partial(self._statuses, under_way))
            under_way = []
            for one, answer in answers:
                under_way += [one] if answer is None else (yield from self._follow(one, answer))

    def _in_pool(self, work: Callable[[], Any]) -> Any:
        """The result of work that a thread of the pool does, so that this thread can be stopped."""
        return self._wait(self._pool.submit((), work))

    def _statuses(self, under_way: Sequence[_UnderWay]) -> list[tuple[_UnderWay, StatusAnswer | None]]:
        """Wait for the next status request, and send those that are due; in a thread of the pool."""
        self._clock.wait(min(one.next_request for one in under_way) - self._clock.now())
        now = self._clock.now()
        ask = partial(status_of, self._client, self._stream)
        return [(one, ask(one.ids, one.export) if one.next_request <= now else None) for one in under_way]

    def _order(
        self, ids: Ids, spans: tuple[Span, ...], *, is_again: bool = False, replaces_broken: bool = False
    ) -> Going:
        """Order an export of the first span, without days that the service no longer exports."""
        now = self._now()
        oldest = oldest_day(self._stream, now)
        todo = tuple(replace(span, start=max(span.start, oldest)) for span in spans if span.end > oldest)
        if not todo:
            return []
        answer: OrderAnswer = self._in_pool(partial(order, self._client, self._stream, ids, todo[0], now))
        match answer:
            case Export():
                export = replace(answer, replaces_broken=replaces_broken)
                yield Made(ids, export)
                return [self._later(_UnderWay(ids, export, todo[1:], 0.0, is_again=is_again))]
            case Limited():
                self._log_rest(ids, todo, "CircleCI makes no more exports now (429)")
            case Denied(problem) | Unknown(problem):
                yield Ended(ids, problem)
        return []

    def _later(self, one: _UnderWay, at_least: float = 0.0) -> _UnderWay:
        """The export with its next status request after the usual wait, or after `at_least` seconds."""
        seconds = max(WAITS[min(one.waits, len(WAITS) - 1)], at_least)
        return replace(one, next_request=self._clock.now() + seconds, waits=one.waits + 1, waited=one.waited + seconds)

    def _follow(self, one: _UnderWay, outcome: Outcome) -> Going:
        """React to an outcome. An export that is not ready or readable a day after its order is ordered again."""
        is_late = one.export.asked_at is not None and self._now() - one.export.asked_at >= A_DAY
        match outcome:
            case Ready():
                return (yield from self._read(one, outcome))
            case Whole(left_out):
                return (yield from self._collected(one, str(left_out)))
            case Broken(reason) if one.export.replaces_broken:
                return (
                    yield from self._collected(one, f"skipped, since no export of these days can be read ({reason})")
                )
            case Failed(reason):
                return (yield from self._again(one, outcome, reason))
            case NotReady() if is_late:
                return (yield from self._again(one, outcome, "is not ready a day after it was ordered"))
            case Broken(reason) | Unknown(reason) if is_late:
                return (yield from self._again(one, outcome, f"cannot be read ({reason})"))
            case NotReady():
                return self._wait_on(one, 0.0)
            case Limited(seconds):
                return self._wait_on(one, seconds)
            case Broken(reason):
                yield Ended(one.ids, Damaged(f"the export of {span_of(one.export)}: {reason}"))
            case Denied(problem) | Unknown(problem):
                yield Ended(one.ids, problem)
        return []

    def _read(self, one: _UnderWay, ready: Ready) -> Going:
        """Give the rows of an export that is ready."""
        yield Stage(one.ids, one.export, "reading an export")
        outcome = yield from self._rows.read(one.ids, one.export, ready)
        return (yield from self._follow(one, outcome))

    def _collected(self, one: _UnderWay, left_out: str) -> Going:
        """Report that an export is done, and order the next."""
        yield Collected(one.ids, one.export, left_out)
        return (yield from self._order(one.ids, one.spans))

    def _again(self, one: _UnderWay, outcome: Outcome, reason: str) -> Going:
        """Order the same days again, once in a run."""
        span = span_of(one.export)
        if one.is_again:
            yield Ended(one.ids, Unreadable(f"the export of {span} {reason}, for the second time"))
            return []
        title = title_of(self._stream, one.ids)
        LOGGER.warning("%s: the export of %s %s; ordering it again", title, span, reason)
        is_broken = one.export.replaces_broken or isinstance(outcome, Broken)
        return (yield from self._order(one.ids, (span, *one.spans), is_again=True, replaces_broken=is_broken))

    def _wait_on(self, one: _UnderWay, at_least: float) -> list[_UnderWay]:
        """The export with its next status request; none after the longest wait."""
        later = self._later(one, at_least)
        if later.waited <= MAX_WAIT:
            return [later]
        self._log_rest(one.ids, (span_of(one.export), *one.spans), "the export is not ready yet")
        return []

    def _log_rest(self, ids: Ids, spans: Sequence[Span], reason: str) -> None:
        rest = Span(spans[0].start, spans[-1].end)
        LOGGER.info("%s: %s; later runs will send %s", title_of(self._stream, ids), reason, rest)
