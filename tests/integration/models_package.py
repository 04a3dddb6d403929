"""Runs the dbt package in examples/ as its users do: in a copy of it, with dbt in a virtualenv of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.circleci import Row
from tests.integration.programs import ROOT, Command, virtualenv

PACKAGE = ROOT / "examples" / "dbt"
CORE = "dbt-core==1.11.16"

#: Makes tables of rows that come as JSON by table, each column of the type of its first value.
WRITE = """
import duckdb, json, sys
connection = duckdb.connect(sys.argv[1])
connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{sys.argv[2]}"; USE "{sys.argv[2]}"')
for name, rows in json.load(sys.stdin).items():
    columns = list({column: None for row in rows for column in row})
    def kind(column):
        value = next((row[column] for row in rows if row.get(column) is not None), "")
        kinds = ((bool, "BOOLEAN"), (int, "BIGINT"), (float, "DOUBLE"), ((dict, list), "JSON"))
        return next((sql for python, sql in kinds if isinstance(value, python)), "VARCHAR")
    def cell(value):
        return json.dumps(value) if isinstance(value, (dict, list)) else value
    shape = ", ".join(f'"{column}" {kind(column)}' for column in columns)
    connection.execute(f'CREATE OR REPLACE TABLE "{name}" ({shape})')
    marks = ", ".join("?" * len(columns))
    connection.executemany(
        f'INSERT INTO "{name}" VALUES ({marks})', [[cell(row.get(column)) for column in columns] for row in rows]
    )
"""
QUERY = """
import duckdb, json, sys
result = duckdb.connect(sys.argv[1], read_only=True).execute(sys.argv[2])
names = [column[0] for column in result.description]
print(json.dumps([dict(zip(names, row)) for row in result.fetchall()], default=str))
"""


def programs() -> Path:
    """The folder of dbt and Python with DuckDB and PostgreSQL."""
    return virtualenv("dbt", CORE, "dbt-duckdb==1.10.1", "dbt-postgres==1.10.2", "duckdb==1.0.0")


def copy_package(folder: Path) -> Path:
    """A copy of the package, as dbt writes beside what it reads."""
    written = shutil.ignore_patterns("target", "logs", "dbt_packages")
    return Path(shutil.copytree(PACKAGE, folder / "package", ignore=written))


def run_dbt(
    folder: Path, *words: str, command: Command | None = None, **settings: object
) -> subprocess.CompletedProcess[str]:
    """Run dbt in a folder; settings become environment variables."""
    environment = {**os.environ, **{name: str(value) for name, value in settings.items()}}
    line = [*(command or [programs() / "dbt"]), "--no-use-colors", "--no-partial-parse", *words]
    return subprocess.run(line, cwd=folder, env=environment, check=False, capture_output=True, encoding="utf-8")


def dbt(folder: Path, *words: str, command: Command | None = None, **settings: object) -> str:
    """Run dbt in a folder to a good end, and give what it printed."""
    done = run_dbt(folder, *words, command=command, **settings)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    return done.stdout


def build(
    folder: Path,
    where: Mapping[str, Any],
    profiles: str = ".",
    variables: Mapping[str, Any] | None = None,
    words: Sequence[str] = (),
) -> str:
    """`dbt build` on a warehouse; every test must pass, and none may be skipped."""
    target = "postgres" if "PGPORT" in where else "duckdb"
    options = ["--profiles-dir", profiles, "--target", target, "--vars", json.dumps(variables or {})]
    printed = dbt(folder, "build", *options, *words, **where)
    assert re.search(r"PASS=\d{2,} WARN=0 ERROR=0 SKIP=0", printed), printed[-2000:]
    return printed


def switches() -> dict[str, bool]:
    """The variables that say that a stream is loaded, all on."""
    names = re.findall(r"circleci_using_\w+", (PACKAGE / "dbt_project.yml").read_text(encoding="utf-8"))
    return dict.fromkeys(names, True)


def write_tables(database: Path, tables: Mapping[str, Sequence[Row]], schema: str = "main") -> None:
    """Make tables in a DuckDB file, as a target would have."""
    script: Command = [programs() / "python", "-c", WRITE, database, schema]
    subprocess.run(script, input=json.dumps(tables), check=True, encoding="utf-8")


def query(database: Path, statement: str) -> list[Row]:
    """The rows that a statement gives from a DuckDB file."""
    script: Command = [programs() / "python", "-c", QUERY, database, statement]
    return json.loads(subprocess.run(script, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout)


def pipeline(identifier: str, at: str = "2026-03-02 08:00:00", **fields: Any) -> Row:
    """A row of pipelines, by default on the branch main, of a commit of its own; `vcs` fields are given by name."""
    vcs = {"branch": "main", "revision": f"commit of {identifier}"}
    vcs |= {name: fields.pop(name) for name in ("branch", "revision", "tag", "review_url") if name in fields}
    actor = {"login": fields.pop("login", "ada")}
    row = {"id": identifier, "project_slug": "gh/acme/shop", "number": 1, "state": "created", "created_at": at}
    return {**row, "trigger": {"type": "webhook", "actor": actor}, "vcs": vcs, **fields}


def workflow(identifier: str, pipeline_id: str, at: str, stopped_at: str | None, **fields: Any) -> Row:
    """A row of workflows, by default of a build that succeeded."""
    row = {"id": identifier, "pipeline_id": pipeline_id, "project_slug": "gh/acme/shop", "name": "build"}
    return {**row, "status": "success", "created_at": at, "stopped_at": stopped_at, "started_by": None, **fields}


def job(identifier: str, workflow_id: str, pipeline_id: str, at: str, stopped_at: str | None, **fields: Any) -> Row:
    """A row of jobs, by default of unit tests that succeeded."""
    row = {"id": identifier, "_workflow_id": workflow_id, "_pipeline_id": pipeline_id, "project_slug": "gh/acme/shop"}
    run = {"name": "unit", "type": "build", "status": "success", "job_number": 1}
    return {**row, **run, "started_at": at, "stopped_at": stopped_at, **fields}
