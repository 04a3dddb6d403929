"""Real targets hold the truth after a first sync and after an incremental one."""

from __future__ import annotations

import json
import random
import re
import string
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from tap_circleci.streams import STREAMS
from tests.circleci import EXTRAS, Row, Server, World, odd_world
from tests.circleci.extras import furnish
from tests.circleci.extras import truth as extra_truth
from tests.integration import warehouses
from tests.integration.conftest import LATER, NOW, lively_world
from tests.integration.programs import Poured, discover, pour, tap_command, virtualenv, write_json
from tests.integration.targets import TARGETS, Target
from tests.integration.warehouses import PostgresServer, Warehouse, fields, latest
from tests.tap import Tables, config_for, expected
from tests.worlds import furnished, world_of

WORLDS = [lively_world, odd_world]
BUILDERS = {
    "jsonl": warehouses.jsonl,
    "csv": warehouses.csv_files,
    "duckdb": warehouses.duckdb,
    "postgres": warehouses.postgres,
    "pipelinewise-postgres": warehouses.pipelinewise_postgres,
    "stitch": warehouses.stitch,
}
KEY_TEXT = "".join(random.Random(1).choices(string.ascii_letters + string.digits, k=3000))
"""A text that no index of PostgreSQL takes: it has 2,704 bytes of room, and this cannot be compressed."""


@pytest.fixture(params=TARGETS)
def target(request, tmp_path: Path) -> Callable[..., Warehouse]:
    """Each of the targets, on whatever it loads into; called with settings that are its own."""
    name: str = request.param
    newest = TARGETS[name].pythons.rpartition(" ")[2]
    if sys.version_info[:2] > tuple(int(part) for part in newest.split(".")):
        pytest.skip(f"It was started with Python {newest} at most.")
    if "postgres" not in name:
        return partial(BUILDERS[name], tmp_path)
    schema = re.sub(r"\W", "_", tmp_path.name.lower())
    return partial(BUILDERS[name], tmp_path, request.getfixturevalue("postgres_server"), schema)


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
        want = latest(stream, wanted.get(stream, {}).values(), STREAMS[stream].key)
        have = latest(stream, rows, STREAMS[stream].key)
        if first or not warehouse.keeps_the_last_run_only:
            assert have.keys() == want.keys(), stream
        if warehouse.keeps_the_last_run_only:
            assert len(rows) == passed[stream], stream
        if warehouse.target.keeps == "key":
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
def test_tables_hold_the_truth(target, world_of, tmp_path):
    """Each target holds every field as CircleCI has it, also of what changed since the first sync; keys come once."""
    first_and_later(world_of, tmp_path, target())


def as_kept(target: Target, tables: Tables) -> Tables:
    """The rows as a target keeps them: some take empty texts for null or escape line breaks."""
    return {stream: {key: kept_row(target, row) for key, row in rows.items()} for stream, rows in tables.items()}


def kept_row(target: Target, row: Row) -> Row:
    """The row with texts as the target keeps them."""
    if target.empty_text != "kept":
        row = {name: None if value == "" else value for name, value in row.items()}
    if not target.line_breaks:
        row = {name: escaped(value) if isinstance(value, str) else value for name, value in row.items()}
    return row


def escaped(text: str) -> str:
    """The text with control characters as JSON writes them."""
    return "".join(json.dumps(sign)[1:-1] if sign < " " else sign for sign in text)


def without_empty_keys(world: World) -> World:
    """The world without the rows that have an empty text in their key."""
    for rows in (*world.flaky.values(), *world.rows["deploy_versions"].values()):
        rows[:] = [row for row in rows if {"classname", "namespace"} & {name for name in row if row[name]}]
        rows[:] = [row for row in rows if row.get("environment_id", True)]
    return world


def test_the_extra_streams_hold_the_truth(target, tmp_path):
    """Targets load the streams beyond the eleven with every value, also numbers, free maps and names of any kind."""
    warehouse = target()
    world = furnish(furnished(world_of(6)))
    if warehouse.target.empty_text == "fatal":
        world = without_empty_keys(world)
    loaded: Counter[str] = Counter()
    with Server(world) as server:
        prepare(server, tmp_path, extra_streams=EXTRAS)
        for _ in range(2):
            passed = sync(tmp_path, warehouse)
            loaded += passed
            slugs = [row["slug"] for row in server.world.projects.values()]
            wanted = truth(server) | expected(extra_truth(server.world, slugs), EXTRAS)
            check(warehouse, as_kept(warehouse.target, wanted), passed, first=False)
            server.world.advance(LATER)
    assert set(EXTRAS) <= set(loaded)


def load(server: Server, folder: Path, warehouse: Warehouse, *streams: str) -> Poured:
    """Sync some streams of a world, extra ones too, whether that ends well or not."""
    prepare(server, folder, extra_streams=[name for name in streams if STREAMS[name].is_extra])
    catalog = json.loads((folder / "catalog.json").read_text(encoding="utf-8"))
    catalog["streams"] = [entry for entry in catalog["streams"] if entry["stream"] in streams]
    write_json(folder / "catalog.json", catalog)
    return pour(tap_command(folder, folder / "config.json"), warehouse.command, folder)


def test_an_empty_text_in_a_key_is_what_the_table_says(target, tmp_path):
    """A target loads it, or ends with an error; none loses the row without a word."""
    warehouse = target()
    with Server(furnish(furnished(world_of(2)))) as server:
        poured = load(server, tmp_path, warehouse, "flaky_tests")
        wanted = expected(extra_truth(server.world, ["gh/acme/api"]), ["flaky_tests"])["flaky_tests"]
    assert any("" in key for key in wanted)
    assert poured.tap == 0
    assert (poured.target == 0) == (warehouse.target.empty_text != "fatal")
    if poured.target == 0:
        assert len(warehouse.read("flaky_tests")) == len(wanted)


def test_a_long_text_in_a_key_is_what_the_table_says(target, tmp_path):
    """A target loads it whole, or ends with an error."""
    warehouse = target()
    world = without_empty_keys(furnish(furnished(world_of(2))))
    next(row for rows in world.flaky.values() for row in rows)["test_name"] = KEY_TEXT
    with Server(world) as server:
        poured = load(server, tmp_path, warehouse, "flaky_tests")
    assert (poured.target == 0) == warehouse.target.long_keys
    if poured.target == 0:
        assert KEY_TEXT in [row["test_name"] for row in warehouse.read("flaky_tests")]


def test_date_times_are_what_the_table_says_in_another_time_zone(target, tmp_path):
    """They are stored in UTC, or in the time zone of the database's session."""
    warehouse = target()
    zone = "America/Phoenix"
    abroad = replace(warehouse, command=["env", f"TZ={zone}", f"PGTZ={zone}", *warehouse.command])
    with Server(world_of(2)) as server:
        assert load(server, tmp_path, abroad, "workflows").well
        wanted = truth(server)["workflows"]
    have = latest("workflows", warehouse.read("workflows"), ("id",))
    behind = timedelta(hours=7 if warehouse.target.session_zone else 0)
    want = {key: fields("workflows", row)["created_at"] - behind for key, row in wanted.items()}
    assert {key: row["created_at"] for key, row in have.items()} == want


def test_date_times_are_in_utc_if_the_session_of_postgresql_is(tmp_path, postgres_server: PostgresServer):
    """With PGTZ=UTC the time zone of the database or its user does not matter."""
    postgres_server.query("CREATE ROLE berlin SUPERUSER LOGIN")
    postgres_server.query("ALTER ROLE berlin SET timezone = 'Europe/Berlin'")
    warehouse = warehouses.postgres(tmp_path, postgres_server, "zones", user="berlin")
    for zone, same in (("UTC", True), (None, False)):
        words = ["env", f"PGTZ={zone}"] if zone else []
        with Server(world_of(2)) as server:
            assert load(server, tmp_path, replace(warehouse, command=[*words, *warehouse.command]), "workflows").well
            wanted = {key: fields("workflows", row) for key, row in truth(server)["workflows"].items()}
        (tmp_path / "state.json").unlink()
        assert (latest("workflows", warehouse.read("workflows"), ("id",)) == wanted) == same


def test_the_largest_row_is_what_the_table_says(target, tmp_path):
    """A row just below the limit is loaded whole; one that is larger ends the target."""
    warehouse = target()
    limit = warehouse.target.limit
    assert load_large(tmp_path, warehouse, limit - 1 if limit else 25) == 0
    if limit:
        (tmp_path / "state.json").unlink()
        assert load_large(tmp_path, warehouse, limit + 1) != 0


def load_large(folder: Path, warehouse: Warehouse, megabytes: int) -> int:
    """Load a config of that size, see that it is there if the target ends well, and tell its exit status."""
    world = world_of(1)
    config = "x" * megabytes * 1_000_000
    world.config_of = lambda _: {"source": config, "compiled": ""}
    with Server(world) as server:
        poured = load(server, folder, warehouse, "pipeline_configs")
    if poured.target == 0:
        assert [row["source"] for row in warehouse.read("pipeline_configs")] == [config]
    return poured.target


def test_what_was_deleted_is_what_the_table_says(target, tmp_path):
    """With activate_version a context that was deleted stays, is marked, or is not in what the last run wrote."""
    warehouse = target()
    with Server(lively_world(NOW)) as server:
        prepare(server, tmp_path, activate_version=True)
        sync(tmp_path, warehouse)
        gone = server.world.rows["context"][server.world.organizations[0]["id"]].pop()
        server.world.advance(LATER)
        sync(tmp_path, warehouse)
    left = [row for row in warehouse.read("context") if row["id"] == gone["id"]]
    deletes = warehouse.target.deletes
    assert len(left) == (deletes in ("ignored", "removed"))
    assert [bool(row.get("_sdc_deleted_at")) for row in left] == [deletes == "removed"] * len(left)


def test_stitch_is_sent_upserts_by_key_and_what_was_deleted(tmp_path):
    """Each batch names the key, its rows are upserts, and full tables end with the version that is active."""
    warehouse = warehouses.stitch(tmp_path)
    with Server(lively_world(NOW)) as server:
        prepare(server, tmp_path, activate_version=True)
        sync(tmp_path, warehouse)
    batches = warehouses.json_lines(tmp_path / "stitch.jsonl")
    assert {batch["table_name"]: tuple(batch["key_names"]) for batch in batches}.items() <= {
        (name, stream.key) for name, stream in STREAMS.items()
    }
    actions = {name: [] for name in STREAMS}
    for batch in batches:
        actions[batch["table_name"]] += [message["action"] for message in batch["messages"]]
    assert set(actions["jobs"]) == {"upsert"}
    assert set(actions["context"][:-1]) == {"upsert"}
    assert actions["context"][-1] == "activate_version"


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
