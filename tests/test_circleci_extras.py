"""Summaries, days, decisions, values and configs in the CircleCI of the tests, as its OpenAPI file describes them."""

from collections.abc import Callable
from datetime import timedelta
from urllib.parse import quote

import pytest

from tests.circleci import Row, Server, World, moment, seconds
from tests.circleci.extras import truth
from tests.test_circleci_server import HOUR, NOW, ask, walk

DAY = timedelta(days=1)
MIDNIGHT = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
INSIGHTS = "/api/v2/insights"
TEST: Row = {"name": "test_pays", "classname": None, "result": "success", "run_time": "1.5", "file": None, "source": ""}


def world_of_days() -> World:
    """A project with a run of two jobs every six hours for five days, every fourth of them on another branch."""
    world = World(NOW)
    for number in range(20):
        branch = "spike/search" if number % 4 == 3 else "main"
        build: Row = {"name": "build / test", "stopped_at": HOUR, "jobs": ["lint", "test"]}
        build |= {"status": "failed" if number % 5 == 4 else "success"}
        world.add_pipeline("gh/acme/api", NOW - HOUR - number * 6 * HOUR, branch=branch, workflows=[build])
    return world


def days(server: Server, **query: str) -> list[Row]:
    """The days of the jobs of the world's workflow."""
    path = f"{INSIGHTS}/time-series/gh/acme/api/workflows/{quote('build / test', safe='')}/jobs"
    return walk(
        server, path + "?" + "&".join(f"{name.replace('_', '-')}={quote(text)}" for name, text in query.items())
    )


def test_days_count_the_runs_of_the_default_branch_that_began_on_them() -> None:
    """There is a row for each job and day of the default branch; the day at a limit counts only a part."""
    with Server(world_of_days()) as server:
        server.insights_page_size = 3
        rows = days(server, granularity="daily")
        other = days(server, granularity="daily", branch="spike/search")
        hours = days(server, granularity="hourly")
        cut = days(server, granularity="daily", start_date=seconds(NOW - 5 * HOUR), end_date=seconds(NOW))
        server.world.insights_delay = DAY
        late = days(server, granularity="daily")
    assert len({(row["name"], row["timestamp"]) for row in rows}) == len(rows) == 12
    assert sum(row["metrics"]["total_runs"] for row in (*rows, *other)) == 40
    assert {NOW - moment(row["timestamp"]) < timedelta(hours=49) for row in hours} == {True}
    assert len({row["timestamp"] for row in hours}) == 6
    assert {row["name"]: row["metrics"]["total_runs"] for row in cut} == {"lint": 1, "test": 1}
    assert {row["metrics"]["total_runs"] for row in rows if moment(row["timestamp"]) == MIDNIGHT} == {2}
    assert max(row["timestamp"] for row in late) < max(row["timestamp"] for row in rows)
    for row in rows:
        assert row["timestamp"][:10] == row["min_started_at"][:10] and row["timestamp"].endswith("T00:00:00.000Z")
        assert row["metrics"]["duration_metrics"]["total"] == 1800 * row["metrics"]["total_runs"]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({}, 200),
        ({"granularity": "hourly"}, 200),
        ({"granularity": "weekly"}, 400),
        ({"start-date": seconds(NOW - DAY)}, 400),
        ({"start-date": seconds(NOW - 89 * DAY), "end-date": seconds(NOW)}, 200),
        ({"start-date": seconds(NOW - 91 * DAY), "end-date": seconds(NOW)}, 400),
    ],
)
def test_days_are_asked_for_by_both_dates_within_90_days(query: Row, status: int) -> None:
    """A request with one date, or one that is too old, is refused."""
    path = f"{INSIGHTS}/time-series/gh/acme/api/workflows/build/jobs"
    joined = "&".join(f"{name}={quote(text)}" for name, text in query.items())
    with Server(world_of_days()) as server:
        assert ask(server, f"{path}?{joined}").status == status


def test_the_truth_of_days_has_whole_days_only() -> None:
    """A start date in the middle of a day includes the whole day, and the oldest day is a whole one."""
    world = world_of_days()
    rows = truth(world, ["gh/acme/api"], NOW - DAY)["insights_job_days"]
    every = truth(world, ["gh/acme/api"])["insights_job_days"]
    with Server(world) as server:
        told = days(server, granularity="daily")
    assert every == [row | {"_project_slug": "gh/acme/api", "_workflow_name": "build / test"} for row in told]
    assert min(moment(row["timestamp"]) for row in rows) == MIDNIGHT - DAY
    assert all(row in every for row in rows)
    world.advance(88 * DAY)
    oldest = min(moment(row["timestamp"]) for row in truth(world, ["gh/acme/api"])["insights_job_days"])
    assert oldest == MIDNIGHT - DAY


def test_summaries_of_organizations_and_projects_are_nested() -> None:
    """Metrics and trends are inside each project, and inside each workflow and branch; all kinds of slugs work."""
    world = world_of_days()
    robots = world.add_project("circleci/Acme Labs/robots")
    world.add_project("gh/acme/idle")
    with Server(world) as server:
        summary = ask(server, f"{INSIGHTS}/gh/acme/summary?reporting-window=last-90-days").body
        pages = ask(server, f"{INSIGHTS}/pages/gh/acme/api/summary").body
        labs = ask(server, f"{INSIGHTS}/{robots['organization_slug']}/summary").body
        unknown = [f"{INSIGHTS}/gh/nobody/summary", f"{INSIGHTS}/pages/gh/acme/no/summary"]
        assert [ask(server, path).status for path in unknown] == [404, 404]
        assert ask(server, f"{INSIGHTS}/gh/acme/summary?reporting-window=for-ever").status == 400
    assert (summary["all_projects"], labs["org_project_data"]) == (["api", "idle"], [])
    (project,) = summary["org_project_data"]
    assert (project["project_name"], project["metrics"]["total_runs"]) == ("api", 20)
    assert project["metrics"].keys() == project["trends"].keys()
    branches = pages["project_workflow_branch_data"]
    assert [(row["branch"], row["metrics"]["total_runs"]) for row in branches] == [("main", 15), ("spike/search", 5)]
    assert sum(row["metrics"]["total_credits_used"] for row in branches) == project["metrics"]["total_credits_used"]


def test_tests_stand_in_two_lists_and_once_in_the_truth() -> None:
    """The latest ten runs count; the two short lists overlap, and the truth has each test once."""
    world = world_of_days()
    for workflow in [row for rows in world.rows["workflows"].values() for row in rows]:
        lint, test = world.rows["jobs"][workflow["id"]]
        world.tests[lint["id"]] = [TEST | {"name": f"test_{number}", "run_time": number} for number in range(12)]
        world.tests[test["id"]] = [TEST | {"result": "failure", "run_time": 99}, TEST | {"classname": "Cart"}]
    world.flaky_names = {"test_pays"}
    path = f"{INSIGHTS}/gh/acme/api/workflows/{quote('build / test', safe='')}/test-metrics"
    with Server(world) as server:
        body = ask(server, f"{path}?all-branches=true").body
        assert ask(server, f"{INSIGHTS}/gh/acme/api/workflows/none/test-metrics").body["slowest_tests"] == []
    (failed,) = body["most_failed_tests"]
    assert (failed["total_runs"], failed["failed_runs"], failed["flaky"], failed["p95_duration"]) == (10, 10, True, 99)
    assert (len(body["slowest_tests"]), body["slowest_tests_extra"], body["slowest_tests"][0]) == (10, 4, failed)
    rows = truth(world, ["gh/acme/api"])["insights_tests"]
    keys = [(row["job_name"], row["classname"], row["test_name"]) for row in rows]
    assert len({*keys}) == len(keys) == 10
    assert ("test", "", "test_pays") in keys


def decisions(server: Server, query: str = "", meanwhile: Callable[[], object] = lambda: None) -> list[Row]:
    """All decisions of the world's organization, page after page until one is empty."""
    path = f"/api/v2/owner/{server.world.organizations[0]['id']}/context/config/decision"
    rows: list[Row] = []
    while page := ask(server, f"{path}?offset={len(rows)}{query}").body:
        rows += page
        assert len(rows) < 200, "the list does not end"
        meanwhile()
    return rows


def test_decisions_are_bare_arrays_by_offset() -> None:
    """They come newest first until an empty page, from a given time on; new ones shift the others down."""
    world = World(NOW)
    organization = world.add_organization("gh/acme")
    for number in range(45):
        world.add_decision(organization, NOW - number * HOUR, "SOFT_FAIL" if number % 2 else "PASS")
    world.add_decision(organization, NOW + HOUR)

    def one_more() -> None:
        if len(world.rows["policy_decisions"][organization["id"]]) < 48:
            world.add_decision(organization, NOW)

    with Server(world) as server:
        rows = decisions(server)
        assert [ask_count.path.count("offset") for ask_count in server.requests] == [1, 1, 1, 1]
        assert len(decisions(server, f"&after={quote(seconds(NOW - 10 * HOUR))}")) == 11
        shifted = [row["id"] for row in decisions(server, "", one_more)]
        path = f"/api/v2/owner/{organization['id']}/context/config/decision"
        assert [ask(server, f"{path}?{query}").status for query in ("offset=x", "after=yesterday")] == [400, 400]
        assert ask(server, f"/api/v2/owner/{world.me['id']}/context/config/decision").status == 403
    assert len(rows) == 45
    assert [row["created_at"] for row in rows] == sorted((row["created_at"] for row in rows), reverse=True)
    assert {row["id"] for row in rows} <= {*shifted} and len(shifted) > len({*shifted})
    assert "soft_failures" in rows[1]["decision"] and "soft_failures" not in rows[0]["decision"]


@pytest.mark.parametrize("underscores", [False, True])
def test_values_and_configs_are_those_of_a_pipeline_that_is_set_up(underscores: bool) -> None:
    """A pipeline in setup has neither, and one whose config has errors has no values."""
    world = World(NOW)
    world.underscores = underscores
    young = world.add_pipeline("gh/acme/api", NOW - timedelta(seconds=1))
    broken = world.add_pipeline("gh/acme/api", NOW - HOUR, state="errored")
    setup = world.add_pipeline("gh/acme/api", NOW - HOUR)
    later = world.add_pipeline("gh/acme/api", NOW + HOUR)
    with Server(world) as server:

        def of(pipeline: Row) -> tuple[Row, Row]:
            path = f"/api/v2/pipeline/{pipeline['id']}"
            return ask(server, f"{path}/values").body, ask(server, f"{path}/config").body

        assert of(young) == ({}, {"source": "", "compiled": ""})
        assert (of(broken)[0], of(broken)[1]["compiled"]) == ({}, "")
        name = "setup_config" if underscores else "setup-config"
        assert of(setup)[1][name].startswith("setup: true")
        assert {type(value) for value in of(setup)[0].values()} == {str, int, bool}
        assert ask(server, f"/api/v2/pipeline/{later['id']}/values").status == 404
        first = truth(world, ["gh/acme/api"])
        world.advance(timedelta(seconds=10))
        second = truth(world, ["gh/acme/api"])
        assert of(young)[0]["number"] == 1
    assert [len(rows["pipeline_values"]) for rows in (first, second)] == [2, 3]
    (row,) = (row for row in second["pipeline_configs"] if row["pipeline_id"] == setup["id"])
    assert row.keys() == {"pipeline_id", "source", "compiled", "setup_config", "compiled_setup_config"}


@pytest.mark.parametrize("stream", ["insights_projects", "policy_decisions", "pipeline_values", "insights_branches"])
def test_what_is_refused_is_not_true(stream: str) -> None:
    """Rows of an organization that is forbidden, and of the streams below it, are not in the truth."""
    world = world_of_days()
    organization = world.organizations[0]["id"]
    world.add_decision(world.organizations[0], NOW - HOUR)
    assert truth(world, ["gh/acme/api"])[stream]
    world.forbidden.add((stream, organization))
    pipeline = world.rows["pipelines"][world.project("gh/acme/api")["id"]][0]["id"]  # type: ignore[index]
    path = {
        "insights_projects": f"{INSIGHTS}/gh/acme/summary",
        "insights_branches": f"{INSIGHTS}/pages/gh/acme/api/summary",
        "policy_decisions": f"/api/v2/owner/{organization}/context/config/decision",
        "pipeline_values": f"/api/v2/pipeline/{pipeline}/values",
    }[stream]
    with Server(world) as server:
        assert ask(server, path).status == 403
    assert not truth(world, ["gh/acme/api"])[stream]
