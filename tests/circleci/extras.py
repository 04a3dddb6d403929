"""The streams that a user asks for by name, all 24 of them, and some of everything for a test.

`World` and `Server` are those of the eleven streams with these added: what is inside a job, insights, builds and steps,
and here what organizations and projects have besides. What a test does not add costs nothing: details, insights,
builds, values and configs are derived from jobs, workflows and pipelines when they are asked for.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from tests.circleci import v1_1
from tests.circleci import world as plain_world
from tests.circleci.inside_jobs import asked, inside
from tests.circleci.insights import HISTORY, insights
from tests.circleci.server import RefusedError
from tests.circleci.v1_1 import build_rows, step_rows
from tests.circleci.world import ABSENT, Row, moment, seconds, stamp

EXTRAS = (
    "job_details",
    "tests",
    "artifacts",
    "insights_workflows",
    "insights_workflow_runs",
    "insights_jobs",
    "flaky_tests",
    "deploy_components",
    "deploy_versions",
    "context_variables",
    "context_restrictions",
    "project_variables",
    "checkout_keys",
    "webhooks",
    "insights_job_days",
    "insights_projects",
    "insights_branches",
    "insights_tests",
    "policy_decisions",
    "pipeline_values",
    "pipeline_configs",
    "builds",
    "steps",
    "step_outputs",
)
FINAL_PIPELINES = {"created", "errored"}
_STORED = ("deploy_components", "deploy_versions", "context_variables", "context_restrictions", "policy_decisions")
_HYPHENATED = ("project_variables", "checkout_keys", "webhooks")


class World(v1_1.World):
    """A world that has the extra streams too; `flaky` holds the flaky tests by the project's id."""

    def __init__(self, now: datetime, token: str = plain_world.TOKEN) -> None:
        super().__init__(now, token)
        self.flaky: dict[str, list[Row]] = {}
        #: Tell flaky tests with hyphens, as they are documented, instead of underscores, as they are seen.
        self.hyphens = False
        self.rows |= {stream: defaultdict(list) for stream in (*_STORED, *_HYPHENATED)}
        self._extra_chance = random.Random(3)

    # Builders

    def _extra_id(self) -> str:
        """A new id that takes none away from the rows of the eleven streams."""
        digits = f"{self._extra_chance.getrandbits(128):032x}"
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"

    def _put(self, stream: str, parent: str, fields: Row, extra: Row) -> Row:
        """Store a row that need not have an id."""
        row = {key: value for key, value in (fields | extra).items() if value is not ABSENT}
        if "id" in row:
            return self._add(stream, parent, row)
        self.rows[stream][parent].append(row)
        return row

    def add_component(self, organization: Row, name: str, created_at: datetime, **extra: Any) -> Row:
        """Add a component that is deployed to an organization."""
        row: Row = {
            "id": self._extra_id(),
            "project_id": self._extra_id(),
            "name": name,
            "labels": [],
            "release_count": 0,
            "created_at": seconds(created_at),
            "updated_at": seconds(created_at),
        }
        return self._put("deploy_components", organization["id"], row, extra)

    def add_version(self, component: Row, name: str, last_deployed_at: datetime, **extra: Any) -> Row:
        """Add a version of a component, by default one that was deployed by job 1 to an environment of its own."""
        row = {
            "name": name,
            "environment_id": self._extra_id(),
            "namespace": "default",
            "is_live": True,
            "pipeline_id": self._extra_id(),
            "workflow_id": self._extra_id(),
            "job_id": self._extra_id(),
            "job_number": 1,
            "last_deployed_at": seconds(last_deployed_at),
        }
        component["release_count"] += 1
        return self._put("deploy_versions", component["id"], row, extra)

    def add_variable(self, owner: Row, name: str, created_at: datetime, **extra: Any) -> Row:
        """Add an environment variable to a context or a project; of its value the last four characters show."""
        if owner["id"] in self.projects:
            row = {"name": name, "value": "xxxx1234", "created-at": stamp(created_at)}
            return self._put("project_variables", owner["id"], row, extra)
        row = {
            "variable": name,
            "context_id": owner["id"],
            "created_at": stamp(created_at),
            "updated_at": stamp(created_at),
            "truncated_value": "xxxx1234",
        }
        return self._put("context_variables", owner["id"], row, extra)

    def add_restriction(self, context: Row, value: str, kind: str = "project", name: str = "", **extra: Any) -> Row:
        """Add a restriction to a context: a "project", "expression" or "group" that it is limited to."""
        row = {
            "id": self._extra_id(),
            "context_id": context["id"],
            "project_id": value if kind == "project" else ABSENT,
            "name": name,
            "restriction_type": kind,
            "restriction_value": value,
        }
        return self._put("context_restrictions", context["id"], row, extra)

    def add_checkout_key(self, project: Row, created_at: datetime, **extra: Any) -> Row:
        """Add a key to check out a project with, by default a deploy key."""
        digits = self._extra_id().replace("-", "")
        row = {
            "public-key": f"ssh-rsa {digits}\n",
            "type": "deploy-key",
            "fingerprint": ":".join(digits[at : at + 2] for at in range(0, 32, 2)),
            "preferred": True,
            "created-at": stamp(created_at),
        }
        return self._put("checkout_keys", project["id"], row, extra)

    def add_webhook(self, project: Row, name: str, created_at: datetime, **extra: Any) -> Row:
        """Add an outbound webhook to a project; its URL and its signing secret are secrets."""
        row = {
            "id": self._extra_id(),
            "name": name,
            "url": "https://hooks.example/circleci?secret=hush-hush",
            "verify-tls": True,
            "signing-secret": "xxxx-hush",
            "events": ["workflow-completed", "job-completed"],
            "scope": {"id": project["id"], "type": "project"},
            "created-at": stamp(created_at),
            "updated-at": stamp(created_at),
        }
        return self._put("webhooks", project["id"], row, extra)

    def add_decision(self, organization: Row, created_at: datetime, status: str = "PASS", **extra: Any) -> Row:
        """Add a decision of an organization's policies about a pipeline's config."""
        broken = [{"rule": "pinned_images", "reason": "The image of job build has no version."}]
        row = {
            "id": self._extra_id(),
            "created_at": stamp(created_at),
            "decision": {
                "status": status,
                "enabled_rules": ["pinned_images", "no_root"],
                **({"hard_failures": broken} if status == "HARD_FAIL" else {}),
                **({"soft_failures": broken} if status == "SOFT_FAIL" else {}),
                **({"reason": "The policies cannot be read."} if status == "ERROR" else {}),
            },
            "metadata": {
                "build_number": 7,
                "project_id": self._extra_id(),
                "ssh_rerun": False,
                "vcs": {
                    "branch": "main",
                    "release_tag": "",
                    "origin_repository_url": "https://github.com/acme/api",
                    "target_repository_url": "https://github.com/acme/api",
                },
            },
            "policies": {"images.rego": "1f40fc92", "users.rego": "5267768822"},
            "time_taken_ms": 4,
        }
        return self._put("policy_decisions", organization["id"], row, extra)

    # What of it shows

    def seen(self, stream: str, parent: str) -> list[Row]:
        """The rows of a parent that show now, in the service's order and spelling."""
        rows = super().seen(stream, parent)
        if stream == "policy_decisions":
            return sorted(rows, key=lambda row: str(row["created_at"]), reverse=True)
        return [underscored(row) for row in rows] if stream in _HYPHENATED and self.underscores else rows

    def values_of(self, pipeline: Row) -> Row:
        """The values of a pipeline, a free map: none while it is being set up, and none where its config has errors."""
        if pipeline["state"] != "created":
            return {}
        vcs = pipeline.get("vcs", {})
        return {
            "id": pipeline["id"],
            "number": pipeline["number"],
            "project.type": vcs.get("provider_name", "").lower(),
            "git.branch": vcs.get("branch", ""),
            "git.branch.is_default": vcs.get("branch") == "main",
            "git.revision": vcs.get("revision", ""),
            "trigger_source": pipeline["trigger"]["type"],
        }

    def config_of(self, pipeline: Row) -> Row:
        """The config of a pipeline: empty while it is being set up, not compiled where it has errors."""
        if pipeline["state"] not in FINAL_PIPELINES:
            return {"source": "", "compiled": ""}
        source = (
            f"version: 2.1\n# {pipeline['number']}\njobs:\n  build:\n    docker:\n      - image: cimg/base:2026.01\n"
        )
        row = {"source": source, "compiled": "" if pipeline["state"] == "errored" else source.replace("2.1", "2")}
        if pipeline["number"] % 3 == 0:
            row |= {"setup-config": f"setup: true\n{source}", "compiled-setup-config": ""}
        return underscored(row) if self.underscores else row


class Server(v1_1.Server):
    """A server that answers for the extra streams too."""

    world: World

    def _resource(self, parts: list[str], query: dict[str, str]) -> Any:
        match parts[2:] if parts[:2] == ["api", "v2"] else []:
            case ["project", *slug, "envvar"] if len(slug) == 3:
                return self._list("project_variables", self._project("project_variables", slug)["id"], query)
            case ["project", *slug, "checkout-key"] if len(slug) == 3:
                return self._list("checkout_keys", self._project("checkout_keys", slug)["id"], query)
            case ["webhook"]:
                if query.get("scope-type") != "project":
                    raise RefusedError(400, "Invalid scope-type.")
                return self._list("webhooks", query.get("scope-id"), query)
            case ["insights", *slug, "flaky-tests"] if len(slug) == 3:
                return self._flaky(slug)
            case ["deploy", "components"]:
                return self._list("deploy_components", query.get("org-id"), query, last={"next_page_token": ""})
            case ["deploy", "components", component, "versions"]:
                return self._list("deploy_versions", component, query, last={}, paged=False)
            case ["context", context, "environment-variable"]:
                return self._list("context_variables", context, query)
            case ["context", context, "restrictions"]:
                return self._list("context_restrictions", context, query)
            case ["owner", organization, "context", "config", "decision"]:
                return self._decisions(organization, query)
            case ["pipeline", pipeline, "values"]:
                return self.world.values_of(self._pipeline("pipeline_values", pipeline))
            case ["pipeline", pipeline, "config"]:
                return self.world.config_of(self._pipeline("pipeline_configs", pipeline))
        return super()._resource(parts, query)

    def _decisions(self, organization: str, query: Mapping[str, str]) -> list[Row]:
        """A page of decisions, newest first, made after a time and from an offset on; it is empty at the end."""
        self._refuse("policy_decisions", organization)
        if not self.world.knows("policy_decisions", organization):
            raise RefusedError(403, "Forbidden.")
        try:
            offset, after = int(query.get("offset", "0")), query.get("after")
            since = moment(after) if after else None
        except ValueError:
            raise RefusedError(400, "Invalid offset or date.") from None
        rows = self.world.seen("policy_decisions", organization)
        made = [row for row in rows if since is None or moment(row["created_at"]) > since]
        return made[offset : offset + self.page_size]

    def _pipeline(self, stream: str, identifier: str) -> Row:
        self._refuse(stream, identifier)
        pipeline = self.world.pipeline(identifier)
        if pipeline is None:
            raise RefusedError(404, "Pipeline not found")
        return pipeline

    def _flaky(self, slug: list[str]) -> Row:
        project = self._project("flaky_tests", slug)
        if not has_flaky_tests(project):
            raise RefusedError(400, "Unsupported organization.")
        rows = self.world.flaky.get(project["id"], [])
        if self.world.hyphens:
            rows = [{name.replace("_", "-"): value for name, value in row.items()} for row in rows]
            return {"flaky-tests": rows, "total-flaky-tests": len(rows)}
        return {"flaky_tests": rows, "total_flaky_tests": len(rows)}


def has_flaky_tests(project: Row) -> bool:
    """Whether the project's organization is of a kind for which the service looks for flaky tests."""
    return not project["slug"].startswith("circleci/")


def underscored(row: Row) -> Row:
    """The row with underscores instead of hyphens in the names of its fields."""
    return {key.replace("-", "_"): value for key, value in row.items()}


# What a tap should make of it


def truth(world: World, slugs: Iterable[str], start_date: datetime | None = None) -> dict[str, list[Row]]:
    """The rows of the 24 streams as they show now, in the names of the tables, less those nobody can get at.

    Those below pipelines are of the ones created since `start_date`, and so are runs of workflows, days and decisions.
    """
    slugs = list(slugs)
    base = world.truth(slugs, start_date)
    rows: dict[str, list[Row]] = {stream: [] for stream in EXTRAS}
    for organization in base["collaborations"]:
        for stream, found in _of_organization(world, organization["id"], start_date).items():
            rows[stream] += found
    for context in base["context"]:
        own = {"context_id": context["id"], "organization_id": context["organization_id"]}
        for stream in ("context_variables", "context_restrictions"):
            rows[stream] += [row | own for row in _reached(world, stream, context["id"])]
    chosen = {row["id"] for row in map(world.project, slugs) if row}
    for project in base["project"]:
        if project["id"] in chosen:
            for stream, found in _of_project(world, world.projects[project["id"]], start_date).items():
                rows[stream] += found
    for pipeline in base["pipelines"]:
        for stream, found in _of_pipeline(world, pipeline).items():
            rows[stream] += found
    for job, keys in asked(base["jobs"], base["workflows"]):
        for stream, found in inside(world, job, keys).items():
            rows[stream] += found
    rows |= step_rows(world, base["jobs"], base["workflows"])
    return {stream: [_bare(row) for row in found] for stream, found in rows.items()}


def _of_organization(world: World, organization: str, start_date: datetime | None) -> dict[str, list[Row]]:
    """The rows of the streams that are read once for an organization or a component of it."""
    own = {"organization_id": organization}
    components = _reached(world, "deploy_components", organization)
    key = ("environment_id", "namespace", "name")
    versions = [
        {**row, **{name: row.get(name) or "" for name in key}, "component_id": one["id"]}
        for one in components
        for row in _reached(world, "deploy_versions", one["id"])
    ]
    decisions = [
        row
        for row in _reached(world, "policy_decisions", organization)
        if start_date is None or moment(row["created_at"]) > start_date
    ]
    refused = world.refusal("insights_projects", organization)
    projects = [] if refused else world.organization_summary(organization, HISTORY)["org_project_data"]
    lists = {
        "deploy_components": components,
        "deploy_versions": versions,
        "policy_decisions": decisions,
        "insights_projects": projects,
    }
    return {stream: [row | own for row in found] for stream, found in lists.items()}


def _reached(world: World, stream: str, parent: str) -> list[Row]:
    """The rows of a list that the token can read, with underscores."""
    return [] if world.refusal(stream, parent) else [underscored(row) for row in world.seen(stream, parent)]


def _bare(row: Row) -> Row:
    """A row without what is secret."""
    row = {key: value for key, value in row.items() if key not in ("value", "truncated_value", "signing_secret")}
    if "?" in (row.get("url") or "") and "scope" in row:
        row["url"] = row["url"].partition("?")[0] + "?secret=**REDACTED**"
    return row


def _of_project(world: World, project: Row, start_date: datetime | None) -> dict[str, list[Row]]:
    """The rows of the streams that are read once for a project."""
    identifier, own = project["id"], {"_project_slug": project["slug"]}
    rows: dict[str, list[Row]] = {
        stream: [row | own for row in _reached(world, stream, identifier)]
        for stream in ("project_variables", "checkout_keys")
    }
    rows["webhooks"] = [row | {"project_id": identifier} for row in _reached(world, "webhooks", identifier)]
    if has_flaky_tests(project) and not world.refusal("flaky_tests", identifier):
        key = ("workflow_name", "job_name", "classname", "test_name")
        found = map(underscored, world.flaky.get(identifier, []))
        rows["flaky_tests"] = [{**row, **{name: row.get(name) or "" for name in key}, **own} for row in found]
    rows["builds"] = build_rows(world, project, start_date)
    return rows | insights(world, project, start_date)


def _of_pipeline(world: World, pipeline: Row) -> dict[str, list[Row]]:
    """The rows of the streams that are read once for a pipeline that is in a final state."""
    own = {"pipeline_id": pipeline["id"]}
    rows = {
        "pipeline_values": [own | {"values": world.values_of(pipeline)}],
        "pipeline_configs": [own | underscored(world.config_of(pipeline))],
    }
    is_final = pipeline["state"] in FINAL_PIPELINES
    return {stream: found for stream, found in rows.items() if is_final and not world.refusal(stream, pipeline["id"])}


# Some of everything


def furnish(world: World, every: int = 3) -> World:
    """Give a world all 24 streams with their oddities, and its first project a pipeline of odd names and jobs.

    Every so-manieth job of the others has tests and artifacts.
    """
    since = world.now - timedelta(days=20)
    for organization in world.organizations:
        if organization["id"]:
            _furnish_organization(world, organization, since)
    for project in world.projects.values():
        _furnish_project(world, project, since)
    _odd_jobs(world, next(iter(world.projects.values())))
    workflows = [row for rows in list(world.rows["workflows"].values()) for row in rows if row["id"]]
    jobs = {job["id"]: job for row in workflows for job in world.rows["jobs"][row["id"]] if job["type"] != "approval"}
    for place, job in enumerate(jobs.values()):
        if place % every == 0:
            _furnish_job(world, job, place)
    world.number_jobs()
    return world


def _furnish_organization(world: World, organization: Row, since: datetime) -> None:
    day = timedelta(days=1)
    labels = [{"key": "tier", "value": "1"}]
    shop = world.add_component(organization, "shop", since, labels=labels, updated_at=seconds(since + day))
    world.add_component(organization, "never-deployed", since, project_id=ABSENT)
    world.add_version(shop, "1.0.0", since, is_live=False)
    world.add_version(shop, "1.0.1", since + day, namespace="", job_number=ABSENT)
    world.add_version(shop, "1.0.2", since + 2 * day, namespace=ABSENT, environment_id=None, workflow_id=None)
    for number in range(25):
        world.add_version(shop, f"2.0.{number}", since + 3 * day)
    statuses = ("PASS", "SOFT_FAIL", "HARD_FAIL", "ERROR")
    for number in range(24):
        world.add_decision(organization, since + number * day / 1.3, statuses[number % len(statuses)])
    world.add_decision(organization, since + day / 3, metadata={}, policies=ABSENT, decision={"status": "PASS"})
    for number, context in enumerate(world.rows["context"][organization["id"]]):
        world.add_variable(context, "TOKEN", since)
        world.add_variable(context, "OLD", since, truncated_value=ABSENT, updated_at=None)
        if number == 0:
            for more in range(25):
                world.add_variable(context, f"MANY_{more}", since)
            world.add_restriction(context, 'pipeline.git.branch == "main"', kind="expression")
            world.add_restriction(context, world.me["id"], kind="group", name="All members")
    for context in world.rows["context"][organization["id"]]:
        for project in world.projects.values():
            if project["organization_id"] == organization["id"]:
                world.add_restriction(context, project["id"], name=project["name"])


def _furnish_project(world: World, project: Row, since: datetime) -> None:
    world.add_variable(project, "NPM_TOKEN", since)
    world.add_variable(project, "ANCIENT", since, **{"created-at": None})
    for number in range(22):
        world.add_variable(project, f"MANY_{number}", since)
    world.add_checkout_key(project, since)
    world.add_checkout_key(project, since, type="github-user-key", preferred=False)
    world.add_webhook(project, "chat", since)
    world.add_webhook(project, "plain", since, url="https://hooks.example/plain", events=[], **{"verify-tls": False})
    world.add_ghost(project, since)
    world.add_build(project, since + timedelta(days=15))
    world.add_build(project, since + timedelta(days=16), lifecycle="scheduled", why="retry", retry_of=1, user=None)
    world.flaky_names.add("test_pay")
    flaky = {
        "workflow_created_at": stamp(since),
        "workflow_id": world.me["id"],
        "classname": "CartTest",
        "pipeline_number": 7,
        "workflow_name": "build / test",
        "test_name": "test_keeps_the_cart",
        "job_name": "unit-tests",
        "job_number": 12,
        "times_flaked": 3,
        "source": "junit",
        "file": "tests/cart_test.py",
        "time_wasted": 480,
    }
    nameless = {**flaky, "classname": None, "file": None, "source": None}
    del nameless["time_wasted"]
    world.flaky[project["id"]] = [flaky, nameless, {**flaky, "test_name": "test_pays", "classname": "PayTest"}]


def _odd_jobs(world: World, project: Row) -> None:
    """A workflow with a slash and blanks in its name, an approval with a number, and a rerun from failed."""
    pipeline = world.add_pipeline(project, world.now - timedelta(days=1, hours=2))
    specs: list[str | Row] = [
        "unit tests / 3.11",
        {"name": "approve", "type": "approval", "job_number": 900_001},
        {"name": "old", "status": "infrastructure_fail"},
        {"name": "skipped", "status": "not_run", "started_at": None, "stopped_at": ABSENT},
        "deploy?now",
    ]
    world.add_workflow(pipeline, "build / test: 100% #1", stopped_at=timedelta(minutes=30), status="failed", jobs=specs)
    world.rerun(pipeline, world.now - timedelta(hours=3))
    world.add_workflow(pipeline, "deploy", stopped_at=None, jobs=["build", {"name": "hold", "type": "approval"}])
    # Artifacts expire after 30 days, and insights go 90 days back, of which the first is not a whole one.
    for ago in (timedelta(days=40), timedelta(days=89, hours=6), timedelta(days=89, hours=20)):
        old = world.add_pipeline(project, world.now - ago)
        workflow = world.add_workflow(old, "build / test: 100% #1", stopped_at=timedelta(minutes=3))
        for place, job in enumerate(world.rows["jobs"][workflow["id"]]):
            _furnish_job(world, job, place)


def _furnish_job(world: World, job: Row, place: int) -> None:
    """Some tests, more than a page of them in places, and an artifact of each node."""
    test = {
        "name": "test_cart",
        "classname": "CartTest",
        "file": "tests/cart_test.py",
        "result": "success",
        "run_time": 0.25,
        "message": "",
        "source": "junit",
        "source_type": "junit",
    }
    failed = {**test, "name": "test_pay", "result": "failure", "run_time": "1.5e1", "message": "1 != 2\n\x00 \u2028"}
    bare = {"name": "test_bare", "classname": "", "result": "skipped", "run_time": 0}
    bare |= {"message": None, "file": None, "source": None}
    many = [{**test, "name": f"test_{number}"} for number in range(25 * (place % 4 == 0))]
    world.tests[job["id"]] = [test, failed, bare, dict(test), *many]
    root = f"https://output.circle-artifacts.com/output/job/{job['id']}/artifacts"
    world.artifacts[job["id"]] = [
        {"path": path, "node_index": node, "url": f"{root}/{node}/{path}"}
        for path in ("log.txt", "site/index \u00fc.html")
        for node in range(2)
    ]
