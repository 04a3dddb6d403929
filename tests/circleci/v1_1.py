"""API v1.1: the builds of a project, the steps of each, and what the steps wrote.

All of it is derived from jobs when it is asked for, so that a build has the number and the times of its job; builds
that belong to no workflow are what a test adds.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import accumulate
from typing import Any

from tests.circleci import insights
from tests.circleci import world as plain_world
from tests.circleci.inside_jobs import FINAL_JOBS, asked
from tests.circleci.job_numbers import JobRun
from tests.circleci.server import Answer, RefusedError, Request
from tests.circleci.world import Row, moment, seconds, stamp

MOST_BUILDS = 100
USUAL_BUILDS = 30
"""Builds in a page at most, and where a request does not say how many."""
KEPT_CHARACTERS = 10_000
"""How much of an output a tap sends."""
OUTPUTS = "action-output"
"""The path under which outputs are, as if it were another host: no token is asked for there."""
SHALLOW = re.findall(
    r"\w+",
    """
    committer_date body usage_queued_at reponame build_url parallel branch username author_date why user vcs_revision
    workflows vcs_tag pull_requests build_num committer_email status committer_name subject dont_build lifecycle fleet
    stop_time build_time_millis start_time platform outcome vcs_url author_name queued_at author_email
    """,
)
"""The fields that a list has with `shallow=true`."""
_VCS = {"github": "gh", "bitbucket": "bb", "circleci": "circleci"}
_WHY = {"webhook": "github", "schedule": "schedule", "api": "api"}
_ZONES = (timezone.utc, timezone.utc, timezone(timedelta(hours=-7)), timezone(timedelta(hours=5, minutes=30)))
_ENDED = {"canceled", "timedout", "infrastructure_fail", "failed"}
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

OutputKey = tuple[str, int, int]
"""The id of a job, the index of a parallel run and the number of a step."""


@dataclass(frozen=True)
class Output:
    """What a step wrote: some messages, again and again."""

    messages: Sequence[str]
    times: int = 1

    def chunks(self) -> Iterator[bytes]:
        """The JSON array of the messages, piece by piece."""
        yield b"["
        piece = b",".join(
            json.dumps({"message": text, "time": "2026-01-01T00:00:00.000Z", "type": "out"}).encode()
            for text in self.messages
        )
        for number in range(self.times):
            yield b"," * (number > 0) + piece
        yield b"]"

    @property
    def kept(self) -> tuple[str, bool]:
        """The part that a tap sends, without escape sequences and control characters, and whether it is cut."""
        written = "".join(self.messages)
        enough = min(self.times, 2 + 2 * KEPT_CHARACTERS // max(1, len(cleaned(written))))
        text = cleaned(written * enough)
        return text[-KEPT_CHARACTERS:], len(text) > KEPT_CHARACTERS


def cleaned(text: str) -> str:
    """A text without escape sequences and control characters, but for newlines and tabs."""
    lines = _ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROLS.sub("", lines)


class World(insights.World):
    """A world whose jobs show as builds with steps and outputs, too."""

    def __init__(self, now: datetime, token: str = plain_world.TOKEN) -> None:
        super().__init__(now, token)
        #: What every route of v1.1 answers, where the service has them no more: 404, 410, 403.
        self.v1_status: int | None = None
        #: Fields that v1.1 tells no more, of builds and of actions.
        self.gone: set[str] = set()
        #: What the list of builds says instead: a service that lies.
        self.builds_told: Callable[[list[Row]], Any] = lambda rows: rows
        #: How long the steps of a build are there after it has stopped, and the address of an output.
        self.steps_kept = timedelta(days=365)
        self.outputs_kept = timedelta(days=5)
        #: What steps have written, where a test says so.
        self.outputs: dict[OutputKey, Output] = {}
        #: Outputs that cannot be had, and the status instead: 403 for an address that has expired, 404, 302.
        self.lost_outputs: dict[OutputKey, int] = {}

    def add_build(self, project: Row | str, at: datetime, **extra: Any) -> Row:
        """Add a build that belongs to no workflow, by default one that was triggered and never ran; without times."""
        row: Row = {"status": "not_run", "lifecycle": "not_run", "outcome": None, "why": "api"}
        row |= {"dont_build": "no-followers", "start_time": None, "stop_time": None, **extra}
        home = self._home(project)["id"]
        self.job_numbers.enter(home, seconds(at), row, None)
        self.job_numbers.give(home, seconds(self.now))
        return row

    def add_ghost(self, project: Row | str, at: datetime) -> Row:
        """Add a build that runs for ever."""
        times = {"queued_at": stamp(at), "usage_queued_at": stamp(at), "start_time": stamp(at)}
        return self.add_build(project, at, status="running", lifecycle="running", dont_build=None, why="retry", **times)

    def builds(self, project: str) -> list[JobRun]:
        """The runs of a project's jobs that show as builds now, newest first."""
        now = seconds(self.now)
        self.job_numbers.give(project, now)
        return [run for run in reversed(self.job_numbers.runs[project]) if run.at <= now]

    def build(self, project: str, run: JobRun) -> Row:
        """A build as the list of a project tells it."""
        home = self.projects[project]
        row = {**_code(home, run), **_rest(run), **_COMMON, "build_num": run.number}
        row |= run.job if run.workflow is None else self._of_job(run, run.workflow)
        row.pop("job_number", None)
        return {name: value for name, value in row.items() if name not in self.gone}

    def _of_job(self, run: JobRun, workflow: Row) -> Row:
        """What a build has from its job, workflow and pipeline."""
        pipeline = self.index[workflow["pipeline_id"]][1]
        vcs, actor = pipeline.get("vcs", {}), pipeline["trigger"]["actor"]
        branch, scheduled = vcs.get("branch"), pipeline["trigger"]["type"] == "schedule"
        row: Row = {
            "branch": branch,
            "vcs_tag": vcs.get("tag"),
            "vcs_revision": vcs.get("revision"),
            "subject": vcs.get("commit", {}).get("subject"),
            "why": _WHY.get(pipeline["trigger"]["type"], "api"),
            "user": {"is_user": False, "login": None, "vcs_type": "github"} if scheduled else _person(actor["login"]),
            "workflows": {
                "job_name": run.job["name"],
                "job_id": run.job["id"],
                "workflow_id": workflow["id"],
                "workspace_id": workflow["id"],
                "upstream_job_ids": [],
                "upstream_concurrency_map": {},
                "workflow_name": workflow["name"],
            },
            **self._course(run, workflow),
        }
        if branch not in (None, self.projects[self._parents[pipeline["id"]]]["vcs_info"]["default_branch"]):
            number = pipeline["number"]
            url = f"{vcs['target_repository_url']}/pull/{number}"
            row["pull_requests"] = [{"head_sha": vcs["revision"], "url": url}]
        return row

    def _course(self, run: JobRun, workflow: Row) -> Row:
        """How a build has come along by now: its status and times."""
        job = next(job for job in self.seen("jobs", workflow["id"]) if job["id"] == run.job["id"])
        status = job["status"]
        if status == "not_run" or not run.job["started_at"]:
            return {"status": "not_run", "lifecycle": "not_run", "dont_build": "prs-only", "start_time": None}
        details = self.details(run.job, workflow)
        stopped, zone = job.get("stopped_at"), _ZONES[run.number % len(_ZONES)]
        begun = run.job["started_at"] <= seconds(self.now)
        row: Row = {
            "parallel": details["parallelism"],
            "usage_queued_at": _zoned(details["created_at"], zone),
            "queued_at": _zoned(details["queued_at"], zone),
            "start_time": _zoned(details["started_at"], zone) if begun else None,
            "lifecycle": "running" if begun else "queued",
            "status": "running" if begun else "queued",
        }
        if not stopped and status not in FINAL_JOBS:
            return row
        return row | {
            "stop_time": _zoned(details["stopped_at"], zone) if stopped else None,
            "build_time_millis": details["duration"],
            "lifecycle": "finished",
            "status": "fixed" if status == "success" and run.number % 11 == 7 else status,
            "outcome": status,
            "failed": status in _ENDED,
            "timedout": status == "timedout",
            "infrastructure_fail": status == "infrastructure_fail",
            "fail_reason": "Out of machines." if status == "infrastructure_fail" else None,
            "canceled": status == "canceled",
            "canceler": _person("ada") if status == "canceled" else None,
        }

    # Steps and outputs

    def actions(self, run: JobRun) -> list[tuple[str, Row]]:
        """What has run in a build's steps, each action with the name of its step; nothing for builds of long ago."""
        job, workflow = run.job, run.workflow
        if workflow is None or not job.get("stopped_at") or not job["started_at"]:
            return []
        begun, stopped = moment(job["started_at"]), moment(job["stopped_at"])
        if stopped + self.steps_kept < self.now:
            return []
        parallelism = self.details(job, workflow)["parallelism"]
        plan = _plan(job["name"], run.number)
        places = [0.0, *accumulate(share for _, _, share in plan)]
        return [
            (
                name,
                self._action(
                    run, index, step, name, begun + (stopped - begun) * places[place], (stopped - begun) * share
                ),
            )
            for place, (step, name, share) in enumerate(plan)
            for index in range(parallelism)
        ]

    def _action(self, run: JobRun, index: int, step: int, name: str, begun: datetime, lasted: timedelta) -> Row:
        """One action; where a job has not succeeded, it is the last one of the first parallel run that failed."""
        number, status = run.number, run.job["status"]
        is_own = step >= _OWN
        is_last = step == _LAST and index == 0
        failed = is_last and status in ("failed", "timedout", "infrastructure_fail")
        code = (137 if number % 5 == 3 else 1) if failed and status == "failed" else 0
        row: Row = {
            "truncated": False,
            "index": index,
            "parallel": True,
            "failed": True if failed and (number % 2 or status != "failed") else None,
            "infrastructure_fail": True if failed and status == "infrastructure_fail" else None,
            "name": name,
            "bash_command": f"#!/bin/bash -eo pipefail\nTOKEN=hush-script {name}" if is_own else None,
            "status": status if failed or (is_last and status == "canceled") else "success",
            "timedout": True if failed and status == "timedout" else None,
            "continue": None,
            "end_time": stamp(begun + lasted),
            "type": "test",
            "allocation_id": f"{run.job['id'][:8]}-{index}-build/{number:X}",
            "start_time": stamp(begun),
            "background": False,
            "exit_code": code if is_own and status != "timedout" else None,
            "insignificant": False,
            "canceled": True if is_last and status == "canceled" else None,
            "step": step,
            "run_time_millis": round(lasted.total_seconds() * 1000),
            "has_output": step != _SILENT and not (failed and number % 13 == 5),
            "source": "config",
        }
        return {field: value for field, value in row.items() if field not in self.gone}

    def output(self, key: OutputKey) -> Output:
        """What a step wrote."""
        known = self.outputs.get(key)
        if known:
            return known
        run = self._run_of(key[0])
        return _written(run.job["name"], run.number) if run else Output(())

    def _run_of(self, job: str) -> JobRun | None:
        """The run of the job with this id."""
        parent = self._parents.get(job, "")
        project = self._parents.get(self._parents.get(parent, ""), "")
        row = next((row for row in self.rows["jobs"].get(parent, []) if row["id"] == job), {})
        return self.job_numbers.run(project, row.get("job_number", 0))


_OWN, _LAST, _SILENT = 102, 103, 99
"""The first step of a job's own, the one that does the work, and one that writes nothing."""


def _plan(job: str, number: int) -> list[tuple[int, str, float]]:
    """The steps of a job: their numbers, names, and shares of its time."""
    slow = 0.3 + 0.04 * (number % 10)
    return [
        (0, "Spin up environment", 0.05),
        (99, "Preparing environment variables", 0.01),
        (101, "Checkout code", 0.04),
        (102, "Install packages", 0.9 - slow),
        (103, f"Run {job}", slow),
    ]


def _written(job: str, number: int) -> Output:
    """What the failing step of a job wrote: in colours, with carriage returns, long or short, or nothing."""
    if number % 17 == 9:
        return Output(())
    progress = ["\x1b[2K", *(f"\rcollecting {part} %" for part in (20, 60, 100)), "\r\n"]
    ends = [
        ["\x1b[31", ";1mFAILED\x1b[0m tests/cart_test.py::test_pays - assert 1 == 2\n", "\x1b(B1 failed, 41 passed\n"],
        ["npm \x1b[31mERR!\x1b[39m network timeout at: https://registry.example/lodash\n"],
        ["src/cart.ts(12,5): error TS2322: Type 'string' is not assignable to type 'number'.\n"],
        ["\x1b]8;;https://ci.example\x07tests\x1b]8;;\x07 are running\n", "Killed\n"],
        ["Error: connect ECONNREFUSED 127.0.0.1:5432 \x00\u2028caf\u00e9 \U0001f680\n"],
    ]
    lines = 400 if number % 3 == 0 else 3
    filler = [f"\x1b[32m{line:>4} ok\x1b[0m {job} keeps the basket of a customer\n" for line in range(lines)]
    return Output([f"$ run {job}\r\n", *progress, *filler, *ends[number % len(ends)]])


_COMMON: Row = {
    "compare": None,
    "previous_successful_build": None,
    "build_parameters": {"PASSWORD": "hush-parameter"},
    "oss": False,
    "all_commit_details_truncated": False,
    "committer_date": "2026-01-05T10:09:32-05:00",
    "body": "hush-body",
    "context_ids": [],
    "fail_reason": None,
    "retry_of": None,
    "ssh_users": [{"login": "hush-user", "github_id": 1}],
    "parallel": 1,
    "failed": None,
    "author_date": "2026-01-05T10:09:32-05:00",
    "vcs_tag": None,
    "branch": "main",
    "subject": None,
    "infrastructure_fail": False,
    "committer_email": "hush-committer@example.com",
    "author_email": "hush-author@example.com",
    "committer_name": "Ada Example",
    "author_name": "Ada Example",
    "retries": None,
    "vcs_type": "github",
    "timedout": False,
    "dont_build": None,
    "no_dependency_cache": False,
    "ssh_disabled": False,
    "build_time_millis": None,
    "start_time": None,
    "stop_time": None,
    "picard": None,
    "circle_yml": {"string": "hush-config"},
    "messages": [{"type": "warning", "message": "hush-message"}],
    "is_first_green_build": False,
    "job_name": None,
    "canceler": None,
    "all_commit_details": [{"commit": "1" * 40, "author_email": "hush-author@example.com", "body": "hush-body"}],
    "platform": "2.0",
    "fleet": "picard",
    "outcome": None,
    "node": None,
    "canceled": False,
}
"""The fields that are the same for all builds, but for those that have them otherwise."""


def _code(project: Row, run: JobRun) -> Row:
    """What a build tells of its project."""
    return {
        "username": project["organization_name"],
        "reponame": project["name"],
        "vcs_url": project["vcs_info"]["vcs_url"],
        "build_url": f"https://circleci.com/{project['slug']}/{run.number}",
        "vcs_revision": f"{run.number:040x}",
    }


def _rest(run: JobRun) -> Row:
    """What a build tells of the one before it, and of who started it."""
    before = {"build_num": run.number - 1, "status": "success", "build_time_millis": 6712}
    return {"previous": before if run.number > 1 else None, "user": _person("ada")}


def _person(login: str) -> Row:
    return {
        "is_user": True,
        "login": login,
        "avatar_url": f"https://avatars.githubusercontent.com/{login}",
        "name": login.title() or None,
        "vcs_type": "github",
        "id": 7,
    }


def _zoned(text: str, zone: timezone) -> str:
    """A time as it is told in a zone."""
    return text if zone is timezone.utc else moment(text).astimezone(zone).isoformat(timespec="milliseconds")


class Server(insights.Server):
    """A server that answers for API v1.1, and at the addresses of outputs."""

    world: World

    def answer(self, request: Request) -> Answer:
        """What the service, or the host of the outputs, answers when all is well with it."""
        parts = request.path.partition("?")[0].strip("/").split("/")
        return self._output(request.path) if parts[0] == OUTPUTS else super().answer(request)

    def _resource(self, parts: list[str], query: dict[str, str]) -> Any:
        if parts[:2] != ["api", "v1.1"]:
            return super()._resource(parts, query)
        if self.world.v1_status:
            raise RefusedError(self.world.v1_status, "API v1.1 is not here.")
        match parts[2:]:
            case ["project", vcs, *slug] if vcs in _VCS and len(slug) == 2:
                return self._builds(self._project("builds", [_VCS[vcs], *slug]), query)
            case ["project", vcs, *slug, number] if vcs in _VCS and len(slug) == 2 and number.isdecimal():
                return self._build(self._project("steps", [_VCS[vcs], *slug]), int(number))
        raise RefusedError(404, "Not found.")

    def _builds(self, project: Row, query: Mapping[str, str]) -> Any:
        try:
            limit, offset = int(query.get("limit", USUAL_BUILDS)), int(query.get("offset", 0))
        except ValueError:
            raise RefusedError(400, "Invalid limit or offset.") from None
        shown = self.world.builds(project["id"])[offset : offset + min(limit, MOST_BUILDS)]
        rows = [self.world.build(project["id"], run) for run in shown]
        if query.get("shallow") == "true":
            rows = [{name: row[name] for name in SHALLOW if name in row} for row in rows]
        return self.world.builds_told(rows)

    def _build(self, project: Row, number: int) -> Row:
        now = seconds(self.world.now)
        self.world.job_numbers.give(project["id"], now)
        run = self.world.job_numbers.run(project["id"], number)
        if run is None or run.at > now:
            raise RefusedError(404, "Build not found")
        if run.workflow is not None:
            self._refuse("steps", run.job["id"])
        steps: dict[str, list[Row]] = {}
        for name, action in self.world.actions(run):
            addressed = {"output_url": self._address(run, action)} if action.get("has_output", True) else {}
            steps.setdefault(name, []).append(action | addressed)
        row = self.world.build(project["id"], run)
        row |= {
            "steps": [{"name": name, "actions": actions} for name, actions in steps.items()],
            "has_artifacts": True,
            "owners": [row.get("username")],
            "picard": {"executor": "docker", "resource_class": {"cpu": 2.0, "ram": 4096, "class": "medium"}},
        }
        return {name: value for name, value in row.items() if name not in self.world.gone}

    def _address(self, run: JobRun, action: Row) -> str:
        """A signed address of what an action wrote, which says when it was made."""
        made = self.world.now.astimezone(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        place = f"{OUTPUTS}/{run.job['id']}/{action.get('index')}/{action.get('step')}"
        return f"{self.url}/{place}?X-Amz-Date={made}&X-Amz-Signature=hush-signature"

    def _output(self, path: str) -> Answer:
        """The output at an address; one that is not signed or has expired is refused as a store of files refuses it."""
        place, _, query = path.partition("?")
        _, job, index, step = place.strip("/").split("/")
        key = (job, int(index), int(step))
        made = re.fullmatch(r"X-Amz-Date=(\w+)&X-Amz-Signature=hush-signature", query)
        status = self.world.lost_outputs.get(key) or self.world.refusal("step_outputs", job)
        if made is None or _made(made[1]) + self.world.outputs_kept < self.world.now:
            status = status or 403
        if status:
            moved = {"Location": f"{self.url}/{OUTPUTS}/elsewhere"} if 300 <= status < 400 else {}
            return Answer(status, "<Error><Code>AccessDenied</Code></Error>", moved)
        return Answer(200, self.world.output(key).chunks())


def _made(text: str) -> datetime:
    return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)


# What a tap should make of it


def build_rows(world: World, project: Row, start_date: datetime | None) -> list[Row]:
    """The builds of a project: page by page, to the first page that lies wholly before the start date."""
    rows: list[Row] = []
    if world.v1_status or world.refusal("builds", project["id"]):
        return rows
    runs = world.builds(project["id"])
    for first in range(0, len(runs), MOST_BUILDS):
        page = [world.build(project["id"], run) for run in runs[first : first + MOST_BUILDS]]
        rows += [_flat(row) | {"_project_slug": project["slug"]} for row in page]
        queued = [moment(row["queued_at"]) for row in page if row.get("queued_at")]
        if start_date and queued and max(queued) < start_date:
            break
    return rows


def _flat(row: Row) -> Row:
    """A build with the columns of its table, which are taken out of what is nested in it."""
    run, user = row.get("workflows") or {}, row.get("user") or {}
    pulls = row.get("pull_requests")
    return row | {
        **{name: run.get(name) for name in ("workflow_id", "workflow_name", "job_id", "job_name")},
        "user_login": user.get("login"),
        "user_name": user.get("name"),
        "canceler_login": (row.get("canceler") or {}).get("login"),
        "pull_request_urls": None if pulls is None else [pull["url"] for pull in pulls],
    }


def step_rows(world: World, jobs: Iterable[Row], workflows: Iterable[Row]) -> dict[str, list[Row]]:
    """The steps of the jobs inside which a tap looks, and the outputs of those that failed."""
    rows: dict[str, list[Row]] = {"steps": [], "step_outputs": []}
    for job, keys in asked(jobs, workflows):
        project = (world.project(job["project_slug"]) or {})["id"]
        run = world.job_numbers.run(project, job["job_number"])
        if world.v1_status or run is None or world.refusal("steps", job["id"]) or "steps" in world.gone:
            continue
        for name, action in world.actions(run):
            rows["steps"].append(action | keys | {"step_name": name})
            key = (job["id"], action["index"], action["step"])
            if _has_failed(action) and not world.lost_outputs.get(key) and not world.refusal("step_outputs", job["id"]):
                output, is_cut = world.output(key).kept
                place = {"index": action["index"], "step": action["step"]}
                if output:
                    rows["step_outputs"].append({**keys, **place, "output": output, "is_truncated": is_cut})
    return rows


def _has_failed(action: Row) -> bool:
    """Whether an action failed and wrote something."""
    return bool(action.get("has_output", True) and (action.get("failed") or action.get("exit_code")))
