"""Whole runs against a CircleCI of our own: every table, row by row and field by field."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from tests.circleci import Fault, Server, demo_world, history, moment, odd_world
from tests.tap import DEFAULT, assert_same, expected, sync, tables

NOW = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize("world_of", [demo_world, odd_world])
def test_every_table_is_complete_and_right(world_of):
    """A first sync delivers every row and every field of all eleven streams."""
    with Server(world_of(NOW)) as server:
        run = sync(server)
        truth = server.world.truth([row["slug"] for row in server.world.projects.values()])
    assert run.status == 0, run.log
    assert_same(tables(run.lines), expected(truth))


def test_rows_come_in_the_same_order_with_any_number_of_workers():
    """One worker and sixteen write the same lines, but for the states between."""
    with Server(demo_world(NOW)) as server:
        runs = [sync(server, max_workers=workers) for workers in (1, 16)]
    one, many = ([line for line in run.lines if '"STATE"' not in line] for run in runs)
    assert one == many


def test_no_url_is_asked_twice_on_a_first_sync():
    """A first sync asks for every page once and for nothing else."""
    with Server(history(130, NOW, workflows=2, jobs=3)) as server:
        sync(server)
        paths = [request.path for request in server.requests]
    assert len(paths) == len(set(paths))
    small = 8  # me, collaborations, four lists of the organization, two of its project
    assert len(paths) == small + 7 + 130 + 130 * 2


def test_nothing_new_costs_a_few_calls_and_no_rows():
    """A second sync right after the first sends no row of the walk and asks for the last day only."""
    with Server(history(130, NOW)) as server:
        first = sync(server)
        server.world.advance(timedelta(hours=1))
        server.reset()
        again = sync(server, state=first.state, streams=("pipelines", "workflows", "jobs"))
        calls = [request.path for request in server.requests]
    assert again.status == 0
    assert not [row for stream in ("pipelines", "workflows", "jobs") for row in again.rows(stream)]
    assert len(calls) < 40


@pytest.mark.parametrize("streams", [("pipelines",), ("pipelines", "workflows", "jobs")])
def test_a_pipeline_that_becomes_final_without_a_new_updated_at_is_sent_again(streams):
    """A setup that lasts for hours and fails shows after the next sync, and once it is known it is not sent again."""
    world = history(30, NOW)
    pipeline = world.add_pipeline("gh/acme/big", NOW - timedelta(hours=3), state="setup")
    with Server(world) as server:
        runs = [sync(server, streams=streams)]
        for state in ("setup", "errored", "errored"):
            pipeline["state"] = state
            world.advance(timedelta(hours=1))
            runs.append(sync(server, streams=streams, state=runs[-1].state))
    sent = [[row["state"] for row in run.rows("pipelines") if row["id"] == pipeline["id"]] for run in runs]
    assert sent == [["setup"], ["setup"], ["errored"], []]
    assert not runs[-1].rows("pipelines")


def test_a_run_that_looks_further_back_says_so():
    """The log tells why a sync cost more calls than the one before."""
    with Server(history(30, NOW)) as server:
        runs = [sync(server)]
        for pause in (timedelta(days=43), timedelta(seconds=1)):
            server.world.advance(pause)
            runs.append(sync(server, state=runs[-1].state))
    said = ["Looked back" in run.log for run in runs]
    assert said == [False, True, False]


def test_a_state_that_is_no_text_is_not_final_and_nothing_breaks():
    """Objects and lists where the API names a state arrive as JSON, and the walk goes on."""
    world = history(30, NOW)
    pipeline = world.pipelines([world.project("gh/acme/big")["id"]])[3]
    workflow = world.rows["workflows"][pipeline["id"]][0]
    pipeline["state"], workflow["status"] = {"type": "created"}, ["success"]
    with Server(world) as server:
        run = sync(server, streams=("pipelines", "workflows", "jobs"))
    assert run.status == 0, run.log
    assert [row["state"] for row in run.rows("pipelines") if row["id"] == pipeline["id"]] == ['{"type": "created"}']
    assert [row["status"] for row in run.rows("workflows") if row["id"] == workflow["id"]] == ['["success"]']
    assert len(run.rows("pipelines")) == 30


@pytest.mark.parametrize("spelled", ["%Y-%m-%d %H:%M:%S UTC", "%Y-%m-%dt%H:%M:%Sz", "%Y%m%dT%H%M%S+0000"])
def test_dates_count_however_they_are_spelled(spelled):
    """What is a date in the records is one for the walk: the start date and the state mean the same."""
    world = history(60, NOW)
    items = [
        {**row, **{name: moment(row[name]).strftime(spelled) for name in ("created_at", "updated_at")}}
        for row in world.pipelines([world.project("gh/acme/big")["id"]])
    ]
    page = Fault(200, {}, {"items": items, "next_page_token": None})
    with Server(world) as server:
        server.fault = lambda path, nth: page if path.endswith("/big/pipeline") else None
        run = sync(server, streams=["pipelines"], start_date=(NOW - timedelta(days=1)).isoformat())
    assert 0 < len(run.rows("pipelines")) < 60


def test_pipelines_that_tap_circle_ci_has_synced_are_not_sent_again():
    """Its state spares the rows of pipelines, while workflows and jobs come anew."""
    with Server(history(30, NOW)) as server:
        state = {"bookmarks": {"pipelines": {"gh/acme/big": (NOW - timedelta(minutes=1)).isoformat()}}}
        run = sync(server, state=state, streams=("pipelines", "workflows", "jobs"))
    assert run.rows("workflows")
    assert run.rows("jobs")
    assert not run.rows("pipelines")


def test_schemas_come_before_records_and_a_state_last():
    """Each selected stream has one SCHEMA, before its first RECORD, and the last line is a STATE of a finished run."""
    with Server(demo_world(NOW)) as server:
        messages = sync(server).messages
    announced = [m["stream"] for m in messages if m["type"] == "SCHEMA"]
    assert sorted(announced) == sorted(DEFAULT)
    for stream in DEFAULT:
        kinds = [m["type"] for m in messages if m.get("stream") == stream]
        assert kinds[0] == "SCHEMA"
    assert messages[-1]["type"] == "STATE"
    assert messages[-1]["value"]["currently_syncing"] is None
    assert all("time_extracted" in m for m in messages if m["type"] == "RECORD")


def test_a_list_that_is_not_quite_in_order_loses_nothing():
    """One old pipeline among the new ones does not end the walk: only a whole page below the horizon does."""
    ages = [[1, 900, 2], [3, 901, 902], [903, 904, 905], [4]]
    pages = [
        [{"id": f"p{hours}", "created_at": (NOW - timedelta(hours=hours)).isoformat()} for hours in page]
        for page in ages
    ]
    with Server(history(1, NOW)) as server:
        for number, page in enumerate(pages):
            server.script(
                "/project/gh/acme/big/pipeline", [Fault(200, {}, {"items": page, "next_page_token": f"t{number}"})]
            )
        run = sync(server, streams=["pipelines"], start_date="2026-03-01")
        assert server.calls == 1 + 3
    assert run.status == 0
    assert [row["id"] for row in run.rows("pipelines")] == ["p1", "p2", "p3"]
