"""Converts a row of the API to a record of its schema: typed, and every dropped value is reported.

The results are those of singer-python's Transformer, with its date-times. But null stays null, and a value that does
not fit is reported instead of raised. A schema is compiled once into nested functions: the Transformer would cost more
time than the rest of the tap together.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import repeat
from json.encoder import encode_basestring_ascii
from typing import Any

from tap_circleci.values.text import UNPAIRED, other_spelling, type_name
from tap_circleci.values.times import lenient, written

Schema = Mapping[str, Any]
Path = tuple[str, ...]
ReportMisfit = Callable[[Path, str], None]
"""Takes the path of a field and the reason why its value does not fit."""
Convert = Callable[[Any], Any]
Column = Sequence[str | None]


@dataclass(frozen=True)
class Table:
    """Rows of texts, column by column: each column has as many values as there are rows, None for null."""

    columns: Mapping[str, Column]
    rows: int

    def __getitem__(self, name: str) -> Column:
        """The values of a column; nulls where the table does not have it."""
        return self.columns.get(name) or (None,) * self.rows


Misfits = Counter[tuple[Path, str]]
"""How often a field did not fit, by its path and the reason."""


@dataclass(frozen=True)
class Records:
    """The records of a table in order, each as its fields in JSON with commas between them, and the misfits."""

    fields: Sequence[str]
    misfits: Misfits


TableConvert = Callable[[Table], Records]
INT64 = 2**63
NOT_IN_SCHEMA = "not in the schema"
_JSON: Mapping[type, Callable[[Any], str]] = {
    str: encode_basestring_ascii,
    int: repr,
    float: repr,
    bool: json.dumps,
    type(None): json.dumps,
}
"""The same results as `json.dumps` for single values, without its cost per call."""
SECRET = "**REDACTED**"  # noqa: S105 - the replacement of a secret
_NUMBER = re.compile(r"-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_PLAIN = re.compile(r"(\d{4}-\d\d-\d\d)[T ](?!24)(\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z?", re.ASCII)


def converter(
    schema: Schema,
    wanted: Schema,
    secrets: Iterable[Path],
    report: ReportMisfit,
    *,
    left_out: Iterable[str] = (),
) -> Convert:
    """A function from a row to a record with every field of `wanted`, a part of `schema`; null if the row lacks it.

    Fields that `schema` does not name, and values that do not fit it, are dropped and given to `report`. Paths in
    `secrets` lead to URLs whose query is masked. Fields in `left_out` are dropped without a report.
    """
    special = _Special(frozenset(secrets), frozenset(left_out), report)
    convert = _object(schema["properties"], wanted["properties"], (), special)
    blank = dict.fromkeys(wanted["properties"])
    return lambda row: {**blank, **convert(row)}


@dataclass(frozen=True)
class _Special:
    """What every part of a schema needs: the paths that are not converted by type, and the function for reports."""

    secrets: frozenset[Path]
    left_out: frozenset[str]
    report: ReportMisfit


def table_converter(schema: Schema, wanted: Schema) -> TableConvert:
    """A function from a table with rows to its records as JSON, with the same results as `converter`.

    For schemas without nested fields. Most values occur many times in a column, so each is converted once: an export
    has up to a million rows.
    """
    writers = {name: _writer(_leaf_of(field), name) for name, field in wanted["properties"].items()}

    def convert(table: Table) -> Records:
        unknown = table.columns.keys() - schema["properties"].keys()
        misfits: Misfits = Counter({((name,), NOT_IN_SCHEMA): table.rows for name in unknown})
        columns = []
        for name, write in writers.items():
            fields, wrong = write(table[name])
            columns.append(fields)
            misfits += wrong
        return Records(list(map(", ".join, zip(*columns, strict=True))), misfits)

    return convert


def _writer(leaf: Convert, name: str) -> Callable[[Column], tuple[Iterator[str], Misfits]]:
    """A function from the values of a column to its fields in JSON and its misfits."""
    key = json.dumps(name)

    def write(column: Column) -> tuple[Iterator[str], Misfits]:
        is_constant = column.count(column[0]) == len(column)  # many columns are, and need no set
        fields: dict[str | None, str] = {}
        misfits: Misfits = Counter()
        for value in column[:1] if is_constant else set(column):
            try:
                found = None if value is None else leaf(value)
            except (ValueError, OverflowError):
                found = None
                misfits[(name,), _is_no(leaf, value)] += column.count(value)
            fields[value] = f"{key}: {_JSON[type(found)](found)}"
        if is_constant:
            return repeat(fields[column[0]], len(column)), misfits
        return map(fields.__getitem__, column), misfits

    return write


def _compile(schema: Schema, wanted: Schema, path: Path, special: _Special) -> Convert:
    name, report = _type_of(schema), special.report
    if path in special.secrets:
        return _checked(masked, path, report)
    if name == "object" and "properties" not in schema:
        return _checked(tidy, path, report, dict)
    if name == "object":
        return _checked(_object(schema["properties"], wanted["properties"], path, special), path, report, dict)
    if name == "array":
        item = _compile(schema["items"], wanted["items"], path, special)
        return _checked(lambda values: [item(value) for value in values], path, report, list)
    return _checked(_leaf_of(schema), path, report)


def _type_of(schema: Schema) -> str:
    types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    return next(name for name in types if name != "null")


def _leaf_of(schema: Schema) -> Convert:
    """The function for values of a type that has no parts."""
    if schema.get("format") == "date-time":
        return date_time
    return {"integer": integer, "number": number, "boolean": boolean, "string": text}[_type_of(schema)]


def _object(properties: Mapping[str, Schema], wanted: Mapping[str, Schema], path: Path, special: _Special) -> Convert:
    """A function for objects with declared fields; it also accepts their other spelling, `a_b` for `a-b`."""
    left_out = () if path else special.left_out
    known: dict[str, tuple[str, Convert | None]] = {name: (name, None) for name in left_out}
    for name, field in properties.items():
        convert = _compile(field, wanted[name], (*path, name), special) if name in wanted else None
        known[name] = (name, convert)
    spelled = {other_spelling(name): field for name, field in known.items()}
    fields = {**spelled, **known}

    def convert_map(row: Mapping[str, Any]) -> dict[str, Any]:
        record = {}
        for name, value in row.items():
            field, convert = fields.get(name, (None, None))
            if field is None:
                special.report((*path, name), NOT_IN_SCHEMA)
            elif convert is None or (value is None and field in record):  # a null hides no other spelling
                continue
            elif field == name or row.get(field) is None:
                record[field] = convert(value)
        return record

    return convert_map


def _checked(convert: Convert, path: Path, report: ReportMisfit, kind: type | None = None) -> Convert:
    """The function, which gives null for null and, after a report, for what does not fit or is of another kind."""

    def checked(value: Any) -> Any:
        if value is None:
            return None
        try:
            if kind is None or isinstance(value, kind):
                return convert(value)
            if value != "":
                report(path, f"{type_name(value)} instead of {type_name(kind())}")
        except RecursionError:
            report(path, "nested too deeply")
        except (ValueError, OverflowError):
            report(path, _is_no(convert, value))
        return None

    return checked


def _is_no(convert: Convert, value: Any) -> str:
    return f"{type_name(value)} that is no {convert.__name__.replace('_', '-')}"


def text(value: Any) -> str:
    """A text without NUL characters and lone surrogates, which databases refuse; other values as JSON."""
    if not isinstance(value, str):
        return json.dumps(tidy(value))
    if value.isascii():
        return value.replace("\0", "") if "\0" in value else value
    return UNPAIRED.sub("\ufffd", value.replace("\0", ""))


def tidy(value: Any) -> Any:
    """A value without a schema, with all its texts and names cleaned as in `text`."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        return {text(name): tidy(item) for name, item in value.items()}
    if isinstance(value, list):
        return [tidy(item) for item in value]
    return value


def integer(value: Any) -> int | None:
    """A whole number of 64 bits, also one written as 12.0; raises ValueError."""
    if value == "":
        return None
    if isinstance(value, str):
        digits, _, decimals = value.replace(",", "").partition(".")
        if decimals.strip("0"):
            raise ValueError("not a whole number")
        whole = int(digits)
    elif isinstance(value, (int, float)) and value == int(value):
        whole = int(value)
    else:
        raise ValueError("not a whole number")
    if not -INT64 <= whole < INT64:
        raise ValueError("more than 64 bits")
    return whole


def number(value: Any) -> int | float | None:
    """A finite number, or the number in a text; raises ValueError."""
    if value == "":
        return None
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value):
            raise ValueError("not a plain number")
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError("not a number")
    return value if isinstance(value, float) or -INT64 <= value < INT64 else float(value)


def boolean(value: Any) -> bool | None:
    """true or false, or the meaning of a text or number such as "n" or 1; raises ValueError."""
    if isinstance(value, bool):
        return value
    said = {"": None, "true": True, "false": False, "1": True, "0": False, "y": True, "n": False}
    if str(value).lower() not in said:
        raise ValueError("neither true nor false")
    return said[str(value).lower()]


def date_time(value: Any) -> str | None:
    """A date-time as singer writes it: UTC, six decimals, Z; raises ValueError."""
    if value == "":
        return None
    if not isinstance(value, str):
        raise ValueError("not a text")
    return _date_time(value)


@lru_cache(maxsize=8192)  # jobs share the times of their workflow and pipeline, and exports name each time twice
def _date_time(value: str) -> str:
    plain = _PLAIN.fullmatch(value)
    if plain is not None:
        datetime.fromisoformat(value[:19])  # raises for a day or hour that does not exist
        date, time, fraction = plain.groups("")
        return f"{date}T{time}.{fraction[:6].ljust(6, '0')}Z"
    return written(lenient(value))


def masked(url: Any) -> str:
    """A URL in which the values of the query, and a password before the host, are masked."""
    open_url = re.sub(r"//[^/?#@]*@", f"//{SECRET}@", text(url))
    head, mark, query = open_url.partition("?")
    masked_parts = [re.sub(r"(?s)^([^=]*=)?.*", rf"\g<1>{SECRET}", part) for part in query.split("&")]
    return head + mark + "&".join(masked_parts) if mark else head
