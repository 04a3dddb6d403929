"""Rows as the API sends them, and the ids that lead to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tap_circleci.values.text import other_spelling

Row = dict[str, Any]
Ids = Mapping[str, str]
"""The ids of a row's ancestors and its own, by their names."""


def value_of(row: Row, column: str) -> Any:
    """The value of a field, under its name or spelled the other way, `a_b` for `a-b`."""
    value = row.get(column)
    return row.get(other_spelling(column)) if value is None else value
