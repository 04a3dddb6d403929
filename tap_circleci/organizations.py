"""The eight organization-wide streams: every parent asked once in a run, whichever of its children are wanted."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from functools import partial
from itertools import count

from tap_circleci.client import Client, an_object
from tap_circleci.config import Config
from tap_circleci.errors import Forbidden, LocalError, NotFound
from tap_circleci.paging import Row, Rows, params_of, path_of, read
from tap_circleci.report import Report
from tap_circleci.slugs import escaped_slug, normalise, short_host, usable_id, usable_slug
from tap_circleci.streams import STREAMS, Stream
from tap_circleci.text import quoted
from tap_circleci.workers import Clock, Pool, ahead, result

LOGGER = logging.getLogger(__name__)

Ids = Mapping[str, str]
Asked = tuple[Stream, Ids, Future[Rows]]


@dataclass(frozen=True)
class Listing:
    """The rows of a stream below one parent. `complete`: nothing was forbidden, missing, or left out."""

    stream: Stream
    ids: Ids
    rows: tuple[Row, ...]
    date: datetime | None
    complete: bool
    broken: int = 0


class Organizations:
    """Reads what the token can see, with all threads of the pool; used by the one thread that writes."""

    def __init__(self, config: Config, client: Client, pool: Pool, clock: Clock, report: Report) -> None:
        self._config = config
        self._client = client
        self._pool = pool
        self._clock = clock
        self._report = report
        self._order = count()
        self._asked: dict[tuple[str, ...], Future[Rows]] = {}
        self._lookups: dict[str, Future[Rows]] = {}
        self._told: set[Future[Rows]] = set()
        self._warned: set[str] = set()
        self._incomplete: set[str] = set()

    def read(self, names: Iterable[str]) -> Iterator[Listing]:
        """The rows of streams, one stream after the other, parent by parent in the order of the parents' rows.

        While one stream is being read to its end, the next is begun.
        """
        begun = (asked for name in names for asked in self._begun(STREAMS[name]))
        for stream, ids, future in ahead(begun, lambda: self._config.max_workers * 4):
            yield self._heard(stream, ids, future)

    def is_whole(self, name: str) -> bool:
        """Whether the lists of a stream that has been read, and of all its ancestors, were complete."""
        stream = STREAMS[name]
        return name not in self._incomplete and (stream.parent is None or self.is_whole(stream.parent))

    def _begun(self, stream: Stream) -> Iterator[Asked]:
        """The lists of a stream, each asked for when it is drawn."""
        for ids in self._parents(stream):
            yield stream, ids, self._ask(stream, ids)
        if stream.look_up:
            yield from self._looked_up(stream, stream.look_up)

    def _parents(self, stream: Stream) -> Iterator[Ids]:
        """What identifies each parent below which the stream has a list."""
        if stream.parent is None:
            yield {}
            return
        parent = STREAMS[stream.parent]
        for listing in self.read([parent.name]):
            for row in listing.rows:
                given = {
                    name: (usable_slug if name == "project_slug" else usable_id)(row.get(column))
                    for name, column in parent.gives.items()
                }
                ids = {**listing.ids, **{name: value for name, value in given.items() if value is not None}}
                if stream.needs <= ids.keys():
                    yield ids
                elif usable_id(row.get("id")):
                    lacking = ", ".join(sorted(parent.gives[name] for name in stream.needs - ids.keys()))
                    self._warn(f"{stream.name} of {parent.name} {row['id']}: not asked for, for want of {lacking}")

    def _ask(self, stream: Stream, ids: Ids) -> Future[Rows]:
        """Have a list read, once: for all children of its rows, and for all parents, if several share it."""
        key = (stream.name, path_of(stream, ids), *params_of(stream, ids).values())
        if key not in self._asked:
            self._asked[key] = self._pool.submit(
                (next(self._order),), lambda: read(self._client, stream, ids, self._config.page_size)
            )
        return self._asked[key]

    def _heard(self, stream: Stream, ids: Ids, future: Future[Rows]) -> Listing:
        """The list that was asked for; what is wrong with it is told the first time."""
        found = self._rows(future)
        if future not in self._told:
            self._told.add(future)
            for warning in found.warnings:
                LOGGER.warning("%s", warning)
            if found.problem is not None:
                self._tell(stream, ids, found.problem)
            else:
                self._report.read()
        own = {column: ids[name] for column, name in stream.adds.items() if name in ids}
        rows = tuple({**row, **own} for row in found.rows)
        complete = found.problem is None and not found.warnings and not found.broken
        # An organization without an id has nothing that could be read, now or ever.
        columns = set(stream.key) - set(stream.fills) if stream.parent else ()
        keyed = all(usable_id(row.get(column)) for row in rows for column in columns)
        self._incomplete.update(() if complete and keyed else {stream.name})
        return Listing(stream, ids, rows, found.date, complete, found.broken)

    def _rows(self, future: Future[Rows]) -> Rows:
        return result(future, self._clock, self._report.tick)

    def _tell(self, stream: Stream, ids: Ids, error: LocalError) -> None:
        place = " ".join([stream.name, *(["of"] if ids else []), *ids.values()])
        if isinstance(error, Forbidden):
            self._report.forbidden(place)
        elif isinstance(error, NotFound):
            self._report.missing(stream.name)
            if stream.parent is None:
                LOGGER.warning("%s: not there (404), so no organization can be read", place)
        else:
            self._report.failed(f"{place} could not be read: {error}.")

    def _warn(self, sentence: str) -> None:
        """Tell once what is left out."""
        if sentence not in self._warned:
            self._warned.add(sentence)
            LOGGER.warning("%s", sentence)

    def _looked_up(self, stream: Stream, path: str) -> Iterator[Asked]:
        """The configured projects that no organization's list had, each looked up by its slug."""
        listed = [
            row for (name, *_), future in self._asked.items() if name == stream.name for row in self._rows(future).rows
        ]
        slugs = {normalise(str(row.get("slug"))) for row in listed}
        ids = {str(row.get("id")) for row in listed}
        for slug in self._config.project_slugs.single:
            if slug in slugs or slug.rpartition("/")[2] in ids:
                continue
            if slug not in self._lookups:
                owner = self._organization(slug.rpartition("/")[0])
                look_up = partial(self._look_up, path, slug, ids, owner)
                self._lookups[slug] = self._pool.submit((next(self._order),), look_up)
            yield stream, {"project_slug": slug}, self._lookups[slug]

    def _look_up(self, path: str, slug: str, listed: set[str], owner: Row | None) -> Rows:
        """Read one project, unless it turns out to be listed under another slug; in a thread of the pool.

        `owner` is the organization in the slug, for an answer that names none.
        """
        try:
            answer = self._client.get(path.format(project_slug=escaped_slug(slug)), {}, "project", an_object)
        except LocalError as problem:
            return Rows((), None, problem=problem)
        row = answer.body
        if owner is not None and not row.get("organization_id"):
            row = {**row, "organization_id": owner["id"]}
        return Rows(() if str(row["id"]) in listed else (row,), answer.date)

    def slugs(self) -> list[str]:
        """The slugs of all projects that the user names, those of whole organizations found now."""
        named, failures = self._config.project_slugs, len(self._report.failures)
        slugs = {slug: None for slug in named.single if not named.excludes(slug)}
        for pattern in named.patterns:
            slugs |= dict.fromkeys(self._matching(pattern))
        if not slugs and len(self._report.failures) == failures:
            self._report.failed("project_slugs names no project: its patterns match none, or all are left out.")
        return list(slugs)

    def _matching(self, pattern: str) -> Iterator[str]:
        """The slugs of an organization's projects that a pattern such as gh/acme/* means."""
        named = self._config.project_slugs
        single = {slug.rpartition("/")[2] for slug in named.single}
        place, _, wanted = pattern.rpartition("/")
        organization = self._organization(place)
        if organization is None:
            self._report.failed(f"{pattern}: the token sees no organization {place}.")
            return
        places = {place, short_host(str(organization.get("slug"))), f"circleci/{organization['id']}"}
        for row in self._projects_of(organization, pattern):
            slug, name = normalise(str(row.get("slug"))), str(row.get("id"))
            if slug is None:
                self._warn(f"{pattern}: project {name} is left out, since its slug is {quoted(row.get('slug'))}")
            elif name not in single:
                names = {slug.rpartition("/")[2], str(row.get("name")), name}
                shunned = named.excludes(slug) or any(named.excludes(f"{at}/{name}") for at in places for name in names)
                if not shunned and any(fnmatchcase(name, wanted) for name in names):
                    yield slug

    def _organization(self, place: str) -> Row | None:
        """The organization with this slug, or with its id for a name, if the token sees it."""
        host, _, tail = place.partition("/")
        for listing in self.read(["collaborations"]):
            for row in listing.rows:
                name = usable_id(row.get("id"))
                if name and (place == short_host(str(row.get("slug"))) or (host == "circleci" and tail == name)):
                    return row
        return None

    def _projects_of(self, organization: Row, pattern: str) -> tuple[Row, ...]:
        """The projects of an organization; that they cannot be listed is a failure."""
        stream, ids = STREAMS["project"], {"organization_id": str(organization["id"])}
        asked = self._ask(stream, ids)
        if self._rows(asked).problem is not None:
            self._report.failed(f"{pattern}: the projects of this organization cannot be listed.")
        return self._heard(stream, ids, asked).rows
