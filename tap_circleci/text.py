"""Values that are not ours, as they may be quoted in a message."""

from __future__ import annotations

import json
import re

UNPAIRED = re.compile("[\ud800-\udfff]")
"""Lone surrogates, which JSON can spell and no encoding can hold."""


def type_name(value: object) -> str:
    """What a JSON value is, in words."""
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)


def quoted(value: object, secret: str = "") -> str:
    """A value as JSON on one line, at most 60 characters long and without the secret."""
    try:
        text = json.dumps(value, default=str)
    except RecursionError:
        return f"{type_name(value)} nested too deeply"
    for spelled in (secret, json.dumps(secret)[1:-1]):
        text = text.replace(spelled, "***") if spelled else text
    return text if len(text) <= 60 else text[:57] + "..."


def first_few(names: list[str]) -> str:
    """The first ten names of a list that may be long."""
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
