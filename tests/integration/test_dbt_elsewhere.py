"""Somebody else's dbt project uses the package: another database, rules, teams and models of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.circleci import Row
from tests.integration.models_package import copy_package, dbt, job, pipeline, query, workflow, write_tables

pytestmark = pytest.mark.skipif(
    sys.version_info >= (3, 13), reason="DuckDB 1.0, the last that the target gets right, needs Python < 3.13."
)
AT, END = "2026-03-02 08:00:00", "2026-03-02 08:01:00"
RULES = """priority,place,pattern,class,reason
1,output,database is locked,ours,the old database
"""
FIRST_CHART = "select class, count(*) as failures from {{ ref('circleci__failures') }} group by class\n"
FILES = {
    "packages.yml": "packages:\n  - local: ../package\n",
    "dbt_project.yml": """
name: analytics
version: 1.0.0
config-version: 2
profile: analytics
flags: {send_anonymous_usage_stats: false, require_ref_prefers_node_package_to_root: true}
models:
  circleci:
    +schema: ci
seeds:
  circleci:
    circleci_failure_rules: {+enabled: false}
    circleci_teams: {+enabled: false}
vars:
  circleci_database: lake
  circleci_schema: landing
  circleci_using_steps: true
  circleci_using_step_outputs: true
  circleci_using_usage: true
  circleci_using_tests: true
""",
    "profiles.yml": """
analytics:
  target: dev
  outputs:
    dev:
      type: duckdb
      path: analytics.duckdb
      threads: 2
      attach:
        - {path: lake.duckdb, alias: lake, read_only: true}
""",
    "seeds/circleci_failure_rules.csv": RULES,
    "seeds/circleci_teams.csv": "login,team\nada,web\n",
    "models/first_chart.sql": FIRST_CHART,
}


def test_a_project_of_somebody_else(tmp_path: Path):
    """From packages.yml to the first table, its own rules and teams are used, and missing streams are empty."""
    copy_package(tmp_path)
    project = tmp_path / "analytics"
    for name, content in FILES.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(content, encoding="utf-8")
    write_tables(project / "lake.duckdb", tables(), "landing")
    dbt(project, "deps", "--profiles-dir", ".")
    assert "ERROR=0 SKIP=0" in dbt(project, "build", "--profiles-dir", ".")
    database = project / "analytics.duckdb"
    assert query(database, "SELECT * FROM first_chart ORDER BY 1") == [
        {"class": "ours", "failures": 1},
        {"class": "unknown", "failures": 1},
    ]
    (reason,) = query(database, "SELECT reason, line FROM main_ci.circleci__failures WHERE class = 'ours'")
    assert reason == {"reason": "the old database", "line": "Error: Database is locked"}
    assert query(database, "SELECT team, credits FROM main_ci.circleci__change_costs") == [
        {"team": "web", "credits": 5.0}
    ]
    assert query(database, "SELECT * FROM main_ci.circleci__slow_tests") == []


def tables() -> dict[str, list[Row]]:
    """Two failed jobs, of which one left an output, and what one of them cost; no tests."""
    failed = {"status": "failed"}
    cost = {"pipeline_id": "P1", "workflow_id": "W1", "job_id": "J1", "total_credits": 5.0, "user_credits": 0.0}
    return {
        "pipelines": [pipeline("P1", AT)],
        "workflows": [workflow("W1", "P1", AT, END, **failed)],
        "jobs": [
            job("J1", "W1", "P1", AT, END, **failed),
            job("J2", "W1", "P1", AT, END, name="lint", **failed),
        ],
        "steps": [{"_job_id": "J1", "index": 0, "step": 1, "step_name": "Test", "exit_code": 1, "run_time_millis": 9}],
        "step_outputs": [{"_job_id": "J1", "index": 0, "step": 1, "output": "ok\nError: Database is locked\n"}],
        "usage": [{"organization_id": "1", "_date": "2026-03-02 00:00:00", "_id": "a", **cost}],
    }
