"""What was read of a project's pipelines, up to which time, and what is due: pure arithmetic, without a clock.

For each stream of a project, steps say what was read, by the creation time of the pipelines, newest step first. Each
step covers the pipelines created after its `since`, up to the step above. What is below the last step was never read.

The invariant. Of every pipeline that a step covers,
* each look that was due by `as_of` (see `schedule`) has been made;
* if it was created at `looked_back_to` or later, it was looked at by the walk that began at `as_of` itself;
* or its id is in `retry`.
"As of" is then the time of its last certain look: everything that the service showed by then was sent.

Why it stays true. A walk at `now` either looks at a pipeline, or no look was due since the last `as_of`. Then the last
look due by `now` is the one that was due by `as_of`, and that look was made. So after each page the walk adds one step
on top, for all pipelines that it has passed, and the state is true at any point where the run may end.

The service is late. A pipeline may appear in the list, and a status may appear or be corrected, up to two hours after
its own time. So a row counts as sent in its final state only if it reached that state two hours before "as of", and a
pipeline created in the last two hours before a walk is looked at again by the next walk.

The start date is that of the first walk and does not change. Pipelines created before it are not looked at, and the
invariant does not cover them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from hashlib import blake2b

from tap_circleci.values.times import BEGINNING
from tap_circleci.walk.schedule import OLDEST_LOOK, last_due, oldest_due

LATE = timedelta(hours=2)
"""How late the service may show what happened, in its incidents:
https://status.circleci.com reports status updates and lists that were hours late."""
MOST_STEPS = 4
MOST_PENDING = 20
"""Pipelines in setup that the state keeps by id. If there are more, all since the oldest one count as in setup."""
MOST_RECENT = 64
"""Recent pipelines that the state keeps, below which a list that never changes was read. Others are read again."""


@dataclass(frozen=True)
class Step:
    """What was read of the pipelines created after `since` (see above); without `since`, of all down to the oldest."""

    as_of: datetime
    looked_back_to: datetime
    since: datetime | None = None

    def covers(self, created_at: datetime) -> bool:
        """Whether this step covers a pipeline of that creation time, which no step above covers."""
        return self.since is None or created_at > self.since


@dataclass(frozen=True)
class Seen:
    """What the state keeps of one stream in one project.

    `pending`: creation time of the oldest pipeline that was not in a final state when last listed; `pending_ids`: the
    ids of all such pipelines, empty if there are too many. `retry`: ids of pipelines below which something could not be
    read. `recent`: digests of the pipelines of the last two hours below which a list that never changes was read.
    """

    steps: tuple[Step, ...] = ()
    pending: datetime | None = None
    pending_ids: tuple[str, ...] = ()
    retry: tuple[str, ...] = ()
    recent: tuple[str, ...] = ()


@dataclass(frozen=True)
class Listed:
    """What the list has shown of the pipelines that a walk has passed so far.

    `pending` are those that are not in a final state, with their creation times; `settled` those of earlier
    `pending_ids` that are; `recent` digests of those in a final state that were created in the last two hours.
    """

    pending: dict[str, datetime]
    settled: frozenset[str] = frozenset()
    recent: tuple[str, ...] = ()


def digest_of(pipeline_id: str) -> str:
    """Eight characters that replace a pipeline's id in the state."""
    return blake2b(pipeline_id.encode(), digest_size=4).hexdigest()


@dataclass(frozen=True)
class Plan:
    """What a walk at `now` is to look at for one stream, given what was seen before.

    `first` is the start date of the stream's first walk: no older pipeline is looked at. `certain` is the latest time
    that had certainly passed when the walk began, None if it is unknown.
    """

    seen: Seen
    first: datetime
    now: datetime
    certain: datetime | None
    lookback: timedelta

    @cached_property
    def retry(self) -> frozenset[str]:
        """The ids of the pipelines below which something could not be read before."""
        return frozenset(self.seen.retry)

    def as_of(self, created_at: datetime | None, pipeline_id: str | None = None) -> datetime | None:
        """The time up to which the tables are complete for a pipeline; None for never."""
        step = self._step(created_at)
        if step is None or created_at is None or pipeline_id in self.retry:
            return None
        return step.as_of if created_at >= step.looked_back_to else last_due(created_at, step.as_of)

    def is_due(self, created_at: datetime | None, pipeline_id: str | None = None) -> bool:
        """Whether a pipeline is to be looked at; one of unknown age always is."""
        if created_at is None or pipeline_id in self.retry:
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

    def was_pending(self, created_at: datetime | None, pipeline_id: str | None) -> bool:
        """Whether a pipeline may have been in setup when it was last listed."""
        before = self.seen
        if created_at is None or before.pending is None or created_at < before.pending:
            return False
        return not before.pending_ids or pipeline_id in before.pending_ids

    def has_read_once(self, created_at: datetime | None, pipeline_id: str) -> bool:
        """Whether a list that never changes was read below a pipeline, while it was in a final state."""
        step = self._step(created_at)
        if step is None or created_at is None or pipeline_id in self.retry or self.was_pending(created_at, pipeline_id):
            return False
        # Also true if the walk of this step did not reach the pipeline: an earlier walk has listed it.
        return created_at < step.as_of - LATE or digest_of(pipeline_id) in self.seen.recent

    @cached_property
    def horizon(self) -> datetime:
        """No pipeline created before this is due."""
        found = [self.first] if not self.seen.steps or self.seen.steps[-1].since is not None else []
        for step in self.seen.steps:
            oldest = min(self._recent(step), oldest_due(step.as_of, self.now))
            found.append(max(oldest, self.first, step.since or BEGINNING))
        return min(found)

    @property
    def oldest_look(self) -> datetime:
        """No pipeline created before this is looked at again, even if this machine's clock is wrong."""
        return (self.certain or self.now) - OLDEST_LOOK

    @property
    def recent_since(self) -> datetime:
        """Every pipeline created before this has appeared in the list by now."""
        return (self.certain or self.now) - LATE

    @property
    def covers_from(self) -> datetime:
        """Every pipeline created at this time or later is looked at."""
        for step in self.seen.steps:
            bound = max(self._recent(step), self.first)
            if step.since is None or bound > step.since:
                return bound
        return self.first

    def after(self, down_to: datetime | None, listed: Listed, retry: tuple[str, ...]) -> Seen:
        """What was seen once the walk has passed all pipelines created after `down_to`, None for all that are due."""
        if self.certain is None:
            return replace(self.seen, retry=retry)
        top = Step(self.certain, self.covers_from, down_to)
        below = () if down_to is None else (step for step in self.seen.steps if step.covers(down_to))
        pending, pending_ids = self._pending_after(down_to, listed)
        recent = listed.recent if down_to is None else (*listed.recent, *self.seen.recent)
        kept = tuple(dict.fromkeys(recent))[:MOST_RECENT]
        return Seen(_few((top, *below)), pending, pending_ids, retry, kept)

    def _pending_after(self, down_to: datetime | None, listed: Listed) -> tuple[datetime | None, tuple[str, ...]]:
        """Creation time of the oldest pipeline in setup, and the ids of all, whether or not this walk has met them."""
        before = self.seen
        dates = list(listed.pending.values())
        ids = list(listed.pending)
        is_known = True
        if before.pending is not None and not self._has_passed(before.pending, down_to):
            dates.append(before.pending if down_to is not None else max(before.pending, self.oldest_look))
            ids += [one for one in before.pending_ids if one not in listed.settled and one not in listed.pending]
            is_known = bool(before.pending_ids)
        if not dates or (is_known and not ids):
            return None, ()
        return min(dates), tuple(ids) if is_known and len(ids) <= MOST_PENDING else ()

    def _has_passed(self, created_at: datetime, down_to: datetime | None) -> bool:
        """Whether the walk has passed a pipeline of that creation time."""
        return created_at >= self.horizon if down_to is None else created_at > down_to

    def _recent(self, step: Step) -> datetime:
        """Every pipeline of this step created at this time or later is looked at again."""
        return step.as_of - self.lookback - LATE

    def _step(self, created_at: datetime | None) -> Step | None:
        if created_at is None:
            return None
        return next((step for step in self.seen.steps if step.covers(created_at)), None)


def start_of(seen: Seen, kept: datetime | None, configured: datetime) -> datetime:
    """The start date of a stream's first walk: the one in the state, or for a first walk the configured one.

    States of earlier versions lack it: then at least the pipelines created since their walks are looked at.
    """
    return kept or min([configured, *(step.as_of for step in seen.steps)])


def _few(steps: Iterable[Step]) -> tuple[Step, ...]:
    """The steps; if there are too many, the second and third become one that claims less than either."""
    few = tuple(steps)
    while len(few) > MOST_STEPS:
        top, second, third, *rest = few
        one = Step(min(second.as_of, third.as_of), max(second.looked_back_to, third.looked_back_to), third.since)
        few = (top, one, *rest)
    return few


def is_complete(ended_at: datetime | None, as_of: datetime | None) -> bool:
    """Whether a row that ended at `ended_at` was sent in its final state, with everything below it."""
    return ended_at is not None and as_of is not None and ended_at < as_of - LATE
