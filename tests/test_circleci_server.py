"""The CircleCI of the tests behaves as the real one is known to behave."""

import gzip
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from http.client import BadStatusLine, HTTPConnection, HTTPMessage, IncompleteRead, RemoteDisconnected
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import pytest

from tests.circleci import TOKEN, Fault, Row, Server, World, demo_world, history, http_date, odd_world, seconds, short
from tests.circleci.usage import FileHost, Usage

NOW = datetime(2025, 6, 4, 12, 0, 0, 250_000, timezone.utc)
HOUR = timedelta(hours=1)


class Reply(NamedTuple):
    """What came back: the body is decoded when it is JSON."""

    status: int
    body: Any
    headers: HTTPMessage


def ask(server: Server, path: str, connection: HTTPConnection | None = None, token: str = TOKEN) -> Reply:
    """One GET, on a connection of its own unless one is given."""
    if connection is None:
        with closing(HTTPConnection("127.0.0.1", server.port, timeout=5)) as own:
            return ask(server, path, own, token)
    connection.request("GET", path, headers={"Circle-Token": token})
    response = connection.getresponse()
    raw = response.read()
    is_json = response.headers["Content-Type"].startswith("application/json")
    return Reply(response.status, json.loads(raw) if is_json else raw.decode(), response.headers)


def walk(server: Server, path: str, meanwhile: Any = lambda: None) -> list[Row]:
    """All items of a list, page after page."""
    joint = "&" if "?" in path else "?"
    page = ask(server, path).body
    items = list(page["items"])
    while token := page.get("next_page_token"):
        meanwhile()
        page = ask(server, f"{path}{joint}page-token={quote(token)}").body
        items += page["items"]
    return items


def pipelines_of(project: Row) -> str:
    """The path of a project's pipelines."""
    return f"/api/v2/project/{project['slug']}/pipeline"


def only(world: World) -> Row:
    """The one project of a world."""
    (project,) = world.projects.values()
    return project


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of 45 pipelines, each with two workflows of four jobs."""
    with Server(history(45, NOW)) as running:
        yield running


def test_pipelines_are_paged_newest_first(server: Server) -> None:
    """Pages of 20, newest first, end with a null token, and new pipelines at the top do not shift them."""
    path = pipelines_of(only(server.world))

    def one_more() -> None:
        server.world.advance(HOUR)
        server.world.add_pipeline(only(server.world), server.world.now)

    items = walk(server, path, one_more)
    assert [row["number"] for row in items] == list(range(45, 0, -1))
    assert len(ask(server, path).body["items"]) == 20
    assert ask(server, path).body["items"][0]["number"] == 47
    last = json.dumps(walk(server, path)[-1])
    assert last == json.dumps(items[-1])
    assert ask(server, f"{path}?page-token=nonsense").status == 400


def test_lists_end_in_four_ways() -> None:
    """Each endpoint ends its list in its own way: null, an empty text, no key, or a bare array."""
    world = odd_world(NOW)
    project, organization = only(world), world.organizations[0]["id"]
    definition = world.rows["pipeline_definition"][project["id"]][0]["id"]
    pipeline = world.rows["pipelines"][project["id"]][-1]["id"]
    with Server(world) as server:
        for path in (
            f"/api/v2/context?owner-id={organization}&owner-type=organization",
            f"/api/v2/organizations/{organization}/groups",
            f"/api/private/project?organization-id={organization}",
            f"/api/v2/project/{project['slug']}/schedule",
            f"/api/v2/pipeline/{pipeline}/workflow",
        ):
            assert ask(server, path).body["next_page_token"] is None, path
        assert ask(server, f"/api/v2/deploy/environments?org-id={organization}").body["next_page_token"] == ""
        for path in (
            f"/api/v2/projects/{project['id']}/pipeline-definitions",
            f"/api/v2/projects/{project['id']}/pipeline-definitions/{definition}/triggers",
            f"/api/v2/workflow/{world.rows['workflows'][pipeline][0]['id']}/job",
        ):
            assert ask(server, path).body.keys() == {"items"}, path
        assert ask(server, "/api/v2/me/collaborations").body == world.organizations


def test_wide_workflow_takes_several_pages() -> None:
    """A workflow of 65 jobs comes in four pages."""
    world = odd_world(NOW)
    wide = next(row for row in world.truth(["gh/acme/odd"])["workflows"] if row["name"] == "wide")
    with Server(world) as server:
        assert len({job["id"] for job in walk(server, f"/api/v2/workflow/{wide['id']}/job")}) == 65
        assert server.calls == 4


def test_page_size_is_honoured_up_to_fifty() -> None:
    """The project list and deploy environments take a page size of up to 50; more answers 500."""
    world = World(NOW)
    for number in range(60):
        world.add_project(f"gh/acme/{number}")
    path = f"/api/private/project?organization-id={world.organizations[0]['id']}&page-size="
    with Server(world) as server:
        assert len(ask(server, path + "50").body["items"]) == 50
        assert len(walk(server, path + "7")) == 60
        assert ask(server, path + "51").status == 500


def test_slugs_in_all_forms() -> None:
    """Both names of GitHub, and ids or names of a standalone organization, lead to the same project."""
    world = World(NOW)
    web, robots = world.add_project("gh/acme/web"), world.add_project("circleci/Acme Labs/robots")
    owner, own = robots["organization_id"], robots["id"]
    with Server(world) as server:
        assert ask(server, "/api/v2/project/github/acme/web").body == web
        for slug in (f"{owner}/{own}", f"{short(owner)}/{short(own)}"):
            assert ask(server, f"/api/v2/project/circleci/{slug}").body["slug"] == robots["slug"]
        assert ask(server, "/api/v2/project/circleci/Acme%20Labs/robots").status == 404


def test_organization_wide_list_is_one_list(server: Server) -> None:
    """The pipelines of an organization are those of all its projects, newest first."""
    other = server.world.add_project("gh/acme/other")
    for hours in range(30):
        server.world.add_pipeline(other, NOW - hours * HOUR)
    times = [row["created_at"] for row in walk(server, "/api/v2/pipeline?org-slug=gh/acme")]
    assert len(times) == 75
    assert times == sorted(times, reverse=True)


def test_the_clock_of_the_world_decides_what_shows() -> None:
    """What happens after the world's time is not shown, and every answer's Date is that time."""
    world = World(NOW)
    hold: Row = {"name": "hold", "type": "approval"}
    work = {"created_at": NOW + HOUR, "stopped_at": 10 * HOUR, "jobs": ["build", hold, "deploy"]}
    pipeline = world.add_pipeline("gh/acme/web", NOW + HOUR, workflows=[work])
    workflow = world.rows["workflows"][pipeline["id"]][0]

    with Server(world) as server:

        def shown() -> tuple[Row, list[Row]]:
            (row,) = ask(server, f"/api/v2/pipeline/{pipeline['id']}/workflow").body["items"]
            return row, ask(server, f"/api/v2/workflow/{workflow['id']}/job").body["items"]

        reply = ask(server, "/api/v2/project/gh/acme/web/pipeline")
        assert reply.body["items"] == []
        assert parsedate_to_datetime(reply.headers["Date"]) == NOW.replace(microsecond=0)
        assert ask(server, f"/api/v2/pipeline/{pipeline['id']}/workflow").status == 404

        world.advance(HOUR + timedelta(seconds=1))
        assert ask(server, "/api/v2/project/gh/acme/web/pipeline").body["items"][0]["state"] == "pending"
        row, (build, approval, deploy) = shown()
        assert (row["status"], row["stopped_at"]) == ("running", None)
        assert build["status"] == "running" and "stopped_at" not in build
        assert deploy["status"] == "blocked" and deploy["started_at"] is None and "stopped_at" not in deploy

        world.advance(HOUR)
        row, (build, approval, deploy) = shown()
        assert (row["status"], build["status"], approval["status"]) == ("on_hold", "success", "on_hold")
        assert "job_number" not in approval and "approved_by" not in approval
        assert ask(server, "/api/v2/project/gh/acme/web/pipeline").body["items"] == [pipeline]

        world.advance(10 * HOUR)
        assert shown() == (workflow, world.rows["jobs"][workflow["id"]])


def test_rerun_is_a_new_workflow_with_old_jobs() -> None:
    """A rerun from failed is first in its pipeline's list and has the ids of jobs that had succeeded."""
    world = World(NOW)
    pipeline = world.add_pipeline("gh/acme/web", NOW - 30 * HOUR)
    first = world.add_workflow(pipeline, stopped_at=HOUR, status="failed", jobs=3)
    again = world.rerun(pipeline, NOW - HOUR)
    with Server(world) as server:
        assert ask(server, f"/api/v2/pipeline/{pipeline['id']}/workflow").body["items"] == [again, first]
    old, new = ([job["id"] for job in world.rows["jobs"][row["id"]]] for row in (first, again))
    assert old[:2] == new[:2] and old[2] != new[2]
    assert pipeline in world.truth(["gh/acme/web"])["pipelines"]


def test_bad_token_answers_differ(server: Server) -> None:
    """A wrong token answers 404 on project routes and 401 elsewhere."""
    assert ask(server, "/api/v2/me").status == 200
    assert ask(server, "/api/v2/me", token="wrong").status == 401
    assert ask(server, pipelines_of(only(server.world)), token="wrong").status == 404
    assert ask(server, "/api/v2/me/collaborations", token="wrong").body.keys() == {"message"}


def test_refusals_are_left_out_of_the_truth() -> None:
    """The forbidden answer 403, the missing 404, the unsupported and malformed 400; none of them is in the truth."""
    world = odd_world(NOW)
    project, organization = only(world), world.organizations[0]["id"]
    definition = world.rows["pipeline_definition"][project["id"]][0]["id"]
    world.forbidden |= {("groups", organization), project["id"]}
    world.missing.add(("deploy", organization))
    with Server(world) as server:
        assert ask(server, f"/api/v2/organizations/{organization}/groups").body == {"message": "Permission denied."}
        assert ask(server, pipelines_of(project)).status == 403
        assert ask(server, f"/api/v2/deploy/environments?org-id={organization}").status == 404
        assert ask(server, "/api/v2/pipeline/None/workflow").status == 400
        assert ask(server, f"/api/v2/pipeline/{organization}/workflow").status == 404
        truth = world.truth([project["slug"]])
        assert {stream for stream, rows in truth.items() if rows} == {"collaborations", "context", "project"}

        world.forbidden.clear()
        world.unsupported.add(definition)
        triggers = f"/api/v2/projects/{project['id']}/pipeline-definitions/{definition}/triggers"
        assert ask(server, triggers).status == 400
        assert world.truth([])["trigger"] == []
        assert world.truth([])["pipeline_definition"] != []


@pytest.mark.parametrize(
    ("fate", "status", "ids"), [("missing", 404, None), ("empty", 200, []), ("null", 200, [None] * 2)]
)
def test_aged_out_pipelines_stay_listed(server: Server, fate: str, status: int, ids: list[None] | None) -> None:
    """The workflows of a listed aged-out pipeline answer 404, an empty list, or null ids."""
    pipeline = server.world.rows["pipelines"][only(server.world)["id"]][0]
    server.world.aged_out[pipeline["id"]] = fate
    reply = ask(server, f"/api/v2/pipeline/{pipeline['id']}/workflow")
    assert reply.status == status
    assert ids is None or [row["id"] for row in reply.body["items"]] == ids
    truth = server.world.truth(["gh/acme/big"])
    assert (len(truth["pipelines"]), len(truth["workflows"]), len(truth["jobs"])) == (45, 88, 352)


def test_truth_is_what_a_walk_gathers() -> None:
    """A client that requests everything gets the truth of pipelines, workflows and jobs."""
    world = demo_world(NOW)
    project = next(row for row in world.projects.values() if row["name"] == "robots")
    since = NOW - timedelta(days=10)
    truth = world.truth([project["slug"]], since)
    with Server(world) as server:
        whole = walk(server, pipelines_of(project))
        pipelines = [row for row in whole if datetime.fromisoformat(row["created_at"].replace("Z", "+00:00")) >= since]
        workflows = [row for one in pipelines for row in walk(server, f"/api/v2/pipeline/{one['id']}/workflow")]
        jobs = [
            job | {"_workflow_id": one["id"], "_pipeline_id": one["pipeline_id"]}
            for one in workflows
            for job in walk(server, f"/api/v2/workflow/{one['id']}/job")
        ]
    assert 0 < len(pipelines) < len(whole)
    assert (truth["pipelines"], truth["workflows"], truth["jobs"]) == (pipelines, workflows, jobs)


def test_scripted_answers_come_in_turn(server: Server) -> None:
    """Each scripted fault answers one matching request, in order and unchanged."""
    wait = Fault(429, {"Retry-After": http_date(NOW + HOUR)}, "Rate limited.")
    low = Fault(headers={"RateLimit-Remaining": "0", "RateLimit-Reset": "2"})
    server.script(
        r"/me$", [wait, None, low, Fault(502, body="<html>Bad gateway"), Fault(body={"items": 5}), Fault(302)]
    )
    replies = [ask(server, "/api/v2/me") for _ in range(7)]
    assert [reply.status for reply in replies] == [429, 200, 200, 502, 200, 302, 200]
    assert replies[0].body == "Rate limited."
    assert replies[2].body == server.world.me and replies[2].headers["RateLimit-Remaining"] == "0"
    assert replies[3].headers["Content-Type"].startswith("text/html")
    assert replies[4].body == {"items": 5}
    assert [request.status for request in server.requests] == [reply.status for reply in replies]


def test_faults_know_path_and_count(server: Server) -> None:
    """A fault function gets the path with its query, and how often it was requested."""
    asked: list[tuple[str, int]] = []

    def fault(path: str, nth: int) -> Fault | None:
        asked.append((path, nth))
        return Fault(503) if nth == 2 else None

    server.fault = fault
    statuses = [ask(server, path).status for path in ("/api/v2/me", "/api/v2/me?a=1", "/api/v2/me")]
    assert statuses == [200, 200, 503]
    assert asked == [("/api/v2/me", 1), ("/api/v2/me?a=1", 1), ("/api/v2/me", 2)]
    server.reset()
    assert (server.calls, ask(server, "/api/v2/me").status) == (0, 200)


def test_connections_break_as_ordered(server: Server) -> None:
    """An answer may be a reset, nothing, or half a body, each once."""
    server.script("/me", [Fault(broken="reset"), Fault(broken="closed"), Fault(broken="cut")])
    for error in (ConnectionResetError, RemoteDisconnected, IncompleteRead):
        with pytest.raises(error) as caught:
            ask(server, "/api/v2/me")
        assert caught.type is error
    assert ask(server, "/api/v2/me").status == 200
    assert [request.status for request in server.requests] == [0, 0, 200, 200]


def test_gate_holds_and_most_at_once_counts(server: Server) -> None:
    """Gated answers wait for their event, and the requests that wait at the same time are counted."""
    gate = threading.Event()
    server.fault = lambda path, nth: Fault(gate=gate)
    askers = [threading.Thread(target=ask, args=(server, "/api/v2/me")) for _ in range(3)]
    for asker in askers:
        asker.start()
    deadline = time.monotonic() + 5
    while server.most_at_once < 3 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert [request.status for request in server.requests] == [0, 0, 0]
    gate.set()
    for asker in askers:
        asker.join(5)
    assert (server.most_at_once, server.connections) == (3, 3)


def test_rate_limit_holds_back_what_is_too_much(server: Server) -> None:
    """Within a second no more than the limit is answered; other requests get 429."""
    server.rate_limit = 5
    replies = [ask(server, "/api/v2/me") for _ in range(8)]
    assert [reply.status for reply in replies] == [200] * 5 + [429] * 3
    assert (replies[-1].headers["Retry-After"], replies[-1].body) == ("1", "Rate limited.")


def test_one_connection_serves_many_requests(server: Server) -> None:
    """A connection is kept alive from answer to answer, also after an error."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=5)
    server.script("/me", [None, Fault(503), None])
    assert [ask(server, "/api/v2/me", connection).status for _ in range(3)] == [200, 503, 200]
    assert (server.calls, server.connections) == (3, 1)
    connection.close()


def test_down_and_up_on_the_same_port(server: Server) -> None:
    """A server that is down breaks its connections, refuses new ones, and later uses the same port."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=5)
    ask(server, "/api/v2/me", connection)
    server.down()
    with pytest.raises((RemoteDisconnected, BadStatusLine, OSError)):
        connection.request("GET", "/api/v2/me")
        connection.getresponse()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), 1)
    server.up()
    assert ask(server, "/api/v2/me").status == 200


def test_schedules_may_come_with_underscores() -> None:
    """The world decides whether schedules have hyphens or underscores; the truth has hyphens."""
    world = odd_world(NOW)
    path = f"/api/v2/project/{only(world)['slug']}/schedule"
    with Server(world) as server:
        assert "project-slug" in ask(server, path).body["items"][0]
        world.underscores = True
        (row,) = ask(server, path).body["items"]
    assert {"project_slug", "updated_at"} <= row.keys()
    assert row["timetable"]["per_hour"] == 30
    assert row["parameters"] == {"run-schedule": True}
    assert "updated-at" in world.truth([])["schedule"][0]


def test_worlds_are_the_same_every_time() -> None:
    """The demonstration is built the same each time, with everything that users should see."""
    world = demo_world(NOW)
    slugs = [row["slug"] for row in world.projects.values()]
    truth = world.truth(slugs)
    assert truth == demo_world(NOW).truth(slugs)
    assert all(truth.values())
    assert {"success", "failed", "canceled", "on_hold"} <= {row["status"] for row in truth["workflows"]}
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", row["created_at"]) for row in truth["pipelines"])
    assert 350 < len(truth["pipelines"]) < 500


def test_insights_come_in_pages_of_their_own_size() -> None:
    """A page has about 250 runs; without a branch or all branches the default branch is used."""
    world = history(130, NOW)
    world.add_pipeline(only(world), NOW - HOUR, branch="other", workflows=[{"stopped_at": HOUR / 2}])
    runs = "/api/v2/insights/gh/acme/big/workflows/workflow-1"
    with Server(world) as server:
        assert len(walk(server, f"{runs}?all-branches=true")) == 130
        assert server.calls == 1
        server.insights_page_size = 50
        assert len(walk(server, f"{runs}?all-branches=true")) == 130
        assert server.calls == 4
        workflows = "/api/v2/insights/gh/acme/big/workflows"
        assert [row["name"] for row in walk(server, f"{workflows}?all-branches=true")] == [
            "build-test",
            "workflow-1",
            "workflow-2",
        ]
        assert [row["name"] for row in walk(server, workflows)] == ["workflow-1", "workflow-2"]
        assert ask(server, f"{workflows}?reporting-window=for-ever").status == 400


@pytest.mark.parametrize(
    ("days_ago", "is_taken"),
    [((90, 0), True), ((30, 29), True), ((91, 0), False), ((95, 92), False), ((None, 0), False), ((30, None), False)],
)
def test_runs_are_asked_for_by_both_dates_within_90_days(
    server: Server, days_ago: tuple[int | None, int | None], is_taken: bool
) -> None:
    """A request with one date, with one that is too old, or with a text that is not a date is refused."""
    runs = "/api/v2/insights/gh/acme/big/workflows/workflow-1"
    dates = zip(("start-date", "end-date"), days_ago, strict=True)
    query = "&".join(
        f"{name}={quote(seconds(NOW + timedelta(seconds=1) - days * timedelta(days=1)))}"
        for name, days in dates
        if days is not None
    )
    assert ask(server, f"{runs}?{query}").status == (200 if is_taken else 400)
    assert ask(server, f"{runs}?start-date=yesterday&end-date=today").status == 400


def test_flaky_tests_may_come_with_hyphens(server: Server) -> None:
    """The list and its fields have underscores, as seen, or hyphens, as documented; never a page token."""
    server.world.flaky[only(server.world)["id"]] = [{"test_name": "waits", "times_flaked": 3}]
    path = "/api/v2/insights/gh/acme/big/flaky-tests"
    assert ask(server, path).body == {
        "flaky_tests": [{"test_name": "waits", "times_flaked": 3}],
        "total_flaky_tests": 1,
    }
    server.world.hyphens = True
    assert ask(server, path).body == {
        "flaky-tests": [{"test-name": "waits", "times-flaked": 3}],
        "total-flaky-tests": 1,
    }


def send(url: str, body: Row | None = None) -> Reply:
    """One GET, or a POST of this body, on a connection of its own."""
    parts = urlsplit(url)
    with closing(HTTPConnection(parts.netloc, timeout=20)) as connection:
        sent = json.dumps(body) if body else None
        connection.request("POST" if body else "GET", url[url.index(parts.path) :], sent, {"Circle-Token": TOKEN})
        response = connection.getresponse()
        raw = response.read()
        return Reply(response.status, json.loads(raw) if raw.startswith((b"{", b"[")) else raw, response.headers)


def order(server: Server, start: str, end: str, **more: Any) -> Reply:
    """Ask for an export of usage."""
    organization = server.world.organizations[0]["id"]
    url = f"{server.url}/api/v2/organizations/{organization}/usage_export_job"
    return send(url, {"start": start, "end": end, **more})


@pytest.mark.parametrize(
    ("start", "end", "status"),
    [
        ("2025-05-04T00:00:00Z", "2025-06-03T23:59:59Z", 201),
        ("2025-05-03T00:00:00Z", "2025-06-03T23:59:59Z", 400),
        ("2024-06-05T00:00:00Z", "2024-06-05T23:59:59Z", 201),
        ("2024-06-04T00:00:00Z", "2024-06-05T23:59:59Z", 400),
        ("2025-06-03T00:00:00Z", "2025-06-02T23:59:59Z", 400),
        ("yesterday", "today", 400),
    ],
)
def test_exports_are_of_31_days_within_a_year(server: Server, start: str, end: str, status: int) -> None:
    """The end is inclusive; a span that is longer, older, reversed or no date is refused."""
    with FileHost() as host:
        Usage(server, host)
        assert order(server, start, end).status == status
        assert order(server, start, end, everything=True).status == 400


def test_exports_are_limited_by_the_hour(server: Server) -> None:
    """The eleventh order within an hour of the service's clock is refused, and one an hour later is not."""
    day = ("2025-06-01T00:00:00Z", "2025-06-01T23:59:59Z")
    with FileHost() as host:
        Usage(server, host, hourly=10)
        assert [order(server, *day).status for _ in range(11)] == [201] * 10 + [429]
        server.world.advance(HOUR)
        assert order(server, *day).status == 201


def test_another_process_steers_and_watches() -> None:
    """The program takes orders at /_control, and on request names extra streams, exports and their files."""
    command = [sys.executable, "-m", "tests.circleci", "--world", "demo", "--now", "2025-06-04T12:00:00Z"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        root = process.stdout.readline().strip()

        try:
            orders: Row = {"hyphens": True, "insights_delay": 86_400, "usage": {"states": ["new", "completed"]}}
            assert send(f"{root}/_control", orders).status == 200
            acme, labs = (row["id"] for row in send(f"{root}/api/v2/me/collaborations").body)
            send(f"{root}/_control", {"forbidden": [["webhooks", labs], acme]})
            exports = f"{root}/api/v2/organizations/{labs}/usage_export_job"
            made = send(exports, {"start": "2025-06-01T00:00:00Z", "end": "2025-06-03T23:59:59Z"}).body
            states = [send(f"{exports}/{made['usage_export_job_id']}").body for _ in range(2)]
            file = send(states[1]["download_urls"][0])
            truth = send(f"{root}/_truth?slugs=gh/acme/api&extras=all").body
            stats = send(f"{root}/_stats").body
        finally:
            process.terminate()
    assert [row["state"] for row in states] == ["new", "completed"]
    assert gzip.decompress(file.body).startswith(b'"ORGANIZATION_ID",')
    assert len(truth["collaborations"]) == 2
    assert truth["flaky_tests"] == truth["pipelines"] == []
    assert stats["exports"] == [{"start": "2025-06-01T00:00:00Z", "end": "2025-06-03T23:59:59Z"}]
    assert [file["headers"]["circle-token"] for file in stats["files"]] == [TOKEN]
