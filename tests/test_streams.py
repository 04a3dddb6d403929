"""Streams are values: what differs between them is a field, and a new one needs only its value and schema."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

import tap_circleci
from tap_circleci import streams
from tap_circleci.streams import ROOT, STREAMS, family_of
from tests import test_seen
from tests.circleci import Answer, Request, Server, stamp
from tests.lives import NAMES, ONCE
from tests.tap import DEFAULT, EagerClock, assert_same, config_for, expected, sync, tables
from tests.worlds import NOW, WALK, furnished, world_of

PACKAGE = Path(tap_circleci.__file__).parent
REPOSITORY = Path(__file__).parent.parent

ADDED = """
USAGE += (
    Stream(
        "steps_of_jobs",
        Source("/api/v2/job/{job_id}/steps", DOCS),
        key=("_job_id", "number"),
        parent="jobs",
        row=Columns(identity=("number",), child_context={"number": "number"}, parent_columns={"_job_id": "job_id"}),
    ),
    Stream(
        "lines_of_steps",
        Source("/api/v2/job/{job_id}/steps/{number}/lines", DOCS),
        key=("_job_id", "_number", "place"),
        parent="steps_of_jobs",
        row=Columns(identity=("place",), parent_columns={"_job_id": "job_id", "_number": "number"}),
    ),
    Stream(
        "labels_of_workflows",
        Source("/api/v2/workflow/{workflow_id}/labels", DOCS),
        key=("_workflow_id", "label"),
        parent="workflows",
        row=Columns(identity=("label",), parent_columns={"_workflow_id": "workflow_id"}),
    ),
    Stream(
        "origins_of_pipelines",
        Source("/api/v2/pipeline/{pipeline_id}/origin", DOCS),
        key=("_pipeline_id", "name"),
        parent="pipelines",
        row=Columns(identity=("name",), parent_columns={"_pipeline_id": "pipeline_id"}),
        timing=Timing(once=True),
    ),
    Stream(
        "context_events",
        Source("/api/v2/context/{context_id}/events", DOCS),
        parent="context",
        replication_key="happened_at",
        row=Columns(parent_columns={"context_id": "context_id"}),
    ),
)
"""
SCHEMAS = {
    "steps_of_jobs": {"_job_id": "string", "number": "integer", "name": "string"},
    "lines_of_steps": {"_job_id": "string", "_number": "integer", "place": "integer"},
    "labels_of_workflows": {"_workflow_id": "string", "label": "string"},
    "origins_of_pipelines": {"_pipeline_id": "string", "name": "string"},
    "context_events": {"id": "string", "context_id": "string", "happened_at": "date-time"},
}


def constants(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """The texts in a module that are no docstrings and no nouns of a counted thing, each with its line."""
    documentation = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    documentation |= {
        id(noun)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "counted"
        for noun in node.args
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value, node.lineno


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_no_stream_is_named_in_code(path: Path):
    """No text in the code is the name of a stream or a path with one, except words that the API has, too."""
    if path.parent.name == "streams":
        pytest.skip("here they are named")
    named = [
        (text, line)
        for text, line in constants(ast.parse(path.read_text(encoding="utf-8")))
        if text in STREAMS or {*re.split(r"[./]", text)} & {*STREAMS} - {"project", "context"}
    ]
    assert not named


def test_every_stream_has_its_parent_before_it_and_a_schema():
    """A run from scratch reads parents first, and each table has its columns."""
    names = list(STREAMS)
    for stream in STREAMS.values():
        assert stream.parent is None or names.index(stream.parent) < names.index(stream.name)
        schema = json.loads((PACKAGE / "schemas" / f"{stream.name}.json").read_text())
        columns = {
            *stream.key,
            *stream.row.parent_columns,
            *stream.row.default_columns,
            *filter(None, [stream.replication_key]),
        }
        assert columns <= schema["properties"].keys()


def test_the_ids_that_a_stream_needs_are_given_by_its_ancestors():
    """Each name in a path, a parameter or a column is the id of an ancestor, or the project's slug."""
    for stream in STREAMS.values():
        given = {"project_slug"} if stream in streams.WALK else set()
        ancestor = stream
        while ancestor.parent is not None:
            ancestor = STREAMS[ancestor.parent]
            given |= set(ancestor.row.child_context.values())
        assert stream.needs <= given, stream.name


def test_the_tree_follows_from_the_parents():
    """The walk's streams are the root and all below it; a stream without an end follows its parent."""
    assert [stream.name for stream in streams.WALK][:3] == list(WALK)
    assert streams.WALK[0] is ROOT
    assert family_of(STREAMS["context"])[0] is STREAMS["context"]
    assert STREAMS["jobs"].belongs_to_parent
    assert not STREAMS["workflows"].belongs_to_parent


@pytest.mark.parametrize("name", list(STREAMS))
def test_the_replication_method_follows_from_the_replication_key(name):
    """A stream with a replication key is incremental; all others are full tables."""
    stream = STREAMS[name]
    assert (stream.replication_method == "INCREMENTAL") == (stream.replication_key is not None)


# Some streams more


def copied(folder: Path) -> Path:
    """The package in a folder of its own, with these streams as well."""
    package = folder / "tap_circleci"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    with (package / "streams" / "usage.py").open("a") as values:
        values.write(ADDED)
    for name, columns in SCHEMAS.items():
        properties = {
            column: {"type": ["null", "string"], "format": kind} if kind == "date-time" else {"type": ["null", kind]}
            for column, kind in columns.items()
        }
        (package / "schemas" / f"{name}.json").write_text(json.dumps({"type": "object", "properties": properties}))
    return folder


def serving() -> Server:
    """A world with jobs and contexts, and the lists of these streams."""
    server = Server(furnished(world_of(12)), page_size=3)
    server.aside = lambda request: more(server, request)
    return server


def more(server: Server, request: Request) -> Answer | None:
    """The steps of a job: as many as its number leaves when divided by three. The events of a context: three, the
    later contexts' long before those of the first, and one more each day."""
    match request.path.split("?")[0].split("/")[3:]:
        case ["job", job, "steps"]:
            rows = steps_of(job)
        case ["job", _, "steps", number, "lines"]:
            rows = [{"place": place} for place in range(int(number) + 1)]
        case ["workflow", workflow, "labels"]:
            rows = [{"label": workflow[:3]}]
        case ["pipeline", pipeline, "origin"]:
            rows = [{"name": pipeline[:3]}]
        case ["context", context, "events"]:
            rows = events_of(server, context)
        case _:
            return None
    return Answer(200, {"items": rows, "next_page_token": None})


def steps_of(job: str) -> list[dict[str, object]]:
    return [{"number": number, "name": f"step {number}"} for number in range(int(job[-2:], 16) % 3)]


def events_of(server: Server, context: str) -> list[dict[str, object]]:
    contexts = [row["id"] for row in server.world.rows["context"][server.world.organizations[0]["id"]]]
    place = contexts.index(context)
    newest = server.world.now - timedelta(days=30 * place)
    times = [newest, *(NOW - timedelta(days=30 * place + number) for number in (1, 2))]
    return [{"id": f"{context} {stamp(time)}", "happened_at": stamp(time)} for time in times]


def truth_of(server: Server) -> dict[str, list[dict[str, object]]]:
    """All rows that there are, those of these streams with the ids of their parents."""
    truth = server.world.truth(["gh/acme/api"])
    steps = [{**row, "_job_id": job["id"]} for job in truth["jobs"] for row in steps_of(job["id"])]
    events = [{**row, "context_id": one["id"]} for one in truth["context"] for row in events_of(server, one["id"])]
    lines = [
        {"_job_id": step["_job_id"], "_number": step["number"], "place": place}
        for step in steps
        for place in range(int(str(step["number"])) + 1)
    ]
    return {
        **truth,
        "steps_of_jobs": steps,
        "lines_of_steps": lines,
        "labels_of_workflows": [{"_workflow_id": row["id"], "label": row["id"][:3]} for row in truth["workflows"]],
        "origins_of_pipelines": [{"_pipeline_id": row["id"], "name": row["id"][:3]} for row in truth["pipelines"]],
        "context_events": events,
    }


def cut_everywhere() -> None:
    """Sync them; cut the output after every STATE, and go on from there; then send only what is new."""
    assert STREAMS.keys() > SCHEMAS.keys()
    with serving() as server:
        first = sync(server, clock=EagerClock())
        assert first.status == 0, first.log
        truth = expected(truth_of(server), DEFAULT)
        assert truth["steps_of_jobs"]
        assert_same(tables(first.lines), truth)
        places = [number for number, line in enumerate(first.lines, start=1) if '"STATE"' in line[:20]]
        assert len(places) > 10
        for place in places:
            lines = first.lines[:place]
            rest = sync(server, state=json.loads(lines[-1])["value"])
            assert rest.status == 0, rest.log
            assert_same(tables(rest.lines, tables(lines)), truth)
        contexts = {row["id"] for row in first.rows("context")}
        assert first.state["bookmarks"]["context_events"].keys() == contexts
        assert "steps_of_jobs" in first.state["bookmarks"]
        server.world.advance(timedelta(hours=1))
        again = sync(server, state=first.state)
        for stream in SCHEMAS.keys() - {"context_events"}:
            assert not again.rows(stream)
        assert {row["context_id"] for row in again.rows("context_events")} == contexts
        assert len(again.rows("context_events")) == len(contexts)
        alone = sync(server, streams=["steps_of_jobs"])
        jobs = [{row["_job_id"] for row in run.rows("steps_of_jobs")} for run in (alone, first)]
        assert jobs[0] == jobs[1]
        state = first.state
        del state["bookmarks"]["steps_of_jobs"]
        reset = sync(server, state=state)
        assert len(reset.rows("steps_of_jobs")) == len(first.rows("steps_of_jobs"))
        assert not reset.rows("jobs")


def run_copy(folder: Path, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{REPOSITORY}", **more}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_streams_are_added_by_values_and_schemas(tmp_path: Path):
    """Streams added at all depths of the walk, and below contexts, are synced completely without other code."""
    folder = copied(tmp_path)
    with serving() as server:
        config = folder / "config.json"
        config.write_text(json.dumps(config_for(server)))
        config.chmod(0o600)
        found = run_copy(folder, "-m", "tap_circleci", "--config", str(config))
        truth = truth_of(server)
    assert found.returncode == 0, found.stderr
    messages = [json.loads(line) for line in found.stdout.splitlines()]
    for stream in SCHEMAS:
        rows = [message["record"] for message in messages if message.get("stream") == stream and "record" in message]
        assert len(rows) == len(truth[stream]) > 3
    state = messages[-1]["value"]["bookmarks"]
    assert len(state["context_events"]) == 4
    assert state["steps_of_jobs"]["gh/acme/api"]["seen"]


def test_streams_that_were_added_are_resumed_wherever_they_were_cut(tmp_path: Path):
    """After a cut at any STATE no row of them is missing, and a second sync sends only what is new."""
    found = run_copy(copied(tmp_path), "-m", "tests.test_streams")
    assert found.returncode == 0, found.stderr[-3000:]


def live() -> None:
    """Go through random lives with them, which a list that never changes is asked for once in."""
    assert set(ONCE) > {"origins_of_pipelines"}
    assert set(NAMES) > SCHEMAS.keys() - {"context_events"}
    test_seen.test_after_every_completed_sync_the_tables_are_complete_and_true_within_the_bounds()
    test_seen.test_no_trouble_loses_a_row_or_leaves_one_stale_beyond_the_bound()
    test_seen.test_a_list_that_never_changes_is_asked_once_for_each_pipeline()
    test_seen.test_what_lies_below_a_final_row_is_not_asked_again_once_that_is_two_hours_old()


def test_random_lives_hold_for_streams_that_were_added(tmp_path: Path):
    """With three more streams in the tree the random lives are complete, in time, and without needless requests."""
    found = run_copy(copied(tmp_path), "-W", "ignore", "-m", "tests.test_streams", "live", LIVES="20")
    assert found.returncode == 0, found.stderr[-3000:]


if __name__ == "__main__":
    live() if "live" in sys.argv else cut_everywhere()
