"""The answers of the report: why jobs fail, what is slow, what changes cost, who waits, how often it is deployed.

The definitions are those of the dbt models in examples/dbt, and so are the rules by which failures are told apart.
"""

from __future__ import annotations

import csv
import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

RULES = Path(__file__).parents[2] / "examples" / "dbt" / "seeds" / "circleci_failure_rules.csv"
#: Fails and then passes on the same commit within this time: flaky, as CircleCI has it.
FLAKY = timedelta(days=14).total_seconds()
#: Steps of the last so many seconds are compared with those of as many before.
COMPARED = timedelta(days=14).total_seconds()
CREDIT_PRICE = 0.0006
FAILED = ("failed", "timedout", "infrastructure_fail", "terminated-unknown", "unauthorized")
DEPLOYS, PREVIEWS = re.compile("deploy|release|publish", re.IGNORECASE), re.compile("preview|review", re.IGNORECASE)

# A rerun "from failed" lists jobs of the run before again: a job counts where it was listed first.
JOBS = """
WITH homes AS (
    SELECT slug, min(name) AS name, min(json_extract(vcs_info, '$.default_branch')) AS branch FROM project GROUP BY slug
), numbered AS (
    SELECT *, row_number() OVER (PARTITION BY pipeline_id, name ORDER BY created_at, id) - 1 AS rerun FROM workflows
), listed AS (
    SELECT jobs.*, numbered.name AS workflow, numbered.rerun,
           row_number() OVER (PARTITION BY jobs.id ORDER BY numbered.created_at) AS listing
    FROM jobs JOIN numbered ON numbered.id = jobs._workflow_id
)
SELECT listed.id, listed.name, listed.type, listed.status, listed.workflow, listed.rerun,
       listed._pipeline_id AS pipeline, coalesce(homes.name, listed.project_slug) AS project,
       seconds(listed.started_at) AS started, seconds(listed.stopped_at) AS stopped,
       seconds(pipelines.created_at) AS pushed,
       json_extract(pipelines.vcs, '$.revision') AS revision, json_extract(pipelines.vcs, '$.branch') AS branch,
       json_extract(pipelines.vcs, '$.tag') AS tag,
       coalesce(homes.branch, 'main') = json_extract(pipelines.vcs, '$.branch') AS is_default
FROM listed
LEFT JOIN pipelines ON pipelines.id = listed._pipeline_id
LEFT JOIN homes ON homes.slug = listed.project_slug
WHERE listing = 1 ORDER BY started
"""
RUNS = """
SELECT coalesce(homes.name, workflows.project_slug) AS project, workflows.name AS workflow, workflows.status,
       seconds(workflows.stopped_at) AS stopped
FROM workflows JOIN pipelines ON pipelines.id = workflows.pipeline_id
LEFT JOIN (
    SELECT slug, min(name) AS name, min(json_extract(vcs_info, '$.default_branch')) AS branch FROM project GROUP BY slug
) AS homes ON homes.slug = workflows.project_slug
WHERE workflows.status IN ('success', 'failed', 'error') AND seconds(workflows.stopped_at) BETWEEN ? AND ?
      AND json_extract(pipelines.vcs, '$.branch') = coalesce(homes.branch, 'main')
ORDER BY workflows.stopped_at
"""
PAID = """
SELECT project_name AS project, vcs_branch AS branch, pipeline_id AS pipeline, workflow_id AS workflow, job_id AS job,
       coalesce(total_credits, 0) - coalesce(user_credits, 0) AS credits
FROM usage WHERE seconds(_date) BETWEEN ? AND ?
"""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class FailureClass:
    """Jobs that failed for one class of reasons: how many, how long, the most usual reasons, and a line that told."""

    name: str
    jobs: int
    seconds: int
    reasons: Sequence[tuple[str, int]]
    line: str


@dataclass(frozen=True)
class Step:
    """A step of a job: how long it takes, its slowest parallel run counting, lately and before."""

    project: str
    job: str
    name: str
    seconds: Sequence[float]
    recent: Sequence[float]
    before: Sequence[float]


@dataclass(frozen=True)
class Change:
    """What a pull request, or a branch without one, cost."""

    name: str
    project: str
    credits: float
    rerun_credits: float
    failed_credits: float


@dataclass(frozen=True)
class Wait:
    """What was waited for, and how long each time."""

    name: str
    project: str
    seconds: Sequence[int]
    waiting: int = 0


@dataclass(frozen=True)
class Red:
    """How often and how long a workflow failed on the default branch, and whether it does."""

    project: str
    workflow: str
    seconds: Sequence[int]
    is_red: bool


@dataclass(frozen=True)
class Deployments:
    """Deployments by one job: those that succeeded and failed, from push to deployment, and from failure to success."""

    project: str
    environment: str
    succeeded: int
    failed: int
    lead_seconds: Sequence[int]
    outages: Sequence[int]


@dataclass(frozen=True)
class Answers:
    """All of them, for a span of time; empty where the streams that they need are not loaded."""

    failures: Sequence[FailureClass]
    steps: Sequence[Step]
    changes: Sequence[Change]
    queues: Sequence[Wait]
    approvals: Sequence[Wait]
    reds: Sequence[Red]
    deployments: Sequence[Deployments]


def answer(connection: sqlite3.Connection, filled: Set[str], first: float, until: float) -> Answers:
    """The answers from the tables of a database that have rows, between two moments."""
    jobs = [row for row in _rows(connection, JOBS) if row["started"] is not None and row["started"] <= until]
    recent = [row for row in jobs if row["started"] >= first]
    return Answers(
        failures=_failures(connection, filled, jobs, first),
        steps=_steps(connection, recent, until) if "steps" in filled else [],
        changes=_changes(connection, filled, jobs, [first, until]) if "usage" in filled else [],
        queues=_queues(connection, filled, recent),
        approvals=_approvals(recent),
        reds=_reds(_rows(connection, RUNS, [first, until]), until),
        deployments=_deployments(recent),
    )


def _rows(connection: sqlite3.Connection, query: str, values: Sequence[float] = ()) -> list[Row]:
    cursor = connection.execute(query, values)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def _failures(
    connection: sqlite3.Connection, filled: Set[str], jobs: Sequence[Row], first: float
) -> list[FailureClass]:
    """The classes of failures, the most usual first."""
    with RULES.open(encoding="utf-8", newline="") as file:
        rules = sorted(csv.DictReader(file), key=lambda rule: (int(rule["priority"]), rule["place"], rule["pattern"]))
    left = _left(connection, filled)
    found: dict[str, list[tuple[str, str, int]]] = defaultdict(list)
    for row in _passed_later(jobs):
        if row["status"] in FAILED and row["type"] != "approval" and row["started"] >= first:
            evidence = [("status", row["status"]), *left.get(row["id"], ())]
            if row["passed_later"]:
                evidence.append(("later", "passed later on the same commit"))
            step = next((text for place, text in evidence if place == "step"), "")
            kind, reason, line = _judged(rules, evidence)
            taken = (row["stopped"] or row["started"]) - row["started"]
            found[kind].append((reason.replace("{step}", step), line, taken))
    classes = [
        FailureClass(
            kind,
            len(cases),
            sum(taken for _, _, taken in cases),
            Counter(reason for reason, _, _ in cases).most_common(3),
            cases[-1][1],
        )
        for kind, cases in found.items()
    ]
    return sorted(classes, key=lambda one: (-one.jobs, one.name))


def _judged(rules: Sequence[Mapping[str, str]], evidence: Sequence[tuple[str, str]]) -> tuple[str, str, str]:
    """The class, the reason and the line of the first rule that is found in what a failure left behind."""
    for rule in rules:
        for place, text in evidence:
            match = (
                re.search(f"[^\n]*({rule['pattern']})[^\n]*", text, re.IGNORECASE) if place == rule["place"] else None
            )
            if match:
                return rule["class"], rule["reason"], match[0].strip()
    return "unknown", "unknown", ""


def _passed_later(jobs: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """The jobs with whether each passed later on the same commit."""
    passed: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for row in jobs:
        if row["status"] == "success":
            passed[row["project"], row["workflow"], row["name"], row["revision"]].append(row["started"])
    for row in jobs:
        times = passed.get((row["project"], row["workflow"], row["name"], row["revision"]), [])
        yield {**row, "passed_later": any(row["started"] < time <= row["started"] + FLAKY for time in times)}


def _left(connection: sqlite3.Connection, filled: Set[str]) -> dict[str, list[tuple[str, str]]]:
    """What jobs left behind, by their ids: places and texts."""
    left: dict[str, list[tuple[str, str]]] = defaultdict(list)
    queries = {
        "steps": """
            SELECT _job_id, 'step', coalesce(step_name, name) FROM steps
            WHERE coalesce(exit_code, 0) <> 0 OR failed OR timedout OR infrastructure_fail ORDER BY step, "index"
        """,
        "step_outputs": """SELECT _job_id, 'output', output FROM step_outputs ORDER BY step, "index" """,
        "builds": """
            SELECT job_id, 'build', coalesce(outcome, '') || ' ' || coalesce(fail_reason, '')
                || CASE WHEN timedout THEN ' timedout' ELSE '' END
                || CASE WHEN infrastructure_fail THEN ' infrastructure_fail' ELSE '' END
            FROM builds WHERE job_id IS NOT NULL
        """,
        "tests": """
            SELECT _job_id, 'test', coalesce(classname || '.', '') || name || coalesce(': ' || nullif(message, ''), '')
            FROM tests WHERE result IN ('failure', 'error') ORDER BY _index
        """,
    }
    for table, query in queries.items():
        for job, place, text in connection.execute(query) if table in filled else ():
            left[job].append((place, text))
    codes = "SELECT _job_id, exit_code FROM steps WHERE exit_code <> 0 ORDER BY step"
    for job, code in connection.execute(codes) if "steps" in filled else ():
        left[job].append(("exit_code", str(code)))
    return left


def _steps(connection: sqlite3.Connection, jobs: Iterable[Row], until: float) -> list[Step]:
    """The steps by name, those that take longest in the median first."""
    known = {row["id"]: row for row in jobs}
    query = """
        SELECT _job_id AS job, min(step_name) AS name, max(run_time_millis) / 1000.0 AS seconds
        FROM steps WHERE NOT coalesce(background, 0) AND run_time_millis IS NOT NULL GROUP BY _job_id, step
    """
    found: dict[tuple[str, str, str], list[tuple[int, float]]] = defaultdict(list)
    for row in _rows(connection, query):
        job = known.get(row["job"])
        if job:
            place = f"{job['name']}, {job['workflow']}"
            found[job["project"], place, row["name"]].append((job["started"], row["seconds"]))
    steps = []
    for (project, job_name, name), runs in found.items():
        recent = [seconds for started, seconds in runs if started > until - COMPARED]
        before = [seconds for started, seconds in runs if until - 2 * COMPARED < started <= until - COMPARED]
        steps.append(Step(project, job_name, name, [seconds for _, seconds in runs], recent, before))
    return steps


def _changes(
    connection: sqlite3.Connection, filled: Set[str], jobs: Iterable[Row], span: Sequence[float]
) -> list[Change]:
    """What each change cost, the dearest first: nothing twice, nothing lost."""
    requests: dict[str, str] = {}
    query = """
        SELECT DISTINCT workflows.pipeline_id, json_extract(builds.pull_request_urls, '$[0]')
        FROM builds JOIN workflows ON workflows.id = builds.workflow_id WHERE builds.pull_request_urls <> '[]'
    """
    for pipeline, url in connection.execute(query) if "builds" in filled else ():
        requests[pipeline] = f"#{url.rpartition('/')[2]}"
    known = {row["id"]: row for row in jobs}
    found: dict[tuple[str, str], list[tuple[float, bool, bool]]] = defaultdict(list)
    for row in _rows(connection, PAID, span):
        job = known.get(row["job"])
        branch = row["branch"] or "no branch"
        request = requests.get(row["pipeline"])
        name = f"{request} {branch}" if request else branch
        is_rerun, has_failed = bool(job and job["rerun"]), bool(job and job["status"] in FAILED)
        found[name, row["project"] or "no project"].append((row["credits"], is_rerun, has_failed))
    changes = [
        Change(
            *key,
            sum(credits for credits, _, _ in paid),
            sum(credits for credits, is_rerun, _ in paid if is_rerun),
            sum(credits for credits, _, has_failed in paid if has_failed),
        )
        for key, paid in found.items()
    ]
    return sorted(changes, key=lambda change: -change.credits)


def _queues(connection: sqlite3.Connection, filled: Set[str], jobs: Iterable[Row]) -> list[Wait]:
    """How long jobs waited for a machine, by its resource class where usage tells that, the longest first."""
    told = {
        "usage": "SELECT job_id AS job, seconds(job_run_queued_at) AS queued, resource_class AS name FROM usage",
        "builds": "SELECT job_id AS job, seconds(queued_at) AS queued, 'all machines' AS name FROM builds",
    }
    source = next((table for table in told if table in filled), None)
    queued = {row["job"]: row for row in _rows(connection, told[source])} if source else {}
    found: dict[str, list[int]] = defaultdict(list)
    for row in jobs:
        machine = queued.get(row["id"])
        if machine and machine["queued"] is not None:
            found[machine["name"] or "unknown"].append(max(0, row["started"] - machine["queued"]))
    waits = [Wait(name, "", seconds) for name, seconds in found.items()]
    return sorted(waits, key=lambda wait: -sum(wait.seconds) / len(wait.seconds))


def _approvals(jobs: Iterable[Row]) -> list[Wait]:
    """How long approvals were waited for, and how many are."""
    found: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in jobs:
        if row["type"] == "approval":
            found[f"{row['name']} of {row['workflow']}", row["project"]].append(row)
    waits = []
    for key, rows in found.items():
        ended = [row["stopped"] - row["started"] for row in rows if row["status"] == "success" and row["stopped"]]
        waits.append(Wait(*key, ended, sum(row["status"] == "on_hold" for row in rows)))
    return sorted(waits, key=lambda wait: -sum(wait.seconds))


def _reds(runs: Iterable[Row], until: float) -> list[Red]:
    """From the first failure on the default branch to the next success, per workflow, the longest first."""
    since: dict[tuple[str, str], int] = {}
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    for run in runs:
        key = run["project"], run["workflow"]
        if run["status"] != "success":
            since.setdefault(key, run["stopped"])
        elif key in since:
            found[key].append(run["stopped"] - since.pop(key))
    for key, began in since.items():
        found[key].append(int(until) - began)
    reds = [Red(*key, seconds, key in since) for key, seconds in found.items()]
    return sorted(reds, key=lambda red: -sum(red.seconds))


def _deployments(jobs: Iterable[Row]) -> list[Deployments]:
    """Jobs that deploy, by their names: on the default branch and tags, without previews."""
    found: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in jobs:
        is_one = DEPLOYS.search(row["name"]) and not PREVIEWS.search(row["name"]) and row["type"] != "approval"
        if is_one and (row["is_default"] or row["tag"]) and row["stopped"]:
            found[row["project"], row["name"]].append(row)
    deployments = []
    for key, rows in found.items():
        ended = sorted(
            (row for row in rows if row["status"] == "success" or row["status"] in FAILED),
            key=lambda row: (row["stopped"], row["id"]),
        )
        leads: dict[str, int] = {}
        outages: list[int] = []
        broken: int | None = None
        for row in ended:
            if row["status"] != "success":
                broken = row["stopped"] if broken is None else broken
                continue
            leads.setdefault(row["revision"] or row["id"], row["stopped"] - row["pushed"])
            if broken is not None:
                outages.append(row["stopped"] - broken)
                broken = None
        failed = sum(row["status"] != "success" for row in ended)
        deployments.append(Deployments(*key, len(ended) - failed, failed, [*leads.values()], outages))
    return sorted(deployments, key=lambda one: -one.succeeded)


def dollars(credits_used: float) -> float:
    """What credits cost at the usual price."""
    return credits_used * CREDIT_PRICE
