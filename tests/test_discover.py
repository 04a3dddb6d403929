"""The catalog, its selection, and its schemas."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from tap_circleci.discover import select
from tap_circleci.errors import BadInput
from tap_circleci.streams import EXTRA, STREAMS
from tests.circleci import Server, odd_world
from tests.tap import DEFAULT, catalog_of, run, sync

NOW = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def catalog() -> dict[str, Any]:
    return json.loads("\n".join(run(["--discover"]).lines))


def metadata(entry: dict[str, Any], *breadcrumb: str) -> dict[str, Any]:
    return next(item["metadata"] for item in entry["metadata"] if item["breadcrumb"] == list(breadcrumb))


def test_discovery_needs_neither_config_nor_network(tmp_path: Path):
    """--discover prints all eleven streams, whatever is in the config, and wins over --catalog and --state."""
    config = tmp_path / "config.json"
    config.write_text("{}")
    found = run(["--config", str(config), "--discover", "--catalog", "not-there", "--state", "not-there"])
    assert found.status == 0
    assert [entry["tap_stream_id"] for entry in json.loads("\n".join(found.lines))["streams"]] == list(DEFAULT)


def test_the_catalog_says_what_identifies_and_moves_a_stream(catalog):
    """The catalog has keys, replication keys and methods, parents, and which fields are automatic."""
    for entry in catalog["streams"]:
        stream = STREAMS[entry["tap_stream_id"]]
        top = metadata(entry)
        assert entry["stream"] == stream.name
        assert entry["key_properties"] == top["table-key-properties"] == list(stream.key)
        assert entry["replication_method"] == top["forced-replication-method"] == stream.replication_method
        assert entry.get("replication_key") == stream.replication_key
        assert top.get("parent-tap-stream-id") == stream.parent
        assert top["selected-by-default"] is True
        for column in (*stream.key, *filter(None, [stream.replication_key])):
            assert metadata(entry, "properties", column)["inclusion"] == "automatic"


@pytest.mark.parametrize("stream", DEFAULT)
def test_any_stream_can_be_selected_alone(stream):
    """A child without its parent: the parent is read, not sent."""
    with Server(odd_world(NOW)) as server:
        alone = sync(server, streams=[stream])
        whole = sync(server)
    assert alone.status == 0
    assert {m["stream"] for m in alone.messages if "stream" in m} == {stream}
    assert alone.rows(stream) == whole.rows(stream)


def test_without_any_selection_all_is_selected_and_with_one_only_that(catalog):
    """A fresh catalog selects all streams; once one is marked `selected`, only marked ones count."""
    with Server(odd_world(NOW)) as server:
        assert {m["stream"] for m in sync(server, catalog=catalog).messages if "stream" in m} == set(DEFAULT)
        old = json.loads(json.dumps(catalog))
        old["streams"][1]["schema"]["selected"] = True
        run_old = sync(server, catalog=old)
        none = sync(server, catalog=catalog_of())
    assert {m["stream"] for m in run_old.messages if "stream" in m} == {"context"}
    assert [m["type"] for m in none.messages] == ["STATE"]
    assert "No stream is selected" in none.log


def test_fields_may_be_deselected_the_old_way_in_a_catalog_that_was_discovered(catalog):
    """`"selected": false` in the schema counts unless the metadata says otherwise."""
    chosen = json.loads(json.dumps(catalog))
    entry = next(entry for entry in chosen["streams"] if entry["tap_stream_id"] == "pipelines")
    entry["schema"]["selected"] = True
    for name in ("vcs", "trigger"):
        entry["schema"]["properties"][name]["selected"] = False
    metadata(entry, "properties", "trigger")["selected"] = True
    with Server(odd_world(NOW)) as server:
        run = sync(server, catalog=chosen)
    for row in run.rows("pipelines"):
        assert "vcs" not in row
        assert "trigger" in row


def test_deselected_fields_are_neither_announced_nor_sent_but_keys_are(catalog):
    """A deselected field, also a nested one, is gone from SCHEMA and RECORD; keys and replication keys stay."""
    chosen = json.loads(json.dumps(catalog))
    entry = next(entry for entry in chosen["streams"] if entry["tap_stream_id"] == "pipelines")
    metadata(entry)["selected"] = True
    for name in ("id", "updated_at", "warnings"):
        metadata(entry, "properties", name)["selected"] = False
    entry["metadata"].append(
        {"breadcrumb": ["properties", "vcs", "properties", "commit"], "metadata": {"selected": False}}
    )
    with Server(odd_world(NOW)) as server:
        chosen_run = sync(server, catalog=chosen)
    schema = next(m for m in chosen_run.messages if m["type"] == "SCHEMA")["schema"]
    assert "warnings" not in schema["properties"]
    assert "commit" not in schema["properties"]["vcs"]["properties"]
    for row in chosen_run.rows("pipelines"):
        assert row.keys() == schema["properties"].keys() >= {"id", "updated_at"}
        assert "commit" not in (row["vcs"] or {})
    assert "not in the schema" not in chosen_run.log


def test_a_field_that_no_schema_names_is_warned_about_once():
    """An unknown field, nested or not, is named once per stream and nothing else is lost."""
    world = odd_world(NOW)
    for pipeline in world.rows["pipelines"][next(iter(world.projects))]:
        pipeline["brand_new"] = 1
        pipeline["trigger"]["actor"]["badge"] = "x"
    with Server(world) as server:
        found = sync(server, streams=["pipelines"])
    assert found.status == 0
    warned = re.findall(r"pipelines: dropped the field (\S+) \(not in the schema\)", found.log)
    assert sorted(warned) == ["brand_new", "trigger.actor.badge"]


@pytest.mark.parametrize("place", ["metadata", "entry"])
def test_a_stream_may_be_asked_for_in_full(catalog, place):
    """FULL_TABLE in the metadata or on the stream, as Meltano writes it, applies to incremental streams."""
    chosen = json.loads(json.dumps(catalog))
    for entry in chosen["streams"]:
        if entry["tap_stream_id"] in ("pipelines", "deploy", "context"):
            if place == "metadata":
                metadata(entry)["replication-method"] = "FULL_TABLE"
            else:
                entry["replication_method"] = "full_table"
    assert select(chosen, "c").full_table == {"pipelines", "deploy"}
    assert select(catalog, "c").full_table == select(None, "").full_table == frozenset()
    for entry in chosen["streams"]:
        metadata(entry)["replication-method"] = "INCREMENTAL"  # which was said later than what discovery wrote
    assert select(chosen, "c").full_table == frozenset()


def test_every_mistake_in_a_catalog_is_named_at_once(catalog):
    """Each has a sentence with its place."""
    wrong = json.loads(json.dumps(catalog))
    metadata(wrong["streams"][1])["replication-method"] = "LOG_BASED"
    metadata(wrong["streams"][2])["selected"] = "yes"
    wrong["streams"][3]["schema"] = []
    wrong["streams"][4]["metadata"] = [{"breadcrumb": "properties"}]
    wrong["streams"][5]["tap_stream_id"] = "users"
    wrong["streams"].append(None)
    with pytest.raises(BadInput) as refused:
        select(wrong, "c")
    assert [sentence.split(", found")[0] for sentence in refused.value.args] == [
        "c: streams[1].metadata[0].metadata.replication-method must be FULL_TABLE or INCREMENTAL",
        "c: streams[2].metadata[0].metadata.selected must be true or false",
        "c: streams[3].schema must be an object",
        "c: streams[4].metadata[0].breadcrumb must be a list",
        "c: streams[4].metadata[0].metadata is missing.",
        "c: streams[5] must be an object whose tap_stream_id is a stream that --about lists",
        "c: streams[11] must not be null.",
    ]


def test_a_catalog_names_each_stream_once(catalog):
    """A stream that occurs twice is named, since its two entries may say different things."""
    twice = {"streams": [*catalog["streams"], catalog["streams"][2]]}
    with pytest.raises(BadInput, match=r"^c: streams names deploy more than once\.$"):
        select(twice, "c")


def test_extra_streams_are_for_those_who_ask(catalog):
    """Without a catalog the config names the extra streams; with one only the catalog counts."""
    assert set(EXTRA).isdisjoint(select(None, "").schemas)
    assert select(None, "", ("webhooks",)).schemas.keys() - select(None, "").schemas.keys() == {"webhooks"}
    assert select(catalog, "c", EXTRA).schemas.keys() == select(None, "").schemas.keys()
    more = {"streams": [{"tap_stream_id": "tests", "metadata": [{"breadcrumb": [], "metadata": {"selected": True}}]}]}
    assert set(select(more, "c").schemas) == {"tests"}
