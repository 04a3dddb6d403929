"""The walk through projects: pipelines, their workflows, their jobs, read by many threads and given in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from functools import partial
from itertools import count
from typing import Any

from tap_circleci import bookmarks
from tap_circleci.bookmarks import Owed, Pass, Range, Walk
from tap_circleci.client import Client
from tap_circleci.config import Config
from tap_circleci.errors import LocalError, NotFound
from tap_circleci.paging import Page, Row, Rows, pages, read
from tap_circleci.slugs import usable_id
from tap_circleci.streams import STREAMS, WALK, Stream
from tap_circleci.times import EPOCH, moment
from tap_circleci.workers import Pool, ahead

ROWS_AHEAD = 500
"""About how many rows may be read before they are written."""
MOMENT = timedelta(microseconds=1)

Wait = Callable[[Future[Any]], Any]
"""Gives the result of a future, while the run stays ready to be stopped."""


@dataclass(frozen=True)
class Branch:
    """A workflow, whether its row is to be sent, and its jobs if they are."""

    workflow: Row
    wanted: bool
    jobs: Future[Rows] | None


@dataclass(frozen=True)
class Tree:
    """What is below a pipeline."""

    branches: tuple[Branch, ...]
    workflows: Rows


@dataclass(frozen=True)
class Unit:
    """A pipeline, whether its row is to be sent, and what is below it, as far as it was asked for.

    For the streams in `asked`; `in_full` are those of them of which nothing was left out as settled.
    """

    slug: str
    pipeline: Row
    date: datetime
    wanted: bool
    tree: Future[Tree] | None
    asked: frozenset[str]
    in_full: frozenset[str]

    def size(self) -> int:
        """How many rows it holds, once it has been read."""
        branches = self.tree.result().branches if self.tree is not None else ()
        return 1 + len(branches) + sum(len(branch.jobs.result().rows) for branch in branches if branch.jobs is not None)


@dataclass(frozen=True)
class PageDone:
    """All pipelines of a page have been given, all of the pass that were created after `down_to`.

    `pending` is when the oldest of the pass was created that is not in a final state.
    """

    slug: str
    this: Pass
    down_to: datetime | None
    pending: datetime | None
    broken: int
    warning: str | None

    @property
    def share(self) -> float:
        """How much of the interval that the pass goes through is done."""
        if self.down_to is None:
            return 0.0
        return min((self.this.started - self.down_to) / max(self.this.started - self.this.horizon, MOMENT), 1.0)


@dataclass(frozen=True)
class PassDone:
    """A way down a project's list has ended, with a `problem` if it did not come all the way down."""

    slug: str
    this: Pass | None
    pending: datetime | None
    problem: LocalError | None = None


@dataclass(frozen=True)
class ProjectDone:
    """Nothing more comes of this project."""

    slug: str


Event = Unit | PageDone | PassDone | ProjectDone


class Walker:
    """Gives, project by project and newest pipeline first, what the selected streams are to send.

    Used by the one thread that writes.
    """

    def __init__(self, config: Config, client: Client, pool: Pool, wait: Wait, selected: Iterable[str]) -> None:
        self._config = config
        self._client = client
        self._pool = pool
        self._wait = wait
        self._selected = tuple(stream for stream in WALK if stream in set(selected))
        self._order = count()
        self._units, self._rows = 1, 100  # until the first units tell, they may be wide

    def events(self, slugs: list[str], walks: Mapping[str, Walk]) -> Iterator[Event]:
        """What happens on the walk, in order, begun so far ahead that no thread is idle.

        `walks` are the marks of earlier runs.
        """
        for event in ahead(self._all(slugs, walks), self._window):
            yield event
            if isinstance(event, Unit):
                self._units += 1
                self._rows += event.size()

    def _window(self) -> int:
        """How many events to be ahead of the output: enough to keep all threads busy while one request is tried
        again, but not so many that the rows of wide pipelines fill the memory."""
        wanted = ROWS_AHEAD * self._units // self._rows
        return min(max(wanted, self._config.max_workers * 2), self._config.max_workers * 16)

    def _all(self, slugs: list[str], walks: Mapping[str, Walk]) -> Iterator[Event]:
        lists: dict[str, Descent] = {}

        def open_from(number: int) -> None:
            """Ask for the first pages of the next projects, most of which have no more than that."""
            for slug in slugs[number : number + self._config.max_workers * 2]:
                if slug not in lists:
                    lists[slug] = self._descent(slug)

        open_from(0)
        for number, slug in enumerate(slugs, start=1):
            yield from self._project(slug, walks.get(slug, Walk()), lists.pop(slug), partial(open_from, number))
            yield ProjectDone(slug)

    def _project(self, slug: str, walk: Walk, down: Descent, ended: Callable[[], None]) -> Iterator[Event]:
        """The unfinished walk, if there is one, then what is new or due, then what could not be read last time."""
        lookback, start_date = self._config.lookback_days, self._config.start_date
        attempted: set[str] = set()
        rest = bookmarks.unfinished(walk, self._selected, lookback, start_date)
        if rest is not None:
            for event in self._pass(slug, down, lambda date: rest, walk.retry, attempted, lambda: None):
                yield event
                if isinstance(event, PageDone):
                    walk = bookmarks.page_done(walk, event.this, event.down_to, event.pending, walk.retry)
                elif isinstance(event, PassDone) and isinstance(event.problem, NotFound):
                    ended()
                    return
                elif isinstance(event, PassDone) and event.problem is None:
                    walk = bookmarks.pass_done(walk, rest, event.pending, walk.retry)
            down = self._descent(slug)

        def plan(now: datetime) -> Pass:
            return bookmarks.fresh(walk, self._selected, now, lookback, start_date)

        yield from self._pass(slug, down, plan, walk.retry, attempted, ended)
        for name, streams in walk.retry.items():
            if name not in attempted and usable_id(name) and self._owed(streams):
                yield self._again(slug, name, streams)

    def _pass(
        self,
        slug: str,
        down: Descent,
        plan: Callable[[datetime], Pass],
        retry: Owed,
        attempted: set[str],
        ended: Callable[[], None],
    ) -> Iterator[Event]:
        """One way down the list. `ended` is called when no page is left to ask for.

        Adds those pipelines of `retry` whose children are asked for to `attempted`.
        """
        this: Pass | None = None
        done: PageDone | None = None
        pending: datetime | None = None
        oldest: datetime | None = None
        more = True
        while more:
            try:
                page = self._wait(down.page)
            except LocalError as problem:
                ended()
                if done is not None:
                    yield done
                # Further down is what the extended walk has yet to read: that one tells of the problem.
                all_read = this is not None and this.extends and oldest is not None and oldest < this.horizon
                yield PassDone(slug, this, pending, None if all_read else problem)
                return
            if page is None:
                break
            this = this or plan(page.date)
            created = [moment(row.get("created_at")) for row in page.rows]
            known = [date for date in created if date is not None]
            if done is not None:  # so a list that is not quite in order loses nothing
                yield replace(done, down_to=max(known, default=done.down_to))
            oldest = min(known, default=None)
            whole_page_below = bool(created) and all(date is not None and date < this.horizon for date in created)
            more = page.more and not whole_page_below
            if more:
                down = down.further()
            else:
                ended()
            for row, date in zip(page.rows, created, strict=True):
                unit = self._unit(slug, this, row, date, page, retry)
                if unit is not None:
                    attempted.update({str(row.get("id"))}.intersection(retry if unit.tree else ()))
                    yield unit
                if date is not None and this.awaits(row.get("state"), date):
                    pending = min(date, pending or date)
            done = PageDone(slug, this, max(known, default=None), pending, page.broken, page.warning)
        if done is not None:
            yield done
        yield PassDone(slug, this, pending)

    def _unit(
        self, slug: str, this: Pass, row: Row, created_at: datetime | None, page: Page, retry: Owed
    ) -> Unit | None:
        """What a pipeline of a page gives, with its children asked for; None if nothing is to be sent."""
        ranges = {stream: taken for stream, taken in this.ranges.items() if taken.takes(created_at)}
        own = ranges.pop(WALK[0], None)
        name = usable_id(row.get("id"))
        tree = None
        if name is not None:
            ranges |= self._owed(retry.get(name, ()))
            tree = self._grown(name, created_at, ranges)
        updated_at = moment(row.get("updated_at")) or created_at
        wanted = own is not None and not own.pipeline_is_settled(row.get("state"), updated_at, created_at)
        if tree is None and not wanted:
            return None
        in_full = frozenset(stream for stream, taken in ranges.items() if taken.synced_at is None)
        return Unit(slug, row, page.date, wanted, tree, frozenset(ranges), in_full)

    def _again(self, slug: str, name: str, streams: Iterable[str]) -> Unit:
        """What is below a pipeline that could not be read last time and is not among those looked at anyway."""
        ranges = self._owed(streams)
        now = datetime.now(timezone.utc)
        asked = frozenset(ranges)
        return Unit(slug, {"id": name}, now, False, self._grown(name, None, ranges), asked, asked)

    def _owed(self, streams: Iterable[str]) -> dict[str, Range]:
        """The range of everything, for those of the streams that are selected."""
        everything = Range(EPOCH, None, self._config.lookback_days)
        return {stream: everything for stream in streams if stream in self._selected}

    def _grown(self, name: str, created_at: datetime | None, ranges: Mapping[str, Range]) -> Future[Tree] | None:
        """What is below a pipeline, asked for if there is a stream that takes it."""
        if not ranges:
            return None
        number = next(self._order)
        return self._pool.submit((number,), partial(self._tree, number, name, created_at, ranges))

    def _tree(self, number: int, name: str, created_at: datetime | None, ranges: Mapping[str, Range]) -> Tree:
        """Read the workflows of a pipeline and have their jobs read, if they may have changed; in a pool's thread."""
        workflows = self._below(STREAMS["workflows"], {"pipeline_id": name})
        branches = []
        for place, workflow in enumerate(workflows.rows):
            status, stopped_at = workflow.get("status"), moment(workflow.get("stopped_at"))
            wanted = {
                stream
                for stream, taken in ranges.items()
                if not taken.workflow_is_settled(status, stopped_at, created_at)
            }
            jobs = None
            workflow_id = usable_id(workflow.get("id"))
            if "jobs" in wanted and workflow_id is not None:
                ids = {"pipeline_id": name, "workflow_id": workflow_id}
                jobs = self._pool.submit((number, place), partial(self._below, STREAMS["jobs"], ids))
            branches.append(Branch(workflow, "workflows" in wanted, jobs))
        return Tree(tuple(branches), workflows)

    def _below(self, stream: Stream, ids: Mapping[str, str]) -> Rows:
        """Read a list; in a pool's thread."""
        return read(self._client, stream, ids, self._config.page_size)

    def _descent(self, slug: str) -> Descent:
        listing = pages(self._client, STREAMS["pipelines"], {"project_slug": slug}, self._config.page_size)
        return Descent(listing, self._pool, self._order)


class Descent:
    """The list of a project's pipelines, of which one page has been asked for."""

    def __init__(self, listing: Iterator[Page], pool: Pool, order: Iterator[int]) -> None:
        self._listing = listing
        self._pool = pool
        self._order = order
        self.page = pool.submit((next(order),), lambda: next(listing, None))

    def further(self) -> Descent:
        """The same list with its next page asked for."""
        return Descent(self._listing, self._pool, self._order)
