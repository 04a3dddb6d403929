"""The service misbehaving: nothing lost, nobody flooded, nothing leaked."""

from __future__ import annotations

import json
import re
import threading
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.circleci import Fault, Server
from tests.tap import EagerClock, assert_same, expected, kept, sync, tables
from tests.worlds import NOW, PASSING, WALK, furnished, pipeline_ids, truth_of, world_of


def test_patterns_that_match_nothing_are_told():
    """An organization all of whose projects are left out is a mistake with a name of its own."""
    with Server(world_of(1)) as server:
        run = sync(server, project_slugs="gh/acme/* !gh/acme/a*", streams=WALK)
    assert run.status == 1
    assert "names no project" in run.criticals()[0]


def test_a_slug_that_is_not_there_is_named_and_skipped():
    """One unknown slug among others is warned about; nothing but unknown slugs is an error."""
    with Server(world_of()) as server:
        some = sync(server, project_slugs="gh/acme/gone gh/acme/api", streams=WALK)
        none = sync(server, project_slugs="gh/acme/gone", streams=WALK)
    assert some.status == 0
    assert "WARNING gh/acme/gone: there is no such project" in some.log
    assert len(some.rows("pipelines")) == 10
    assert none.status == 1
    assert "None of the projects" in none.criticals()[0]


@pytest.mark.parametrize("slugs", ["gh/acme/nope", "gh/acme/nothing-*"])
def test_without_any_project_the_other_streams_are_delivered(slugs):
    """No slug exists, or no project matches: exit 1 in each run, and each has the rows of the organizations."""
    world = world_of(2)
    world.add_context(world.organization("gh/acme"), "deploy", NOW)
    with Server(world) as server:
        runs = [sync(server, project_slugs=slugs)]
        runs.append(sync(server, project_slugs=slugs, state=runs[0].state))
    for run in runs:
        assert (run.status, len(run.rows("context")), len(run.criticals())) == (1, 1, 1)
        assert run.state["currently_syncing"] is None


def test_a_forbidden_organization_is_named_and_skipped():
    """403 below one organization: the others are complete, exit 0."""
    world = world_of(2)
    world_of(2, "gh/other/web", world)
    for slug in ("gh/acme", "gh/other"):
        world.add_context(world.organization(slug), "deploy", NOW)
    world.forbidden.add(world.organization("gh/acme")["id"])
    with Server(world) as server:
        run = sync(server)
        truth = truth_of(world)
    assert run.status == 0, run.log
    assert "permission denied (403)" in run.log
    assert len(run.rows("context")) == 1
    assert_same({stream: tables(run.lines)[stream] for stream in WALK}, {stream: truth[stream] for stream in WALK})


def test_a_pipeline_that_cannot_be_read_is_named_and_read_next_time():
    """Everything else is delivered, exit 1, and the next run asks for it again, however old it is."""
    with Server(world_of(30)) as server:
        broken = pipeline_ids(server.world)[25]
        server.fault = lambda path, nth: Fault(500) if broken in path else None
        first = sync(server, streams=WALK)
        truth = expected(server.world.truth(["gh/acme/api"]), WALK)
        assert first.status == 1
        assert broken in first.criticals()[0]
        assert len(tables(first.lines)["workflows"]) == 29
        for stream in ("workflows", "jobs"):
            assert kept(first.state, stream, "gh/acme/api")["retry"] == [broken]
        assert "retry" not in kept(first.state, "pipelines", "gh/acme/api")
        server.fault = lambda path, nth: None
        server.world.advance(timedelta(hours=1))
        again = sync(server, state=first.state, streams=WALK)
    assert again.status == 0
    assert "retry" not in json.dumps(again.state)
    assert_same(tables(again.lines, tables(first.lines)), truth)


@pytest.mark.parametrize("meanwhile", [("pipelines",), ("workflows",), ("pipelines", "workflows")])
@pytest.mark.parametrize("below", ["workflow", "job"])
def test_what_could_not_be_read_is_not_forgotten_while_its_stream_is_deselected(meanwhile, below):
    """A run that selects other streams leaves what is owed to the next one that selects them."""
    with Server(world_of(30)) as server:
        broken = pipeline_ids(server.world)[25]
        name = broken if below == "workflow" else server.world.rows["workflows"][broken][0]["id"]
        server.fault = lambda path, nth: Fault(500) if name in path else None
        runs = [sync(server, streams=WALK)]
        server.fault = lambda path, nth: None
        for streams in (meanwhile, WALK, WALK):
            server.world.advance(timedelta(hours=1))
            runs.append(sync(server, streams=streams, state=runs[-1].state))
        truth = expected(server.world.truth(["gh/acme/api"]), WALK)
    assert [run.status for run in runs] == [1, 0, 0, 0]
    assert_same(tables(line for run in runs for line in run.lines), truth)
    assert "retry" not in json.dumps(runs[-1].state)


def test_many_neighbours_that_cannot_be_read_do_not_end_the_run_of_a_service_that_is_up():
    """Thirty pipelines in a row fail for good: the older ones are delivered all the same."""
    with Server(world_of(60)) as server:
        broken = set(pipeline_ids(server.world)[10:40])
        server.fault = lambda path, nth: Fault(503) if any(name in path for name in broken) else None
        run = sync(server, streams=WALK)
    assert run.status == 1
    assert len(run.criticals()) == 30
    assert len(run.rows("pipelines")) == 60
    assert len(run.rows("workflows")) == 30


def test_a_service_that_breaks_for_many_pipelines_loses_none():
    """With more failures than the state can name, the steps end above them and the next run goes on there."""
    with Server(world_of(60)) as server:
        broken = set(pipeline_ids(server.world)[0:60:2])
        server.fault = lambda path, nth: Fault(500) if any(name in path for name in broken) else None
        first = sync(server, streams=WALK)
        truth = expected(server.world.truth(["gh/acme/api"]), WALK)
        assert first.status == 1
        workflows = kept(first.state, "workflows", "gh/acme/api")
        assert "since" in workflows["seen"][-1]
        assert len(workflows["retry"]) <= 20
        server.fault = lambda path, nth: None
        again = sync(server, state=first.state, streams=WALK)
    assert again.status == 0
    assert_same(tables(again.lines, tables(first.lines)), truth)


def test_a_page_that_is_lost_is_read_later_and_new_rows_keep_coming():
    """A page token that answers 404: exit 1; while it lasts, what is new is delivered; then the rest."""
    with Server(world_of(50)) as server:
        lost = re.compile("page-token")
        server.fault = lambda path, nth: Fault(404) if lost.search(path) and "/project/" in path else None
        first = sync(server, streams=WALK)
        assert first.status == 1
        assert "since" in kept(first.state, "pipelines", "gh/acme/api")["seen"][-1]
        server.world.advance(timedelta(hours=5))
        server.world.add_pipeline("gh/acme/api", NOW + timedelta(hours=1), workflows=[{"jobs": 1}])
        second = sync(server, state=first.state, streams=WALK)
        assert second.status == 1
        held = tables(second.lines, tables(first.lines))
        assert len(held["pipelines"]) == 21
        server.fault = lambda path, nth: None
        third = sync(server, state=second.state, streams=WALK)
        truth = expected(server.world.truth(["gh/acme/api"]), WALK)
    assert third.status == 0
    assert_same(tables(third.lines, held), truth)


def test_a_page_that_stays_lost_makes_no_run_dearer_than_the_one_before():
    """While the rest cannot be read, each run reads what is new or due above it, and vouches for that."""
    with Server(world_of(160)) as server:
        lost = pipeline_ids(server.world)[130]
        runs, calls = [], []
        for _ in range(8):
            server.reset()
            page = server.world.pipelines([server.world.project("gh/acme/api")["id"]])
            place = [row["id"] for row in page].index(lost) // 20
            seen = iter(range(10**6))
            server.fault = lambda path, nth, seen=seen, place=place: (
                Fault(404) if "pipeline?page-token" in path and next(seen) % place == place - 1 else None
            )
            runs.append(sync(server, streams=WALK, state=runs[-1].state if runs else None, lookback_days=1))
            calls.append(server.calls)
            server.world.add_pipeline("gh/acme/api", server.world.now, workflows=[{"jobs": 2}])
            server.world.advance(timedelta(hours=12))
        server.fault = lambda path, nth: None
        runs.append(sync(server, streams=WALK, state=runs[-1].state, lookback_days=1))
        truth = expected(server.world.truth(["gh/acme/api"]), WALK)
    assert [run.status for run in runs] == [1] * 8 + [0]
    assert_same(tables(line for run in runs for line in run.lines), truth)
    assert max(calls[2:]) <= calls[1] < calls[0] / 3, calls


def test_aged_out_pipelines_are_read_as_empty():
    """404, an empty list or items without ids below an old pipeline: counted, exit 0."""
    world = world_of(6)
    for name, how in zip(pipeline_ids(world), ("missing", "empty", "null"), strict=False):
        world.aged_out[name] = how
    with Server(world) as server:
        run = sync(server)
        truth = truth_of(world)
    assert run.status == 0, run.log
    assert "gh/acme/api: 1 aged-out or deleted resources (404) read as empty" in run.log
    assert_same(tables(run.lines), truth)


def test_a_service_that_goes_down_ends_the_run_which_the_next_completes():
    """Down at the start, or for all but the lists after some calls: exit 1 within bounded attempts, and the next run
    completes it."""
    for after in (0, 30):
        with Server(world_of(80)) as server:
            seen = iter(range(10**6))
            server.fault = lambda path, nth, seen=seen, after=after: (
                Fault(broken="reset") if "/project/" not in path and next(seen) >= after else None
            )
            run = sync(server, streams=WALK, clock=EagerClock())
            assert run.status == 1
            assert "cannot be reached" in run.criticals()[-1]
            assert server.calls < 400
            server.fault = lambda path, nth: None
            again = sync(server, state=run.state, streams=WALK)
            assert_same(tables(again.lines, tables(run.lines)), expected(server.world.truth(["gh/acme/api"]), WALK))
    with Server(world_of(1)) as server:
        server.down()
        run = sync(server)
        server.up()
    assert run.status == 1
    assert "connection refused" in run.criticals()[0]


FAULTS = st.sampled_from([None] * 12 + list(PASSING.values()) + [Fault(403), Fault(404)])


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(FAULTS, max_size=120), st.integers(0, 3), st.sampled_from([1, 4]))
def test_any_mixture_of_faults_gives_the_quiet_tables_or_exit_1_and_a_state_that_does(faults, harder, workers):
    """Faults in any order: the output equals that of a quiet run, or the exit is 1 and resuming completes it."""
    with Server(furnished(world_of(12)), page_size=5) as server:
        drawn = iter(faults)
        lock = threading.Lock()

        def fault(path: str, nth: int) -> Fault | None:
            with lock:
                found = next(drawn, None)
            if found is not None and found.status in (403, 404):
                # Without end these mean "not for you" and "not there"; only below a page token do they pass.
                found = Fault(404) if found.status == 404 and "/project/" in path and "page-token" in path else None
            return found if found is None or nth <= 3 + harder else None

        server.fault = fault
        run = sync(server, max_workers=workers, page_size=2, clock=EagerClock())
        server.fault = lambda path, nth: None
        held = tables(run.lines)
        if run.status != 0:
            assert run.status == 1
            assert run.criticals()
            resumed = sync(server, state=run.state)
            assert resumed.status == 0, resumed.log
            tables(resumed.lines, held)
        assert_same(held, truth_of(server.world))
    assert "Traceback" not in run.log
