"""Looking at CircleCI without a sync: `--check` tells whether the config works, `--get` shows what a path answers."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import count
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tap_circleci.client import Client, a_page, an_object, who_am_i
from tap_circleci.config import Config
from tap_circleci.discover import Selected
from tap_circleci.errors import BadInput, Forbidden, LocalError, NotFound, TapError
from tap_circleci.messages import Messages, print_json
from tap_circleci.organizations import Organizations
from tap_circleci.paging import Page, pages
from tap_circleci.report import Report
from tap_circleci.slugs import escaped_slug, usable_id
from tap_circleci.streams import STREAMS, WALK, Stream
from tap_circleci.text import quoted
from tap_circleci.workers import Clock, Pool, result

LOGGER = logging.getLogger(__name__)


def check(config: Config, clock: Clock) -> list[str]:
    """Tell in a few lines whose token it is, what it sees and what not; gives a sentence for each thing amiss."""
    client = Client(config, clock)
    pool = Pool(config.max_workers)
    report = Report(clock, Messages(Selected({}), clock), client)
    try:
        _check(config, clock, client, pool, report)
    except TapError as error:
        report.failures += error.args
    finally:
        pool.close()
        client.close()
    return report.failures


def _check(config: Config, clock: Clock, client: Client, pool: Pool, report: Report) -> None:
    me = who_am_i(client).body
    LOGGER.info("Token: accepted by %s, of %s", config.base_url, me.get("login") or me.get("name") or me["id"])
    organizations = Organizations(config, client, pool, clock, report)
    seen = [
        row for listing in organizations.read(["collaborations"]) for row in listing.rows if usable_id(row.get("id"))
    ]
    LOGGER.info("Organizations: %s", ", ".join(str(row.get("slug") or row["id"]) for row in seen) or "none")
    order = count()

    def first_page(stream: Stream, ids: Mapping[str, str]) -> Page:
        return next(pages(client, stream, ids, config.page_size))

    def try_lists(wanted: Iterable[tuple[Stream, str, Mapping[str, str]]]) -> None:
        """Ask for the first pages of lists, each with the name of its parent, and tell what cannot be had."""
        asked = [
            (f"{stream.name} of {parent}", pool.submit((next(order),), partial(first_page, stream, ids)))
            for stream, parent, ids in wanted
        ]
        for name, page in asked:
            try:
                result(page, clock, report.tick)
            except (Forbidden, NotFound) as error:
                LOGGER.info("Not to be had, and skipped in a sync: %s (%s)", name, _status(error))
            except LocalError as error:
                report.failed(f"{name} cannot be read: {error}.")

    below = [stream for stream in STREAMS.values() if stream.parent == "collaborations"]
    try_lists(
        (stream, str(row.get("slug") or row["id"]), {"organization_id": str(row["id"])})
        for row in seen
        for stream in below
    )
    found: dict[str, str] = {}
    slugs = organizations.slugs()
    for slug, project in [(slug, pool.submit((next(order),), partial(_look_up, client, slug))) for slug in slugs]:
        try:
            found[slug] = result(project, clock, report.tick)
            LOGGER.info("Project: %s found, id %s", slug, found[slug])
        except LocalError as error:
            report.failed(f"Project {slug} cannot be had ({_status(error)}).")
    below = [stream for stream in STREAMS.values() if stream.parent == "project" or stream.name == WALK[0]]
    try_lists(
        (stream, slug, {"project_slug": slug, "project_id": name}) for slug, name in found.items() for stream in below
    )


def _look_up(client: Client, slug: str) -> str:
    path = str(STREAMS["project"].look_up).format(project_slug=escaped_slug(slug))
    return str(client.get(path, {}, "project", an_object).body["id"])


def _status(error: LocalError) -> str:
    known = {Forbidden: "403: permission denied", NotFound: "404: not there, or not for this token"}
    return known.get(type(error), str(error))


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
        answer = client.get(path, params, "get", a_page if every_page else _anything)
        body = answer.body
        tokens: set[str] = set()
        while every_page and isinstance(answer.body, dict) and answer.body.get("next_page_token"):
            token = str(answer.body["next_page_token"])
            if token in tokens:
                LOGGER.warning("The list goes round in circles; it was ended after %d pages.", len(tokens) + 1)
                break
            tokens.add(token)
            answer = client.get(path, {**params, "page-token": [token]}, "get", a_page)
            body = {**body, "items": [*(body["items"] or []), *(answer.body.get("items") or [])]}
        if every_page and isinstance(body, dict):
            body = {"items": body["items"] or []}
    finally:
        client.close()
    print_json(json.dumps(body, indent=2))


def _anything(_body: Any) -> bool:
    return True
