"""Random lives of a project, and the walks through them: the tap's own decisions, with lists in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import cached_property
from itertools import count

from hypothesis import strategies as st

from tap_circleci.errors import Forbidden
from tap_circleci.output.outcomes import MISSING_TO_ASK
from tap_circleci.reading.pipelines import Refusals
from tap_circleci.streams import ROOT, STREAMS, WALK, Stream, children_of, family_of, is_limited
from tap_circleci.values.patterns import JobNames
from tap_circleci.values.rows import Ids, Row
from tap_circleci.values.times import written
from tap_circleci.walk.descent import Descent, Fetch, Judged, Look, PageDone, judge
from tap_circleci.walk.progress import Lacking, Progress, merged
from tap_circleci.walk.seen import Plan, Seen, start_of

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
ZERO = timedelta(0)
PAGE = 4
SLUG = "gh/acme/api"
ALL_NAMES = JobNames()
NAMES = tuple(stream.name for stream in WALK)
ONCE = tuple(child.name for child in children_of(ROOT) if child.timing.once)
"""The streams directly below pipelines whose lists never change."""


# What there is


@dataclass(frozen=True)
class Version:
    """What a row is from `changed` on, as the service shows it from `told` on."""

    changed: datetime
    told: datetime
    fields: Row


@dataclass(frozen=True)
class Thing:
    """A row of the service, oldest version first, and the lists below it. `job` is the name of the job it is below."""

    stream: Stream = field(repr=False)
    name: str
    versions: tuple[Version, ...]
    below: Mapping[str, tuple[Thing, ...]] = field(default_factory=dict, repr=False)
    job: str | None = None

    def at(self, now: datetime) -> Row | None:
        """The row as the service shows it, None if it does not yet."""
        told = [version for version in self.versions if version.told <= now]
        ids = dict.fromkeys(self.stream.row.child_context, self.name)
        return {**ids, "id": self.name, **told[-1].fields} if told else None

    @cached_property
    def all(self) -> tuple[Thing, ...]:
        """This and everything below it."""
        return (self, *(one for things in self.below.values() for thing in things for one in thing.all))


@dataclass(frozen=True)
class Pipeline:
    """A pipeline; the lists below it answer 404 from `gone` on."""

    number: int
    created: datetime
    thing: Thing
    gone: datetime | None = None

    @property
    def name(self) -> str:
        return self.thing.name


def constant(
    stream: Stream,
    name: str,
    since: tuple[datetime, datetime],
    final: tuple[datetime, datetime],
    job: str | None = None,
) -> Thing:
    """A row without a status of its own, which changes once: when the one above it comes to its final state.

    Both are when it happens and when it is told. Whatever a `once` list is asked before is not the last word.
    """  # fmt: skip
    versions = (
        Version(*since, {"value": "early", "failed": True}),
        Version(*final, {"value": "whole", "failed": True}),
    )
    below = {child.name: (constant(child, f"{name}.{child.name}", since, final, job),) for child in children_of(stream)}
    return Thing(stream, name, versions, below, job)


@dataclass(frozen=True)
class Late:
    """How late the service shows that something is there, that it has ended, and what its final status is."""

    there: timedelta = ZERO
    ended: timedelta = ZERO
    flipped: timedelta | None = None


def job_of(
    name: str, title: str, since: datetime, ended: datetime, late: Late, has_end: bool, workflow: Version
) -> Thing:
    """A job, with a row in each list below it; without a time of its end it is final once its workflow is."""
    fields = {"name": title, "type": "build", "project_slug": SLUG, "status": "running", "stopped_at": None}
    versions = [Version(since, since + late.there, fields)]
    end = {"stopped_at": written(ended)} if has_end else {}
    told = max(ended + late.ended, versions[0].told)
    versions.append(Version(ended, told, {**fields, "status": "canceled", **end}))
    if late.flipped is not None:
        versions.append(Version(ended, max(ended + late.flipped, told), {**fields, "status": "success", **end}))
    told = versions[-1].told
    final = (ended, told) if has_end else (workflow.changed, max(told, workflow.told))
    since_told = (since, versions[0].told)
    jobs = STREAMS["jobs"]
    below = {one.name: (constant(one, f"{name}.{one.name}", since_told, final, title),) for one in children_of(jobs)}
    return Thing(jobs, name, tuple(versions), below)


def workflow_of(
    name: str, created: datetime, lasts: timedelta, late: Late, jobs: Iterable[tuple[str, float, bool]]
) -> Thing:
    """A workflow with these jobs: each has a name, a share of the time after which it ends, and a time of its end."""
    ended = created + lasts
    stream = STREAMS["workflows"]
    fields = {"created_at": written(created), "status": "on_hold", "stopped_at": None}
    final = {**fields, "stopped_at": written(ended)}
    told = ended + max(late.ended, late.there)
    versions = [
        Version(created, created + late.there, fields),
        Version(ended, told, {**final, "status": "canceled"}),
    ]
    if late.flipped is not None:
        versions.append(Version(ended, max(ended + late.flipped, told), {**final, "status": "success"}))
    first, last = versions[0], versions[-1]
    below: dict[str, tuple[Thing, ...]] = {}
    for child in children_of(stream):
        if child.name == "jobs":
            below["jobs"] = tuple(
                job_of(f"{name}.{place}", title, created, created + lasts * share, late, has_end, versions[1])
                for place, (title, share, has_end) in enumerate(jobs)
            )
        else:
            times = (first.changed, first.told), (last.changed, last.told)
            below[child.name] = (constant(child, f"{name}.{child.name}", *times),)
    return Thing(stream, name, tuple(versions), below)


def pipeline_of(
    number: int,
    created: datetime,
    settled: datetime,
    late: Late,
    workflows: Iterable[Thing],
    gone: datetime | None = None,
) -> Pipeline:
    """A pipeline that comes to a final state at some time, which its `updated_at` does not show."""
    name = f"p{number}"
    fields = {"created_at": written(created), "updated_at": written(created), "number": number + 1}
    first = Version(created, created + late.there, {**fields, "state": "setup"})
    last = Version(settled, max(settled + late.ended, first.told), {**fields, "state": "created"})
    below: dict[str, tuple[Thing, ...]] = {"workflows": tuple(workflows)}
    for child in children_of(ROOT):
        if child.name != "workflows":
            times = (first.changed, first.told), (last.changed, last.told)
            below[child.name] = (constant(child, f"{name}.{child.name}", *times),)
    return Pipeline(number, created, Thing(ROOT, name, (first, last), below), gone)


# How it is read


@dataclass(frozen=True)
class Failing:
    """The lists of a stream below some pipelines cannot be read: every `by`-th, with the rest `rest`."""

    status: int
    stream: str
    by: int
    rest: int

    def hits(self, fetch: Fetch, number: int) -> bool:
        return fetch.stream.name == self.stream and number % self.by == self.rest


@dataclass(frozen=True)
class Sync:
    """How one sync goes: when it begins, what its clocks say, what is selected, and what goes wrong.

    It is cut after so many decisions (`cut`), `lost` is a page that cannot be read, the token is dead after so many
    requests (`dies`). A page takes `pace`; the answers are behind what happens by `lag`.
    """

    at: datetime
    lookback: timedelta
    ahead: timedelta = ZERO
    behind: timedelta | None = ZERO
    streams: tuple[str, ...] = NAMES
    cut: int | None = None
    lost: int | None = None
    dies: int | None = None
    failing: Failing | None = None
    pace: timedelta = ZERO
    lag: timedelta = ZERO
    start: datetime = START
    names: JobNames = ALL_NAMES


class CutError(Exception):
    """The run ends here: it is cut, or its token is dead."""


@dataclass(frozen=True)
class Done:
    """A sync gave all of a stream that the service showed at that time; below jobs, of those with these names."""

    at: datetime
    names: JobNames


@dataclass
class Project:
    """A history of pipelines, oldest first, what the state says of it, and what a target holds of it."""

    pipelines: list[Pipeline]
    seen: dict[str, Seen] = field(default_factory=dict)
    starts: dict[str, datetime] = field(default_factory=dict)
    names: dict[str, JobNames] = field(default_factory=dict)
    held: dict[tuple[str, str], tuple[Row, datetime]] = field(default_factory=dict)
    done: dict[str, Done] = field(default_factory=dict)
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    looks: int = 0
    is_whole: bool = True

    @cached_property
    def things(self) -> dict[tuple[str, str], Thing]:
        return {(one.stream.name, one.name): one for pipeline in self.pipelines for one in pipeline.thing.all}

    def sync(self, how: Sync) -> datetime:
        """Walk as the tap does; gives when it ended."""
        walk = _Walk(self, how)
        self.is_whole = False
        try:
            walk.run()
        except CutError:
            return walk.now
        self.is_whole = True
        for name in how.streams:
            if name not in walk.progress.stopped and how.lost is None:
                self.done[name] = Done(how.at - how.lag, how.names)
        return walk.now

    def ended_at(self, key: tuple[str, str]) -> datetime | None:
        """When the row above a list that was asked for came to its final state; None for a pipeline's workflows."""
        stream, _ = key
        if stream == "workflows":
            return None
        if stream == "jobs":
            return self.parent(key).versions[-1].told
        return max(row.versions[-1].told for row in self.parent(key).below[stream])

    def parent(self, key: tuple[str, str]) -> Thing:
        """The row above a list that was asked for."""
        stream, name = key
        return self.things[str(STREAMS[stream].parent), name]

    def assert_true(self, bound: timedelta, start: datetime = START, slack: timedelta = ZERO) -> None:
        """What the service showed in time for one of the completed syncs is held as it was then, or newer.

        In time is at once for what changed up to that age of the pipeline, `bound`, and for a later change when the
        pipeline is twice as old as when it was told, and `slack` besides. What failed is named for another try.
        """
        for pipeline in self.pipelines:
            if pipeline.created < start:
                continue
            for thing in pipeline.thing.all:
                name = thing.stream.name
                done = self.done.get(name)
                if done is None or pipeline.name in self.seen[name].retry:
                    continue
                if pipeline.gone is not None and pipeline.gone <= done.at and thing is not pipeline.thing:
                    continue
                if thing.job is not None and not done.names.matches(thing.job):
                    continue
                # A list that never changes is asked for once the row above is final.
                versions = thing.versions[-1:] if _is_once(thing.stream) else thing.versions
                last = [one for one in versions if _due(pipeline, one, bound) + slack <= done.at]
                if last:
                    self._assert_held(pipeline, thing, last[-1])

    def _assert_held(self, pipeline: Pipeline, thing: Thing, version: Version) -> None:
        key = (thing.stream.name, thing.name)
        assert key in self.held, (key, version, pipeline.created, self.done)
        row, seen_at = self.held[key]
        is_there = seen_at >= version.told or all(row.get(name) == value for name, value in version.fields.items())
        assert is_there, (key, row, version, pipeline.created, self.done)


def _is_once(stream: Stream) -> bool:
    """Whether a stream is in a list that never changes, or below one."""
    return stream.timing.once or (stream.parent is not None and _is_once(STREAMS[stream.parent]))


def _due(pipeline: Pipeline, version: Version, bound: timedelta) -> datetime:
    """When a version is to be held."""
    is_young = version.changed - pipeline.created <= bound
    return version.told if is_young else version.told + (version.told - pipeline.created)


class _Walk:
    """One way down the list, as `reading` and `sync` go it, one list after the other."""

    def __init__(self, project: Project, how: Sync) -> None:
        self.project, self.how = project, how
        self.now = how.at - how.lag
        certain = None if how.behind is None else how.at - how.behind
        seen = {name: self._seen(name) for name in how.streams}
        firsts = {name: start_of(one, project.starts.get(name), how.start) for name, one in seen.items()}
        plans = {name: Plan(one, firsts[name], how.at + how.ahead, certain, how.lookback) for name, one in seen.items()}
        self.firsts = firsts
        self.descent = Descent(SLUG, plans, how.names)
        self.progress = Progress.of(seen)
        self.refusals = Refusals()
        self.requests = count()
        self.proven_at = -1.0
        self.decisions = self.missing = 0

    def _seen(self, name: str) -> Seen:
        """What was seen before; nothing, where the stream is limited to other names since."""
        before = self.project.names.get(name, self.how.names)
        changed = is_limited(STREAMS[name]) and before.patterns != self.how.names.patterns
        return Seen() if changed else self.project.seen.get(name, Seen())

    def run(self) -> None:
        pages = list(self._pages())
        whole = True
        for number, page in enumerate(pages):
            if number == self.how.lost:
                whole = False
                break
            self._answer()
            rows = [row for pipeline in page if (row := pipeline.thing.at(self.now)) is not None]
            turn = self.descent.page(rows, self.now, more=number + 1 < len(pages))
            self._take(turn.decisions)
            if not turn.wants_more:
                break
            self.now += self.how.pace
        self._take(self.descent.ended(whole=whole))
        self._take(self.descent.retries())
        self.progress.ended()
        self._keep()
        if self.progress.is_doubted:
            self._prove()

    def _pages(self) -> Iterator[list[Pipeline]]:
        """The pages, newest first but for neighbours that have changed places."""
        shown = [one for one in reversed(self.project.pipelines) if one.thing.at(self.now) is not None]
        for place in range(2, len(shown) - 1, 5):
            shown[place], shown[place + 1] = shown[place + 1], shown[place]
        for first in range(0, max(len(shown), 1), PAGE):
            yield shown[first : first + PAGE]

    def _take(self, decisions: Iterable[Look | PageDone]) -> None:
        for decision in decisions:
            self.decisions += 1
            if self.decisions == self.how.cut:
                raise CutError
            if isinstance(decision, PageDone):
                self.progress.passed(self.descent, decision)
                self._keep()
            else:
                self._look(decision)

    def _look(self, look: Look) -> None:
        pipeline = self.project.pipelines[int(look.pipeline_id[1:])]
        self.project.looks += bool(look.as_of)
        self.progress.looked(look, self._node(ROOT, look.judged, pipeline))
        if self.progress.full() and self.progress.is_doubted:
            self._prove()
        self.progress.stop(self.progress.full())

    def _node(self, stream: Stream, judged: Judged, pipeline: Pipeline) -> Lacking:
        """Hold a row and what is below it; gives the streams that lack something."""
        if judged.is_sent:
            self.project.held[stream.name, judged.row["id"]] = (judged.row, self.now)
        lacking: Lacking = {}
        for fetch in judged.fetches:
            lacking = merged(lacking, self._list(fetch, pipeline))
        return lacking

    def _list(self, fetch: Fetch, pipeline: Pipeline) -> Lacking:
        status = self._status(fetch, pipeline)
        if status == 403:
            if self.refusals.have_ended(SLUG, fetch.stream):
                self.progress.stop([fetch.stream.name])
            return dict.fromkeys(fetch.as_of)
        if status == 404:
            return dict.fromkeys(fetch.as_of, float(next(self.requests)))
        if status != 200:
            return dict.fromkeys(fetch.as_of)
        parent = self.project.things[_parent(fetch.stream, fetch.ids)]
        self.project.asked[fetch.stream.name, parent.name] += 1
        lacking: Lacking = {}
        for thing in parent.below[fetch.stream.name]:
            row = thing.at(self.now)
            if row is not None:
                judged = judge(fetch, row, self.how.names)
                lacking = merged(lacking, self._node(fetch.stream, judged, pipeline))
        return lacking

    def _status(self, fetch: Fetch, pipeline: Pipeline) -> int:
        """How the service answers a request for a list."""
        if self.refusals.have_ended(SLUG, fetch.stream):
            return 403
        sent = float(next(self.requests))
        if self._is_dead(sent) or (pipeline.gone is not None and pipeline.gone <= self.now):
            self.missing += 1
            if self.missing % MISSING_TO_ASK == 0:
                self._answer()
            return 404
        self.missing = 0
        status = self.how.failing.status if self.how.failing and self.how.failing.hits(fetch, pipeline.number) else 200
        self.refusals.note(SLUG, fetch.stream, Forbidden("", 403) if status == 403 else None)
        if status == 200:
            self.proven_at = sent
        return status

    def _answer(self) -> None:
        """A request that a valid token cannot fail: it proves that, or ends the run."""
        sent = float(next(self.requests))
        if self._is_dead(sent):
            raise CutError
        self.proven_at = sent

    def _is_dead(self, sent: float) -> bool:
        return self.how.dies is not None and sent > self.how.dies

    def _prove(self) -> None:
        """Ask whose token it is."""
        self._answer()
        self._keep()

    def _keep(self) -> None:
        self.progress.settle(self.proven_at)
        for name, seen in self.progress.seen.items():
            if is_limited(STREAMS[name]) and self.project.names.get(name) != self.how.names:
                self.project.done.pop(name, None)  # it is read anew
            self.project.seen[name] = seen
            self.project.names[name] = self.how.names
            self.project.starts[name] = self.firsts[name]


def _parent(stream: Stream, ids: Ids) -> tuple[str, str]:
    """The row below which a list is, by the first of the ids that it gives."""
    parent = STREAMS[str(stream.parent)]
    return parent.name, ids[next(iter(parent.row.child_context.values()))]


# Random ones

GAPS = [ZERO, MINUTE, 50 * MINUTE, 300 * MINUTE, 3000 * MINUTE]
LATER = [ZERO, ZERO, 3 * HOUR, 20 * HOUR, 6 * DAY, 33 * DAY, 80 * DAY]
LASTS = [7 * MINUTE, 3 * HOUR, 23 * HOUR, 5 * DAY]
DELAYS = st.sampled_from([ZERO, ZERO, 11 * MINUTE, HOUR, 114 * MINUTE])
LATES = st.builds(Late, DELAYS, DELAYS, st.one_of(st.none(), DELAYS))
JOBS = st.lists(
    st.tuples(st.sampled_from(["build", "lint"]), st.sampled_from([0.3, 1.0]), st.booleans()), min_size=1, max_size=2
)


@st.composite
def histories(draw: st.DrawFn, most: int = 30) -> list[Pipeline]:
    """Pipelines at irregular times, shown late, with late ends and reruns up to 90 days later."""
    moment = START
    pipelines = []
    for number in range(draw(st.integers(1, most))):
        moment += draw(st.sampled_from(GAPS))
        late = draw(LATES)
        workflows = [
            workflow_of(
                f"w{number}.{place}",
                moment + draw(st.sampled_from(LATER)),
                draw(st.sampled_from(LASTS)),
                late,
                draw(JOBS),
            )
            for place in range(draw(st.integers(0, 2)))
        ]
        settled = moment + draw(st.sampled_from([ZERO, ZERO, HOUR, 10 * HOUR, 9 * DAY]))
        gone = draw(st.sampled_from([None] * 9 + [moment + 40 * DAY]))
        pipelines.append(pipeline_of(number, moment, settled, late, workflows, gone))
    return pipelines


def _selections() -> Iterator[tuple[str, ...]]:
    """All streams, most often; one with all below it; one alone; all but the root."""
    yield from [NAMES] * 6
    for stream in WALK[1:]:
        yield tuple(one.name for one in family_of(stream))
        yield (stream.name,)
    yield NAMES[:1]
    yield NAMES[1:]


PAUSES = st.sampled_from([20 * MINUTE, HOUR, 5 * HOUR, DAY, 3 * DAY, 40 * DAY])
SELECTIONS = st.sampled_from(list(_selections()))
LOOKBACKS = st.one_of(
    st.sampled_from([0.0, 0.01, 0.25, 1.0, 3.0]).map(lambda days: [days]), st.permutations([0.25, 1.0, 7.0, 40.0])
)
PATTERNS = st.sampled_from([JobNames(), JobNames(), JobNames(("build",)), JobNames((), ("build",))])
FAILURES = st.builds(
    lambda status, stream, by: Failing(status, stream, *by),
    st.sampled_from([500, 403]),
    st.sampled_from(NAMES[1:]),
    st.integers(1, 6).flatmap(lambda by: st.tuples(st.just(by), st.integers(0, by - 1))),
)
