"""The organization-wide streams: every parent asked once in a run, whichever of its children are wanted."""

from __future__ import annotations

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
from tap_circleci.output.outcomes import Outcomes
from tap_circleci.reading.paging import Rows, read
from tap_circleci.streams import ORGANIZATIONS, PROJECTS, STREAMS, Stream
from tap_circleci.streams.addresses import context_of, params_of, path_of, title_of
from tap_circleci.values.patterns import matches
from tap_circleci.values.rows import Ids, Row
from tap_circleci.values.slugs import escaped_slug, normalise, short_host, usable_id
from tap_circleci.values.text import quoted
from tap_circleci.workers import Pool, Wait, ahead

LOGGER = logging.getLogger(__name__)

Asked = tuple[Stream, Ids, Future[Rows]]
Window = Callable[[Stream, Ids], Mapping[str, str]]
"""Gives the parameters that limit the list of a stream below a parent to what is new."""


@dataclass(frozen=True)
class Listing:
    """The rows of a stream below one parent. `is_whole`: nothing was forbidden, missing, or left out."""

    stream: Stream
    ids: Ids
    rows: tuple[Row, ...]
    date: datetime | None
    is_whole: bool
    broken: int = 0


class Organizations:
    """Reads what the token can see, with all threads of the pool; used by the one thread that writes."""

    def __init__(
        self, config: Config, client: Client, pool: Pool, wait: Wait, outcomes: Outcomes, window: Window
    ) -> None:
        self._config = config
        self._client = client
        self._pool = pool
        self._wait = wait
        self._outcomes = outcomes
        self._window = window
        self._order = count()
        self._asked: dict[tuple[str, ...], Future[Rows]] = {}
        self._look_ups: dict[str, Future[Rows]] = {}
        self._told: set[Future[Rows]] = set()
        self._warned: set[str] = set()
        self._incomplete: set[str] = set()

    def read(self, streams: Iterable[Stream]) -> Iterator[Listing]:
        """The rows of streams, one stream after the other, parent by parent in the order of the parents' rows.

        While one stream is being read to its end, the next is begun.
        """
        begun = (asked for stream in streams for asked in self._begun(stream))
        for stream, ids, future in ahead(begun, lambda: self._config.max_workers * 4):
            yield self._listing(stream, ids, future)

    def is_whole(self, stream: Stream) -> bool:
        """Whether the lists of a stream that has been read, and of all its ancestors, were whole."""
        parent = STREAMS[stream.parent] if stream.parent else None
        return stream.name not in self._incomplete and (parent is None or self.is_whole(parent))

    def _begun(self, stream: Stream) -> Iterator[Asked]:
        """The lists of a stream, each asked for when it is drawn."""
        for ids in self.parents(stream):
            yield stream, ids, self._ask(stream, ids)
        if stream.source.look_up:
            yield from self._looked_up(stream, stream.source.look_up)

    def parents(self, stream: Stream) -> Iterator[Ids]:
        """What identifies each parent below which the stream has a list."""
        if stream.parent is None:
            yield {}
            return
        parent = STREAMS[stream.parent]
        for listing in self.read([parent]):
            for row in listing.rows:
                if stream.timing.configured_only and not self._is_configured(listing, row):
                    continue
                ids = {**listing.ids, **context_of(parent, row)}
                if stream.needs <= ids.keys():
                    yield ids
                elif all(row.get(column) for column in parent.row.identity):
                    columns = {name: column for column, name in parent.row.child_context.items()}
                    lacking = ", ".join(sorted(columns.get(name, name) for name in stream.needs - ids.keys()))
                    of = " ".join([parent.name, *(str(row[column]) for column in parent.row.identity)])
                    self._warn(f"{stream.name} of {of}: skipped: it has no {lacking} that can be asked for")

    def _ask(self, stream: Stream, ids: Ids) -> Future[Rows]:
        """Have a list read, once: for all children of its rows, and for all parents, if several share it."""
        key = (stream.name, path_of(stream, ids), *params_of(stream, ids).values())
        if key not in self._asked:
            work = partial(read, self._client, stream, ids, self._config.page_size, self._window(stream, ids))
            self._asked[key] = self._pool.submit((next(self._order),), work)
        return self._asked[key]

    def _listing(self, stream: Stream, ids: Ids, future: Future[Rows]) -> Listing:
        """The list that was asked for; what is wrong with it is told the first time."""
        found: Rows = self._wait(future)
        if future not in self._told:
            self._told.add(future)
            self._tell(stream, ids, found.problem)
        # A list that several parents share has the ids of the one that asked first.
        own = {column: ids[name] for column, name in stream.row.parent_columns.items() if name in ids}
        rows = tuple({**row, **own} for row in found.rows)
        is_whole = (found.problem is None or isinstance(found.problem, NotOffered)) and not found.broken
        # An organization without an id has nothing that could be read, now or ever.
        columns = {*stream.key} - {*stream.row.default_columns, *stream.row.blank_columns} if stream.parent else set()
        keyed = all(usable_id(row.get(column)) for row in rows for column in columns)
        self._incomplete.update(() if is_whole and keyed else {stream.name})
        return Listing(stream, ids, rows, found.date, is_whole, found.broken)

    def _tell(self, stream: Stream, ids: Ids, problem: LocalError | None) -> None:
        if stream.parent is None and isinstance(problem, NotFound):
            LOGGER.warning("%s: not there (404), so no organization can be read", stream.name)
        self._outcomes.judge(title_of(stream, ids), stream.name, problem, may_be_endless=True)

    def _warn(self, sentence: str) -> None:
        """Tell once what is left out."""
        if sentence not in self._warned:
            self._warned.add(sentence)
            LOGGER.warning("%s", sentence)

    # The projects that the user names

    def slugs(self) -> list[str]:
        """The slugs of all projects that the user names, those of whole organizations found at the first call."""
        return list(self._slugs)

    @cached_property
    def _slugs(self) -> Mapping[str, None]:
        named = self._config.project_slugs
        slugs = {slug: None for slug in named.single if not named.excludes(slug)}
        found = [self._matching(pattern) for pattern in named.patterns]
        for matching in found:
            slugs |= dict.fromkeys(matching or ())
        if not slugs and all(matching is not None for matching in found):
            self._outcomes.failed("project_slugs names no project: its patterns match none, or all are left out.")
        return slugs

    def _is_configured(self, listing: Listing, row: Row) -> bool:
        """Whether a project is one of those that the user names: listed by its slug or id, or looked up for them."""
        looked_up_for = listing.ids.get("project_slug")
        if looked_up_for is not None:
            return looked_up_for in self._slugs
        return normalise(str(row.get("slug"))) in self._slugs or str(row.get("id")) in self._ids_in_slugs

    @cached_property
    def _ids_in_slugs(self) -> frozenset[str]:
        return frozenset(slug.rpartition("/")[2] for slug in self._slugs if slug.startswith("circleci/"))

    def _looked_up(self, stream: Stream, path: str) -> Iterator[Asked]:
        """The configured projects that no organization's list had, each looked up by its slug."""
        listed = [
            row for (name, *_), future in self._asked.items() if name == stream.name for row in self._wait(future).rows
        ]
        slugs = {normalise(str(row.get("slug"))) for row in listed}
        ids = {str(row.get("id")) for row in listed}
        for slug in self._config.project_slugs.single:
            if slug in slugs or slug.rpartition("/")[2] in ids:
                continue
            if slug not in self._look_ups:
                owner = self._organization(slug.rpartition("/")[0])
                look_up = partial(self._look_up, path, slug, ids, owner)
                self._look_ups[slug] = self._pool.submit((next(self._order),), look_up)
            yield stream, {"project_slug": slug}, self._look_ups[slug]

    def _look_up(self, path: str, slug: str, listed: set[str], owner: Row | None) -> Rows:
        """Read one project, unless it turns out to be listed under another slug; in a thread of the pool.

        `owner` is the organization in the slug, for an answer that names none.
        """
        try:
            answer = self._client.get(path.format(project_slug=escaped_slug(slug)), {}, PROJECTS.name, is_object)
        except LocalError as problem:
            return Rows((), None, problem=problem)
        row = answer.body
        if owner is not None and not row.get("organization_id"):
            row = {**row, "organization_id": owner["id"]}
        return Rows(() if str(row.get("id")) in listed else (row,), answer.date)

    def _matching(self, pattern: str) -> list[str] | None:
        """The slugs of the projects that a pattern such as gh/acme/* means; None if they cannot be had."""
        named = self._config.project_slugs
        single = {slug.rpartition("/")[2] for slug in named.single}
        place, _, wanted = pattern.rpartition("/")
        organization = self._organization(place)
        if organization is None:
            self._outcomes.failed(f"{pattern}: the token sees no organization {place}.")
            return None
        ids = {"organization_id": str(organization["id"])}
        asked = self._ask(PROJECTS, ids)
        listing = self._listing(PROJECTS, ids, asked)
        is_listed = self._is_listed(asked)
        if not is_listed:
            self._outcomes.failed(f"{pattern}: the projects of this organization cannot be listed.")
        places = {place, short_host(str(organization.get("slug"))), f"circleci/{organization['id']}"}
        found = []
        for row in listing.rows:
            slug, name = normalise(str(row.get("slug"))), str(row.get("id"))
            if slug is None:
                self._warn(f"{pattern}: project {name} is left out, since its slug is {quoted(row.get('slug'))}")
            elif name not in single:
                names = {slug.rpartition("/")[2], str(row.get("name")), name}
                slugs = [slug, *(f"{at}/{name}" for at in places for name in names)]
                if any(matches(name, wanted) for name in names) and not any(map(named.excludes, slugs)):
                    found.append(slug)
        return found if found or is_listed else None

    def _is_listed(self, asked: Future[Rows]) -> bool:
        """Whether a list was read as far as it goes, though it may go round in circles."""
        problem = self._wait(asked).problem
        return problem is None or isinstance(problem, EndlessList)

    def _organization(self, place: str) -> Row | None:
        """The organization with this slug, or with its id for a name, if the token sees it."""
        host, _, tail = place.partition("/")
        for listing in self.read([ORGANIZATIONS]):
            for row in listing.rows:
                name = usable_id(row.get("id"))
                if name and (place == short_host(str(row.get("slug"))) or (host == "circleci" and tail == name)):
                    return row
        return None
