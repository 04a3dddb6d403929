"""What real targets write, read back in one shape."""

from __future__ import annotations

import ast
import csv
import json
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tap_circleci.discover import schema_of
from tap_circleci.values.times import lenient
from tests.circleci import Row
from tests.integration.programs import Command, virtualenv, write_json
from tests.integration.targets import TARGETS, Target


@dataclass(frozen=True)
class Warehouse:
    """A target with its config: the command that loads, and how the rows of a table are read back in their order."""

    target: Target
    command: Command
    read: Callable[[str], list[Row]]

    @property
    def keeps_the_last_run_only(self) -> bool:
        """Whether only what the last run wrote can be read back."""
        return self.target.keeps in ("last", "sent")


@dataclass(frozen=True)
class PostgresServer:
    """Where PostgreSQL listens."""

    port: int
    psql: Path

    def query(self, statement: str) -> list[str]:
        """The lines that a statement gives."""
        connect = ["--host=127.0.0.1", f"--port={self.port}", "--username=postgres", "--dbname=postgres"]
        command = [self.psql, *connect, "--no-psqlrc", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]
        done = subprocess.run(
            [*command, f"--command={statement}"], check=True, stdout=subprocess.PIPE, encoding="utf-8"
        )
        return [line for line in done.stdout.split("\n") if line]

    def environment(self, schema: str) -> Row:
        """The environment variables that lead to a schema."""
        connect = {"PGHOST": "127.0.0.1", "PGPORT": self.port, "PGUSER": "postgres", "PGPASSWORD": "none"}
        return {**connect, "PGDATABASE": "postgres", "PGSCHEMA": schema}

    def rows(self, schema: str, table: str) -> list[Row]:
        """The rows of a table."""
        statement = f'SELECT row_to_json(it) FROM {schema}."{table}" AS it'  # noqa: S608 - our own names
        return [json.loads(line) for line in self.query(statement)]


def jsonl(folder: Path) -> Warehouse:
    """JSON lines, to which every run appends."""
    data = folder / "jsonl"
    data.mkdir()
    config = write_json(folder / "target.json", {"destination_path": str(data), "do_timestamp_file": False})
    target = TARGETS["jsonl"]
    program = virtualenv("target-jsonl", *target.packages) / "target-jsonl"
    return Warehouse(target, [program, "--config", config], lambda name: json_lines(data / f"{name}.jsonl"))


def csv_files(folder: Path) -> Warehouse:
    """CSV files, which every run writes anew."""
    data = folder / "csv"
    settings = {"output_path": str(data), "file_naming_scheme": "{stream_name}.csv"}
    config = write_json(folder / "target.json", settings)
    target = TARGETS["csv"]
    program = virtualenv("target-csv", *target.packages) / "target-csv"

    def read(name: str) -> list[Row]:
        csv.field_size_limit(10**9)
        with (data / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            return [{column: value or None for column, value in row.items()} for row in csv.DictReader(file)]

    return Warehouse(target, [program, "--config", config], read)


def duckdb(folder: Path) -> Warehouse:
    """A DuckDB file."""
    database = folder / "warehouse.duckdb"
    settings = {"path": str(database), "default_target_schema": "main", "primary_key_required": False}
    config = write_json(folder / "target.json", settings)
    target = TARGETS["duckdb"]
    programs = virtualenv("target-duckdb", *target.packages)
    script = (
        "import duckdb, json, sys\n"
        "table = duckdb.connect(sys.argv[1], read_only=True).execute(f'SELECT * FROM \"{sys.argv[2]}\"')\n"
        "names = [column[0] for column in table.description]\n"
        "for row in table.fetchall(): print(json.dumps(dict(zip(names, row)), default=str))"
    )

    def read(name: str) -> list[Row]:
        command = [programs / "python", "-c", script, database, name]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8")
        return [json.loads(line) for line in done.stdout.splitlines()]

    return Warehouse(target, [programs / "target-duckdb", "--config", config], read)


def stitch(folder: Path) -> Warehouse:
    """What Stitch would be sent, after its own checks."""
    output = folder / "stitch.jsonl"
    config = write_json(folder / "target.json", {"client_id": 1, "token": "none"})
    target = TARGETS["stitch"]
    program = virtualenv("target-stitch", *target.packages) / "target-stitch"
    command = [program, "--config", config, "--dry-run", "--output-file", output]

    def read(name: str) -> list[Row]:
        batches = [batch for batch in json_lines(output) if batch["table_name"] == name]
        return [message["data"] for batch in batches for message in batch["messages"] if message["action"] == "upsert"]

    return Warehouse(target, command, read)


def postgres(folder: Path, server: PostgresServer, schema: str, **settings: Any) -> Warehouse:
    """A schema of a PostgreSQL database."""
    return _in_postgres("postgres", folder, server, schema, {"database": "postgres", **settings})


def pipelinewise_postgres(folder: Path, server: PostgresServer, schema: str, **settings: Any) -> Warehouse:
    """The same, loaded by the target of PipelineWise."""
    return _in_postgres("pipelinewise-postgres", folder, server, schema, {"dbname": "postgres", **settings})


def _in_postgres(name: str, folder: Path, server: PostgresServer, schema: str, settings: Row) -> Warehouse:
    where = {"host": "127.0.0.1", "port": server.port, "user": "postgres", "password": "none"}
    config = write_json(folder / "target.json", {**where, "default_target_schema": schema, **settings})
    target = TARGETS[name]
    program = virtualenv(f"target-{name}", *target.packages) / "target-postgres"
    return Warehouse(target, [program, "--config", config], lambda table: server.rows(schema, table))


def fields(stream: str, row: Mapping[str, Any]) -> Row:
    """The stream's fields of a row, in one shape whatever a warehouse makes of them."""
    return {name: _value(row[name], schema) for name, schema in schema_of(stream)["properties"].items()}


def _value(value: Any, schema: Mapping[str, Any]) -> Any:
    """A value as the schema means it."""
    kinds = schema["type"]
    if value is None:
        return None
    if schema.get("format") == "date-time":
        return lenient(value)
    if "object" in kinds or "array" in kinds:
        # Numbers within become floats: warehouses do not tell 1e300 from its digits.
        return json.loads(json.dumps(_nested(value) if isinstance(value, str) else value), parse_int=float)
    if "integer" in kinds:
        return int(value)
    if "number" in kinds:
        return float(value)
    if "boolean" in kinds:
        return value if isinstance(value, bool) else {"True": True, "False": False}[value]
    return value


def _nested(text: str) -> Any:
    """An object or a list from its text, JSON or Python's."""
    try:
        return json.loads(text)
    except ValueError:
        return ast.literal_eval(re.sub(r"Decimal\('([^']*)'\)", r"\1", text))


def json_lines(path: Path) -> list[Row]:
    """The rows of a file, none if it is not there."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def latest(stream: str, rows: Iterable[Row], key: tuple[str, ...]) -> dict[tuple[Any, ...], Row]:
    """The row of each key that came last."""
    return {tuple(row[column] for column in key): row for row in (fields(stream, row) for row in rows)}
