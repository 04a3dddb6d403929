"""Looking at CircleCI without a sync: `--check` tells whether the config works, `--get` shows what a path answers."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import count
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tap_circleci.client import Client, is_object, who_am_i
from tap_circleci.config import Config
from tap_circleci.discover import Selected
from tap_circleci.errors import BadInput, Forbidden, LocalError, NotFound, NotOffered, TapError
from tap_circleci.output.messages import Messages, print_json
from tap_circleci.output.outcomes import Outcomes
from tap_circleci.output.report import Report
from tap_circleci.reading.organizations import Organizations
from tap_circleci.reading.paging import WHOLE, pages
from tap_circleci.streams import ORGANIZATIONS, PROJECTS, ROOT, Stream, children_of, family_of
from tap_circleci.streams.addresses import context_of
from tap_circleci.values.rows import Ids, Row
from tap_circleci.values.slugs import escaped_slug, usable_id
from tap_circleci.values.text import first_few, quoted
from tap_circleci.workers import Clock, Pool, result

LOGGER = logging.getLogger(__name__)


def check(config: Config, clock: Clock) -> list[str]:
    """Tell in a few lines whose token it is, what it sees and what not; gives a sentence for each thing amiss."""
    client = Client(config, clock)
    pool = Pool(config.max_workers)
    report = Report(clock, Messages(Selected({}), clock), client)
    try:
        _Check(config, clock, client, pool, report).everything()
    except TapError as error:
        report.failed(*error.args)
    finally:
        pool.close()
        client.close()
    if report.failures:
        LOGGER.info("The config does not work: %d things, told below.", len(report.failures))
    else:
        LOGGER.info("The config works.")
    return report.failures


class _Check:
    """Asks for the first page of each list that a sync would read, or of one like it."""

    def __init__(self, config: Config, clock: Clock, client: Client, pool: Pool, report: Report) -> None:
        self._config = config
        self._clock = clock
        self._client = client
        self._pool = pool
        self._report = report
        self._order = count()
        outcomes = Outcomes(report, client)
        self._organizations = Organizations(config, client, pool, self._wait, outcomes, lambda *_: WHOLE)

    def everything(self) -> None:
        """The token, then the organizations, then the projects."""
        me = who_am_i(self._client).body
        LOGGER.info(
            "Token: accepted by %s, of %s", self._config.base_url, me.get("login") or me.get("name") or me["id"]
        )
        rows = [row for listing in self._organizations.read([ORGANIZATIONS]) for row in listing.rows]
        seen = [row for row in rows if usable_id(row.get("id"))]
        LOGGER.info("Organizations: %s", ", ".join(str(row.get("slug") or row["id"]) for row in seen) or "none")
        self._try(
            [(str(row.get("slug") or row["id"]), context_of(ORGANIZATIONS, row)) for row in seen],
            children_of(ORGANIZATIONS),
        )
        found = []
        asked = [(slug, self._ask(partial(self._look_up, slug))) for slug in self._organizations.slugs()]
        for slug, project in asked:
            try:
                row = self._wait(project)
                found.append((slug, {**context_of(PROJECTS, row), "project_slug": slug}))
            except LocalError as error:
                self._report.failed(f"Project {slug} cannot be had ({_status(error)}).")
        LOGGER.info("Projects: %s", first_few([slug for slug, _ in found]) or "none")
        self._try(found, (*children_of(PROJECTS), ROOT))

    def _try(self, parents: Sequence[tuple[str, Ids]], lists: Iterable[Stream]) -> None:
        """Ask for lists below these parents, and tell what cannot be had; then for those below the first rows found."""
        asked_for = [child for child in lists if self._is_wanted(child)]
        for child in asked_for:
            if child.is_export:
                LOGGER.info("Not tried, since CircleCI makes only a few exports an hour: %s", child.name)
        wanted = [child for child in asked_for if not child.is_export]
        asked = [
            (child, name, ids, self._ask(partial(self._first_page, child, ids)))
            for name, ids in parents
            for child in wanted
            if child.needs <= ids.keys()
        ]
        below: dict[str, tuple[str, Ids]] = {}
        told: dict[str, list[str]] = {}
        for child, name, ids, page in asked:
            what = f"{child.name} of {name}"
            try:
                row = next(iter(self._wait(page)), None)
                if child.is_extra:
                    told.setdefault(f"Can be read: {child.name} of %s", []).append(name)
                if row is not None and child.name not in below:
                    below[child.name] = (what, {**ids, **context_of(child, row)})
            except (Forbidden, NotFound, NotOffered) as error:
                why = _status(error).replace("%", "%%")
                told.setdefault(f"Not to be had, and skipped in a sync: {child.name} of %s ({why})", []).append(name)
            except LocalError as error:
                self._report.failed(f"{what} cannot be read: {error}.")
        for sentence, found in told.items():
            LOGGER.info(sentence, first_few(found))
        for child in wanted:
            if child is not PROJECTS and any(self._is_wanted(one) for one in children_of(child)):
                if child.name in below:
                    self._try([below[child.name]], children_of(child))
                elif parents:
                    names = ", ".join(one.name for one in family_of(child)[1:] if self._is_wanted(one))
                    LOGGER.info("Not tried, since there is no row of %s to look below: %s", child.name, names)

    def _is_wanted(self, stream: Stream) -> bool:
        """Whether a sync reads the stream, for itself or for one of the streams that the user asks for beyond those
        that are discovered anyway."""
        named = self._config.extra_streams
        return (not stream.is_extra and stream.parent in _ALWAYS_BELOW) or any(
            one.name in named for one in family_of(stream) if one.is_extra
        )

    def _first_page(self, stream: Stream, ids: Ids) -> tuple[Row, ...]:
        return next(pages(self._client, stream, ids, self._config.page_size)).rows

    def _look_up(self, slug: str) -> Row:
        path = str(PROJECTS.source.look_up).format(project_slug=escaped_slug(slug))
        row: Row = self._client.get(path, {}, PROJECTS.name, is_object).body
        return row

    def _ask(self, work: Callable[[], Any]) -> Future[Any]:
        return self._pool.submit((next(self._order),), work)

    def _wait(self, future: Future[Any]) -> Any:
        return result(future, self._clock, self._report.tick)


_ALWAYS_BELOW = (ORGANIZATIONS.name, PROJECTS.name, None)


def _status(error: LocalError) -> str:
    if isinstance(error, Forbidden):
        return f"{error.status}: permission denied"
    return "404: not there, or not for this token" if isinstance(error, NotFound) else str(error)


def get(config: Config, clock: Clock, target: str, *, every_page: bool) -> None:
    """Print the JSON that the API has at a path such as `/me` or `project/gh/acme/api/pipeline?branch=main`.

    With `every_page` the items of all pages of the list are printed as one. Raises `TapError`.
    """
    try:
        parts = urlsplit(target.removeprefix(config.base_url))
    except ValueError:
        raise BadInput(f"--get takes a path of the API such as /me, not {quoted(target, config.token)}.") from None
    if parts.scheme or parts.netloc:
        raise BadInput(f"--get takes a path of the API at {config.base_url}, not a URL of another host.")
    path = "/" + parts.path.lstrip("/")
    path = path if path.startswith("/api/") else "/api/v2" + path
    params = parse_qs(parts.query, keep_blank_values=True)
    client = Client(config, clock)
    try:
        answer = client.get(path, params, "get", _anything)
        body = answer.body
        if every_page and not _is_page(body):
            raise BadInput(f"{quoted(target)} is no list with pages; leave out --all.")
        tokens: set[str] = set()
        while every_page and isinstance(answer.body, dict) and answer.body.get("next_page_token"):
            token = str(answer.body["next_page_token"])
            if token in tokens:
                LOGGER.warning("The list goes round in circles; it was ended after %d pages.", len(tokens) + 1)
                break
            tokens.add(token)
            answer = client.get(path, {**params, "page-token": [token]}, "get", _is_page)
            body = {**body, "items": [*(body["items"] or []), *(answer.body.get("items") or [])]}
        if every_page and isinstance(body, dict):
            body = {"items": body["items"] or []}
    finally:
        client.close()
    print_json(json.dumps(body, indent=2))


def _is_page(body: Any) -> bool:
    """Whether a body is a page of a list."""
    return isinstance(body, list) or (isinstance(body, dict) and isinstance(body.get("items", 0), (list, type(None))))


def _anything(_body: Any) -> bool:
    return True
