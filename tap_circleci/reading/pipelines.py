"""The reader of the walk: pipelines and everything below them, fetched ahead by many threads, given in order.

`walk.descent` decides what is to be fetched; this module fetches it. The organization-wide streams are read stream by
stream (`organizations`), so that a run can resume at one of them. Here all streams are read pipeline by pipeline, so
that memory does not grow with the history.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from typing import Any

from tap_circleci.client import Client
from tap_circleci.config import Config
from tap_circleci.errors import Forbidden, LocalError, Throttled
from tap_circleci.http.service_time import ServiceTime
from tap_circleci.reading.paging import Page, Rows, pages, reading
from tap_circleci.reading.reruns import News, pipelines_of, read_news
from tap_circleci.state.state import Mark
from tap_circleci.streams import ROOT, STREAMS, WORKFLOWS, Stream
from tap_circleci.values.rows import Ids, Row
from tap_circleci.values.times import moments
from tap_circleci.walk.descent import Descent, Fetch, Judged, Look, PageDone, judge
from tap_circleci.walk.seen import Plan, start_of
from tap_circleci.workers import Once, Pool, Wait

LOGGER = logging.getLogger(__name__)

LOOKS_AHEAD = 16
"""Looks at pipelines, per worker, that are begun ahead of the output."""
PATIENCE = 0.2
"""Seconds to wait for the next page of pipelines before writing: a page gives work to all threads, and writing waits
for lists that are not read yet."""
REFUSALS = 3
"""403s in a row for a stream in a project, after which this run no longer requests the stream there."""

Marks = Mapping[str, Mark]
"""What the state has about a project, by stream."""


@dataclass(frozen=True)
class Node:
    """A row, whether it is to be sent, and the lists below it that were requested, in the order of the streams."""

    row: Row
    is_sent: bool
    lists: tuple[Future[Branch], ...] = ()


@dataclass(frozen=True)
class Branch:
    """A list that was fetched, as nodes; `name` is for messages."""

    fetch: Fetch
    name: str
    rows: Rows
    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class Pipeline:
    """A pipeline that is looked at, and the lists below it that were requested."""

    look: Look
    node: Node
    order: int


@dataclass(frozen=True)
class PageRead:
    """All pipelines of a page have been given."""

    descent: Descent
    page: PageDone


@dataclass(frozen=True)
class ListEnded:
    """The list of a project's pipelines has ended, with a `problem` if due pipelines were not read.

    `further`: the age up to which pipelines are re-checked, if it is much more than in every sync.
    """

    problem: LocalError | None
    further: timedelta | None


@dataclass(frozen=True)
class ProjectDone:
    """Everything of this project has been given; what follows is of the next one."""


Event = Pipeline | PageRead | ListEnded | News | ProjectDone
Pending = Event | Future[Any]
"""An event, or an answer that is needed for the next event."""


class Refusals:
    """Counts the 403s of each stream in each project. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_a_row: Counter[tuple[str, str]] = Counter()

    def note(self, slug: str, stream: Stream, problem: LocalError | None) -> None:
        """Count the answer to a request for a list."""
        with self._lock:
            if isinstance(problem, Forbidden):
                self._in_a_row[slug, stream.name] += 1
            elif problem is None and not self.have_ended(slug, stream):
                self._in_a_row[slug, stream.name] = 0

    def have_ended(self, slug: str, stream: Stream) -> bool:
        """Whether a stream was refused so often in a project that this run no longer requests it there."""
        return self._in_a_row[slug, stream.name] >= REFUSALS


class ListedWorkflows:
    """The ids of the workflows that a run has listed in a project, at looks for all streams; `all` is done when no list
    is outstanding."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._outstanding = 1  # the list of pipelines
        self.ids: set[str] = set()
        self.all: Future[None] = Future()

    def expect(self, listing: Future[Branch]) -> None:
        """Add a list of workflows to wait for."""
        with self._lock:
            self._outstanding += 1
        listing.add_done_callback(self._note)

    def _note(self, listing: Future[Branch]) -> None:
        if listing.exception() is None:
            self.ids |= {str(node.row.get("id")) for node in listing.result().nodes}
        self.end()

    def end(self) -> None:
        """Count a list that is no longer outstanding."""
        with self._lock:
            self._outstanding -= 1
            if not self._outstanding:
                self.all.set_result(None)


class Walker:
    """Gives what is to be written, project by project and newest pipeline first.

    Used by the one thread that writes. `refusals` say which streams are no longer read in which projects.
    """

    def __init__(
        self, config: Config, client: Client, pool: Pool, wait: Wait, time: ServiceTime, start: datetime
    ) -> None:
        self._config = config
        self._client = client
        self._pool = pool
        self._wait = wait
        self._time = time
        self._start = start
        self._order = count()
        self._are_builds_refused = False
        self.refusals = Refusals()

    def events(self, projects: Mapping[str, Marks], builds: Mapping[str, Mark]) -> Iterator[Event]:
        """The events of the walk in order, begun far enough ahead that no thread is idle.

        `projects` are the marks of earlier runs by slug, for each selected stream; `builds` are the marks that say at
        which number the lists of builds begin, empty if they are not to be read.
        """
        begun: deque[Event] = deque()
        for event in self._all(projects, builds):
            if isinstance(event, Future):
                if not self._pool.is_held_up():
                    wait([event], timeout=PATIENCE)
                while begun and not _has_come(event):  # earlier events are written meanwhile
                    yield self._next(begun)
                if not begun:
                    self._pool.output_at(next(self._order))  # no row is held
                with suppress(LocalError):  # `_project` sees it
                    self._wait(event)
                continue
            begun.append(event)
            while len(begun) > LOOKS_AHEAD * self._config.max_workers:
                yield self._next(begun)
        while begun:
            yield self._next(begun)

    def _next(self, begun: deque[Event]) -> Event:
        """The next event for the output; what it needs goes before all later work."""
        event = begun.popleft()
        if isinstance(event, Pipeline):
            self._pool.output_at(event.order)
        return event

    def _all(self, projects: Mapping[str, Marks], builds: Mapping[str, Mark]) -> Iterator[Pending]:
        slugs = list(projects)
        lists: dict[str, PipelineList] = {}
        news: dict[str, Future[News]] = {}

        def open_from(number: int) -> None:
            """Request the first pages of the next projects; most have only one page."""
            for slug in slugs[number : number + self._config.max_workers * 2]:
                if slug not in lists:
                    listing = pages(self._client, ROOT, {"project_slug": slug}, self._config.page_size)
                    lists[slug] = PipelineList(listing, self._pool, self._order)
                    if slug in builds and not self._are_builds_refused:
                        news[slug] = self._request_news(slug, builds[slug])

        open_from(0)
        for number, slug in enumerate(slugs, start=1):
            on_last_page = partial(open_from, number)
            if slug in news and builds[slug].next_build is None:  # before any state says what was read
                yield from self._first_number(news.pop(slug))
            yield from self._project(slug, projects[slug], lists.pop(slug), news.pop(slug, None), on_last_page)
            yield ProjectDone()

    def _request_news(self, slug: str, mark: Mark) -> Future[News]:
        work = partial(read_news, self._client, slug, mark.next_build, mark.builds_as_of, self._time)
        return self._pool.submit((next(self._order),), work)

    def _project(
        self,
        slug: str,
        marks: Marks,
        listed: PipelineList,
        news: Future[News] | None,
        on_last_page: Callable[[], None],
    ) -> Iterator[Pending]:
        """One walk down the list, then looks at pipelines that failed before or have news.

        `on_last_page` is called when there is no other page to request.
        """
        workflows = ListedWorkflows()
        descent: Descent | None = None
        problem: LocalError | None = None
        wants_more = True
        while wants_more:
            yield listed.page
            try:
                page = listed.page.result()
            except LocalError as error:
                problem = error
                break
            if descent is None:
                descent = self._descent(slug, marks, page.date, page.rows)
            turn = descent.page(page.rows, page.date, more=page.more, broken=page.broken)
            wants_more = turn.wants_more
            if wants_more:
                listed = listed.following()
            else:
                on_last_page()
            yield from self._events(descent, turn.decisions, workflows)
            if LOGGER.isEnabledFor(logging.DEBUG):
                for row in page.rows:
                    LOGGER.debug("%s: pipeline %s: %s", slug, row.get("id"), descent.explain(row))
        if wants_more:
            on_last_page()
        descent = descent or self._descent(slug, marks, None, ())
        yield from self._events(descent, descent.ended(whole=problem is None), workflows)
        yield ListEnded(problem, descent.further(self._config.lookback_days) if problem is None else None)
        yield from self._events(descent, descent.retries(), workflows)
        if news is not None:
            yield from self._with_news(descent, news, workflows)

    def _first_number(self, requested: Future[News]) -> Iterator[Pending]:
        """The number at which the next sync begins to read builds; a first sync has no news."""
        yield requested
        yield self._answer(requested)

    def _answer(self, requested: Future[News]) -> News:
        """The news that came. A rate limit of API v1.1 alone is met once: each refusal makes all requests wait."""
        news = requested.result()
        self._are_builds_refused |= isinstance(news.problem, Throttled)
        return news

    def _with_news(self, descent: Descent, requested: Future[News], listed: ListedWorkflows) -> Iterator[Pending]:
        """Looks at pipelines that have news in the list of builds and that this run has not looked at."""
        yield requested
        news = self._answer(requested)
        listed.end()
        rows: list[Row] = []
        if news.workflows:
            yield listed.all
            unlisted = [workflow_id for workflow_id in news.workflows if workflow_id not in listed.ids]
            work = partial(pipelines_of, self._client, unlisted, descent.whole)
            found = self._pool.submit((next(self._order),), work)
            yield found
            rows, is_whole = found.result()
            if not is_whole and not news.is_cut:  # if it was cut, a request that always fails would stop the number
                news = replace(news, as_of=None)
        yield news
        looks = [look for row in rows if (look := descent.hinted(row)) is not None]
        yield from self._events(descent, looks, None)

    def _events(
        self, descent: Descent, decisions: Iterable[Look | PageDone], workflows: ListedWorkflows | None
    ) -> Iterator[Event]:
        """The decisions as events; `workflows` waits for the lists of workflows, None where nobody waits for them."""
        for decision in decisions:
            if isinstance(decision, PageDone):
                yield PageRead(descent, decision)
            else:
                order = next(self._order)
                node = self._node(descent.slug, decision.judged, (order,), Once(self._pool))
                for fetch, listing in zip(decision.judged.fetches, node.lists, strict=True):
                    if workflows is not None and decision.is_whole and fetch.stream is WORKFLOWS:
                        workflows.expect(listing)
                yield Pipeline(decision, node, order)

    def _descent(self, slug: str, marks: Marks, date: datetime | None, rows: tuple[Row, ...]) -> Descent:
        """The descent that begins with these rows, in an answer of that `date`."""
        created = moments(row.get("created_at") for row in rows)
        now, certain = self._time.latest(date), self._time.certain(date, created)
        plans = {}
        for name, mark in marks.items():
            first = start_of(mark.seen, mark.start, self._start)
            plans[name] = Plan(mark.seen, first, now, certain, self._config.lookback_days)
        return Descent(slug, plans, self._config.job_names)

    # In threads of the pool

    def _node(self, slug: str, judged: Judged, order: tuple[int, ...], once: Once) -> Node:
        """The row, with requests for the lists below it."""
        lists = []
        for place, fetch in enumerate(judged.fetches):
            # A rerun lists jobs of the earlier workflow again: the lists below them are fetched once.
            ids = (fetch.ids[name] for name in sorted(fetch.stream.needs))
            key, here = (fetch.stream.name, *ids, *sorted(fetch.as_of)), (*order, place)
            lists.append(once.submit_steps(key, here, partial(self._fetched, slug, fetch, here, once)))
        return Node(judged.row, judged.is_sent, tuple(lists))

    def _fetched(self, slug: str, fetch: Fetch, order: tuple[int, ...], once: Once) -> Generator[int, None, Branch]:
        """Fetch a list, one page in each step, and request the lists below its rows."""
        stream = fetch.stream
        if self.refusals.have_ended(slug, stream):
            rows = Rows((), None, 0, Forbidden("no longer requested in this run", 403))
        else:
            rows = yield from reading(self._client, stream, fetch.ids, self._config.page_size)
            self.refusals.note(slug, stream, rows.problem)
        judged = (judge(fetch, row, self._config.job_names) for row in rows.rows)
        nodes = tuple(self._node(slug, one, (*order, place), once) for place, one in enumerate(judged))
        return Branch(fetch, _name(stream, fetch.ids), rows, nodes)


def _has_come(page: Future[Any]) -> bool:
    """Whether an answer has come or a list has failed; an error that ends the run waits for its place in the order."""
    return page.done() and isinstance(page.exception(), (LocalError, type(None)))


def _name(stream: Stream, ids: Ids) -> str:
    """The name of a list in messages: the jobs of workflow … of pipeline …."""
    words = [f"the {stream.name}"]
    while stream.parent is not None:
        stream = STREAMS[stream.parent]
        id_name = next(iter(stream.row.child_context.values()))
        words.append(f"of {id_name.removesuffix('_id')} {ids.get(id_name)}")
    return " ".join(words)


class PipelineList:
    """The list of a project's pipelines, with a request for one page."""

    def __init__(self, listing: Iterator[Page], pool: Pool, order: Iterator[int]) -> None:
        self._listing = listing
        self._pool = pool
        self._order = order
        self.page = pool.submit((next(order),), lambda: next(listing))

    def following(self) -> PipelineList:
        """The same list with a request for its next page."""
        return PipelineList(self._listing, self._pool, self._order)
