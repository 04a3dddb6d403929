"""The walk: a project's pipelines, newest first, and all that lies below them, read by many threads, given in order.

The organization-wide streams are read stream by stream (`organizations`), so that a run can go on at one of them. Here
all streams are read pipeline by pipeline, so that memory stays flat however long the history is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property, partial
from itertools import count

from tap_circleci.client import Client
from tap_circleci.config import Config
from tap_circleci.errors import LocalError
from tap_circleci.http.service_time import ServiceTime
from tap_circleci.reading.paging import Page, Rows, context_of, pages, path_of, read
from tap_circleci.state.state import Mark
from tap_circleci.streams import ROOT, STREAMS, WALK, Stream, children_of, family_of
from tap_circleci.values.rows import Ids, Row, value_of
from tap_circleci.values.slugs import usable_id
from tap_circleci.values.times import brief, moment
from tap_circleci.walk.seen import Plan, is_complete, next_due
from tap_circleci.workers import Once, Pool, Wait, ahead

LOGGER = logging.getLogger(__name__)

ROWS_AHEAD = 500
"""About how many rows may be read before they are written."""

AsOf = Mapping[str, datetime | None]
"""The streams of which something below a row may be lacking, and as of when the rest is in the tables (None: never)."""


@dataclass(frozen=True)
class Node:
    """A row, whether it is to be sent, and the lists below it that were asked for, in the order of the streams."""

    row: Row
    is_wanted: bool
    lists: tuple[Future[Branch], ...] = ()


@dataclass(frozen=True)
class Branch:
    """The list of one stream below one row, as nodes. `wanted` are the streams that lack something if it is not whole.

    `name` is what the list belongs to, for messages.
    """

    stream: Stream
    name: str
    rows: Rows
    nodes: tuple[Node, ...]
    wanted: frozenset[str]

    def size(self) -> tuple[int, int]:
        """How many rows and lists it holds, once all of it has been read."""
        sizes = [child.result().size() for node in self.nodes for child in node.lists]
        return len(self.nodes) + sum(rows for rows, _ in sizes), 1 + sum(lists for _, lists in sizes)


@dataclass(frozen=True)
class ProjectWalk:
    """One way down the list of a project's pipelines: what it is to look at for each stream."""

    slug: str
    plans: Mapping[str, Plan]

    @cached_property
    def horizon(self) -> datetime:
        """No pipeline created before this is due for any stream."""
        return min(plan.horizon for plan in self.plans.values())

    def further(self, lookback: timedelta) -> timedelta | None:
        """How far it looks back, if that is more than a day further than on every sync."""
        if any(not plan.seen.steps for plan in self.plans.values()):
            return None
        depth = max(plan.now for plan in self.plans.values()) - self.horizon
        return depth if depth > lookback + timedelta(days=1) else None

    def wanted(self, created_at: datetime | None, name: str) -> AsOf:
        """The streams below a pipeline for which it is due."""
        return {
            stream: plan.as_of(created_at, name)
            for stream, plan in self.plans.items()
            if stream != ROOT.name and plan.is_due(created_at, name)
        }

    def is_wanted(self, row: Row, created_at: datetime | None) -> bool:
        """Whether a pipeline's own row may have changed; its list tells, so also where nothing below it is due."""
        plan = self.plans.get(ROOT.name)
        if plan is None or not plan.reaches(created_at):
            return False
        changed_at = _ended_at(ROOT, row) or created_at
        return plan.is_pending(created_at) or not is_complete(_is_final(ROOT, row), changed_at, plan.as_of(created_at))

    def is_pending(self, row: Row, created_at: datetime) -> bool:
        """Whether a pipeline is to be sent again once it is in a final state."""
        plan = self.plans.get(ROOT.name)
        return (
            plan is not None
            and plan.reaches(created_at)
            and created_at >= plan.last_looks_at
            and not _is_final(ROOT, row)
        )

    def why(self, created_at: datetime | None, is_wanted: bool, wanted: AsOf) -> str:
        """Why a pipeline is looked at or not, for the log."""
        if created_at is None:
            return "creation time unknown: looked at"
        known = {name: as_of and brief(as_of) for name, as_of in wanted.items()}
        following = next_due(created_at, max(plan.now for plan in self.plans.values()))
        return (
            f"created {brief(created_at)}; sent: {is_wanted}; due and in the tables as of: {known or 'nothing'};"
            f" next look: {brief(following) if following else 'none'}"
        )


@dataclass(frozen=True)
class Pipeline:
    """A pipeline with what is below it, as far as it was asked for, for the streams in `asked`."""

    walk: ProjectWalk
    node: Node
    date: datetime | None
    asked: frozenset[str] = frozenset()


@dataclass(frozen=True)
class PageDone:
    """All pipelines of a page have been given: all of the walk that were created after `down_to`.

    `is_last`: all that are due. `pending` is when the oldest of them was created that is not in a final state.
    """

    walk: ProjectWalk
    down_to: datetime | None
    pending: datetime | None
    broken: int = 0
    is_last: bool = False

    @property
    def share(self) -> float:
        """How much of the time between now and the horizon is done."""
        if self.is_last or self.down_to is None:
            return float(self.is_last)
        now = max(plan.now for plan in self.walk.plans.values())
        length = (now - self.walk.horizon).total_seconds()
        return min((now - self.down_to).total_seconds() / length, 1.0) if length > 0 else 1.0


@dataclass(frozen=True)
class ListEnded:
    """The list of a project's pipelines has ended, with a `problem` if it was not read as far as was due.

    `further`: how old the oldest of the pipelines was that were looked at, if that is much more than on every sync.
    """

    slug: str
    problem: LocalError | None = None
    further: timedelta | None = None


@dataclass(frozen=True)
class ProjectDone:
    """Nothing more comes of this project."""

    slug: str


Event = Pipeline | PageDone | ListEnded | ProjectDone


class Walker:
    """Gives, project by project and newest pipeline first, what the selected streams are to send.

    Used by the one thread that writes.
    """

    def __init__(
        self,
        config: Config,
        client: Client,
        pool: Pool,
        wait: Wait,
        time: ServiceTime,
        start: datetime,
        selected: Iterable[str],
    ) -> None:
        self._config = config
        self._client = client
        self._pool = pool
        self._wait = wait
        self._time = time
        self._start = start
        self._selected = tuple(selected)
        self._children = {stream.name: children_of(stream) for stream in WALK}
        self._families = {stream.name: frozenset(one.name for one in family_of(stream)) for stream in WALK}
        self._order = count()
        # Until the first pipelines tell, they may be wide.
        self._pipelines_read, self._rows_read, self._lists_read = 1, 100, 1

    def events(self, slugs: list[str], marks: Mapping[str, Mapping[str, Mark]]) -> Iterator[Event]:
        """What happens on the walk, in order, begun so far ahead that no thread is idle.

        `marks` are what earlier runs kept, by slug and stream.
        """
        for event in ahead(self._all(slugs, marks), self._window):
            yield event
            if isinstance(event, Pipeline):
                sizes = [branch.result().size() for branch in event.node.lists]
                self._pipelines_read += 1
                self._rows_read += 1 + sum(rows for rows, _ in sizes)
                self._lists_read += sum(lists for _, lists in sizes)

    def _window(self) -> int:
        """How many events to be ahead of the output: enough to keep all threads busy while one request is tried
        again, but not so many that the rows of wide pipelines fill the memory."""
        workers = self._config.max_workers
        enough = max(2, 2 * workers * self._pipelines_read // self._lists_read)
        return max(min(ROWS_AHEAD * self._pipelines_read // self._rows_read, workers * 16), min(enough, workers * 2))

    def _all(self, slugs: list[str], marks: Mapping[str, Mapping[str, Mark]]) -> Iterator[Event]:
        lists: dict[str, PipelineList] = {}

        def open_from(number: int) -> None:
            """Ask for the first pages of the next projects, most of which have no more than that."""
            for slug in slugs[number : number + self._config.max_workers * 2]:
                if slug not in lists:
                    listing = pages(self._client, ROOT, {"project_slug": slug}, self._config.page_size)
                    lists[slug] = PipelineList(listing, self._pool, self._order)

        open_from(0)
        for number, slug in enumerate(slugs, start=1):
            before = {name: marks.get(slug, {}).get(name, Mark()) for name in self._selected}
            yield from self._project(slug, before, lists.pop(slug), partial(open_from, number))
            yield ProjectDone(slug)

    def _project(
        self, slug: str, marks: Mapping[str, Mark], listed: PipelineList, on_last_page: Callable[[], None]
    ) -> Iterator[Event]:
        """One way down the list, then the pipelines of earlier failures that it did not come to."""
        retried: set[str] = set()
        walk: ProjectWalk | None = None
        for event in self._descend(slug, marks, listed, on_last_page):
            if isinstance(event, Pipeline):
                walk = event.walk
                if event.asked:
                    retried.add(str(event.node.row.get("id")))
            yield event
        if walk is None:
            walk = self._planned(slug, marks, None, [])
        for name in dict.fromkeys(name for plan in walk.plans.values() for name in plan.seen.retry):
            if name not in retried and usable_id(name) is not None:
                wanted = {stream: None for stream, plan in walk.plans.items() if name in plan.retry}
                yield self._read_children(walk, Node({"id": name}, False), None, wanted)

    def _descend(
        self, slug: str, marks: Mapping[str, Mark], listed: PipelineList, on_last_page: Callable[[], None]
    ) -> Iterator[Event]:
        """One way down the list. `on_last_page` is called when no page is left to ask for."""
        walk: ProjectWalk | None = None
        done: PageDone | None = None
        pending: datetime | None = None
        more = True
        while more:
            try:
                page: Page | None = self._wait(listed.page)
            except LocalError as problem:
                on_last_page()
                if done is not None:
                    yield done
                yield ListEnded(slug, problem)
                return
            if page is None:
                break
            created = [moment(row.get("created_at")) for row in page.rows]
            known = [date for date in created if date is not None]
            if walk is None:
                walk = self._planned(slug, marks, page.date, known)
            if done is not None:  # the newest of what is still to come, so that a list out of order loses nothing
                yield replace(done, down_to=max(known, default=done.down_to))
            below_all = bool(created) and all(date is not None and date < walk.horizon for date in created)
            more = page.more and not below_all
            if more:
                listed = listed.following()
            else:
                on_last_page()
            for row, date in zip(page.rows, created, strict=True):
                yield from self._pipeline(walk, row, date, page.date)
                if date is not None and walk.is_pending(row, date):
                    pending = min(date, pending or date)
            done = PageDone(walk, max(known, default=done.down_to if done else None), pending, page.broken)
        if done is not None:
            yield replace(done, is_last=True)
        yield ListEnded(slug, further=None if walk is None else walk.further(self._config.lookback_days))

    def _planned(
        self, slug: str, marks: Mapping[str, Mark], date: datetime | None, known: list[datetime]
    ) -> ProjectWalk:
        """The walk that begins with an answer of that `date`, whose pipelines were created at `known` times."""
        now, certain = self._time.latest(date), self._time.certain(date, known)
        return ProjectWalk(
            slug,
            {
                name: Plan(mark.seen, now, certain, self._config.lookback_days, self._start, mark.start)
                for name, mark in marks.items()
            },
        )

    def _pipeline(
        self, walk: ProjectWalk, row: Row, created_at: datetime | None, date: datetime | None
    ) -> Iterator[Pipeline]:
        """A pipeline of the list, with what is below it asked for; nothing if there is nothing to send."""
        name = usable_id(row.get("id"))
        wanted = walk.wanted(created_at, name) if name is not None else {}
        is_wanted = walk.is_wanted(row, created_at)
        if LOGGER.isEnabledFor(logging.DEBUG):
            LOGGER.debug("%s: pipeline %s: %s", walk.slug, name, walk.why(created_at, is_wanted, wanted))
        if is_wanted or wanted:
            yield self._read_children(walk, Node(row, is_wanted), date, wanted)

    def _read_children(self, walk: ProjectWalk, node: Node, date: datetime | None, wanted: AsOf) -> Pipeline:
        """The pipeline with the lists below it asked for, as far as something may be lacking there."""
        lists = self._lists(ROOT, node.row, {"project_slug": walk.slug}, wanted, (next(self._order),), Once(self._pool))
        return Pipeline(walk, replace(node, lists=lists), date, frozenset(wanted))

    def _lists(
        self, stream: Stream, row: Row, ids: Ids, wanted: AsOf, order: tuple[int, ...], once: Once
    ) -> tuple[Future[Branch], ...]:
        """Have the lists below a row read, of each child stream that lacks something or has a descendant that does."""
        children = self._children[stream.name]
        if not children or not wanted:
            return ()
        context = {**ids, **context_of(stream, row)}
        lists = []
        for place, child in enumerate(children):
            below = {name: moment for name, moment in wanted.items() if name in self._families[child.name]}
            if below and child.needs <= context.keys() and self._has_list(child, stream, row):
                work = partial(self._branch, child, context, below, (*order, place), once)
                # A rerun lists jobs of the workflow before it again: they are asked for once.
                key = (child.name, path_of(child, context), *sorted(below))
                lists.append(once.submit(key, (*order, place), work))
        return tuple(lists)

    def _has_list(self, child: Stream, stream: Stream, row: Row) -> bool:
        """Whether a list of the child stream can be there below this row, and the user wants it."""
        if child.timing.once and not (_is_final(stream, row) and _ended_at(stream, row)):
            return False
        if not child.timing.is_below(row):
            return False
        names = getattr(self._config, child.timing.names) if child.timing.names else None
        return names is None or names.matches(str(row.get("name")))

    def _branch(self, stream: Stream, ids: Ids, wanted: AsOf, order: tuple[int, ...], once: Once) -> Branch:
        """Read a list, and have read what is below its rows; in a pool's thread."""
        rows = read(self._client, stream, ids, self._config.page_size)
        nodes = tuple(
            self._node(stream, row, ids, wanted, (*order, place), once) for place, row in enumerate(rows.rows)
        )
        return Branch(stream, _name(stream, ids), rows, nodes, frozenset(wanted))

    def _node(self, stream: Stream, row: Row, ids: Ids, wanted: AsOf, order: tuple[int, ...], once: Once) -> Node:
        # Moments are dear to read, and this one matters only where something is in the tables already.
        ended_at = _ended_at(stream, row) if any(wanted.values()) else None
        is_final = _is_final(stream, row)
        lacking = {name: as_of for name, as_of in wanted.items() if not is_complete(is_final, ended_at, as_of)}
        is_wanted = stream.name in (wanted if stream.belongs_to_parent else lacking)
        return Node(row, is_wanted, self._lists(stream, row, ids, lacking, order, once))


def _is_final(stream: Stream, row: Row) -> bool:
    timing = stream.timing
    if timing.status is None:
        return False
    status = value_of(row, timing.status)
    return status in timing.final or (bool(timing.unfinished and status) and status not in timing.unfinished)


def _ended_at(stream: Stream, row: Row) -> datetime | None:
    """When a row came to its final state; not before it was created, whatever it says."""
    ended_at = None if stream.timing.ended_at is None else moment(value_of(row, stream.timing.ended_at))
    created_at = moment(row.get("created_at"))
    return ended_at if ended_at is None or created_at is None else max(ended_at, created_at)


def _name(stream: Stream, ids: Ids) -> str:
    """What a list is, for messages: the jobs of workflow … of pipeline …."""
    words = [f"the {stream.name}"]
    while stream.parent is not None:
        stream = STREAMS[stream.parent]
        name = next(iter(stream.row.child_context.values()))
        words.append(f"of {name.removesuffix('_id')} {ids.get(name)}")
    return " ".join(words)


class PipelineList:
    """The list of a project's pipelines, of which one page has been asked for."""

    def __init__(self, listing: Iterator[Page], pool: Pool, order: Iterator[int]) -> None:
        self._listing = listing
        self._pool = pool
        self._order = order
        self.page = pool.submit((next(order),), lambda: next(listing, None))

    def following(self) -> PipelineList:
        """The same list with its next page asked for."""
        return PipelineList(self._listing, self._pool, self._order)
