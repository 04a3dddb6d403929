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
from tests.circleci import Server
from tests.integration import warehouses
from tests.integration.conftest import LATER, NOW, lively_world
from tests.integration.programs import ROOT, virtualenv
from tests.integration.test_targets import prepare, sync
from tests.integration.warehouses import PostgresServer, Warehouse

pytestmark = pytest.mark.skipif(
    sys.version_info >= (3, 13), reason="DuckDB 1.0, the last that the target gets right, needs Python < 3.13."
)
PACKAGE = ROOT / "examples" / "dbt"
STAGING = PACKAGE / "models" / "staging"
ALL_STREAMS = sorted(path.stem for path in (ROOT / "tap_circleci" / "schemas").glob("*.json"))
BY_VERSIONS = {"circleci_using_deploy_components": True, "circleci_using_deploy_versions": True}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package, as dbt writes beside what it reads."""
    written = shutil.ignore_patterns("target", "logs", "dbt_packages")
    return Path(shutil.copytree(PACKAGE, tmp_path / "package", ignore=written))


def dbt(folder: Path, *words: str, **settings: object) -> str:
    """Run dbt in a folder, and give what it printed; settings become environment variables."""
    programs = virtualenv("dbt", "dbt-core==1.11.16", "dbt-duckdb==1.10.1", "dbt-postgres==1.10.2", "duckdb==1.0.0")
    environment = {**os.environ, **{name: str(value) for name, value in settings.items()}}
    command = [programs / "dbt", "--no-use-colors", "--no-partial-parse", *words]
    done = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    return done.stdout


def build(
    folder: Path, where: Mapping[str, Any], profiles: str = ".", variables: Mapping[str, Any] | None = None
) -> str:
    """`dbt build` on a warehouse; every test must pass, and none may be skipped."""
    target = "postgres" if "PGPORT" in where else "duckdb"
    words = ["--profiles-dir", profiles, "--target", target, "--vars", json.dumps(variables or {})]
    printed = dbt(folder, "build", *words, **where)
    assert re.search(r"PASS=\d{2,} WARN=0 ERROR=0 SKIP=0", printed), printed[-2000:]
    return printed


def switches(package: Path) -> list[str]:
    """The variables that say that a stream is loaded."""
    return re.findall(r"circleci_using_\w+", (package / "dbt_project.yml").read_text(encoding="utf-8"))


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
    """Every metric is what it should be: reruns, approvals, never run, running, time zones, duplicates."""
    if target == "postgres":
        where = request.getfixturevalue("postgres_server").environment("small_versions" if variables else "small")
    else:
        where = {"DUCKDB_PATH": tmp_path / "small.duckdb"}
    dbt(package / "integration_tests", "deps", "--profiles-dir", "..")
    build(package / "integration_tests", where, "..", variables)


def test_streams_without_a_table_are_empty(package, tmp_path, postgres_server: PostgresServer):
    """With every stream switched on and nothing loaded, everything builds, and is empty."""
    variables = dict.fromkeys(switches(package), True)
    assert "There is no table" in build(package, {"DUCKDB_PATH": tmp_path / "none.duckdb"}, variables=variables)
    assert "There is no table" in build(package, postgres_server.environment("none"), variables=variables)


@pytest.mark.parametrize("target", ["duckdb", "postgres"])
def test_it_reads_every_stream_as_targets_store_it(target, package, tmp_path, request):
    """A row of each stream, whatever columns the target makes of its types, comes through staging, typed."""
    if target == "postgres":
        server = request.getfixturevalue("postgres_server")
        warehouse, where = warehouses.postgres(tmp_path, server, "samples"), server.environment("samples")
    else:
        warehouse, where = warehouses.duckdb(tmp_path), {"DUCKDB_PATH": tmp_path / "warehouse.duckdb"}
    messages = "".join(line for name in ALL_STREAMS for line in sample(name))
    subprocess.run(warehouse.command, input=messages, check=True, capture_output=True, encoding="utf-8")
    build(package, where, variables=dict.fromkeys(switches(package), True))
    for name in ALL_STREAMS:
        (row,) = warehouse.read(f"stg_circleci__{name}")
        assert [column for column, value in row.items() if value is None] == [], name
    (run,) = warehouse.read("circleci__job_runs")
    assert run["queue_seconds"] == 0


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


@pytest.mark.parametrize("stream", ALL_STREAMS)
def test_staging_names_every_column(stream):
    """The staging model of each stream has every field of its schema, and its key."""
    model = (STAGING / f"stg_circleci__{stream}.sql").read_text(encoding="utf-8")
    columns = re.findall(r"^    '(\w+)': '", model, re.MULTILINE)
    assert set(columns) == {name.replace("-", "_") for name in schema_of(stream)["properties"]}
    (key,) = re.findall(r"key=\[(.*?)\]", model)
    if stream in STREAMS:
        assert re.findall(r"'(\w+)'", key) == [name.replace("-", "_") for name in STREAMS[stream].key]
