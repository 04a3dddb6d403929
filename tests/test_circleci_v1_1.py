"""The API v1.1 of the tests behaves as the recordings and CircleCI's documentation show."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

from tests.circleci import ABSENT, TOKEN, Fault, Row, Server, World, demo_world, history, moment
from tests.circleci.extras import furnish, truth
from tests.circleci.v1_1 import KEPT_CHARACTERS, SHALLOW, Output, cleaned
from tests.test_circleci_server import HOUR, NOW, ask, only

HOLD: Row = {"name": "hold", "type": "approval"}


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of one project with 60 pipelines of four jobs each, a rerun of the oldest and an approval."""
    world = history(60, NOW, workflows=1)
    (rows,) = world.rows["pipelines"].values()
    world.add_workflow(rows[-2], "deploy", NOW - HOUR, 20 * HOUR / 60, jobs=["build", HOLD, "deploy"])
    world.rerun(rows[0], NOW - HOUR / 2, from_failed=False)
    world.number_jobs()
    with Server(world) as running:
        yield running


def list_of(world: World) -> str:
    """The path of the list of builds of the world's one project."""
    return f"/api/v1.1/project/github/{only(world)['slug'].removeprefix('gh/')}"


def builds(server: Server, limit: int = 100, meanwhile: Callable[[], object] = lambda: None) -> list[Row]:
    """All builds, page after page until one is short."""
    rows: list[Row] = []
    while True:
        page = ask(server, f"{list_of(server.world)}?limit={limit}&offset={len(rows)}").body
        rows += page
        assert len(rows) < 10_000, "the list does not end"
        if len(page) < limit:
            return rows
        meanwhile()


def numbers(rows: list[Row]) -> list[int]:
    """The numbers of builds."""
    return [row["build_num"] for row in rows]


def fetch(address: str, token: str | None = None) -> tuple[int, bytes, str | None]:
    """The status, the body and the new place that an address gives."""
    parts = urlsplit(address)
    connection = HTTPConnection(parts.netloc, timeout=20)
    connection.request("GET", f"{parts.path}?{parts.query}", headers={"Circle-Token": token} if token else {})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body, response.headers["Location"]


def failed_build(server: Server, status: str = "failed") -> Row:
    """The build of a job that ends with this status, as the service shows it alone."""
    pipeline = server.world.add_pipeline(only(server.world), NOW - 3 * HOUR)
    work = {"stopped_at": HOUR, "status": status, "jobs": ["lint", "test"]}
    workflow = server.world.add_workflow(pipeline, "build", **work)
    number = server.world.rows["jobs"][workflow["id"]][-1]["job_number"]
    found: Row = ask(server, f"{list_of(server.world)}/{number}").body
    return found


def last_action(build: Row) -> Row:
    """What ran in the last step of a build, in its first parallel run."""
    action: Row = build["steps"][-1]["actions"][0]
    return action


def test_builds_are_numbered_as_they_start_and_approvals_leave_gaps(server: Server) -> None:
    """The newest number is first; a rerun of the oldest pipeline has the newest numbers."""
    rows = builds(server)
    assert numbers(rows) == sorted(numbers(rows), reverse=True)
    assert len(rows) == 60 * 4 + 2 + 4
    assert {*range(1, 60 * 4 + 8)} - {*numbers(rows)} == {238}
    starts = [moment(row["start_time"]) for row in rows]
    assert starts == sorted(starts, reverse=True)
    oldest = server.world.rows["pipelines"][only(server.world)["id"]][0]
    again = server.world.index[rows[0]["workflows"]["workflow_id"]][1]
    assert again["pipeline_id"] == oldest["id"]


def test_a_build_that_comes_later_has_a_higher_number() -> None:
    """A later build has a higher number than those listed before, also in reruns and older workflows."""
    world = demo_world(NOW)
    oldest = world.rows["pipelines"][next(iter(world.projects))][0]
    seen: set[tuple[str, int]] = set()
    for _ in range(40):
        for project in world.projects:
            found = {(project, run.number) for run in world.builds(project)}
            highest = max(number for home, number in seen | {(project, 0)} if home == project)
            assert all(number > highest for _, number in found - seen)
            seen |= found
        world.rerun(oldest, world.now)
        world.advance(timedelta(minutes=37))


def test_jobs_are_renumbered_on_request() -> None:
    """A world that was filled from its end has the numbers of one that was filled from its beginning."""
    world = World(NOW)
    for number in range(9):
        parts: Row = {"stopped_at": 2 * HOUR, "jobs": ["build", HOLD, "deploy"]}
        world.add_pipeline("gh/acme/web", NOW - number * HOUR, workflows=[parts])
    world.number_jobs()
    project = only(world)["id"]
    runs = world.builds(project)
    assert [run.at for run in runs] == sorted((run.at for run in runs), reverse=True)
    assert runs == [world.job_numbers.run(project, run.number) for run in runs]
    assert [run.job["job_number"] for run in runs] == [run.number for run in runs]


def test_new_builds_push_rows_down(server: Server) -> None:
    """While the list is read, a row may be on two pages, and none is missing."""
    before = {*numbers(builds(server))}

    def one_more() -> None:
        server.world.add_pipeline(only(server.world), NOW, workflows=[{"stopped_at": HOUR, "jobs": 1}])

    rows = numbers(builds(server, 50, one_more))
    assert before <= {*rows}
    assert len(rows) > len({*rows})


@pytest.mark.parametrize(
    ("query", "count"), [("", 30), ("?limit=7", 7), ("?limit=100", 100), ("?limit=500", 100), ("?offset=240", 6)]
)
def test_pages_have_100_builds_at_most(server: Server, query: str, count: int) -> None:
    """A page has 30 builds by default and 100 at most."""
    assert len(ask(server, list_of(server.world) + query).body) == count


def test_a_shallow_list_has_less(server: Server) -> None:
    """With `shallow=true` there are the fields of CircleCI's example, without the reason of a failure."""
    rows = ask(server, f"{list_of(server.world)}?shallow=true&limit=100").body
    assert all(row.keys() <= {*SHALLOW} and "retry_of" not in row for row in rows)
    assert rows[0]["workflows"]["workflow_id"]
    assert {"retry_of", "canceled", "fail_reason"} <= builds(server)[0].keys()


def test_slugs_of_v1_1_have_the_long_names() -> None:
    """Its paths have `github`, `bitbucket` and `circleci`; `gh` and unknown projects answer 404."""
    world = World(NOW)
    robots = world.add_project("circleci/Acme Labs/robots")
    world.add_project("bb/acme/web")
    with Server(world) as server:
        paths = (f"circleci/{robots['organization_id']}/{robots['id']}", "bitbucket/acme/web", "bb/acme/web")
        statuses = [ask(server, f"/api/v1.1/project/{path}").status for path in (*paths, "github/acme/no")]
        statuses.append(ask(server, "/api/v1.1/me").status)
    assert statuses == [200, 200, 404, 404, 404]


def test_queue_times_are_those_of_the_details() -> None:
    """Each ended build has the times of its job's details to the second, in any zone."""
    world = demo_world(NOW)
    slugs = [row["slug"] for row in world.projects.values()]
    rows = truth(world, slugs)
    details = {(row["project_slug"], row["number"]): row for row in rows["job_details"]}
    ended = [row for row in rows["builds"] if row["lifecycle"] == "finished"]
    assert len(details) >= len(ended) > 2000  # a canceled job may have details and no end
    for row in ended:
        job = details[row["_project_slug"], row["build_num"]]
        assert [moment(row[name]) for name in ("queued_at", "start_time", "stop_time")] == [
            moment(job[name]) for name in ("queued_at", "started_at", "stopped_at")
        ]
        assert (row["job_id"], row["workflow_id"]) == (job["_job_id"], job["latest_workflow"]["id"])
    assert {row["queued_at"][-6:] for row in ended} > {"-07:00", "+05:30"}


def test_a_job_may_wait_for_hours_in_the_queue() -> None:
    """It has its number and no start while it waits, and v2 does not know it by its number."""
    world = World(NOW)
    jobs: list[Row] = [{"name": "gpu", "queued": 4 * HOUR}]
    begin = {"created_at": NOW + HOUR, "stopped_at": HOUR, "jobs": jobs}
    world.add_pipeline("gh/acme/web", NOW - 9 * HOUR, workflows=[begin])
    with Server(world) as server:
        (waiting,) = builds(server)
        assert (waiting["lifecycle"], waiting["start_time"], waiting["stop_time"]) == ("queued", None, None)
        assert ask(server, "/api/v2/project/gh/acme/web/job/1").status == 404
        world.advance(HOUR)
        assert builds(server)[0]["lifecycle"] == "running"
        world.advance(HOUR)
        (ended,) = builds(server)
        details = ask(server, "/api/v2/project/gh/acme/web/job/1").body
    assert moment(ended["start_time"]) - moment(ended["queued_at"]) == 4 * HOUR - timedelta(microseconds=250_000)
    assert details["queued_at"] == ended["queued_at"]


def test_there_are_builds_without_a_workflow_and_without_an_end() -> None:
    """Old retries that never ran have no times, and some builds never end."""
    world = World(NOW)
    world.add_ghost("gh/acme/web", NOW - 900 * 24 * HOUR)
    world.add_build("gh/acme/web", NOW - HOUR, retry_of=1)
    world.add_build("gh/acme/web", NOW + HOUR)
    with Server(world) as server:
        unrun, ghost = builds(server)
    assert (unrun["build_num"], unrun["status"], unrun["lifecycle"], unrun["retry_of"]) == (2, "not_run", "not_run", 1)
    assert not {"queued_at", "usage_queued_at", "workflows"} & unrun.keys()
    assert (ghost["lifecycle"], ghost["stop_time"], "workflows" in ghost) == ("running", None, False)


def test_fields_may_be_gone(server: Server) -> None:
    """A field that v1.1 no longer has is neither in the list nor in the truth."""
    server.world.gone = {"workflows", "queued_at", "exit_code"}
    assert not {"workflows", "queued_at"} & builds(server)[0].keys()
    assert all("exit_code" not in action for step in failed_build(server)["steps"] for action in step["actions"])
    rows = truth(server.world, ["gh/acme/big"])
    assert all(row["workflow_id"] is None and "queued_at" not in row for row in rows["builds"])
    assert all("exit_code" not in row for row in rows["steps"])


@pytest.mark.parametrize("status", [403, 404, 410])
def test_v1_1_may_be_missing(server: Server, status: int) -> None:
    """All its routes then answer the same, v2 goes on, and the truth of its streams is empty."""
    server.world.v1_status = status
    path = list_of(server.world)
    assert [ask(server, one).status for one in (path, f"{path}/1", "/api/v2/me")] == [status, status, 200]
    rows = truth(server.world, ["gh/acme/big"])
    assert not rows["builds"] and not rows["steps"] and not rows["step_outputs"]


def test_v1_1_may_lie(server: Server) -> None:
    """The list may have any rows that a test sets; the jobs do not change."""
    server.world.builds_told = lambda rows: [row | {"build_num": -row["build_num"]} for row in rows]
    assert max(numbers(ask(server, list_of(server.world)).body)) < 0
    server.world.builds_told = lambda rows: {"builds": len(rows)}
    assert ask(server, list_of(server.world)).body == {"builds": 30}


def test_refusals_hold_for_v1_1_too(server: Server) -> None:
    """The builds of a project, and the steps and outputs of a job, may be forbidden or missing."""
    world, path = server.world, list_of(server.world)
    build = failed_build(server)
    job, address = build["workflows"]["job_id"], last_action(build)["output_url"]
    world.forbidden = {("builds", only(world)["id"])}
    world.missing = {("step_outputs", job)}
    assert (ask(server, path).status, fetch(address)[0]) == (403, 404)
    assert not truth(world, ["gh/acme/big"])["builds"] and not truth(world, ["gh/acme/big"])["step_outputs"]
    world.missing = {("steps", job)}
    assert ask(server, f"{path}/{build['build_num']}").status == 404
    assert job not in {row["_job_id"] for row in truth(world, ["gh/acme/big"])["steps"]}


def test_one_build_has_its_steps(server: Server) -> None:
    """Each step has an action in each parallel run, all within the time of the job; only own steps have exit codes."""
    for number in range(1, 9):
        build = ask(server, f"{list_of(server.world)}/{number}").body
        actions = [action for step in build["steps"] for action in step["actions"]]
        assert {action["index"] for action in actions} == {*range(build["parallel"])}
        assert [action["exit_code"] for action in actions if action["step"] < 102] == [None] * 3 * build["parallel"]
        assert min(moment(action["start_time"]) for action in actions) == moment(build["start_time"])
        assert max(moment(action["end_time"]) for action in actions) == moment(build["stop_time"])
    assert ask(server, f"{list_of(server.world)}/77777").status == 404


@pytest.mark.parametrize(
    ("status", "told"),
    [("failed", {"exit_code": 1}), ("timedout", {"timedout": True}), ("infrastructure_fail", {"failed": True})],
)
def test_the_last_step_is_the_one_that_failed(server: Server, status: str, told: Row) -> None:
    """A failed command has an exit code other than 0; a step that was stopped from outside has none."""
    build = failed_build(server, status)
    assert (build["status"], build["outcome"]) == (status, status)
    assert last_action(build).items() >= ({"status": status} | told).items()
    assert all(action["status"] == "success" for step in build["steps"][:-1] for action in step["actions"])


def test_jobs_that_never_ran_have_details_and_no_steps(server: Server) -> None:
    """A job may end with its workflow, without times of its own."""
    pipeline = server.world.add_pipeline(only(server.world), NOW - 3 * HOUR)
    unrun: Row = {"name": "old", "status": "not_run", "started_at": None, "stopped_at": ABSENT}
    workflow = server.world.add_workflow(pipeline, "build", stopped_at=HOUR, jobs=[unrun, "test"])
    job = server.world.rows["jobs"][workflow["id"]][0]
    build = ask(server, f"{list_of(server.world)}/{job['job_number']}").body
    rows = truth(server.world, ["gh/acme/big"])
    assert (build["status"], build["steps"], "queued_at" in build) == ("not_run", [], False)
    assert job["id"] in {row["_job_id"] for row in rows["job_details"]}
    assert job["id"] not in {row["_job_id"] for row in rows["steps"]}


def test_steps_vanish_and_builds_stay(server: Server) -> None:
    """A build of long ago answers with an empty list of steps."""
    server.world.steps_kept = timedelta(hours=2)
    assert ask(server, f"{list_of(server.world)}/1").body["steps"] == []
    young = {row["build_num"] for row in builds(server) if moment(row["stop_time"]) > NOW - 2 * HOUR}
    assert {row["job_number"] for row in truth(server.world, ["gh/acme/big"])["steps"]} == young != set()


def test_outputs_are_at_signed_addresses(server: Server) -> None:
    """An output wants no token, is refused without its signature, and expires by the service's clock."""
    action = last_action(failed_build(server))
    status, body, _ = fetch(action["output_url"])
    assert status == 200
    assert "$ run test\r\n" in [message["message"] for message in json.loads(body)]
    assert "circle-token" not in server.requests[-1].headers
    assert fetch(action["output_url"], TOKEN)[0] == 200
    assert fetch(action["output_url"].replace("hush", "other"))[0] == 403
    server.world.advance(timedelta(days=5, minutes=1))
    assert fetch(action["output_url"])[0] == 403


@pytest.mark.parametrize("status", [302, 403, 404, 500])
def test_outputs_may_be_lost(server: Server, status: int) -> None:
    """An address may answer anything; where the output is lost, no row is true."""
    build = failed_build(server)
    action = last_action(build)
    key = (build["workflows"]["job_id"], action["index"], action["step"])
    assert key[0] in {row["_job_id"] for row in truth(server.world, ["gh/acme/big"])["step_outputs"]}
    server.world.lost_outputs[key] = status
    found, _, place = fetch(action["output_url"])
    assert (found, bool(place)) == (status, status == 302)
    assert key[0] not in {row["_job_id"] for row in truth(server.world, ["gh/acme/big"])["step_outputs"]}


def test_an_output_may_be_huge_or_cut(server: Server) -> None:
    """It comes in pieces, and its end is found in bounded memory."""
    build = failed_build(server)
    action = last_action(build)
    key = (build["workflows"]["job_id"], action["index"], action["step"])
    server.world.outputs[key] = Output(["x" * 999 + "\n"] * 500, times=40)
    status, body, _ = fetch(action["output_url"])
    assert (status, len(json.loads(body))) == (200, 20_000)
    (row,) = (row for row in truth(server.world, ["gh/acme/big"])["step_outputs"] if row["_job_id"] == key[0])
    assert (row["output"], row["is_truncated"]) == (("x" * 999 + "\n") * 10, True)
    server.script("action-output", [Fault(broken="cut")])
    with pytest.raises(Exception, match="IncompleteRead"):
        fetch(action["output_url"])


@pytest.mark.parametrize(
    ("messages", "times", "kept"),
    [
        (["\x1b[31", ";1mred\x1b[0m\n"], 1, "red\n"),
        (["\x1b]8;;https://ci.example\x07link\x1b]8;;\x1b\\ \x1b(Bplain"], 1, "link plain"),
        (["10 %\r20 %\r", "\ndone\t\x00\x07\x7f"], 1, "10 %\n20 %\ndone\t"),
        (["é\u2028\U0001f680"], 2, "é\u2028\U0001f680é\u2028\U0001f680"),
        ([], 1, ""),
        (["\x1b[2K"], 3, ""),
        (["ab"], KEPT_CHARACTERS // 2, "ab" * (KEPT_CHARACTERS // 2)),
        (["abc"], KEPT_CHARACTERS, ("abc" * KEPT_CHARACTERS)[-KEPT_CHARACTERS:]),
    ],
)
def test_what_is_kept_of_an_output_is_clean(messages: list[str], times: int, kept: str) -> None:
    """The end of all messages is kept without escape sequences, also if a sequence is divided."""
    output = Output(messages, times)
    assert output.kept == (kept, times == KEPT_CHARACTERS)
    told = "".join(message["message"] for message in json.loads(b"".join(output.chunks())))
    assert told == "".join(messages) * times
    assert cleaned(told)[-KEPT_CHARACTERS:] == kept


def test_truth_is_what_a_reader_gathers() -> None:
    """A client that requests all builds, steps and outputs gets the truth of them."""
    world = furnish(history(9, NOW, workflows=1))
    rows = truth(world, ["gh/acme/big"])
    with Server(world) as server:
        found = builds(server)
        asked = {row["job_number"] for row in rows["job_details"]}
        single = {number: ask(server, f"{list_of(world)}/{number}").body for number in asked}
    assert numbers(found) == [row["build_num"] for row in rows["builds"]]
    steps = {
        (number, action["index"], action["step"], step["name"])
        for number, build in single.items()
        for step in build["steps"]
        for action in step["actions"]
    }
    assert {(row["job_number"], row["index"], row["step"], row["step_name"]) for row in rows["steps"]} == steps
    failing = {
        (number, action["index"], action["step"])
        for number, build in single.items()
        for step in build["steps"]
        for action in step["actions"]
        if (action["failed"] or action["exit_code"]) and action["has_output"]
    }
    assert failing >= {(row["job_number"], row["index"], row["step"]) for row in rows["step_outputs"]} != set()


def test_the_truth_of_builds_ends_with_a_page_that_is_too_old() -> None:
    """A first sync reads whole pages of 100, up to the first page that is before the start date."""
    world = history(200, NOW, per_day=10, workflows=1, jobs=2)
    slugs = ["gh/acme/big"]
    assert len(truth(world, slugs)["builds"]) == 400
    assert len(truth(world, slugs, NOW - timedelta(days=8))["builds"]) == 300
    assert len(truth(world, slugs, NOW - HOUR)["builds"]) == 100
