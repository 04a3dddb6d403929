"""Interrupted runs: after a new run from the last STATE no row is missing."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import tap_circleci
from tests.circleci import Fault, Server, World, demo_world, history, odd_world
from tests.tap import EagerClock, Run, assert_same, catalog_of, config_for, expected, kept, last_state, sync, tables
from tests.worlds import furnished, world_of

NOW = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)


def small_world() -> World:
    """Three projects in two organizations: some pages of pipelines, a rerun, a late end, and all the small things."""
    world = odd_world(NOW)
    for slug in ("gh/acme/api", "circleci/Labs/robots"):
        project = world.add_project(slug)
        for number in range(8):
            created = NOW - timedelta(hours=5 + 7 * number)
            pipeline = world.add_pipeline(
                project, created, workflows=[{"name": "build", "stopped_at": timedelta(minutes=9), "jobs": 2}]
            )
            if number == 2:
                world.rerun(pipeline, NOW + timedelta(hours=2))
            if number == 1:
                world.add_workflow(pipeline, "deploy", created, stopped_at=NOW + timedelta(hours=1), jobs=2)
        world.add_definition(project, "build")
        world.add_schedule(project, "nightly", NOW - timedelta(days=9))
        world.add_pipeline(project, NOW + timedelta(minutes=50), workflows=[{"stopped_at": timedelta(minutes=5)}])
    return world


def cuts(run: Run) -> Iterator[tuple[list[str], Any]]:
    """What a target has when the output is cut right after each STATE, where least has been sent since.

    A cut after any other line leaves more rows behind with the same state.
    """
    yield [], None
    for number, line in enumerate(run.lines, start=1):
        if '"STATE"' in line[:20]:
            yield list(run.lines[:number]), json.loads(line)["value"]


def truth_of(world: World) -> Any:
    return expected(world.truth([row["slug"] for row in world.projects.values()]))


@pytest.mark.parametrize("moved", [timedelta(0), timedelta(hours=3)], ids=["same world", "moved on"])
def test_a_run_cut_after_any_line_is_completed_by_the_next(moved):
    """After a cut at any line, and a second cut, the tables equal the truth in the end."""
    with Server(small_world(), page_size=3) as server:
        first = sync(server, clock=EagerClock())
        server.world.advance(moved)
        truth = truth_of(server.world)
        assert len(list(cuts(first))) > 20
        for number, (lines, state) in enumerate(cuts(first)):
            again = sync(server, state=state, clock=EagerClock())
            assert again.status == 0, again.log
            assert_same(tables(again.lines, tables(lines)), truth)
            states = list(cuts(again))
            more, then = states[number % len(states)]
            last = sync(server, state=then if then is not None else state)
            assert_same(tables(last.lines, tables(more, tables(lines))), truth)


def test_a_resumed_walk_does_not_read_again_what_is_done():
    """The run after a cut requests only the lists below pipelines that were not written or are new."""
    with Server(small_world(), page_size=3) as server:
        slug = "gh/acme/api"
        walk = ("pipelines", "workflows", "jobs")
        whole = sync(server, streams=walk, project_slugs=slug, clock=EagerClock(), lookback_days=0.01)
        calls = server.calls
        lines, state = list(cuts(whole))[2]
        assert all(kept(state, stream, slug)["seen"][-1]["since"] is not None for stream in walk)
        server.reset()
        rest = sync(server, state=state, streams=walk, project_slugs=slug, lookback_days=0.01)
        workflows = [request.path for request in server.requests if request.path.endswith("/workflow")]
        truth = expected(server.world.truth([slug]), walk)
    assert_same(tables(rest.lines, tables(lines)), truth)
    assert len(workflows) == len(set(workflows)) == 2
    assert server.calls < calls


def test_a_resumed_walk_that_is_cut_keeps_what_was_done():
    """A fault on a page that was done before takes nothing out of the state."""
    walk = ("pipelines", "workflows", "jobs")
    with Server(history(80, NOW), page_size=5) as server:
        whole = sync(server, streams=walk, clock=EagerClock())
        state = list(cuts(whole))[10][1]
        pages = iter(range(99))
        server.fault = lambda path, nth: Fault(500) if "/project/gh/" in path and next(pages) > 2 else None
        again = sync(server, state=state, streams=walk, clock=EagerClock())
    assert again.status == 1
    for stream in walk:
        done, after = (kept(run_state, stream, "gh/acme/big")["seen"] for run_state in (state, again.state))
        assert after[-1]["since"] == done[-1]["since"]


def test_what_fails_in_the_part_that_was_taken_up_is_not_forgotten():
    """Jobs that cannot be read while a walk is resumed are read by the next run, also if newer ones were read."""
    walk = ("pipelines", "workflows", "jobs")
    with Server(history(40, NOW), page_size=5) as server:
        slug = "gh/acme/big"
        first = sync(server, streams=walk, clock=EagerClock())
        lines, state = list(cuts(first))[3]
        pipeline = server.world.pipelines([server.world.project(slug)["id"]])[30]
        workflow = server.world.rows["workflows"][pipeline["id"]][0]
        server.fault = lambda path, nth: Fault(500) if workflow["id"] in path else None
        again = sync(server, state=state, streams=walk, lookback_days=90)
        server.fault = lambda path, nth: None
        last = sync(server, state=again.state, streams=walk, lookback_days=90)
        truth = expected(server.world.truth([slug]), walk)
    assert (again.status, last.status) == (1, 0)
    assert_same(tables([*again.lines, *last.lines], tables(lines)), truth)


def test_a_pipeline_that_was_pending_when_a_cut_walk_was_taken_up_is_sent_again():
    """It is sent in its final state, though its `updated_at` does not show the change."""
    with Server(history(40, NOW), page_size=5) as server:
        first = sync(server, streams=["pipelines"], clock=EagerClock())
        state = list(cuts(first))[2][1]
        rows = server.world.pipelines([server.world.project("gh/acme/big")["id"]])
        since = kept(state, "pipelines", "gh/acme/big")["seen"][-1]["since"]
        left = [row for row in rows if row["created_at"] < since]
        for row in left:
            row["state"] = "setup"
        runs = [sync(server, streams=["pipelines"], state=state, lookback_days=90)]
        for row in left:
            row["state"] = "created"
        runs.append(sync(server, streams=["pipelines"], state=runs[0].state, lookback_days=90))
    for pipeline in (left[0], left[-1]):
        sent = [row["state"] for run in runs for row in run.rows("pipelines") if row["id"] == pipeline["id"]]
        assert sent == ["setup", "created"]


def test_a_killed_process_is_completed_by_the_next(tmp_path: Path):
    """After SIGKILL in the middle, a run from the last STATE on the pipe sends all that is missing."""
    with Server(demo_world(NOW), latency=0.02) as server:
        config = tmp_path / "config.json"
        config.write_text(json.dumps(config_for(server)))
        program = [sys.executable, "-m", "tap_circleci", "--config", str(config)]
        output = tmp_path / "output"
        with output.open("wb") as file, subprocess.Popen(program, stdout=file, stderr=subprocess.DEVNULL) as process:
            while output.stat().st_size == 0 or b'"since": "2' not in output.read_bytes():
                time.sleep(0.05)
            os.kill(process.pid, signal.SIGKILL)
        lines = output.read_bytes().decode().split("\n")[:-1]
        server.latency = 0
        state = last_state(lines)
        assert state is not None
        again = sync(server, state=state)
        assert again.status == 0
        assert_same(tables(again.lines, tables(lines)), truth_of(server.world))


def test_the_next_run_starts_with_the_stream_that_was_cut():
    """The run begins at the stream in currently_syncing and then reads all others."""
    with Server(small_world()) as server:
        state = copy.deepcopy(sync(server).state)
        state["currently_syncing"] = "pipeline_definition"
        run = sync(server, state=state)
        asked = [request.path for request in server.requests]
    announced = [m["stream"] for m in run.messages if m["type"] == "SCHEMA"]
    assert announced[0] == "pipeline_definition"
    assert announced[-1] == "project"
    assert_same({"project": tables(run.lines)["project"]}, {"project": truth_of(server.world)["project"]})
    assert len([path for path in asked if "/api/private/project" in path]) == 2 * 2


class WithoutMemory(io.StringIO):
    """An output for one of whose blocks there is no memory."""

    def __init__(self, place: int) -> None:
        super().__init__()
        self._left = place

    def write(self, text: str) -> int:
        self._left -= 1
        if self._left == 0:
            raise MemoryError
        return super().write(text)


def test_no_row_that_the_state_claims_is_missing_when_memory_runs_out(tmp_path: Path):
    """Where there is no memory to write rows, the last state claims none of them: the next run leaves nothing out."""
    streams = ("deploy", "schedule")
    config, catalog = tmp_path / "config.json", tmp_path / "catalog.json"
    catalog.write_text(json.dumps(catalog_of(*streams)))
    with Server(furnished(world_of(1))) as server:
        config.write_text(json.dumps(config_for(server)))
        config.chmod(0o600)
        truth = expected(server.world.truth(["gh/acme/api"]), streams)
        for place in range(1, 6):
            output = WithoutMemory(place)
            with pytest.raises(SystemExit) as ended, contextlib.redirect_stdout(output):
                tap_circleci.main(["--config", str(config), "--catalog", str(catalog)], EagerClock())
            assert ended.value.code == 1
            lines = output.getvalue().splitlines()
            again = sync(server, state=last_state(lines), streams=streams)
            assert_same(tables(again.lines, tables(lines)), truth)
