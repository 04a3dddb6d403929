"""When looks at a pipeline fall due, by its age alone: pure arithmetic, without a clock.

The bound: looks fall due at ages of which each is at most twice the one before, so a change at age A is due at most A
later, up to 90 days. It depends neither on the state nor on the user's look-back, so that what a state says stays true
when the user changes that.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import lru_cache

from tap_circleci.values.times import EPOCH

MARGIN = timedelta(minutes=5)
"""How far the clocks of the service's machines may differ."""
LAST_CHANGE = timedelta(days=90)
"""CircleCI allows reruns up to this age of a pipeline. The first look after it is the last one."""
SHORTEST_PERIOD = timedelta(days=16) / 2**14
"""Looks fall due at moments that many pipelines share: at intervals of this for the youngest, doubled again and again
as they grow older, up to 16 days, so that an interval is between a sixth and a third of the age."""
OLDEST_LOOK = 2 * LAST_CHANGE
"""No pipeline older than this is looked at again."""


@lru_cache(maxsize=16)  # several streams ask for the same pipeline
def last_due(created_at: datetime, moment: datetime) -> datetime:
    """The last time up to `moment` at which a look at a pipeline fell due; its creation, if none has yet."""
    due = created_at
    for look in _looks(created_at):
        if look > moment:
            break
        due = look
    return due


def next_due(created_at: datetime, moment: datetime) -> datetime | None:
    """The first time after `moment` at which a look at a pipeline falls due, None if there is none any more."""
    return next((look for look in _looks(created_at) if look > moment), None)


def _looks(created_at: datetime) -> Iterator[datetime]:
    """The moments at which looks at a pipeline fall due: soon, then whenever it is nearly twice as old."""
    look = created_at + MARGIN
    period = SHORTEST_PERIOD
    yield look
    while (age := look - created_at) < LAST_CHANGE:
        while 6 * period <= age:
            period *= 2
        look = _shared(created_at + 2 * age, period)
        yield look


def _shared(moment: datetime, period: timedelta) -> datetime:
    """The last odd multiple of half the period, up to `moment`: no two periods share one, so no walk pays for all."""
    half = period / 2
    return moment - (moment - EPOCH - half) % period


def oldest_due(as_of: datetime, now: datetime) -> datetime:
    """No look at a pipeline created before this fell due between `as_of` and `now`."""
    oldest = as_of - 2 * MARGIN
    period = SHORTEST_PERIOD
    while 3 * period < LAST_CHANGE:
        first = _shared(as_of, period) + period
        if first <= now:
            # The look before came at an age of less than 6 periods, so this one comes at less than 12: see `_looks`.
            oldest = min(oldest, max(first - 12 * period, first - OLDEST_LOOK))
        period *= 2
    return oldest
