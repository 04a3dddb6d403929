"""Reruns at once: pipelines of any age of which the list of builds has news, and what happens where it is no use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.circleci import Fault, Row, Server, World
from tests.tap import Run, assert_same, expected, sync, tables
from tests.worlds import WALK

NOW = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)
SLUG = "gh/acme/api"
LIST = "/api/v1.1/project/github/acme/api"
FLOW: Row = {"name": "build", "stopped_at": timedelta(minutes=9), "jobs": 2}


def world_of(ages: tuple[int, ...] = (1, 3, 40, 80)) -> World:
    """A project with pipelines that are so many days old."""
    world = World(NOW)
    project = world.add_project(SLUG)
    for days in ages:
        world.add_pipeline(project, NOW - timedelta(days=days), workflows=[FLOW])
    return world


def rerun(world: World, place: int, at: datetime) -> Row:
    """Rerun the pipeline at this place of the list, oldest last."""
    project = world.project(SLUG)
    pipelines = sorted(world.pipelines([project["id"]]), key=lambda row: row["created_at"], reverse=True)
    return world.rerun(pipelines[place], at)


@contextmanager
def synced(world: World, **config: Any) -> Iterator[tuple[Server, Run]]:
    """A server of the world, and a first sync."""
    with Server(world) as server:
        first = sync(server, streams=WALK, find_reruns=True, **config)
        assert first.status == 0, first.log
        server.requests.clear()
        yield server, first


def asked(server: Server, part: str) -> list[str]:
    return [request.path for request in server.requests if part in request.path]


def truth_of(world: World):
    return expected(world.truth([SLUG]), WALK)


@pytest.mark.parametrize("find_reruns", [True, False])
def test_a_rerun_of_an_old_pipeline_is_in_the_tables_after_the_next_sync(find_reruns):
    """With find_reruns a rerun shows at once whatever the age of its pipeline, without when a look is due."""
    world = world_of()
    with synced(world) as (server, first):
        again = rerun(world, 3, NOW + timedelta(minutes=10))
        world.advance(timedelta(hours=5))
        second = sync(server, state=first.state, streams=WALK, find_reruns=find_reruns)
        assert (again["id"] in {row["id"] for row in second.rows("workflows")}) == find_reruns
        if find_reruns:
            assert_same(tables(second.lines, tables(first.lines)), truth_of(world))
            assert len(asked(server, LIST)) == 1
            assert len(asked(server, f"/workflow/{again['id']}")) == 2  # whose it is, and its jobs


def test_the_first_sync_only_takes_the_number():
    """There is no news where nothing was synced before: one call, and the number is kept."""
    world = world_of()
    with Server(world) as server:
        first = sync(server, streams=WALK, find_reruns=True)
        assert len(asked(server, LIST)) == 1
    number = first.state["bookmarks"]["pipelines"][SLUG]["next_build"]
    assert number == max(row["job_number"] for row in first.rows("jobs")) + 1


def test_without_the_key_the_number_is_null_and_v1_is_not_asked():
    """Whoever does not want it pays nothing."""
    with Server(world_of()) as server:
        run = sync(server, streams=WALK)
        assert not asked(server, "v1.1")
    assert run.state["bookmarks"]["pipelines"][SLUG]["next_build"] is None


def test_a_quiet_project_costs_one_call_more():
    """Nothing new: the list of pipelines and the list of builds."""
    world = world_of((40,))
    with synced(world) as (server, first):
        world.advance(timedelta(hours=1))
        sync(server, state=first.state, streams=WALK, find_reruns=True)
        assert len(asked(server, "/pipeline")) == 1
        assert len(server.requests) == 3  # and whose token it is


def test_news_costs_one_call_for_each_hundred_builds():
    """The list is read down to the first build that is known, and no further."""
    world = world_of()
    with synced(world) as (server, first):
        flow = {**FLOW, "jobs": 60}
        for minute in range(2):
            world.add_pipeline(world.project(SLUG), NOW + timedelta(minutes=minute), workflows=[flow])
        world.advance(timedelta(hours=1))
        sync(server, state=first.state, streams=WALK, find_reruns=True)
        assert len(asked(server, LIST)) == 2


def test_workflows_that_this_run_has_listed_are_not_asked_for():
    """News of young pipelines is no news."""
    world = world_of((1, 40))
    with synced(world) as (server, first):
        world.add_pipeline(world.project(SLUG), NOW + timedelta(minutes=5), workflows=[FLOW])
        world.advance(timedelta(hours=1))
        second = sync(server, state=first.state, streams=WALK, find_reruns=True)
        assert not [path for path in asked(server, "/workflow/") if not path.endswith("/job")]
        assert_same(tables(second.lines, tables(first.lines)), truth_of(world))


def test_pipelines_from_before_the_start_date_are_left_alone():
    """A rerun of a pipeline that no first sync would send is not sent."""
    world = world_of()
    start = (NOW - timedelta(days=60)).isoformat()
    with synced(world, start_date=start) as (server, first):
        rerun(world, 3, NOW + timedelta(minutes=10))
        world.advance(timedelta(hours=1))
        second = sync(server, state=first.state, streams=WALK, find_reruns=True, start_date=start)
        assert second.status == 0, second.log
        assert not second.rows("workflows")


def test_a_look_that_fails_is_made_by_the_next_run():
    """A hinted pipeline below which something fails is kept for another try, exit 1."""
    world = world_of()
    with synced(world) as (server, first):
        again = rerun(world, 3, NOW + timedelta(minutes=10))
        world.advance(timedelta(hours=1))
        server.fault = lambda path, _: Fault(500) if path.endswith(f"{again['id']}/job") else None
        broken = sync(server, state=first.state, streams=WALK, find_reruns=True)
        assert broken.status == 1
        server.fault = None
        mended = sync(server, state=broken.state, streams=WALK, find_reruns=True)
        assert mended.status == 0, mended.log
        assert_same(tables(mended.lines, tables(broken.lines, tables(first.lines))), truth_of(world))


@pytest.mark.parametrize("status", [404, 410, 403, 400, 500, 302])
def test_without_v1_the_walk_goes_on_and_the_number_stays(status):
    """API v1.1 missing, forbidden or broken: one warning, exit 0, and the next run reads on from the same number."""
    world = world_of()
    with synced(world) as (server, first):
        rerun(world, 3, NOW + timedelta(minutes=10))
        world.advance(timedelta(hours=1))
        server.fault = lambda path, _: Fault(status) if "v1.1" in path else None
        second = sync(server, state=first.state, streams=WALK, find_reruns=True)
        assert second.status == 0, second.log
        assert second.log.count("find_reruns: API v1.1 cannot be read") == 1
        server.fault = None
        third = sync(server, state=second.state, streams=WALK, find_reruns=True)
        assert_same(tables(third.lines, tables(second.lines, tables(first.lines))), truth_of(world))


def test_after_ten_pages_the_number_goes_to_the_top():
    """More than a thousand builds: the rest waits for the schedule, and a line says so."""
    world = world_of()
    with synced(world) as (server, first):
        for minute in range(12):
            flow = {**FLOW, "jobs": 100}
            world.add_pipeline(world.project(SLUG), NOW + timedelta(minutes=minute), workflows=[flow])
        world.advance(timedelta(hours=1))
        second = sync(server, state=first.state, streams=WALK, find_reruns=True)
        assert second.status == 0, second.log
        assert len(asked(server, LIST)) == 10
        assert "scheduled re-checks will find older reruns" in second.log
        top = max(row["job_number"] for row in second.rows("jobs")) + 1
        assert second.state["bookmarks"]["pipelines"][SLUG]["next_build"] == top


ODD = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**12) | st.text(max_size=4) | st.just("2026-03-10T12:30:00Z"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["build_num", "workflows", "workflow_id", "stop_time", "queued_at"]), inner)
    ),
    max_leaves=12,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(lie=ODD | st.lists(ODD, max_size=6), shifted=st.sampled_from([0, 3, -3]))
def test_whatever_the_hints_are_the_tables_are_true(lie, shifted):
    """Hints that are wrong, missing, repeated or hostile: what the walk finds without them is there, exit 0."""
    world = world_of((1, 3))
    with synced(world) as (server, first):
        world.add_pipeline(world.project(SLUG), NOW + timedelta(minutes=5), workflows=[FLOW])

        def told(rows: list[Row]) -> Any:
            if lie is None:
                return [{**row, "build_num": row["build_num"] + shifted} for row in [*rows, *rows]]
            return [*rows, *lie] if isinstance(lie, list) and shifted else lie

        world.builds_told = told
        world.advance(timedelta(hours=1))
        second = sync(server, state=first.state, streams=WALK, find_reruns=True)
        assert second.status == 0, second.log
        assert_same(tables(second.lines, tables(first.lines)), truth_of(world))
