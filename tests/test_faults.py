"""The service misbehaving: nothing lost, nobody flooded, nothing leaked."""

from __future__ import annotations

import json
import re
import threading
import time
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tap_circleci.workers import Clock
from tests.circleci import Fault, Server, World
from tests.tap import EagerClock, FastClock, assert_same, expected, sync, tables

NOW = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)
WALK = ("pipelines", "workflows", "jobs")


def world_of(pipelines: int = 10, slug: str = "gh/acme/api", world: World | None = None) -> World:
    """A project with pipelines every seven hours, two jobs each."""
    world = world or World(NOW)
    project = world.add_project(slug)
    for number in range(pipelines):
        world.add_pipeline(
            project,
            NOW - timedelta(hours=1 + 7 * number),
            workflows=[{"name": "build", "stopped_at": timedelta(minutes=9), "jobs": 2}],
        )
    return world


def furnished(world: World) -> World:
    """The world with some rows of each of the other streams, more than a page of some."""
    organization, project = world.organization("gh/acme"), world.project("gh/acme/api")
    for number in range(4):
        world.add_context(organization, f"context-{number}", NOW)
        world.add_group(organization, f"group-{number}")
        world.add_environment(organization, f"env-{number}", NOW - timedelta(days=number))
        world.add_schedule(project, f"schedule-{number}", NOW - timedelta(days=number))
        definition = world.add_definition(project, f"definition-{number}")
        world.add_trigger(definition, "push", {"provider": "github_app"})
    return world


def truth_of(world: World):
    return expected(world.truth([row["slug"] for row in world.projects.values()]))


def pipeline_ids(world: World, slug: str = "gh/acme/api") -> list[str]:
    return [row["id"] for row in world.pipelines([world.project(slug)["id"]])]


PASSING = {
    "500": Fault(500),
    "503 that says when": Fault(503, {"Retry-After": "7"}),
    "502 in HTML": Fault(502, {"Content-Type": "text/html"}, "<html>Bad gateway</html>"),
    "408": Fault(408),
    "599": Fault(599),
    "reset": Fault(broken="reset"),
    "closed": Fault(broken="closed"),
    "cut": Fault(broken="cut"),
    "HTML with 200": Fault(200, {"Content-Type": "text/html"}, "<html>Login</html>"),
    "wrong shape": Fault(200, {}, {"message": "hello"}),
    "a list where items are no list": Fault(200, {}, {"items": "none"}),
    "an empty object where items are": Fault(200, {}, {"items": {}}),
    "false where items are": Fault(200, {}, {"items": False}),
    "a number": Fault(200, {}, "17"),
    "not JSON": Fault(200, {}, '{"items": [NaN]}'),
    "empty": Fault(200, {}, ""),
    "429 in seconds": Fault(429, {"Retry-After": "3"}, "Rate limited."),
    "429 with a date": Fault(429, {"Retry-After": "Tue, 10 Mar 2026 12:00:20 GMT"}, "Rate limited."),
    "429 without a word": Fault(429),
    "429 with a reset": Fault(429, {"X-RateLimit-Reset": "4"}),
    "nothing left": Fault(None, {"RateLimit-Remaining": "0", "RateLimit-Reset": "5"}),
}


@pytest.mark.parametrize("name", PASSING)
def test_what_passes_leaves_no_trace_in_the_tables(name):
    """Each fault that may pass, on each route, is waited out and tried again."""
    with Server(world_of()) as server:
        for route in ("/me", "/collaborations", "/private/project", "/pipeline", "/workflow", "/job"):
            server.script(rf"{route}($|\?)", [PASSING[name], PASSING[name]])
        clock = FastClock()
        run = sync(server, clock=clock)
        assert run.status == 0, run.log
        assert_same(tables(run.lines), truth_of(server.world))
    assert clock.waited > 1


def test_an_answer_that_does_not_come_is_asked_for_again():
    """No request waits longer than request_timeout."""
    with Server(world_of(3)) as server:
        server.script("/workflow", [Fault(delay=20)])
        began = time.monotonic()
        run = sync(server, request_timeout=0.3)
        assert time.monotonic() - began < 10
        assert_same(tables(run.lines), truth_of(server.world))
    assert run.status == 0


def test_waits_are_as_long_as_the_service_says():
    """Seconds, a date against the answer's own clock, or what RateLimit-Reset says."""
    for fault, seconds in (
        ("429 in seconds", 3),
        ("429 with a date", 20),
        ("429 with a reset", 4),
        ("nothing left", 5),
    ):
        with Server(world_of(1)) as server:
            server.script("/collaborations", [PASSING[fault]])
            clock = FastClock()
            sync(server, clock=clock, streams=["context"])
        assert clock.waited == pytest.approx(seconds, abs=1.0), fault


def test_a_limit_that_is_used_up_for_long_is_asked_about_after_a_minute():
    """RateLimit-Remaining: 0 with a Reset in an hour holds the run for a minute and says so; then it asks again."""
    with Server(world_of(1)) as server:
        spent = {"RateLimit-Remaining": "0", "RateLimit-Reset": "3600"}
        server.script("/collaborations", [Fault(None, spent)])
        clock = FastClock()
        run = sync(server, clock=clock, streams=["context"])
    assert run.status == 0
    assert clock.waited == pytest.approx(60, abs=1.0)
    assert "used up: all requests wait for 60 s" in run.log


def test_while_asked_to_wait_no_request_leaves():
    """After a 429, all workers are silent for the time that it names, but for what was under way."""
    with Server(world_of(60), latency=0.02) as server:
        server.script("/job", [None] * 20 + [Fault(429, {"Retry-After": "1"})])
        run = sync(server, clock=Clock())
        refused = next(request.at for request in server.requests if request.status == 429)
        times = sorted(request.at - refused for request in server.requests)
    assert run.status == 0
    assert not [time for time in times if 0.1 < time < 0.95]
    assert [time for time in times if time > 0.95]


def test_a_rate_limit_without_end_ends_the_run():
    """After six refusals, or a minute of waiting, exit 1 says how long the service asked to wait."""
    for asked, attempts in (("2", 6), ("3600", 1), ("40", 2)):
        with Server(world_of()) as server:
            server.script("/workflow", [Fault(429, {"Retry-After": asked})] * 99)
            clock = FastClock()
            run = sync(server, clock=clock, streams=WALK, max_workers=1)
            refused = [request for request in server.requests if request.status == 429]
        assert run.status == 1
        assert len(refused) == attempts
        assert f"asked to wait {asked} s" in run.criticals()[-1]
        assert clock.waited <= 61


def test_a_bad_token_is_told_at_once():
    """GET /me answers 401: exit 1 after one call, and the token stands nowhere."""
    with Server(world_of()) as server:
        run = sync(server, token="wr0ng-t0ken")
        assert server.calls == 1
    assert run.status == 1
    assert "does not accept the token" in run.criticals()[0]
    assert "wr0ng" not in run.log


def test_a_token_that_is_revoked_in_the_middle_ends_all_requests():
    """After a 401 nothing more is asked, whatever stands before it in the order of the output."""
    with Server(world_of(100)) as server:
        slow, name = pipeline_ids(server.world)[38:40]
        server.fault = lambda path, nth: Fault(401) if name in path else Fault(delay=1) if slow in path else None
        run = sync(server, streams=WALK, max_workers=2)
        asked = [request.path for request in server.requests]
    assert run.status == 1
    assert "does not accept the token" in run.criticals()[0]
    assert len(asked) - next(number for number, path in enumerate(asked) if name in path) <= 4


def test_the_token_is_hidden_where_an_answer_is_cut():
    """A message of the API that repeats the token shows no part of it."""
    with Server(world_of(1)) as server:
        server.script("/me$", [Fault(400, {}, {"message": "x" * 190 + server.world.token})])
        run = sync(server)
    assert run.status == 1
    assert server.world.token[:8] not in run.log


def test_a_service_that_knows_nobody_is_told_at_once():
    """GET /me answers 404, as to a project token or where no CircleCI is: exit 1 after one call says both."""
    with Server(world_of()) as server:
        server.script("/me", [Fault(404)])
        run = sync(server)
        assert server.calls == 1
    assert run.status == 1
    assert "no CircleCI API at base_url, or the token is not a personal one" in run.criticals()[0]


def test_a_bad_request_ends_the_run_with_the_apis_own_words():
    """A 400 is no empty list; what was sent before it is vouched for."""
    with Server(world_of()) as server:
        ids = pipeline_ids(server.world)
        server.script(f"/pipeline/{ids[5]}/workflow", [Fault(400, {}, {"message": "Bad\n id."})])
        run = sync(server, streams=WALK)
    assert run.status == 1
    assert "(400: Bad id.)" in run.criticals()[0]
    assert [row["id"] for row in run.rows("pipelines")] == ids[:5]


def test_a_definition_whose_triggers_cannot_be_asked_for_has_none():
    """400 and 404 for the triggers of one definition mean that there are none."""
    world = world_of(1)
    for status in (400, 404):
        definition = world.add_definition(world.project("gh/acme/api"), f"answers {status}")
        (world.unsupported if status == 400 else world.missing).add(("trigger", definition["id"]))
    with Server(world) as server:
        run = sync(server, streams=["trigger"])
    assert run.status == 0, run.log
    assert run.rows("trigger") == []


def test_triggers_that_end_in_a_400_are_not_all_there_are():
    """Only the first page of a definition's triggers may answer 400 and mean that there are none."""
    with Server(furnished(world_of(1)), page_size=1) as server:
        world = server.world
        definition = world.rows["pipeline_definition"][world.project("gh/acme/api")["id"]][0]
        for number in range(3):
            world.add_trigger(definition, f"trigger-{number}", {})
        server.fault = lambda path, nth: Fault(400) if "/triggers?page-token" in path else None
        run = sync(server, streams=["trigger"])
    assert run.status == 1
    assert "/triggers (400" in run.criticals()[0]


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


def test_a_page_token_that_is_no_text_is_a_page_that_is_lost():
    """Half a character as a page token: a sentence and exit 1, what came before is delivered."""
    with Server(world_of(5)) as server:
        items = server.world.pipelines([server.world.project("gh/acme/api")["id"]])
        page = json.dumps({"items": items, "next_page_token": "\ud83d"})
        server.fault = lambda path, nth: Fault(200, {}, page) if path.endswith("/api/pipeline") else None
        run = sync(server, streams=WALK)
    assert run.status == 1
    assert len(run.rows("pipelines")) == 5
    assert "page token" in run.criticals()[0]


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
        assert first.state["bookmarks"]["walks"]["gh/acme/api"]["retry"] == {broken: ["workflows", "jobs"]}
        server.fault = lambda path, nth: None
        server.world.advance(timedelta(hours=1))
        again = sync(server, state=first.state, streams=WALK)
    assert again.status == 0
    assert "retry" not in again.state["bookmarks"]["walks"]["gh/acme/api"]
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
    assert "retry" not in runs[-1].state["bookmarks"]["walks"]["gh/acme/api"]


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
    """With more failures than the state can name, the walk stays open above them and the next run goes on there."""
    with Server(world_of(60)) as server:
        broken = set(pipeline_ids(server.world)[0:60:2])
        server.fault = lambda path, nth: Fault(500) if any(name in path for name in broken) else None
        first = sync(server, streams=WALK)
        truth = expected(server.world.truth(["gh/acme/api"]), WALK)
        assert first.status == 1
        walk = first.state["bookmarks"]["walks"]["gh/acme/api"]
        assert "open" in walk
        assert len(walk["retry"]) <= 20
        server.fault = lambda path, nth: None
        again = sync(server, state=first.state, streams=WALK)
    assert again.status == 0
    assert_same(tables(again.lines, tables(first.lines)), truth)


def test_a_page_that_is_lost_keeps_the_walk_open_and_new_rows_coming():
    """A page token that answers 404: exit 1; while it lasts, what is new is delivered; then the rest."""
    with Server(world_of(50)) as server:
        lost = re.compile("page-token")
        server.fault = lambda path, nth: Fault(404) if lost.search(path) and "/project/" in path else None
        first = sync(server, streams=WALK)
        assert first.status == 1
        assert "the walk stays open" in first.log
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
    """While the rest cannot be read, each run brings what is done up to date, and vouches for that."""
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
    assert max(calls[2:]) < calls[1] / 2, calls


def test_a_list_that_goes_round_in_circles_ends():
    """The same page for ever, or the same token: the list ends with a warning."""
    for body in ({"items": [], "next_page_token": "same"}, None):
        with Server(world_of(5)) as server:
            page = {"items": [{"id": "p", "name": "n", "slug": "gh/acme/api"}], "next_page_token": "t"}
            count = iter(range(1000))
            server.fault = lambda path, nth, body=body, count=count, page=page: (
                Fault(200, {}, body or {**page, "next_page_token": f"t{next(count)}"})
                if "private/project" in path
                else None
            )
            run = sync(server, streams=["project"])
            assert server.calls < 10
        assert run.status == 0
        assert "goes round in circles" in run.log


def test_a_redirect_is_never_followed():
    """The token goes to no other host: a redirect is an error, also one that leads nowhere."""
    with Server(world_of()) as elsewhere:
        for location in (f"{elsewhere.url}/api/v2/me", "http://[::1", "/caf\xe9"):
            with Server(world_of()) as server:
                server.script("/me$", [Fault(302, {"Location": location})])
                run = sync(server)
            assert elsewhere.calls == 0
            assert run.status == 1
            assert "redirect" in run.criticals()[0]


def test_a_certificate_file_that_is_not_there_is_told(tmp_path, monkeypatch):
    """REQUESTS_CA_BUNDLE that leads nowhere ends the run with a sentence, before anything is sent."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "nowhere.pem"))
    with Server(world_of()) as server:
        run = sync(server, base_url="https://circleci.invalid")
    assert run.status == 1
    assert "nowhere.pem" in run.criticals()[0]


def test_a_date_of_which_nothing_can_be_reckoned_is_none():
    """With a Date header at the end of time, this machine's clock serves."""
    with Server(world_of(1)) as server:
        server.fault = lambda path, nth: Fault(None, {"Date": "Fri, 31 Dec 9999 23:59:59 GMT"})
        run = sync(server)
    assert run.status == 0, run.log


def test_ids_are_data_and_never_path():
    """Null, empty and dotted ids are skipped and counted; odd characters are escaped."""
    world = world_of(3)
    names = pipeline_ids(world)
    with Server(world) as server:
        page = {"items": [{"id": name} for name in (None, "", "..", "a/b?c#d e", names[0])], "next_page_token": None}
        server.script("/project/gh/acme/api/pipeline", [Fault(200, {}, page)])
        server.script("/pipeline/a", [Fault(404)])
        run = sync(server, streams=WALK)
        asked = [request.path for request in server.requests if request.path.endswith("/workflow")]
    assert run.status == 0
    assert sorted(asked) == sorted(f"/api/v2/pipeline/{name}/workflow" for name in ("a%2Fb%3Fc%23d%20e", names[0]))
    assert "Skipped: 3 rows of pipelines without a usable key" in run.log


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
