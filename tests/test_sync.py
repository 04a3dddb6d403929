"""Whole runs against a CircleCI of our own: every table, row by row and field by field."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from tests.circleci import Server, demo_world, odd_world
from tests.tap import DEFAULT, assert_same, expected, sync, tables

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
