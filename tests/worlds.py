"""Small worlds that several tests share, and what can go wrong with an answer and pass."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from tests.circleci import Fault, World
from tests.tap import expected

NOW = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)
WALK = ("pipelines", "workflows", "jobs")


def world_of(pipelines: int = 10, slug: str = "gh/acme/api", world: World | None = None) -> World:
    """A project with pipelines every seven hours, two jobs each, the last of which ended more than two hours ago."""
    world = world or World(NOW)
    project = world.add_project(slug)
    for number in range(pipelines):
        world.add_pipeline(
            project,
            NOW - timedelta(hours=3 + 7 * number),
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
