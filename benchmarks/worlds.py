"""What there is to read in the measurements, and how many calls the API forces upon a reader."""

from collections.abc import Iterable
from datetime import timedelta
from itertools import chain

from benchmarks.tools import NOW, WALK
from tests.circleci import Server, World, history, moment
from tests.circleci.demo import DEPLOY, demo_world
from tests.circleci.world import PARENTS

LATE = [timedelta(hours=6), timedelta(days=2), timedelta(days=5), timedelta(days=20)]
"""How old pipelines are when something happens to them long after they were made."""


def plain(pipelines: int) -> World:
    """One project with so many pipelines, of two workflows with four jobs each."""
    return history(pipelines, NOW)


def various() -> World:
    """Five projects with all sorts of rows."""
    return demo_world(NOW)


def wide(pipelines: int = 4) -> World:
    """Few pipelines with 40 workflows each, of three pages of jobs each."""
    return history(pipelines, NOW, workflows=40, jobs=60)


def tested(pipelines: int, jobs: int = 4, tests: int = 15) -> World:
    """One project with so many pipelines of two workflows, each of whose jobs has tests and an artifact."""
    world = history(pipelines, NOW, jobs=jobs)
    test = {"name": "test", "classname": "Suite", "result": "success", "run_time": 0.25, "message": "", "file": "t.py"}
    for job in chain(*world.rows["jobs"].values()):
        world.tests[job["id"]] = [{**test, "name": f"test {number}"} for number in range(tests)]
        world.artifacts[job["id"]] = [{"path": "log.txt", "node_index": 0, "url": "https://files.example/log.txt"}]
    return world


def well_tested(pipelines: int) -> World:
    """Pipelines with 50,000 tests each: ten jobs, all of the same 5,000."""
    world = history(pipelines, NOW, jobs=5)
    rows = [
        {
            "name": f"the thing of number {number} does what it should",
            "classname": f"spec.models.thing_{number % 50}",
            "file": f"spec/models/thing_{number % 50}_spec.rb",
            "result": "success",
            "run_time": number / 1000,
            "message": "",
        }
        for number in range(5_000)
    ]
    world.tests.update((job["id"], rows) for job in chain(*world.rows["jobs"].values()))
    return world


def idle(projects: int) -> World:
    """Many projects, where nothing has happened for five days."""
    world = history(1, NOW - timedelta(days=5), projects=projects)
    world.now = NOW
    return world


def company(projects: int = 40, definitions: int = 5) -> World:
    """An organization of many projects, each with definitions, and two triggers of each."""
    world, since = World(NOW), NOW - timedelta(days=100)
    for number in range(projects):
        project = world.add_project(f"gh/acme/project-{number}")
        world.add_schedule(project, "nightly", since)
        for name in range(definitions):
            definition = world.add_definition(project, f"definition-{name}", since)
            for event in ("push", "pull-request"):
                source = {"provider": "github_app", "repo": definition["checkout_source"]["repo"]}
                world.add_trigger(definition, event, source, since)
    for number in range(50):
        world.add_context(world.organizations[0], f"context-{number}", since)
    return world


def busy(pipelines: int, hours: int) -> World:
    """So many pipelines until now and 30 a day for hours to come, with reruns and approvals long after.

    Every tenth pipeline is run again, and every tenth waits for an approval, at one of the ages in `LATE`.
    """
    world = history(pipelines + hours * 30 // 24, NOW + timedelta(hours=hours))
    (rows,) = world.rows["pipelines"].values()
    for number, row in enumerate(rows):
        age = LATE[number // 10 % len(LATE)]
        if number % 10 == 3:
            world.rerun(row, moment(row["created_at"]) + age)
        elif number % 10 == 8:
            world.add_workflow(row, "deploy", None, age, jobs=DEPLOY)
    world.now = NOW
    world.number_jobs()
    return world


def least(server: Server, streams: Iterable[str]) -> int:
    """The calls without which these streams cannot be read: each list's pages, and the one that tests the token."""
    world, calls = server.world, 1
    for stream in streams:
        parent = PARENTS.get(stream)
        rows = world.organizations if parent == "collaborations" else chain(*world.rows.get(parent or "", {}).values())
        lengths = [len(world.rows[stream].get(row["id"], [])) for row in rows] if parent else [1]
        size = 50 if stream in ("deploy", "project") else 20
        calls += sum(max(1, -(-length // size)) for length in lengths)
    return calls


def least_inside(server: Server, streams: Iterable[str]) -> int:
    """The calls without which the walk and these three streams below each of its jobs cannot be read."""
    world = server.world
    pages = (max(1, -(-len(world.tests[job["id"]]) // 20)) for job in chain(*world.rows["jobs"].values()))
    return least(server, WALK) + sum(2 + count for count in pages)


def late_changes(server: Server) -> dict[str, tuple[timedelta, float]]:
    """The workflows that stop hours after their pipeline was made: its age then, and hours from now."""
    world, found = server.world, {}
    for row in chain(*world.rows["workflows"].values()):
        pipeline = world.index[row["pipeline_id"]][1]
        stopped = moment(row["stopped_at"])
        age = stopped - moment(pipeline["created_at"])
        if age > timedelta(hours=1):
            found[row["id"]] = min(LATE, key=lambda usual: abs(usual - age)), (stopped - NOW) / timedelta(hours=1)
    return found
