"""From rows to records: typed as the schema says, with every loss reported."""

from __future__ import annotations

import functools
import json
from collections import Counter
from copy import deepcopy
from datetime import datetime, timezone
from typing import Any

import pytest
import singer
from hypothesis import given
from hypothesis import strategies as st

from tap_circleci.discover import schema_of
from tap_circleci.output.records import Table, converter, date_time, masked, table_converter
from tap_circleci.streams import STREAMS
from tap_circleci.values.text import type_name
from tests.circleci import Fault, Server, World, odd_world
from tests.circleci.extras import furnish
from tests.tap import DEFAULT, sync
from tests.worlds import world_of

NOW = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)


def convert(schema: dict[str, Any], value: Any) -> tuple[Any, list[str]]:
    """What a field of this schema makes of a value, and what is reported."""
    whole = {"properties": {"field": schema}}
    reports: list[str] = []
    function = converter(whole, whole, [], lambda path, problem: reports.append(f"{'.'.join(path)} {problem}"))
    return function({"field": value})["field"], reports


@pytest.mark.parametrize("stream", DEFAULT)
def test_results_are_those_of_singers_transformer(stream):
    """For every row of the odd world the record is what singer-python makes, but for null booleans and nulls added."""
    world = odd_world(NOW)
    truth = world.truth([row["slug"] for row in world.projects.values()])
    schema = schema_of(stream)
    function = converter(schema, schema, [], lambda path, problem: pytest.fail(f"{path} {problem}"))
    for row in truth[stream]:
        known = {name: value for name, value in row.items() if name in schema["properties"]}
        if any("\0" in json.dumps(value).encode().decode("unicode_escape") for value in known.values()):
            continue  # the stock one keeps NUL characters
        stock = singer.Transformer().transform(deepcopy(known), deepcopy(schema))
        nulls = {name: None for name, value in row.items() if value is None}
        assert function(known) == {**dict.fromkeys(schema["properties"]), **stock, **nulls}


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("2026-03-10T12:00:00Z", "2026-03-10T12:00:00.000000Z"),
        ("2026-03-10T12:00:00.09Z", "2026-03-10T12:00:00.090000Z"),
        ("2026-03-10T12:00:00.123456789Z", "2026-03-10T12:00:00.123456Z"),
        ("2026-03-10T12:00:00+02:00", "2026-03-10T10:00:00.000000Z"),
        ("2026-03-10T24:00:00Z", "2026-03-11T00:00:00.000000Z"),
        ("2026-03-10T12:00:00", "2026-03-10T12:00:00.000000Z"),
        ("2026-03-10 12:00:00.25", "2026-03-10T12:00:00.250000Z"),
        ("2026-03-10 24:00:00", "2026-03-11T00:00:00.000000Z"),
        ("2026-03-10", "2026-03-10T00:00:00.000000Z"),
        ("1970-01-01T00:00:00.000Z", "1970-01-01T00:00:00.000000Z"),
        ("Tue, 10 Mar 2026 12:00:00 GMT", "2026-03-10T12:00:00.000000Z"),
        ("2026-03-10 12:00:00 +0000", "2026-03-10T12:00:00.000000Z"),
        ("", None),
    ],
)
def test_date_times_are_utc_with_six_decimals(text, written):
    """Whatever way of writing a date-time the API takes, the record has one."""
    assert date_time(text) == written


@pytest.mark.parametrize("value", ["12", "soon", "2026-02-31T00:00:00Z", "10:30", 1700000000, {"a": 1}, "T" * 5000])
def test_what_is_no_date_becomes_null_and_is_reported(value):
    """A value that is not a date-time becomes null."""
    assert convert({"type": ["null", "string"], "format": "date-time"}, value) == (
        None,
        [f"field {type_name(value)} that is no date-time"],
    )


@pytest.mark.parametrize(
    ("kind", "value", "result"),
    [
        ("string", 12, "12"),
        ("string", True, "true"),
        ("string", {"a": [1]}, '{"a": [1]}'),
        ("string", "a\0b", "ab"),
        ("string", "half \ud83d of \U0001f600", "half \ufffd of \U0001f600"),
        ("string", "", ""),
        ("integer", "1,234", 1234),
        ("integer", 3.0, 3),
        ("integer", "12.0", 12),
        ("integer", "-7.000000", -7),
        ("integer", "", None),
        ("boolean", None, None),
        ("boolean", "False", False),
        ("boolean", 1, True),
        ("boolean", "Y", True),
        ("boolean", "n", False),
        ("number", 1, 1),
        ("number", -1.5, -1.5),
        ("number", "1.5", 1.5),
        ("number", "-0.25", -0.25),
        ("number", "12", 12),
        ("number", ".5", 0.5),
        ("number", "1e-05", 0.00001),
        ("number", "", None),
        ("number", 2**70, float(2**70)),
        ("number", None, None),
        ("object", {"a\0": ["\0", {"b": None}], "n": 1.5}, {"a": ["", {"b": None}], "n": 1.5}),
    ],
)
def test_values_of_a_neighbouring_type_are_converted(kind, value, result):
    """A number where a string was, a string where a number was: converted and not reported."""
    assert convert({"type": ["null", kind]}, value) == (result, [])


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": ["null", "integer"]}, 3.9),
        ({"type": ["null", "integer"]}, "many"),
        ({"type": ["null", "integer"]}, "12.5"),
        ({"type": ["null", "integer"]}, "12.0.0"),
        ({"type": ["null", "integer"]}, ".0"),
        ({"type": ["null", "integer"]}, 2**63),
        ({"type": ["null", "integer"]}, [1]),
        ({"type": ["null", "number"]}, "1,234.5"),
        ({"type": ["null", "number"]}, " 1.5"),
        ({"type": ["null", "number"]}, "1_000"),
        ({"type": ["null", "number"]}, "\u0661"),
        ({"type": ["null", "number"]}, "NaN"),
        ({"type": ["null", "number"]}, "Infinity"),
        ({"type": ["null", "number"]}, float("nan")),
        ({"type": ["null", "number"]}, float("inf")),
        ({"type": ["null", "number"]}, "1e999"),
        ({"type": ["null", "number"]}, 10**400),
        ({"type": ["null", "number"]}, True),
        ({"type": ["null", "number"]}, [1]),
        ({"type": ["null", "boolean"]}, "maybe"),
        ({"type": ["null", "object"]}, "text"),
        ({"type": ["null", "object"], "properties": {"a": {"type": "string"}}}, [1]),
        ({"type": ["null", "array"], "items": {"type": "string"}}, {"a": 1}),
    ],
)
def test_what_does_not_fit_becomes_null_and_is_reported(schema, value):
    """A value that cannot be of the schema's type is left out and named."""
    result, reports = convert(schema, value)
    assert result is None
    assert len(reports) == 1


@pytest.mark.parametrize(
    "schema",
    [
        {"type": ["null", "object"]},
        {"type": ["null", "string"]},
        {"type": ["null", "array"], "items": {"type": ["null", "string"]}},
        {"type": ["null", "string"], "format": "date-time"},
        {"type": ["null", "number"]},
    ],
)
def test_what_is_nested_too_deeply_becomes_null_and_is_reported(schema):
    """A value that is nested too deeply costs its row only that field, in a column of any type."""
    deep = functools.reduce(lambda inner, _: {"a": inner}, range(5000), {})
    result, reports = convert(schema, [deep] if schema["type"][1] == "array" else deep)
    assert result in (None, [None])
    assert len(reports) == 1


def test_secrets_that_no_schema_names_are_left_out_without_a_word():
    """Fields under `left_out`, in either spelling, are neither sent nor reported; fields inside objects are."""
    text = {"type": ["null", "string"]}
    schema = {"properties": {"name": text, "inner": {"type": ["null", "object"], "properties": {"name": text}}}}
    reports: list[Any] = []
    function = converter(
        schema,
        schema,
        [],
        lambda path, problem: reports.append(path),
        left_out=["signing-secret"],
    )
    row = {"name": "n", "signing_secret": "s", "signing-secret": "s", "inner": {"name": "n", "signing-secret": "s"}}
    assert function(row) == {"name": "n", "inner": {"name": "n"}}
    assert reports == [("inner", "signing-secret")]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(list(STREAMS)), st.data())
def test_no_row_makes_it_crash(stream, data):
    """Any JSON in any field gives a record with exactly the schema's fields that can be written."""
    schema = schema_of(stream)
    names = st.sampled_from([*schema["properties"], "unheard_of"])
    row = data.draw(st.dictionaries(names, json_values))
    record = converter(schema, schema, STREAMS[stream].row.secret_urls, lambda path, problem: None)(row)
    assert record.keys() == schema["properties"].keys()
    assert "\\u0000" not in json.dumps(record, allow_nan=False)


@pytest.mark.parametrize(
    ("stream", "sent", "field"), [("schedule", "updated_at", "updated-at"), ("collaborations", "vcs-type", "vcs_type")]
)
def test_either_spelling_of_a_field_is_understood(stream, sent, field):
    """A server that answers `updated_at` for `updated-at`, or `vcs-type` for `vcs_type`, loses nothing."""
    schema = schema_of(stream)
    function = converter(schema, schema, [], lambda path, problem: pytest.fail(f"{path} {problem}"))
    assert function({sent: "2026-03-10T12:00:00Z"})[field] is not None
    for row in ({sent: "2026-03-10T12:00:00Z", field: None}, {field: None, sent: "2026-03-10T12:00:00Z"}):
        assert function(row)[field] is not None, row


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://x.example/e/t3?secret=abc", "https://x.example/e/t3?secret=**REDACTED**"),
        ("https://x.example/e?a=1&secret=a=b&c", "https://x.example/e?a=**REDACTED**&secret=**REDACTED**&**REDACTED**"),
        ("https://u:p@x.example/e", "https://**REDACTED**@x.example/e"),
        ("https://x.example/e", "https://x.example/e"),
    ],
)
def test_secrets_in_a_url_are_masked(url, shown):
    """The values in the query of a webhook's URL, and a password before its host, are masked."""
    assert masked(url) == shown


CELLS = (
    st.none() | st.sampled_from(["", "0", "1.50", "x", "Y", "true", "2026-03-09", "2026-03-09 10:11:12.5"]) | st.text()
)


@given(st.lists(st.tuples(CELLS, CELLS, CELLS, CELLS, CELLS, CELLS), min_size=1, max_size=20))
def test_a_table_gives_the_records_that_its_rows_would(rows):
    """Column by column or row by row: the same records, and the same report of each value that does not fit."""
    text, time = {"type": ["null", "string"]}, {"type": ["null", "string"], "format": "date-time"}
    count, credits, flag = ({"type": ["null", kind]} for kind in ("integer", "number", "boolean"))
    whole = {"properties": {"te%xt": text, "day": time, "count": count, "credits": credits, "flag": flag, "not": text}}
    wanted = {"properties": {name: field for name, field in whole["properties"].items() if name != "day"}}
    names = ["te%xt", "day", "count", "credits", "flag", "moon"]
    by_row: Counter[Any] = Counter()
    one = converter(whole, wanted, [], lambda *told: by_row.update([told]))
    columns = zip(*rows, strict=True)
    found = table_converter(whole, wanted)(Table(dict(zip(names, columns, strict=True)), len(rows)))
    records = [one(dict(zip(names, row, strict=True))) for row in rows]
    assert [f"{{{fields}}}" for fields in found.fields] == [json.dumps(record) for record in records]
    assert found.misfits == by_row


@pytest.mark.parametrize("empty", ["\0", "\0\0", " \0", None, "", True, {"a": 1}])
def test_a_row_whose_key_is_empty_in_its_record_is_counted_and_not_sent(empty):
    """Also where the API's value is a NUL character or no text, which the record does not have."""
    world = World(NOW)
    organization = world.add_organization("gh/acme")
    world.add_project("gh/acme/api")
    for number in range(2):
        world.add_context(organization, f"context-{number}", NOW)
    world.rows["context"][organization["id"]][0]["id"] = empty
    with Server(world) as server:
        run = sync(server, streams=("context", "context_variables"))
        paths = [request.path for request in server.requests]
    assert run.status == 0, run.log
    assert [row["name"] for row in run.rows("context")] == ["context-1"]
    assert "Skipped: 1 row of context without a usable key" in run.log
    assert len([path for path in paths if "/environment-variable" in path]) == 1


def test_a_key_that_the_record_cannot_hold_is_counted_and_not_sent():
    """A text in a key of type number becomes null, and such a row is not sent."""
    world = furnish(world_of(2), every=1)
    with Server(world) as server:
        server.fault = lambda path, nth: (
            Fault(200, {}, {"items": [{"node_index": "one", "path": "a", "url": "u"}, {"node_index": 1, "path": "b"}]})
            if path.endswith("/artifacts")
            else None
        )
        run = sync(server, streams=["artifacts"])
    assert {row["path"] for row in run.rows("artifacts")} == {"b"}
    assert f"Skipped: {len(run.rows('artifacts'))} rows of artifacts without a usable key" in run.log
