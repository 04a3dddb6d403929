"""The organization-wide streams: each list is fetched once in a run, however many of its children are selected."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from itertools import count

from tap_circleci.client import Client, is_object
from tap_circleci.config import Config
from tap_circleci.errors import EndlessList, LocalError, NotFound, NotOffered
from tap_circleci.output.outcomes import NO_PROJECT, Outcomes
from tap_circleci.reading.named_projects import ListedProjects, Named, identity, matching
from tap_circleci.reading.paging import Extent, Rows, read
from tap_circleci.streams import ORGANIZATIONS, PROJECTS, STREAMS, Stream
from tap_circleci.streams.addresses import context_of, owner_of, params_of, path_of, title_of
from tap_circleci.values.rows import Ids, Row
from tap_circleci.values.slugs import escaped_slug, normalise, short_host, usable_id, usable_slug
from tap_circleci.values.text import first_few, quoted
from tap_circleci.workers import Pool, Wait, ahead

LOGGER = logging.getLogger(__name__)

Requested = tuple[Stream, Ids, Future[Rows]]
ExtentOf = Callable[[Stream, Ids], Extent]
"""Gives how much of the list of a stream below a parent is to be read: what is new."""


@dataclass(frozen=True)
class Listing:
    """The rows of a stream below one parent. `is_whole`: nothing was forbidden, missing or skipped."""

    stream: Stream
    ids: Ids
    rows: tuple[Row, ...]
    date: datetime | None
    is_whole: bool
    broken: int = 0


class Organizations:
    """Reads everything that the token can see, with all threads of the pool. Used by the one thread that writes."""

    def __init__(
        self, config: Config, client: Client, pool: Pool, wait: Wait, outcomes: Outcomes, extent_of: ExtentOf
    ) -> None:
        self._config = config
        self._client = client
        self._pool = pool
        self._wait = wait
        self._outcomes = outcomes
        self._extent_of = extent_of
        self._order = count()
        self._requested: dict[tuple[str, ...], Future[Rows]] = {}
        self._looked_up_as: dict[str, str] = {}
        self._reported: set[Future[Rows]] = set()
        self._warned: set[str] = set()
        self._incomplete: set[str] = set()

    def read(self, streams: Iterable[Stream]) -> Iterator[Listing]:
        """The rows of streams, one stream after the other, parent by parent in the order of the parents' rows.

        The next stream is begun before the last lists of a stream have been read.
        """
        begun = (requested for stream in streams for requested in self._begun(stream))
        for stream, ids, future in ahead(begun, lambda: self._config.max_workers * 4):
            yield self._listing(stream, ids, future)

    def is_whole(self, stream: Stream) -> bool:
        """Whether the lists of a stream that was read, and of all its ancestors, were complete."""
        if stream.name in self._incomplete or (stream.timing.configured_only and not self._all_resolved):
            return False
        return stream.parent is None or self.is_whole(STREAMS[stream.parent])

    def _begun(self, stream: Stream) -> Iterator[Requested]:
        """The lists of a stream; each is requested when the iterator reaches it."""
        for ids in self.parents(stream):
            yield stream, ids, self._request(stream, ids)
        if stream.source.look_up:
            yield from ((stream, {"project_slug": slug}, future) for slug, future in self._look_ups.items())

    def parents(self, stream: Stream) -> Iterator[Ids]:
        """The ids of each parent below which the stream has a list."""
        if stream.parent is None:
            yield {}
            return
        parent = STREAMS[stream.parent]
        for listing in self.read([parent]):
            for row in listing.rows:
                ids = {**listing.ids, **context_of(parent, row)}
                if stream.timing.configured_only:
                    if identity(row) not in self._configured:
                        continue
                    ids = {"project_slug": self._configured[identity(row)], **ids}
                if stream.needs <= ids.keys():
                    yield ids
                elif all(row.get(column) for column in parent.row.identity):
                    self._skip(stream, parent, row, stream.needs - ids.keys())

    def _skip(self, stream: Stream, parent: Stream, row: Row, missing: Iterable[str]) -> None:
        """Skip a list that cannot be requested, since the parent's row lacks ids."""
        columns = {name: column for column, name in parent.row.child_context.items()}
        lacks = ", ".join(sorted(columns.get(name, name) for name in missing))
        of = " ".join([parent.name, *(str(row[column]) for column in parent.row.identity)])
        self._incomplete.add(stream.name)
        sentence = f"{stream.name} of {of}: skipped: the {parent.name} has no usable {lacks}"
        if sentence not in self._warned:
            self._warned.add(sentence)
            LOGGER.warning("%s", sentence)

    def _request(self, stream: Stream, ids: Ids) -> Future[Rows]:
        """Request a list once, for all children of its rows, and for all parents that share it."""
        key = (stream.name, path_of(stream, ids), *params_of(stream, ids).values())
        if key not in self._requested:
            work = partial(read, self._client, stream, ids, self._config.page_size, self._extent_of(stream, ids))
            self._requested[key] = self._pool.submit((next(self._order),), work)
        return self._requested[key]

    def _listing(self, stream: Stream, ids: Ids, future: Future[Rows]) -> Listing:
        """The list that was requested; its problem is reported once."""
        found: Rows = self._wait(future)
        if future not in self._reported:
            self._reported.add(future)
            self._report(stream, ids, found.problem)
        # A list that several parents share has the ids of the parent that requested it first.
        own = {column: ids[name] for column, name in stream.row.parent_columns.items() if name in ids}
        rows = tuple(row if own.items() <= row.items() else {**row, **own} for row in found.rows)
        if stream.source.look_up and "project_slug" in ids:
            rows = tuple(row for row in rows if self._is_further(ids["project_slug"], row))
        is_whole = (found.problem is None or isinstance(found.problem, NotOffered)) and not found.broken
        # An organization without an id has no lists, so it makes nothing incomplete.
        columns = {*stream.key} - {*stream.row.default_columns, *stream.row.blank_columns} if stream.parent else set()
        keyed = all(usable_id(row.get(column)) for row in rows for column in columns)
        self._incomplete.update(() if is_whole and keyed else {stream.name})
        return Listing(stream, ids, rows, found.date, is_whole, found.broken)

    def _report(self, stream: Stream, ids: Ids, problem: LocalError | None) -> None:
        if stream.parent is None and isinstance(problem, NotFound):
            LOGGER.warning("%s: not found (404), so no organization can be read", stream.name)
        if stream.source.look_up and "project_slug" in ids:
            self._outcomes.judge_project(ids["project_slug"], problem)
        else:
            self._outcomes.judge(title_of(stream, ids), stream.name, owner_of(ids), problem, may_be_endless=True)

    # The projects that the user names

    def slugs(self) -> list[str]:
        """The slugs of all projects that the user names; patterns are resolved at the first call."""
        return list(self._named.slugs)

    @cached_property
    def _named(self) -> Named:
        """The projects that the user names by slugs and patterns."""
        found = [Named(self._typed, True), *map(self._matching, self._config.project_slugs.patterns)]
        slugs = dict.fromkeys(slug for named in found for slug in named.slugs)
        is_whole = all(named.is_whole for named in found)
        if not slugs and is_whole:
            self._outcomes.failed("project_slugs names no project: its patterns match none, or all are excluded.")
        return Named(tuple(slugs), is_whole)

    @property
    def _typed(self) -> tuple[str, ...]:
        """The slugs that the user names individually."""
        named = self._config.project_slugs
        return tuple(slug for slug in named.single if not named.excludes(slug))

    def _matching(self, pattern: str) -> Named:
        """The slugs of the projects that a pattern such as gh/acme/* matches."""
        place = pattern.rpartition("/")[0]
        organization = self._organization(place)
        if organization is None:
            seen = first_few([str(row.get("slug") or row["id"]) for row in self.organizations()]) or "none"
            self._outcomes.failed(f"{pattern}: the token sees no organization {place}; it sees {seen}.")
            return Named((), is_whole=False)
        ids = {"organization_id": str(organization["id"])}
        requested = self._request(PROJECTS, ids)
        listing = self._listing(PROJECTS, ids, requested)
        problem = self._wait(requested).problem
        is_listed = problem is None or isinstance(problem, EndlessList)
        if not is_listed:
            self._outcomes.failed(f"{pattern}: the projects of this organization cannot be listed.")
        slugs = []
        for project in matching(pattern, organization, listing.rows, self._config.project_slugs):
            slug = normalise(str(project.get("slug")))
            if slug is None:
                is_listed = False
                shown = quoted(project.get("slug"))
                self._outcomes.left_out(f"{pattern}: project {project.get('id')} is left out; its slug is {shown}.")
            else:
                slugs.append(slug)
        if is_listed and not slugs:
            self._outcomes.left_out(f"{pattern} matches no project that {place} lists.")
        return Named(tuple(slugs), is_listed)

    def organizations(self) -> list[Row]:
        """The organizations that the token sees and that have an id."""
        rows = (row for listing in self.read([ORGANIZATIONS]) for row in listing.rows)
        return [row for row in rows if usable_id(row.get("id"))]

    def _organization(self, place: str) -> Row | None:
        """The organization with this slug, or with its id for a name, if the token sees it."""
        for row in self.organizations():
            if place in (short_host(str(row.get("slug"))), f"circleci/{row['id']}"):
                return row
        return None

    @cached_property
    def _listed(self) -> ListedProjects:
        """The projects of all organizations' lists."""
        lists = [self._request(PROJECTS, ids) for ids in self.parents(PROJECTS)]
        return ListedProjects.of(row for requested in lists for row in self._wait(requested).rows)

    @cached_property
    def _look_ups(self) -> Mapping[str, Future[Rows]]:
        """Look-ups of the projects that are in no list under the slug that the user names."""
        return {slug: self.look_up(slug) for slug in self._typed if self._listed.find(slug) is None}

    def look_up(self, slug: str) -> Future[Rows]:
        """Request one project; if the answer names no organization, the one in the slug is added."""
        owner = self._organization(slug.rpartition("/")[0])
        path = str(PROJECTS.source.look_up).format(project_slug=escaped_slug(slug))

        def work() -> Rows:
            try:
                answer = self._client.get(path, {}, PROJECTS.name, is_object)
            except LocalError as problem:
                return Rows((), None, problem=problem)
            row = answer.body
            if owner is not None and not row.get("organization_id"):
                row = {**row, "organization_id": owner["id"]}
            return Rows((row,), answer.date)

        return self._pool.submit((next(self._order),), work)

    def _is_further(self, slug: str, project: Row) -> bool:
        """Whether neither a list nor an earlier look-up has given this project."""
        first = self._looked_up_as.setdefault(identity(project), slug)
        return first == slug and self._listed.find(identity(project)) is None

    @cached_property
    def _configured(self) -> Mapping[str, str]:
        """The projects that the user names and that were found: the slug for requests, by the project's identity."""
        found: dict[str, str] = {}
        for slug in self._named.slugs:
            project = self._listed.find(slug) or next(iter(self._wait(self._look_ups[slug]).rows), None)
            if project is not None:
                found.setdefault(identity(project), usable_slug(project.get("slug")) or slug)
        if self._named.slugs and not found:
            self._outcomes.failed(NO_PROJECT)
        return found

    @property
    def _all_resolved(self) -> bool:
        """Whether each project that the user names was found."""
        return self._named.is_whole and not any(self._wait(requested).problem for requested in self._look_ups.values())
