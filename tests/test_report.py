"""What the user is told: progress, and at the end what was done and what was skipped."""

from __future__ import annotations

import json
from datetime import timedelta

from tests.circleci import Fault, Server, history
from tests.tap import EagerClock, sync
from tests.worlds import NOW, WALK, furnished, world_of


def test_thousands_of_absent_projects_are_named_in_a_few_lines():
    """The first ones have a line each, the summary tells how many there are; the run is not an error."""
    slugs = ["gh/acme/api", *(f"gh/acme/gone-{number}" for number in range(1000))]
    with Server(world_of(1)) as server:
        run = sync(server, project_slugs=slugs, streams=["pipelines"])
    assert run.status == 0
    about = [line for line in run.log.splitlines() if "gone-" in line]
    assert len(about) <= 13
    assert "gone-0: there is no such project" in run.log
    assert any(line.endswith("gone-9 and 990 more") for line in about), about[-1]
    assert max(map(len, about)) < 1000


def test_many_forbidden_lists_are_named_in_a_few_lines():
    """A token without permissions is told of briefly."""
    with Server(world_of(60)) as server:
        server.fault = lambda path, nth: Fault(403) if path.endswith("/job") else None
        run = sync(server, streams=WALK)
    assert run.status == 0
    assert run.log.count("permission denied") <= 11
    assert "Skipped, since permission was denied: " in run.log


def test_the_summary_counts_rows_and_calls():
    """Each selected stream has its count, and metrics tell the same as lines that programs read."""
    with Server(furnished(world_of(3))) as server:
        run = sync(server)
        calls = server.calls
    points = [json.loads(line.partition("METRIC: ")[2]) for line in run.log.splitlines() if "METRIC" in line]
    counts = {point["tags"]["endpoint"]: point["value"] for point in points if point["type"] == "counter"}
    assert counts == {stream: len(run.rows(stream)) for stream in counts}
    assert counts["pipelines"] == 3
    assert f"Calls: {calls}, of them 0 repeated" in run.log
    assert "pipelines 3, workflows 3, jobs 6" in run.log


def test_progress_tells_the_project_and_how_far_back_it_has_come():
    """On a long walk a line now and then says where the run is."""
    with Server(history(130, NOW)) as server:
        run = sync(server, streams=WALK, clock=EagerClock())
    lines = [line for line in run.log.splitlines() if "project 1 of 1" in line]
    assert any("calls/s; gh/acme/big back to 2026-03-" in line and " left; " in line for line in lines)


def test_a_run_that_looks_further_back_says_so():
    """The log tells why a sync cost more calls than the one before."""
    with Server(history(30, NOW)) as server:
        runs = [sync(server)]
        for pause in (timedelta(days=43), timedelta(seconds=1)):
            server.world.advance(pause)
            runs.append(sync(server, state=runs[-1].state))
    said = ["Looked back" in run.log for run in runs]
    assert said == [False, True, False]
