"""The list of job runs: how far it is read, where the next sync begins, and its oddities."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tap_circleci.walk.builds import next_build
from tests.circleci import Fault, Row, Server, World, history
from tests.circleci.v1_1 import build_rows
from tests.tap import FastClock, Run, Tables, assert_same, expected, kept, sync, tables

NOW = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)
HOUR, DAY, MINUTE = timedelta(hours=1), timedelta(days=1), timedelta(minutes=1)
SLUG = "gh/acme/api"
LIST = "/api/v1.1/project/github/"


def world_of(builds: int, every: timedelta = HOUR, until: datetime = NOW) -> World:
    """A project with so many job runs of nine minutes, the last an hour before a time."""
    world = World(NOW)
    world.add_project(SLUG)
    add(world, builds, until - builds * every, every)
    world.number_jobs()
    return world


def add(world: World, builds: int, since: datetime, every: timedelta = HOUR) -> None:
    """Add job runs of nine minutes each at even intervals."""
    for number in range(builds):
        world.add_pipeline(SLUG, since + number * every, workflows=[{"stopped_at": 9 * MINUTE}])


def read(server: Server, state: Any = None, start: datetime | None = None, **config: Any) -> Run:
    """A sync of the builds alone, of which only the requests of this sync are kept."""
    server.requests.clear()
    date = start.isoformat() if start else "2000-01-01"
    return sync(server, streams=["builds"], state=state, start_date=date, **config)


def pages_of(server: Server) -> list[str]:
    """The requests for pages of lists of builds."""
    return [request.path for request in server.requests if request.path.startswith(LIST)]


def truth_of(world: World, start: datetime | None = None) -> Tables:
    rows = [row for project in world.projects.values() for row in build_rows(world, project, start)]
    return expected({"builds": rows}, ["builds"])


def numbers(run: Run) -> list[int]:
    return [row["build_num"] for row in run.rows("builds")]


def next_of(run: Run, slug: str = SLUG) -> int | None:
    number: int | None = kept(run.state, "builds", slug)["next_build"]
    return number


# How far a first sync goes


@pytest.mark.parametrize(("days", "pages", "rows"), [(1, 2, 200), (4, 2, 200), (5, 3, 300), (8, 3, 300), (30, 4, 350)])
def test_a_first_sync_ends_after_a_page_that_lies_wholly_below_the_start_date(days, pages, rows):
    """After a page with rows on both sides of the start date another page is read, and all its rows are sent."""
    world = world_of(350)
    start = NOW - days * DAY - HOUR / 2
    with Server(world) as server:
        run = read(server, start=start)
        assert run.status == 0, run.log
        assert len(pages_of(server)) == pages
    assert len(numbers(run)) == rows
    assert_same(tables(run.lines), truth_of(world, start))


def test_builds_without_a_time_end_no_first_sync():
    """After a page of builds that never ran, and so have no time, the next page is read."""
    world = world_of(20, until=NOW - 30 * DAY)
    for number in range(230):
        world.add_build(SLUG, NOW - 20 * DAY + number * MINUTE)
    add(world, 20, NOW - DAY)
    with Server(world) as server:
        run = read(server, start=NOW - 25 * DAY)
        assert len(pages_of(server)) == 3
    assert len(numbers(run)) == 270
    assert_same(tables(run.lines), truth_of(world))


@pytest.mark.parametrize(("builds", "pages"), [(0, 1), (99, 1), (100, 2), (101, 2), (1_620, 17)])
def test_a_whole_list_costs_one_call_for_each_hundred_builds(builds, pages):
    """Without a start date the list ends with a page that is not full."""
    world = world_of(builds, every=9 * MINUTE)
    with Server(world) as server:
        run = read(server)
        assert (run.status, len(pages_of(server))) == (0, pages)
    assert_same(tables(run.lines), truth_of(world) if builds else {})


# Where later syncs read on


def test_a_later_sync_reads_down_to_the_lowest_build_that_was_unfinished():
    """A running build is read again with all above it; a row that two pages have is sent once."""
    world = world_of(250)
    world.add_pipeline(SLUG, NOW - HOUR, workflows=[{"stopped_at": 5 * HOUR}])
    add(world, 30, NOW - 20 * MINUTE, MINUTE / 2)
    with Server(world) as server:
        first = read(server)
        assert next_of(first) == 251
        world.advance(3 * HOUR)
        add(world, 150, NOW + MINUTE, MINUTE)
        second = read(server, first.state)
        assert next_of(second) == 251
        assert len(pages_of(server)) == 3  # of 431 builds, the third hundred lies wholly below
        assert len(numbers(second)) == len({*numbers(second)}) == 300
        world.advance(2 * HOUR)
        third = read(server, second.state)
        assert next_of(third) == 432
        assert len(pages_of(server)) == 3
        world.advance(HOUR)
        quiet = read(server, third.state)
        assert (next_of(quiet), len(pages_of(server)), len(numbers(quiet))) == (432, 1, 100)
    assert_same(tables(third.lines, tables(second.lines, tables(first.lines))), truth_of(world))


def test_a_build_holds_the_list_up_for_two_days_after_it_was_queued():
    """A build that never ends, or has no times, is waited for no longer than two days."""
    world = world_of(10)
    world.add_ghost(SLUG, NOW - HOUR)
    world.add_build(SLUG, NOW - HOUR / 2)
    add(world, 1, NOW - 20 * MINUTE)
    with Server(world) as server:
        first = read(server)
        world.advance(46 * HOUR)
        second = read(server, first.state)
        world.advance(2 * HOUR)
        third = read(server, second.state)
    assert [next_of(run) for run in (first, second, third)] == [11, 11, 14]


def test_a_job_that_queues_for_hours_and_then_runs_for_five_is_read_to_its_end():
    """A build is read again until it ends, however long it was queued, up to two days."""
    world = world_of(3)
    job: Row = {"name": "gpu", "queued": 20 * HOUR}
    world.add_pipeline(SLUG, NOW + 20 * HOUR, workflows=[{"stopped_at": 5 * HOUR, "jobs": [job]}])
    with Server(world) as server:
        runs = [read(server)]
        for _ in range(4):
            world.advance(7 * HOUR)
            add(world, 40, world.now - HOUR, MINUTE)
            runs.append(read(server, runs[-1].state))
        assert [next_of(run) for run in runs][:-1] == [4] * 4
    loaded: Tables = {}
    for run in runs:
        tables(run.lines, loaded)
    assert_same(loaded, truth_of(world))


BEGUN: Row = {"build_num": 7, "queued_at": (NOW - HOUR).isoformat(), "stop_time": None}


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({}, 7),
        ({"stop_time": (NOW - 4 * MINUTE).isoformat()}, 7),
        ({"stop_time": (NOW - 5 * MINUTE).isoformat()}, 10),
        ({"queued_at": (NOW - 47 * HOUR).isoformat()}, 7),
        ({"queued_at": (NOW - 48 * HOUR).isoformat()}, 10),
        ({"queued_at": None}, 10),
        ({"queued_at": "soon"}, 10),
        ({"build_num": None}, 10),
        ({"build_num": True}, 10),
        ({"build_num": "7"}, 10),
        ({"build_num": -7}, 10),
    ],
)
def test_the_next_number_is_that_of_the_lowest_unfinished_build(changed, wanted):
    """A build counts as finished five minutes after its end, after two days, and without times."""
    done: Row = {"build_num": 9, "queued_at": (NOW - HOUR).isoformat(), "stop_time": (NOW - HOUR / 2).isoformat()}
    assert next_build([done, {**BEGUN, **changed}], NOW, None) == wanted


# Lists that change, break, or are cut off


def test_a_list_that_shifts_while_it_is_read_gives_each_build_once():
    """New builds push rows down to the next page: none is missing, none is sent twice, the new ones come next."""
    world = world_of(320, every=10 * MINUTE)
    with Server(world) as server:

        def shift(path: str, _: int) -> None:
            if path.startswith(LIST):
                add(world, 7, NOW - HOUR / 2, MINUTE / 10)

        before = truth_of(world)["builds"]
        server.fault = shift
        first = read(server)
        assert first.status == 0, first.log
        server.fault = None
        assert len(numbers(first)) == len({*numbers(first)})
        assert before.keys() <= tables(first.lines)["builds"].keys()
        second = read(server, first.state)
    assert_same(tables(second.lines, tables(first.lines)), truth_of(world))


class WorldClock(FastClock):
    """Time that passes as it does in a world."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def now(self) -> float:
        return super().now() + self._world.now.timestamp()


def test_the_five_minutes_count_from_when_the_list_was_read():
    """A build that had just ended when it was listed is read again, however long that sync took."""
    world = world_of(250)
    with Server(world) as server:

        def slow(path: str, _: int) -> None:
            if path.startswith(LIST):
                world.advance(20 * MINUTE)

        world.add_pipeline(SLUG, NOW, workflows=[{"stopped_at": 18 * MINUTE}])
        server.fault = slow
        first = read(server, clock=WorldClock(world))
        assert next_of(first) == 251
        assert next_of(read(server, first.state, clock=WorldClock(world))) == 252


@pytest.mark.parametrize("page", [1, 2])
@pytest.mark.parametrize("status", [500, 404])
def test_a_list_that_breaks_off_is_read_again_from_the_same_number(page, status):
    """The rows that came are sent, and the number in the state changes only after a complete read."""
    world = world_of(10)
    with Server(world) as server:
        first = read(server)
        world.advance(30 * HOUR)
        add(world, 230, NOW + MINUTE, 6 * MINUTE)
        server.fault = lambda path, _: Fault(status) if f"offset={100 * page}" in path else None
        broken = read(server, first.state)
        assert (broken.status, next_of(broken), len(numbers(broken))) == (1, 11, 100 * page)
        server.fault = None
        second = read(server, broken.state)
    assert second.status == 0, second.log
    assert_same(tables(second.lines, tables(broken.lines, tables(first.lines))), truth_of(world))


def test_a_sync_that_is_cut_anywhere_is_completed_by_the_next():
    """After a cut at any line the next run, with newer data in the service, sends all that is missing."""
    world = World(NOW)
    for name in ("api", "web", "app"):
        for number in range(3):
            world.add_pipeline(f"gh/acme/{name}", NOW - (9 - number) * HOUR, workflows=[{"stopped_at": 2 * HOUR}])
        world.add_pipeline(f"gh/acme/{name}", NOW - HOUR, workflows=[{"stopped_at": 2 * HOUR}])
    with Server(world) as server:
        first = read(server)
        world.advance(4 * HOUR)
        for end in range(0, len(first.lines) + 1, 2):
            cut = first.lines[:end]
            states = [json.loads(line)["value"] for line in cut if '"STATE"' in line]
            again = read(server, states[-1] if states else None)
            assert again.status == 0, again.log
            assert_same(tables(again.lines, tables(cut)), truth_of(world))


@pytest.mark.parametrize("status", [404, 410, 403])
def test_without_v1_all_else_is_read_and_the_number_stays(status):
    """If API v1.1 is missing or forbidden, the run ends with exit 0 and the state keeps the number."""
    world = world_of(30)
    with Server(world) as server:
        first = read(server)
        world.v1_status = status
        world.advance(6 * HOUR)
        add(world, 5, NOW + HOUR)
        without = sync(server, streams=["pipelines", "builds"], state=first.state)
        assert without.status == 0, without.log
        assert (len(without.rows("pipelines")), without.rows("builds")) == (35, [])
        assert next_of(without) == next_of(first) == 31
        world.v1_status = None
        last = read(server, without.state)
    assert_same(tables(last.lines, tables(first.lines)), truth_of(world))


@pytest.mark.parametrize("status", [404, 410, 403])
def test_a_first_sync_without_v1_leaves_the_next_one_a_first_sync(status):
    """Without a number the next sync begins at the start date again."""
    world = world_of(30)
    world.v1_status = status
    with Server(world) as server:
        first = read(server)
        assert (first.status, first.rows("builds")) == (0, [])
        world.v1_status = None
        second = read(server, first.state)
    assert_same(tables(second.lines), truth_of(world))


# What the builds tell


def test_queue_times_are_those_of_the_details_of_jobs():
    """They are equal to the second, in whatever zone a list writes its times."""
    world = history(40, NOW, SLUG, workflows=1)
    for hours in range(1, 8):
        job: Row = {"name": "gpu", "queued": timedelta(hours=hours, minutes=7, seconds=hours)}
        pipeline = world.add_pipeline(SLUG, NOW - (10 + hours) * HOUR)
        world.add_workflow(pipeline, "late", NOW - hours * HOUR / 2, 20 * MINUTE, jobs=[job, "test"])
        world.rerun(pipeline, NOW - 15 * MINUTE, from_failed=False)
    world.number_jobs()
    with Server(world) as server:
        run = sync(server, streams=["builds", "job_details"])
    names = ("queued_at", "started_at", "stopped_at")
    details = {row["_job_id"]: [row[name][:19] for name in names] for row in run.rows("job_details")}
    names = ("queued_at", "start_time", "stop_time")
    builds = {row["job_id"]: [row[name][:19] for name in names] for row in run.rows("builds")}
    assert len(builds) > 160
    assert builds == details


# Random lives


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["short", "short", "long", "queued", "never ran", "ghost", "many", "sync", "sync", "cut"]),
        st.integers(0, 30 * 60).map(lambda minutes: timedelta(minutes=minutes)),
    ),
    max_size=14,
)


def happen(world: World, what: str, lasts: timedelta) -> None:
    """Let one thing happen in a project."""
    if what == "ghost":
        world.add_ghost(SLUG, world.now)
    elif what == "never ran":
        world.add_build(SLUG, world.now)
    elif what == "many":
        add(world, 120, world.now, MINUTE)
    else:
        job: Row = {"name": "job", **({"queued": lasts} if what == "queued" else {})}
        begun = world.now + (lasts if what == "queued" else timedelta(0))
        workflow = {"created_at": begun, "stopped_at": 5 * HOUR if what == "long" else 9 * MINUTE, "jobs": [job]}
        world.add_pipeline(SLUG, world.now, workflows=[workflow])


@settings(max_examples=25)
@given(events=EVENTS)
def test_after_each_sync_of_a_life_the_table_is_true(events):
    """After any history and any cut, a sync sends all builds in their present form, each once."""
    world, loaded, state = World(NOW), Tables(), None
    world.add_project(SLUG)
    with Server(world) as server:
        for what, pause in [*events, ("sync", timedelta(hours=30))]:
            if what not in ("sync", "cut"):
                happen(world, what, pause)
                continue
            world.advance(pause)
            server.fault = (lambda path, _: Fault(500) if "offset=100" in path else None) if what == "cut" else None
            run = read(server, state)
            state = run.state
            tables(run.lines, loaded)
            assert len(numbers(run)) == len({*numbers(run)})
            if run.status == 0:
                assert_same(loaded, truth_of(world) if world.builds(world.project(SLUG)["id"]) else {})


def test_a_build_that_runs_is_read_again_whatever_a_clock_says():
    """An answer whose Date is days ahead makes no running build count as one of long ago."""
    world = world_of(3)
    world.add_pipeline(SLUG, NOW - HOUR, workflows=[{"stopped_at": 3 * HOUR}])
    with Server(world) as server:
        server.script(LIST, [Fault(None, {"Date": "Sun, 15 Mar 2026 12:00:00 GMT"})])
        first = read(server)
        assert next_of(first) == 4
        world.advance(5 * HOUR)
        second = read(server, first.state)
    assert_same(tables(second.lines, tables(first.lines)), truth_of(world))


class Stopping(FastClock):
    """A clock that has the run stopped when it has been asked so often whether to stop."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._left = most

    def check(self) -> None:
        self._left -= 1
        if self._left < 0:
            self.stop(15)
        super().check()


def test_a_stop_in_the_middle_of_a_long_list_leaves_a_state():
    """A list has hundreds of thousands of builds: a signal does not wait for its end, and nothing of it is claimed."""
    world = world_of(300)
    with Server(world) as server:
        run = read(server, clock=Stopping(100))
        assert run.status == 143
        assert 0 < len(numbers(run)) < 300
        assert json.loads(run.lines[-1])["value"] == {"currently_syncing": "builds", "bookmarks": {}}
        again = read(server, run.state)
    assert_same(tables(again.lines), truth_of(world))
