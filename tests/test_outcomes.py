"""Missing, forbidden and broken resources are named, and a service that is down ends the run."""

from __future__ import annotations

import pytest

from tests.circleci import Fault, Server
from tests.circleci.extras import furnish
from tests.tap import EagerClock, assert_same, expected, sync, tables
from tests.worlds import NOW, WALK, pipeline_ids, truth_of, world_of


def test_a_forbidden_organization_is_named_and_skipped():
    """A 403 below one organization leaves the others complete, with exit 0."""
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


def test_forbidden_organizations_are_named_without_an_owner():
    """A 403 for the list of organizations itself: the log names it, and no owner that is missing."""
    with Server(world_of(2)) as server:
        server.script("/me/collaborations", [Fault(403)])
        run = sync(server)
    assert run.status == 0, run.log
    assert "collaborations: permission denied (403); skipped\n" in run.log
    assert "Skipped: 1 list of collaborations: permission denied (403)" in run.log


def test_many_neighbours_that_cannot_be_read_do_not_end_the_run_of_a_service_that_is_up():
    """If thirty pipelines in a row fail, the older ones are delivered, and one sentence names the failures."""
    with Server(world_of(60)) as server:
        broken = set(pipeline_ids(server.world)[10:40])
        server.fault = lambda path, nth: Fault(503) if any(name in path for name in broken) else None
        run = sync(server, streams=WALK)
    assert run.status == 1
    (sentence,) = run.criticals()
    assert sentence.startswith(
        "30 lists of workflows could not be read to the end (status 503 in each of 5 attempts): gh/acme/api: the work"
    )
    assert sentence.endswith(" and 20 more. https://status.circleci.com shows whether CircleCI has an incident.")
    assert len(run.rows("pipelines")) == 60
    assert len(run.rows("workflows")) == 30


def test_aged_out_pipelines_are_read_as_empty():
    """A 404, an empty list or items without ids below an old pipeline are counted, with exit 0."""
    world = world_of(6)
    for name, how in zip(pipeline_ids(world), ("missing", "empty", "null"), strict=False):
        world.aged_out[name] = how
    with Server(world) as server:
        run = sync(server)
        truth = truth_of(world)
    assert run.status == 0, run.log
    assert (
        "gh/acme/api: read as empty: 1 list of workflows (404: aged out, deleted, or not visible to the token)"
        in run.log
    )
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
        server.script("/me", [Fault(503)] * 5)
        (sentence,) = sync(server).criticals()
        assert "is not working: GET /api/v2/me: status 503 in each of 5 attempts. https://status.circleci" in sentence
        server.down()
        run = sync(server)
        server.up()
    assert run.status == 1
    assert "connection refused" in run.criticals()[0]


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


def test_a_hundred_failures_in_a_row_end_the_run():
    """A service that answers only GET /me counts as down after a hundred failures, and one sentence says so."""
    with Server(world_of(400)) as server:
        server.fault = lambda path, nth: Fault(500) if path.endswith("/workflow") else None
        run = sync(server, streams=WALK, max_workers=2)
        assert server.calls < 5 * 150
    assert run.status == 1
    assert run.criticals()[-1].startswith(
        "100 resources in a row could not be read: the service seems to be down. http"
    )


@pytest.mark.parametrize("status", [400, 405, 409, 410, 414, 415, 422, 451])
@pytest.mark.parametrize("route", ["/schedule", "/context", "/job", "/project/gh/acme/api"])
def test_a_resource_that_is_rejected_is_named_and_the_rest_is_delivered(route, status):
    """It is named in the API's own words with exit 1, all other rows are sent, and the next run requests it again."""
    world = world_of(3)
    world.add_context(world.organizations[0], "deploy", NOW)
    world.add_schedule(world.project("gh/acme/api"), "nightly", NOW)
    world.forbidden.add(("project", world.organizations[0]["id"]))
    with Server(world) as server:
        server.fault = lambda path, nth: (
            Fault(status, {}, {"message": "Not supported here."}) if path.partition("?")[0].endswith(route) else None
        )
        run = sync(server)
        server.fault = lambda path, nth: None
        again = sync(server, state=run.state)
    assert run.status == 1
    (sentence,) = run.criticals()
    assert f"{status}: Not supported here" in sentence
    assert ".." not in sentence
    assert run.state["currently_syncing"] is None
    assert len(run.rows("pipelines")) == 3
    assert again.status == 0, again.log
    held = tables(again.lines, tables(run.lines))
    assert {stream: len(held[stream]) for stream in ("context", "schedule", "jobs", "project")} == {
        "context": 1,
        "schedule": 1,
        "jobs": 6,
        "project": 1,
    }


@pytest.mark.parametrize(
    ("slugs", "forbidden", "said"),
    [
        ("gh/acme/api gh/acme/gone", None, "gh/acme/gone: there is no such project, or the token does not see it"),
        ("gh/acme/api gh/acme/nothing-*", None, "gh/acme/nothing-* matches no project that gh/acme lists."),
        ("gh/acme/api", "groups", "1 list of groups in gh/acme"),
    ],
)
def test_strict_makes_a_failure_of_whatever_was_named_and_left_out(slugs, forbidden, said):
    """A missing project, an unmatched pattern or a refused stream is a warning, and with strict exit 1; the rest is
    delivered."""
    world = world_of(2)
    if forbidden:
        world.forbidden.add((forbidden, world.organizations[0]["id"]))
    with Server(world) as server:
        usual = sync(server, project_slugs=slugs)
        strict = sync(server, project_slugs=slugs, strict=True)
    assert (usual.status, usual.criticals()) == (0, [])
    assert strict.status == 1
    (sentence,) = strict.criticals()
    assert said in sentence
    assert tables(usual.lines) == tables(strict.lines)
    assert strict.state["currently_syncing"] is None


def test_a_pattern_of_job_names_that_matches_nothing_is_named_once():
    """A first sync names a pattern that matches no job, and with strict fails; later syncs, which read few jobs, do
    not."""
    world = world_of(2)
    jobs = {job["name"] for rows in world.rows["jobs"].values() for job in rows}
    settings = {"job_names": f"{min(jobs)} deploy-*", "streams": ["job_details"], "extra_streams": "job_details"}
    with Server(furnish(world, every=1)) as server:
        first = sync(server, **settings)
        strict = sync(server, strict=True, **settings)
        world_of(1, "gh/acme/api", world)
        later = sync(server, strict=True, state=first.state, **settings)
    (said,) = [line for line in first.log.splitlines() if "job_names" in line]
    assert said.startswith("WARNING job_names: deploy-* matches none of the ")
    assert min(jobs) in said
    assert (first.status, strict.status, later.status) == (0, 1, 0)
    assert strict.criticals() == [said.removeprefix("WARNING ")]
