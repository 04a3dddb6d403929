"""The answers of the demo's report: the figures of a small database, worked out by hand."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from demo.report import read
from demo.report.answers import Answers
from tests.test_report_page import NOW, hours, small_world


def step(job: str, number: int, name: str, seconds: float, index: int = 0, **more: Any) -> dict[str, Any]:
    """A row of steps."""
    row = {"_job_id": job, "index": index, "step": number, "step_name": name, "run_time_millis": seconds * 1000}
    return {**row, **more}


def paid(job: str | None, credits_used: float, workflow: str, **more: Any) -> dict[str, Any]:
    """A row of usage."""
    row = {"job_id": job, "workflow_id": workflow, "pipeline_id": "P1", "project_name": "shop", "vcs_branch": "main"}
    return {**row, "total_credits": credits_used, "user_credits": 0, "_date": hours(24), **more}


@pytest.fixture
def answers(tmp_path: Path) -> Answers:
    """Of a run whose job e2e was killed and passed in a rerun, with steps, output, builds and usage."""
    tables = {
        "steps": [
            step("J1", 1, "Install", 10, 0),
            step("J1", 1, "Install", 30, 1),
            step("J2", 1, "Install", 20),
            step("J2", 2, "Run e2e", 60, exit_code=1),
        ],
        "step_outputs": [
            {"_job_id": "J2", "index": 0, "step": 2, "output": "ok\nTypeError: killed\nKilled by signal: killed"}
        ],
        "builds": [
            {
                "job_id": "J2",
                "workflow_id": "W1",
                "outcome": "failed",
                "pull_request_urls": '["https://example/pull/7"]',
            }
        ],
        "usage": [
            paid("J1", 100, "W1", resource_class="large", job_run_queued_at=hours(30.5)),
            paid("J2", 50, "W1", resource_class="large", job_run_queued_at=hours(29.5)),
            paid("J3", 25, "W2"),
            paid(None, 7, "gone", pipeline_id="gone", vcs_branch="old"),
            paid(None, 25000, "", user_credits=25000, pipeline_id=None, project_name=None, vcs_branch=None),
        ],
    }
    return read(small_world(tmp_path / "a.db", **tables), NOW).answers


def test_the_rules_classify_failures(answers):
    """The rule with the best priority decides, and the row names the line that it matched."""
    (found,) = answers.failures
    assert (found.name, found.jobs, found.seconds) == ("out of memory", 1, 1800)
    assert found.reasons == [("killed", 1)]
    assert found.line == "Killed by signal: killed"


def test_parallel_runs_of_a_step_count_once(answers):
    """The slowest parallel run counts, by project, job and step."""
    found = {(one.job, one.name): list(one.seconds) for one in answers.steps}
    assert found == {
        ("unit, build", "Install"): [30],
        ("e2e, build", "Install"): [20],
        ("e2e, build", "Run e2e"): [60],
    }


def test_the_cost_of_changes_is_the_whole_cost(answers):
    """Costs are by pull request, or else by branch, with those of reruns and failures; seats are left out."""
    found = [(one.name, one.credits, one.rerun_credits, one.failed_credits) for one in answers.changes]
    assert found == [("#7 main", 175, 25, 50), ("old", 7, 0, 0), ("no branch", 0, 0, 0)]


def test_waits_are_by_machine(answers):
    """The wait is from queued to started, if usage has both."""
    assert [(one.name, list(one.seconds)) for one in answers.queues] == [("large", [1800, 0])]


def test_red_lasts_from_the_first_failure_to_the_next_success(answers):
    """The default branch is red from the end of the failed run to the end of its successful rerun."""
    assert [(one.workflow, list(one.seconds), one.is_red) for one in answers.reds] == [("build", [3 * 3600], False)]


def test_without_the_streams_there_are_no_answers(tmp_path):
    """Without steps, builds and usage the failures are unknown or flaky, and the answers from them are empty."""
    answers = read(small_world(tmp_path / "a.db"), NOW).answers
    assert [(one.name, one.jobs) for one in answers.failures] == [("flaky", 1)]
    assert (answers.steps, answers.changes, answers.queues, answers.approvals) == ([], [], [], [])


def test_deployments_are_of_the_default_branch(tmp_path):
    """It shows the frequency, the lead time from the push, and an outage from the first failure to the next success."""
    database = small_world(tmp_path / "a.db")
    runs = [("D1", "success", 27), ("D2", "failed", 20), ("D3", "failed", 19), ("D4", "success", 17)]
    with closing(sqlite3.connect(database)) as connection, connection:
        for name, status, ended in runs:
            times = (hours(ended + 1), hours(ended))
            row = (name, "W2", "P1", "gh/a/b", "deploy-production", "build", status, *times)
            columns = "id, _workflow_id, _pipeline_id, project_slug, name, type, status, started_at, stopped_at"
            connection.execute(f"INSERT INTO jobs ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)  # noqa: S608
    (found,) = read(database, NOW).answers.deployments
    assert (found.environment, found.succeeded, found.failed) == ("deploy-production", 2, 2)
    assert (list(found.lead_seconds), list(found.outages)) == ([3 * 3600], [3 * 3600])
