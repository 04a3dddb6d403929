"""The same results on the warehouses that people have: run where a stand-in exists, else compiled and parsed."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tap_circleci.discover import schema_of
from tests.integration.models_package import CORE, PACKAGE, copy_package, dbt, switches
from tests.integration.programs import ROOT, Command, debian, virtualenv

ALL_STREAMS = sorted(path.stem for path in (ROOT / "tap_circleci" / "schemas").glob("*.json"))
COMPILE = Path(__file__).with_name("compile_dbt.py")

#: How a target stores the types of the schemas.
BIGQUERY = {"string": "STRING", "date-time": "TIMESTAMP", "integer": "INT64", "number": "FLOAT64", "boolean": "BOOL"}
REDSHIFT = {
    "string": "character varying(65535)",
    "date-time": "timestamp with time zone",
    "integer": "bigint",
    "number": "double precision",
    "boolean": "boolean",
}
STORED = {"bigquery": {**BIGQUERY, "nested": "JSON"}, "redshift": {**REDSHIFT, "nested": "super"}}
#: Functions that the dialect of sqlglot has no node for; each is in the warehouse's manual.
KNOWN = {"bigquery": set(), "redshift": {"json_extract_array_element_text", "json_serialize"}}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The package's own tests: two small worlds with every metric worked out by hand."""
    return copy_package(tmp_path) / "integration_tests"


def check(folder: Path, target: str, command: Command, **settings: object) -> None:
    """Every model builds, and holds what was worked out by hand."""
    dbt(folder, "deps", "--profiles-dir", "..", command=command, **settings)
    printed = dbt(folder, "build", "--profiles-dir", "..", "--target", target, command=command, **settings)
    found = re.search(r"PASS=(\d+) WARN=0 ERROR=0 SKIP=0", printed)
    assert found, printed[-2000:]
    assert int(found[1]) > 200


def test_it_computes_the_same_on_snowflake(project, tmp_path):
    """On fakesnow, a stand-in that understands Snowflake's SQL."""
    programs = virtualenv("dbt-snowflake", CORE, "dbt-snowflake==1.12.4", "fakesnow==0.12.1")
    (tmp_path / "snowflake").mkdir()
    command = [programs / "fakesnow", "--db_path", tmp_path / "snowflake", "--module", "dbt.cli.main"]
    account = {"SNOWFLAKE_ACCOUNT": "fakesnow", "SNOWFLAKE_USER": "fake", "SNOWFLAKE_PASSWORD": "snow"}
    check(project, "snowflake", command, **account)


def test_it_computes_the_same_on_spark(project):
    """In a Spark session of its own, as Databricks has it too."""
    debian(partial(shutil.which, "java"), "default-jre-headless")
    programs = virtualenv("dbt-spark", CORE, "dbt-spark[session]==1.11.0", "pyspark==4.3.0")
    check(project, "spark", [programs / "dbt"])


@pytest.mark.parametrize("warehouse", ["bigquery", "redshift"])
def test_it_compiles_and_parses(warehouse, tmp_path):
    """With every stream loaded, each model and test is a statement of that warehouse's dialect."""
    folder = copy_package(tmp_path)
    adapters = ("dbt-bigquery==1.12.1", "dbt-redshift==1.11.2", "sqlglot==30.30.0")
    programs = virtualenv("dbt-parsed", CORE, *adapters)
    with (PACKAGE / "seeds" / "circleci_failure_rules.csv").open(encoding="utf-8", newline="") as file:
        rules = list(csv.DictReader(file))
    tables = {name: stored(schema_of(name)["properties"], STORED[warehouse]) for name in ALL_STREAMS}
    words = [warehouse, warehouse, "--profiles-dir", ".", "--vars", json.dumps(switches())]
    done = subprocess.run(
        [programs / "python", COMPILE, *words],
        cwd=folder,
        env={**os.environ, "BIGQUERY_PROJECT": "acme"},
        input=json.dumps({"tables": tables, "rules": rules}),
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    parsed = json.loads(done.stdout.splitlines()[-1])
    models = {path.stem for path in (PACKAGE / "models").rglob("*.sql")}
    assert models <= {Path(path).stem for path in parsed}
    assert {name for names in parsed.values() for name in names} <= KNOWN[warehouse]


def stored(properties: Mapping[str, Any], kinds: Mapping[str, str]) -> dict[str, str]:
    """The columns of a table; hyphens become underscores, as BigQuery takes no others."""
    return {name.replace("-", "_"): kinds[kind(field)] for name, field in properties.items()} | {
        "_sdc_batched_at": kinds["date-time"]
    }


def kind(field: Mapping[str, Any]) -> str:
    """The one type of a field: nested for objects and lists, date-time for those."""
    names = set(field["type"] if isinstance(field["type"], list) else [field["type"]]) - {"null"}
    (name,) = names
    return "nested" if name in ("object", "array") else field.get("format", name)
