"""What is inside a job: its details, tests and artifacts.

Details are derived from jobs and workflows when they are asked for; tests and artifacts are what a test adds.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from tests.circleci import server as plain_server
from tests.circleci import world as plain_world
from tests.circleci.server import NULL_TOKEN, RefusedError
from tests.circleci.world import Row, moment, stamp

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
KEPT = timedelta(days=30)
"""How long artifacts are there after their job has stopped."""
_RESOURCES = ("small", "medium", "medium+", "large")
_EXECUTORS = ("docker", "machine", "macos")


class World(plain_world.World):
    """A world whose jobs have something in them.

    `tests` and `artifacts` hold rows by the job's id. A refusal marked with a job's id holds for what is inside it.
    """

    def __init__(self, now: datetime, token: str = plain_world.TOKEN) -> None:
        super().__init__(now, token)
        self.tests: dict[str, list[Row]] = {}
        self.artifacts: dict[str, list[Row]] = {}

    def job(self, project: str, number: int) -> tuple[Row, Row] | None:
        """The job of this number as it shows now, and the workflow that ran it; none for an approval."""
        self.job_numbers.give(project, stamp(self.now)[:19] + "Z")
        run = self.job_numbers.run(project, number)
        if run is None or run.workflow is None:
            return None
        shown = next(job for job in self.seen("jobs", run.workflow["id"]) if job["id"] == run.job["id"])
        return (shown, run.workflow) if shown.get("job_number") == number else None

    def details(self, job: Row, workflow: Row) -> Row:
        """The details of a job, all derived from its row."""
        number = job["job_number"]
        project = self.projects[self._parents[workflow["pipeline_id"]]]
        started = moment(job["started_at"] or workflow["created_at"])
        stopped = moment(job["stopped_at"]) if job.get("stopped_at") else None
        queued = self.queued_since.get(job["id"]) or started - timedelta(seconds=2 + number % 5, milliseconds=250)
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


class Server(plain_server.Server):
    """A server that answers for what is inside jobs."""

    world: World

    def _resource(self, parts: list[str], query: dict[str, str]) -> Any:
        match parts:
            case ["api", "v2", "project", *slug, "job", number] if len(slug) == 3:
                return self.world.details(*self._job("job_details", slug, number))
            case ["api", "v2", "project", *slug, number, "tests"] if len(slug) == 3:
                job, _ = self._job("tests", slug, number)
                return self._page(self.world.tests.get(job["id"], []), query)
            case ["api", "v2", "project", *slug, number, "artifacts"] if len(slug) == 3:
                job, _ = self._job("artifacts", slug, number)
                return self._page(self.world.artifacts_of(job), query)
        return super()._resource(parts, query)

    def _job(self, stream: str, slug: list[str], number: str) -> tuple[Row, Row]:
        project = self._project(stream, slug)
        found = self.world.job(project["id"], int(number)) if number.isdecimal() else None
        if found is None:
            raise RefusedError(404, "Job not found")
        self._refuse(stream, found[0]["id"])
        return found

    def _page(self, rows: Sequence[Row], query: Mapping[str, str], size: int = 0) -> Row:
        return plain_server.page(rows, query, size or self.page_size, NULL_TOKEN)


# What a tap should make of it


def asked(jobs: Iterable[Row], workflows: Iterable[Row]) -> Iterator[tuple[Row, Row]]:
    """The jobs of these workflows inside which a tap looks, each once, with the columns that tell whose rows they are.

    A job without a time of its end, as canceled ones may be, is final once its workflow has ended.
    """
    ended = {row["id"] for row in workflows if row["stopped_at"]}
    done = set()
    for job in jobs:
        key = (job["_pipeline_id"], job["id"])
        is_final = job["status"] in FINAL_JOBS and (job.get("stopped_at") or job["_workflow_id"] in ended)
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


def inside(world: World, job: Row, keys: Row) -> dict[str, list[Row]]:
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
