"""Finds reruns in the next sync: which pipelines, at any age, have news in the list of builds.

Every run of a job, also of a rerun, gets the project's next number. So the top of the list of builds (API v1.1) names
the workflows that have run jobs since the last sync. It is a hint: this module does not know how the walk decides, and
if answers are wrong, late or missing, the walk works as it does without them.
https://circleci.com/docs/api/v1/#recent-builds-for-a-single-project
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from tap_circleci.client import Client, is_object
from tap_circleci.errors import Forbidden, LocalError, NotFound
from tap_circleci.http.service_time import ServiceTime
from tap_circleci.reading.paging import pages
from tap_circleci.streams import BUILDS, ROOT, WORKFLOWS, Stream
from tap_circleci.streams.addresses import path_to
from tap_circleci.values.rows import Row, inside, value_of
from tap_circleci.values.slugs import usable_id
from tap_circleci.values.times import BEGINNING, moment, moments
from tap_circleci.walk.builds import SETTLED, is_known, next_build, number_of

MOST_PAGES = 10
"""Pages of 100 builds that are read per project; the schedule finds reruns beyond them."""
_SHALLOW = replace(BUILDS, source=replace(BUILDS.source, params={"shallow": "true"}, is_hint=True))


@dataclass(frozen=True)
class News:
    """Workflows that may have run jobs since the last sync, and the number at which the next sync begins.

    `as_of`: when that was true; None if the next sync is to read the same again. `is_cut`: there were more builds than
    are read. `problem`: why the list could not be read.
    """

    workflows: tuple[str, ...] = ()
    next_build: int | None = None
    as_of: datetime | None = None
    is_cut: bool = False
    problem: LocalError | None = None


def read_news(client: Client, slug: str, since: int | None, last: datetime | None, time: ServiceTime) -> News:
    """The news in a project's builds from the number `since` on; a first sync (None) only finds the number.

    `last` is when they were last read: builds that had stopped five minutes before are in the tables.
    """
    listing = pages(client, _SHALLOW, {"project_slug": slug}, 0)
    builds: list[Row] = []
    date: datetime | None = None
    is_cut = False
    try:
        for number, page in enumerate(listing, start=1):
            builds += page.rows
            date = date or page.date
            is_end = since is None or any(is_known(since, BEGINNING, build) for build in page.rows)
            is_cut = number == MOST_PAGES and page.more and not is_end
            if is_end or is_cut:
                break
    except LocalError as problem:
        return News(problem=problem)
    now = time.certain(date, moments(build.get("queued_at") for build in builds)) or time.now()
    # A project without builds has news once it has one.
    following = _after(builds, since) if is_cut else next_build(builds, now, since or 0)
    return News(tuple(_workflows(builds, since, last)), following, now, is_cut)


def _after(builds: Iterable[Row], since: int | None) -> int | None:
    """The number after the highest."""
    return max((number + 1 for build in builds if (number := number_of(build)) is not None), default=since)


def _workflows(builds: Iterable[Row], since: int | None, last: datetime | None) -> dict[str, None]:
    """The ids of the workflows of builds from the number `since` on, without builds that stopped before `last`."""
    found: dict[str, None] = {}
    for build in builds:
        number, stopped_at = number_of(build), moment(build.get("stop_time"))
        is_old = last is not None and stopped_at is not None and stopped_at <= last - SETTLED
        workflow_id = usable_id(inside(build, BUILDS.row.taken_up["workflow_id"]))
        if since is not None and number is not None and number >= since and not is_old and workflow_id is not None:
            found[workflow_id] = None
    return found


def pipelines_of(client: Client, workflows: Iterable[str], known: Collection[str]) -> tuple[list[Row], bool]:
    """The pipelines of these workflows, without those with a `known` id; and whether a next try may have more.

    https://circleci.com/docs/api/v2/#tag/Workflow/operation/getWorkflowById
    """
    rows: dict[str, Row] = {}
    is_whole = True
    for workflow in workflows:
        try:
            found = _look_up(client, WORKFLOWS, workflow)
            pipeline_id = usable_id(value_of(found, "pipeline_id"))
            if pipeline_id is not None and pipeline_id not in known and pipeline_id not in rows:
                rows[pipeline_id] = _pipeline(client, pipeline_id, found)
        except (NotFound, Forbidden):
            continue
        except LocalError:
            is_whole = False
    return list(rows.values()), is_whole


def _pipeline(client: Client, pipeline_id: str, workflow: Row) -> Row:
    """The row of a pipeline; if it is not found, only its id and the slug of its `workflow`."""
    try:
        return _look_up(client, ROOT, pipeline_id)
    except NotFound:
        return {"id": pipeline_id, "project_slug": value_of(workflow, "project_slug")}


def _look_up(client: Client, stream: Stream, row_id: str) -> Row:
    """One row by its id."""
    row: Row = client.get(path_to(stream, row_id), {}, stream.name, is_object).body
    return row
