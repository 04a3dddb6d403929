"""Insights: figures over the finished workflows of the last 90 days, derived when they are asked for."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from statistics import mean, median, pstdev
from typing import Any

from tests.circleci import inside_jobs
from tests.circleci import world as plain_world
from tests.circleci.server import RefusedError
from tests.circleci.world import Row, moment, stamp

FINAL_WORKFLOWS = {"success", "failed", "error", "canceled", "unauthorized"}
HISTORY = timedelta(days=90)
WINDOWS = {
    "last-24-hours": timedelta(days=1),
    "last-7-days": timedelta(days=7),
    "last-30-days": timedelta(days=30),
    "last-60-days": timedelta(days=60),
    "last-90-days": HISTORY,
}
GRANULARITIES = {"daily": (10, HISTORY), "hourly": (13, timedelta(hours=48))}
"""How much of a time names an interval, and how long the figures are kept."""
LATEST = 10
"""How many runs of a workflow count for the metrics of its tests."""
LISTED = 10
"""How many tests are told of in each list of them."""

Run = tuple[Row, Row]
"""A finished workflow, and its pipeline."""
TestKey = tuple[str, str | None, str]
"""The names of a job, a class and a test."""


class World(inside_jobs.World):
    """A world with insights."""

    def __init__(self, now: datetime, token: str = plain_world.TOKEN) -> None:
        super().__init__(now, token)
        #: How long after its end a workflow shows in the insights.
        self.insights_delay = timedelta(0)
        #: The tests of which insights say that they are flaky, by their names.
        self.flaky_names: set[str] = set()

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
            for job in self._jobs_run(workflow):
                by_name[job["name"]][job["id"]] = job
        return [
            {"name": name, "metrics": _metrics([*jobs.values()], window), **_window([*jobs.values()])}
            for name, jobs in sorted(by_name.items())
        ]

    def job_times(self, runs: Iterable[Run], first: datetime, end: datetime, granularity: str) -> list[Row]:
        """The figures of each job and day (or hour) over the jobs of these runs that began in [first, end)."""
        length, kept = GRANULARITIES[granularity]
        first = max(first, self.now - kept)
        groups: defaultdict[tuple[str, str], dict[str, Row]] = defaultdict(dict)
        for workflow, _ in runs:
            for job in self._jobs_run(workflow):
                if first <= moment(job["started_at"]) < end:
                    groups[job["started_at"][:length], job["name"]][job["id"]] = job
        return [
            {
                "name": name,
                "timestamp": interval + "T00:00:00.000Z"[length - 10 :],
                "min_started_at": min(stamp(moment(job["started_at"])) for job in jobs.values()),
                "max_ended_at": max(stamp(moment(job["stopped_at"])) for job in jobs.values()),
                "metrics": _interval_metrics([*jobs.values()]),
            }
            for (interval, name), jobs in sorted(groups.items())
        ]

    def organization_summary(self, organization: str, window: timedelta) -> Row:
        """The figures of an organization and of each of its projects that had runs."""
        homes = [row for row in self.projects.values() if row["organization_id"] == organization]
        runs = {row["name"]: [run for run, _ in self.runs(row["id"], self.now - window, self.now)] for row in homes}
        everything = [run for found in runs.values() for run in found]
        return {
            "org_data": _summary(everything, window, ("total_runs", "total_duration_secs", "throughput")),
            "org_project_data": [
                {"project_name": name, **_summary(found, window, ("total_runs", "total_duration_secs"))}
                for name, found in sorted(runs.items())
                if found
            ],
            "all_projects": sorted(runs),
        }

    def project_summary(self, project: Row, window: timedelta) -> Row:
        """The figures of a project, of its workflows, and of each workflow on each branch."""
        runs = list(self.runs(project["id"], self.now - window, self.now))
        by_branch: defaultdict[tuple[str, str], list[Row]] = defaultdict(list)
        by_name: defaultdict[str, list[Row]] = defaultdict(list)
        for run, pipeline in runs:
            by_name[run["name"]].append(run)
            if _branch(pipeline):
                by_branch[run["name"], str(_branch(pipeline))].append(run)
        figures = ("total_runs", "p95_duration_secs")
        return {
            "org_id": project["organization_id"],
            "project_id": project["id"],
            "project_data": _summary([run for run, _ in runs], window, ("total_runs", "total_duration_secs")),
            "project_workflow_data": [
                {"workflow_name": name, **_summary(found, window, figures)} for name, found in sorted(by_name.items())
            ],
            "project_workflow_branch_data": [
                {"workflow_name": name, "branch": branch, **_summary(found, window, figures)}
                for (name, branch), found in sorted(by_branch.items())
            ],
            "all_branches": sorted({branch for _, branch in by_branch}),
            "all_workflows": sorted(by_name),
        }

    def test_metrics(self, runs: Iterable[Run]) -> Row:
        """The figures of the tests in the latest of these runs of one workflow: a test may be in both lists."""
        latest = sorted(runs, key=lambda run: run[0]["created_at"], reverse=True)[:LATEST]
        by_test: defaultdict[TestKey, list[Row]] = defaultdict(list)
        for workflow, _ in latest:
            for job in self._jobs_run(workflow):
                for test in self.tests.get(job["id"], []):
                    by_test[job["name"], test.get("classname"), test["name"]].append(test)
        rows = [self._test_row(*test) for test in by_test.items()]
        failed = sorted((row for row in rows if row["failed_runs"]), key=lambda row: -row["failed_runs"])
        slowest = sorted(rows, key=lambda row: -row["p95_duration"])
        return {
            "average_test_count": len(rows),
            "most_failed_tests": failed[:LISTED],
            "most_failed_tests_extra": max(0, len(failed) - LISTED),
            "slowest_tests": slowest[:LISTED],
            "slowest_tests_extra": max(0, len(slowest) - LISTED),
            "total_test_runs": sum(row["total_runs"] for row in rows),
            "test_runs": [
                {
                    "pipeline_number": pipeline["number"],
                    "workflow_id": workflow["id"],
                    "success_rate": 1.0,
                    "test_counts": {"error": 0, "failure": 0, "skipped": 0, "success": 1, "total": 1},
                }
                for workflow, pipeline in latest
            ],
        }

    def _test_row(self, key: TestKey, found: list[Row]) -> Row:
        job, classname, name = key
        lengths = sorted(float(test["run_time"]) for test in found)
        return {
            "job_name": job,
            "classname": classname,
            "test_name": name,
            "file": found[0].get("file"),
            "source": found[0].get("source"),
            "total_runs": len(found),
            "failed_runs": sum(test["result"] == "failure" for test in found),
            "p95_duration": _p95(lengths),
            "flaky": name in self.flaky_names,
        }

    def _jobs_run(self, workflow: Row) -> Iterator[Row]:
        """The jobs of a workflow that have run; approvals do not."""
        for job in self.seen("jobs", workflow["id"]):
            if job["type"] != "approval" and job.get("started_at") and job.get("stopped_at"):
                yield job


class Server(inside_jobs.Server):
    """A server that answers for insights."""

    world: World
    #: Rows in a page of insights.
    insights_page_size = 250

    def _resource(self, parts: list[str], query: dict[str, str]) -> Any:
        match parts[3:] if parts[:3] == ["api", "v2", "insights"] else []:
            case [*slug, "workflows"] if len(slug) == 3:
                project = self._project("insights_workflows", slug)
                runs = self._runs(project, query)
                rows = self.world.workflow_metrics(project["id"], runs, _reporting(query))
                return self._page(rows, query, self.insights_page_size)
            case [*slug, "workflows", name] if len(slug) == 3:
                project = self._project("insights_workflow_runs", slug)
                rows = [self.world.run_of(*run) for run in self._runs(project, query) if run[0]["name"] == name]
                return self._page(rows, query, self.insights_page_size)
            case [*slug, "workflows", name, "jobs"] if len(slug) == 3:
                named = self._named(self._project("insights_jobs", slug), name, query)
                return self._page(self.world.job_metrics(named, _reporting(query)), query, self.insights_page_size)
            case [*slug, "workflows", name, "test-metrics"] if len(slug) == 3:
                project = self._project("insights_tests", slug)
                return self.world.test_metrics(self._named(project, name, query))
            case ["time-series", *slug, "workflows", name, "jobs"] if len(slug) == 3:
                return self._job_times(self._project("insights_job_days", slug), name, query)
            case ["pages", *slug, "summary"] if len(slug) == 3:
                return self.world.project_summary(self._project("insights_branches", slug), _reporting(query))
            case [*slug, "summary"] if len(slug) == 2:
                organization = self.world.organization("/".join(slug))
                if organization is None:
                    raise RefusedError(404, "Organization not found")
                self._refuse("insights_projects", organization["id"])
                return self.world.organization_summary(organization["id"], _reporting(query))
        return super()._resource(parts, query)

    def _job_times(self, project: Row, name: str, query: Mapping[str, str]) -> Row:
        granularity = query.get("granularity", "daily")
        if granularity not in GRANULARITIES:
            raise RefusedError(400, "Invalid granularity.")
        first, end = _dates(query, self.world.now)
        dateless = {key: value for key, value in query.items() if key not in ("start-date", "end-date", "all-branches")}
        rows = self.world.job_times(self._named(project, name, dateless), first, end, granularity)
        return self._page(rows, query, self.insights_page_size)

    def _named(self, project: Row, name: str, query: Mapping[str, str]) -> list[Run]:
        return [run for run in self._runs(project, query) if run[0]["name"] == name]

    def _runs(self, project: Row, query: Mapping[str, str]) -> Iterator[Run]:
        """The finished workflows that the parameters of a request mean: of the default branch unless they say so."""
        every = query.get("all-branches") == "true"
        branch = None if every else query.get("branch", project["vcs_info"]["default_branch"])
        return self.world.runs(project["id"], *_dates(query, self.world.now), branch)


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
            "p95": _p95(lengths),
            "max": lengths[-1],
            "standard_deviation": round(pstdev(lengths), 1),
        },
    }


def _interval_metrics(jobs: list[Row]) -> Row:
    lengths, spent = sorted(map(_lasted, jobs)), [_credits(job) for job in jobs]
    statuses = [job["status"] for job in jobs]
    return {
        "total_runs": len(jobs),
        "failed_runs": statuses.count("failed"),
        "successful_runs": statuses.count("success"),
        "throughput": float(len(jobs)),
        "median_credits_used": int(median(spent)),
        "total_credits_used": sum(spent),
        "duration_metrics": {
            "min": lengths[0],
            "median": int(median(lengths)),
            "max": lengths[-1],
            "p95": _p95(lengths),
            "total": sum(lengths),
        },
    }


def _summary(runs: list[Row], window: timedelta, more: tuple[str, ...]) -> Row:
    """Metrics and trends over some runs: those that all summaries have, and `more`."""
    lengths = sorted(map(_lasted, runs))
    figures = {
        "total_runs": len(runs),
        "total_duration_secs": sum(lengths),
        "p95_duration_secs": float(_p95(lengths)) if lengths else 0.0,
        "throughput": len(runs) / window.days,
        "total_credits_used": sum(map(_credits, runs)),
        "success_rate": sum(run["status"] == "success" for run in runs) / max(1, len(runs)),
    }
    names = (*more, "total_credits_used", "success_rate")
    return {
        "metrics": {name: figures[name] for name in names},
        "trends": {name: round(1 + len(name) / 100, 2) for name in names},
    }


def _p95(lengths: list[Any]) -> Any:
    """The 95th percentile of sorted lengths."""
    return lengths[(len(lengths) * 95 - 1) // 100]


# What a tap should make of it


def insights(world: World, project: Row, start_date: datetime | None) -> dict[str, list[Row]]:
    """The rows of insights that are read for a project."""
    slug = {"_project_slug": project["slug"]}
    rows: dict[str, list[Row]] = {}
    if not world.refusal("insights_branches", project["id"]):
        found = world.project_summary(project, HISTORY)["project_workflow_branch_data"]
        rows["insights_branches"] = [row | slug for row in found]
    if world.refusal("insights_workflows", project["id"]):
        return rows
    runs = list(world.runs(project["id"], world.now - HISTORY, world.now))
    rows["insights_workflows"] = [row | slug for row in world.workflow_metrics(project["id"], runs)]
    for name in sorted({row["name"] for row, _ in runs}):
        own = slug | {"_workflow_name": name}
        named = [run for run in runs if run[0]["name"] == name]
        for stream, found in _of_workflow(world, project, named, start_date).items():
            if not world.refusal(stream, project["id"]):
                rows[stream] = rows.get(stream, []) + [row | own for row in found]
    return rows


def _of_workflow(world: World, project: Row, runs: list[Run], start_date: datetime | None) -> dict[str, list[Row]]:
    """The rows of insights that are read for a workflow; whole days only, of the default branch, by days."""
    midnight = (world.now - HISTORY).replace(hour=0, minute=0, second=0, microsecond=0)
    oldest = midnight + timedelta(days=1)
    since = max(oldest, start_date or oldest)
    day = since.replace(hour=0, minute=0, second=0, microsecond=0)
    default = [run for run in runs if _branch(run[1]) == project["vcs_info"]["default_branch"]]
    tests = world.test_metrics(runs)
    listed = {
        (row["job_name"], row["classname"] or "", row["test_name"]): row | {"classname": row["classname"] or ""}
        for row in (*tests["most_failed_tests"], *tests["slowest_tests"])
    }
    return {
        "insights_workflow_runs": [world.run_of(*run) for run in runs if moment(run[0]["created_at"]) >= since],
        "insights_jobs": world.job_metrics(runs),
        "insights_job_days": world.job_times(default, day, world.now, "daily"),
        "insights_tests": list(listed.values()),
    }
