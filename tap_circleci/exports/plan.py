"""Which days of usage are due: those of an earlier run's export, and the spans to order after it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from tap_circleci.state.state import Export
from tap_circleci.streams import Stream
from tap_circleci.values.rows import Ids
from tap_circleci.values.times import BEGINNING, first_whole_day, midnight

A_DAY = timedelta(days=1)
A_SECOND = timedelta(seconds=1)
LONGEST = timedelta(days=31)
"""The service makes no longer exports: https://circleci.com/docs/api/v2/#tag/Usage/operation/createUsageExport"""


@dataclass(frozen=True)
class Span:
    """The whole days of one export, from midnight of the first to the last second of the last."""

    start: datetime
    end: datetime

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%d} to {self.end:%Y-%m-%d}"


@dataclass(frozen=True)
class Due:
    """What is due for one organization, oldest first: an export that was ordered, and the spans to order after it."""

    ids: Ids
    export: Export | None
    spans: tuple[Span, ...]


def due(
    stream: Stream, ids: Ids, now: datetime, start: datetime, bookmark: datetime | None, kept: Export | None
) -> Due:
    """What is due for the organization with these ids: all days from the start to the last whole day.

    After a first sync they begin some days before the bookmark (the last day sent); nothing is due until a new day has
    ended. They never begin before the oldest day that the service exports. `kept` is the export of an earlier run; it
    is read first, unless days before it would be missed.
    """
    oldest = oldest_day(stream, now)
    unsent = midnight(start) if bookmark is None else bookmark + A_DAY
    if kept is not None and kept.start <= max(unsent, oldest):
        return replace(due(stream, ids, now, start, midnight(kept.end), None), export=kept)
    first = midnight(start if bookmark is None else bookmark - stream.timing.look_back)
    last = midnight(now) - A_DAY
    if bookmark is not None and bookmark >= last:
        return Due(ids, None, ())
    return Due(ids, None, tuple(spans(max(first, oldest), last)))


def oldest_day(stream: Stream, now: datetime) -> datetime:
    """The first day that the service still exports."""
    return BEGINNING if stream.timing.history is None else first_whole_day(now, stream.timing.history)


def spans(first: datetime, last: datetime) -> Iterator[Span]:
    """The days from the first to the last, both included, in spans that the service takes, oldest first."""
    while first <= last:
        after = min(first + LONGEST, last + A_DAY)
        yield Span(first, after - A_SECOND)
        first = after


def span_of(export: Export) -> Span:
    """The days of an export."""
    return Span(export.start, export.end)
