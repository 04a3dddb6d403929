"""The dbt package in examples/ builds on what real targets load, and computes what was worked out by hand."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tap_circleci.discover import schema_of
from tap_circleci.streams import STREAMS
from tests.circleci import Row, Server
from tests.integration import warehouses
from tests.integration.conftest import LATER, NOW, lively_world
from tests.integration.models_package import (
    PACKAGE,
    build,
    copy_package,
    dbt,
    job,
    pipeline,
    query,
    run_dbt,
    switches,
    workflow,
    write_tables,
)
from tests.integration.programs import ROOT, TAP, write_json
from tests.integration.test_targets import prepare, sync
from tests.integration.warehouses import PostgresServer, Warehouse
from tests.tap import config_for

pytestmark = pytest.mark.skipif(
    sys.version_info >= (3, 13), reason="DuckDB 1.0, the last that the target gets right, needs Python < 3.13."
)
ALL_STREAMS = sorted(path.stem for path in (ROOT / "tap_circleci" / "schemas").glob("*.json"))
BY_VERSIONS = {"circleci_using_deploy_components": True, "circleci_using_deploy_versions": True}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package."""
    return copy_package(tmp_path)


def check_marts(warehouse: Warehouse) -> None:
    """The marts agree with the tables that they were built from."""
    read = {name: warehouse.read(name) for name in ("pipelines", "workflows", "jobs")}
    runs = warehouse.read("circleci__workflow_runs")
    jobs = warehouse.read("circleci__job_runs")
    days = warehouse.read("circleci__daily")
    assert {row["workflow_id"]: row["status"] for row in runs} == {
        row["id"]: row["status"] for row in read["workflows"]
    }
    assert len(warehouse.read("circleci__pipeline_runs")) == len(read["pipelines"])
    assert {row["job_id"] for row in jobs} == {row["id"] for row in read["jobs"]}
    assert len(jobs) < len(read["jobs"]), "a rerun from failed lists jobs again"
    assert sum(row["runs"] for row in days) == len(runs)
    assert any(row["is_rerun_from_failed"] for row in runs)
    assert {row["project"] for row in runs} == {"api", "infrastructure", "notebooks", "robots", "web-shop"}
    assert {row["environment"] for row in warehouse.read("circleci__dora")} >= {"deploy-production", "deploy-staging"}
    assert warehouse.read("circleci__flaky_jobs")


def build_twice(package: Path, folder: Path, warehouse: Warehouse, where: Mapping[str, Any]) -> None:
    """Sync and build, let six hours pass, sync what is new and build again."""
    with Server(lively_world(NOW)) as server:
        prepare(server, folder)
        sync(folder, warehouse)
        build(package, where)
        check_marts(warehouse)
        before = {row["workflow_id"]: row["result"] for row in warehouse.read("circleci__workflow_runs")}
        server.world.advance(LATER)
        passed = sync(folder, warehouse)
        build(package, where)
        check_marts(warehouse)
        after = {row["workflow_id"]: row["result"] for row in warehouse.read("circleci__workflow_runs")}
    assert passed["jobs"] < len(warehouse.read("jobs")) / 4
    assert after.keys() > before.keys()
    assert any(before[key] is None and after[key] == "success" for key in before)


def test_it_builds_on_duckdb(package, tmp_path):
    """tap, target-duckdb and `dbt build`, twice: all tests of the package pass on what was loaded."""
    warehouse = warehouses.duckdb(tmp_path)
    build_twice(package, tmp_path, warehouse, {"DUCKDB_PATH": tmp_path / "warehouse.duckdb"})


def test_it_builds_on_postgresql(package, tmp_path, postgres_server: PostgresServer):
    """tap, target-postgres and `dbt build`, twice: all tests of the package pass on what was loaded."""
    warehouse = warehouses.postgres(tmp_path, postgres_server, "models")
    build_twice(package, tmp_path, warehouse, postgres_server.environment("models"))


@pytest.mark.parametrize("variables", [{}, BY_VERSIONS], ids=["by job names", "by deploy versions"])
@pytest.mark.parametrize("target", ["duckdb", "postgres"])
def test_it_computes_what_was_worked_out_by_hand(target, variables, package, tmp_path, request):
    """Every metric has its value: with reruns, approvals, running and never-run jobs, time zones and duplicates."""
    if target == "postgres":
        where = request.getfixturevalue("postgres_server").environment("small_versions" if variables else "small")
    else:
        where = {"DUCKDB_PATH": tmp_path / "small.duckdb"}
    dbt(package / "integration_tests", "deps", "--profiles-dir", "..")
    build(package / "integration_tests", where, "..", variables)


def test_streams_without_a_table_are_empty(package, tmp_path):
    """With every stream switched on and only the three that everybody has loaded, everything builds."""
    database = tmp_path / "few.duckdb"
    write_tables(database, a_run())
    assert "There is no table" in build(package, {"DUCKDB_PATH": database}, variables=switches())
    assert len(query(database, "SELECT * FROM circleci__job_runs")) == 1


@pytest.mark.parametrize("missing", ["pipelines", "workflows", "jobs"])
def test_a_wrong_schema_is_an_error(missing, package, tmp_path):
    """Without one of the tables that everybody has, as after a typo in circleci_schema, the build fails."""
    tables = a_run()
    del tables[missing]
    write_tables(tmp_path / "wrong.duckdb", tables)
    done = run_dbt(package, "build", "--profiles-dir", ".", DUCKDB_PATH=tmp_path / "wrong.duckdb")
    assert done.returncode == 1
    assert f'There is no table "wrong"."main"."{missing}", which these models need. Set circleci_schema' in done.stdout


def a_run() -> dict[str, list[Row]]:
    """A pipeline of one job."""
    at, end = "2026-03-02 08:00:00", "2026-03-02 08:01:00"
    return {
        "pipelines": [pipeline("P1", at)],
        "workflows": [workflow("W1", "P1", at, end)],
        "jobs": [job("J1", "W1", "P1", at, end)],
    }


def deployments() -> dict[str, list[Row]]:
    """Deployments of the default branch, of a tag, of a feature's branch, and previews; the default branch is trunk."""
    at, end = "2026-03-02 08:00:00", "2026-03-02 08:01:00"
    pushes = {
        "P1": ({"branch": "trunk"}, ["deploy-production", "deploy-preview"]),
        "P2": ({"branch": None, "tag": "v1"}, ["publish-image"]),
        "P3": ({"branch": "feature/a"}, ["deploy-preview", "deploy-staging"]),
        "P4": ({"branch": "main"}, ["deploy-production"]),
    }
    names = [(key, name) for key, (_, jobs) in pushes.items() for name in jobs]
    project = {"id": "1", "organization_id": "1", "slug": "gh/acme/shop", "name": "shop"}
    return {
        "project": [{**project, "vcs_info": {"default_branch": "trunk"}}],
        "pipelines": [pipeline(key, at, **vcs) for key, (vcs, _) in pushes.items()],
        "workflows": [workflow(f"W-{key}", key, at, end) for key in pushes],
        "jobs": [job(f"{key} {name}", f"W-{key}", key, at, end, name=name) for key, name in names],
    }


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({}, ["P1 deploy-production", "P2 publish-image"]),
        (BY_VERSIONS, ["P1 deploy-production", "P2 publish-image"]),
        ({"circleci_deployment_branch": "^(trunk|main)$"}, ["P1 deploy-production", "P4 deploy-production"]),
        ({"circleci_deployment_environment": "production"}, ["P1 deploy-production"]),
        ({"circleci_no_deployment_environment": "production"}, ["P1 deploy-preview", "P2 publish-image"]),
    ],
    ids=["by default", "deploy_versions has no rows", "branch", "environment", "no environment"],
)
def test_what_counts_as_a_deployment(variables, found, package, tmp_path):
    """By default jobs on the default branch and on tags, without previews, also when deploy_versions is empty."""
    database = tmp_path / "deployments.duckdb"
    write_tables(database, deployments())
    build(package, {"DUCKDB_PATH": database}, variables=variables, words=["--select", "+circleci__dora"])
    rows = query(database, "SELECT deployment_id FROM circleci__deployments ORDER BY 1")
    assert [row["deployment_id"] for row in rows] == found
    (sums,) = query(database, "SELECT sum(deployments) AS all, count(change_failure_rate) AS rates FROM circleci__dora")
    assert sums == {"all": len(found), "rates": 0}


@pytest.mark.parametrize("target", ["duckdb", "postgres"])
def test_it_reads_every_stream_as_targets_store_it(target, package, tmp_path, request):
    """A row of each stream passes through staging with its types, as each target stores them."""
    if target == "postgres":
        server = request.getfixturevalue("postgres_server")
        warehouse, where = warehouses.postgres(tmp_path, server, "samples"), server.environment("samples")
    else:
        warehouse, where = warehouses.duckdb(tmp_path), {"DUCKDB_PATH": tmp_path / "warehouse.duckdb"}
    messages = "".join(line for name in ALL_STREAMS for line in sample(name))
    subprocess.run(warehouse.command, input=messages, check=True, capture_output=True, encoding="utf-8")
    build(package, where, variables=switches())
    for name in ALL_STREAMS:
        (row,) = warehouse.read(f"stg_circleci__{name}")
        # Not every target tells when it loaded a row.
        assert {column for column, value in row.items() if value is None} <= {"loaded_at"}, name
    (run,) = warehouse.read("circleci__job_runs")
    assert run["queue_seconds"] == 0
    if target == "duckdb":
        check_descriptions(package, where)


def check_descriptions(package: Path, where: Mapping[str, Any]) -> None:
    """Every column of every view and mart that users see is described, and nothing else is."""
    words = ["docs", "generate", "--profiles-dir", ".", "--vars", json.dumps(switches())]
    dbt(package, *words, **where)
    built = json.loads((package / "target" / "catalog.json").read_text(encoding="utf-8"))["nodes"]
    known = json.loads((package / "target" / "manifest.json").read_text(encoding="utf-8"))["nodes"]
    shown = [name for name in built if name.startswith("model.") and not name.startswith("model.circleci.int_")]
    assert len(shown) > 50
    for name in shown:
        described = {column.lower() for column, told in known[name]["columns"].items() if told["description"]}
        assert described == {column.lower() for column in built[name]["columns"]}, name


def sample(name: str) -> list[str]:
    """Singer messages with one row of a stream, in which every text is the same, so that all keys fit."""
    schema = schema_of(name)
    key = list(STREAMS[name].key if name in STREAMS else schema["properties"])[:3]
    messages = (
        {"type": "SCHEMA", "stream": name, "schema": schema, "key_properties": key},
        {"type": "RECORD", "stream": name, "record": value_of(schema)},
    )
    return [json.dumps(message) + "\n" for message in messages]


def value_of(schema: Mapping[str, Any]) -> Any:
    """A value of a schema's type."""
    kinds = set(schema["type"]) - {"null"} if isinstance(schema["type"], list) else {schema["type"]}
    (kind,) = kinds
    if kind == "object":
        return {name: value_of(inner) for name, inner in schema.get("properties", {"free": {"type": "string"}}).items()}
    if kind == "array":
        return [value_of(schema["items"])]
    if schema.get("format") == "date-time":
        return "2026-03-02T08:00:00.000000Z"
    return {"string": "same", "integer": 1, "number": 1.5, "boolean": True}[kind]


def test_the_commands_of_its_readme_work(tmp_path):
    """From nothing but a clone, a config and the tap on the PATH to a table of days, as the page has it."""
    shutil.copytree(PACKAGE, tmp_path / "examples" / "dbt", ignore=shutil.ignore_patterns("target", "logs"))
    (block,) = re.findall(r"<!-- dbt -->\n```sh\n(.*?)```", (PACKAGE / "README.md").read_text("utf-8"), re.DOTALL)
    with Server(lively_world(NOW)) as server:
        write_json(tmp_path / "config.json", config_for(server))
        environment = {**os.environ, "PATH": os.pathsep.join([str(TAP.parent), os.environ["PATH"]])}
        command = ["bash", "-euo", "pipefail", "-c", block]
        done = subprocess.run(command, cwd=tmp_path, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    assert "| build-test" in done.stdout
