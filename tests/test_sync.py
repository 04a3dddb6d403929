"""Whole runs against a CircleCI of our own: every table, row by row and field by field."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from tests.circleci import Server, demo_world, history, odd_world
from tests.tap import DEFAULT, assert_same, catalog_of, expected, sync, tables
from tests.worlds import furnished

NOW = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize("world_of", [demo_world, odd_world])
def test_every_table_is_complete_and_right(world_of):
    """A first sync delivers every row and every field of all eleven streams."""
    with Server(world_of(NOW)) as server:
        run = sync(server)
        truth = server.world.truth([row["slug"] for row in server.world.projects.values()])
    assert run.status == 0, run.log
    assert_same(tables(run.lines), expected(truth))


def test_rows_come_in_the_same_order_with_any_number_of_workers():
    """One worker and sixteen write the same lines, but for the states between."""
    with Server(demo_world(NOW)) as server:
        runs = [sync(server, max_workers=workers) for workers in (1, 16)]
    one, many = ([line for line in run.lines if '"STATE"' not in line] for run in runs)
    assert one == many


def test_schemas_come_before_records_and_a_state_last():
    """Each selected stream has one SCHEMA, before its first RECORD, and the last line is a STATE of a finished run."""
    with Server(demo_world(NOW)) as server:
        messages = sync(server).messages
    announced = [m["stream"] for m in messages if m["type"] == "SCHEMA"]
    assert sorted(announced) == sorted(DEFAULT)
    for stream in DEFAULT:
        kinds = [m["type"] for m in messages if m.get("stream") == stream]
        assert kinds[0] == "SCHEMA"
    assert messages[-1]["type"] == "STATE"
    assert messages[-1]["value"]["currently_syncing"] is None
    assert all("time_extracted" in m for m in messages if m["type"] == "RECORD")


KEYS = {"pipelines": "updated_at", "deploy": "updated_at", "schedule": "updated-at"}
GO_ZERO = "0001-01-01T00:00:00Z"
UNIX_ZERO = "1970-01-01T00:00:00Z"


@pytest.mark.parametrize("value", [GO_ZERO, UNIX_ZERO, "1969-12-31T23:59:59Z", "", None, "2999-01-01T00:00:00Z"])
@pytest.mark.parametrize("is_alone", [True, False])
def test_a_replication_key_that_is_no_time_of_a_change_makes_no_bookmark(value, is_alone):
    """Pipelines, environments and schedules without a time are delivered, and the next run accepts the state."""
    world = furnished(history(3, NOW, slug="gh/acme/api"))
    rows = {
        "pipelines": world.pipelines([world.project("gh/acme/api")["id"]]),
        "deploy": world.rows["deploy"][world.organization("gh/acme")["id"]],
        "schedule": world.rows["schedule"][world.project("gh/acme/api")["id"]],
    }
    for stream, key in KEYS.items():
        for row in rows[stream] if is_alone else rows[stream][:1]:
            row[key] = value
    with Server(world) as server:
        first = sync(server, streams=KEYS)
        world.advance(timedelta(hours=1))
        second = sync(server, streams=KEYS, state=first.state)
    assert (first.status, second.status) == (0, 0), second.log
    for stream, key in KEYS.items():
        assert {row["id"] for row in first.rows(stream)} == {row["id"] for row in rows[stream]}
        marks = first.state["bookmarks"].get(stream, {})
        highest = [mark[key] if isinstance(mark, dict) and key in mark else mark for mark in marks.values()]
        texts = [text for text in highest if isinstance(text, str)]
        assert all("2026" <= text < "2027" for text in texts)
        assert bool(texts) is not is_alone


@pytest.mark.parametrize("stream", [*KEYS, "workflows"])
def test_full_table_in_a_catalog_reads_a_stream_from_the_start_date_in_each_run(stream):
    """`replication-method: FULL_TABLE` applies to that stream alone, and its bookmarks are ignored."""
    world = furnished(history(30, NOW, slug="gh/acme/api"))
    catalog = catalog_of(*KEYS, "workflows")
    for entry in catalog["streams"]:
        for item in entry["metadata"]:
            if entry["tap_stream_id"] == stream and not item["breadcrumb"]:
                item["metadata"]["replication-method"] = "FULL_TABLE"
    with Server(world) as server:
        first = sync(server, catalog=catalog)
        world.advance(timedelta(hours=1))
        usual = sync(server, streams=[*KEYS, "workflows"], state=first.state)
        again = sync(server, catalog=catalog, state=first.state)
        since = NOW - timedelta(hours=12)
        late = sync(server, catalog=catalog, state=again.state, start_date=since.isoformat())
    assert again.rows(stream) == first.rows(stream)
    assert len(again.rows(stream)) > len(usual.rows(stream))
    for other in {*KEYS, "workflows"} - {stream}:
        assert again.rows(other) == usual.rows(other)
    assert 0 < len(late.rows(stream)) < len(first.rows(stream))
