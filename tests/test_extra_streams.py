"""The streams that extra_streams names: every table, row by row and field by field."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from tests.circleci import EXTRAS, Fault, Row, Server, World, demo_world, odd_world
from tests.circleci.extras import furnish, truth
from tests.tap import EagerClock, Run, Tables, assert_same, expected, sync, tables
from tests.test_circleci_server import ask

NOW = datetime(2026, 3, 10, 2, tzinfo=timezone.utc)
"""Early, so that no run with a hurrying clock comes to the next day: the service keeps a history of whole days."""
START = NOW - timedelta(days=1)


def odd() -> World:
    """The odd world with some of everything."""
    return furnish(odd_world(NOW), every=9)


def demo() -> World:
    """The demonstration with some of everything."""
    return furnish(demo_world(NOW))


def small() -> World:
    """Two projects of two kinds with some of everything, of which a part is still to come."""
    world = World(NOW)
    for slug in ("gh/acme/api", "circleci/Labs/robots"):
        project = world.add_project(slug)
        world.add_context(world.organizations[-1], "only", START)
        for number in range(3):
            build: Row = {"name": f"build {number % 2}/2", "stopped_at": timedelta(minutes=9), "jobs": 2}
            world.add_pipeline(project, NOW - timedelta(hours=5 + 7 * number), workflows=[build])
        world.add_pipeline(project, NOW + timedelta(minutes=50), workflows=[build])
    return furnish(world, every=2)


def truth_of(world: World, start: datetime | None = None) -> Tables:
    """What a target should hold of the extra streams of all projects."""
    return expected(truth(world, _slugs(world), start), EXTRAS)


def extras_in(lines: Any, into: Tables | None = None) -> Tables:
    """What a target holds of the extra streams after these lines."""
    return {stream: rows for stream, rows in tables(lines, into).items() if stream in EXTRAS}


def read(server: Server, stream: str, start: datetime | None = None) -> Run:
    """A run of one stream alone."""
    return sync(server, streams=[stream], start_date=start.isoformat() if start else "2000-01-01")


@pytest.mark.parametrize("stream", EXTRAS)
@pytest.mark.parametrize(("world_of", "start"), [(odd, None), (demo, START)], ids=["odd", "demo"])
def test_each_table_is_complete_and_right_with_its_stream_alone(stream, world_of, start):
    """A stream that is selected without its parents gives every row and every field."""
    with Server(world_of()) as server:
        run = read(server, stream, start)
        wanted = {stream: truth_of(server.world, start)[stream]}
    assert run.status == 0, run.log
    assert_same(tables(run.lines), wanted)
    assert len({*run.lines}) > 1


@pytest.mark.parametrize(("world_of", "start"), [(odd, None), (demo, START)], ids=["odd", "demo"])
def test_all_tables_are_complete_and_right_together(world_of, start):
    """A sync of all streams gives every row of the extra ones, and warns of no unknown field."""
    with Server(world_of()) as server:
        run = sync(server, extra_streams="all", start_date=start.isoformat() if start else "2000-01-01")
        wanted = truth_of(server.world, start)
    assert run.status == 0, run.log
    assert {*wanted} == {*EXTRAS}
    assert_same(extras_in(run.lines), wanted)
    assert "not in the schema" not in run.log


def test_no_secret_is_sent_or_logged():
    """No part of the value of a variable, of a webhook's secret or of its URL's query leaves the tap."""
    with Server(small()) as server:
        run = sync(server, streams=EXTRAS)
    text = "\n".join(run.lines) + run.log
    assert "xxxx1234" not in text
    assert "hush" not in text


@pytest.mark.parametrize("underscores", [False, True])
def test_both_spellings_give_the_same_columns(underscores):
    """Variables, keys and webhooks come with hyphens or underscores, and the columns are the same."""
    world = small()
    world.underscores = underscores
    streams = ("project_variables", "checkout_keys", "webhooks")
    with Server(world) as server:
        run = sync(server, streams=streams)
        wanted = truth_of(world)
    assert_same(tables(run.lines), {stream: wanted[stream] for stream in streams})


def cuts(run: Run) -> Iterator[tuple[list[str], Any]]:
    """What a target has when the output is cut right after each STATE."""
    yield [], None
    for number, line in enumerate(run.lines, start=1):
        if line.startswith('{"type": "STATE"'):
            yield list(run.lines[:number]), json.loads(line)["value"]


@pytest.mark.parametrize("moved", [timedelta(0), timedelta(hours=3)], ids=["same world", "moved on"])
def test_a_run_cut_after_any_state_is_completed_by_the_next(moved):
    """After a cut at any STATE the next run completes the tables, also if the service has newer data."""
    with Server(small(), page_size=7) as server:
        first = sync(server, streams=EXTRAS, clock=EagerClock())
        server.world.advance(moved)
        wanted = truth_of(server.world)
        states = list(cuts(first))
        assert len(states) > 15
        for lines, state in states:
            again = sync(server, streams=EXTRAS, state=state)
            assert again.status == 0, again.log
            assert_same(tables(again.lines, tables(lines)), wanted)


@pytest.mark.parametrize("world_of", [odd, small])
def test_rows_come_in_the_same_order_with_any_number_of_workers(world_of):
    """One worker and eight write the same lines, but for the states between."""
    with Server(world_of()) as server:
        runs = [sync(server, extra_streams="all", max_workers=workers) for workers in (1, 8)]
    one, many = ([line for line in run.lines if '"STATE"' not in line] for run in runs)
    assert one == many


def test_a_job_is_asked_once_over_all_syncs():
    """The lists below a finished job are requested once, though a rerun lists it again."""
    world = small()
    with Server(world) as server:
        first = sync(server, streams=("job_details", "tests", "artifacts"))
        world.advance(timedelta(hours=3))
        world.rerun(world.pipelines([world.project("gh/acme/api")["id"]])[0], world.now - timedelta(hours=1))
        sync(server, streams=("job_details", "tests", "artifacts"), state=first.state)
        asked = [request.path for request in server.requests]
    below = [path for path in asked if re.search(r"/project/.*(/job/\d+|/tests|/artifacts)$", path)]
    assert len(below) > 3 * 20
    assert len(below) == len({*below})
    assert not [path for path in below if "900001" in path], "an approval was asked"


@pytest.mark.parametrize("mark", ["forbidden", "missing"])
@pytest.mark.parametrize("stream", EXTRAS)
def test_what_is_refused_is_left_out_and_the_rest_comes(stream, mark):
    """A stream that is forbidden below one organization is skipped there, and all else is sent."""
    world = small()
    getattr(world, mark).add((stream, world.organizations[0]["id"]))
    with Server(world) as server:
        run = sync(server, streams=EXTRAS)
        wanted = truth_of(world)
    assert run.status == 0, run.log
    assert_same(extras_in(run.lines), wanted)


def test_a_workflow_whose_name_cannot_stand_in_a_path_is_there_and_named():
    """Its row is sent; a warning says that its runs cannot be requested."""
    world = World(NOW)
    pipeline = world.add_pipeline("gh/acme/api", NOW - timedelta(days=2))
    for name in ("..", "build"):
        world.add_workflow(pipeline, name, stopped_at=timedelta(minutes=9))
    with Server(world) as server:
        run = sync(server, streams=["insights_workflows", "insights_workflow_runs"])
    assert run.status == 0, run.log
    assert {row["name"] for row in run.rows("insights_workflows")} == {"..", "build"}
    assert {row["_workflow_name"] for row in run.rows("insights_workflow_runs")} == {"build"}
    assert "insights_workflow_runs of insights_workflows ..: skipped" in run.log


@pytest.mark.parametrize("hyphens", [False, True])
def test_flaky_tests_have_the_same_columns_in_both_spellings(hyphens):
    """The fields are documented with hyphens and sent with underscores: the columns have underscores."""
    world = small()
    world.hyphens = hyphens
    with Server(world) as server:
        run = sync(server, streams=["flaky_tests"])
        wanted = expected(truth(world, [row["slug"] for row in world.projects.values()]), ["flaky_tests"])
    assert_same(tables(run.lines), wanted)
    assert "not in the schema" not in run.log


@pytest.mark.parametrize("status", [400, 402, 404, 405, 409, 410, 422, 451])
def test_where_there_are_no_flaky_tests_it_is_said_once(status):
    """If the service answers any 4xx for flaky tests, the log has one line, and all else is read."""
    world = small()
    with Server(world) as server:
        server.fault = lambda path, nth: Fault(status) if path.endswith("/flaky-tests") else None
        run = sync(server, streams=["flaky_tests", "checkout_keys"], activate_version=True)
        wanted = expected(truth(world, _slugs(world)), ["checkout_keys"])
    assert run.status == 0, run.log
    assert_same(tables(run.lines), wanted)
    said = [line for line in run.log.splitlines() if "CircleCI does not offer this here" in line]
    assert [line.startswith("INFO Read as empty: 2 lists of flaky_tests in ") for line in said] == [False, True]
    assert {message["stream"] for message in run.messages if message["type"] == "ACTIVATE_VERSION"} >= {"flaky_tests"}


def test_a_name_may_be_anything_that_need_not_stand_in_a_path():
    """Dots, blanks and empty texts distinguish flaky tests and versions like any other text."""
    world, names = small(), ["..", ".", "", " ", "x"]
    project = world.project("gh/acme/api")
    world.flaky[project["id"]] = [
        {"workflow_name": "w", "job_name": "j", "classname": "c", "test_name": name, "times_flaked": 1}
        for name in names
    ]
    with Server(world) as server:
        run = sync(server, streams=["flaky_tests"], project_slugs="gh/acme/api")
    assert [row["test_name"] for row in run.rows("flaky_tests")] == names


def test_insights_that_come_late_are_read_once_they_are_there():
    """A long workflow that insights list late is in the table after the sync of that day."""
    world = World(NOW)
    world.insights_delay = timedelta(hours=20)
    for hours, lasting in ((50, 1), (48, 30), (26, 1), (3, 1)):
        parts: Row = {"stopped_at": timedelta(hours=lasting)}
        world.add_pipeline("gh/acme/api", NOW - timedelta(hours=hours), workflows=[parts])
    streams = ("insights_workflow_runs",)
    with Server(world) as server:
        first = sync(server, streams=streams)
        world.advance(timedelta(days=1, hours=2))
        second = sync(server, streams=streams, state=first.state)
        wanted = truth_of(world)["insights_workflow_runs"]
    assert (len(first.rows(*streams)), len(wanted)) == (2, 4)
    assert_same(tables(second.lines, tables(first.lines)), {"insights_workflow_runs": wanted})


def test_a_day_that_ends_before_a_list_is_requested_does_not_fail_it():
    """The dates of a list are set before its request leaves, perhaps after midnight: the service refuses older ones."""
    before_midnight = timedelta(hours=22) - timedelta(seconds=20)
    world = World(NOW + before_midnight)
    world.add_pipeline("gh/acme/api", NOW, workflows=[{"name": "build", "stopped_at": timedelta(hours=1)}])

    def pass_midnight(path: str, _: int) -> None:
        if "/workflows/build?" in path:
            world.advance(timedelta(minutes=1))

    with Server(world) as server:
        server.fault = pass_midnight
        run = read(server, "insights_workflow_runs")
    assert (run.status, len(run.rows("insights_workflow_runs"))) == (0, 1), run.log


def test_worlds_have_the_same_ids_with_and_without_extra_rows():
    """The rows of the eleven streams have the same ids with and without extra rows in the world."""
    plain, more = (World(NOW) for _ in range(2))
    for world in (plain, more):
        project = world.add_project("gh/acme/api")
        if world is more:
            world.add_webhook(project, "chat", NOW)
            world.add_variable(project, "TOKEN", NOW)
        world.add_pipeline(project, START, workflows=[{"stopped_at": timedelta(minutes=9)}])
    slugs = ["gh/acme/api"]
    assert plain.truth(slugs) == more.truth(slugs)


def test_the_stand_in_refuses_what_the_service_refuses():
    """Approvals and unknown numbers have no details, a date needs the other, and some have no flaky tests."""
    world = small()
    other = world.project(next(slug for slug in _slugs(world) if slug.startswith("circleci/")))
    base, insights = "/api/v2/project/gh/acme/api", "/api/v2/insights/gh/acme/api/workflows/build%200%2F2"
    with Server(world) as server:
        assert ask(server, f"{base}/job/1").body["number"] == 1
        assert [ask(server, f"{base}/job/{number}").status for number in (900_001, 77_777, "x")] == [404, 404, 404]
        assert ask(server, f"{insights}?all-branches=true&start-date=2026-03-01T00:00:00Z").status == 400
        assert {row["status"] for row in ask(server, f"{insights}?all-branches=true").body["items"]} == {"success"}
        assert ask(server, f"/api/v2/insights/{other['slug']}/flaky-tests").status == 400
        world.advance(timedelta(days=31))
        assert ask(server, f"{base}/1/artifacts").body["items"] == []


def _slugs(world: World) -> list[str]:
    return [row["slug"] for row in world.projects.values()]
