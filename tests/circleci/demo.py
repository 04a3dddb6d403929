"""Worlds to try things in: a company's five weeks, a long history, and all oddities in one place."""

import random
import uuid
from collections.abc import Iterator
from datetime import datetime, time, timedelta, timezone
from itertools import pairwise
from typing import Any

from tests.circleci import failures
from tests.circleci.extras import World
from tests.circleci.failures import Failure
from tests.circleci.job_numbers import JobRun
from tests.circleci.usage import Cells, job
from tests.circleci.v1_1 import Output
from tests.circleci.world import ABSENT, Row, moment, seconds, stamp

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


#: By how the names of jobs begin: the resource class, the highest use of its CPU in percent, and the parallel runs.
SIZES = {
    "lint": ("large", 12.0, 1),
    "unit-tests": ("medium", 88.0, 2),
    "integration-tests": ("large", 64.0, 2),
    "browser": ("xlarge", 31.0, 1),
    "build-image": ("large", 58.0, 1),
    "": ("medium", 55.0, 1),
}
#: Credits a minute.
PRICES = {"medium": 10.0, "large": 20.0, "xlarge": 40.0}
#: The tests of a job that has some: class, name and usual seconds.
TESTS = [
    ("CheckoutTest", "waits for the spinner", 4.2),
    ("CheckoutTest", "pays by card", 3.1),
    ("CheckoutTest", "refuses an expired card", 2.4),
    ("CartTest", "keeps a basket", 1.2),
    ("CartTest", "empties a basket", 0.8),
    ("VatTest", "rounds gift cards", 0.1),
    ("SearchTest", "indexes the catalogue", 6.0),
    ("SearchTest", "finds a product", 1.5),
]
#: The test that takes longer every week, and by how much of its time.
SLOWER = ("SearchTest", 0.25)


class Demo(World):
    """The world of the demonstration: what its jobs run on, wait for, write and test follows from its jobs."""

    def __init__(self, now: datetime) -> None:
        super().__init__(now)
        #: How jobs have failed, by their ids.
        self.failures: dict[str, Failure] = {}
        luck = random.Random(5)
        #: The ways in which builds, builds that somebody reruns, nights and deployments fail next.
        self.ways = {
            "build": failures.dealt(failures.BUILD, luck),
            "rerun": failures.dealt(failures.BUILD, luck, is_rerun=True),
            "nightly": failures.dealt(failures.NIGHTLY, luck),
            "deploy": failures.dealt(failures.DEPLOY, luck),
        }

    def details(self, job: Row, workflow: Row) -> Row:
        """The details of a job, on the resource class that jobs of its name have."""
        row = super().details(job, workflow)
        resource, _, parallelism = size_of(job["name"])
        return row | {
            "executor": {"resource_class": resource, "type": "docker"},
            "parallelism": parallelism,
            "parallel_runs": [{"index": index, "status": job["status"]} for index in range(parallelism)],
        }

    def _of_job(self, run: JobRun, workflow: Row) -> Row:
        """A build's part of its job, with one pull request for each branch."""
        row = super()._of_job(run, workflow)
        if "pull_requests" in row and row["branch"] in BRANCHES:
            repository = row["pull_requests"][0]["url"].rpartition("/pull/")[0]
            url = f"{repository}/pull/{101 + BRANCHES.index(row['branch'])}"
            row["pull_requests"] = [{"head_sha": row["vcs_revision"], "url": url}]
        return row

    def _action(self, run: JobRun, index: int, step: int, name: str, begun: datetime, lasted: timedelta) -> Row:
        """An action, which fails as its job does."""
        row = super()._action(run, index, step, name, begun, lasted)
        failure = self.failures.get(run.job["id"])
        if failure and row["status"] == failure.status:
            row["has_output"] = bool(failure.output)
            if row["exit_code"]:
                row["exit_code"] = failure.exit_code
        return row

    def fail(self, workflow: Row, failure: Failure) -> None:
        """Let the job of a workflow that has this name fail so; those after it do not run."""
        jobs = self.rows["jobs"][workflow["id"]]
        names = [row["name"] for row in jobs]
        place = names.index(failure.job) if failure.job in names else len(jobs) - 1
        workflow["status"] = "failed"
        jobs[place]["status"] = failure.status
        for row in jobs[place + 1 :]:
            row |= {"status": "not_run", "started_at": None}
            row.pop("stopped_at", None)
        identifier = jobs[place]["id"]
        self.failures[identifier] = failure
        self.outputs[identifier, 0, LAST_STEP] = Output([failure.output] if failure.output else [])

    def own_jobs(self) -> Iterator[tuple[Row, Row, Row]]:
        """Every job that runs, once, with its workflow and pipeline."""
        known: set[str] = set()
        for project in self.projects:
            for pipeline in self.rows["pipelines"][project]:
                for workflow in self.rows["workflows"][pipeline["id"]]:
                    for row in self.rows["jobs"][workflow["id"]]:
                        if row["id"] not in known and row["type"] != "approval" and row["started_at"]:
                            known.add(row["id"])
                            yield row, workflow, pipeline


LAST_STEP = 103
"""The number of the step that does a job's work."""


def size_of(name: str) -> tuple[str, float, int]:
    """The resource class of jobs of this name, their use of its CPU, and how many parallel runs they have."""
    return next(size for start, size in SIZES.items() if name.startswith(start))


def person(world: World, login: str) -> str:
    """The id of a user."""
    return world.me["id"] if login == world.me["login"] else str(uuid.uuid5(uuid.NAMESPACE_URL, login))


def demo_world(now: datetime) -> World:
    """Two organizations with five projects and five weeks of work, about 400 pipelines; one more week is to come."""
    # What follows from the work has a chance of its own, so that it changes nothing of how much work there is.
    world, chance, luck = Demo(now), random.Random(35), random.Random(7)
    since = now - timedelta(days=35)
    for slug in PROJECTS:
        project = world.add_project(slug)
        _furnish_project(world, project, since)
    world.add_ghost("gh/acme/web-shop", since)
    world.add_build("gh/acme/web-shop", since + timedelta(days=3))
    for organization in world.organizations:
        _furnish_organization(world, organization, since)
    midnight = datetime.combine(now.astimezone(timezone.utc), time(), timezone.utc)
    for day in range(-35, 8):
        for slug, usual in PROJECTS.items():
            _work(world, chance, luck, slug, midnight + timedelta(days=day), usual)
    _let_wait(world, luck)
    _test(world, luck)
    world.number_jobs()
    for project in world.projects.values():
        world.flaky[project["id"]] = _flaky_tests(world, project)
    return world


def _work(world: Demo, chance: random.Random, luck: random.Random, slug: str, midnight: datetime, usual: int) -> None:
    """One day of one project: a nightly build, and pushes between eight and six on weekdays."""
    nightly: Row = {"name": "nightly", "stopped_at": timedelta(minutes=42), "jobs": NIGHTLY}
    if slug.endswith("web-shop"):
        pipeline = world.add_pipeline(slug, midnight + timedelta(hours=2), kind="schedule", workflows=[nightly])
        if luck.random() < 0.12:
            world.fail(world.rows["workflows"][pipeline["id"]][0], next(world.ways["nightly"]))
    count = max(0, round(chance.gauss(usual, 1.2))) if midnight.weekday() < 5 else int(chance.random() < 0.1)
    for hour in sorted(min(18.0, max(8.0, chance.gauss(13, 2.5))) for _ in range(count)):
        at = midnight + timedelta(hours=hour, milliseconds=chance.randrange(60_000))
        branch = "main" if chance.random() < 0.4 else chance.choice(BRANCHES)
        _push(world, chance, luck, slug, at, branch)


def _push(world: Demo, chance: random.Random, luck: random.Random, slug: str, at: datetime, branch: str) -> None:
    """One pipeline with what comes of it: a build, perhaps a rerun, and on the main branch a deployment."""
    subject, login = chance.choice(SUBJECTS), chance.choice(PEOPLE)
    pipeline = world.add_pipeline(slug, at, branch=branch, subject=subject, login=login)
    by = {"started_by": person(world, login)}
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
    build = world.add_workflow(pipeline, "build-test", begun, lasting, status, BUILD, **by, **canceled)
    done = begun + lasting
    is_rerun = status == "failed" and chance.random() < 0.5
    if status == "failed":
        world.fail(build, next(world.ways["rerun" if is_rerun else "build"]))
    if is_rerun:
        later = timedelta(days=20) if chance.random() < 0.1 else timedelta(hours=chance.uniform(0.1, 30))
        world.rerun(pipeline, done + later)["started_by"] = by["started_by"]
    if status == "success" and branch == "main":
        waiting = None if chance.random() < 0.15 else timedelta(hours=chance.expovariate(1 / 6) + 0.3)
        deploy = world.add_workflow(pipeline, "deploy", done, waiting, jobs=DEPLOY, **by)
        world.rows["jobs"][deploy["id"]][2]["approved_by"] = person(world, luck.choice(PEOPLE[1:3]))
        if waiting and luck.random() < 0.1:
            world.fail(deploy, next(world.ways["deploy"]))
    if slug.endswith("web-shop") and chance.random() < 0.05:
        wide = [f"browser-{number:02}" for number in range(1, 65)]
        world.add_workflow(pipeline, "browser-matrix", done, timedelta(minutes=25), jobs=wide, at_once=True, **by)


def _let_wait(world: Demo, luck: random.Random) -> None:
    """Let each job wait for its machine first: longest at noon, and for the large ones."""
    for row, _, _ in world.own_jobs():
        if "stopped_at" not in row:
            continue
        queued, stopped = moment(row["started_at"]), moment(row["stopped_at"])
        rush = max(1.0, 6.0 - abs(queued.hour - 12)) * {"medium": 1, "large": 3, "xlarge": 8}[size_of(row["name"])[0]]
        wait = min(timedelta(seconds=round(luck.expovariate(1 / (2 * rush)))), 0.5 * (stopped - queued))
        world.queued_since[row["id"]] = queued
        row["started_at"] = seconds(queued + wait)


def _test(world: Demo, luck: random.Random) -> None:
    """Give the jobs that test their results: all pass but the one that made its job fail."""
    for row, _, pipeline in world.own_jobs():
        if row["name"] not in ("unit-tests", "integration-tests") or "stopped_at" not in row:
            continue
        failure = world.failures.get(row["id"])
        failed = failure.test if failure else None
        weeks = (moment(pipeline["created_at"]) - world.now).days / 7 + 5
        results = []
        for classname, name, usual in TESTS:
            slower = 1 + SLOWER[1] * weeks if classname == SLOWER[0] else 1
            has_failed = failed is not None and (classname, name) == failed[:2]
            results.append(
                {
                    "name": name,
                    "classname": classname,
                    "file": f"tests/{classname}.spec.ts",
                    "result": "failure" if has_failed else "success",
                    "run_time": round(usual * slower * luck.uniform(0.9, 1.2), 3),
                    "message": failed[2] if failed and has_failed else "",
                    "source": "jest",
                }
            )
        world.tests[row["id"]] = results


def job_runs(world: World) -> list[tuple[str, Cells]]:
    """What a usage export tells of each job that has run or will run, with the id of its organization."""
    now, world.now = world.now, world.now + timedelta(days=100)
    world.number_jobs()
    runs = (
        [_job_run(world, *run) for run in world.own_jobs() if "stopped_at" in run[0]] if isinstance(world, Demo) else []
    )
    world.now = now
    world.number_jobs()
    return runs


def _job_run(world: Demo, run: Row, workflow: Row, pipeline: Row) -> tuple[str, Cells]:
    """The row of one job run in a usage export: its times, its machine and its credits are those that details tell."""
    project = next(row for row in world.projects.values() if row["slug"] == pipeline["project_slug"])
    resource, used, parallelism = size_of(run["name"])
    begun, stopped = moment(run["started_at"]), moment(run["stopped_at"])
    lasted = (stopped - begun).total_seconds()
    credits = PRICES[resource] * parallelism * lasted / 60
    first = min(
        world.queued_since.get(row["id"], begun) for row in world.rows["jobs"][workflow["id"]] if row["started_at"]
    )
    cells = {
        "ORGANIZATION_NAME": project["organization_name"],
        "PROJECT_ID": project["id"],
        "PROJECT_NAME": project["name"],
        "VCS_URL": project["vcs_info"]["vcs_url"],
        "VCS_BRANCH": pipeline["vcs"]["branch"],
        "PIPELINE_ID": pipeline["id"],
        "PIPELINE_NUMBER": str(pipeline["number"]),
        "PIPELINE_CREATED_AT": _bare(moment(pipeline["created_at"])),
        "PIPELINE_TRIGGER_SOURCE": pipeline["trigger"]["type"],
        "PIPELINE_TRIGGER_USER_ID": workflow["started_by"] if pipeline["trigger"]["type"] == "webhook" else None,
        "WORKFLOW_ID": workflow["id"],
        "WORKFLOW_NAME": workflow["name"],
        "WORKFLOW_FIRST_JOB_QUEUED_AT": _bare(first),
        "WORKFLOW_FIRST_JOB_STARTED_AT": _bare(first),
        "WORKFLOW_STOPPED_AT": workflow["stopped_at"] and _bare(moment(workflow["stopped_at"])),
        "IS_WORKFLOW_SUCCESSFUL": str(workflow["status"] == "success").lower(),
        "JOB_NAME": run["name"],
        "JOB_ID": run["id"],
        "JOB_RUN_QUEUED_AT": _bare(world.queued_since[run["id"]]),
        "JOB_RUN_STARTED_AT": _bare(begun),
        "JOB_RUN_STOPPED_AT": _bare(stopped),
        "JOB_BUILD_STATUS": run["status"],
        "RESOURCE_CLASS": resource,
        "PARALLELISM": str(parallelism),
        "JOB_RUN_SECONDS": f"{lasted:.0f}",
        "MEDIAN_CPU_UTILIZATION_PCT": f"{used * 0.7:.2f}",
        "MAX_CPU_UTILIZATION_PCT": f"{used:.2f}",
        "MEDIAN_RAM_UTILIZATION_PCT": f"{used * 0.6:.2f}",
        "MAX_RAM_UTILIZATION_PCT": f"{used * 0.9:.2f}",
        "COMPUTE_CREDITS": f"{credits:.6f}",
        "STORAGE_CREDITS": "0",
        "TOTAL_CREDITS": f"{credits:.6f}",
    }
    return project["organization_id"], job(begun, run["job_number"], **cells)


def _bare(at: datetime) -> str:
    """A time as the export has it: UTC without a zone."""
    return stamp(at)[:23].replace("T", " ")


def _flaky_tests(world: Demo, project: Row) -> list[Row]:
    """The tests of a project that failed in the last 14 days and then passed, as insights tell of them."""
    found: dict[tuple[str, str], Row] = {}
    for row, workflow, pipeline in world.own_jobs():
        failure = world.failures.get(row["id"])
        runs = world.rows["workflows"][pipeline["id"]]
        has_passed = any(after["status"] == "success" for before, after in pairwise(runs) if before is workflow)
        is_recent = world.now - timedelta(days=14) < moment(row["started_at"]) < world.now
        if not (failure and failure.test and has_passed and is_recent and pipeline["project_slug"] == project["slug"]):
            continue
        classname, name, _ = failure.test
        test = found.setdefault(
            (classname, name),
            {
                "workflow_name": workflow["name"],
                "job_name": row["name"],
                "classname": classname,
                "test_name": name,
                "times_flaked": 0,
                "time_wasted": 0,
                "pipeline_number": pipeline["number"],
                "job_number": row["job_number"],
                "file": f"tests/{classname}.spec.ts",
                "source": "jest",
            },
        )
        test["times_flaked"] += 1
        test["time_wasted"] += int((moment(row["stopped_at"]) - moment(row["started_at"])).total_seconds())
    return sorted(found.values(), key=lambda test: -test["times_flaked"])


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
