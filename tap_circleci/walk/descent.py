"""The descent through one project's pipelines: pages and rows go in, decisions come out. No thread, no HTTP.

Theory of operation. CircleCI lists a project's pipelines newest first, and cannot be asked for those that changed.
`Descent.page` takes the pages one after the other, and gives for each pipeline that may lack something a `Look`: its
row, whether that row is to be sent, and the lists below it that are to be fetched. It also says down to which creation
time all pipelines have been given (`PageDone`), and whether another page is needed. None is needed after a page that is
completely below `horizon`, the creation time of the oldest pipeline that can be due. `Descent.ended` gives the rest.

Below a pipeline, `judge` answers the same question for each row of a fetched list: is it to be sent, and what is to be
fetched below it? `as_of` goes down the tree with each list. It has the streams that may lack rows there, each with the
time up to which the tables are complete. It becomes smaller on the way: a row that reached its final state two hours
before that time is in the tables with everything below it.

A field of the stream says when its list is fetched. Usually that is at each look. A list that never changes (`once`)
is fetched when its parent's row is final. Below jobs and workflows it is fetched at each look until the parent's end is
two hours old, since CircleCI may correct that end. Directly below pipelines it is fetched exactly once, since a
pipeline has no time of its final state (`seen.pending`, `seen.recent`).

The caller fetches the lists: the reader with threads, in the order of the output; the tests with lists in memory. The
results go to `progress`, which says what the next state may claim.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property

from tap_circleci.streams import ROOT, STREAMS, Stream, children_of, family_of, is_read_once
from tap_circleci.streams.addresses import context_of
from tap_circleci.values.patterns import JobNames
from tap_circleci.values.rows import Ids, Row, value_of
from tap_circleci.values.slugs import normalise, usable_id
from tap_circleci.values.times import brief, moment
from tap_circleci.walk.schedule import next_due
from tap_circleci.walk.seen import MOST_RECENT, Listed, Plan, digest_of, is_complete

AsOf = Mapping[str, datetime | None]
"""The streams that may lack rows below a row, each with the time up to which its table is complete (None: never)."""


# Below a row


@dataclass(frozen=True)
class Fetch:
    """A list that is to be fetched, for the streams in `as_of`.

    `parent_ended_at` is when the parent, or the nearest ancestor with an end time, reached its final state; None while
    it is not final.
    """

    stream: Stream
    ids: Ids
    as_of: AsOf
    parent_ended_at: datetime | None = None


@dataclass(frozen=True)
class Judged:
    """A row, whether it is to be sent, and the lists below it that are to be fetched."""

    row: Row
    is_sent: bool
    fetches: tuple[Fetch, ...] = ()


def judge(fetch: Fetch, row: Row, job_names: JobNames) -> Judged:
    """What is to be done with a row of a list that was fetched."""
    stream = fetch.stream
    ended_at = _ended_at(stream, row, fetch.parent_ended_at)
    lacking = {name: as_of for name, as_of in fetch.as_of.items() if not is_complete(ended_at, as_of)}
    # A row that belongs to its parent is a different row below another parent, even if it ended long ago.
    is_sent = stream.name in (fetch.as_of if stream.belongs_to_parent else lacking)
    return Judged(row, is_sent, _fetches(stream, row, fetch.ids, lacking, ended_at, job_names))


def _fetches(
    stream: Stream, row: Row, ids: Ids, lacking: AsOf, ended_at: datetime | None, job_names: JobNames
) -> tuple[Fetch, ...]:
    """The lists below a row of each child stream that may lack rows, or has a descendant that may."""
    if not lacking:
        return ()
    context = {**ids, **context_of(stream, row)}
    found = []
    for child in children_of(stream):
        below = {one.name: lacking[one.name] for one in family_of(child) if one.name in lacking}
        if below and child.needs <= context.keys() and _has_list(child, stream, row, ended_at, job_names):
            # The end of a pipeline's setup is not the end of its workflows.
            found.append(Fetch(child, context, below, None if stream is ROOT and not child.timing.once else ended_at))
    return tuple(found)


def _has_list(child: Stream, stream: Stream, row: Row, ended_at: datetime | None, job_names: JobNames) -> bool:
    """Whether there is a list of the child stream below this row, and the user wants it."""
    timing = child.timing
    if timing.once and stream is not ROOT and (ended_at is None or not _is_final(stream, row)):
        return False
    is_wanted = not timing.by_job_name or job_names.matches(str(row.get("name")))
    return is_wanted and timing.is_below(row)


def _is_final(stream: Stream, row: Row) -> bool:
    """Whether a row no longer changes; a stream without a status follows its parent."""
    timing = stream.timing
    if timing.status is None:
        return True
    status = value_of(row, timing.status)
    return status in timing.final or (bool(timing.unfinished and status) and status not in timing.unfinished)


def _ended_at(stream: Stream, row: Row, parent_ended_at: datetime | None) -> datetime | None:
    """When a row reached its final state, never before its creation; None while it is not final.

    A final row without an end time, such as a canceled job, ended with its parent.
    """
    if stream.timing.ended_at is None:
        return parent_ended_at
    if not _is_final(stream, row):
        return None
    own = moment(value_of(row, stream.timing.ended_at))
    created_at = moment(row.get("created_at"))
    if own is None:
        return parent_ended_at
    return own if created_at is None else max(own, created_at)


# Down the list of pipelines


@dataclass(frozen=True)
class Look:
    """A pipeline that is to be looked at, for the streams in `as_of`; `date` is the service's time.

    Only the id is known of a pipeline that failed before and is not in the part of the list that was read. `is_whole`:
    the pipeline was looked at for all streams, so news of it adds nothing.
    """

    judged: Judged
    as_of: AsOf
    date: datetime | None
    is_whole: bool

    @property
    def pipeline_id(self) -> str:
        """The pipeline's id."""
        return str(self.judged.row.get("id"))


@dataclass(frozen=True)
class PageDone:
    """All pipelines created after `down_to` have been given, or with `is_last` all that are due.

    `share` is the share of the list that is done, `broken` the number of items on the page that are not rows.
    """

    down_to: datetime | None
    listed: Listed
    share: float
    broken: int = 0
    is_last: bool = False


Decision = Look | PageDone


@dataclass(frozen=True)
class Turn:
    """What follows from a page, in order, and whether the next page is needed."""

    decisions: tuple[Decision, ...]
    wants_more: bool


@dataclass
class _Position:
    """How far the descent has come: what the list has shown so far, and the page that is not yet done."""

    pending: dict[str, datetime] = field(default_factory=dict)
    settled: set[str] = field(default_factory=set)
    recent: dict[str, None] = field(default_factory=dict)
    met: dict[str, set[str]] = field(default_factory=dict)  # the streams for which a pipeline was looked at, by its id
    whole: set[str] = field(default_factory=set)
    slugs: set[str] = field(default_factory=set)  # of the project, as its pipelines show them
    newest_number: int | None = None
    done: PageDone | None = None


class Descent:
    """One way down the list of a project's pipelines, for the streams that have a plan."""

    def __init__(self, slug: str, plans: Mapping[str, Plan], job_names: JobNames) -> None:
        self.slug = slug
        self.plans = plans
        self._job_names = job_names
        self._at = _Position()

    @cached_property
    def horizon(self) -> datetime:
        """No pipeline created before this is due for any stream."""
        return min(plan.horizon for plan in self.plans.values())

    def page(self, rows: Sequence[Row], date: datetime | None, *, more: bool, broken: int = 0) -> Turn:
        """Take the next page, answered at that `date`; `more`: the list has another one."""
        created = [moment(row.get("created_at")) for row in rows]
        known = [one for one in created if one is not None]
        decisions: list[Decision] = []
        before = self._at.done
        if before is not None:  # the newest pipeline still to come, so that no row is lost if the list is out of order
            decisions.append(replace(before, down_to=max(known, default=before.down_to)))
        is_below_all = bool(created) and all(one is not None and one < self.horizon for one in created)
        self._at.slugs.update(str(value_of(row, "project_slug")) for row in rows)
        for row, created_at in zip(rows, created, strict=True):
            decisions += self._pipeline(row, created_at, date)
        down_to = max(known, default=before.down_to if before else None)
        self._at.done = PageDone(down_to, self._listed(), self._share(rows, down_to), broken)
        return Turn(tuple(decisions), more and not is_below_all)

    def ended(self, *, whole: bool) -> tuple[PageDone, ...]:
        """What follows from the end of the list; without `whole` the rest could not be read."""
        last = self._at.done
        return () if last is None else (replace(last, is_last=whole, share=1.0 if whole else last.share),)

    def retries(self) -> tuple[Look, ...]:
        """Looks at pipelines that failed earlier and were not met in the list."""
        ids = dict.fromkeys(pipeline_id for plan in self.plans.values() for pipeline_id in plan.seen.retry)
        return tuple(self._retry(one) for one in ids if one not in self._at.met and usable_id(one) is not None)

    def _retry(self, pipeline_id: str) -> Look:
        as_of = {stream: None for stream, plan in self.plans.items() if pipeline_id in plan.retry}
        return self._look({"id": pipeline_id}, False, as_of, None, None)

    def hinted(self, row: Row) -> Look | None:
        """A look at a pipeline that has news, at any age, for the streams that this walk did not look at there.

        None for a pipeline of another project.
        """
        created_at, pipeline_id = moment(row.get("created_at")), usable_id(row.get("id"))
        slug = str(value_of(row, "project_slug"))
        if pipeline_id is None or (slug not in self._at.slugs and normalise(slug) != self.slug):
            return None
        met = self._at.met.get(pipeline_id, ())
        found = self._as_of(row, created_at, pipeline_id, has_news=True)
        as_of = {stream: one for stream, one in found.items() if stream not in met}
        if not as_of:  # all were looked at, or it was created before the start date
            return None
        is_sent = created_at is not None and self._is_sent(row, created_at, pipeline_id)
        return self._look(row, is_sent, as_of, created_at, None)

    @property
    def whole(self) -> frozenset[str]:
        """The ids of the pipelines that have been looked at for all streams so far."""
        return frozenset(self._at.whole)

    def further(self, lookback: timedelta) -> timedelta | None:
        """The age up to which pipelines are re-checked, if it exceeds that of every sync by more than a day."""
        steps = [plan.seen.steps for plan in self.plans.values()]
        if not all(steps) or any(one[-1].since is not None for one in steps):
            return None  # a first sync, or one that was interrupted
        depth = max(plan.now for plan in self.plans.values()) - self.horizon
        return depth if depth > lookback + timedelta(days=1) else None

    def explain(self, row: Row) -> str:
        """Why a pipeline is looked at or not, and when it is looked at next."""
        created_at, pipeline_id = moment(row.get("created_at")), usable_id(row.get("id"))
        if created_at is None:
            return "creation time unknown: looked at in each sync that lists it"
        as_of = {stream: one and brief(one) for stream, one in self._as_of(row, created_at, str(pipeline_id)).items()}
        following = next_due(created_at, max(plan.now for plan in self.plans.values()))
        return (
            f"created {brief(created_at)}; row sent: {self._is_sent(row, created_at, pipeline_id)};"
            f" due, and in the tables as of: {as_of or 'nothing'};"
            f" next look: {brief(following) if following else 'none'}"
        )

    def _pipeline(self, row: Row, created_at: datetime | None, date: datetime | None) -> Iterable[Look]:
        """A look at a pipeline of the list, if there may be something to send."""
        pipeline_id = usable_id(row.get("id"))
        as_of = {} if pipeline_id is None else self._as_of(row, created_at, pipeline_id)
        is_sent = self._is_sent(row, created_at, pipeline_id)
        self._note(row, created_at, pipeline_id)
        if is_sent or as_of:
            yield self._look(row, is_sent, as_of, created_at, date)

    def _look(self, row: Row, is_sent: bool, as_of: AsOf, created_at: datetime | None, date: datetime | None) -> Look:
        pipeline_id = str(row.get("id"))
        if as_of:
            met = self._at.met[pipeline_id] = self._at.met.get(pipeline_id, set()) | as_of.keys()
            if self._as_of(row, created_at, pipeline_id, has_news=True).keys() <= met:
                self._at.whole.add(pipeline_id)
        fetches = _fetches(ROOT, row, {"project_slug": self.slug}, as_of, created_at, self._job_names)
        return Look(Judged(row, is_sent, fetches), as_of, date, pipeline_id in self._at.whole)

    def _as_of(self, row: Row, created_at: datetime | None, pipeline_id: str, *, has_news: bool = False) -> AsOf:
        """The streams for which a pipeline is due, each with the time up to which its table is complete."""
        found: dict[str, datetime | None] = {}
        for stream, plan in self.plans.items():
            if stream == ROOT.name or not (plan.reaches(created_at) or pipeline_id in plan.retry):
                continue
            if is_read_once(STREAMS[stream]):
                if _is_final(ROOT, row) and not plan.has_read_once(created_at, pipeline_id):
                    found[stream] = None
            elif has_news or plan.is_due(created_at, pipeline_id):
                found[stream] = plan.as_of(created_at, pipeline_id)
        return found

    def _is_sent(self, row: Row, created_at: datetime | None, pipeline_id: str | None) -> bool:
        """Whether a pipeline's own row may have changed, which the list shows without a look at the pipeline."""
        plan = self.plans.get(ROOT.name)
        if plan is None or not plan.reaches(created_at):
            return False
        ended_at = _ended_at(ROOT, row, created_at)
        return plan.was_pending(created_at, pipeline_id) or not is_complete(ended_at, plan.as_of(created_at))

    def _note(self, row: Row, created_at: datetime | None, pipeline_id: str | None) -> None:
        """Record what the list shows about a pipeline."""
        plans = self.plans.values()
        if pipeline_id is None or created_at is None or not any(plan.reaches(created_at) for plan in plans):
            return
        if not _is_final(ROOT, row):
            if created_at >= min(plan.oldest_look for plan in plans):
                self._at.pending[pipeline_id] = created_at
            return
        if any(pipeline_id in plan.seen.pending_ids for plan in plans):
            self._at.settled.add(pipeline_id)
        if created_at >= min(plan.recent_since for plan in plans) and len(self._at.recent) < MOST_RECENT:
            self._at.recent[digest_of(pipeline_id)] = None

    def _listed(self) -> Listed:
        return Listed(dict(self._at.pending), frozenset(self._at.settled), tuple(self._at.recent))

    def _share(self, rows: Sequence[Row], down_to: datetime | None) -> float:
        """The share of the list that is done, by creation time or, if that is more, by the pipelines' numbers."""
        numbers = [number for row in rows if isinstance(number := row.get("number"), int) and number > 0]
        newest = self._at.newest_number = self._at.newest_number or max(numbers, default=None)
        by_number = 1 - min(*numbers, newest) / newest if numbers and newest else 0.0
        now = max(plan.now for plan in self.plans.values())
        length = (now - self.horizon).total_seconds()
        by_time = (now - down_to).total_seconds() / length if down_to is not None and length > 0 else 0.0
        return min(max(by_number, by_time, 0.0), 1.0)
