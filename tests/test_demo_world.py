"""The demonstration is one world: all its answers follow from the same jobs."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timezone

import pytest

from tests.circleci import Row, demo_world, moment
from tests.circleci.demo import job_runs
from tests.circleci.extras import truth

NOW = datetime(2026, 3, 11, 12, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def tables() -> dict[str, list[Row]]:
    """The rows of all streams as they show now."""
    world = demo_world(NOW)
    slugs = [row["slug"] for row in world.projects.values()]
    return world.truth(slugs) | truth(world, slugs)


def test_usage_agrees_with_the_jobs(tables):
    """Queue, times, machine and parallel runs equal those of the job's details, and the credits follow from them."""
    details = {row["_job_id"]: row for row in tables["job_details"] if row["started_at"]}
    runs = {str(cells["JOB_ID"]): cells for _, cells in job_runs(demo_world(NOW))}
    assert details.keys() <= runs.keys()
    for identifier, row in details.items():
        cells = runs[identifier]
        assert [moment(str(cells[f"JOB_RUN_{name}_AT"]) + "Z") for name in ("QUEUED", "STARTED", "STOPPED")] == [
            moment(row[f"{name}_at"]) for name in ("queued", "started", "stopped")
        ]
        assert (cells["RESOURCE_CLASS"], cells["PARALLELISM"]) == (
            row["executor"]["resource_class"],
            str(row["parallelism"]),
        )
        assert (cells["JOB_BUILD_STATUS"], cells["JOB_RUN_NUMBER"]) == (row["status"], str(row["number"]))
        assert float(str(cells["TOTAL_CREDITS"])) > 0 or row["duration"] == 0


def test_jobs_fail_in_many_ways(tables):
    """Tests, packages, images, memory, time and CircleCI itself fail; status, exit code, output and tests agree."""
    statuses = Counter(row["status"] for row in tables["jobs"])
    assert {"failed", "timedout", "infrastructure_fail", "canceled", "not_run"} <= statuses.keys()
    written = "\n".join(row["output"] for row in tables["step_outputs"])
    for words in (
        "npm ERR!",
        "No matching distribution",
        "toomanyrequests",
        "heap out of memory",
        "Killed",
        "1 failed",
    ):
        assert words in written
    codes = {row["_job_id"]: row["exit_code"] for row in tables["steps"] if row["exit_code"]}
    killed = [row for row in tables["step_outputs"] if "Killed" in row["output"]]
    assert {codes[row["_job_id"]] for row in killed} == {137}
    failed = {row["_job_id"] for row in tables["tests"] if row["result"] == "failure"}
    assert failed
    assert failed <= codes.keys()


def test_a_branch_has_one_pull_request(tables):
    """Builds of one branch and project have the same pull request; those of the default branch have none."""
    found: dict[tuple[str, str], set[tuple[str, ...]]] = {}
    for row in tables["builds"]:
        if row["branch"]:
            key = row["_project_slug"], row["branch"]
            found.setdefault(key, set()).add(tuple(row["pull_request_urls"] or ()))
    assert all(len(requests) == 1 for requests in found.values())
    assert {len(next(iter(requests))) for (_, branch), requests in found.items() if branch == "main"} == {0}


def test_flaky_tests_are_those_of_the_jobs(tables):
    """Each flaky test has failed in a job of that name."""
    jobs = {row["id"]: row["name"] for row in tables["jobs"]}
    failed = {
        (jobs[row["_job_id"]], row["classname"], row["name"]) for row in tables["tests"] if row["result"] == "failure"
    }
    assert tables["flaky_tests"]
    assert {(row["job_name"], row["classname"], row["test_name"]) for row in tables["flaky_tests"]} <= failed
