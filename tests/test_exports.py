"""Usage exports: which are due, how they are ordered and awaited, and what the state keeps of them."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from threading import Event
from typing import Any

import pytest

from tap_circleci.exports.plan import Span, due, spans
from tap_circleci.state.state import Export
from tap_circleci.streams import STREAMS
from tests.circleci import Answer, Row, Server, World
from tests.circleci.usage import COLUMNS, FileHost, Order, Usage, csv_of, job, seat
from tests.tap import EagerClock, FastClock, Run, config_for, last_state, plain, run, running, sync, tables

NOW = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)
A_DAY = timedelta(days=1)
START = "2026-03-01"
NAME = next(stream.name for stream in STREAMS.values() if stream.is_export)
USAGE = STREAMS[NAME]


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


@contextmanager
def service(organizations: int = 1, **options: Any) -> Iterator[Usage]:
    """A CircleCI with organizations that have exports, and the host of their files."""
    world = World(NOW)
    for number in range(organizations):
        world.add_project(f"gh/acme-{number}/api")
    with Server(world) as server, FileHost() as host:
        yield Usage(server, host, **options)


def ids(usage: Usage) -> list[str]:
    return [str(row["id"]) for row in usage.server.world.organizations]


def filled(usage: Usage, days: int = 9, rows: int = 2) -> Usage:
    """The service with some job runs on each of the last days."""
    for organization in ids(usage):
        for back in range(1, days + 1):
            usage.add(organization, *(job(NOW - back * A_DAY, number, organization) for number in range(rows)))
    return usage


CATALOG = {"streams": [{"tap_stream_id": NAME, "metadata": [{"breadcrumb": [], "metadata": {"selected": True}}]}]}


def go(usage: Usage, state: Any = None, clock: FastClock | None = None, **settings: Any) -> Run:
    return sync(usage.server, catalog=CATALOG, state=state, clock=clock, **{"start_date": START, **settings})


def expected_jobs(usage: Usage) -> set[tuple[str, str]]:
    return {
        (organization, str(row["JOB_ID"]))
        for organization, days in usage.jobs.items()
        for rows in days.values()
        for row in rows
    }


def jobs_in(lines: Any) -> set[tuple[str, str]]:
    return {(row["organization_id"], row["job_id"]) for row in tables(lines).get(NAME, {}).values()}


def marks(state: Any) -> Row:
    """What the state keeps of each organization."""
    found: Row = state["bookmarks"].get(NAME, {})
    return found


PARTS = "export must be the id of an export with a start and an end after it"


def last_days(state: Any) -> dict[str, str]:
    """The last day sent of each organization of which any has been."""
    days = {organization: mark["_date"] for organization, mark in marks(state).items()}
    return {organization: value.removesuffix("T00:00:00.000000Z") for organization, value in days.items() if value}


def kept_ids(state: Any) -> dict[str, str]:
    """The exports that are still to be collected, by organization."""
    exports = {organization: mark["export"] for organization, mark in marks(state).items()}
    return {organization: export["id"] for organization, export in exports.items() if export["id"]}


# What is due


def test_spans_are_whole_days_within_the_limit_oldest_first():
    """Every day is in exactly one span, and none is longer than the service takes."""
    found = list(spans(day("2025-03-11"), day("2026-03-09")))
    assert len(found) == 12
    assert found[0] == Span(day("2025-03-11"), day("2025-04-10T23:59:59"))
    assert all(span.end - span.start <= timedelta(days=31) for span in found)
    assert [span.start for span in found[1:]] == [span.end + timedelta(seconds=1) for span in found[:-1]]
    assert found[-1].end == day("2026-03-09T23:59:59")
    assert list(spans(day("2026-03-09"), day("2026-03-09"))) == [Span(day("2026-03-09"), day("2026-03-09T23:59:59"))]
    assert not list(spans(day("2026-03-10"), day("2026-03-09")))


@pytest.mark.parametrize(
    ("bookmark", "first"),
    [(None, "2026-02-03"), ("2026-03-08", "2026-03-05"), ("2026-03-09", None), ("2024-01-01", "2025-03-11")],
)
def test_what_is_due_begins_at_the_start_or_three_days_before_the_bookmark(bookmark, first):
    """It ends yesterday, is nothing until a new day has ended, and goes back no further than a year."""
    found = due(USAGE, {}, NOW, day("2026-02-03T15:00:00"), bookmark and day(bookmark), None)
    assert found.export is None
    if first is None:
        assert not found.spans
    else:
        assert [found.spans[0].start, found.spans[-1].end] == [day(first), day("2026-03-09T23:59:59")]


def test_an_export_that_was_paid_for_is_collected_first():
    """Days that have ended since are exported after it; it is dropped if days before it would be missing."""
    kept = Export("x", day("2026-03-01"), day("2026-03-05T23:59:59"))
    found = due(USAGE, {}, NOW, day("2026-03-01T09:00:00"), None, kept)
    assert found.export is kept
    assert found.spans == (Span(day("2026-03-02"), day("2026-03-09T23:59:59")),)
    assert due(USAGE, {}, NOW, day("2026-02-27"), None, kept).export is None


@pytest.mark.parametrize(("start", "is_kept"), [("2026-02-20", True), ("2026-03-06", True), ("2026-03-07", False)])
def test_an_export_that_goes_on_where_the_bookmark_ends_is_kept(start, is_kept):
    """An export that begins the day after the bookmark is read; a later one would leave out days."""
    kept = Export("x", day(start), day("2026-03-09T23:59:59"))
    found = due(USAGE, {}, NOW, day("2026-01-01"), day("2026-03-05"), kept)
    assert (found.export is kept, bool(found.spans)) == (is_kept, not is_kept)


# A sync


def test_a_first_sync_sends_every_job_run_of_the_days_that_have_ended():
    """One order for nine days; the rows are typed, and the bookmark is the last day covered."""
    with service() as usage:
        organization = ids(filled(usage))[0]
        usage.add(organization, job(NOW, 1))  # today has not ended
        done = go(usage)
    assert done.status == 0
    assert usage.posts() == [{"start": "2026-03-01T00:00:00Z", "end": "2026-03-09T23:59:59Z"}]
    assert len(done.rows(NAME)) == 18
    assert last_days(done.state) == {organization: "2026-03-09"}
    row = next(row for row in done.rows(NAME) if row["job_id"] == "job-20260309-1")
    shown = (
        "organization_id",
        "_date",
        "job_run_date",
        "job_run_started_at",
        "pipeline_number",
        "is_workflow_successful",
    )
    assert [row[name] for name in shown] == [
        organization,
        "2026-03-09T00:00:00.000000Z",
        "2026-03-09T00:00:00.000000Z",
        "2026-03-09T00:00:09.321000Z",
        0,
        True,
    ]
    assert (row["total_credits"], row["median_cpu_utilization_pct"], row["max_ram_utilization_pct"]) == (
        40.25,
        41.5,
        None,
    )
    assert len(row) == 2 + len(COLUMNS)
    message = next(message for message in done.messages if message["type"] == "RECORD")
    assert message["time_extracted"] == "2026-03-10T12:00:00.000000Z"


def test_later_syncs_wait_for_a_new_day_and_begin_three_days_before():
    """The same day again asks for nothing; after midnight there is one export of four days."""
    with service() as usage:
        organization = ids(filled(usage))[0]
        state = go(usage).state
        usage.requests.clear()
        again = go(usage, state)
        assert (again.status, usage.requests, again.state) == (0, [], state)
        usage.server.world.advance(A_DAY)
        usage.add(organization, job(NOW, 1, organization))
        later = go(usage, state)
    assert usage.posts() == [{"start": "2026-03-06T00:00:00Z", "end": "2026-03-10T23:59:59Z"}]
    assert last_days(later.state) == {organization: "2026-03-10"}
    assert len(later.rows(NAME)) == 9


@pytest.mark.parametrize("empty", [None, [], ...])
def test_an_organization_without_activity_is_covered_all_the_same(empty):
    """If an export has no files, the bookmark is still the last day covered."""
    with service(empty=empty) as usage:
        if empty is ...:  # no such field
            done_without = {"usage_export_job_id": "export-1", "state": "completed"}
            usage.raw = lambda method, _: Answer(200, done_without) if method == "GET" else None
        done = go(usage)
        assert (done.status, done.rows(NAME)) == (0, [])
        assert last_days(done.state) == {ids(usage)[0]: "2026-03-09"}


@pytest.mark.parametrize("status", [401, 403])
def test_an_organization_whose_administrator_the_user_is_not_is_named_and_skipped(status):
    """The other organizations go on, and the exit status is 0."""
    with service(2) as usage:
        first, second = ids(filled(usage))
        usage.refused[first] = status
        done = go(usage)
    assert done.status == 0
    assert f"{NAME} of gh/acme-0 ({first}): permission denied" in done.log
    assert last_days(done.state) == {second: "2026-03-09"}
    assert jobs_in(done.lines) == {pair for pair in expected_jobs(usage) if pair[0] == second}


def test_a_year_takes_several_runs_within_the_limit():
    """At most ten exports a run; each exits 0, one line says what is to come, and no span is asked for twice."""
    with service(hourly=10) as usage:
        organization = ids(filled(usage, 364, 1))[0]
        first = go(usage, start_date=None)
        assert first.status == 0
        assert last_days(first.state) == {organization: "2026-01-14"}
        told = [line for line in first.log.splitlines() if "later runs will send" in line]
        assert len(told) == 1
        assert told[0].endswith("2026-01-15 to 2026-03-09")
        usage.hourly = None
        second = go(usage, first.state, start_date=None)
    assert jobs_in(first.lines + second.lines) == expected_jobs(usage)
    assert last_days(second.state) == {organization: "2026-03-09"}
    assert len(usage.orders) == 12


def test_a_failed_export_is_made_once_more():
    """If the second export succeeds, nothing is missing and the exit status is 0."""
    with service(script=lambda number: ("failed",) if number == 1 else None) as usage:
        done = go(filled(usage))
    assert done.status == 0
    assert len(usage.orders) == 2
    assert jobs_in(done.lines) == expected_jobs(usage)


def test_an_export_that_fails_twice_is_named_with_its_reason():
    """The exit status is 1, other organizations go on, and the next run orders it again."""
    with service(2) as usage:
        first, second = ids(filled(usage))
        usage.script = lambda number: ("failed",) if usage.orders[number - 1].organization == first else None
        done = go(usage)
        assert done.status == 1
        assert done.criticals() == [
            f"{NAME} of gh/acme-0 ({first}) could not be read to the end:"
            ' the export of 2026-03-01 to 2026-03-09 failed ("the warehouse is closed"), for the second time.'
        ]
        assert len(usage.orders) == 3
        assert last_days(done.state) == {second: "2026-03-09"}
        usage.script = lambda number: None
        again = go(usage, done.state)
    assert again.status == 0
    assert jobs_in(done.lines + again.lines) == expected_jobs(usage)


def test_a_slow_export_is_left_to_the_next_run():
    """Its status is requested at growing intervals for ten minutes; then the state keeps it for the next run."""
    with service(states=("created", "warming-up", "processing")) as usage:
        organization = ids(filled(usage))[0]
        clock = FastClock()
        done = go(usage, clock=clock)
        looks = sum(request.method == "GET" for request in usage.requests)
        assert done.status == 0
        assert 540 < clock.waited <= 600
        assert looks == 21
        assert kept_ids(done.state) == {organization: "export-1"}
        assert sum("later runs will send 2026-03-01 to 2026-03-09" in line for line in done.log.splitlines()) == 1
        usage.states = ("completed",)
        usage.server.world.advance(A_DAY)
        usage.requests.clear()
        again = go(usage, done.state)
    assert usage.requests[0].path.endswith("/export-1")
    assert usage.posts() == [{"start": "2026-03-06T00:00:00Z", "end": "2026-03-10T23:59:59Z"}]
    assert last_days(again.state) == {organization: "2026-03-10"}
    assert jobs_in(again.lines) == expected_jobs(usage)


@pytest.mark.parametrize("status", [400, 404, 405, 409, 410, 414, 415, 422, 451])
def test_an_export_that_the_service_has_forgotten_is_ordered_again(status):
    """If a kept id answers any 4xx but 401, 403 and 429, the same days are ordered once more."""
    with service() as usage:
        organization = ids(filled(usage))[0]
        gone = Answer(status, {"message": "No such export."})
        usage.raw = lambda method, number: gone if (method, number) == ("GET", 1) else None
        kept = {"id": "gone", "start": "2026-03-01T00:00:00Z", "end": "2026-03-05T23:59:59Z"}
        done = go(usage, {"bookmarks": {NAME: {organization: {"export": kept}}}})
    assert done.status == 0
    assert jobs_in(done.lines) == expected_jobs(usage)


def test_an_export_that_is_not_ready_a_day_after_its_order_is_ordered_again():
    """A stuck export is ordered once more; until then each run requests its status and ends with exit 0."""
    with service(script=lambda number: ("processing",) if number == 1 else None) as usage:
        organization = ids(filled(usage))[0]
        state = go(usage).state
        usage.server.world.advance(timedelta(hours=23))
        later = go(usage, state)
        assert (later.status, len(usage.orders), kept_ids(later.state)) == (0, 1, {organization: "export-1"})
        usage.server.world.advance(timedelta(hours=2))
        again = go(usage, later.state)
    assert again.status == 0
    assert usage.posts() == [
        {"start": "2026-03-01T00:00:00Z", "end": "2026-03-09T23:59:59Z"},
        {"start": "2026-03-01T00:00:00Z", "end": "2026-03-09T23:59:59Z"},
        {"start": "2026-03-06T00:00:00Z", "end": "2026-03-10T23:59:59Z"},
    ]
    assert f"{NAME} of gh/acme-0 ({organization}): the export of 2026-03-01 to 2026-03-09 is not ready" in again.log
    assert last_days(again.state) == {organization: "2026-03-10"}
    assert jobs_in(again.lines) == expected_jobs(usage)


OLD = {"id": "export-1", "start": "2026-03-01T00:00:00Z", "end": "2026-03-09T23:59:59Z"}


def ordered_before(usage: Usage) -> tuple[str, Any]:
    """An organization, and a state of 1.1 with an export that was ordered for it at a time that is not known."""
    organization = ids(filled(usage))[0]
    usage.orders.append(Order("export-1", organization, day("2026-03-01"), day("2026-03-09T23:59:59"), NOW))
    return organization, {"bookmarks": {NAME: {organization: {"export": OLD}}}}


def test_where_a_state_does_not_say_when_an_export_was_ordered_its_day_begins_now():
    """A stuck export in a state of 1.1 is ordered again a day after the first run that saw it."""
    with service(script=lambda number: ("processing",) if number == 1 else None) as usage:
        _, state = ordered_before(usage)
        first = go(usage, state)
        assert not usage.posts()
        usage.server.world.advance(timedelta(days=1, minutes=-20))
        second = go(usage, first.state)
        assert not usage.posts()
        usage.server.world.advance(timedelta(minutes=20))
        third = go(usage, second.state)
    assert [first.status, second.status, third.status] == [0, 0, 0]
    assert len(usage.posts()) == 2
    assert jobs_in(third.lines) == expected_jobs(usage)


def test_an_export_that_is_ready_is_collected_however_old_it_is():
    """An old export that is ready is read, and nothing is ordered for its days."""
    with service(states=("processing",)) as usage:
        state = go(filled(usage)).state
        usage.states = ("completed",)
        usage.server.world.advance(5 * A_DAY)
        again = go(usage, state)
    assert usage.posts()[1:] == [{"start": "2026-03-06T00:00:00Z", "end": "2026-03-14T23:59:59Z"}]
    assert jobs_in(again.lines) == expected_jobs(usage)


@pytest.mark.parametrize("answer", [Answer(401, {}), Answer(403, {}), Answer(429, {}, {"Retry-After": "3600"})])
def test_an_export_that_may_not_be_asked_for_is_not_ordered_again(answer):
    """An export whose status is forbidden is kept, exit 0, and read once the status is allowed."""
    with service(states=("processing",)) as usage:
        organization = ids(filled(usage))[0]
        state = go(usage).state
        usage.server.world.advance(2 * A_DAY)
        usage.raw = lambda method, number: answer
        refused = go(usage, state)
        assert (refused.status, kept_ids(refused.state)) == (0, {organization: "export-1"})
        usage.raw, usage.states = lambda method, number: None, ("completed",)
        again = go(usage, refused.state)
    assert len(usage.posts()) == 2
    assert jobs_in(again.lines) == expected_jobs(usage)


def test_an_export_of_which_nothing_can_be_had_for_a_day_is_ordered_again():
    """Failing answers are named with exit 1 and the export is kept; a day after its order it is ordered again."""
    with service(states=("processing",)) as usage:
        filled(usage)
        state = go(usage).state
        usage.states = ("completed",)
        usage.raw = lambda method, number: Answer(500, {}) if method == "GET" and len(usage.orders) == 1 else None
        broken = go(usage, state)
        assert (broken.status, len(usage.posts())) == (1, 1)
        usage.server.world.advance(A_DAY)
        again = go(usage, broken.state)
    assert (again.status, len(usage.posts())) == (0, 3)
    assert jobs_in(again.lines) == expected_jobs(usage)


def test_a_new_order_that_is_refused_leaves_the_old_one_in_the_state():
    """The next run looks at it first: it may be ready by then."""
    with service(states=("processing",), hourly=1) as usage:
        organization = ids(filled(usage))[0]
        state = go(usage).state
        usage.server.world.advance(A_DAY)
        usage.raw = lambda method, number: Answer(429, {}) if method == "POST" else None
        refused = go(usage, state)
        assert (refused.status, kept_ids(refused.state)) == (0, {organization: "export-1"})
        usage.raw, usage.states = lambda method, number: None, ("completed",)
        again = go(usage, refused.state)
    assert [order.id for order in usage.orders] == ["export-1", "export-2"]
    assert jobs_in(again.lines) == expected_jobs(usage)


def test_the_second_export_of_a_run_is_left_to_the_next_run_as_well():
    """It begins a day after the bookmark and is collected first, paid once, whenever the run that made it ended."""
    with service(states=("completed",)) as usage:
        organization = ids(filled(usage, 60, 1))[0]
        usage.script = lambda number: ("processing",) if number == 2 else None
        done = go(usage, start_date="2026-01-10")
        assert last_days(done.state) == {organization: "2026-02-09"}
        assert kept_ids(done.state) == {organization: "export-2"}
        usage.script = lambda number: None
        again = go(usage, done.state, start_date="2026-01-10")
    assert len(usage.posts()) == 2
    assert last_days(again.state) == {organization: "2026-03-09"}
    assert {job for job in expected_jobs(usage) if job[1] >= "job-20260110"} <= jobs_in(done.lines + again.lines)


@pytest.mark.parametrize("trouble", ["gone", "failed"])
def test_an_export_from_the_edge_of_the_history_is_ordered_again_only_as_far_as_it_still_goes(trouble):
    """A new order has no days that have become too old since the first one."""
    with service() as usage:
        organization = ids(filled(usage))[0]
        usage.states = ("processing",)
        first = go(usage, start_date=None)
        assert usage.posts()[0]["start"] == "2025-03-11T00:00:00Z"
        usage.server.world.advance(A_DAY)
        usage.states = ("completed",)
        usage.script = lambda number: ("failed",) if number == 1 and trouble == "failed" else None
        if trouble == "gone":
            usage.orders.clear()
        again = go(usage, first.state, start_date=None)
    assert again.status == 0
    assert usage.posts()[1] == {"start": "2025-03-12T00:00:00Z", "end": "2025-04-10T23:59:59Z"}
    assert last_days(again.state) == {organization: "2026-03-10"}


def test_organizations_are_waited_for_together():
    """Ten slow organizations take the time of one, even with one thread."""
    with service(10, states=(*["processing"] * 5, "completed")) as usage:
        clock = FastClock()
        done = go(filled(usage, 2), clock=clock, max_workers=1)
    assert done.status == 0
    assert jobs_in(done.lines) == expected_jobs(usage)
    assert clock.waited < 2 * (5 + 10 + 20 + 30 + 30 + 30)


def test_a_limit_of_the_looks_is_no_failure():
    """A 429 to a request for the status is obeyed, and delays no other organization."""
    with service() as usage:
        refusal = Answer(429, {"message": "Too many requests."}, {"Retry-After": "60"})
        usage.raw = lambda method, number: refusal if (method, number) in {("GET", 1), ("GET", 2)} else None
        done = go(filled(usage))
    assert done.status == 0
    assert jobs_in(done.lines) == expected_jobs(usage)


def test_an_order_that_may_have_been_taken_is_not_repeated():
    """An answer without an id ends this organization's exports in this run, with its name and exit status 1."""
    with service(2) as usage:
        first, second = ids(filled(usage))
        usage.raw = lambda method, number: (
            Answer(201, {"state": "created"}) if (method, number) == ("POST", 1) else None
        )
        done = go(usage)
    assert done.status == 1
    assert len(usage.posts()) == 2
    assert first in done.criticals()[0]
    assert last_days(done.state) == {second: "2026-03-09"}


@pytest.mark.parametrize("status", [400, 405, 409, 410, 415, 422, 451])
def test_an_order_that_is_rejected_is_named(status):
    """The organization is named with CircleCI's own message, exit 1, and the other organizations go on."""
    with service(2) as usage:
        first, second = ids(filled(usage))
        rejected = Answer(status, {"message": "No such range."})
        usage.raw = lambda method, number: rejected if (method, number) == ("POST", 1) else None
        done = go(usage)
        assert done.status == 1
        assert first in done.criticals()[0]
        assert f"{status}: No such range." in done.criticals()[0]
        assert jobs_in(done.lines) == {pair for pair in expected_jobs(usage) if pair[0] == second}
        assert jobs_in(done.lines + go(usage, done.state).lines) == expected_jobs(usage)


# The files


def test_nothing_of_ours_reaches_the_host_of_the_files():
    """No token, no header but the user agent, and no signature in the log, the state or the rows."""
    with service(files_per_export=3) as usage:
        done = go(filled(usage), user_agent="ours/1")
    assert len(usage.host.headers) == 3
    for headers in usage.host.headers:
        assert headers.keys() <= {"host", "user-agent", "accept-encoding", "connection"}
        assert headers["user-agent"] == "ours/1"
    assert jobs_in(done.lines) == expected_jobs(usage)
    assert "signature" not in done.log + "".join(done.lines)


@pytest.mark.parametrize("packed", [True, False])
def test_files_may_be_several_and_packed_or_not(packed):
    """All files are read; the first two bytes say whether one is gzip."""
    with service(files_per_export=4, packed=packed) as usage:
        done = go(filled(usage))
    assert jobs_in(done.lines) == expected_jobs(usage)


def test_a_new_address_is_fetched_for_an_expired_one():
    """If an address expires between two files, the files that were read completely are not read again."""
    with service(files_per_export=3, signature=str) as usage:
        usage.host.fault = lambda number: 403 if number == 2 else None
        done = go(filled(usage))
    assert done.status == 0
    assert [path[-8] for path in usage.host.paths] == ["0", "1", "1", "2"]
    assert jobs_in(done.lines) == expected_jobs(usage)


def test_an_export_that_goes_while_its_files_are_read_is_ordered_again():
    """If an export vanishes while it is read, the new one's rows have the same keys, and none is missing."""
    with service(files_per_export=3, signature=str) as usage:
        usage.host.fault = lambda number: 403 if number == 2 else None
        usage.raw = lambda method, number: Answer(404, {}) if (method, number) == ("GET", 4) else None
        done = go(filled(usage))
    assert done.status == 0
    assert len(usage.posts()) == 2
    assert jobs_in(done.lines) == expected_jobs(usage)


@pytest.mark.parametrize("folder", [lambda looks: "files", str])
def test_rows_that_come_again_keep_their_keys(folder):
    """If an address expires in the middle of a file, the rows that are read again keep their keys."""
    with service(files_per_export=2, signature=str, packed=False, folder=folder) as usage:
        organization = ids(usage)[0]
        usage.add(organization, *[seat(NOW - A_DAY, organization)] * 10_000)
        usage.host.fault = {2: "cut", 3: 403}.get
        done = go(usage)
    assert done.status == 0
    assert len(done.rows(NAME)) > 10_000
    assert len(tables(done.lines)[NAME]) == 10_000


def test_files_without_addresses_that_last_are_given_up():
    """If each answer names other files, of which one is always expired, the export ends after some attempts."""
    with service(files_per_export=2, signature=str, folder=str) as usage:
        filled(usage)
        usage.host.fault = lambda number: 403 if number % 2 == 0 else None
        clock = FastClock()
        done = go(usage, clock=clock)
    assert done.status == 1
    assert len(usage.host.paths) <= 12
    assert clock.waited < 120
    assert "its address has expired" in done.criticals()[0]


def test_a_signal_ends_a_run_whose_file_does_not_come(tmp_path):
    """A signal ends the run while a host of files does not answer, and the last STATE has the export."""
    hangs = Event()

    def never(number: int) -> None:
        hangs.set()
        gate.wait(30)

    gate = Event()
    with service(states=("completed",)) as usage:
        organization = ids(filled(usage))[0]
        usage.host.fault = never
        with running(usage.server, tmp_path, extra_streams=NAME, start_date=START) as process:
            assert hangs.wait(30)
            process.terminate()
            assert process.wait(timeout=5) == 143
        gate.set()
    assert "CRITICAL Stopped by SIGTERM." in plain((tmp_path / "log").read_text())
    assert kept_ids(last_state((tmp_path / "out").read_text().splitlines())) == {organization: "export-1"}


@pytest.mark.parametrize(("seconds", "is_collected"), [(2, True), (1800, False)])
def test_a_limit_of_the_looks_is_no_failure_when_an_address_has_expired(seconds, is_collected):
    """A 429 to a request for fresh addresses is waited for, or the export is left to the next run; exit 0."""
    with service(files_per_export=2, states=("completed",), signature=str) as usage:
        usage.host.fault = lambda number: 403 if number == 2 else None
        limited = Answer(429, {"message": "Too many requests."}, {"Retry-After": str(seconds)})
        usage.raw = lambda method, number: limited if (method, number) == ("GET", 2) else None
        done = go(filled(usage))
        assert done.status == 0
        assert (jobs_in(done.lines) == expected_jobs(usage)) == is_collected
        assert sum("later runs will send" in line for line in done.log.splitlines()) == (not is_collected)
        usage.raw = lambda method, number: None
        again = go(usage, done.state)
    assert len(usage.posts()) == 1
    assert jobs_in(done.lines + again.lines) == expected_jobs(usage)


@pytest.mark.parametrize("status", [401, 403])
def test_a_right_that_was_taken_away_meanwhile_is_no_failure(status):
    """An export of an earlier run whose status is now forbidden is named, skipped and kept."""
    with service() as usage:
        organization = ids(usage)[0]
        kept = {"export": {"id": "x", "start": "2026-03-01T00:00:00Z", "end": "2026-03-05T23:59:59Z"}}
        usage.refused[organization] = status
        done = go(usage, {"bookmarks": {NAME: {organization: kept}}})
    assert done.status == 0
    assert f"{NAME} of gh/acme-0 ({organization}): permission denied ({status}); skipped" in done.log
    assert (last_days(done.state), kept_ids(done.state)) == ({}, {organization: "x"})


def test_an_address_that_is_never_valid_is_named():
    """After some fresh addresses the export is left in the state for the next run, with exit status 1."""
    with service() as usage:
        filled(usage).host.valid = "another"
        done = go(usage)
        assert done.status == 1
        assert len(usage.host.paths) == 5
        assert "its address has expired" in done.criticals()[0]
        usage.host.valid = None
        again = go(usage, done.state)
    assert len(usage.posts()) == 1
    assert jobs_in(again.lines) == expected_jobs(usage)


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [("cut", 0, ""), (500, 0, ""), (302, 1, "a redirect, which is never followed"), (418, 1, "its host answered")],
)
def test_a_host_that_misbehaves(fault, status, said):
    """Temporary failures are retried without losing a row; a redirect is named and not followed."""
    with service() as usage:
        usage.host.fault = lambda number: fault if number == 1 else None
        done = go(filled(usage, rows=200))
        assert done.status == status
        assert said in "".join(done.criticals())
        again = go(usage, done.state)
    assert jobs_in(done.lines + again.lines) == expected_jobs(usage)
    assert len(usage.posts()) == 1


def with_line(line: str) -> Any:
    """A writer of files that have one more line after the first row."""

    def write(rows: Any) -> bytes:
        header, first, *others = csv_of(rows).decode().splitlines()
        return "\n".join([header, first, line, *others, ""]).encode()

    return write


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('"a","b"', "file 1, line 3 has 2 values, the header has 48 names"),
        ('"a",' * 49, "file 1, line 3 has 50 values, the header has 48 names"),
        ('"a"b,' * 48, "file 1, line 3 is not CSV"),
        ("x" * 1_200_000, "file 1, line 3 is not CSV (more than a million characters)"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_and_left_out(line, said):
    """Exit 1 once, every other row is sent, and the days count as read, so that the next run goes on."""
    with service(write=with_line(line)) as usage:
        organization = ids(filled(usage))[0]
        done = go(usage)
        assert done.status == 1
        (sentence,) = done.criticals()
        assert sentence.startswith(
            f"{NAME} of gh/acme-0 ({organization}), 2026-03-01 to 2026-03-09:"
            f" 1 row skipped that cannot be read; the first: {said}"
        )
        assert jobs_in(done.lines) == expected_jobs(usage)
        assert last_days(done.state) == {organization: "2026-03-09"}
        again = go(usage, done.state)
    assert (again.status, len(usage.posts())) == (0, 1)


def test_a_long_field_comes_through():
    """A field of 131,073 characters, one more than Python's csv takes by default."""
    with service() as usage:
        organization = ids(usage)[0]
        usage.add(organization, job(NOW - A_DAY, 1, organization, JOB_NAME="x" * 131_073))
        done = go(usage)
    assert done.status == 0
    assert len(done.rows(NAME)[0]["job_name"]) == 131_073


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (b"<html>Maintenance</html>", "it is not an export: its first line names none of the columns"),
        (gzip.compress(b"cut")[:-9], "the file at 127.0.0.1: the answer ended early or could not be decoded in each"),
    ],
    ids=["no export", "damaged gzip"],
)
def test_days_whose_files_can_never_be_read_are_skipped_after_a_second_export(file, said):
    """The export is kept with exit 1; a day later a second one is ordered, and if it cannot be read either, the days
    are skipped."""
    with service(packed=False, write=lambda rows: file) as usage:
        organization = ids(filled(usage))[0]
        first = go(usage)
        assert (first.status, last_days(first.state), kept_ids(first.state)) == (1, {}, {organization: "export-1"})
        assert f"file 1 cannot be read: {said}" in first.criticals()[0]
        usage.server.world.advance(timedelta(hours=1))
        second = go(usage, first.state)
        assert (second.status, len(usage.orders)) == (1, 1)
        usage.server.world.advance(A_DAY)
        usage.write = lambda rows: csv_of(rows) if len(usage.orders) > 2 else file
        usage.add(organization, job(NOW, 1, organization))
        third = go(usage, second.state)
    assert third.status == 1
    (sentence,) = third.criticals()
    assert sentence.startswith(
        f"{NAME} of gh/acme-0 ({organization}), 2026-03-01 to 2026-03-09: skipped, since no export of these days can be"
        f" read (file 1 cannot be read: {said}"
    )
    assert usage.posts()[2:] == [{"start": "2026-03-06T00:00:00Z", "end": "2026-03-10T23:59:59Z"}]
    assert last_days(third.state) == {organization: "2026-03-10"}


def test_days_are_skipped_also_if_the_second_export_is_left_to_a_later_run():
    """One that takes more than ten minutes is still the second of its days, also if another one replaces it since it
    was stuck."""
    with service(packed=False, write=lambda rows: b"<html>Maintenance</html>") as usage:
        organization = ids(filled(usage))[0]
        slow = ("processing",) * 30 + ("completed",)
        usage.script = lambda number: {1: ("completed",), 2: ("processing",)}.get(number, slow)
        state = None
        for number in (1, 2, 3):
            done = go(usage, state)
            assert (last_days(done.state), kept_ids(done.state)) == ({}, {organization: f"export-{number}"})
            state = done.state
            usage.server.world.advance(A_DAY)
        usage.server.world.advance(-timedelta(hours=12))
        last = go(usage, state)
    assert last.status == 1
    assert "2026-03-01 to 2026-03-09: skipped, since no export of these days can be read" in last.criticals()[0]
    assert last_days(last.state) == {organization: "2026-03-09"}


@pytest.mark.parametrize("before", ["failed", "gone"])
def test_days_are_skipped_only_after_two_exports_that_cannot_be_read(before):
    """An unreadable export after one without files counts as the first unreadable one: it is kept, exit 1."""
    with service(write=lambda rows: b"<html>Maintenance</html>") as usage:
        organization = ids(filled(usage))[0]
        usage.script = lambda number: ("failed",) if number == 1 and before == "failed" else None
        usage.forgotten = {1: 410} if before == "gone" else {}
        done = go(usage)
    assert (done.status, last_days(done.state), kept_ids(done.state)) == (1, {}, {organization: "export-2"})


@pytest.mark.parametrize("fault", [403, 500, 302, "cut"])
def test_days_whose_files_cannot_be_fetched_are_never_skipped(fault):
    """If a host is unreachable, each run names it with exit 1, and no row is missing once it can be reached."""
    with service() as usage:
        filled(usage)
        usage.host.fault = lambda number: fault
        state = None
        for _ in range(6):
            done = go(usage, state)
            assert (done.status, last_days(done.state)) == (1, {})
            state = done.state
            usage.server.world.advance(timedelta(hours=12))
        assert len(usage.posts()) == 3
        usage.host.fault = lambda number: None
        again = go(usage, state)
    assert jobs_in(again.lines) == expected_jobs(usage)


def test_the_log_says_what_is_waited_for():
    """While an export is being made, the line of progress names the organization and the days."""
    with service(2, states=(*["processing"] * 8, "completed")) as usage:
        done = go(filled(usage))
    waits = [line for line in done.log.splitlines() if "waiting for CircleCI" in line]
    assert len(waits) > 5
    assert "waiting for CircleCI to make an export of gh/acme-0 (" in waits[0]
    assert "), 2026-03-01 to 2026-03-09;" in waits[0]


def test_an_unknown_column_is_named_once_and_a_missing_one_is_null():
    """This holds for any order of the columns."""

    def other(rows):
        names = [name for name in COLUMNS if name != "DLC_CREDITS"] + ["MOON_CREDITS"]
        return csv_of(rows, random.Random(1).sample(names, len(names)))

    with service(write=other, files_per_export=2) as usage:
        done = go(filled(usage))
    assert done.status == 0
    assert sum("moon_credits" in line for line in done.log.splitlines() if line.startswith("WARNING")) == 1
    assert {row["dlc_credits"] for row in done.rows(NAME)} == {None}
    assert jobs_in(done.lines) == expected_jobs(usage)


@pytest.mark.parametrize("files", [1, 2])
def test_no_row_is_dropped_and_none_overwrites_another(files):
    """Equal rows for seats, and a job that occurs twice, have keys of their own, the same in the next export."""
    with service(files_per_export=files) as usage:
        organization = ids(usage)[0]
        twice = job(NOW - A_DAY, 7, organization)
        rows = [twice, {**twice, "RESOURCE_CLASS": "small"}, *[seat(NOW - A_DAY, organization)] * 3]
        rows += [seat(NOW - A_DAY, organization, PIPELINE_TRIGGER_USER_ID="ada"), seat(NOW - 2 * A_DAY, organization)]
        usage.add(organization, *rows)
        found = []
        for number in range(3):
            usage.jobs[organization]["2026-03-09"].sort(key=lambda _: random.Random(number).random())
            found.append(tables(go(usage).lines)[NAME].keys())
    assert len(found[0]) == len(rows)
    assert found[0] == found[1] == found[2]


def test_texts_come_through():
    """The name of a branch may have quotes, commas, newlines and backslashes."""
    odd = 'fix "it", C:\\New\n\\N, é'
    with service() as usage:
        organization = ids(usage)[0]
        usage.add(organization, job(NOW - A_DAY, 1, VCS_BRANCH=odd, JOB_NAME="N", ORGANIZATION_ID=None))
        row = go(usage).rows(NAME)[0]
    assert (row["vcs_branch"], row["job_name"], row["organization_id"]) == (odd, "N", organization)


# The state


def test_a_state_is_written_right_after_an_order():
    """Each export is in a STATE before its first row, however little time has passed since the last STATE."""
    with service(2) as usage:
        done = go(filled(usage, 60), start_date="2026-01-10")
    kept: list[str] = []
    for message in done.messages:
        if message["type"] == "STATE":
            kept += kept_ids(message["value"]).values()
    assert list(dict.fromkeys(kept)) == ["export-1", "export-2", "export-3", "export-4"]


def test_cut_anywhere_no_row_is_missing_and_nothing_is_paid_for_twice():
    """From the last STATE before any line, another run sends the rest and orders nothing that this STATE has."""
    with service(2, files_per_export=2) as usage:
        filled(usage, 40, 1)
        whole = go(usage, clock=EagerClock(), start_date="2026-01-29")
        for cut in range(0, len(whole.lines), 3):
            head = whole.lines[:cut]
            state = last_state(head)
            before = len(usage.orders)
            rest = go(usage, state, start_date="2026-01-29")
            assert rest.status == 0
            assert jobs_in(head + rest.lines) == expected_jobs(usage), cut
            assert rest.state == whole.state
            paid = kept_ids(state or {"bookmarks": {}})
            assert not {order.id for order in usage.orders[before:]} & set(paid.values())
            again = {(order.organization, order.start) for order in usage.orders[before:]}
            assert not again & {
                (order.organization, order.start) for order in usage.orders if order.id in paid.values()
            }


def test_without_its_mark_a_list_is_read_again():
    """An organization without its bookmark is read from the start date, and the other one is not."""
    with service(2) as usage:
        first, second = ids(filled(usage))
        state = go(usage).state
        del state["bookmarks"][NAME][first]
        usage.requests.clear()
        again = go(usage, state)
    assert usage.posts() == [{"start": "2026-03-01T00:00:00Z", "end": "2026-03-09T23:59:59Z"}]
    assert jobs_in(again.lines) == {pair for pair in expected_jobs(usage) if pair[0] == first}
    assert marks(again.state).keys() == {first, second}


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        ("yesterday", "must be an ISO 8601 date-time"),
        ({"last": "2026-03-09"}, "last is not known; known are _date, export, start_date"),
        ({"_date": 5}, "_date must be an ISO 8601 date-time"),
        ({"export": "export-1"}, "export must be an object"),
        (
            {"export": {"start": "2026-03-01", "end": "2026-03-02"}},
            PARTS,
        ),
        ({"export": {"id": "x", "start": "2026-03-01"}}, PARTS),
        (
            {"export": {"id": "x", "start": "2026-03-02", "end": "2026-03-01"}},
            PARTS,
        ),
        ({"export": {"id": "x", "start": "2026-03-01", "end": "2026-03-02", "url": "y"}}, "url is not known"),
    ],
)
def test_a_wrong_state_is_named(mark, said):
    """Each mistake has one sentence with its place, and no request is sent."""
    with service() as usage:
        done = go(usage, {"bookmarks": {NAME: {"acme": mark}}})
    assert done.status == 1
    assert said in done.criticals()[0]
    assert f"bookmarks.{NAME}.acme" in done.criticals()[0]
    assert not usage.requests


def test_the_state_comes_back_as_it_was_written():
    """A bookmark beside an export that is still to be collected."""
    entry = {
        "_date": "2026-03-08T00:00:00.000000Z",
        "export": {"id": "export-1", "start": "2026-03-05T00:00:00Z", "end": "2026-03-09T23:59:59Z"},
    }
    with service() as usage:
        organization = ids(usage)[0]
        usage.refused[organization] = 403
        done = go(usage, {"bookmarks": {NAME: {organization: entry}}})
    assert done.status == 0
    assert last_days(done.state) == {organization: "2026-03-08"}
    assert kept_ids(done.state) == {organization: "export-1"}


def test_the_order_of_rows_does_not_depend_on_the_workers():
    """One thread or many write the same lines."""
    found = []
    for workers in (1, 16):
        with service(3, files_per_export=2) as usage:
            found.append(go(filled(usage), max_workers=workers).messages)
    assert [one for one in found[0] if one["type"] == "RECORD"] == [one for one in found[1] if one["type"] == "RECORD"]


def test_a_check_makes_no_export(tmp_path):
    """--check orders no export, since the service makes only ten an hour."""
    path = tmp_path / "config.json"
    with service() as usage:
        path.write_text(json.dumps(config_for(usage.server, extra_streams=NAME)))
        path.chmod(0o600)
        done = run(["--check", "--config", str(path)])
    assert done.status == 0
    assert not usage.requests
    assert NAME in done.log
