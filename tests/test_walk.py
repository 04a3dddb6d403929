"""The walk through a project's pipelines: what is requested, what is not, and where the next run resumes."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.circleci import Fault, Server, history, moment
from tests.lives import DAY, HOUR, MINUTE
from tests.tap import EagerClock, assert_same, expected, kept, sync, tables
from tests.worlds import NOW, WALK, pipeline_ids, world_of

SLUG = "gh/acme/api"


def retries(state: Any) -> list[str]:
    """All pipelines that a state names for another try."""
    marks = (mark for stream in state["bookmarks"].values() for mark in stream.values())
    return [name for mark in marks for name in mark.get("retry", ())]


PAUSES = st.sampled_from([20 * MINUTE, HOUR, DAY, 9 * DAY])
RERUNS = st.lists(st.tuples(st.integers(0, 11), st.sampled_from([HOUR, 7 * HOUR, 3 * DAY])), max_size=4)


@settings(max_examples=14, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(PAUSES, st.integers(0, 3), st.sampled_from(["", "cut", "500", "lost"]), st.integers(0, 30), RERUNS),
        min_size=2,
        max_size=5,
    )
)
def test_any_life_of_a_project_is_complete_and_true(life):
    """With new pipelines, reruns, cuts, failures and lost pages, the tables are true in the end."""
    world = world_of(12)
    lines: list[str] = []
    state = None
    with Server(world, page_size=3) as server:
        for pause, new, trouble, number, reruns in life:
            for place in range(new):
                world.add_pipeline(SLUG, world.now + place * MINUTE, workflows=[{"stopped_at": 5 * MINUTE, "jobs": 1}])
            for place, later in reruns:
                name = pipeline_ids(world)[place]
                created = next(row for row in world.pipelines([world.project(SLUG)["id"]]) if row["id"] == name)
                world.rerun(created, world.now + min(later, pause))
            world.advance(pause)
            seen = iter(range(10**6))
            server.fault = {
                "500": lambda path, nth, seen=seen, number=number: Fault(500) if next(seen) % 31 == number else None,
                "lost": lambda path, nth: Fault(404) if "page-token" in path and "/project/" in path else None,
            }.get(trouble)
            run = sync(server, streams=WALK, state=state, clock=EagerClock(), lookback_days=60)
            cut = list(run.lines)
            if trouble == "cut":
                places = [place for place, line in enumerate(cut, start=1) if '"STATE"' in line[:20]]
                cut = cut[: places[number % len(places)]]
            lines += cut
            state = json.loads(cut[-1])["value"] if '"STATE"' in cut[-1][:20] else state
            assert run.status in ((0, 1) if trouble in ("500", "lost") else (0,)), run.log
        server.fault = None
        last = sync(server, streams=WALK, state=state, lookback_days=60)
        assert last.status == 0
        assert_same(tables([*lines, *last.lines]), expected(world.truth([SLUG]), WALK))


def test_debug_lines_say_why_a_pipeline_was_read_or_not(monkeypatch: pytest.MonkeyPatch):
    """At DEBUG each listed pipeline has a line with its times and the next look, and nothing else of its row."""
    with Server(world_of(30)) as server:
        first = sync(server, streams=WALK)
        server.world.advance(HOUR)
        monkeypatch.setenv("TAP_CIRCLECI_LOGLEVEL", "DEBUG")
        again = sync(server, streams=WALK, state=first.state)
    said = [line for line in again.log.splitlines() if line.startswith("DEBUG") and "pipeline " in line]
    assert len(said) >= 20
    assert any("due, and in the tables as of: nothing" in line for line in said)
    assert any("'jobs': '2026-03-10T12:00:00Z'" in line for line in said)
    assert all("next look: 20" in line for line in said)
    assert "main" not in " ".join(said)
    assert "DEBUG" not in first.log


def test_a_pipeline_that_cannot_be_read_is_named_and_read_next_time():
    """Everything else is delivered, exit 1, and the next run reads it, however old it is."""
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
        assert kept(first.state, "pipelines", "gh/acme/api")["retry"] == []
        server.fault = lambda path, nth: None
        server.world.advance(timedelta(hours=1))
        again = sync(server, state=first.state, streams=WALK)
    assert again.status == 0
    assert not retries(again.state)
    assert_same(tables(again.lines, tables(first.lines)), truth)


@pytest.mark.parametrize("meanwhile", [("pipelines",), ("workflows",), ("pipelines", "workflows")])
@pytest.mark.parametrize("below", ["workflow", "job"])
def test_what_could_not_be_read_is_not_forgotten_while_its_stream_is_deselected(meanwhile, below):
    """A run that selects other streams keeps the retries for the next run that selects the stream."""
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
    assert not retries(runs[-1].state)


def test_a_service_that_breaks_for_many_pipelines_loses_none():
    """With more failures than the state keeps, its steps end above them, and the next run reads from there."""
    with Server(world_of(60)) as server:
        broken = set(pipeline_ids(server.world)[0:60:2])
        server.fault = lambda path, nth: Fault(500) if any(name in path for name in broken) else None
        first = sync(server, streams=WALK)
        truth = expected(server.world.truth(["gh/acme/api"]), WALK)
        assert first.status == 1
        workflows = kept(first.state, "workflows", "gh/acme/api")
        assert workflows["seen"][-1]["since"] is not None
        assert len(workflows["retry"]) <= 20
        server.fault = lambda path, nth: None
        again = sync(server, state=first.state, streams=WALK)
    assert again.status == 0
    assert_same(tables(again.lines, tables(first.lines)), truth)


def test_a_page_that_is_lost_is_read_later_and_new_rows_keep_coming():
    """While a page token answers 404, exit is 1 and new rows are delivered; later the rest is read."""
    with Server(world_of(50)) as server:
        lost = re.compile("page-token")
        server.fault = lambda path, nth: Fault(404) if lost.search(path) and "/project/" in path else None
        first = sync(server, streams=WALK)
        assert first.status == 1
        assert kept(first.state, "pipelines", "gh/acme/api")["seen"][-1]["since"] is not None
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
    """While the rest cannot be read, each run reads only what is new or due above it, and the state says so."""
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


@pytest.mark.parametrize("ended", ["1970-01-01T00:00:00Z", "2026-03-09T00:00:00Z"])
def test_what_is_new_is_sent_whatever_it_says_of_its_end(ended):
    """A pipeline or workflow that claims to have ended before it was created is as new as its creation."""
    with Server(world_of(3)) as server:
        world = server.world
        first = sync(server, streams=WALK)
        world.advance(timedelta(hours=2))
        odd = world.add_pipeline(SLUG, world.now - timedelta(hours=1), workflows=[{"jobs": 1}])
        odd["updated_at"] = ended
        world.rows["workflows"][odd["id"]][0]["stopped_at"] = ended
        second = sync(server, streams=WALK, state=first.state, lookback_days=0.01)
    assert odd["id"] in {row["id"] for row in second.rows("pipelines")}
    assert len(second.rows("workflows")) == len(second.rows("jobs")) == 1


@pytest.mark.parametrize("unset", ["1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z"])
def test_what_ends_after_hours_without_a_time_of_its_end_is_sent_again(unset):
    """A workflow and a job that were sent while they ran are sent in their final state, also without an end time."""
    with Server(world_of(1)) as server:
        world = server.world
        slow = world.add_pipeline(SLUG, world.now - timedelta(hours=6), workflows=[{"jobs": 1, "status": "running"}])
        workflow = world.rows["workflows"][slow["id"]][0]
        job = world.rows["jobs"][workflow["id"]][0]
        job["status"] = "running"
        job.pop("stopped_at", None)
        first = sync(server, streams=WALK)
        workflow |= {"status": "success", "stopped_at": unset}
        job |= {"status": "success", "stopped_at": unset}
        world.advance(timedelta(hours=3))
        second = sync(server, streams=WALK, state=first.state)
    for stream, row in (("workflows", workflow), ("jobs", job)):
        assert [sent["status"] for sent in second.rows(stream) if sent["id"] == row["id"]] == ["success"]


def test_nothing_new_costs_a_few_calls_and_no_rows():
    """A second sync right after the first sends no row of the walk and asks for the last day only."""
    with Server(history(130, NOW)) as server:
        server.world.advance(timedelta(hours=3))
        first = sync(server)
        server.world.advance(timedelta(hours=1))
        server.reset()
        again = sync(server, state=first.state, streams=("pipelines", "workflows", "jobs"))
        calls = [request.path for request in server.requests]
    assert again.status == 0
    assert not [row for stream in ("pipelines", "workflows", "jobs") for row in again.rows(stream)]
    assert len(calls) < 40


@pytest.mark.parametrize("streams", [("pipelines",), ("pipelines", "workflows", "jobs")])
def test_a_pipeline_that_becomes_final_without_a_new_updated_at_is_sent_again(streams):
    """A setup of hours that fails is sent by the next sync, and by no later one."""
    world = history(30, NOW)
    pipeline = world.add_pipeline("gh/acme/big", NOW - timedelta(hours=3), state="setup")
    with Server(world) as server:
        runs = [sync(server, streams=streams)]
        for state in ("setup", "errored", "errored"):
            pipeline["state"] = state
            world.advance(timedelta(hours=1))
            runs.append(sync(server, streams=streams, state=runs[-1].state))
    sent = [[row["state"] for row in run.rows("pipelines") if row["id"] == pipeline["id"]] for run in runs]
    assert sent == [["setup"], ["setup"], ["errored"], []]
    assert not runs[-1].rows("pipelines")


def test_a_state_that_is_no_text_is_not_final_and_nothing_breaks():
    """An object or a list as a status is sent as JSON, and the walk goes on."""
    world = history(30, NOW)
    pipeline = world.pipelines([world.project("gh/acme/big")["id"]])[3]
    workflow = world.rows["workflows"][pipeline["id"]][0]
    pipeline["state"], workflow["status"] = {"type": "created"}, ["success"]
    with Server(world) as server:
        run = sync(server, streams=("pipelines", "workflows", "jobs"))
    assert run.status == 0, run.log
    assert [row["state"] for row in run.rows("pipelines") if row["id"] == pipeline["id"]] == ['{"type": "created"}']
    assert [row["status"] for row in run.rows("workflows") if row["id"] == workflow["id"]] == ['["success"]']
    assert len(run.rows("pipelines")) == 30


@pytest.mark.parametrize("spelled", ["%Y-%m-%d %H:%M:%S UTC", "%Y-%m-%dt%H:%M:%Sz", "%Y%m%dT%H%M%S+0000"])
def test_dates_count_however_they_are_spelled(spelled):
    """The walk reads the same dates as the records: the start date and the state have the same effect."""
    world = history(60, NOW)
    items = [
        {**row, **{name: moment(row[name]).strftime(spelled) for name in ("created_at", "updated_at")}}
        for row in world.pipelines([world.project("gh/acme/big")["id"]])
    ]
    page = Fault(200, {}, {"items": items, "next_page_token": None})
    with Server(world) as server:
        server.fault = lambda path, nth: page if path.endswith("/big/pipeline") else None
        run = sync(server, streams=["pipelines"], start_date=(NOW - timedelta(days=1)).isoformat())
    assert 0 < len(run.rows("pipelines")) < 60


def test_a_list_that_is_not_quite_in_order_loses_nothing():
    """One old pipeline among new ones does not end the walk; only a whole page below the horizon does."""
    ages = [[1, 900, 2], [3, 901, 902], [903, 904, 905], [4]]
    pages = [
        [{"id": f"p{hours}", "created_at": (NOW - timedelta(hours=hours)).isoformat()} for hours in page]
        for page in ages
    ]
    with Server(history(1, NOW)) as server:
        for number, page in enumerate(pages):
            server.script(
                "/project/gh/acme/big/pipeline", [Fault(200, {}, {"items": page, "next_page_token": f"t{number}"})]
            )
        run = sync(server, streams=["pipelines"], start_date="2026-03-01")
        assert server.calls == 1 + 3
    assert run.status == 0
    assert [row["id"] for row in run.rows("pipelines")] == ["p1", "p2", "p3"]


def test_no_url_is_asked_twice_on_a_first_sync():
    """A first sync requests every page once and nothing else."""
    with Server(history(130, NOW, workflows=2, jobs=3)) as server:
        sync(server)
        paths = [request.path for request in server.requests]
    assert len(paths) == len(set(paths))
    small = 8  # me, collaborations, four lists of the organization, two of its project
    assert len(paths) == small + 7 + 130 + 130 * 2


def test_a_pipeline_that_failed_is_read_next_time_though_the_list_is_not_read_down_to_it():
    """A failed pipeline of three weeks ago is read by its id, and the pages between are not requested."""
    with Server(world_of(70)) as server:
        broken = pipeline_ids(server.world)[65]
        server.fault = lambda path, nth: Fault(500) if broken in path else None
        first = sync(server, streams=WALK)
        server.reset()
        server.world.advance(timedelta(seconds=1))
        again = sync(server, state=first.state, streams=WALK)
        lists = [request.path for request in server.requests if "/api/pipeline" in request.path]
        truth = expected(server.world.truth([SLUG]), WALK)
    assert (first.status, again.status) == (1, 0)
    assert len(lists) < 4
    assert_same(tables(again.lines, tables(first.lines)), truth)
    assert not retries(again.state)


def test_a_number_that_no_float_holds_ends_no_run():
    """The numbers of pipelines only show how far the walk has come."""
    with Server(world_of(4), page_size=2) as server:
        rows = server.world.pipelines([server.world.project(SLUG)["id"]])
        rows[-1]["number"] = rows[-2]["number"] = 10**400
        run = sync(server, streams=WALK)
    assert run.status == 0, run.log
    assert len(run.rows("pipelines")) == 4
