"""Random histories of a project, and walks through them as the tap makes them, without HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone

from hypothesis import strategies as st

from tap_circleci.reading.pipelines import ProjectWalk
from tap_circleci.values.rows import Row
from tap_circleci.values.times import written
from tap_circleci.walk.seen import MARGIN, MOST_RETRIES, Plan, Seen, is_complete
from tests.worlds import WALK

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
ZERO = timedelta(0)
PAGE = 4


@dataclass(frozen=True)
class Workflow:
    """A workflow that is created and stops at some time; it stands for its jobs as well."""

    name: int
    created: datetime
    stopped: datetime

    def at(self, now: datetime) -> str:
        return "success" if self.stopped <= now else "on_hold"


@dataclass(frozen=True)
class Pipeline:
    """A pipeline that comes to a final state at some time, of which its `updated_at` does not tell."""

    name: int
    created: datetime
    settled: datetime
    workflows: tuple[Workflow, ...]

    def at(self, now: datetime) -> str:
        return "created" if self.settled <= now else "setup"

    def row(self, now: datetime) -> Row:
        return {"id": str(self.name), "state": self.at(now), "updated_at": written(self.created)}

    def changes(self, stream: str) -> Iterator[tuple[int, datetime, Pipeline | Workflow]]:
        """The moments at which a row of the stream came to be or changed, with its name and itself."""
        if stream == WALK[0]:
            yield self.name, self.created, self
            yield self.name, self.settled, self
            return
        for workflow in self.workflows:
            yield workflow.name, workflow.created, workflow
            yield workflow.name, workflow.stopped, workflow


@dataclass(frozen=True)
class Sync:
    """How one sync goes: when it begins, what its clocks say, what is selected, and what goes wrong.

    It is cut before the page of the number `pages`, `lost` is a page that cannot be read, and pipelines whose number
    leaves the rest `failing[1]` when divided by `failing[0]` fail. A page takes `pace`; the answers are behind
    what happens by `lag`.
    """

    at: datetime
    lookback: timedelta
    ahead: timedelta = ZERO
    behind: timedelta | None = ZERO
    streams: tuple[str, ...] = WALK
    pages: int | None = None
    lost: int | None = None
    failing: tuple[int, int] | None = None
    pace: timedelta = ZERO
    lag: timedelta = ZERO
    start: datetime = START

    def fails(self, pipeline: Pipeline) -> bool:
        return self.failing is not None and pipeline.name % self.failing[0] == self.failing[1]


@dataclass
class Project:
    """A history of pipelines, oldest first, what the state says of it, and what a target holds of it.

    `completed` are the moments as of which whole syncs gave what the service told, by stream.
    """

    pipelines: list[Pipeline]
    seen: dict[str, Seen] = field(default_factory=dict)
    starts: dict[str, datetime] = field(default_factory=dict)
    held: dict[tuple[str, int], tuple[str, datetime]] = field(default_factory=dict)
    completed: dict[str, list[datetime]] = field(default_factory=dict)
    looks: int = 0

    def sync(self, how: Sync) -> datetime:
        """Walk as the tap does; gives when it ended."""
        certain = None if how.behind is None else how.at - how.behind
        plans = {
            name: Plan(
                self.seen.get(name, Seen()),
                how.at + how.ahead,
                certain,
                how.lookback,
                how.start,
                self.starts.get(name),
            )
            for name in how.streams
        }
        walk = ProjectWalk("gh/acme/api", plans)
        retries = {name: dict.fromkeys(plan.seen.retry) for name, plan in plans.items()}
        pages = list(self._pages(how.at - how.lag, walk.horizon))
        now = how.at - how.lag
        done: datetime | None = None
        pending: datetime | None = None
        asked: set[int] = set()
        for number, page in enumerate(pages):
            newest = max((pipeline.created for pipeline in page), default=done)
            if number == how.lost:
                self._passed(plans, done, pending, retries)
                return now
            if number:
                self._passed(plans, newest, pending, retries)
            if number == how.pages:
                return now
            for pipeline in page:
                asked |= {pipeline.name} if self._look(walk, pipeline, now, how, retries) else set()
                if len({name for retry in retries.values() for name in retry}) > MOST_RETRIES:
                    return now
                if walk.is_pending(pipeline.row(now), pipeline.created):
                    pending = min(pipeline.created, pending or pipeline.created)
            done = newest
            now += how.pace
        self._passed(plans, None, pending, retries)
        for pipeline in self.pipelines:
            wanted = {name: None for name, plan in plans.items() if str(pipeline.name) in plan.retry}
            if pipeline.name not in asked and wanted:
                self._children(pipeline, wanted, now, how, retries)
        for name, retry in retries.items():
            self.seen[name] = replace(self.seen[name], retry=tuple(retry))
            self.completed.setdefault(name, []).append(how.at - how.lag)
        return now

    def assert_true(self, now: datetime, bound: timedelta, start: datetime = START, slack: timedelta = ZERO) -> None:
        """What changed in time for one of the completed syncs is held as it was then, or newer.

        In time is at once up to that age of the pipeline, `bound`, and later when the pipeline is twice as old, and
        `slack` besides. What failed is named for another try.
        """
        for stream, completed in self.completed.items():
            last = max(completed)
            for pipeline in self.pipelines:
                if pipeline.created < start or str(pipeline.name) in self.seen[stream].retry:
                    continue
                for name, changed, row in pipeline.changes(stream):
                    age = changed - pipeline.created
                    due = changed + slack + (ZERO if age <= max(bound, MARGIN) else age)
                    if due > last:
                        continue
                    assert (stream, name) in self.held, (stream, row, pipeline.created, completed)
                    status, seen_at = self.held[stream, name]
                    assert seen_at >= changed or status == row.at(now), (stream, row, pipeline.created, completed)

    def _pages(self, now: datetime, horizon: datetime) -> Iterator[list[Pipeline]]:
        """The pages that are asked for, newest first but for neighbours that have changed places."""
        visible = [pipeline for pipeline in reversed(self.pipelines) if pipeline.created <= now]
        for place in range(2, len(visible) - 1, 5):
            visible[place], visible[place + 1] = visible[place + 1], visible[place]
        for first in range(0, max(len(visible), 1), PAGE):
            page = visible[first : first + PAGE]
            yield page
            if page and all(pipeline.created < horizon for pipeline in page):
                return

    def _passed(
        self,
        plans: Mapping[str, Plan],
        down_to: datetime | None,
        pending: datetime | None,
        retries: Mapping[str, Iterable[str]],
    ) -> None:
        for name, plan in plans.items():
            self.seen[name] = plan.after(down_to, pending if name == WALK[0] else None, tuple(retries[name]))
            if plan.certain is not None:
                self.starts[name] = plan.first

    def _look(
        self, walk: ProjectWalk, pipeline: Pipeline, now: datetime, how: Sync, retries: Mapping[str, dict[str, None]]
    ) -> bool:
        """Read a pipeline as far as it is due; whether anything below it was asked for."""
        for plan in walk.plans.values():
            assert pipeline.created >= plan.horizon or not plan.is_due(pipeline.created), "due below the horizon"
        if walk.is_wanted(pipeline.row(now), pipeline.created):
            self.held[WALK[0], pipeline.name] = (pipeline.at(now), now)
        wanted = walk.wanted(pipeline.created, str(pipeline.name))
        if wanted:
            self._children(pipeline, wanted, now, how, retries)
        return bool(wanted)

    def _children(
        self,
        pipeline: Pipeline,
        wanted: Mapping[str, datetime | None],
        now: datetime,
        how: Sync,
        retries: Mapping[str, dict[str, None]],
    ) -> None:
        self.looks += 1
        for stream, as_of in wanted.items():
            retries[stream].pop(str(pipeline.name), None)
            if how.fails(pipeline):
                retries[stream][str(pipeline.name)] = None
                continue
            for workflow in pipeline.workflows:
                stopped = workflow.stopped if workflow.stopped <= now else None
                is_final = workflow.at(now) == "success"
                if workflow.created <= now and not is_complete(is_final, stopped, as_of):
                    self.held[stream, workflow.name] = (workflow.at(now), now)


GAPS = [0 * MINUTE, MINUTE, 50 * MINUTE, 300 * MINUTE, 3000 * MINUTE]
LATER = [ZERO, 20 * HOUR, 6 * DAY, 33 * DAY, 80 * DAY]
LASTS = [7 * MINUTE, 23 * HOUR, 5 * DAY]


@st.composite
def histories(draw: st.DrawFn, most: int = 40) -> list[Pipeline]:
    """Pipelines at irregular times, with late ends and reruns up to 90 days later."""
    moment = START
    pipelines = []
    for number in range(draw(st.integers(1, most))):
        moment += draw(st.sampled_from(GAPS))
        workflows = []
        for place in range(draw(st.integers(0, 3))):
            created = moment + draw(st.sampled_from(LATER))
            workflows.append(Workflow(number * 10 + place, created, created + draw(st.sampled_from(LASTS))))
        settled = moment + draw(st.sampled_from([ZERO, ZERO, 10 * HOUR, 9 * DAY]))
        pipelines.append(Pipeline(number, moment, settled, tuple(workflows)))
    return pipelines


PAUSES = st.sampled_from([20 * MINUTE, HOUR, DAY, 3 * DAY, 40 * DAY])
SELECTIONS = st.sampled_from([WALK, WALK, WALK, WALK[:1], WALK[:2], WALK[1:2], WALK[2:], (WALK[0], WALK[2])])
LOOKBACKS = st.one_of(
    st.sampled_from([0.0, 0.01, 0.25, 1.0, 3.0]).map(lambda days: [days]), st.permutations([0.25, 1.0, 7.0, 40.0])
)
