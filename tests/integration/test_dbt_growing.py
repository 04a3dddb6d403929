"""Tables that are built by key hold what a full build holds, and costs are neither lost nor counted twice."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.circleci import Row
from tests.integration.models_package import build, copy_package, job, pipeline, query, workflow, write_tables

pytestmark = pytest.mark.skipif(
    sys.version_info >= (3, 13), reason="DuckDB 1.0, the last that the target gets right, needs Python < 3.13."
)
LOADED = dict.fromkeys(
    ("circleci_using_usage", "circleci_using_steps", "circleci_using_builds", "circleci_using_step_outputs"), True
)
GROWING = ("circleci__job_runs", "circleci__step_runs", "int_circleci__run_costs")
SHOP, FIRST, LAST, SECOND = "gh/acme/shop", "2026-03-02 20:00:00", "2026-03-06 20:00:00", "2026-03-09 20:00:00"
Tables = dict[str, list[Row]]


def clock(minute: int) -> str:
    """The time so many minutes after the beginning of the world."""
    day, rest = divmod(minute, 24 * 60)
    return f"2026-03-{2 + day:02} {rest // 60:02}:{rest % 60:02}:00"


def usage(identifier: str, credits_used: float, **fields: Any) -> Row:
    """A row of usage of the shop."""
    row = {"organization_id": "1", "_date": "2026-03-02 00:00:00", "_id": identifier, "project_id": "1"}
    return {**row, "project_name": "shop", "total_credits": credits_used, "user_credits": 0.0, **fields}


def random_world(chance: random.Random) -> Tables:
    """Pipelines with reruns, pull requests and failures; usage with and without all of what it could be joined to."""
    tables: Tables = {
        name: [] for name in ("pipelines", "workflows", "jobs", "usage", "builds", "steps", "step_outputs")
    }
    for number in range(40):
        at, name = number * 25, f"P{number}"
        branch = chance.choice(["main", "fix", "feature", None])
        more = chance.choice([{}, {"tag": "v1"}, {"review_url": "https://example/7"}])
        login = chance.choice(["ada", "bob", "", "Cleo"])
        tables["pipelines"].append(pipeline(name, clock(at), branch=branch, login=login, **more))
        for rerun in range(chance.choice([1, 1, 2, 3])):
            begun, ended = clock(at + 5 * rerun), clock(at + 5 * rerun + 3)
            status, key = chance.choice(["success", "failed", "canceled"]), f"W{number}-{rerun}"
            by = chance.choice([None, "u-ada", "u-bob"])
            tables["workflows"].append(workflow(key, name, begun, ended, status=status, started_by=by))
            run = f"J{number}-{rerun}"
            tables["jobs"].append(job(run, key, name, begun, ended, status=status))
            tables["steps"] += steps(run, begun, ended, status)
            requests = chance.choice(
                [[], ["https://example/pull/1"], ["https://example/pull/2", "https://example/pull/1"]]
            )
            links = {"workflow_id": key, "job_id": run, "pull_request_urls": requests, "queued_at": begun}
            tables["builds"].append({"_project_slug": SHOP, "build_num": 10 * number + rerun, **links})
            for copy in range(chance.choice([0, 1, 1, 2])):
                known = {"pipeline_id": name, "workflow_id": key, "job_id": run, "vcs_branch": branch}
                told = {column: value for column, value in known.items() if chance.random() < 0.9}
                tables["usage"].append(usage(f"{run}-{copy}", chance.randrange(1, 999) / 8, **told))
    tables["usage"].append(usage("seats", 25000.0, user_credits=25000.0, project_id=None, project_name=None))
    tables["usage"].append(usage("gone", 3.5, pipeline_id="gone", workflow_id="gone", job_id="gone"))
    tables["step_outputs"].append({"_job_id": "J0-0", "index": 0, "step": 101, "output": "no"})
    # The last row of each table came days after the others: those are not due any more in the next build.
    return {
        name: [{**row, "_sdc_batched_at": LAST if row is rows[-1] else FIRST} for row in rows]
        for name, rows in tables.items()
    }


def steps(run: str, begun: str, ended: str, status: str) -> list[Row]:
    """Two parallel runs of a step, of which the second may have failed."""
    code = int(status == "failed")
    step = {"_job_id": run, "step": 101, "step_name": "Test", "start_time": begun, "end_time": ended}
    return [
        {**step, "index": index, "run_time_millis": 900 * (index + 1), "exit_code": index * code} for index in (0, 1)
    ]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package in which three logins have teams, one of them two."""
    folder = copy_package(tmp_path)
    (folder / "seeds" / "circleci_teams.csv").write_text("login,team\nada,web\nADA,zeta\ncleo,ops\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("seed", [1, 2])
def test_every_view_of_costs_sums_to_usage(seed, package, tmp_path):
    """By day and job, by change, by rerun: no credit is lost or counted twice, on random worlds."""
    database, tables = tmp_path / "random.duckdb", random_world(random.Random(seed))
    write_tables(database, tables)
    build(package, {"DUCKDB_PATH": database}, variables=LOADED)
    paid = sum(row["total_credits"] - row["user_credits"] for row in tables["usage"])
    sums = {
        "circleci__costs": "sum(billed_credits) AS credits, sum(user_credits) AS seats",
        "circleci__change_costs": "sum(credits) AS credits, sum(user_credits) AS seats",
        "int_circleci__run_costs": "sum(credits) AS credits, sum(user_credits) AS seats",
    }
    for model, columns in sums.items():
        (row,) = query(database, f"SELECT {columns} FROM {model}")  # noqa: S608 - our own names
        assert row == {"credits": pytest.approx(paid), "seats": 25000.0}, model
    (reruns,) = query(database, "SELECT sum(credits) AS credits FROM circleci__rerun_costs")
    (changes,) = query(database, "SELECT sum(rerun_credits) AS credits FROM circleci__change_costs")
    assert reruns == {"credits": pytest.approx(changes["credits"])}
    assert changes["credits"] > 0


def later(tables: Tables) -> Tables:
    """The world a week on: late usage and steps, a rerun, a job that has ended, a person and a request known by now."""

    def now(*rows: Row) -> list[Row]:
        return [{**row, "_sdc_batched_at": SECOND} for row in rows]

    grown = {name: list(rows) for name, rows in tables.items()}
    grown["usage"][0] = {**now(grown["usage"][0])[0], "total_credits": 77.0}
    grown["usage"] += now(
        usage("late", 9.0, pipeline_id="P3", workflow_id="W3-0", job_id="J3-0", resource_class="large")
    )
    at, end = clock(7 * 24 * 60), clock(7 * 24 * 60 + 2)
    grown["workflows"] += now(workflow("W5-late", "P5", at, end, started_by="u-bob"))
    grown["jobs"] += now(
        job("J5-late", "W5-late", "P5", at, end), {**grown["jobs"][5], "_workflow_id": "W5-late", "_pipeline_id": "P5"}
    )
    grown["jobs"][0] = {**now(grown["jobs"][0])[0], "status": "timedout"}
    grown["steps"] += now(*steps("J5-late", at, end, "failed"))
    grown["steps"][0] = {**now(grown["steps"][0])[0], "run_time_millis": 99_000}
    # Context of rows that were not loaded again: whose ids these are, what the project is called.
    grown["pipelines"] += now(pipeline("P-new", at, login="bob"))
    grown["workflows"] += now(workflow("W-new", "P-new", at, end, started_by="u-bob"))
    grown["project"] = now({"id": "1", "organization_id": "1", "slug": SHOP, "name": "The Shop"})
    return grown


def test_incremental_builds_equal_full_ones(package, tmp_path):
    """After late rows and reruns, a build on top of the last one holds the rows of a build from nothing."""
    grown, full = tmp_path / "grown.duckdb", tmp_path / "full.duckdb"
    first = random_world(random.Random(3))
    words = ["--select", *(f"+{model}" for model in GROWING)]
    write_tables(grown, first)
    build(package, {"DUCKDB_PATH": grown}, variables=LOADED, words=words)
    before = rows_of(grown)
    for database in (grown, full):
        write_tables(database, later(first))
        build(package, {"DUCKDB_PATH": database}, variables=LOADED, words=words)
    after, wanted = rows_of(grown), rows_of(full)
    assert all(before[model] != wanted[model] for model in GROWING)
    for model in GROWING:
        assert after[model] == wanted[model], model


def rows_of(database: Path) -> dict[str, list[Row]]:
    """The rows of the tables that grow, in the order of their keys."""
    statement = "SELECT * FROM {} ORDER BY ALL"
    return {model: query(database, statement.format(model)) for model in GROWING}
