"""Worlds to try things in: a company's five weeks, a long history, and all oddities in one place."""

import random
from collections.abc import Iterator
from datetime import datetime, time, timedelta, timezone
from typing import Any

from tests.circleci.extras import World
from tests.circleci.usage import Cells, job
from tests.circleci.world import ABSENT, Row, moment

BUILD = ["checkout", "lint", "unit-tests", "package"]
NIGHTLY = ["checkout", "integration-tests", "browser-tests", "report"]
DEPLOY: list[str | Row] = [
    "build-image",
    "deploy-staging",
    {"name": "approve", "type": "approval"},
    "deploy-production",
]

PEOPLE = ["ada", "grace", "linus", "margaret", "tim", "barbara"]
BRANCHES = [
    "fix/login-redirect",
    "feature/gift-cards",
    "feature/dark-mode",
    "chore/bump-deps",
    "fix/flaky-checkout",
    "spike/search",
]
SUBJECTS = [
    "Keep the basket when a session expires",
    "Show prices with the customer's currency",
    "Retry the payment provider once on a timeout",
    "Bump dependencies",
    "Remove the old search index",
    "Make the checkout test wait for the spinner",
    "Log the order number, not the card",
    "Speed up the product page",
    "Add a health check for the queue",
    "Correct the VAT of gift cards",
]
#: Projects of the demonstration, and how many pipelines a working day brings.
PROJECTS = {
    "gh/acme/web-shop": 6,
    "gh/acme/api": 4,
    "gh/acme/infrastructure": 2,
    "circleci/Acme Labs/robots": 3,
    "circleci/Acme Labs/notebooks": 1,
}


def demo_world(now: datetime) -> World:
    """Two organizations with five projects and five weeks of work, about 400 pipelines; one more week is to come."""
    world, chance = World(now), random.Random(35)
    since = now - timedelta(days=35)
    for slug in PROJECTS:
        project = world.add_project(slug)
        _furnish_project(world, project, since)
        world.flaky[project["id"]] = _flaky_tests(slug)
    world.add_ghost("gh/acme/web-shop", since)
    world.add_build("gh/acme/web-shop", since + timedelta(days=3))
    for organization in world.organizations:
        _furnish_organization(world, organization, since)
    midnight = datetime.combine(now.astimezone(timezone.utc), time(), timezone.utc)
    for day in range(-35, 8):
        for slug, usual in PROJECTS.items():
            _work(world, chance, slug, midnight + timedelta(days=day), usual)
    world.number_jobs()
    return world


def _work(world: World, chance: random.Random, slug: str, midnight: datetime, usual: int) -> None:
    """One day of one project: a nightly build, and pushes between eight and six on weekdays."""
    nightly: Row = {"name": "nightly", "stopped_at": timedelta(minutes=42), "jobs": NIGHTLY}
    if slug.endswith("web-shop"):
        world.add_pipeline(slug, midnight + timedelta(hours=2), kind="schedule", workflows=[nightly])
    count = max(0, round(chance.gauss(usual, 1.2))) if midnight.weekday() < 5 else int(chance.random() < 0.1)
    for hour in sorted(min(18.0, max(8.0, chance.gauss(13, 2.5))) for _ in range(count)):
        at = midnight + timedelta(hours=hour, milliseconds=chance.randrange(60_000))
        branch = "main" if chance.random() < 0.4 else chance.choice(BRANCHES)
        _push(world, chance, slug, at, branch)


def _push(world: World, chance: random.Random, slug: str, at: datetime, branch: str) -> None:
    """One pipeline with what comes of it: a build, perhaps a rerun, and on the main branch a deployment."""
    pipeline = world.add_pipeline(slug, at, branch=branch, subject=chance.choice(SUBJECTS), login=chance.choice(PEOPLE))
    if slug.endswith("robots"):
        parameters = {"git": {"branch": branch, "checkout_sha": pipeline["vcs"]["revision"]}, "speed": chance.random()}
        pipeline["trigger_parameters"] = parameters
    if chance.random() < 0.02:
        errors = [{"type": "config", "message": "Unexpected key: stpes"}]
        pipeline |= {"state": "errored", "errors": errors}
        return
    status = chance.choices(["success", "failed", "canceled"], [80, 15, 5])[0]
    begun, lasting = at + timedelta(seconds=2), timedelta(seconds=chance.randint(120, 900))
    canceled = {"canceled_by": world.me["id"]} if status == "canceled" else {}
    world.add_workflow(pipeline, "build-test", begun, lasting, status, BUILD, **canceled)
    done = begun + lasting
    if status == "failed" and chance.random() < 0.5:
        later = timedelta(days=20) if chance.random() < 0.1 else timedelta(hours=chance.uniform(0.1, 30))
        world.rerun(pipeline, done + later)
    if status == "success" and branch == "main":
        waiting = None if chance.random() < 0.15 else timedelta(hours=chance.expovariate(1 / 6) + 0.3)
        world.add_workflow(pipeline, "deploy", done, waiting, jobs=DEPLOY)
    if slug.endswith("web-shop") and chance.random() < 0.05:
        wide = [f"browser-{number:02}" for number in range(1, 65)]
        world.add_workflow(pipeline, "browser-matrix", done, timedelta(minutes=25), jobs=wide, at_once=True)


def job_runs(world: World) -> list[tuple[str, Cells]]:
    """What a usage export tells of each job that has run or will run, with the id of its organization."""
    now, world.now = world.now, world.now + timedelta(days=100)
    world.number_jobs()
    runs = list(_job_runs(world))
    world.now = now
    world.number_jobs()
    return runs


def _job_runs(world: World) -> Iterator[tuple[str, Cells]]:
    sizes = {"lint": ("large", 12.0), "unit-tests": ("medium", 88.0), "browser": ("xlarge", 31.0)}
    price = {"medium": 10.0, "large": 20.0, "xlarge": 40.0}
    told: set[str] = set()
    for project in world.projects.values():
        for pipeline in world.rows["pipelines"][project["id"]]:
            for workflow in world.rows["workflows"][pipeline["id"]]:
                for run in world.rows["jobs"][workflow["id"]]:
                    if run["type"] == "approval" or "stopped_at" not in run or run["id"] in told:
                        continue
                    told.add(run["id"])
                    lasted = (moment(run["stopped_at"]) - moment(run["started_at"])).total_seconds()
                    resource, used = sizes.get(run["name"].partition("-0")[0], ("medium", 55.0))
                    credits = price[resource] * lasted / 60
                    cells = {
                        "ORGANIZATION_NAME": project["organization_name"],
                        "PROJECT_ID": project["id"],
                        "PROJECT_NAME": project["name"],
                        "VCS_BRANCH": pipeline["vcs"]["branch"],
                        "PIPELINE_ID": pipeline["id"],
                        "PIPELINE_NUMBER": str(pipeline["number"]),
                        "WORKFLOW_ID": workflow["id"],
                        "WORKFLOW_NAME": workflow["name"],
                        "JOB_NAME": run["name"],
                        "JOB_ID": run["id"],
                        "JOB_RUN_STARTED_AT": run["started_at"],
                        "JOB_RUN_STOPPED_AT": run["stopped_at"],
                        "JOB_BUILD_STATUS": run["status"],
                        "RESOURCE_CLASS": resource,
                        "JOB_RUN_SECONDS": f"{lasted:.0f}",
                        "MEDIAN_CPU_UTILIZATION_PCT": f"{used * 0.7:.2f}",
                        "MAX_CPU_UTILIZATION_PCT": f"{used:.2f}",
                        "MEDIAN_RAM_UTILIZATION_PCT": f"{used * 0.6:.2f}",
                        "MAX_RAM_UTILIZATION_PCT": f"{used * 0.9:.2f}",
                        "COMPUTE_CREDITS": f"{credits:.6f}",
                        "TOTAL_CREDITS": f"{credits:.6f}",
                    }
                    yield project["organization_id"], job(moment(run["started_at"]), run["job_number"], **cells)


def _flaky_tests(slug: str) -> list[Row]:
    """The tests of a project that fail now and then, as insights tell of them."""
    if not slug.endswith(("web-shop", "api")):
        return []
    tests = [
        ("CheckoutTest", "waits for the spinner"),
        ("CartTest", "keeps a basket"),
        ("VatTest", "rounds gift cards"),
    ]
    return [
        {
            "workflow_name": "build-test",
            "job_name": "unit-tests",
            "classname": classname,
            "test_name": name,
            "times_flaked": 9 - 4 * place + len(slug) % 3,
            "time_wasted": 540 * (4 - place),
            "pipeline_number": 40 + place,
            "job_number": 300 + place,
            "file": f"tests/{classname.lower()}.py",
            "source": "junit",
        }
        for place, (classname, name) in enumerate(tests)
    ]


def _furnish_organization(world: World, organization: Row, since: datetime) -> None:
    for name in ("docker-hub", "aws-staging", "aws-production", "slack"):
        world.add_context(organization, name, since)
    for name in ("developers", "release-managers"):
        world.add_group(organization, name, f"All {name}")
    world.add_environment(organization, "staging", since)
    world.add_environment(
        organization,
        "production",
        since,
        since + timedelta(days=9),
        description="What customers see",
        labels=[{"key": "tier", "value": "1"}],
    )
    for day in range(43):
        world.add_decision(organization, since + timedelta(days=day), "HARD_FAIL" if day % 9 == 4 else "PASS")


def _furnish_project(world: World, project: Row, since: datetime) -> None:
    if project["slug"].startswith("gh/"):
        description = "Implicit pipeline definition associated with an OAuth-based project."
        source = {"provider": "github_oauth", "file_path": ".circleci/config.yml"}
        definition = world.add_definition(project, project["name"], config_source=source, description=description)
        world.unsupported.add(definition["id"])
        world.add_schedule(
            project, "nightly", since, since + timedelta(days=3), parameters={"branch": "main", "full": True}
        )
        return
    definition = world.add_definition(project, "build", since, description="On every push")
    world.add_trigger(
        definition, "push", {"provider": "github_app", "repo": definition["checkout_source"]["repo"]}, since
    )
    world.add_trigger(
        definition,
        "weekly",
        {"provider": "schedule", "schedule": {"cron_expression": "0 5 * * 1", "attribution_actor": world.me}},
        since,
        disabled=True,
        parameters={"deploy": False, "replicas": 3},
    )


def history(
    pipelines: int,
    now: datetime,
    slug: str = "gh/acme/big",
    per_day: float = 30,
    workflows: int = 2,
    jobs: int = 4,
    projects: int = 1,
) -> World:
    """So many pipelines in each of some projects (big, big-2, big-3 ...), evenly spaced until shortly before now."""
    world = World(now)
    homes = [world.add_project(slug if number == 1 else f"{slug}-{number}") for number in range(1, projects + 1)]
    parts: list[Row] = [
        {"name": f"workflow-{number + 1}", "stopped_at": timedelta(minutes=5), "jobs": jobs}
        for number in range(workflows)
    ]
    for number in range(pipelines, 0, -1):
        at = now - timedelta(days=number / per_day)
        for home in homes:
            world.add_pipeline(home, at, subject=f"Change number {pipelines - number + 1}", workflows=parts)
    world.number_jobs()
    return world


def odd_world(now: datetime) -> World:
    """A world of the oddities that the service is known for; its project is gh/acme/odd, and everything is finished."""
    world, day = World(now), timedelta(days=1)
    project = world.add_project("gh/acme/odd")
    organization = world.organizations[0]
    organization["avatar_url"] = None
    world.add_organization("gh/never-used", used=False)
    world.add_environment(organization, "bare", now - 90 * day)
    world.add_context(organization, "only", now - 90 * day)

    bare = world.add_definition(
        project, "bare", config_source={"provider": "webhook"}, checkout_source={"provider": "webhook"}
    )
    url = "https://internal.circleci.example/private/soc/e/1?secret=hush-hush"
    world.add_trigger(bare, "inbound", {"provider": "webhook", "webhook": {"url": url, "sender": "elsewhere"}})
    cron = {"cron_expression": "0 0 * * *", "attribution_actor": {"id": world.me["id"]}}
    world.add_trigger(
        bare,
        "nightly",
        {"provider": "schedule", "schedule": cron},
        disabled=True,
        parameters={"deploy": True, "replicas": 3, "tags": ["a", "b"], "deep": {"er": [1.5, None]}},
    )
    timetable = {"per-hour": 30, "hours-of-day": [0, 12], "days-of-month": [1], "months": ["JAN"]}
    world.add_schedule(project, "odd", now - 60 * day, timetable=timetable, parameters={"run-schedule": True})

    _odd_pipelines(world, project, now - 3 * day)
    _odd_workflows(world, project, now - 2 * day)
    return world


def _odd_pipelines(world: World, project: Row, at: datetime) -> None:
    minutes = (at + timedelta(minutes=number) for number in range(100))
    parameters = {
        "git": {"branch": "main", "forced": "false"},
        "numbers": [1, 2.5, 1e300, 2**63],
        "flags": {"on": True, "off": False, "unset": None},
        "dotted.and-hyphened": {"": []},
    }
    world.add_pipeline(
        project,
        next(minutes),
        vcs=ABSENT,
        state="errored",
        errors=[{"type": "config-fetch", "message": "Failed to fetch config.yml file."}],
        trigger={
            "received_at": "1970-01-01T00:00:00.000Z",
            "type": "Decoupled Ingestion System",
            "actor": {"login": "", "avatar_url": None},
        },
        trigger_parameters=parameters,
    )
    world.add_pipeline(
        project, next(minutes), kind="api", warnings=[{"type": "deprecated", "message": "Image is old."}]
    )
    world.add_pipeline(project, next(minutes), kind="schedule")
    world.add_pipeline(project, next(minutes), subject="NUL \x00 in the middle, \U0001f680 at the end, and \u2028 too")
    world.add_pipeline(project, next(minutes), updated_at="")
    tagged = world.add_pipeline(project, next(minutes))
    tagged["vcs"]["tag"] = "v1.0.0"
    del tagged["vcs"]["branch"]
    reviewed = world.add_pipeline(project, next(minutes), branch="pull/7")
    reviewed["vcs"] |= {"review_id": "7", "review_url": "https://github.com/acme/odd/pull/7"}


def _odd_workflows(world: World, project: Row, at: datetime) -> None:
    pipeline = world.add_pipeline(project, at)

    def workflow(name: str, **fields: Any) -> Row:
        return world.add_workflow(pipeline, name, stopped_at=timedelta(minutes=5), **fields)

    workflow("setup", tag="setup")
    workflow("canceled", status="canceled", canceled_by=world.me["id"], jobs=2)
    workflow("errored", status="error", errored_by=world.me["id"], jobs=0)
    workflow("again", auto_rerun_number=1, max_auto_reruns=3)
    workflow("wide", jobs=65, at_once=True)
    workflow("expired", id=None)
    waits: Row = {"name": "old-approval", "type": "approval", "started_at": None, "stopped_at": ABSENT}
    joined = workflow(
        "approved",
        jobs=["build", waits, {"name": "left", "started_at": None, "status": "blocked", "stopped_at": ABSENT}],
    )
    build, approval, left = world.rows["jobs"][joined["id"]]
    left["requires"] = {build["id"]: ["success", "failed"], approval["id"]: ["success"]}
