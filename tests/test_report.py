"""What the user reads: progress, and at the end what was done and what was skipped."""

from __future__ import annotations

import io
import json
import logging
import re
import threading
from datetime import timedelta

from tap_circleci.client import Client
from tap_circleci.config import check
from tap_circleci.discover import Selected
from tap_circleci.output.messages import Messages
from tap_circleci.output.report import Report
from tests.circleci import Fault, Server, history
from tests.tap import EagerClock, FastClock, config_for, sync, until
from tests.worlds import NOW, WALK, furnished, world_of


def test_thousands_of_absent_projects_are_named_in_a_few_lines():
    """The first ten have a line each, the summary counts all, and the exit status is 0."""
    slugs = ["gh/acme/api", *(f"gh/acme/gone-{number}" for number in range(1000))]
    with Server(world_of(1)) as server:
        run = sync(server, project_slugs=slugs, streams=["pipelines"])
    assert run.status == 0
    about = [line for line in run.log.splitlines() if "gone-" in line]
    assert len([line for line in about if line.startswith("WARNING")]) == 10
    assert "gone-0: there is no such project" in run.log
    assert "gone-9 and 990 more: there is no such project, or the token does not see it (404)" in about[-1]
    assert max(map(len, about)) < 1000


def test_many_forbidden_lists_are_one_line_and_a_count():
    """If the jobs of each workflow answer 403, one warning names the project, and the summary counts the lists."""
    with Server(world_of(60)) as server:
        server.fault = lambda path, nth: Fault(403) if path.endswith("/job") else None
        run = sync(server, streams=WALK)
    assert run.status == 0
    said = [line for line in run.log.splitlines() if "permission denied" in line]
    assert said[0].startswith(
        "WARNING jobs of gh/acme/api: permission denied (403); skipped (first: gh/acme/api: the jobs"
    )
    assert said[1:] == ["INFO Skipped: 60 lists of jobs in gh/acme/api: permission denied (403)"]


def test_the_summary_counts_rows_and_calls():
    """Each selected stream has its count, in the summary and in the metrics."""
    with Server(furnished(world_of(3))) as server:
        run = sync(server)
        calls = server.calls
    points = [json.loads(line.partition("METRIC: ")[2]) for line in run.log.splitlines() if "METRIC" in line]
    counts = {point["tags"]["endpoint"]: point["value"] for point in points if point["type"] == "counter"}
    assert counts == {stream: len(run.rows(stream)) for stream in counts}
    assert counts["pipelines"] == 3
    assert f"Calls: {calls}, of them 0 retries" in run.log
    assert "pipelines 3, workflows 3, jobs 6" in run.log


def test_progress_names_the_project_and_how_far_back_it_has_come():
    """On a long walk a line every few seconds says which project is read, and back to which time."""
    with Server(history(130, NOW)) as server:
        run = sync(server, streams=WALK, clock=EagerClock())
    lines = [line for line in run.log.splitlines() if "project 1 of 1" in line]
    assert any("calls/s; gh/acme/big back to 2026-03-" in line and " left; " in line for line in lines)


def test_a_run_that_looks_further_back_says_so():
    """The log says why a sync made more calls than the one before."""
    with Server(history(30, NOW)) as server:
        runs = [sync(server)]
        for pause in (timedelta(days=43), timedelta(seconds=1)):
            server.world.advance(pause)
            runs.append(sync(server, state=runs[-1].state))
    said = ["Re-checked pipelines up to" in run.log for run in runs]
    assert said == [False, True, False]


def test_no_kind_of_trouble_hides_another():
    """With thousands of refused jobs, each other kind of problem still has its line."""
    world = furnished(world_of(150))
    world.forbidden |= {(stream, world.organizations[0]["id"]) for stream in ("groups", "context")}
    with Server(world) as server:
        kinds = {"/job": 403, "/schedule": 503, "/pipeline-definitions": 400}
        server.fault = lambda path, nth: next((Fault(kinds[end]) for end in kinds if path.endswith(end)), None)
        slugs = ["gh/acme/api", *(f"gh/acme/gone-{number}" for number in range(50))]
        run = sync(server, project_slugs=slugs)
    organization = f"gh/acme ({world.organizations[0]['id']})"
    project = f"gh/acme/api ({world.project('gh/acme/api')['id']})"
    assert run.status == 1
    lines = run.log.splitlines()
    for stream, owner in (("jobs", "gh/acme/api"), ("groups", organization), ("context", organization)):
        assert len([line for line in lines if line.startswith(f"WARNING {stream} of {owner}: permission denied")]) == 1
    assert f"INFO Skipped: 1 list of groups in {organization}: permission denied (403)" in lines
    assert len([line for line in lines if line.startswith("WARNING gh/acme/gone-")]) == 10
    assert run.criticals() == [
        f"pipeline_definition of {project} could not be read to the end:"
        f" GET /api/v2/projects/{world.project('gh/acme/api')['id']}/pipeline-definitions: 400: Bad Request.",
        f"schedule of {project} could not be read to the end:"
        " GET /api/v2/project/gh/acme/api/schedule: status 503 in each of 5 attempts.",
    ]


def test_a_route_that_fails_for_each_project_is_one_sentence():
    """If the schedules of seventeen projects answer 503, one CRITICAL line counts them and names ten."""
    world = world_of(1)
    for number in range(16):
        world_of(1, f"gh/acme/web-{number}", world)
    with Server(world) as server:
        server.fault = lambda path, nth: Fault(503) if path.endswith("/schedule") else None
        run = sync(server, clock=EagerClock())
    (sentence,) = run.criticals()
    assert sentence.startswith("17 lists of schedule could not be read to the end (status 503 in each of 5 attempts): ")
    assert sentence.count("schedule of gh/acme/") == 10
    assert sentence.endswith(" and 7 more. https://status.circleci.com shows whether CircleCI has an incident.")


class StoppedClock(FastClock):
    """A clock whose waits do not end until the gate opens."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()

    def wait(self, seconds: float) -> None:
        self.gate.wait()
        super().wait(seconds)


def test_a_route_that_ends_is_one_warning_with_what_to_do():
    """A deprecated or removed route is named once at the end, however many answers said so."""
    ends = {"Deprecation": "@1767225600", "Sunset": "Thu, 31 Dec 2026 23:59:59 GMT"}
    faults = {
        "/workflow": Fault(headers=ends),
        "/job": Fault(headers={"Deprecation": "true"}),
        "/tests": Fault(410),
    }
    with Server(world_of(20)) as server:
        server.fault = lambda path, nth: next((fault for end, fault in faults.items() if path.endswith(end)), None)
        run = sync(server, streams=[*WALK, "tests"])
    advice = "install the newest tap-circleci, or report this if it is installed"
    said = [line for line in run.log.splitlines() if advice in line]
    assert sorted(said) == [
        f"WARNING jobs: CircleCI says that this route is deprecated; {advice}",
        f"WARNING tests: CircleCI has removed this route (410); {advice}",
        "WARNING workflows: CircleCI says that this route is deprecated since 2026-01-01 and will be removed on"
        f" 2026-12-31; {advice}",
    ]
    assert len(run.rows("jobs")) == 40


def test_the_progress_says_that_the_run_waits_for_the_rate_limit():
    """While the service asks to wait for 42 seconds, the line says so, with the seconds that are left."""
    clock, output = StoppedClock(), io.StringIO()
    logger, handler = logging.getLogger("tap_circleci.output.report"), logging.StreamHandler(output)
    world = world_of(1)
    owner = {"owner-id": world.organizations[0]["id"], "owner-type": "organization"}
    with Server(world) as server:
        server.script("/context", [Fault(429, {"Retry-After": "42"})])
        client = Client(check(config_for(server), "config.json"), clock)
        report = Report(clock, Messages(Selected({}), clock), client)
        report.begin_part("reading context")
        asking = threading.Thread(target=client.get, args=("/api/v2/context", owner, "context", lambda _: True))
        asking.start()
        until(lambda: client.rate_limiter.waiting() is not None)
        logger.addHandler(handler)
        try:
            clock.waited += 6
            report.tick()
        finally:
            logger.removeHandler(handler)
            clock.gate.set()
            asking.join()
            client.close()
    assert re.match("reading context, waiting for the rate limit, 3[5-6] s; so far 0 rows, 1 call,", output.getvalue())
