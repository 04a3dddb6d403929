"""Reruns at once: which pipelines the list of builds has news of, whatever their age.

Every run of a job, a rerun's too, gets the project's next number, so the top of the list of builds (API v1.1) names the
workflows that have run jobs since the last sync. It is a hint: nothing here knows how the walk decides, and with wrong,
late or missing answers the walk goes on as it would without.
https://circleci.com/docs/api/v1/#recent-builds-for-a-single-project
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from tap_circleci.client import Client, is_object
from tap_circleci.errors import Forbidden, LocalError, NotFound
from tap_circleci.reading.paging import pages
from tap_circleci.streams import BUILDS, ROOT, WORKFLOWS, Stream
from tap_circleci.streams.addresses import path_to
from tap_circleci.values.rows import Row, inside, value_of
from tap_circleci.values.slugs import usable_id
from tap_circleci.values.times import moment
from tap_circleci.walk.builds import SETTLED, is_known, next_build, number_of

MOST_PAGES = 10
"""Pages of 100 builds that are read of a project; the rest waits for the schedule."""
_SHALLOW = replace(BUILDS, source=replace(BUILDS.source, params={"shallow": "true"}))


@dataclass(frozen=True)
class News:
    """Workflows that may have run jobs since the last sync, and the number from which the next sync reads on.

    `as_of`: when that was true; None where the next sync is to read the same again. `is_cut`: there were more builds
    than are read. `problem`: why the list could not be read.
    """

    workflows: tuple[str, ...] = ()
    next_build: int | None = None
    as_of: datetime | None = None
    is_cut: bool = False
    problem: LocalError | None = None


def read_news(client: Client, slug: str, since: int | None, last: datetime | None, now: datetime) -> News:
    """The news of a project's builds from the number `since` on; a first sync (None) only finds the number.

    What had stopped well before they were read `last` was in the tables by then.
    """
    listing = pages(client, _SHALLOW, {"project_slug": slug}, 0)
    builds: list[Row] = []
    is_cut = False
    try:
        for number, page in enumerate(listing, start=1):
            builds += page.rows
            is_end = since is None or any(is_known(since, now, build) for build in page.rows)
            is_cut = number == MOST_PAGES and page.more and not is_end
            if is_end or is_cut:
                break
    except LocalError as problem:
        return News(problem=problem)
    # A project without builds has news once it has one.
    following = next_build([] if is_cut else builds, now, _after(builds, since) if is_cut else since or 0)
    return News(tuple(_workflows(builds, since, last)), following, now, is_cut)


def _after(builds: Iterable[Row], since: int | None) -> int | None:
    """The number after the highest."""
    return max((number + 1 for build in builds if (number := number_of(build)) is not None), default=since)


def _workflows(builds: Iterable[Row], since: int | None, last: datetime | None) -> dict[str, None]:
    """The ids of the workflows of builds from the number `since` on, less those that had stopped the `last` time."""
    found: dict[str, None] = {}
    for build in builds:
        number, stopped_at = number_of(build), moment(build.get("stop_time"))
        is_old = last is not None and stopped_at is not None and stopped_at < last - SETTLED
        name = usable_id(inside(build, BUILDS.row.taken_up["workflow_id"]))
        if since is not None and number is not None and number >= since and not is_old and name is not None:
            found[name] = None
    return found


def pipelines_of(client: Client, workflows: Iterable[str], known: Collection[str]) -> tuple[list[Row], bool]:
    """The pipelines to which workflows belong, but those that are `known` by id; and whether a next try may have more.

    https://circleci.com/docs/api/v2/#tag/Workflow/operation/getWorkflowById
    """
    rows: dict[str, Row] = {}
    is_whole = True
    for workflow in workflows:
        try:
            found = _look_up(client, WORKFLOWS, workflow)
            name = usable_id(value_of(found, "pipeline_id"))
            if name is not None and name not in known and name not in rows:
                rows[name] = _pipeline(client, name)
        except (NotFound, Forbidden):
            continue
        except LocalError:
            is_whole = False
    return list(rows.values()), is_whole


def _pipeline(client: Client, name: str) -> Row:
    """The row of a pipeline, or its id alone where there is no more to be had."""
    try:
        return _look_up(client, ROOT, name)
    except NotFound:
        return {"id": name}


def _look_up(client: Client, stream: Stream, name: str) -> Row:
    """One row by its id."""
    row: Row = client.get(path_to(stream, name), {}, stream.name, is_object).body
    return row
