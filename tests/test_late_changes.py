"""What the service shows late or corrects is in the tables after the next sync that sees it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.circleci import Fault, Row, Server, World, stamp
from tests.tap import assert_same, expected, sync, tables
from tests.worlds import NOW, WALK, pipeline_ids, world_of

SLUG = "gh/acme/api"
MINUTE = timedelta(minutes=1)
STREAMS = (*WALK, "job_details")

Answers = dict[str, list[Row]]
"""What lists answer instead of the truth, by the end of their path."""


def a_workflow_that_still_runs(world: World, late: timedelta) -> Answers:
    """A workflow and its job that have ended are shown as running."""
    pipeline, workflow = newest(world, late)
    jobs = [{**job, "status": "running", "stopped_at": None} for job in world.rows["jobs"][workflow["id"]]]
    shown = {**workflow, "status": "running", "stopped_at": None}
    return {f"{pipeline}/workflow": [shown], f"{workflow['id']}/job": jobs}


def a_pipeline_that_is_not_listed(world: World, late: timedelta) -> Answers:
    """A pipeline was created and is not in the list of its project."""
    newest(world, late)
    return {"/api/pipeline": world.pipelines([world.project(SLUG)["id"]])[1:]}


def a_job_and_workflow_that_count_as_canceled(world: World, late: timedelta) -> Answers:
    """A job and its workflow that have succeeded are shown as canceled, with the time of their end."""
    pipeline, workflow = newest(world, late)
    jobs = [{**job, "status": "canceled"} for job in world.rows["jobs"][workflow["id"]]]
    return {f"{pipeline}/workflow": [{**workflow, "status": "canceled"}], f"{workflow['id']}/job": jobs}


def newest(world: World, late: timedelta) -> tuple[str, Row]:
    """A new pipeline of which everything happened as long ago as that."""
    pipeline = world.add_pipeline(SLUG, NOW - late, workflows=[{"stopped_at": NOW - late, "jobs": 1}])
    (workflow,) = world.rows["workflows"][pipeline["id"]]
    for job in world.rows["jobs"][workflow["id"]]:
        job["stopped_at"] = stamp(NOW - late)
    return pipeline["id"], workflow


@pytest.mark.parametrize("late", [11 * MINUTE, 14 * MINUTE, 119 * MINUTE])
@pytest.mark.parametrize(
    "told", [a_workflow_that_still_runs, a_pipeline_that_is_not_listed, a_job_and_workflow_that_count_as_canceled]
)
@pytest.mark.parametrize("days", [0.01, 1])
def test_what_shows_up_to_two_hours_late_is_right_after_the_next_sync(
    told: Callable[[World, timedelta], Answers], late: timedelta, days: float
):
    """The next sync sends the true rows, and a sync hours later sends none of them again."""
    world = world_of(5)
    answers = told(world, late)
    with Server(world) as server:
        server.fault = lambda path, nth: next(
            (Fault(200, {}, {"items": rows}) for end, rows in answers.items() if path.endswith(end)), None
        )
        first = sync(server, streams=STREAMS, lookback_days=days)
        server.fault = None
        world.advance(5 * MINUTE)
        second = sync(server, streams=STREAMS, lookback_days=days, state=first.state)
        truth = expected(world.truth([SLUG]), WALK)
        world.advance(timedelta(hours=3))
        third = sync(server, streams=STREAMS, lookback_days=days, state=second.state)
        fourth = sync(server, streams=STREAMS, lookback_days=days, state=third.state)
    assert (first.status, second.status, third.status) == (0, 0, 0)
    held = tables([*first.lines, *second.lines])
    assert len(held.pop("job_details")) == 11
    assert_same(held, truth)
    assert not any(fourth.rows(stream) for stream in STREAMS)


def test_a_final_status_that_was_corrected_is_in_the_details_of_the_job_as_well():
    """The lists below a job are requested again while its status may be corrected."""
    world = world_of(5)
    answers = a_job_and_workflow_that_count_as_canceled(world, 50 * MINUTE)
    name = pipeline_ids(world)[0]
    with Server(world) as server:
        server.fault = lambda path, nth: next(
            (Fault(200, {}, {"items": rows}) for end, rows in answers.items() if path.endswith(end)), None
        )
        first = sync(server, streams=STREAMS)
        server.fault = None
        world.advance(30 * MINUTE)
        second = sync(server, streams=STREAMS, state=first.state)
    assert [row["_pipeline_id"] for row in second.rows("job_details")] == [name]
