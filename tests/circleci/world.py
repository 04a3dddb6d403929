"""A CircleCI as plain data: what there is, and how much of it shows at the world's own time."""

import random
import uuid
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from itertools import count
from typing import Any

from tests.circleci.job_numbers import JobNumbers, Row

Moment = datetime | timedelta | None

STREAMS = (
    "collaborations",
    "context",
    "deploy",
    "groups",
    "project",
    "pipeline_definition",
    "trigger",
    "schedule",
    "pipelines",
    "workflows",
    "jobs",
)
PARENTS = {
    "context": "collaborations",
    "deploy": "collaborations",
    "groups": "collaborations",
    "project": "collaborations",
    "pipeline_definition": "project",
    "schedule": "project",
    "pipelines": "project",
    "trigger": "pipeline_definition",
    "workflows": "pipelines",
    "jobs": "workflows",
    "deploy_components": "collaborations",
    "deploy_versions": "deploy_components",
    "context_variables": "context",
    "context_restrictions": "context",
    "project_variables": "project",
    "checkout_keys": "project",
    "webhooks": "project",
    "policy_decisions": "collaborations",
}
NOT_FINAL = {"running", "failing", "on_hold", "queued"}
TOKEN = "secret-token"
PENDING = timedelta(seconds=3)

#: As a value given to a builder: leave this key out of the row.
ABSENT: Any = object()

_DIGITS = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_VCS = {"github": "gh", "bitbucket": "bb"}
_PROVIDERS = {"gh": ("GitHub", "https://github.com"), "bb": ("Bitbucket", "https://bitbucket.org")}


def stamp(moment: datetime) -> str:
    """The time as pipelines tell it: UTC with milliseconds."""
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds")[:23] + "Z"


def seconds(moment: datetime) -> str:
    """The time as workflows and jobs tell it: UTC in whole seconds."""
    return stamp(moment)[:19] + "Z"


def moment(text: str) -> datetime:
    """The UTC time that a stamp tells."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def short(identifier: str) -> str:
    """The base-58 form of a UUID that stands in the slugs of standalone projects."""
    number, digits = uuid.UUID(identifier).int, ""
    while number:
        number, digit = divmod(number, 58)
        digits = _DIGITS[digit] + digits
    return digits


def normal(slug: str) -> str:
    """The slug as the service writes it: gh and bb instead of github and bitbucket."""
    vcs, _, rest = slug.partition("/")
    return f"{_VCS.get(vcs, vcs)}/{rest}"


def age(pipeline: Row) -> tuple[str, str]:
    """The order of pipelines, oldest first."""
    return pipeline["created_at"], pipeline["id"]


def _past(text: str, now: str) -> bool:
    return text <= (now if len(text) > 20 else now[:19] + "Z")


def _row(fields: Row, extra: Row) -> Row:
    return {key: value for key, value in (fields | extra).items() if value is not ABSENT}


class World:
    """Organizations and all that is theirs, as it shows at `now`, which a test may set to any time.

    The add_ methods return the stored row, a plain dict that a test may change further (but for its id and
    created_at); keyword arguments beyond the named ones become fields of the row, ABSENT takes a field out.
    `rows[stream][parent id]` holds the rows. Times to come are stored at once: what has not happened at `now` does not
    show.

    `forbidden` (403), `missing` (404) and `unsupported` (400) hold ids, or pairs of a stream's name and an id, of an
    organization, project, definition, pipeline or workflow: an entry holds for all that is below it. The stream
    "lookup" stands for the look-up of a single project.
    """

    def __init__(self, now: datetime, token: str = TOKEN) -> None:
        self.now = now
        self.token = token
        self.organizations: list[Row] = []
        self.projects: dict[str, Row] = {}
        self.rows: dict[str, defaultdict[str, list[Row]]] = {stream: defaultdict(list) for stream in STREAMS}
        self.forbidden: set[str | tuple[str, str]] = set()
        self.missing: set[str | tuple[str, str]] = set()
        self.unsupported: set[str | tuple[str, str]] = set()
        #: Pipelines whose workflows are gone, and what their list then answers: "missing" (404), "empty" or "null" ids.
        self.aged_out: dict[str, str] = {}
        #: Tell schedules with underscores instead of hyphens.
        self.underscores = False
        self._owners: dict[str, Row] = {}
        self._slugs: dict[str, Row] = {}
        self._names: dict[str, Row] = {}
        self._parents: dict[str, str] = {}
        #: Stream and row of everything that can have parts, by id.
        self.index: dict[str, tuple[str, Row]] = {}
        self._chance = random.Random(2)
        self._numbers: defaultdict[str, Iterator[int]] = defaultdict(lambda: count(1))
        self.job_numbers = JobNumbers()
        #: Since when jobs are queued that wait longer than a few seconds, by their ids.
        self.queued_since: dict[str, datetime] = {}
        self.me: Row = {
            "name": "Ada Example",
            "login": "ada",
            "id": self.new_id(),
            "avatar_url": "https://avatars.githubusercontent.com/ada",
        }

    def advance(self, by: timedelta) -> None:
        """Let time pass."""
        self.now += by

    def number_jobs(self) -> None:
        """Number all jobs anew, in the order in which they begin, where they were added in another one."""
        self.job_numbers.renew(seconds(self.now))

    def new_id(self) -> str:
        """A new id, the same ones in the same order in every world."""
        digits = f"{self._chance.getrandbits(128):032x}"
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"

    # What is there

    def add_organization(self, slug: str, used: bool = True, **extra: Any) -> Row:
        """Add an organization, "gh/acme" or "circleci/Any Name"; one never used on CircleCI has no id."""
        vcs, name = normal(slug).split("/", 1)
        identifier = self.new_id()
        row = _row(
            {
                "vcs_type": {"gh": "github", "bb": "bitbucket"}.get(vcs, vcs),
                "slug": f"circleci/{short(identifier)}" if vcs == "circleci" else f"{vcs}/{name}",
                "name": name,
                "id": identifier if used else None,
                "avatar_url": "https://avatars.githubusercontent.com/u/1?v=4",
            },
            extra,
        )
        self.organizations.append(row)
        for known in (row["slug"], f"{vcs}/{name}", f"{vcs}/{identifier}"):
            self._owners[known] = row
        self.index[row["id"]] = ("collaborations", row)
        return row

    def add_project(self, slug: str, default_branch: str = "main", **extra: Any) -> Row:
        """Add a project, "gh/acme/web" or "circleci/Any Name/any name", and its organization if that is new.

        Gives the row as the look-up of one project tells it; the extra fields go into the row of the list.
        """
        vcs, owner, name = normal(slug).split("/", 2)
        organization = self.organization(f"{vcs}/{owner}") or self.add_organization(f"{vcs}/{owner}")
        identifier = self.new_id()
        here = f"{organization['slug']}/{short(identifier) if vcs == 'circleci' else name}"
        provider, root = _PROVIDERS.get(vcs, ("CircleCI", ""))
        row = {
            "slug": here,
            "name": name,
            "id": identifier,
            "organization_name": organization["name"],
            "organization_slug": organization["slug"],
            "organization_id": organization["id"],
            "vcs_info": {
                "vcs_url": f"{root}/{owner}/{name}" if root else f"//circleci.com/{organization['id']}/{identifier}",
                "default_branch": default_branch,
                "provider": provider,
            },
        }
        self.projects[identifier] = self._slugs[here] = self._names[normal(slug)] = row
        if vcs == "circleci":
            for one in (organization["id"], short(organization["id"])):
                for other in (identifier, short(identifier)):
                    self._slugs[f"circleci/{one}/{other}"] = row
        listed = {"id": identifier, "last_build_finished_at": None, "name": name, "slug": here}
        self._add("project", organization["id"], _row(listed, extra))
        return row

    def add_slug(self, project: Row, slug: str) -> None:
        """Let the service find a project by another slug as well, as it does for one that was renamed."""
        self._slugs[normal(slug)] = project

    def add_context(self, organization: Row, name: str, created_at: datetime, **extra: Any) -> Row:
        """Add a context to an organization."""
        row = {"name": name, "id": self.new_id(), "created_at": stamp(created_at)}
        return self._add("context", organization["id"], _row(row, extra))

    def add_group(self, organization: Row, name: str, description: str = "", **extra: Any) -> Row:
        """Add a group to an organization."""
        row = {"id": self.new_id(), "name": name, "description": description}
        return self._add("groups", organization["id"], _row(row, extra))

    def add_environment(
        self, organization: Row, name: str, created_at: datetime, updated_at: datetime | None = None, **extra: Any
    ) -> Row:
        """Add a deploy environment to an organization; without a description unless one is given."""
        row = {
            "id": self.new_id(),
            "name": name,
            "created_at": seconds(created_at),
            "updated_at": seconds(updated_at or created_at),
            "labels": [],
        }
        return self._add("deploy", organization["id"], _row(row, extra))

    def add_definition(self, project: Row, name: str, created_at: datetime | None = None, **extra: Any) -> Row:
        """Add a pipeline definition to a project, by default one of the GitHub App."""
        repo = {"full_name": f"{project['organization_name']}/{project['name']}", "external_id": "1000001"}
        row = {
            "id": self.new_id(),
            "name": name,
            "created_at": seconds(created_at) if created_at else ABSENT,
            "config_source": {"provider": "github_app", "repo": repo, "file_path": ".circleci/config.yml"},
            "checkout_source": {"provider": "github_app", "repo": repo},
        }
        return self._add("pipeline_definition", project["id"], _row(row, extra))

    def add_trigger(
        self, definition: Row, event_name: str, source: Row, created_at: datetime | None = None, **extra: Any
    ) -> Row:
        """Add a trigger with this event source to a pipeline definition."""
        row = {
            "id": self.new_id(),
            "event_name": event_name,
            "created_at": seconds(created_at) if created_at else ABSENT,
            "event_source": source,
        }
        return self._add("trigger", definition["id"], _row(row, extra))

    def add_schedule(
        self, project: Row, name: str, created_at: datetime, updated_at: datetime | None = None, **extra: Any
    ) -> Row:
        """Add a schedule to a project, by default one that runs every night."""
        row = {
            "id": self.new_id(),
            "name": name,
            "description": None,
            "created-at": stamp(created_at),
            "updated-at": stamp(updated_at or created_at),
            "project-slug": project["slug"],
            "timetable": {"per-hour": 1, "hours-of-day": [2], "days-of-week": ["MON", "TUE", "WED", "THU", "FRI"]},
            "parameters": {"branch": "main"},
            "actor": {"id": self.new_id(), "login": "system-actor", "name": "Scheduled"},
        }
        return self._add("schedule", project["id"], _row(row, extra))

    def add_pipeline(
        self,
        project: Row | str,
        created_at: datetime,
        *,
        branch: str = "main",
        subject: str = "Fix the build",
        login: str = "ada",
        kind: str = "webhook",
        workflows: Sequence[Row] = (),
        **extra: Any,
    ) -> Row:
        """Add a pipeline, and one workflow for each map of `add_workflow`'s arguments."""
        home = self._home(project)
        number = next(self._numbers[home["id"]])
        scheduled = kind == "schedule"
        actor = {
            "login": "Scheduled" if scheduled else login,
            "avatar_url": None if scheduled else f"https://avatars.githubusercontent.com/{login}",
        }
        provider, root = _PROVIDERS.get(home["slug"][:2], ("GitHub", "https://github.com"))
        url = f"{root}/{home['organization_name']}/{home['name']}"
        vcs: Row = {
            "origin_repository_url": url,
            "target_repository_url": url,
            "revision": f"{number:040x}",
            "provider_name": provider,
            "branch": branch,
        }
        if kind == "webhook":
            vcs["commit"] = {"body": "", "subject": subject}
        identifier = self.new_id()
        row = _row(
            {
                "id": identifier,
                "errors": [],
                "project_slug": home["slug"],
                "updated_at": stamp(created_at + timedelta(milliseconds=700 * (number % 3))),
                "number": number,
                "state": "created",
                "created_at": stamp(created_at),
                "trigger": {"received_at": stamp(created_at), "type": kind, "actor": actor},
                "vcs": vcs,
            },
            extra,
        )
        self._parents[row["id"]] = home["id"]
        self.index[row["id"]] = ("pipelines", row)
        insort(self.rows["pipelines"][home["id"]], row, key=age)
        for workflow in workflows:
            self.add_workflow(row, **workflow)
        return row

    def add_workflow(
        self,
        pipeline: Row,
        name: str = "build-test",
        created_at: datetime | None = None,
        stopped_at: Moment = None,
        status: str = "success",
        jobs: int | Sequence[str | Row] = 1,
        at_once: bool = False,
        **extra: Any,
    ) -> Row:
        """Add a workflow, by default as old as its pipeline, that stops at a time, after a while, or never.

        Jobs are a number, or their names, or fields of theirs (`{"name": "hold", "type": "approval"}`), run one after
        another or all at once. A workflow that never stops is held up at its first approval, or at its last job.
        `{"name": "test", "queued": timedelta(hours=2)}` is a job that has been in the queue for so long when it begins.
        """
        begin = created_at or moment(pipeline["created_at"])
        end = begin + stopped_at if isinstance(stopped_at, timedelta) else stopped_at
        row = _row(
            {
                "pipeline_id": pipeline["id"],
                "id": self.new_id(),
                "name": name,
                "project_slug": pipeline["project_slug"],
                "status": status,
                "started_by": self.me["id"],
                "pipeline_number": pipeline["number"],
                "created_at": seconds(begin),
                "stopped_at": end and seconds(end),
            },
            extra,
        )
        self.rows["workflows"][pipeline["id"]].append(row)
        if row["id"]:
            self._parents[row["id"]] = pipeline["id"]
            self.index[row["id"]] = ("workflows", row)
            specs = [f"job-{number + 1}" for number in range(jobs)] if isinstance(jobs, int) else jobs
            fields = [{"name": spec} if isinstance(spec, str) else spec for spec in specs]
            self.rows["jobs"][row["id"]] = self._jobs(row, fields, begin, end, at_once)
            self.job_numbers.give(self._parents[pipeline["id"]], seconds(self.now))
        return row

    def rerun(
        self,
        pipeline: Row,
        at: datetime,
        duration: timedelta | None = timedelta(minutes=5),
        status: str = "success",
        from_failed: bool = True,
        name: str | None = None,
    ) -> Row:
        """Rerun the newest workflow (of that name) of a pipeline: a new workflow, which never stops without a duration.

        From failed, it lists the jobs that had succeeded again, with their ids and times, and runs the others anew.
        """
        before = [row for row in self.rows["workflows"][pipeline["id"]] if name in (None, row["name"])]
        last = max(before, key=lambda row: str(row["created_at"]))
        old = self.rows["jobs"].get(last["id"], [])
        kept = [job for job in old[:-1] if from_failed and job["status"] == "success"]
        again = [{"name": job["name"], "type": job["type"]} for job in old if job not in kept]
        if kept and again:
            again[0]["dependencies"] = [kept[-1]["id"]]
        workflow = self.add_workflow(pipeline, last["name"], at, duration, status, again)
        self.rows["jobs"][workflow["id"]][:0] = kept
        return workflow

    def _add(self, stream: str, parent: str, row: Row) -> Row:
        self._parents[row["id"]] = parent
        self.index[row["id"]] = (stream, row)
        self.rows[stream][parent].append(row)
        return row

    def _home(self, project: Row | str) -> Row:
        if not isinstance(project, str):
            return self.projects[project["id"]]
        return self.project(project) or self._names.get(normal(project)) or self.add_project(project)

    def _jobs(
        self, workflow: Row, specs: Sequence[Row], begin: datetime, end: datetime | None, at_once: bool
    ) -> list[Row]:
        """The rows of a workflow's jobs, its time shared out among them: builds are quick, approvals take the rest."""
        holds = [spec.get("type") == "approval" for spec in specs]
        last = len(specs) - 1
        stuck = (holds.index(True) if any(holds) else last) if end is None else len(specs)
        span = end - begin if end else timedelta(minutes=5)
        build = span if at_once else span / max(len(specs), 1)
        if any(holds):
            build = min(build, timedelta(minutes=2))
        hold = (span - build * holds.count(False)) / max(holds.count(True), 1)
        rows: list[Row] = []
        started = begin
        for place, (spec, approval) in enumerate(zip(specs, holds, strict=True)):
            stopped = started + (hold if approval else build)
            identifier = self.new_id()
            ended_as = workflow["status"] if place == last and workflow["status"] not in NOT_FINAL else "success"
            row: Row = {
                "dependencies": [] if at_once or not rows else [rows[-1]["id"]],
                "id": identifier,
                "started_at": seconds(started) if place <= stuck else None,
                "name": spec["name"],
                "project_slug": workflow["project_slug"],
                "status": ended_as if place < stuck else "running" if place == stuck else "blocked",
                "type": "build",
                "stopped_at": seconds(stopped) if place < stuck else ABSENT,
            }
            if approval:
                row |= {"approved_by": self.me["id"], "approval_request_id": identifier}
            rows.append(_row(row, {name: value for name, value in spec.items() if name != "queued"}))
            if "queued" in spec:
                self.queued_since[identifier] = started - spec["queued"]
            if place <= stuck:
                self._enter(rows[-1], workflow, self.queued_since.get(identifier, started))
            started = begin if at_once else stopped
        return rows

    def _enter(self, job: Row, workflow: Row, at: datetime) -> None:
        """Let a job take its number when it is put into the queue, and be known by its id."""
        project = self._parents[workflow["pipeline_id"]]
        self.job_numbers.enter(project, seconds(at), job, workflow)
        self._parents.setdefault(job["id"], workflow["id"])

    # What of it shows

    def organization(self, slug: str) -> Row | None:
        """The organization of this slug, or of this kind and name."""
        return self._owners.get(normal(slug))

    def project(self, slug: str) -> Row | None:
        """The project of this slug, in any form that the service accepts."""
        return self._slugs.get(normal(slug))

    def knows(self, stream: str, parent: str) -> bool:
        """Whether there is by now a parent of this id for this stream."""
        kind, row = self.index.get(parent, ("", {}))
        return kind == PARENTS[stream] and _past(row.get("created_at") or "", stamp(self.now))

    def refusal(self, stream: str, identifier: str) -> int | None:
        """The status that this stream of this parent answers instead of a list, if any."""
        lineage = [identifier]
        while lineage[-1] in self._parents:
            lineage.append(self._parents[lineage[-1]])
        if stream in ("workflows", "jobs") and any(self.aged_out.get(one) == "missing" for one in lineage):
            return 404
        for marked, status in ((self.forbidden, 403), (self.missing, 404), (self.unsupported, 400)):
            if any(one in marked or (stream, one) in marked for one in lineage):
                return status
        return None

    def seen(self, stream: str, parent: str) -> list[Row]:
        """The rows of a parent that show now, in the service's order; pipelines are told by `pipelines`."""
        now = stamp(self.now)
        rows = self.rows[stream].get(parent, [])
        if stream == "jobs":
            return self._jobs_at(self.index[parent][1], now)
        rows = [row for row in rows if _past(row.get("created_at") or row.get("created-at") or "", now)]
        if stream == "workflows":
            newest = sorted(rows, key=lambda row: str(row["created_at"]), reverse=True)
            fate = self.aged_out.get(parent)
            if fate == "null":
                return [row | {"id": None} for row in newest]
            return [] if fate else [self._workflow_at(row, now) for row in newest]
        return rows

    def pipelines(
        self, projects: Iterable[str], below: tuple[str, str] | None = None, most: int | None = None
    ) -> list[Row]:
        """The newest pipelines of these projects that show now, newest first, from below this age on."""
        now = stamp(self.now)
        top = min(below or (now, "~"), (now, "~"))
        found: list[Row] = []
        for project in projects:
            rows = self.rows["pipelines"].get(project, [])
            end = bisect_left(rows, top, key=age)
            found += rows[max(0, end - most) if most else 0 : end]
        found.sort(key=age, reverse=True)
        return [self._pipeline_at(row) for row in found[:most]]

    def pipeline(self, identifier: str) -> Row | None:
        """The pipeline of this id as it shows now."""
        kind, row = self.index.get(identifier, ("", {}))
        return self._pipeline_at(row) if kind == "pipelines" and row["created_at"] <= stamp(self.now) else None

    def workflow(self, identifier: str) -> Row | None:
        """The workflow of this id as it shows now."""
        kind, row = self.index.get(identifier, ("", {}))
        now = stamp(self.now)
        return self._workflow_at(row, now) if kind == "workflows" and row["created_at"] <= now else None

    def _pipeline_at(self, row: Row) -> Row:
        is_young = row["created_at"] > stamp(self.now - PENDING)
        return row | {"state": "pending", "updated_at": row["created_at"]} if is_young else row

    def _jobs_at(self, workflow: Row, now: str) -> list[Row]:
        stopped = workflow["stopped_at"]
        jobs = self.rows["jobs"].get(workflow["id"], [])
        for job in jobs:  # that a test has let begin
            if "job_number" not in job and job["type"] != "approval" and _past(job["started_at"] or "~", now):
                self._enter(job, workflow, moment(job["started_at"]))
        self.job_numbers.give(self._parents[workflow["pipeline_id"]], now[:19] + "Z")
        return jobs if stopped is not None and _past(stopped, now) else [_job_at(job, now) for job in jobs]

    def _workflow_at(self, row: Row, now: str) -> Row:
        if row["stopped_at"] is not None and _past(row["stopped_at"], now):
            return row
        status = row["status"]
        if status not in NOT_FINAL:
            states = {job["status"] for job in self._jobs_at(row, now)}
            status = "on_hold" if "on_hold" in states and "running" not in states else "running"
        hidden = ("canceled_by", "errored_by")
        return {key: value for key, value in row.items() if key not in hidden} | {"status": status, "stopped_at": None}

    # What a tap should make of it

    def truth(self, slugs: Iterable[str], start_date: datetime | None = None) -> dict[str, list[Row]]:
        """The rows of all streams as they show now, with their parents' ids, less those that nobody can get at.

        Pipelines, workflows and jobs are those of these projects' pipelines created since `start_date`. A project whose
        organization's list is refused is there as its look-up tells it.
        """
        rows: dict[str, list[Row]] = {stream: [] for stream in STREAMS}
        rows["collaborations"] = [dict(row) for row in self.organizations if row["id"]]
        for organization in rows["collaborations"]:
            for stream in ("context", "deploy", "groups", "project"):
                rows[stream] += self._given(stream, organization["id"], organization_id=organization["id"])
        chosen = {row["id"]: row for row in map(self.project, slugs) if row}
        listed = {row["id"] for row in rows["project"]}
        rows["project"] += [
            {key: row[key] for key in ("id", "slug", "name", "organization_id")}
            for row in chosen.values()
            if row["id"] not in listed and not self.refusal("lookup", row["id"])
        ]
        for project in rows["project"]:
            parents = {"organization_id": project["organization_id"], "project_id": project["id"]}
            definitions = self._given("pipeline_definition", project["id"], **parents)
            rows["pipeline_definition"] += definitions
            for row in definitions:
                rows["trigger"] += self._given("trigger", row["id"], **parents, pipeline_definition_id=row["id"])
            rows["schedule"] += self._given("schedule", project["id"], **parents)
        since = stamp(start_date) if start_date else ""
        for project in chosen:
            if not self.refusal("pipelines", project):
                rows["pipelines"] += [dict(row) for row in self.pipelines([project]) if row["created_at"] >= since]
        for pipeline in rows["pipelines"]:
            workflows = [row for row in self._given("workflows", pipeline["id"]) if row["id"]]
            rows["workflows"] += workflows
            for workflow in workflows:
                keys = {"_workflow_id": workflow["id"], "_pipeline_id": pipeline["id"]}
                rows["jobs"] += self._given("jobs", workflow["id"], **keys)
        return rows

    def _given(self, stream: str, parent: str, **keys: str) -> list[Row]:
        return [] if self.refusal(stream, parent) else [row | keys for row in self.seen(stream, parent)]


def _job_at(job: Row, now: str) -> Row:
    """A job of a workflow that has not stopped, as it shows now."""
    if "stopped_at" in job and _past(job["stopped_at"], now):
        return job
    begun = job["started_at"] is not None and _past(job["started_at"], now)
    hidden = {"stopped_at", "approved_by", "canceled_by"} | (set() if begun else {"job_number"})
    shown = {key: value for key, value in job.items() if key not in hidden}
    shown["started_at"] = job["started_at"] if begun else None
    shown["status"] = "blocked" if not begun else "on_hold" if job["type"] == "approval" else "running"
    return shown
