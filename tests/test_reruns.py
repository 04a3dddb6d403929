"""Finding reruns: pipelines of any age with news in the list of builds, and API v1.1 missing or wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.circleci import Fault, Row, Server, World, moment
from tests.tap import EagerClock, Run, Tables, assert_same, expected, last_state, sync, tables
from tests.worlds import WALK

NOW = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)
SLUG = "gh/acme/api"
LIST = "/api/v1.1/project/github/acme/api"
FLOW: Row = {"name": "build", "stopped_at": timedelta(minutes=9), "jobs": 2}


def world_of(ages: tuple[int, ...] = (1, 3, 40, 80)) -> World:
    """A project with pipelines that are so many days old."""
    world = World(NOW)
    project = world.add_project(SLUG)
    for days in ages:
        world.add_pipeline(project, NOW - timedelta(days=days), workflows=[FLOW])
    return world


def rerun(world: World, place: int, at: datetime) -> Row:
    """Rerun the pipeline at this place of the list, oldest last."""
    project = world.project(SLUG)
    pipelines = sorted(world.pipelines([project["id"]]), key=lambda row: row["created_at"], reverse=True)
    return world.rerun(pipelines[place], at)


@contextmanager
def synced(world: World, **config: Any) -> Iterator[tuple[Server, Run]]:
    """A server of the world, and a first sync."""
    with Server(world) as server:
        first = sync(server, streams=WALK, find_reruns=True, **config)
        assert first.status == 0, first.log
        server.requests.clear()
        yield server, first


def asked(server: Server, part: str) -> list[str]:
    return [request.path for request in server.requests if part in request.path]


def truth_of(world: World):
    return expected(world.truth([SLUG]), WALK)


@pytest.mark.parametrize("find_reruns", [True, False])
def test_a_rerun_of_an_old_pipeline_is_in_the_tables_after_the_next_sync(find_reruns):
    """With find_reruns a rerun is sent by the next sync at any age of its pipeline, without it at the next look."""
    world = world_of()
    with synced(world) as (server, first):
        again = rerun(world, 3, NOW + timedelta(minutes=10))
        world.advance(timedelta(hours=5))
        second = sync(server, state=first.state, streams=WALK, find_reruns=find_reruns)
        assert (again["id"] in {row["id"] for row in second.rows("workflows")}) == find_reruns
        if find_reruns:
            assert_same(tables(second.lines, tables(first.lines)), truth_of(world))
            assert len(asked(server, LIST)) == 1
            assert len(asked(server, f"/workflow/{again['id']}")) == 2  # whose it is, and its jobs
            assert "ERROR" not in second.log


def test_the_first_sync_only_takes_the_number():
    """There is no news where nothing was synced before: one call, and the number is kept."""
    world = world_of()
    with Server(world) as server:
        first = sync(server, streams=WALK, find_reruns=True)
        assert len(asked(server, LIST)) == 1
    number = first.state["bookmarks"]["pipelines"][SLUG]["next_build"]
    assert number == max(row["job_number"] for row in first.rows("jobs")) + 1


def test_a_first_sync_that_is_cut_has_the_number_of_its_beginning():
    """Each state of a first sync has the number, so a rerun of what it has read is sent by the next sync."""
    world = world_of((1, 3, 40, 80))
    with Server(world, page_size=1) as server:
        first = sync(server, streams=WALK, find_reruns=True, clock=EagerClock())
        rerun(world, 1, NOW + timedelta(minutes=10))
        rerun(world, 2, NOW + timedelta(minutes=10))
        world.advance(timedelta(hours=1))
        cuts = [number for number, line in enumerate(first.lines, 1) if '"STATE"' in line]
        assert len(cuts) > 4
        for cut in cuts:
            second = sync(server, state=last_state(first.lines[:cut]), streams=WALK, find_reruns=True)
            assert_same(tables(second.lines, tables(first.lines[:cut])), truth_of(world))


def test_without_the_key_the_number_is_null_and_v1_is_not_asked():
    """Without find_reruns no request goes to API v1.1."""
    with Server(world_of()) as server:
        run = sync(server, streams=WALK)
        assert not asked(server, "v1.1")
    assert run.state["bookmarks"]["pipelines"][SLUG]["next_build"] is None


def test_a_quiet_project_costs_one_call_more():
    """Without anything new there is a call for pipelines and one for builds."""
    world = world_of((40,))
    with synced(world) as (server, first):
        world.advance(timedelta(hours=1))
        sync(server, state=first.state, streams=WALK, find_reruns=True)
        assert len(asked(server, "/pipeline")) == 1
        assert len(server.requests) == 3  # and whose token it is


def test_news_costs_one_call_for_each_hundred_builds():
    """The list is read down to the first build that is known, and no further."""
    world = world_of()
    with synced(world) as (server, first):
        flow = {**FLOW, "jobs": 60}
        for minute in range(2):
            world.add_pipeline(world.project(SLUG), NOW + timedelta(minutes=minute), workflows=[flow])
        world.advance(timedelta(hours=1))
        sync(server, state=first.state, streams=WALK, find_reruns=True)
        assert len(asked(server, LIST)) == 2


def test_workflows_that_this_run_has_listed_are_not_asked_for():
    """News of a pipeline that this run has looked at costs no call."""
    world = world_of((1, 40))
    with synced(world) as (server, first):
        world.add_pipeline(world.project(SLUG), NOW + timedelta(minutes=5), workflows=[FLOW])
        world.advance(timedelta(hours=1))
        second = sync(server, state=first.state, streams=WALK, find_reruns=True)
        assert not [path for path in asked(server, "/workflow/") if not path.endswith("/job")]
        assert_same(tables(second.lines, tables(first.lines)), truth_of(world))


def test_pipelines_from_before_the_start_date_are_left_alone():
    """A rerun of a pipeline that no first sync would send is not sent."""
    world = world_of()
    start = (NOW - timedelta(days=60)).isoformat()
    with synced(world, start_date=start) as (server, first):
        rerun(world, 3, NOW + timedelta(minutes=10))
        world.advance(timedelta(hours=1))
        second = sync(server, state=first.state, streams=WALK, find_reruns=True, start_date=start)
        assert second.status == 0, second.log
        assert not second.rows("workflows")


def test_a_look_that_fails_is_made_by_the_next_run():
    """A pipeline with news below which something fails is kept for a retry, exit 1."""
    world = world_of()
    with synced(world) as (server, first):
        again = rerun(world, 3, NOW + timedelta(minutes=10))
        world.advance(timedelta(hours=1))
        server.fault = lambda path, _: Fault(500) if path.endswith(f"{again['id']}/job") else None
        broken = sync(server, state=first.state, streams=WALK, find_reruns=True)
        assert broken.status == 1
        server.fault = None
        mended = sync(server, state=broken.state, streams=WALK, find_reruns=True)
        assert mended.status == 0, mended.log
        assert_same(tables(mended.lines, tables(broken.lines, tables(first.lines))), truth_of(world))


@pytest.mark.parametrize(("minutes", "is_asked"), [(-8, False), (-6, False), (-4, True), (3, True), (30, True)])
def test_what_had_stopped_when_it_was_read_last_is_no_news(minutes, is_asked):
    """Only builds that ran five minutes before the last sync or later are news, also if a lower build still runs."""
    world = world_of()
    with synced(world) as (server, first):
        world.add_ghost(SLUG, NOW + timedelta(minutes=1))
        again = rerun(world, 3, NOW + timedelta(minutes=55 + minutes))
        world.advance(timedelta(hours=1))
        second = sync(server, state=first.state, streams=WALK, find_reruns=True)
        world.advance(timedelta(hours=1))
        server.requests.clear()
        third = sync(server, state=second.state, streams=WALK, find_reruns=True)
        assert bool(asked(server, f"/workflow/{again['id']}")) == is_asked
        assert_same(tables(third.lines, tables(second.lines, tables(first.lines))), truth_of(world))


def test_a_pipeline_with_two_workflows_that_have_news_is_looked_at_once():
    """There is one call for each workflow, one for the pipeline, and one for each list below it."""
    world = world_of()
    with synced(world) as (server, first):
        again = [rerun(world, 3, NOW + timedelta(minutes=minutes)) for minutes in (10, 20)]
        world.advance(timedelta(hours=1))
        second = sync(server, state=first.state, streams=WALK, find_reruns=True)
        owner = again[0]["pipeline_id"]
        assert len(asked(server, f"/pipeline/{owner}")) == 2  # the pipeline, and its workflows
        assert_same(tables(second.lines, tables(first.lines)), truth_of(world))


@pytest.mark.parametrize("part", ["workflow", "pipeline"])
def test_a_pipeline_that_cannot_be_found_out_is_looked_for_by_the_next_run(part):
    """If the workflow or the pipeline cannot be read for now, the number in the state stays."""
    world = world_of()
    with synced(world) as (server, first):
        again = rerun(world, 3, NOW + timedelta(minutes=10))
        world.advance(timedelta(hours=1))
        name = again["id"] if part == "workflow" else again["pipeline_id"]
        server.fault = lambda path, _: Fault(500) if path.endswith(f"/{part}/{name}") else None
        second = sync(server, state=first.state, streams=WALK, find_reruns=True)
        assert second.status == 0, second.log
        assert not [row for row in second.rows("workflows") if row["id"] == again["id"]]
        server.fault = None
        third = sync(server, state=second.state, streams=WALK, find_reruns=True)
        assert_same(tables(third.lines, tables(second.lines, tables(first.lines))), truth_of(world))


@pytest.mark.parametrize(("status", "hours"), [(403, 1), (404, 1), (500, 20)])
def test_a_workflow_that_can_never_be_read_is_not_asked_for_for_ever(status, hours):
    """A forbidden or missing workflow is skipped; one that always fails is requested again until ten pages of builds
    are above it."""
    world = world_of((1, 40))
    with synced(world) as (server, first):
        again = rerun(world, 1, NOW + timedelta(minutes=10))
        state = first.state
        server.fault = lambda path, _: Fault(status) if path.endswith(f"/workflow/{again['id']}") else None
        for _ in range(hours):
            world.advance(timedelta(hours=1))
            world.add_pipeline(SLUG, world.now - timedelta(minutes=30), workflows=[{**FLOW, "jobs": 60}])
            run = sync(server, state=state, streams=WALK, find_reruns=True)
            assert run.status == 0, run.log
            state = run.state
        server.requests.clear()
        world.advance(timedelta(hours=1))
        sync(server, state=state, streams=WALK, find_reruns=True)
        assert not asked(server, f"/workflow/{again['id']}")
        assert len(asked(server, LIST)) == 1


@pytest.mark.parametrize("failed", ["/job", "/config"])
def test_news_of_a_pipeline_in_retry_for_one_stream_is_read_for_all(failed):
    """A retry is for the failed stream alone, so the look for the news reads the other streams."""
    world = world_of()
    extra = {"streams": [*WALK, "pipeline_configs"], "extra_streams": "pipeline_configs"}
    with Server(world) as server:
        server.fault = lambda path, _: Fault(400) if path.endswith(failed) else None
        first = sync(server, find_reruns=True, **extra)
        assert first.status == 1
        rerun(world, 3, NOW + timedelta(minutes=10))
        world.advance(timedelta(hours=1))
        server.fault = None
        second = sync(server, state=first.state, find_reruns=True, **extra)
        assert second.status == 0, second.log
    found = tables(second.lines, tables(first.lines))
    assert_same({name: found[name] for name in WALK}, truth_of(world))


@pytest.mark.parametrize(
    ("status", "asked_to_wait"),
    [*((status, None) for status in (404, 410, 403, 401, 400, 500, 302, 429)), (429, "7"), (429, "3600")],
)
def test_without_v1_the_walk_goes_on_and_the_number_stays(status, asked_to_wait):
    """If API v1.1 is missing, forbidden, broken or rate-limited, there is one warning, exit 0, and the number stays."""
    headers = {"Retry-After": asked_to_wait} if asked_to_wait else {}
    world = world_of()
    with synced(world) as (server, first):
        rerun(world, 3, NOW + timedelta(minutes=10))
        world.advance(timedelta(hours=1))
        server.fault = lambda path, _: Fault(status, headers) if "v1.1" in path else None
        second = sync(server, state=first.state, streams=WALK, find_reruns=True)
        assert second.status == 0, second.log
        assert second.log.count("find_reruns: API v1.1 cannot be read") == 1
        server.fault = None
        third = sync(server, state=second.state, streams=WALK, find_reruns=True)
        assert_same(tables(third.lines, tables(second.lines, tables(first.lines))), truth_of(world))


def test_a_rate_limit_of_v1_alone_is_met_once_in_a_run():
    """Each refusal makes all requests wait, so this run requests no builds of later projects; exit 0."""
    world = World(NOW)
    slugs = [f"gh/acme/api-{number}" for number in range(9)]
    for slug in slugs:
        world.add_pipeline(world.add_project(slug), NOW - timedelta(days=1), workflows=[FLOW])
    with Server(world) as server:
        server.fault = lambda path, _: Fault(429) if "v1.1" in path else None
        run = sync(server, project_slugs=slugs, streams=WALK, find_reruns=True, max_workers=1)
        assert run.status == 0, run.log
        assert run.log.count("find_reruns: API v1.1 cannot be read") == 1
        assert len({request.path for request in server.requests if "v1.1" in request.path}) < 4
    assert_same(tables(run.lines), expected(world.truth(slugs), WALK))


def test_after_ten_pages_the_number_goes_to_the_top():
    """After more than a thousand builds the number is the newest, the schedule finds the rest, and a line says so."""
    world = world_of()
    with synced(world) as (server, first):
        for minute in range(12):
            flow = {**FLOW, "jobs": 100}
            world.add_pipeline(world.project(SLUG), NOW + timedelta(minutes=minute), workflows=[flow])
        world.add_pipeline(world.project(SLUG), NOW + timedelta(minutes=20), workflows=[{"stopped_at": None}])
        world.add_pipeline(world.project(SLUG), NOW + timedelta(minutes=30), workflows=[FLOW])
        world.advance(timedelta(hours=1))
        second = sync(server, state=first.state, streams=WALK, find_reruns=True)
        assert second.status == 0, second.log
        assert len(asked(server, LIST)) == 10
        assert "scheduled re-checks will find older reruns" in second.log
        top = max(row["job_number"] for row in second.rows("jobs")) + 1
        assert second.state["bookmarks"]["pipelines"][SLUG]["next_build"] == top


ODD = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**12) | st.text(max_size=4) | st.just("2026-03-10T12:30:00Z"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["build_num", "workflows", "workflow_id", "stop_time", "queued_at"]), inner)
    ),
    max_leaves=12,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(lie=ODD | st.lists(ODD, max_size=6), shifted=st.sampled_from([0, 3, -3]))
def test_whatever_the_hints_are_the_tables_are_true(lie, shifted):
    """With wrong, missing, repeated or hostile hints all rows are sent that the walk finds without them, exit 0."""
    world = world_of((1, 3))
    with synced(world) as (server, first):
        world.add_pipeline(world.project(SLUG), NOW + timedelta(minutes=5), workflows=[FLOW])

        def told(rows: list[Row]) -> Any:
            if lie is None:
                return [{**row, "build_num": row["build_num"] + shifted} for row in [*rows, *rows]]
            return [*rows, *lie] if isinstance(lie, list) and shifted else lie

        world.builds_told = told
        world.advance(timedelta(hours=1))
        second = sync(server, state=first.state, streams=WALK, find_reruns=True)
        assert second.status == 0, second.log
        assert_same(tables(second.lines, tables(first.lines)), truth_of(world))


# Sixty days of a project


DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
BORN = NOW - 60 * DAY
HOLD: Row = {"name": "hold", "type": "approval"}
AGES = st.sampled_from([20 * MINUTE, 3 * HOUR, 20 * HOUR, 4 * DAY, 11 * DAY, 25 * DAY, 45 * DAY])


@dataclass(frozen=True)
class Fate:
    """A pipeline, created so long after the project, and what happens to it at these ages."""

    created: timedelta
    kind: str
    ages: tuple[timedelta, ...]


FATES = st.builds(
    Fate,
    st.integers(0, 60 * 24 * 60).map(lambda minutes: minutes * MINUTE),
    st.sampled_from(["rerun", "rerun", "approved", "canceled", "held at once"]),
    st.lists(AGES, max_size=3, unique=True).map(lambda ages: tuple(sorted(ages))),
)
GAPS = st.sampled_from([HOUR, 5 * HOUR, 13 * HOUR, 2 * DAY, 6 * DAY, 9 * DAY])


@dataclass
class Life:
    """A project's life, and when something happens below each workflow: with a run of a job, or without."""

    world: World
    created: dict[str, datetime] = field(default_factory=dict)
    loud: dict[str, list[datetime]] = field(default_factory=dict)
    quiet: dict[str, list[datetime]] = field(default_factory=dict)

    def add(self, pipeline: Row, workflow: Row, *quiet: datetime) -> None:
        """Take note of a workflow; whatever its jobs do is loud."""
        jobs = [job for job in self.world.rows["jobs"][workflow["id"]] if job["type"] != "approval"]
        times = {job[name] for job in jobs for name in ("started_at", "stopped_at") if job.get(name)}
        self.created[workflow["id"]] = moment(pipeline["created_at"])
        self.loud[workflow["id"]] = [moment(time) for time in times if time >= workflow["created_at"]]
        self.quiet[workflow["id"]] = list(quiet)

    def is_excused(self, workflow: str, finds: bool) -> bool:
        """Whether a change of a workflow need not show yet: nothing has shown it, and no look has fallen due."""
        now, created = self.world.now, self.created[workflow]
        changes = self.quiet[workflow] if finds else self.quiet[workflow] + self.loud[workflow]
        told = max((at for at in self.loud[workflow] if finds and at <= now), default=BORN)
        late = [at for at in changes if told < at <= now]
        return any(at + max(at - created, MINUTE) > now for at in late)


def life_of(fates: list[Fate]) -> Life:
    """The project in which all of this happens in time."""
    world = World(BORN)
    project = world.add_project(SLUG)
    life = Life(world)
    for fate in fates:
        created = BORN + fate.created
        pipeline = world.add_pipeline(project, created)
        quick = world.add_workflow(pipeline, "build", stopped_at=9 * MINUTE, status="failed", jobs=["lint", "test"])
        life.add(pipeline, quick)
        for number, age in enumerate(fate.ages):
            at, ended = created + age, created + 2 * age
            if fate.kind == "rerun":
                life.add(pipeline, world.rerun(pipeline, at, from_failed=bool(number % 2)))
            elif fate.kind == "approved":
                waits = {"stopped_at": at, "jobs": ["build", HOLD, "deploy"]}
                life.add(pipeline, world.add_workflow(pipeline, f"deploy {number}", created + 10 * MINUTE, **waits))
            elif fate.kind == "canceled":
                waits = {"stopped_at": at, "status": "canceled", "jobs": ["build", HOLD]}
                life.add(pipeline, world.add_workflow(pipeline, f"deploy {number}", created, **waits), at)
            else:
                waits = {"created_at": at, "stopped_at": ended, "jobs": [HOLD, "deploy"]}
                life.add(pipeline, world.add_workflow(pipeline, f"deploy {number}", **waits), at)
    world.number_jobs()
    return life


def stale(life: Life, loaded: Tables) -> set[str]:
    """The workflows of which something is not in the tables as it is now."""
    wanted = truth_of(life.world)
    found = set()
    for stream, column in (("workflows", "id"), ("jobs", "_workflow_id")):
        held = loaded.get(stream, {})
        assert held.keys() <= wanted.get(stream, {}).keys()
        found |= {row[column] for key, row in wanted.get(stream, {}).items() if held.get(key) != row}
    assert loaded.get("pipelines", {}).keys() == wanted.get("pipelines", {}).keys()
    return found


@settings(max_examples=12)
@given(st.lists(FATES, min_size=8, max_size=30), st.lists(GAPS, min_size=4, max_size=14), st.booleans())
def test_in_a_life_each_change_shows_in_time(fates, gaps, finds):
    """With find_reruns each change that runs a job is sent by the next sync; all others within the age of their
    pipeline."""
    life, loaded, state = life_of(fates), Tables(), None
    with Server(life.world) as server:
        for gap in gaps:
            life.world.advance(gap)
            run = sync(server, streams=WALK, state=state, find_reruns=finds, lookback_days=0.25)
            assert run.status == 0, run.log
            assert "ERROR" not in run.log
            state = run.state
            tables(run.lines, loaded)
            late = [name for name in stale(life, loaded) if not life.is_excused(name, finds)]
            assert not late, f"{life.world.now}: {late}"


@settings(max_examples=6)
@given(st.lists(FATES, min_size=8, max_size=30), st.lists(GAPS, min_size=4, max_size=10))
def test_in_a_life_the_price_is_a_page_and_a_call_for_each_old_workflow_with_news(fates, gaps):
    """A sync requests a page for each hundred builds, and each old workflow with news and its pipeline once."""
    life, state, last = life_of(fates), None, BORN
    home = life.world.project(SLUG)["id"]
    with Server(life.world) as server:
        for gap in gaps:
            life.world.advance(gap)
            server.requests.clear()
            state = sync(server, streams=WALK, state=state, find_reruns=True, lookback_days=0.25).state
            news = {
                run.workflow["id"]
                for run in life.world.builds(home)
                if last > BORN and moment(run.job.get("stopped_at") or "2100-01-01T00:00:00Z") > last - 5 * MINUTE
            }
            paths = [request.path.partition("?")[0].removeprefix("/api/v2/") for request in server.requests]
            looked_up = [path.removeprefix("workflow/") for path in paths if re.fullmatch("workflow/[^/]+", path)]
            owners = [path.removeprefix("pipeline/") for path in paths if re.fullmatch("pipeline/[^/]+", path)]
            listed = {path.split("/")[1] for path in paths if re.fullmatch("pipeline/[^/]+/workflow", path)}
            old = {name for name in news if life.world.index[name][1]["pipeline_id"] not in listed - {*owners}}
            assert len(asked(server, LIST)) == 1
            assert sorted(looked_up) == sorted(old)
            assert len(owners) == len({*owners} | {life.world.index[name][1]["pipeline_id"] for name in old})
            assert listed >= {*owners}
            last = life.world.now


def test_a_project_without_builds_has_news_once_the_first_one_runs():
    """The first job that a project ever runs may be that of an old pipeline that waited for an approval."""
    world = World(NOW)
    pipeline = world.add_pipeline(SLUG, NOW - 20 * DAY)
    approved = world.add_workflow(pipeline, "deploy", stopped_at=20 * DAY + 30 * MINUTE, jobs=[HOLD, "deploy"])
    world.number_jobs()
    with synced(world) as (server, first):
        world.advance(2 * HOUR)
        second = sync(server, state=first.state, streams=WALK, find_reruns=True, lookback_days=0.25)
    assert approved["id"] in {row["id"] for row in second.rows("workflows")}
    assert_same(tables(second.lines, tables(first.lines)), truth_of(world))


@pytest.mark.parametrize("gone", [False, True], ids=["there", "gone"])
def test_builds_that_name_a_pipeline_of_another_project_send_nothing_of_it(gone):
    """Rows of a project that nobody named are not sent, whatever its neighbour's list of builds says."""
    world = world_of()
    other = world.add_pipeline(world.add_project("gh/acme/secret"), NOW - 40 * DAY, workflows=[FLOW])
    foreign = world.rerun(other, NOW + timedelta(minutes=10))["id"]
    with synced(world, project_slugs=SLUG) as (server, first):
        world.builds_told = lambda rows: [{**row, "workflows": {"workflow_id": foreign}} for row in rows]
        rerun(world, 3, NOW + timedelta(minutes=10))
        world.advance(timedelta(hours=1))
        server.fault = lambda path, _: Fault(404) if gone and path.endswith(f"/pipeline/{other['id']}") else None
        second = sync(server, state=first.state, streams=WALK, find_reruns=True, project_slugs=SLUG)
    assert second.status == 0, second.log
    assert asked(server, f"/workflow/{foreign}")
    assert {row["project_slug"] for name in WALK for row in second.rows(name)} <= {SLUG}
    assert not asked(server, f"/pipeline/{other['id']}/")


@pytest.mark.parametrize("spelled", ["GH/Acme/API", "github/acme/api", "gh/acme/renamed"])
def test_news_counts_however_the_service_spells_the_slug(spelled):
    """A pipeline with news is of the project if it has a slug that the project's own list shows, or the one named."""
    world = world_of()
    with synced(world) as (server, first):
        for row in world.pipelines([world.project(SLUG)["id"]]):
            row["project_slug"] = spelled
        again = rerun(world, 3, NOW + timedelta(minutes=10))
        world.advance(timedelta(hours=1))
        second = sync(server, state=first.state, streams=WALK, find_reruns=True)
    assert again["id"] in {row["id"] for row in second.rows("workflows")}


@pytest.mark.parametrize("path", ["/me", LIST])
def test_a_date_that_is_ahead_hides_no_rerun(path):
    """One answer with the date of tomorrow does not make the jobs of today those of before the last sync."""
    world = world_of()
    with synced(world) as (server, first):
        world.advance(HOUR)
        server.script(path, [Fault(None, {"Date": "Wed, 11 Mar 2026 13:00:00 GMT"})])
        second = sync(server, state=first.state, streams=WALK, find_reruns=True)
        again = rerun(world, 3, NOW + 70 * MINUTE)
        world.advance(HOUR)
        third = sync(server, state=second.state, streams=WALK, find_reruns=True)
    assert again["id"] in {row["id"] for row in third.rows("workflows")}
