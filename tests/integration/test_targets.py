"""Real targets hold the truth after a first sync and after an incremental one."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tap_circleci.streams import STREAMS
from tests.circleci import EXTRAS, Server, odd_world
from tests.circleci.extras import furnish
from tests.circleci.extras import truth as extra_truth
from tests.integration import warehouses
from tests.integration.conftest import LATER, NOW, lively_world
from tests.integration.programs import discover, pour, tap_command, virtualenv, write_json
from tests.integration.warehouses import PostgresServer, Warehouse, fields, latest
from tests.tap import Tables, config_for, expected
from tests.worlds import furnished, world_of

WORLDS = [lively_world, odd_world]
TARGETS = [
    warehouses.jsonl,
    warehouses.csv_files,
    warehouses.stitch,
    pytest.param(
        warehouses.duckdb,
        marks=pytest.mark.skipif(
            sys.version_info >= (3, 13), reason="DuckDB 1.0, the last that the target gets right, needs Python < 3.13."
        ),
    ),
]


def prepare(server: Server, folder: Path, **settings: object) -> None:
    """Write config and catalog; the look-back reaches over the whole world, so that nothing may be stale."""
    config = write_json(folder / "config.json", config_for(server, lookback_days=60, **settings))
    discover(config, folder / "catalog.json")


def sync(folder: Path, warehouse: Warehouse) -> Counter[str]:
    """Run `tap | target`, and tell how many rows of each stream passed."""
    poured = pour(tap_command(folder, folder / "config.json"), warehouse.command, folder)
    logs = [(folder / name).read_text(encoding="utf-8") for name in ("tap.log", "target.log")]
    assert poured.well, "\n".join(log[-3000:] for log in logs)
    line = next(line for line in logs[0].splitlines() if "Rows: " in line)
    counts = (item.rsplit(" ", 1) for item in line.split("Rows: ")[1].split(", "))
    return Counter({name: int(count) for name, count in counts})


def truth(server: Server) -> Tables:
    """What a warehouse should hold now."""
    return expected(server.world.truth(row["slug"] for row in server.world.projects.values()))


def check(warehouse: Warehouse, wanted: Tables, passed: Counter[str], first: bool) -> None:
    """Compare every table with the truth, row by row and field by field."""
    for stream in passed:
        rows = warehouse.read(stream)
        want = {key: fields(stream, row) for key, row in wanted.get(stream, {}).items()}
        have = latest(stream, rows, STREAMS[stream].key)
        if first or warehouse.keeps != "last":
            assert have.keys() == want.keys(), stream
        if warehouse.keeps == "last":
            assert len(rows) == passed[stream], stream
        if warehouse.keeps == "key":
            assert len(rows) == len(want), f"{stream}: keys are not unique"
        for key, row in have.items():
            assert row == want[key], f"{stream} {key}"


def statuses(tables: Tables) -> Counter[str]:
    """How many workflows are in which status."""
    return Counter(row["status"] for row in tables["workflows"].values())


def first_and_later(world_of: Callable, folder: Path, warehouse: Warehouse) -> None:
    """Sync, let six hours pass, and sync again; the warehouse must hold the truth each time."""
    with Server(world_of(NOW)) as server:
        prepare(server, folder)
        passed, before = sync(folder, warehouse), truth(server)
        check(warehouse, before, passed, first=True)
        server.world.advance(LATER)
        passed, after = sync(folder, warehouse), truth(server)
        check(warehouse, after, passed, first=False)
    assert passed["jobs"] < len(after["jobs"]) / 4
    if world_of is lively_world:
        assert statuses(before)["on_hold"] > 0
        changed = [key for key, row in before["workflows"].items() if after["workflows"][key] != row]
        assert len(changed) > 1
        assert len(after["workflows"]) > len(before["workflows"])


@pytest.mark.parametrize("world_of", WORLDS)
@pytest.mark.parametrize("target", TARGETS)
def test_files_hold_the_truth(target, world_of, tmp_path):
    """Files of each kind hold every field as CircleCI has it, also of what changed since the first sync."""
    first_and_later(world_of, tmp_path, target(tmp_path))


@pytest.mark.parametrize("world_of", WORLDS)
def test_postgresql_holds_the_truth(world_of, tmp_path, postgres_server: PostgresServer):
    """PostgreSQL holds each key once, with every field as CircleCI has it, also after statuses have changed."""
    first_and_later(world_of, tmp_path, warehouses.postgres(tmp_path, postgres_server, world_of.__name__))


@pytest.mark.parametrize("target", ["jsonl", "duckdb", "postgres"])
def test_the_extra_streams_hold_the_truth(target, tmp_path, request):
    """Targets load the streams beyond the eleven with every value, also numbers and names of any kind.

    target-duckdb takes an empty text for null, and ends where it stands in a key: it gets none there.
    """
    if target == "postgres":
        warehouse = warehouses.postgres(tmp_path, request.getfixturevalue("postgres_server"), "extra")
    else:
        warehouse = getattr(warehouses, target)(tmp_path)
    world = furnish(furnished(world_of(6)))
    if target == "duckdb":
        for rows in (*world.flaky.values(), *world.rows["deploy_versions"].values()):
            rows[:] = [row for row in rows if {"classname", "namespace"} & {name for name in row if row[name]}]
            rows[:] = [row for row in rows if row.get("environment_id", True)]
    loaded: Counter[str] = Counter()
    with Server(world) as server:
        prepare(server, tmp_path, extra_streams=EXTRAS)
        for _ in range(2):
            passed = sync(tmp_path, warehouse)
            loaded += passed
            slugs = [row["slug"] for row in server.world.projects.values()]
            wanted = truth(server) | expected(extra_truth(server.world, slugs), EXTRAS)
            if target == "duckdb":
                for rows in wanted.values():
                    for row in rows.values():
                        row.update({name: None for name, value in row.items() if value == ""})
            check(warehouse, wanted, passed, first=False)
            server.world.advance(LATER)
    assert set(EXTRAS) <= set(loaded)


def test_what_was_deleted_goes_from_postgresql(tmp_path, postgres_server: PostgresServer):
    """With activate_version a context that was deleted is gone after the next sync, and the jobs stay."""
    warehouse = warehouses.postgres(tmp_path, postgres_server, "deletions", hard_delete=True)
    with Server(lively_world(NOW)) as server:
        prepare(server, tmp_path, activate_version=True)
        check(warehouse, truth(server), sync(tmp_path, warehouse), first=True)
        contexts = server.world.rows["context"][server.world.organizations[0]["id"]]
        gone = contexts.pop()
        server.world.advance(LATER)
        passed = sync(tmp_path, warehouse)
        check(warehouse, truth(server), passed, first=False)
    left = [row["id"] for row in warehouse.read("context")]
    assert gone["id"] not in left
    assert contexts[0]["id"] in left
    assert len(warehouse.read("jobs")) > passed["jobs"]


@pytest.mark.parametrize("world_of", WORLDS)
def test_singer_check_tap_finds_nothing_wrong(world_of, tmp_path):
    """The checker of singer-tools accepts both the first and the next sync's messages."""
    program = virtualenv("singer-tools", "singer-tools==0.4.1") / "singer-check-tap"
    with Server(world_of(NOW)) as server:
        prepare(server, tmp_path)
        for _ in range(2):
            tap = tap_command(tmp_path, tmp_path / "config.json")
            messages = subprocess.run(tap, check=True, capture_output=True).stdout
            checked = subprocess.run([program], input=messages, check=False, capture_output=True, cwd=tmp_path)
            assert checked.returncode == 0, checked.stderr.decode()[-3000:]
            assert str(messages.count(b'"type": "RECORD"')) in checked.stdout.decode()
            state = messages.splitlines()[-1]
            (tmp_path / "state.json").write_bytes(state.partition(b'"value": ')[2][:-1])
            server.world.advance(LATER)
