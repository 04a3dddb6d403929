"""The time: wrong clocks of the service and of this machine cost calls, and never rows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest

from tap_circleci.http.service_time import ServiceTime
from tap_circleci.workers import Clock
from tests.circleci import Fault, Server, World, http_date
from tests.tap import FastClock, Run, assert_same, expected, kept, sync, tables
from tests.worlds import WALK

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
SLUG = "gh/acme/api"


def machine() -> datetime:
    return datetime.now(timezone.utc)


# What follows from what the clocks tell


def test_the_time_goes_on_from_the_first_answer():
    """The service's time is that of its first answer and the seconds since then."""
    clock = FastClock()
    told = machine() - DAY
    time = ServiceTime(told, clock)
    clock.wait(90)
    assert MINUTE < time.now() - told < 2 * MINUTE
    assert time.is_known


def test_without_a_date_in_answers_this_machine_has_the_time():
    """Without a Date header this machine's clock gives the time, and no time is certain."""
    time = ServiceTime(None, Clock())
    assert abs(time.now() - machine()) < MINUTE
    assert abs(time.latest(None) - machine()) < MINUTE
    assert not time.is_known
    assert time.certain(None, []) is None


@pytest.mark.parametrize(
    ("me", "page", "latest", "certain"),
    [
        (-HOUR, -HOUR, -HOUR, -HOUR),
        (-HOUR, -2 * HOUR, -HOUR, -2 * HOUR),
        (-2 * HOUR, -HOUR, -HOUR, -2 * HOUR),
        (14 * MINUTE, 14 * MINUTE, 14 * MINUTE, 0 * HOUR),
        (-HOUR, None, -HOUR, -HOUR),
        (None, -HOUR, -HOUR, -HOUR),
        (None, HOUR, HOUR, 0 * HOUR),
        (3000 * DAY, -HOUR, 3000 * DAY, -HOUR),
    ],
)
def test_the_earliest_clock_is_certain_and_the_latest_says_what_is_due(me, page, latest, certain):
    """Each of three clocks may be ahead, so only a time that all have reached is certain."""
    now = machine()
    time = ServiceTime(me and now + me, Clock())
    date = page and now + page
    assert abs(time.latest(date) - (now + latest)) < MINUTE
    assert abs((time.certain(date, []) or now + 9000 * DAY) - (now + certain)) < MINUTE


@pytest.mark.parametrize(
    ("told", "row", "certain"),
    [
        (-2 * HOUR, -3 * HOUR, -2 * HOUR),
        (-2 * HOUR, -HOUR, -2 * HOUR),
        (-2 * HOUR, 9 * DAY, -2 * HOUR),
        (None, -HOUR, -HOUR),
        (None, HOUR, 0 * HOUR),
    ],
)
def test_the_time_of_a_row_has_passed_unless_no_clock_has_come_to_it(told, row, certain):
    """The time of the newest row has passed; a row from the future proves nothing."""
    now = machine()
    found = ServiceTime(told and now + told, Clock()).certain(None, [now + row, now - 90 * DAY])
    assert found is not None
    assert abs(found - (now + certain)) < MINUTE


def test_a_machine_that_is_behind_is_set_right_by_the_rows():
    """If this machine's clock is the slowest, the time of a newer row is certain."""
    now = machine()
    found = ServiceTime(now + 2 * DAY, Clock()).certain(now + 2 * DAY, [now + DAY])
    assert found == now + DAY


@pytest.mark.parametrize(("me", "page"), [(0 * HOUR, 3 * HOUR), (3 * HOUR, 0 * HOUR)])
def test_a_row_by_a_clock_that_is_ahead_proves_nothing_if_another_clock_is_right(me, page):
    """A row of a node that is hours ahead proves nothing, though that node has answered one request."""
    now = machine()
    found = ServiceTime(now + me, Clock()).certain(now + page, [now + 2 * HOUR, now - DAY])
    assert found is not None
    assert abs(found - now) < MINUTE


# Whole runs, with dates about the real now


def world_until(now: datetime) -> World:
    """A project with two pipelines an hour, each finished after five minutes."""
    world = World(now)
    project = world.add_project(SLUG)
    for number in range(60):
        world.add_pipeline(project, now - number * 30 * MINUTE - 20 * MINUTE, workflows=[{"stopped_at": 5 * MINUTE}])
    return world


def sync_by(server: Server, shift: Callable[[str, int], timedelta | str | None], run: Run | None = None) -> Run:
    """A sync whose answers have times that are shifted, or other texts."""

    def fault(path: str, nth: int) -> Fault | None:
        by = shift(path, nth)
        if by is None:
            return None
        return Fault(None, {"Date": by if isinstance(by, str) else http_date(server.world.now + by)})

    server.fault = fault
    return sync(server, streams=WALK, state=run.state if run else None, start_date="2020-01-01", lookback_days=0.01)


def me(by: timedelta | str) -> Callable[[str, int], timedelta | str | None]:
    return lambda path, nth: by if path.endswith("/me") else None


def page(by: timedelta | str) -> Callable[[str, int], timedelta | str | None]:
    return lambda path, nth: by if "/project/" in path else None


def every(by: timedelta | str) -> Callable[[str, int], timedelta | str | None]:
    return lambda path, nth: by


def right(path: str, nth: int) -> None:
    return None


WRONG = {
    "one node ahead, /me": (me(10 * MINUTE), 0 * HOUR),
    "one node ahead, the list": (page(10 * MINUTE), 0 * HOUR),
    "two years ahead, /me": (me(700 * DAY), 0 * HOUR),
    "two years ahead, the list": (page(700 * DAY), 0 * HOUR),
    "the year 2200, /me": (me("Tue, 10 Mar 2200 12:00:00 GMT"), 0 * HOUR),
    "the year 2200, the list": (page("Tue, 10 Mar 2200 12:00:00 GMT"), 0 * HOUR),
    "the whole service ahead": (every(14 * MINUTE), 0 * HOUR),
    "one node behind, /me": (me(-10 * MINUTE), 0 * HOUR),
    "one node behind, the list": (page(-10 * MINUTE), 0 * HOUR),
    "the whole service behind": (every(-14 * MINUTE), 0 * HOUR),
    "a day behind, the list": (page(-DAY), 0 * HOUR),
    "no time, this machine ahead": (every(""), 2 * DAY),
    "no time on /me": (me(""), 2 * DAY),
    "no time on the list": (page("soon"), 2 * DAY),
    "this machine behind": (right, -3 * DAY),
    "no time, this machine behind": (every(""), -3 * DAY),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_a_clock_that_is_wrong_costs_no_row(name):
    """What happens between two syncs is sent by the second, or by the third, if its clocks are right."""
    shift, ahead = WRONG[name]
    with Server(world_until(machine() - ahead)) as server:
        world = server.world
        runs = [sync_by(server, shift)]
        for by in (shift, right):
            pipeline = world.add_pipeline(SLUG, world.now + MINUTE, workflows=[{"stopped_at": 2 * MINUTE}])
            world.rerun(pipeline, world.now + 4 * MINUTE)
            world.advance(5 * MINUTE)
            runs.append(sync_by(server, by, runs[-1]))
            truth = expected(world.truth([SLUG]), WALK)
            assert [run.status for run in runs] == [0] * len(runs), runs[-1].log
            if by is right:
                assert_same(tables(line for run in runs for line in run.lines), truth)
        for stream in WALK:
            for step in kept(runs[1].state, stream, SLUG)["seen"]:
                moment = datetime.fromisoformat(step["as_of"].replace("Z", "+00:00"))
                assert moment <= world.now


@pytest.mark.parametrize(
    "shift", [me(-20 * MINUTE), page(-20 * MINUTE), every(-20 * MINUTE)], ids=["me", "list", "all"]
)
def test_a_clock_that_is_behind_for_one_run_refuses_no_state(shift):
    """A run whose clocks are behind those of the run before sends what is new."""
    with Server(world_until(machine())) as server:
        world = server.world
        runs = [sync_by(server, right)]
        for by in (shift, right):
            world.add_pipeline(SLUG, world.now + MINUTE, workflows=[{"stopped_at": 2 * MINUTE}])
            world.advance(5 * MINUTE)
            runs.append(sync_by(server, by, runs[-1]))
        truth = expected(world.truth([SLUG]), WALK)
    assert [run.status for run in runs] == [0, 0, 0]
    assert len(runs[1].rows("pipelines")) < 10  # the new one, and those of the last two hours
    assert_same(tables(line for run in runs for line in run.lines), truth)


def test_answers_without_a_time_are_reported_once():
    """The log has one warning, and no row is lost."""
    with Server(world_until(machine())) as server:
        run = sync_by(server, every(""))
    assert run.status == 0
    assert run.log.count("Responses have no Date header") == 1
    assert len(run.rows("pipelines")) == 60


def test_a_first_sync_without_a_start_date_begins_a_year_before_the_time_that_is_certain():
    """A clock that is years ahead in one answer does not make the first sync empty."""
    with Server(world_until(machine() - DAY)) as server:
        server.fault = lambda path, nth: (
            Fault(None, {"Date": http_date(machine() + 900 * DAY)}) if path.endswith("/me") else None
        )
        run = sync(server, streams=["pipelines"], start_date=None)
    assert len(run.rows("pipelines")) == 60
