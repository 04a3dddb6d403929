"""The streams that a user asks for by name: what is inside a job, insights, deploys, variables, keys and webhooks.

`World` and `Server` are those of the eleven streams, with these fourteen added. What a test does not add costs nothing:
details and insights are derived from jobs and workflows when they are asked for.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from statistics import mean, median, pstdev
from typing import Any

from tests.circleci import server as plain_server
from tests.circleci import world as plain_world
from tests.circleci.server import NULL_TOKEN, RefusedError
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
)
FINAL_JOBS = {
    "success",
    "failed",
    "canceled",
    "timedout",
    "infrastructure_fail",
    "terminated-unknown",
    "unauthorized",
    "not_run",
}
FINAL_WORKFLOWS = {"success", "failed", "error", "canceled", "unauthorized"}
KEPT = timedelta(days=30)
"""How long artifacts are there after their job has stopped."""
HISTORY = timedelta(days=90)
WINDOWS = {
    "last-24-hours": timedelta(days=1),
    "last-7-days": timedelta(days=7),
    "last-30-days": timedelta(days=30),
    "last-60-days": timedelta(days=60),
    "last-90-days": HISTORY,
}
_STORED = ("deploy_components", "deploy_versions", "context_variables", "context_restrictions")
_HYPHENATED = ("project_variables", "checkout_keys", "webhooks")
_RESOURCES = ("small", "medium", "medium+", "large")
_EXECUTORS = ("docker", "machine", "macos")

Run = tuple[Row, Row]
"""A finished workflow, and its pipeline."""


class World(plain_world.World):
    """A world that has the extra streams too.

    `tests` and `artifacts` hold rows by the job's id, `flaky` by the project's. A refusal marked with a job's id holds
    for what is inside it.
    """

    def __init__(self, now: datetime, token: str = plain_world.TOKEN) -> None:
        super().__init__(now, token)
        self.tests: dict[str, list[Row]] = {}
        self.artifacts: dict[str, list[Row]] = {}
        self.flaky: dict[str, list[Row]] = {}
        #: Tell flaky tests with hyphens, as they are documented, instead of underscores, as they are seen.
        self.hyphens = False
        #: How long after its end a workflow shows in the insights.
        self.insights_delay = timedelta(0)
        self.rows |= {stream: defaultdict(list) for stream in (*_STORED, *_HYPHENATED)}
        self._extra_chance = random.Random(3)
        self._numbered: tuple[int, dict[tuple[str, int], tuple[Row, Row]]] = (0, {})

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

    # What of it shows

    def seen(self, stream: str, parent: str) -> list[Row]:
        """The rows of a parent that show now, in the service's order and spelling."""
        rows = super().seen(stream, parent)
        return [underscored(row) for row in rows] if stream in _HYPHENATED and self.underscores else rows

    def job(self, project: str, number: int) -> tuple[Row, Row] | None:
        """The job of this number as it shows now, and the workflow that ran it; none for an approval."""
        count, known = self._numbered
        if count != len(self.index) or (project, number) not in known:
            self._numbered = count, known = len(self.index), self._jobs_by_number()
        row, workflow = known.get((project, number), ({}, {}))
        if row.get("type") in (None, "approval"):
            return None
        shown = next(job for job in self.seen("jobs", workflow["id"]) if job["id"] == row["id"])
        return (shown, workflow) if shown.get("job_number") == number else None

    def _jobs_by_number(self) -> dict[tuple[str, int], tuple[Row, Row]]:
        """Every job that has a number, with its oldest workflow: a rerun lists it once more but did not run it."""
        found: dict[tuple[str, int], tuple[Row, Row]] = {}
        for identifier, jobs in self.rows["jobs"].items():
            workflow = self.index[identifier][1]
            project = self._parents[workflow["pipeline_id"]]
            for job in jobs:
                if "job_number" in job:
                    found.setdefault((project, job["job_number"]), (job, workflow))
                    self._parents.setdefault(job["id"], identifier)
        return found

    def details(self, job: Row, workflow: Row) -> Row:
        """The details of a job, all derived from its row."""
        number = job["job_number"]
        project = self.projects[self._parents[workflow["pipeline_id"]]]
        started = moment(job["started_at"] or workflow["created_at"])
        stopped = moment(job["stopped_at"]) if job.get("stopped_at") else None
        queued = started - timedelta(seconds=2 + number % 5, milliseconds=250)
        parallelism = 1 + 2 * (number % 4 == 0)
        home = {
            "id": project["id"],
            "slug": project["slug"],
            "name": project["name"],
            "external_url": project["vcs_info"]["vcs_url"],
        }
        if number % 2:
            del home["id"]
        return {
            "web_url": f"https://circleci.com/{project['slug']}/{number}",
            "project": home,
            "parallel_runs": [{"index": index, "status": job["status"]} for index in range(parallelism)],
            "started_at": job["started_at"] and stamp(started),
            "latest_workflow": {"id": workflow["id"], "name": workflow["name"]},
            "name": job["name"],
            "executor": {
                "resource_class": _RESOURCES[number % len(_RESOURCES)],
                "type": _EXECUTORS[number % len(_EXECUTORS)],
            },
            "parallelism": parallelism,
            "status": job["status"],
            "number": number,
            "pipeline": {"id": workflow["pipeline_id"]},
            "duration": int((stopped - started).total_seconds() * 1000) if stopped else None,
            "created_at": stamp(queued - timedelta(milliseconds=23)),
            "messages": [{"type": "warning", "message": "Old image.", "reason": "deprecated"}] * (number % 7 == 0),
            "contexts": [{"name": "docker-hub"}] * (number % 3 == 0),
            "organization": {"name": project["organization_name"]},
            "queued_at": stamp(queued),
            "stopped_at": stopped and stamp(stopped),
        }

    def artifacts_of(self, job: Row) -> list[Row]:
        """The artifacts of a job, none once they have expired."""
        expired = job.get("stopped_at") and moment(job["stopped_at"]) < self.now - KEPT
        return [] if expired else self.artifacts.get(job["id"], [])

    # Insights

    def runs(self, project: str, since: datetime, until: datetime, branch: str | None = None) -> Iterator[Run]:
        """The finished workflows of a project created in [since, until), newest pipeline first, as insights know them.

        A branch limits them to its pipelines.
        """
        first, end = max(since, self.now - HISTORY), min(until, self.now)
        for pipeline in self.pipelines([project]):
            if branch in (None, _branch(pipeline)):
                for row in self.seen("workflows", pipeline["id"]):
                    stopped = row["stopped_at"] and moment(row["stopped_at"])
                    if (
                        row["id"]
                        and row["status"] in FINAL_WORKFLOWS
                        and stopped
                        and stopped + self.insights_delay <= self.now
                        and first <= moment(row["created_at"]) < end
                    ):
                        yield row, pipeline

    def run_of(self, workflow: Row, pipeline: Row) -> Row:
        """A finished workflow as insights tell it: without a branch where there is none."""
        branch = _branch(pipeline)
        return {
            "id": workflow["id"],
            **({"branch": branch} if branch else {}),
            "duration": _lasted(workflow),
            "created_at": stamp(moment(workflow["created_at"])),
            "stopped_at": stamp(moment(workflow["stopped_at"])),
            "credits_used": _credits(workflow),
            "status": workflow["status"],
            "is_approval": any(job["type"] == "approval" for job in self.rows["jobs"].get(workflow["id"], [])),
        }

    def workflow_metrics(self, project: str, runs: Iterable[Run], window: timedelta = HISTORY) -> list[Row]:
        """The metrics of each workflow among these runs, by name."""
        by_name: defaultdict[str, list[Row]] = defaultdict(list)
        for row, _ in runs:
            by_name[row["name"]].append(row)
        found = []
        for name, rows in sorted(by_name.items()):
            metrics = _metrics(rows, window)
            credit = [_credits(row) for row in rows]
            metrics |= {"mttr": None if not metrics["failed_runs"] else 60, "total_recoveries": 0}
            metrics |= {"median_credits_used": int(median(credit))}
            metrics["duration_metrics"]["total_duration"] = sum(map(_lasted, rows))
            found.append({"name": name, "metrics": metrics, **_window(rows), "project_id": project})
        return found

    def job_metrics(self, runs: Iterable[Run], window: timedelta = HISTORY) -> list[Row]:
        """The metrics of each job of these runs, by name; a job that a rerun lists again counts once."""
        by_name: defaultdict[str, dict[str, Row]] = defaultdict(dict)
        for workflow, _ in runs:
            for job in self.seen("jobs", workflow["id"]):
                if job["type"] != "approval" and job.get("started_at") and job.get("stopped_at"):
                    by_name[job["name"]][job["id"]] = job
        return [
            {"name": name, "metrics": _metrics([*jobs.values()], window), **_window([*jobs.values()])}
            for name, jobs in sorted(by_name.items())
        ]


class Server(plain_server.Server):
    """A server that answers for the extra streams too."""

    world: World
    #: Rows in a page of insights.
    insights_page_size = 250

    def _resource(self, parts: list[str], query: dict[str, str]) -> Any:  # noqa: PLR0912 - a table of routes
        match parts[2:] if parts[:2] == ["api", "v2"] else []:
            case ["project", *slug, "job", number] if len(slug) == 3:
                return self.world.details(*self._job("job_details", slug, number))
            case ["project", *slug, number, "tests"] if len(slug) == 3:
                job, _ = self._job("tests", slug, number)
                return self._page(self.world.tests.get(job["id"], []), query)
            case ["project", *slug, number, "artifacts"] if len(slug) == 3:
                job, _ = self._job("artifacts", slug, number)
                return self._page(self.world.artifacts_of(job), query)
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
            case ["insights", *slug, "workflows"] if len(slug) == 3:
                project = self._project("insights_workflows", slug)
                runs = self._runs(project, query)
                rows = self.world.workflow_metrics(project["id"], runs, _reporting(query))
                return self._page(rows, query, self.insights_page_size)
            case ["insights", *slug, "workflows", name] if len(slug) == 3:
                project = self._project("insights_workflow_runs", slug)
                rows = [self.world.run_of(*run) for run in self._runs(project, query) if run[0]["name"] == name]
                return self._page(rows, query, self.insights_page_size)
            case ["insights", *slug, "workflows", name, "jobs"] if len(slug) == 3:
                runs = self._runs(self._project("insights_jobs", slug), query)
                named = [run for run in runs if run[0]["name"] == name]
                return self._page(self.world.job_metrics(named, _reporting(query)), query, self.insights_page_size)
            case ["deploy", "components"]:
                return self._list("deploy_components", query.get("org-id"), query, last={"next_page_token": ""})
            case ["deploy", "components", component, "versions"]:
                return self._list("deploy_versions", component, query, last={}, paged=False)
            case ["context", context, "environment-variable"]:
                return self._list("context_variables", context, query)
            case ["context", context, "restrictions"]:
                return self._list("context_restrictions", context, query)
        return super()._resource(parts, query)

    def _job(self, stream: str, slug: list[str], number: str) -> tuple[Row, Row]:
        project = self._project(stream, slug)
        found = self.world.job(project["id"], int(number)) if number.isdecimal() else None
        if found is None:
            raise RefusedError(404, "Job not found")
        self._refuse(stream, found[0]["id"])
        return found

    def _flaky(self, slug: list[str]) -> Row:
        project = self._project("flaky_tests", slug)
        if not has_flaky_tests(project):
            raise RefusedError(400, "Unsupported organization.")
        rows = self.world.flaky.get(project["id"], [])
        if self.world.hyphens:
            rows = [{name.replace("_", "-"): value for name, value in row.items()} for row in rows]
            return {"flaky-tests": rows, "total-flaky-tests": len(rows)}
        return {"flaky_tests": rows, "total_flaky_tests": len(rows)}

    def _runs(self, project: Row, query: Mapping[str, str]) -> Iterator[Run]:
        """The finished workflows that the parameters of a request mean: of the default branch unless they say so."""
        every = query.get("all-branches") == "true"
        branch = None if every else query.get("branch", project["vcs_info"]["default_branch"])
        return self.world.runs(project["id"], *_dates(query, self.world.now), branch)

    def _page(self, rows: Sequence[Row], query: Mapping[str, str], size: int = 0) -> Row:
        return plain_server.page(rows, query, size or self.page_size, NULL_TOKEN)


def has_flaky_tests(project: Row) -> bool:
    """Whether the project's organization is of a kind for which the service looks for flaky tests."""
    return not project["slug"].startswith("circleci/")


def underscored(row: Row) -> Row:
    """The row with underscores instead of hyphens in the names of its fields."""
    return {key.replace("-", "_"): value for key, value in row.items()}


def _reporting(query: Mapping[str, str]) -> timedelta:
    window = WINDOWS.get(query.get("reporting-window", "last-90-days"))
    if window is None:
        raise RefusedError(400, "Invalid reporting-window.")
    return window


def _dates(query: Mapping[str, str], now: datetime) -> tuple[datetime, datetime]:
    """The span that a request means: its dates, both or none, within the last 90 days, or else its window."""
    if "start-date" not in query and "end-date" not in query:
        return now - _reporting(query), now
    try:
        start, end = (moment(query[name]) for name in ("start-date", "end-date"))
        is_known = now - HISTORY <= start and end - start <= HISTORY
    except (KeyError, TypeError, ValueError):
        is_known = False
    if not is_known:
        raise RefusedError(400, "start-date and end-date go together, within the last 90 days.")
    return start, end


def _branch(pipeline: Row) -> str | None:
    branch: str | None = pipeline.get("vcs", {}).get("branch")
    return branch


def _lasted(row: Row) -> int:
    """How many seconds a finished workflow or job took."""
    begun = moment(row.get("started_at") or row["created_at"])
    return int((moment(row["stopped_at"]) - begun).total_seconds())


def _credits(row: Row) -> int:
    """What a finished workflow or job cost: ten credits a minute."""
    return _lasted(row) // 6


def _window(rows: Sequence[Row]) -> Row:
    begun = min(moment(row.get("started_at") or row["created_at"]) for row in rows)
    return {"window_start": stamp(begun), "window_end": stamp(max(moment(row["stopped_at"]) for row in rows))}


def _metrics(rows: Sequence[Row], window: timedelta) -> Row:
    lengths = sorted(map(_lasted, rows))
    statuses = [row["status"] for row in rows]
    return {
        "total_runs": len(rows),
        "successful_runs": statuses.count("success"),
        "failed_runs": statuses.count("failed"),
        "success_rate": statuses.count("success") / len(rows),
        "throughput": len(rows) / window.days,
        "total_credits_used": sum(map(_credits, rows)),
        "duration_metrics": {
            "min": lengths[0],
            "mean": int(mean(lengths)),
            "median": int(median(lengths)),
            "p95": lengths[(len(lengths) * 95 - 1) // 100],
            "max": lengths[-1],
            "standard_deviation": round(pstdev(lengths), 1),
        },
    }


# What a tap should make of it


def truth(world: World, slugs: Iterable[str], start_date: datetime | None = None) -> dict[str, list[Row]]:
    """The rows of the fourteen streams as they show now, in the names of the tables, less those nobody can get at.

    Those below jobs are of the pipelines created since `start_date`, and so are the runs of workflows.
    """
    slugs = list(slugs)
    base = world.truth(slugs, start_date)
    rows: dict[str, list[Row]] = {stream: [] for stream in EXTRAS}
    for organization in base["collaborations"]:
        own = {"organization_id": organization["id"]}
        for component in _reached(world, "deploy_components", organization["id"]):
            rows["deploy_components"].append(component | own)
            for row in _reached(world, "deploy_versions", component["id"]):
                keys = {name: row.get(name) or "" for name in ("environment_id", "namespace", "name")}
                rows["deploy_versions"].append({**row, **keys, **own, "component_id": component["id"]})
    for context in base["context"]:
        own = {"context_id": context["id"], "organization_id": context["organization_id"]}
        for stream in ("context_variables", "context_restrictions"):
            rows[stream] += [row | own for row in _reached(world, stream, context["id"])]
    chosen = {row["id"] for row in map(world.project, slugs) if row}
    for project in base["project"]:
        if project["id"] in chosen:
            for stream, found in _of_project(world, world.projects[project["id"]], start_date).items():
                rows[stream] += found
    for job, keys in _asked(base["jobs"]):
        for stream, found in _inside(world, job, keys).items():
            rows[stream] += found
    return {stream: [_bare(row) for row in found] for stream, found in rows.items()}


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
    if world.refusal("insights_workflows", identifier):
        return rows
    runs = list(world.runs(identifier, world.now - HISTORY, world.now))
    rows["insights_workflows"] = [row | own for row in world.workflow_metrics(identifier, runs)]
    if not world.refusal("insights_workflow_runs", identifier):
        midnight = (world.now - HISTORY).replace(hour=0, minute=0, second=0, microsecond=0)
        first = max(midnight + timedelta(days=1), start_date or midnight)
        rows["insights_workflow_runs"] = [
            world.run_of(row, pipeline) | own | {"_workflow_name": row["name"]}
            for row, pipeline in runs
            if moment(row["created_at"]) >= first
        ]
    if not world.refusal("insights_jobs", identifier):
        rows["insights_jobs"] = [
            row | own | {"_workflow_name": name}
            for name in sorted({row["name"] for row, _ in runs})
            for row in world.job_metrics(run for run in runs if run[0]["name"] == name)
        ]
    return rows


def _asked(jobs: Iterable[Row]) -> Iterator[tuple[Row, Row]]:
    """The jobs inside which a tap looks, each once, with the columns that tell their rows whose they are."""
    done = set()
    for job in jobs:
        key = (job["_pipeline_id"], job["id"])
        is_final = job["status"] in FINAL_JOBS and job.get("stopped_at")
        if is_final and job.get("job_number") and job["type"] != "approval" and key not in done:
            done.add(key)
            yield (
                job,
                {
                    "_job_id": job["id"],
                    "_pipeline_id": job["_pipeline_id"],
                    "project_slug": job["project_slug"],
                    "job_number": job["job_number"],
                },
            )


def _inside(world: World, job: Row, keys: Row) -> dict[str, list[Row]]:
    """The rows of the streams that are read once for a job."""
    project = world.project(job["project_slug"]) or {}
    found = world.job(project["id"], job["job_number"])
    assert found is not None
    lists = {
        "job_details": [world.details(*found)],
        "tests": [_test(row, place) for place, row in enumerate(world.tests.get(job["id"], []))],
        "artifacts": world.artifacts_of(job),
    }
    return {
        stream: [row | keys for row in rows] for stream, rows in lists.items() if not world.refusal(stream, job["id"])
    }


def _test(row: Row, place: int) -> Row:
    run_time = row.get("run_time")
    return {**row, "_index": place, "run_time": float(run_time) if isinstance(run_time, str) else run_time}


# Some of everything


def furnish(world: World, every: int = 3) -> World:
    """Give a world all fourteen streams with their oddities, and its first project a pipeline of odd names and jobs.

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
    jobs = {job["id"]: job for row in workflows for job in world.rows["jobs"][row["id"]] if job.get("job_number")}
    for place, job in enumerate(jobs.values()):
        if place % every == 0:
            _furnish_job(world, job, place)
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
