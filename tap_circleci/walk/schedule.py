"""When looks at a pipeline are due, by its age alone: pure arithmetic, without a clock.

The bound: each look is due at an age at most twice that of the look before. So a change at age A is found at most A
later, up to an age of 90 days. The schedule depends neither on the state nor on the user's look-back, so the claims of
a state stay true when the user changes the look-back.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import lru_cache

from tap_circleci.values.times import EPOCH

MARGIN = timedelta(minutes=5)
"""How far the clocks of the service's machines may differ."""
LAST_CHANGE = timedelta(days=90)
"""CircleCI allows reruns up to this age of a pipeline. The first look after that age is the last one."""
SHORTEST_PERIOD = timedelta(days=16) / 2**14
"""Looks are due at times that many pipelines share. For the youngest pipelines these times have this distance. It
doubles as a pipeline grows older, up to 16 days, and is between a sixth and a third of the pipeline's age."""
OLDEST_LOOK = 2 * LAST_CHANGE
"""No pipeline older than this is looked at again."""


@lru_cache(maxsize=16)  # several streams ask for the same pipeline
def last_due(created_at: datetime, moment: datetime) -> datetime:
    """The last time up to `moment` at which a look at a pipeline was due; its creation if there was none."""
    due = created_at
    for look in _looks(created_at):
        if look > moment:
            break
        due = look
    return due


def next_due(created_at: datetime, moment: datetime) -> datetime | None:
    """The first time after `moment` at which a look at a pipeline is due; None if there is none."""
    return next((look for look in _looks(created_at) if look > moment), None)


def _looks(created_at: datetime) -> Iterator[datetime]:
    """The times at which looks at a pipeline are due: soon, then each time its age has nearly doubled."""
    look = created_at + MARGIN
    period = SHORTEST_PERIOD
    yield look
    while (age := look - created_at) < LAST_CHANGE:
        while 6 * period <= age:
            period *= 2
        look = _shared(created_at + 2 * age, period)
        yield look


def _shared(moment: datetime, period: timedelta) -> datetime:
    """The last odd multiple of half the period, up to `moment`. No two periods share one, which spreads the calls."""
    half = period / 2
    return moment - (moment - EPOCH - half) % period


def oldest_due(as_of: datetime, now: datetime) -> datetime:
    """No look at a pipeline created before this was due between `as_of` and `now`."""
    oldest = as_of - 2 * MARGIN
    period = SHORTEST_PERIOD
    while 3 * period < LAST_CHANGE:
        first = _shared(as_of, period) + period
        if first <= now:
            # The age was less than 6 periods at the look before, so it is less than 12 at this one: see `_looks`.
            oldest = min(oldest, max(first - 12 * period, first - OLDEST_LOOK))
        period *= 2
    return oldest
