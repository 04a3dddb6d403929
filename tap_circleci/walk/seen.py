"""What was read of a project's pipelines as of when, and what is due: pure arithmetic, without a clock.

For each stream of a project, steps tell what was read, by the creation time of the pipelines, newest step first. Each
step covers the pipelines created after its `since`, up to the step above. What lies below the last step was never read.

The invariant. Of every pipeline that a step covers,
* each look that was due by `as_of` (see `last_due`) has been made;
* if it was created at `looked_back_to` or later, it was looked at by the walk that began at `as_of` itself;
* or its id stands in `retry`.
"As of" is then the moment of its last look that is certain: what the service told by then was sent.

Why it stays true. A walk at `now` either looks at a pipeline, or no look has fallen due since the last `as_of`: then
the last look due by `now` is the one that was due by `as_of`, which was made. So after each page the walk puts one step
on top, for all pipelines that it has passed, and the state is true wherever the run ends.

The start date is that of the first walk, and stays so: nothing created before it is looked at, and none of the above is
said of it.

The bound. A change to a pipeline not older than the look-back at that time is read by the next walk. Later looks fall
due at ages of which each is at most twice the one before: a change at age A is due at most A later, up to 90 days.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property, lru_cache

from tap_circleci.values.times import BEGINNING, EPOCH

MARGIN = timedelta(minutes=5)
"""Clock-skew margin: what happened less than this before a walk began may be missing from its answers."""
LAST_CHANGE = timedelta(days=90)
"""CircleCI allows reruns up to this age of a pipeline. The first look after it is the last one."""
SHORTEST_PERIOD = timedelta(days=16) / 2**14
"""Looks fall due at moments that many pipelines share: at intervals of this for the youngest, doubled again and again
as they grow older, up to 16 days, so that an interval is between a sixth and a third of the age."""
OLDEST_LOOK = 2 * LAST_CHANGE
"""No pipeline older than this is looked at again."""
MOST_STEPS = 4
MOST_RETRIES = 20
"""Pipelines of one project that are named for another try. With more, the steps stay where they are."""


@dataclass(frozen=True)
class Step:
    """What was read of the pipelines created after `since`: see above. Without `since`, of all down to the oldest."""

    as_of: datetime
    looked_back_to: datetime
    since: datetime | None = None

    def covers(self, created_at: datetime) -> bool:
        """Whether a pipeline of that creation time, which no step above covers, belongs to this one."""
        return self.since is None or created_at > self.since


@dataclass(frozen=True)
class Seen:
    """What the state keeps of one stream in one project.

    `pending`: when the oldest pipeline was created that was not in a final state when last listed. `retry`: ids of
    pipelines below which something could not be read.
    """

    steps: tuple[Step, ...] = ()
    pending: datetime | None = None
    retry: tuple[str, ...] = ()


# When looks fall due


@lru_cache(maxsize=16)  # several streams ask for the same pipeline
def last_due(created_at: datetime, moment: datetime) -> datetime:
    """The last time up to `moment` at which a look at a pipeline fell due; its creation, if none has yet.

    It depends neither on the state nor on the user's look-back, so that what a state says stays true when the user
    changes that.
    """
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


def _oldest_due(as_of: datetime, now: datetime) -> datetime:
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


# One walk of one stream through a project


@dataclass(frozen=True)
class Plan:
    """What a walk at `now` is to look at for one stream, given what was seen before.

    `certain` is the latest moment that has passed for certain when the walk began, None if nothing tells.
    `start` is the start date that the user sets, which counts for the first walk; `kept_start` is that of the first
    walk, None where it is not known.
    """

    seen: Seen
    now: datetime
    certain: datetime | None
    lookback: timedelta
    start: datetime
    kept_start: datetime | None = None

    @cached_property
    def retry(self) -> frozenset[str]:
        """The ids of the pipelines below which something could not be read before."""
        return frozenset(self.seen.retry)

    def as_of(self, created_at: datetime | None, name: str | None = None) -> datetime | None:
        """As of when a pipeline is in the tables, None for never; `name` is its id."""
        step = self._step(created_at)
        if step is None or created_at is None or name in self.retry:
            return None
        return step.as_of if created_at >= step.looked_back_to else last_due(created_at, step.as_of)

    def is_due(self, created_at: datetime | None, name: str | None = None) -> bool:
        """Whether a pipeline is to be looked at; one of unknown age always is."""
        if created_at is None or name in self.retry:
            return True
        if not self.reaches(created_at):
            return False
        step = self._step(created_at)
        if step is None or created_at >= self._recent(step):
            return True
        return last_due(created_at, self.now) > step.as_of

    def reaches(self, created_at: datetime | None) -> bool:
        """Whether a pipeline was created since the start date."""
        return created_at is None or created_at >= self.first

    @cached_property
    def first(self) -> datetime:
        """The start date of the first walk, whatever the user has set since then: no older pipeline is looked at."""
        if self.kept_start is not None:
            return self.kept_start
        # Earlier versions did not keep it: at least what was created since a walk is looked at.
        return min([self.start, *(step.as_of for step in self.seen.steps)])

    def is_pending(self, created_at: datetime | None) -> bool:
        """Whether a pipeline may have been sent before it came to a final state."""
        return created_at is not None and self.seen.pending is not None and self.seen.pending <= created_at

    @cached_property
    def horizon(self) -> datetime:
        """No pipeline created before this is due."""
        found = [self.first] if not self.seen.steps or self.seen.steps[-1].since is not None else []
        for step in self.seen.steps:
            oldest = min(self._recent(step), _oldest_due(step.as_of, self.now))
            found.append(max(oldest, self.first, step.since or BEGINNING))
        return min(found)

    @property
    def last_looks_at(self) -> datetime:
        """No pipeline created before this is looked at again, whichever clock is right."""
        return (self.certain or self.now) - OLDEST_LOOK

    @property
    def looks_back_to(self) -> datetime:
        """Every pipeline created at this moment or later is looked at."""
        for step in self.seen.steps:
            bound = max(self._recent(step), self.first)
            if step.since is None or bound > step.since:
                return bound
        return self.first

    def after(self, down_to: datetime | None, pending: datetime | None, retry: tuple[str, ...]) -> Seen:
        """What was seen once the walk has passed all pipelines created after `down_to`, None for all that are due.

        `pending` is when the oldest of those was created that is not in a final state.
        """
        if self.certain is None:
            return replace(self.seen, retry=retry)
        top = Step(self.certain, self.looks_back_to, down_to)
        below = () if down_to is None else (step for step in self.seen.steps if step.covers(down_to))
        passed = self.horizon if down_to is None else down_to
        before = self.seen.pending
        still = None if before is None or before > passed else before
        if still is not None and down_to is None:
            still = max(still, self.last_looks_at)
        return Seen(_few((top, *below)), min(filter(None, (still, pending)), default=None), retry)

    def _recent(self, step: Step) -> datetime:
        """Every pipeline of this step that was created since then is looked at again."""
        return step.as_of - max(self.lookback, MARGIN)

    def _step(self, created_at: datetime | None) -> Step | None:
        if created_at is None:
            return None
        return next((step for step in self.seen.steps if step.covers(created_at)), None)


def _few(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """The steps, or if they are many, with the second and third as one that claims less than either."""
    while len(steps) > MOST_STEPS:
        top, second, third, *rest = steps
        one = Step(min(second.as_of, third.as_of), max(second.looked_back_to, third.looked_back_to), third.since)
        steps = (top, one, *rest)
    return steps


def is_complete(is_final: bool, ended_at: datetime | None, as_of: datetime | None) -> bool:
    """Whether something was sent, with all below it, in the final state that it has, which it came to at `ended_at`."""
    return is_final and ended_at is not None and as_of is not None and ended_at < as_of - MARGIN
