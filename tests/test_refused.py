"""Refusals below the walk: nothing refused or doubtful counts as read, and all else is delivered."""

from __future__ import annotations

import re
from collections import Counter
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from tests.circleci import Fault, Server, World
from tests.tap import DEFAULT, EagerClock, Run, assert_same, expected, kept, sync, tables
from tests.worlds import NOW, WALK, pipeline_ids, world_of
from tests.worlds import furnished as with_settings

SLUG = "gh/acme/api"
INSIDE = ("job_details", "tests", "artifacts")
STREAMS = (*WALK, *INSIDE)


def furnished(pipelines: int) -> World:
    """A world whose jobs have a test and an artifact each."""
    world = world_of(pipelines)
    for job in (job for rows in world.rows["jobs"].values() for job in rows):
        world.tests[job["id"]] = [{"name": "test", "result": "success", "run_time": 1}]
        world.artifacts[job["id"]] = [{"path": "log.txt", "node_index": 0, "url": "https://files.example/log.txt"}]
    return world


def retries(state: Any) -> list[str]:
    return [name for stream in STREAMS if stream in state["bookmarks"] for name in kept(state, stream, SLUG)["retry"]]


def one_list(world: World, stream: str) -> str:
    """The end of the path of one list of a stream, below a pipeline of four days ago."""
    pipeline = pipeline_ids(world)[12]
    (workflow,) = world.rows["workflows"][pipeline]
    number = world.rows["jobs"][workflow["id"]][0]["job_number"]
    ends = {"workflows": f"{pipeline}/workflow", "jobs": f"{workflow['id']}/job", "job_details": f"/job/{number}"}
    return ends.get(stream, f"/{number}/{stream}")


@pytest.mark.parametrize("stream", STREAMS[1:])
def test_one_403_below_a_pipeline_is_asked_again_by_the_next_run(stream):
    """After one 403 the rest is sent, exit 0, and the next run completes the tables."""
    world = furnished(30)
    with Server(world) as server:
        end = one_list(world, stream)
        server.fault = lambda path, nth: Fault(403, {}, "<html>Forbidden</html>") if path.endswith(end) else None
        first = sync(server, streams=STREAMS)
        server.fault = None
        world.advance(timedelta(hours=1))
        second = sync(server, streams=STREAMS, state=first.state)
        whole = sync(server, streams=STREAMS)
    assert (first.status, second.status) == (0, 0)
    assert set(retries(first.state)) == {pipeline_ids(world)[12]}
    assert tables(first.lines) != tables(whole.lines)
    assert_same(tables(second.lines, tables(first.lines)), tables(whole.lines))
    assert not retries(second.state)


@pytest.mark.parametrize("after", [0, 1, *range(5, 19), 40, *range(64, 70)])
@pytest.mark.parametrize("workers", [1, 8])
def test_a_token_that_is_revoked_on_the_way_loses_nothing(after, workers):
    """If every list then answers 404 and /me 401, exit is 1, and a run with a good token completes the tables."""
    world = world_of(30)
    with Server(world, page_size=3) as server:
        requests = count()

        def revoked(path: str, _: int) -> Fault | None:
            if next(requests) < after + 1:  # the first is that for /me
                return None
            return Fault(401) if path.endswith("/me") else Fault(404)

        server.fault = revoked
        first = sync(server, streams=WALK, clock=EagerClock(), max_workers=workers)
        server.fault = None
        second = sync(server, streams=WALK, state=first.state)
        truth = expected(world.truth([SLUG]), WALK)
    assert first.status == 1
    assert second.status == 0
    assert_same(tables(second.lines, tables(first.lines)), truth)


@pytest.mark.parametrize("after", range(1, 12))
@pytest.mark.parametrize("workers", [1, 8])
def test_a_token_that_is_revoked_among_the_settings_removes_no_row(after, workers):
    """If all lists then answer 404, exit is 1, and no table that lacks rows is activated."""
    names = tuple(name for name in DEFAULT if name not in WALK)
    with Server(with_settings(world_of(1))) as server:
        whole = sync(server, streams=names, activate_version=True)
        calls, requests = server.calls, count()

        def revoked(path: str, _: int) -> Fault | None:
            if next(requests) < after:
                return None
            return Fault(401) if path.endswith("/me") else Fault(404)

        server.fault = revoked
        run = sync(server, streams=names, activate_version=True, max_workers=workers)
    activated = {message["stream"] for message in run.messages if message["type"] == "ACTIVATE_VERSION"}
    assert calls == 12
    assert run.status == 1, run.log
    assert "token" in run.criticals()[-1]
    assert all(len(run.rows(name)) == len(whole.rows(name)) for name in activated)


@pytest.mark.parametrize("workers", [1, 8])
@pytest.mark.parametrize("gone", [range(60), range(20, 60), range(0, 60, 2)], ids=["all", "from the middle", "half"])
def test_many_pipelines_whose_workflows_are_gone_stop_nothing(gone, workers):
    """Aged-out pipelines that answer 404 in a row are read as empty, and the walk goes on to its end."""
    world = world_of(60)
    for place in gone:
        world.aged_out[pipeline_ids(world)[place]] = "missing"
    with Server(world) as server:
        run = sync(server, streams=WALK, max_workers=workers)
        truth = expected(world.truth([SLUG]), WALK)
    assert run.status == 0
    assert_same(tables(run.lines), {stream: rows for stream, rows in truth.items() if rows})
    assert not retries(run.state)
    assert all(kept(run.state, stream, SLUG)["seen"][-1]["since"] is None for stream in WALK)
    assert "could not be read whole" not in run.log


def calls(server: Server) -> Counter[str]:
    """How many lists of each of the streams inside jobs were asked for."""
    kinds = {"job_details": r"/job/\d+$", "tests": r"/\d+/tests$", "artifacts": r"/\d+/artifacts$"}
    paths = [request.path for request in server.requests]
    return Counter({stream: sum(bool(re.search(kind, path)) for path in paths) for stream, kind in kinds.items()})


def of(run: Run, *streams: str) -> Any:
    """What a run sent of some streams."""
    return {stream: rows for stream, rows in tables(run.lines).items() if stream in streams}


@pytest.mark.parametrize("workers", [1, 8])
def test_a_stream_that_is_refused_for_a_whole_project_costs_a_few_calls_and_holds_up_no_other(workers):
    """There are few calls and one warning; once the stream is allowed, it is read from its own beginning."""
    world = furnished(60)
    project = world.project(SLUG)["id"]
    world.forbidden.add(("tests", project))
    with Server(world) as server:
        runs = [sync(server, streams=STREAMS, max_workers=workers)]
        first = calls(server)
        server.reset()
        world.advance(timedelta(hours=1))
        runs.append(sync(server, streams=STREAMS, max_workers=workers, state=runs[0].state))
        second = calls(server)
        world.forbidden.clear()
        runs.append(sync(server, streams=STREAMS, max_workers=workers, state=runs[1].state))
        whole = sync(server, streams=STREAMS)
    assert [run.status for run in runs] == [0, 0, 0]
    assert first["job_details"] == 120
    assert max(first["tests"], second["tests"]) <= 3 + workers
    assert second["job_details"] == 0
    for run in runs[:2]:
        assert not retries(run.state)
        assert kept(run.state, "tests", SLUG)["seen"] == []
        assert kept(run.state, "artifacts", SLUG)["seen"][-1]["since"] is None
        assert len([line for line in run.log.splitlines() if line.startswith("WARNING")]) == 1
    assert_same(of(runs[0], *STREAMS), of(whole, *(set(STREAMS) - {"tests"})))
    assert_same(of(runs[2], "tests"), of(whole, "tests"))


@pytest.mark.parametrize("marks", [("forbidden", "forbidden"), ("missing", "missing"), ("forbidden", "missing")])
def test_no_project_that_can_be_read_is_a_failure(marks):
    """A 403 or 404 for all named projects is exit 1."""
    world = world_of(3, "gh/acme/web", world_of(3))
    for row, mark in zip(world.projects.values(), marks, strict=True):
        getattr(world, mark).add(("pipelines", row["id"]))
    with Server(world) as server:
        run = sync(server, streams=WALK)
    assert run.status == 1
    assert "None of the projects in project_slugs can be read" in run.criticals()[-1]


@pytest.mark.parametrize("is_strict", [False, True])
def test_a_403_for_the_rest_of_a_list_is_named_as_that(is_strict):
    """The pipelines of the pages before it are sent, and the next run reads the rest; with strict exit 1."""
    refused = "for the rest of the list, after its first pages"
    with Server(with_settings(world_of(12)), page_size=3) as server:
        server.fault = lambda path, _: Fault(403) if "page-token" in path and "/job" not in path else None
        run = sync(server, streams=[*WALK, "context"], strict=is_strict)
        server.fault = None
        again = sync(server, streams=[*WALK, "context"], state=run.state, strict=is_strict)
        truth = expected(server.world.truth([SLUG]), [*WALK, "context"])
    assert run.status == int(is_strict), run.log
    assert (len(run.rows("pipelines")), len(run.rows("context"))) == (3, 3)
    assert "None of the projects" not in run.log
    warnings = [line for line in run.log.splitlines() if line.startswith("WARNING")]
    assert len(warnings) == 2
    assert all(f"permission denied (403) {refused}; skipped" in line for line in warnings)
    assert f"Skipped: 1 list of pipelines in {SLUG}: permission denied (403) {refused}" in run.log
    assert again.status == 0
    assert_same(tables(again.lines, tables(run.lines)), truth)


@pytest.mark.parametrize("is_strict", [False, True])
@pytest.mark.parametrize("what", ["project", "stream"])
def test_what_is_left_out_of_the_walk_is_a_failure_with_strict(what, is_strict):
    """A missing project, or a stream refused below one pipeline, is exit 1 with strict; the rest is sent."""
    world = world_of(3, "gh/acme/web", world_of(3))
    world.forbidden.add(
        ("pipelines", world.project("gh/acme/web")["id"]) if what == "project" else pipeline_ids(world)[1]
    )
    with Server(world) as server:
        run = sync(server, streams=WALK, strict=is_strict)
        truth = expected(world.truth([SLUG, "gh/acme/web"]), WALK)
    assert run.status == int(is_strict), run.log
    assert_same(tables(run.lines), truth)


def test_jobs_that_other_names_add_are_read():
    """With other `job_names` the details of the jobs that they add are sent, also after a cut."""
    world = World(NOW)
    for hours in range(3, 150, 7):
        pipeline = world.add_pipeline(SLUG, NOW - timedelta(hours=hours))
        world.add_workflow(pipeline, "build", stopped_at=timedelta(minutes=9), jobs=["build", "lint"])
    streams = ("job_details", "tests")
    with Server(world) as server:
        runs = [sync(server, streams=streams, job_names="build")]
        server.fault = lambda path, nth: Fault(500) if "/api/pipeline" in path else None
        runs.append(sync(server, streams=streams, job_names="build lint", state=runs[-1].state))
        server.fault = None
        for names in ("lint build", "build lint"):
            runs.append(sync(server, streams=streams, job_names=names, state=runs[-1].state))
    assert [run.status for run in runs] == [0, 1, 0, 0]
    assert [len(run.rows("job_details")) for run in runs] == [21, 0, 42, 0]


def test_two_jobs_with_the_same_number_get_their_own_details():
    """Each has its rows under its own id."""
    world = furnished(1)
    (jobs,) = [rows for rows in world.rows["jobs"].values() if rows]
    jobs[1]["job_number"] = jobs[0]["job_number"]
    with Server(world) as server:
        server.fault = lambda path, nth: Fault(200, {}, {"items": jobs}) if path.endswith("/job") else None
        run = sync(server, streams=INSIDE)
    assert {row["_job_id"] for row in run.rows("job_details")} == {job["id"] for job in jobs}
    assert {row["_job_id"] for row in run.rows("artifacts")} == {job["id"] for job in jobs}


@pytest.mark.parametrize("before", [2, 3])
def test_projects_that_a_dead_token_does_not_see_are_not_absent(before):
    """If the token is revoked between two projects and the others answer 404, exit is 1."""
    world = World(NOW)
    for name in "abcd":
        world.add_project(f"gh/acme/{name}")
    with Server(world) as server:

        def revoked(path: str, _: int) -> Fault | None:
            if server.calls <= before:  # /me, and then one call for each project
                return None
            return Fault(401) if path.endswith("/me") else Fault(404)

        server.fault = revoked
        run = sync(server, streams=WALK, max_workers=1)
    assert run.status == 1, run.log
    assert "token" in run.criticals()[-1]


def test_what_lies_below_a_refused_stream_waits_with_it():
    """If workflows are refused, the state of jobs stays as it was, and all is sent once they are allowed."""
    world = world_of(30)
    world.forbidden.add(("workflows", world.project(SLUG)["id"]))
    with Server(world) as server:
        first = sync(server, streams=WALK)
        few = [request.path for request in server.requests if request.path.endswith("/workflow")]
        world.forbidden.clear()
        second = sync(server, streams=WALK, state=first.state)
        truth = expected(world.truth([SLUG]), WALK)
    assert (first.status, second.status) == (0, 0)
    assert len(few) <= 3 + 8
    assert not retries(first.state)
    assert [kept(first.state, stream, SLUG)["seen"] for stream in WALK[1:]] == [[], []]
    assert_same(tables(second.lines, tables(first.lines)), truth)
