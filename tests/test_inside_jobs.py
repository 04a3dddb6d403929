"""The streams below jobs: read once a job has run, for the jobs that the user wants, and never without need."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest

from tests.circleci import EXTRAS, Fault, Server, World, extras, stamp
from tests.tap import Run, sync, tables
from tests.worlds import NOW, WALK, world_of

INSIDE = ("job_details", "tests", "artifacts")


def asked(server: Server) -> Counter[str]:
    """The requests for what lies below jobs."""
    paths = [request.path.partition("?")[0] for request in server.requests]
    return Counter(path for path in paths if "/job/" in path or path.endswith(("/tests", "/artifacts")))


def jobs_in(run: Run) -> set[str]:
    return {row["_job_id"] for row in run.rows("job_details")}


def test_a_sync_with_nothing_new_asks_for_no_job():
    """The lists below finished jobs that were read are not requested again, also not within the look-back."""
    with Server(world_of()) as server:
        first = sync(server, streams=[*WALK, *INSIDE])
        server.world.advance(timedelta(hours=1))
        server.reset()
        again = sync(server, streams=[*WALK, *INSIDE], state=first.state)
        assert not asked(server)
    assert again.status == 0
    assert len(jobs_in(first)) == 20


@pytest.mark.parametrize(("hours", "sent"), [((8, 9, 12), ["1", "", "2"]), ((6, 9, 12), ["1", "1", "2"])])
def test_a_job_is_asked_as_soon_as_it_has_run_and_not_again_when_its_workflow_ends(hours, sent):
    """The next sync reads below an ended job of a running workflow, and again only while it may be corrected."""
    world = World(NOW)
    pipeline = world.add_pipeline("gh/acme/api", NOW)
    workflow = world.add_workflow(pipeline, "build", stopped_at=timedelta(hours=11), jobs=2)
    names = {job["id"]: job["name"][-1] for job in world.rows["jobs"][workflow["id"]]}
    runs = []
    with Server(world) as server:
        for hour in hours:  # the first job ends after five and a half hours
            world.now = NOW + timedelta(hours=hour)
            runs.append(sync(server, streams=["job_details"], state=runs[-1].state if runs else None))
    assert ["".join(names[job] for job in jobs_in(run)) for run in runs] == sent


@pytest.mark.parametrize(
    ("status", "has_ended", "is_read"),
    [
        ("canceled", True, True),
        ("not_run", True, True),
        ("success", True, True),
        ("canceled", False, False),
        ("success", False, False),
        ("running", True, False),
        ("blocked", True, False),
    ],
)
def test_a_job_without_a_time_of_its_end_is_final_once_its_workflow_has_ended(status, has_ended, is_read):
    """A canceled job without an end time is final after the end of its workflow, and not before."""
    world = world_of(1)
    (workflow,) = [row for rows in world.rows["workflows"].values() for row in rows]
    rows = world.rows["jobs"][workflow["id"]]
    rows[0] |= {"stopped_at": None, "status": status}
    workflow["stopped_at"] = stamp(NOW - timedelta(hours=1))
    shown = dict(workflow) if has_ended else {**workflow, "status": "running", "stopped_at": None}
    with Server(world) as server:
        server.script(r"/workflow$", [Fault(200, {}, {"items": [shown], "next_page_token": None})])
        first = sync(server, streams=["job_details"])
        world.advance(timedelta(hours=1))
        again = sync(server, streams=["job_details"], state=first.state)
    assert jobs_in(first) == ({job["id"] for job in rows} if is_read else {rows[1]["id"]})
    assert jobs_in(again) == ({rows[0]["id"]} if status not in ("running", "blocked") else set())


@pytest.mark.parametrize(("status", "is_read"), [("terminated-unknown", True), ("retried", True), ("running", False)])
def test_statuses_are_an_open_set(status, is_read):
    """A job with an end and an unknown status is final; only the statuses of running jobs are not."""
    world = world_of(1)
    (rows,) = [rows for rows in world.rows["jobs"].values() if rows]
    rows[0]["status"] = status
    with Server(world) as server:
        run = sync(server, streams=["job_details"])
    assert (rows[0]["id"] in jobs_in(run)) == is_read


@pytest.mark.parametrize(
    ("job_names", "wanted"),
    [
        (None, {"build", "e2e-1", "e2e-10", "lint"}),
        ("build* e2e-?", {"build", "e2e-1"}),
        ("!lint", {"build", "e2e-1", "e2e-10"}),
        (["e2e-*", "!e2e-10"], {"e2e-1"}),
    ],
)
def test_job_names_limit_what_is_read_below_jobs_and_not_the_jobs(job_names, wanted):
    """The three streams below jobs are read only for jobs of these names; all jobs are sent."""
    world = World(NOW)
    names = ["build", "e2e-1", "e2e-10", "lint"]
    world.add_pipeline("gh/acme/api", NOW - timedelta(hours=2), workflows=[{"stopped_at": timedelta(1), "jobs": 1}])
    pipeline = world.add_pipeline("gh/acme/api", NOW - timedelta(hours=3))
    world.add_workflow(pipeline, "build", stopped_at=timedelta(minutes=9), jobs=names)
    with Server(world) as server:
        run = sync(server, streams=["jobs", "job_details"], job_names=job_names)
    assert {row["name"] for row in run.rows("job_details")} == wanted
    assert {row["name"] for row in run.rows("jobs")} >= set(names)


def test_a_stream_below_jobs_that_is_selected_later_starts_at_the_start_date():
    """Its parents are read again for it, and not sent again."""
    with Server(world_of(30)) as server:
        first = sync(server, streams=WALK)
        server.world.advance(timedelta(hours=1))
        later = sync(server, streams=[*WALK, "tests", "job_details"], state=first.state)
    assert len(jobs_in(later)) == 60
    assert not later.rows("jobs")
    assert not later.rows("pipelines")


def test_what_cannot_be_read_below_a_job_is_read_by_the_next_run_for_that_stream_alone():
    """The other streams of the job are complete; a 404 means that there is nothing."""
    world = world_of(3)
    jobs = [job for rows in world.rows["jobs"].values() for job in rows]
    for job in jobs:
        world.tests[job["id"]] = [{"name": "test", "result": "success", "run_time": 1}]
    broken, gone = (job["job_number"] for job in jobs[:2])
    with Server(world) as server:
        server.fault = lambda path, nth: (
            Fault(500) if path.endswith(f"/{broken}/tests") else Fault(404) if path.endswith(f"/{gone}/tests") else None
        )
        first = sync(server, streams=INSIDE)
        server.reset()
        second = sync(server, streams=INSIDE, state=first.state)
        again = asked(server)
    assert (first.status, second.status) == (1, 0)
    assert f"the tests of job {jobs[0]['id']} of workflow" in first.criticals()[0]
    assert len(tables(first.lines)["tests"]) == 4
    assert jobs[0]["id"] in {row["_job_id"] for row in second.rows("tests")}
    assert not [path for path in again if not path.endswith("/tests")]


def test_equal_tests_are_all_read():
    """A job may have the same test many times: pages of equal rows do not end the list."""
    world = world_of(1)
    (rows,) = [rows for rows in world.rows["jobs"].values() if rows]
    world.tests[rows[0]["id"]] = [{"name": "test", "result": "success", "run_time": "0.5"}] * 700
    with Server(world) as server:
        run = sync(server, streams=["tests"])
    assert run.status == 0, run.log
    assert [row["_index"] for row in run.rows("tests")] == list(range(700))


def test_versions_are_activated_for_the_full_tables_among_the_extra_streams():
    """ACTIVATE_VERSION follows each complete read of a full table that is not below pipelines."""
    world = extras.furnish(world_of(2))
    with Server(world) as server:
        run = sync(server, streams=EXTRAS, activate_version=True)
    activated = {message["stream"] for message in run.messages if message["type"] == "ACTIVATE_VERSION"}
    incremental = {"insights_workflow_runs", "insights_job_days", "policy_decisions", "builds"}
    below_pipelines = {*INSIDE, "pipeline_values", "pipeline_configs", "steps", "step_outputs"}
    assert activated == set(EXTRAS) - incremental - below_pipelines
