"""Compile the dbt project in the current folder for a warehouse that is not there, and parse all of it in its dialect.

Run by the Python of a virtualenv with dbt, the adapter and sqlglot, never imported: the target and the dialect as
arguments; on stdin JSON with the columns of each table (`tables`: names and types) and the failure rules (`rules`).
Prints JSON: for each compiled file the functions in it that sqlglot does not know for the dialect.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import agate
import sqlglot
from dbt.adapters.contracts.connection import AdapterResponse
from dbt.adapters.factory import get_adapter_class_by_name, load_plugin
from dbt.cli.main import dbtRunner


def main() -> None:
    """Compile and parse."""
    target, dialect, *words = sys.argv[1:]
    told = json.load(sys.stdin)
    load_plugin(target)
    _answer_from(get_adapter_class_by_name(target), told["tables"], told["rules"])
    result = dbtRunner().invoke(["--quiet", "compile", "--target", target, "--no-populate-cache", *words])
    if not result.success:
        raise SystemExit(f"dbt compile: {result.exception or result.result}")
    compiled = sorted(Path("target", "compiled").rglob("*.sql"))
    print(json.dumps({str(path): _unknown(path.read_text(encoding="utf-8"), dialect) for path in compiled}))


def _answer_from(adapter: type[Any], tables: dict[str, dict[str, str]], rules: list[dict[str, Any]]) -> None:
    """Let the adapter tell of these tables, and give the rules for any query, without a connection."""

    def get_relation(self: Any, database: str, schema: str, identifier: str) -> Any:
        known = identifier in tables or identifier == "circleci_failure_rules"
        return self.Relation.create(database=database, schema=schema, identifier=identifier) if known else None

    def get_columns_in_relation(self: Any, relation: Any) -> list[Any]:
        return [self.Column.create(name, kind) for name, kind in tables.get(relation.identifier, {}).items()]

    def execute(*_: Any, **__: Any) -> tuple[AdapterResponse, Any]:
        return AdapterResponse("OK"), agate.Table.from_object(rules)

    def opened(_: Any, connection: Any) -> Any:
        connection.state, connection.handle = "open", MagicMock()
        return connection

    adapter.ConnectionManager.open = classmethod(opened)
    adapter.get_relation = get_relation
    adapter.get_columns_in_relation = get_columns_in_relation
    adapter.execute = execute


def _unknown(statement: str, dialect: str) -> list[str]:
    """The functions of a statement that the dialect does not know; a statement that it cannot parse is an error."""
    tree = sqlglot.parse_one(statement, read=dialect, error_level=sqlglot.ErrorLevel.RAISE)
    if tree.find(sqlglot.exp.Command):
        raise SystemExit(f"Not understood as {dialect}: {statement}")
    return sorted({node.name.lower() for node in tree.find_all(sqlglot.exp.Anonymous)})


if __name__ == "__main__":
    main()
