"""Rows as the API sends them, and the ids that lead to them."""

from collections.abc import Mapping, Sequence
from typing import Any

from tap_circleci.values.text import other_spelling

Row = dict[str, Any]
Ids = Mapping[str, str]
"""The ids of a row and of its ancestors, by their names."""


def value_of(row: Row, column: str) -> Any:
    """The value of a field, under its name or its other spelling, `a_b` for `a-b`."""
    value = row.get(column)
    return row.get(other_spelling(column)) if value is None else value


def inside(row: Row, path: Sequence[str]) -> Any:
    """The value at a path of names, or None; where the path leads through a list, the values of all its objects."""
    value: Any = row
    for name in path:
        if isinstance(value, list):
            return [item.get(name) for item in value if isinstance(item, dict)]
        value = value_of(value, name) if isinstance(value, dict) else None
    return value
