"""Exports: what is due, the asking for them, the wait until they are ready, and their rows.

At most one export of each organization is under way; those of all organizations are waited for together. CircleCI
makes only a few an hour, so that a long history takes several runs. https://circleci.com/docs/usage-api/
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any
from urllib.parse import quote

from tap_circleci.client import Client
from tap_circleci.discover import schema_of
from tap_circleci.errors import LinkExpired, LocalError, NotFound, NotOffered, Throttled, Unreadable
from tap_circleci.exports.files import JOB, days, digests, tables
from tap_circleci.output.records import Column, Records, Table, table_converter
from tap_circleci.state.state import Export
from tap_circleci.streams import Stream
from tap_circleci.streams.addresses import path_of, title_of
from tap_circleci.values.rows import Ids
from tap_circleci.values.slugs import usable_id
from tap_circleci.values.text import quoted
from tap_circleci.values.times import BEGINNING, first_whole_day, midnight, whole_seconds
from tap_circleci.workers import Clock, Pool, Wait

LOGGER = logging.getLogger(__name__)

Span = tuple[datetime, datetime]
"""Whole days: midnight of the first, and the last second of the last."""

A_DAY = timedelta(days=1)
A_SECOND = timedelta(seconds=1)
LONGEST_SPAN = timedelta(days=31)
"""The service makes no longer exports."""
WAITS = (5.0, 10.0, 20.0, 30.0)
"""Seconds until an export is asked for again, the last ones for ever: asking is limited too."""
MAX_WAIT = 600.0
"""Seconds of waiting until an export is left to the next run."""
FRESH_ADDRESSES = 5
"""How often the addresses of the files are asked for anew without one more file read."""
BLOCKS_AT_ONCE = 8
"""Blocks of a file that a thread hands over: half a megabyte, since each handing over costs."""


# What is due


def planned(
    stream: Stream, now: datetime, start: datetime, bookmark: datetime | None, kept: Export | None
) -> tuple[Export | None, tuple[Span, ...]]:
    """The export of an earlier run that is to be collected first, if it is of use, and the spans to be exported after.

    From the start, or some days before the last day sent, to the last whole day, and no further back than the service
    goes; nothing while no new day has ended.
    """
    oldest = _oldest(stream, now)
    unsent = midnight(start) if bookmark is None else bookmark + A_DAY
    if kept is not None and kept.start <= max(unsent, oldest):  # a later one would leave days out
        return kept, planned(stream, now, start, midnight(kept.end), None)[1]
    first = midnight(start if bookmark is None else bookmark - stream.timing.look_back)
    last = midnight(now) - A_DAY
    return None, () if bookmark is not None and bookmark >= last else tuple(spans(max(first, oldest), last))


def _oldest(stream: Stream, now: datetime) -> datetime:
    """The first day that the service still exports."""
    return BEGINNING if stream.timing.history is None else first_whole_day(now, stream.timing.history)


def spans(first: datetime, last: datetime) -> Iterator[Span]:
    """The days from the first to the last, both included, in pieces that the service takes, oldest first."""
    while first <= last:
        after = min(first + LONGEST_SPAN, last + A_DAY)
        yield first, after - A_SECOND
        first = after


# What happens


@dataclass(frozen=True)
class Due:
    """What is to be exported of one organization, oldest first: one that has been asked for, and the spans after it."""

    ids: Ids
    export: Export | None
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Made:
    """The service has taken the order for an export."""

    ids: Ids
    export: Export


@dataclass(frozen=True)
class Discarded:
    """Nothing will come of the export that was asked for last."""

    ids: Ids


@dataclass(frozen=True)
class Batch:
    """Records of an export, and when the service said that it was ready, if it told the time."""

    ids: Ids
    records: Records
    date: datetime | None


@dataclass(frozen=True)
class Collected:
    """All rows of an export have been given."""

    ids: Ids
    export: Export


@dataclass(frozen=True)
class Ended:
    """An organization's exports have ended for this run, for this reason."""

    ids: Ids
    problem: LocalError


Event = Made | Discarded | Batch | Collected | Ended


@dataclass(frozen=True)
class _Pending:
    """An export that is under way, and the spans after it.

    `next_look` is a time of the clock, `waits` how often it has been waited for, `waited` for how many seconds.
    `is_second`: the first one of these days has failed.
    """

    ids: Ids
    export: Export
    spans: tuple[Span, ...]
    next_look: float
    waits: int = 0
    waited: float = 0.0
    is_second: bool = False


@dataclass(frozen=True)
class _Status:
    """What the service says of an export, with the addresses of its files once it is ready."""

    state: str
    urls: tuple[str, ...]
    reason: str
    date: datetime | None


Going = Generator[Event, None, list[_Pending]]
"""Gives events, and at last what is still under way."""


class Exports:
    """Makes and collects the exports of one stream, with the fields of the schema that is `wanted`.

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
        self._columns = schema_of(stream.name)["properties"]
        self._convert = table_converter(schema_of(stream.name), wanted)
        self._times = {name for name, column in self._columns.items() if column.get("format") == "date-time"}

    def events(self, due: Iterable[Due]) -> Iterator[Event]:
        """What happens, in an order that depends only on when the service has the exports ready."""
        pending: list[_Pending] = []
        for one in due:
            if one.export is None:
                pending += yield from self._make(one.ids, one.spans)
            else:
                pending.append(_Pending(one.ids, one.export, one.spans, self._clock.now()))
        while pending:
            looked: list[tuple[_Pending, _Status | LocalError | None]]
            looked = self._ask(partial(self._look, pending))
            pending = []
            for waiting, status in looked:
                pending += yield from self._go_on(waiting, status)

    def _ask(self, work: Callable[[], Any]) -> Any:
        """What a piece of work gives, done by a thread of the pool, so that this one stays ready to be stopped."""
        return self._wait(self._pool.submit((), work))

    def _make(self, ids: Ids, todo: tuple[Span, ...], *, is_second: bool = False) -> Going:
        """Ask for an export of the first span, as far as the service still goes back."""
        oldest = _oldest(self._stream, self._now())
        todo = tuple((max(start, oldest), end) for start, end in todo if end > oldest)
        if not todo:
            return []
        (start, end), later = todo[0], todo[1:]
        body = {"start": whole_seconds(start), "end": whole_seconds(end)}
        try:
            answer = self._ask(
                partial(self._client.post, path_of(self._stream, ids), body, self._stream.name, _is_export)
            )
        except Throttled:
            LOGGER.info(
                "%s: CircleCI makes no more exports for now, only a few an hour; still to come in later runs: %s",
                title_of(self._stream, ids),
                _period(start, todo[-1][1]),
            )
            return []
        except LocalError as problem:
            yield Ended(ids, problem)
            return []
        export = Export(str(answer.body["usage_export_job_id"]), start, end)
        yield Made(ids, export)
        return [self._later(_Pending(ids, export, later, 0.0, is_second=is_second))]

    def _later(self, one: _Pending, at_least: float = 0.0) -> _Pending:
        """The export with its next look after the wait that is due, or a longer one."""
        seconds = max(WAITS[min(one.waits, len(WAITS) - 1)], at_least)
        return replace(one, next_look=self._clock.now() + seconds, waits=one.waits + 1, waited=one.waited + seconds)

    def _look(self, pending: Sequence[_Pending]) -> list[tuple[_Pending, _Status | LocalError | None]]:
        """Wait for the next look, and ask for those exports that are to be looked at by then; in a pool's thread."""
        self._clock.wait(min(one.next_look for one in pending) - self._clock.now())
        now = self._clock.now()
        return [(one, self._status(one.ids, one.export) if one.next_look <= now else None) for one in pending]

    def _status(self, ids: Ids, export: Export) -> _Status | LocalError:
        path = f"{path_of(self._stream, ids)}/{quote(export.id, safe='')}"
        try:
            answer = self._client.get(
                path, {}, self._stream.name, _is_status, forbidden=(401, 403), not_offered=(400,), own_limit=True
            )
        except LocalError as problem:
            return problem
        body = answer.body
        urls = tuple(body.get("download_urls") or ())
        reason = quoted(body["error_reason"]) if body.get("error_reason") else "no reason given"
        return _Status(body["state"], urls, reason, answer.date)

    def _go_on(self, one: _Pending, status: _Status | LocalError | None) -> Going:
        """What follows from what the service says of an export; None: it has not been asked."""
        if status is None:
            return [one]
        if isinstance(status, (NotFound, NotOffered)):  # an id that is wrong answers 400
            return (yield from self._failed(one, f"it is not there any more ({status})"))
        if isinstance(status, Throttled):
            return self._not_yet(one, status.seconds or 0.0)
        if isinstance(status, LocalError):
            yield Ended(one.ids, status)
            return []
        if status.state == "failed":
            return (yield from self._failed(one, status.reason))
        if status.state == "completed":
            return (yield from self._collect(one, status))
        return self._not_yet(one, 0.0)

    def _not_yet(self, one: _Pending, at_least: float) -> list[_Pending]:
        """The export with its next look, or nothing when it has been waited for long enough."""
        later = self._later(one, at_least)
        if later.waited <= MAX_WAIT:
            return [later]
        return self._left_to_the_next_run(one, "is not ready yet")

    def _left_to_the_next_run(self, one: _Pending, why: str) -> list[_Pending]:
        LOGGER.info(
            "%s: the export %s, so that the next run collects it; still to come: %s",
            title_of(self._stream, one.ids),
            why,
            _period(one.export.start, one.spans[-1][1] if one.spans else one.export.end),
        )
        return []

    def _failed(self, one: _Pending, reason: str) -> Going:
        """Make it once more."""
        yield Discarded(one.ids)
        span = one.export.start, one.export.end
        if one.is_second:
            yield Ended(one.ids, Unreadable(f"CircleCI could not export {_period(*span)}, twice: {reason}"))
            return []
        what = title_of(self._stream, one.ids)
        LOGGER.warning("%s: the export of %s failed, %s: it is made once more", what, _period(*span), reason)
        return (yield from self._make(one.ids, (span, *one.spans), is_second=True))

    def _collect(self, one: _Pending, status: _Status) -> Going:
        """Give the rows of an export that is ready, and ask for the next."""
        try:
            for table in self._tables(one, status):
                yield Batch(one.ids, self._convert(table), status.date)
        except Throttled:
            return self._left_to_the_next_run(one, "may not be asked about any more for now")
        except LocalError as problem:
            return (yield from self._go_on(one, problem))
        yield Collected(one.ids, one.export)
        return (yield from self._make(one.ids, one.spans))

    def _tables(self, one: _Pending, status: _Status) -> Iterator[Table]:
        """The rows of all files, with their keys.

        Where the address of a file has expired, it is read again from its beginning at a fresh one: its rows come
        again, with the keys that they had.
        """
        done: list[str] = []
        equals: Counter[tuple[str, str]] = Counter()
        urls, furthest, tries = status.urls, 0, 0
        while True:
            names = _names(urls)
            if not set(done) <= set(names):  # other files: all anew
                done, equals = [], Counter()
            try:
                for name, url in zip(names, urls, strict=True):
                    if name not in done:
                        seen = equals.copy()
                        for table in tables(self._blocks(url), self._columns):
                            yield self._keyed(table, one, seen)
                        done, equals = [*done, name], seen
                return
            except LinkExpired:
                tries = 1 if len(done) > furthest else tries + 1
                furthest = max(furthest, len(done))
                if tries == FRESH_ADDRESSES:
                    raise
            urls = self._fresh_urls(one, tries)

    def _blocks(self, url: str) -> Iterator[bytes]:
        """The file at that address, read and unpacked by threads of the pool; what becomes of it is work of this one,
        since it is the processor's and would only wander between the cores."""
        found = self._client.download(url, self._stream.name)
        while some := self._ask(lambda: list(islice(found, BLOCKS_AT_ONCE))):
            yield from some

    def _fresh_urls(self, one: _Pending, tries: int) -> tuple[str, ...]:
        """The addresses of the files anew: at once the first time, later after growing waits.

        Raises `Throttled` where that is not allowed for longer than an export is waited for.
        """
        seconds = waited = 0.0 if tries == 1 else WAITS[min(tries - 2, len(WAITS) - 1)]
        while True:
            self._ask(partial(self._clock.wait, seconds))
            status: _Status | LocalError = self._ask(partial(self._status, one.ids, one.export))
            if isinstance(status, Throttled):
                seconds = max(status.seconds or 0.0, WAITS[-1])
                waited += seconds
                if waited > MAX_WAIT:
                    raise status
                continue
            if isinstance(status, LocalError):
                raise status
            if not status.urls:
                raise Unreadable("CircleCI has no address any more for a file that it had")
            return status.urls

    def _keyed(self, table: Table, one: _Pending, equals: Counter[tuple[str, str]]) -> Table:
        """The rows with their keys and the ids of their ancestors. `equals` counts the rows without a job so far, which
        may be equal; they are few."""

        def told_apart(day: str, digest: str, job: str | None) -> str:
            if job:
                return digest
            equals[day, digest] += 1
            return f"{digest}-{equals[day, digest]}"

        dates = days(table, one.export.start)
        identities = digests(table, self._stream.row.identity, self._times)
        keys: dict[str, Column] = {"_date": dates, "_id": [*map(told_apart, dates, identities, table[JOB])]}
        for column, name in self._stream.row.default_columns.items():
            keys[column] = [value or one.ids[name] for value in table[column]]
        return Table({**table.columns, **keys}, table.rows)


def _names(urls: Sequence[str]) -> tuple[str, ...]:
    """What tells the files apart whatever their addresses are signed with."""
    names = tuple(url.partition("?")[0] for url in urls)
    return names if len(set(names)) == len(names) else tuple(urls)


def _is_export(body: Any) -> bool:
    return isinstance(body, dict) and usable_id(body.get("usage_export_job_id")) is not None


def _is_status(body: Any) -> bool:
    if not isinstance(body, dict) or not isinstance(body.get("state"), str):
        return False
    urls = body.get("download_urls") or []
    return isinstance(urls, list) and all(isinstance(url, str) for url in urls)


def _period(start: datetime, end: datetime) -> str:
    return f"{start:%Y-%m-%d} to {end:%Y-%m-%d}"
