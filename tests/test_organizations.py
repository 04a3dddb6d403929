"""The organization-wide streams: parents asked once, whole organizations named by a pattern, versions."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta, timezone

import pytest

from tap_circleci.state.state import Mark, State
from tap_circleci.streams import STREAMS
from tap_circleci.sync.run import version_of
from tap_circleci.walk.seen import Seen, Step
from tests.circleci import Answer, Fault, Row, Server, World, demo_world, stamp
from tests.circleci.extras import furnish
from tests.tap import assert_same, expected, sync, tables

VERSIONED = ("collaborations", "context", "groups", "project", "pipeline_definition", "trigger")
NOW = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)


def world_of(*slugs: str) -> World:
    """Projects with one pipeline each."""
    world = World(NOW)
    for slug in slugs:
        project = world.add_project(slug)
        world.add_pipeline(project, NOW - timedelta(hours=2), workflows=[{"stopped_at": timedelta(minutes=5)}])
    return world


def list_projects(server: Server, rows: list[Row], token: str | None = None) -> None:
    """Have the server answer with this page whenever it is asked for an organization's projects."""
    page = Fault(200, {}, {"items": rows, "next_page_token": token})
    server.fault = lambda path, nth: page if "private/project" in path else None


def names(run) -> set[str]:
    return {row["project_slug"] for row in run.rows("pipelines")}


def test_each_parent_is_asked_once_however_many_children_are_selected():
    """No list of parents is read twice, with any selection of children and any stream at the beginning."""
    with Server(demo_world(NOW)) as server:
        sync(server, state={"currently_syncing": "trigger"}, project_slugs="gh/acme/* circleci/Acme/*")
        asked = Counter(request.path for request in server.requests)
    assert max(asked.values()) == 1


def test_a_row_that_changes_while_its_list_is_read_is_sent_by_the_next_run():
    """A row of page one changes after it was read, and a newer row of page two sets the bookmark: the next run sends
    it."""
    world = world_of("gh/acme/api")
    place = world.organizations[0]
    rows = [world.add_environment(place, f"env-{number}", NOW - timedelta(days=9)) for number in range(70)]

    def change(row, seconds):
        row["name"], row["updated_at"] = "changed", stamp(NOW + timedelta(seconds=seconds))

    with Server(world) as server:
        asked = iter(range(10))

        def fault(path, nth):
            if "/deploy/environments" in path and next(asked) == 1:
                change(rows[1], 1)
                change(rows[60], 2)

        server.fault = fault
        first = sync(server, streams=["deploy"])
        world.advance(timedelta(hours=1))
        server.fault = lambda path, nth: None
        second = sync(server, streams=["deploy"], state=first.state)
    found = tables(second.lines, tables(first.lines))["deploy"]
    assert sum(row["name"] == "changed" for row in found.values()) == 2
    assert len(second.rows("deploy")) == 2


def test_a_pattern_means_all_projects_of_an_organization():
    """gh/acme/* finds the projects in each run, also new ones; !gh/acme/legacy-* excludes some."""
    world = world_of("gh/acme/api", "gh/acme/legacy-web", "gh/acme/legacy-api", "gh/other/api")
    with Server(world) as server:
        slugs = "gh/acme/* !gh/acme/legacy-*"
        first = sync(server, project_slugs=slugs, streams=["pipelines"])
        project = world.add_project("gh/acme/new")
        world.add_pipeline(project, NOW - timedelta(days=9))
        second = sync(server, project_slugs=slugs, streams=["pipelines"], state=first.state)
    assert names(first) == {"gh/acme/api"}
    assert "gh/acme/new" in names(second)
    assert not {"gh/acme/legacy-web", "gh/acme/legacy-api", "gh/other/api"} & names(second)


def test_a_bracket_in_a_pattern_is_a_bracket():
    """!gh/acme/web[1] leaves out the project of that name, and not web1."""
    with Server(world_of("gh/acme/web[1]", "gh/acme/web1")) as server:
        run = sync(server, project_slugs="gh/acme/* !gh/acme/web[1]", streams=["pipelines"])
    assert names(run) == {"gh/acme/web1"}


def test_a_pattern_whose_projects_may_not_be_listed_is_named_once():
    """If the list of projects is forbidden, no second line says that the pattern matches nothing."""
    world = world_of("gh/acme/api")
    world.forbidden.add(world.organizations[0]["id"])
    with Server(world) as server:
        run = sync(server, project_slugs="gh/acme/*", streams=["pipelines"])
    assert run.status == 1
    assert run.criticals() == ["gh/acme/*: the projects of this organization cannot be listed."]


def test_a_pattern_for_a_standalone_organization_takes_its_id_or_short_name():
    """circleci/<org>/* works with both forms of the organization's id, and excludes by the project's name."""
    world = world_of("circleci/Labs/robots", "circleci/Labs/old-robots")
    organization = world.organizations[0]
    with Server(world) as server:
        for name in (organization["id"], organization["slug"].split("/")[1]):
            run = sync(server, project_slugs=f"circleci/{name}/* !circleci/{name}/old-*", streams=["pipelines"])
            assert run.status == 0, run.log
            assert len(run.rows("pipelines")) == 1


def test_a_project_is_left_out_by_its_id_and_by_either_name_of_its_organization():
    """!circleci/<organization>/<project> works with ids and short names alike."""
    world = world_of("circleci/Labs/robots", "circleci/Labs/arms")
    organization, (project, _) = world.organizations[0], world.projects.values()
    short = organization["slug"].split("/")[1]
    with Server(world) as server:
        for place, out in ((organization["id"], short), (short, organization["id"])):
            for left_out in (project["id"], project["slug"].split("/")[2], "rob*"):
                slugs = f"circleci/{place}/* !circleci/{out}/{left_out}"
                run = sync(server, project_slugs=slugs, streams=["pipelines"])
                assert len(names(run)) == 1, slugs
                assert project["slug"] not in names(run)


def test_slugs_of_the_api_that_are_none_are_named_and_never_asked_for():
    """A project whose slug is unusable has a warning, and only requests by its id."""
    world = world_of("gh/acme/api", "gh/acme/web", "gh/acme/app")
    rows = list(world.projects.values())
    listed = [rows[0], {**rows[1], "slug": "gh/../../me"}, {**rows[2], "slug": None}]
    with Server(world) as server:
        list_projects(server, listed)
        run = sync(server, project_slugs="gh/acme/*", streams=["project", "schedule", "pipelines"])
        paths = [request.path for request in server.requests]
    assert run.status == 0, run.log
    assert not [path for path in paths if ".." in path or path.endswith("/me/schedule")]
    assert names(run) == {"gh/acme/api"}
    for row in rows[1:]:
        assert f"schedule of project {row['id']}: skipped: the project has no usable slug" in run.log
        assert f"gh/acme/*: project {row['id']} is left out; its slug is" in run.log


def test_a_project_that_two_organizations_list_is_asked_once():
    """Its definitions, triggers and schedules are read once, and are sent for both organizations."""
    world = world_of("gh/acme/api", "gh/other/web")
    project = {key: value for key, value in world.project("gh/acme/api").items() if key != "organization_id"}
    definition = world.add_definition(project, "build")
    world.add_trigger(definition, "push", {"provider": "github_app", "repo": {"full_name": "acme/api"}})
    with Server(world) as server:
        list_projects(server, [project])
        run = sync(server, streams=["pipeline_definition", "trigger", "schedule"], project_slugs="gh/acme/api")
        asked = Counter(request.path for request in server.requests if "private" not in request.path)
    assert max(asked.values()) == 1
    for stream in ("pipeline_definition", "trigger"):
        assert {row["organization_id"] for row in run.rows(stream)} == {row["id"] for row in world.organizations}


def test_an_organization_that_cannot_be_listed_is_a_clear_error():
    """A pattern whose organization is unknown or forbidden is named with exit 1, and the rest is delivered."""
    world = world_of("gh/acme/api", "gh/secret/api")
    world.forbidden.add(world.organization("gh/secret")["id"])
    with Server(world) as server:
        run = sync(server, project_slugs="gh/nobody/* gh/secret/* gh/acme/api", streams=["pipelines"])
    assert run.status == 1
    assert names(run) == {"gh/acme/api"}
    assert [sentence.split(":")[0] for sentence in run.criticals()] == ["gh/nobody/*", "gh/secret/*"]


def test_an_organization_whose_list_goes_round_in_circles_is_listed():
    """A pattern takes the projects that an endless list gave before it repeated itself; exit 0."""
    world = world_of("gh/acme/api", "gh/acme/web")
    with Server(world) as server:
        list_projects(server, list(world.projects.values()), "again")
        run = sync(server, project_slugs="gh/acme/*", streams=["pipelines"])
    assert run.status == 0, run.log
    assert names(run) == {"gh/acme/api", "gh/acme/web"}


def test_a_configured_project_whose_organization_is_closed_is_looked_up():
    """If the organization's list is forbidden, the project and its children are read by its own address."""
    world = world_of("gh/acme/api")
    world.forbidden.add(("project", world.organization("gh/acme")["id"]))
    definition = world.add_definition(world.project("gh/acme/api"), "build")
    world.add_schedule(world.project("gh/acme/api"), "nightly", NOW)
    with Server(world) as server:
        run = sync(server)
        truth = expected(world.truth(["gh/acme/api"]))
        looked_up = [request.path for request in server.requests if request.path == "/api/v2/project/gh/acme/api"]
    assert run.status == 0, run.log
    assert len(looked_up) == 1
    held = tables(run.lines)
    assert [row["id"] for row in run.rows("pipeline_definition")] == [definition["id"]]
    assert list(held["project"]) == list(truth["project"])
    assert_same({"schedule": held["schedule"]}, {"schedule": truth["schedule"]})


def test_a_project_that_is_looked_up_belongs_to_the_organization_in_its_slug():
    """Its row gets the organization of the slug if the answer names none; without one, a warning says so."""
    world = world_of("gh/acme/api")
    organization = world.organization("gh/acme")
    world.forbidden.add(("project", organization["id"]))
    answer = {**world.project("gh/acme/api"), "organization_id": None}
    with Server(world) as server:
        server.fault = lambda path, nth: Fault(200, {}, answer) if path.endswith("/project/gh/acme/api") else None
        run = sync(server, streams=["project", "pipeline_definition"])
        server.script("/me/collaborations", [Fault(403)])
        alone = sync(server, streams=["project", "pipeline_definition"])
    assert [row["organization_id"] for row in run.rows("project")] == [organization["id"]]
    assert "skipped: the project has no usable organization_id" in alone.log


def test_incremental_streams_send_what_changed_since_their_bookmark():
    """deploy and schedule keep a bookmark per organization and project and send what is not older."""
    world = world_of("gh/acme/api")
    organization = world.organization("gh/acme")
    old = world.add_environment(organization, "old", NOW - timedelta(days=9))
    world.add_environment(organization, "new", NOW - timedelta(days=2))
    with Server(world) as server:
        first = sync(server, streams=["deploy"], start_date="2026-03-05")
        again = sync(server, streams=["deploy"], state=first.state)
        old["updated_at"] = world.add_environment(organization, "x", NOW)["updated_at"]
        last = sync(server, streams=["deploy"], state=again.state)
    assert [row["name"] for row in first.rows("deploy")] == ["new"]
    assert "1 row of deploy last changed before start_date" in first.log
    assert [row["name"] for row in again.rows("deploy")] == ["new"]
    assert {row["name"] for row in last.rows("deploy")} == {"old", "new", "x"}


def test_an_environment_that_shows_up_to_two_hours_late_is_sent():
    """An environment that shows late is sent also if a newer one was sent before."""
    world = world_of("gh/acme/api")
    organization = world.organization("gh/acme")
    world.add_environment(organization, "newer", NOW)
    with Server(world) as server:
        first = sync(server, streams=["deploy"])
        world.add_environment(organization, "late", NOW - timedelta(minutes=119))
        second = sync(server, streams=["deploy"], state=first.state)
    assert [row["name"] for row in first.rows("deploy")] == ["newer"]
    assert {row["name"] for row in second.rows("deploy")} == {"newer", "late"}


@pytest.mark.parametrize("slugs", [("gitlab/acme/api", "gitlab/acme/web"), ("gh/acme/my api", "gh/acme/my web")])
def test_schedules_of_projects_with_unheard_of_slugs_are_apart(slugs):
    """Each project has its own bookmark, also with an unknown host in its slug: the older schedule is sent as well."""
    world = world_of("gh/acme/api", "gh/acme/web")
    rows = list(world.projects.values())
    listed = [{**row, "slug": slug} for row, slug in zip(rows, slugs, strict=True)]
    with Server(world) as server:

        def answer(path: str, nth: int) -> Fault | None:
            items = listed if "private/project" in path else None
            if path.endswith("/schedule"):
                number = "web" in path
                changed = (NOW - timedelta(days=9 * number)).isoformat()
                items = [{"id": f"s{number}", "project-slug": slugs[number], "updated-at": changed}]
            return Fault(200, {}, {"items": items, "next_page_token": None}) if items else None

        server.fault = answer
        first = sync(server, streams=["schedule"])
        again = sync(server, streams=["schedule"], state=first.state)
    assert len(first.rows("schedule")) == 2
    assert set(first.state["bookmarks"]["schedule"]) == set(slugs)
    assert again.status == 0


def test_a_schedule_keeps_its_own_slug_and_is_given_one_only_where_it_has_none():
    """The API's slug of a schedule is kept, in either spelling; a null or missing one is filled."""
    world = world_of("gh/acme/api")
    project = world.project("gh/acme/api")
    rows = [world.add_schedule(project, f"schedule-{number}", NOW) for number in range(3)]
    rows[0]["project-slug"] = "github/acme/api"
    rows[1]["project-slug"] = None
    del rows[2]["project-slug"]
    for underscores in (False, True):
        world.underscores = underscores
        with Server(world) as server:
            run = sync(server, streams=["schedule"])
        slugs = [row["project-slug"] for row in run.rows("schedule")]
        assert slugs == ["github/acme/api", "gh/acme/api", "gh/acme/api"]


def test_a_list_that_breaks_in_the_middle_moves_no_bookmark():
    """The rows that came are sent, the failure is named, and the next run sends the rest, however old it is."""
    world = world_of("gh/acme/api")
    for days in range(6):
        world.add_environment(world.organization("gh/acme"), f"env-{days}", NOW - timedelta(days=days))
    with Server(world) as server:
        server.fault = lambda path, nth: Fault(500) if "page-token" in path else None
        first = sync(server, streams=["deploy"], page_size=2)
        server.fault = lambda path, nth: None
        again = sync(server, streams=["deploy"], page_size=2, state=first.state)
    assert first.status == 1
    assert len(first.rows("deploy")) == 2
    assert again.status == 0
    assert len(again.rows("deploy")) == 6


def test_versions_are_activated_only_after_a_complete_read():
    """With activate_version, full tables end with ACTIVATE_VERSION, unless a part was forbidden or missing."""
    world = world_of("gh/acme/api", "gh/other/web")
    for organization in world.organizations:
        world.add_context(organization, "deploy", NOW)
    world.forbidden.add(("groups", world.organizations[1]["id"]))
    with Server(world) as server:
        run = sync(server, activate_version=True)
        server.script("/context", [Fault(404)])
        missing = sync(server, activate_version=True, streams=["context"])
        off = sync(server)
    activated = [m["stream"] for m in run.messages if m["type"] == "ACTIVATE_VERSION"]
    assert activated == ["collaborations", "context", "project", "pipeline_definition", "trigger"]
    versions = {m["version"] for m in run.messages if m["type"] == "RECORD" and m["stream"] == "context"}
    assert versions == {m["version"] for m in run.messages if m["type"] == "ACTIVATE_VERSION"}
    assert len(versions) == 1
    assert not [m for m in missing.messages if m["type"] == "ACTIVATE_VERSION"]
    assert not [m for m in off.messages if "version" in m]
    assert not [
        m for m in run.messages if m["type"] == "RECORD" and m["stream"] in ("jobs", "deploy") and "version" in m
    ]


def test_the_version_of_a_table_never_falls_between_runs():
    """A Date that is wrong in one run makes neither that version nor the next one lower."""
    found = []
    with Server(world_of("gh/acme/api")) as server:
        for days in (0, 400, 0, -400, 0):
            server.world.advance(timedelta(days=days))
            run = sync(server, activate_version=True, streams=["project"])
            server.world.advance(timedelta(days=-days))
            found += [message["version"] for message in run.messages if message["type"] == "ACTIVATE_VERSION"]
    assert len(found) == 5
    assert found == sorted(found)


def test_a_version_is_no_lower_than_what_the_state_says_has_passed():
    """If this machine's clock is behind that of an earlier run, the version is the latest time in the state."""
    later = datetime(2090, 1, 1, tzinfo=timezone.utc)
    usual, seen = State(), State(marks={"jobs": {"gh/acme/api": Mark(seen=Seen((Step(later, later),)))}})
    assert version_of(usual) < version_of(seen) == int(later.timestamp() * 1000)


@pytest.mark.parametrize("status", [403, 404, 500])
@pytest.mark.parametrize(
    ("broken", "activated"),
    [
        ("/me/collaborations", []),
        ("/private/project", ["collaborations", "context", "groups"]),
        ("/pipeline-definitions", ["collaborations", "context", "groups", "project"]),
    ],
)
def test_no_version_is_activated_below_parents_that_could_not_be_read(status, broken, activated):
    """Rows whose parents were forbidden, missing or unreadable in this run are not gone: they stay in the target."""
    with Server(demo_world(NOW)) as server:
        server.fault = lambda path, nth: Fault(status) if path.split("?")[0].endswith(broken) else None
        run = sync(server, activate_version=True, streams=VERSIONED)
    assert [m["stream"] for m in run.messages if m["type"] == "ACTIVATE_VERSION"] == activated


@pytest.mark.parametrize(
    "second",
    [
        Fault(403),
        Fault(404),
        Fault(500),
        Fault(200, {}, {"items": [{"id": None, "name": "x"}], "next_page_token": None}),
        Fault(200, {}, {"items": [], "next_page_token": "again"}),
    ],
    ids=["refused", "missing", "broken", "without an id", "endless"],
)
@pytest.mark.parametrize(
    ("stream", "activated"), [("private/project", ["groups"]), ("/groups", ["project", "pipeline_definition"])]
)
def test_no_version_is_activated_where_the_second_page_is_in_doubt(stream, activated, second):
    """If only the first page of a list is certain, neither it nor a list below it is activated."""
    world = world_of("gh/acme/api", "gh/acme/web")
    for organization in world.organizations:
        for name in ("one", "two"):
            world.add_group(organization, name)
    with Server(world, page_size=1) as server:
        server.fault = lambda path, nth: second if stream in path and "page-token" in path else None
        streams = ("groups", "project", "pipeline_definition")
        run = sync(server, activate_version=True, streams=streams, page_size=1)
    assert [m["stream"] for m in run.messages if m["type"] == "ACTIVATE_VERSION"] == activated


def test_no_version_is_activated_below_a_project_without_an_id():
    """A list that cannot be requested counts as incomplete, and so do those below it."""
    world = world_of("gh/acme/api", "gh/acme/web")
    listed = [{**row, "id": None} if row["name"] == "web" else row for row in world.projects.values()]
    with Server(world) as server:
        list_projects(server, listed)
        run = sync(server, activate_version=True, streams=VERSIONED)
    activated = [m["stream"] for m in run.messages if m["type"] == "ACTIVATE_VERSION"]
    assert activated == ["collaborations", "context", "groups"]


def test_a_collaboration_without_an_id_is_skipped_and_counted():
    """An organization that was never used on CircleCI has no id: no row is sent, and nothing is requested below it."""
    world = world_of("gh/acme/api")
    world.add_organization("gh/unused", used=False)
    with Server(world) as server:
        run = sync(server)
        assert not [request for request in server.requests if "None" in request.path or "null" in request.path]
    assert len(run.rows("collaborations")) == 1
    assert "Skipped: 1 row of collaborations without a usable key" in run.log
    assert run.status == 0
    assert set(STREAMS) >= {m["stream"] for m in run.messages if "stream" in m}


def test_every_full_table_shows_deletes_whether_it_is_extra_or_not():
    """All streams without a replication key, outside the walk, send ACTIVATE_VERSION."""
    world = world_of("gh/acme/api")
    world.add_context(world.organizations[0], "deploy", NOW)
    variable = {"variable": "KEY", "created_at": NOW.isoformat(), "updated_at": NOW.isoformat()}
    page = Answer(200, {"items": [variable], "next_page_token": None})
    with Server(world) as server:
        server.aside = lambda request: page if request.path.endswith("/environment-variable") else None
        run = sync(server, activate_version=True, extra_streams="context_variables")
    assert run.status == 0, run.log
    activated = {m["stream"] for m in run.messages if m["type"] == "ACTIVATE_VERSION"}
    assert activated == {*VERSIONED, "context_variables"}
    versions = {m["version"] for m in run.messages if m.get("stream") == "context_variables" and m["type"] == "RECORD"}
    assert versions == {m["version"] for m in run.messages if m["type"] == "ACTIVATE_VERSION"}
    assert len(versions) == 1


CONFIGURED = ("insights_workflows", "flaky_tests", "project_variables", "checkout_keys", "webhooks")
"""The extra streams that are read below the projects that the user names only."""


@pytest.mark.parametrize("listed", ["gh/acme/api", "gh/acme/renamed", "circleci/8XyZ/9AbC", "github/acme/api", None])
@pytest.mark.parametrize("named", ["gh/acme/api", "gh/Acme/API", "circleci/{0}/{1}", "circleci/{0}/{2}"])
def test_a_project_is_the_same_under_each_of_its_slugs(listed, named):
    """The extra streams of a named project are read, whatever slug the user and the organization write."""
    world = furnish(world_of("gh/acme/api"), every=1)
    project, organization = world.project("gh/acme/api"), world.organizations[0]
    world.rows["project"][organization["id"]][0]["slug"] = listed
    slug = named.format(organization["id"], project["id"], project["id"].upper())
    for other in filter(None, (slug, listed)):
        world.add_slug(project, other)
    with Server(world) as server:
        run = sync(server, project_slugs=slug, streams=("project", *CONFIGURED), activate_version=True)
        looked_up = [request for request in server.requests if request.path == f"/api/v2/project/{slug}"]
    assert run.status == 0, run.log
    assert all(run.rows(stream) for stream in CONFIGURED), run.log
    activated = {message["stream"] for message in run.messages if message["type"] == "ACTIVATE_VERSION"}
    assert activated == {"project", *CONFIGURED}
    assert len(run.rows("project")) == 1
    is_listed = project["id"] in slug.lower() or (listed or "").replace("github", "gh") == slug
    assert len(looked_up) == (0 if is_listed else 1)


def test_a_project_that_is_named_twice_and_listed_nowhere_is_one_row():
    """Two slugs of a project that is in no list give one row, and one list below it."""
    world = furnish(world_of("gh/acme/api"), every=1)
    project = world.project("gh/acme/api")
    world.add_slug(project, "gh/Acme/API")
    world.forbidden.add(("project", world.organizations[0]["id"]))
    with Server(world) as server:
        run = sync(server, project_slugs="gh/acme/api gh/Acme/API", streams=("project", "webhooks"))
        asked = [request for request in server.requests if "/webhook" in request.path]
    assert len(run.rows("project")) == 1
    assert len(asked) == 1
    assert run.rows("webhooks")


@pytest.mark.parametrize("named", ["gh/acme/api gh/acme/gone", "gh/acme/api gh/lost/*"])
def test_no_version_is_activated_where_a_named_project_was_not_found(named):
    """If a named project was not found, ACTIVATE_VERSION is not sent, so its rows stay."""
    world = furnish(world_of("gh/acme/api"), every=1)
    with Server(world) as server:
        run = sync(server, project_slugs=named, streams=CONFIGURED, activate_version=True)
    assert all(run.rows(stream) for stream in CONFIGURED)
    assert not [message for message in run.messages if message["type"] == "ACTIVATE_VERSION"]


def test_no_version_is_activated_where_a_list_cannot_be_asked_for():
    """An organization without a slug has no summary that can be requested, so its rows stay in the target."""
    world = furnish(world_of("gh/acme/api", "gh/other/web"), every=1)
    world.organization("gh/other")["slug"] = None
    with Server(world) as server:
        run = sync(server, streams=["insights_projects"], activate_version=True)
    assert run.status == 0, run.log
    assert run.rows("insights_projects")
    assert not [message for message in run.messages if message["type"] == "ACTIVATE_VERSION"]
