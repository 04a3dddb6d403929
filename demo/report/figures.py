"""The figures of the report, by SQL from the tables as they were loaded."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

from demo.report.answers import Answers, answer

#: The report looks back so far, by day while there is not more than this many of them, else by week.
MOST_DAYS, MOST_WEEKS = 42, 26
#: Fails and then passes on the same commit within this time: flaky, as CircleCI has it.
FLAKY = timedelta(days=14)
CREDIT_PRICE = 0.0006
#: More jobs than this whose names differ in numbers only are shown as one.
MATRIX = 3

RUNS = """
WITH projects AS (
    SELECT slug, min(name) AS name, min(json_extract(vcs_info, '$.default_branch')) AS branch FROM project GROUP BY slug
)
SELECT coalesce(project.name, workflows.project_slug), workflows.name, workflows.status,
       seconds(workflows.created_at), seconds(workflows.stopped_at), json_extract(pipelines.vcs, '$.branch'),
       json_extract(pipelines.vcs, '$.branch') IS coalesce(project.branch, 'main')
FROM workflows
LEFT JOIN pipelines ON pipelines.id = workflows.pipeline_id
LEFT JOIN projects AS project ON project.slug = workflows.project_slug
WHERE workflows.status <> 'not_run' AND seconds(workflows.created_at) <= ?
ORDER BY workflows.created_at
"""
# A rerun "from failed" lists jobs of the run before again: a job counts where it was listed first.
JOBS = """
WITH projects AS (SELECT slug, min(name) AS name FROM project GROUP BY slug), listed AS (
    SELECT jobs.*, workflows.name AS workflow,
           row_number() OVER (PARTITION BY jobs.id ORDER BY workflows.created_at) AS listing
    FROM jobs JOIN workflows ON workflows.id = jobs._workflow_id
)
SELECT coalesce(project.name, listed.project_slug), listed.workflow, listed.name, listed.status,
       seconds(listed.started_at), seconds(listed.stopped_at), json_extract(pipelines.vcs, '$.revision')
FROM listed
LEFT JOIN pipelines ON pipelines.id = listed._pipeline_id
LEFT JOIN projects AS project ON project.slug = listed.project_slug
WHERE listing = 1 AND listed.type IS NOT 'approval' AND seconds(listed.stopped_at) BETWEEN ? AND ?
      AND listed.started_at IS NOT NULL
ORDER BY listed.started_at
"""
FLAKY_TESTS = """
WITH projects AS (SELECT slug, min(name) AS name FROM project GROUP BY slug)
SELECT coalesce(project.name, flaky_tests._project_slug), flaky_tests.job_name,
       trim(coalesce(classname, '') || ' ' || test_name), times_flaked, coalesce(time_wasted, 0)
FROM flaky_tests
LEFT JOIN projects AS project ON project.slug = flaky_tests._project_slug
ORDER BY times_flaked DESC, 3 LIMIT 8
"""
COSTS = """
SELECT coalesce(project_name, 'no project'), count(job_id), sum(coalesce(total_credits, 0) - coalesce(user_credits, 0))
FROM usage WHERE seconds(_date) BETWEEN ? AND ?
GROUP BY project_name HAVING sum(coalesce(total_credits, 0) - coalesce(user_credits, 0)) > 0
ORDER BY 3 DESC
"""
SIZES = """
SELECT project_name, job_name, resource_class, avg(median_cpu_utilization_pct), avg(max_cpu_utilization_pct),
       avg(max_ram_utilization_pct), sum(coalesce(total_credits, 0) - coalesce(user_credits, 0)) AS credits
FROM usage
WHERE seconds(_date) BETWEEN ? AND ? AND max_cpu_utilization_pct IS NOT NULL AND max_ram_utilization_pct IS NOT NULL
GROUP BY project_name, workflow_name, job_name, resource_class ORDER BY credits DESC
"""
RESULTS = {"success": "succeeded", "canceled": "canceled"} | dict.fromkeys(
    ("failed", "error", "unauthorized"), "failed"
)
FAILED_JOB = ("failed", "timedout", "infrastructure_fail", "terminated-unknown", "unauthorized")


@dataclass(frozen=True)
class Run:
    """A run of a workflow that has ended or is under way; without a result while it is."""

    project: str
    workflow: str
    result: str | None
    began: int
    ended: int | None
    branch: str | None
    is_default: bool

    @property
    def seconds(self) -> int | None:
        """How long it took."""
        return None if self.result is None or self.ended is None else self.ended - self.began


@dataclass(frozen=True)
class Job:
    """A job's runs: how long they take, and how often they failed and then passed on the same commit."""

    project: str
    workflow: str
    name: str
    seconds: Sequence[int]
    commits: int
    flaky_commits: int
    wasted: int


@dataclass(frozen=True)
class FlakyTest:
    """A test as CircleCI reports it."""

    project: str
    job: str
    name: str
    times: int
    wasted: int


@dataclass(frozen=True)
class Cost:
    """What a project's jobs cost."""

    project: str
    jobs: int
    credits: float

    @property
    def dollars(self) -> float:
        """At the usual price of a credit."""
        return self.credits * CREDIT_PRICE


@dataclass(frozen=True)
class Size:
    """A job that has too much of CPU and RAM, or too little of one."""

    project: str
    job: str
    resource_class: str
    verdict: str
    cpu: float
    ram: float
    dollars: float


@dataclass(frozen=True)
class Table:
    """A table, with how many rows it has, and its newest moment."""

    name: str
    rows: int
    newest: str | None


@dataclass(frozen=True)
class Figures:
    """All that the report shows of the time from a day to a moment."""

    since: date
    until: datetime
    step: timedelta
    runs: Sequence[Run]
    jobs: Sequence[Job]
    flaky_tests: Sequence[FlakyTest]
    costs: Sequence[Cost]
    sizes: Sequence[Size]
    tables: Sequence[Table]
    answers: Answers

    @property
    def steps(self) -> Sequence[date]:
        """The days, or the Mondays of the weeks, of the time."""
        count = (self.until.date() - self.since) // self.step + 1
        return [self.since + number * self.step for number in range(count)]

    def step_of(self, moment: int) -> date:
        """The day or week that a moment falls in."""
        day = datetime.fromtimestamp(moment, timezone.utc).date()
        return self.since + (day - self.since) // self.step * self.step


def read(database: Path, as_of: datetime) -> Figures:
    """The figures of a database as of a moment."""
    until = as_of.astimezone(timezone.utc)
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        connection.create_function("seconds", 1, _seconds, deterministic=True)
        tables = _tables(connection)
        filled = {table.name for table in tables if table.rows}
        runs = [
            Run(project, workflow, RESULTS.get(status), began, ended, branch, bool(is_default))
            for project, workflow, status, began, ended, branch, is_default in connection.execute(
                RUNS, [until.timestamp()]
            )
        ]
        since, step = _span(runs, until)
        first = datetime.combine(since, datetime.min.time(), timezone.utc).timestamp()
        span = [first, until.timestamp()]
        usage = "usage" in filled
        return Figures(
            since=since,
            until=until,
            step=step,
            runs=[run for run in runs if run.began >= first],
            jobs=_jobs(connection.execute(JOBS, span)),
            flaky_tests=[FlakyTest(*row) for row in connection.execute(FLAKY_TESTS)] if "flaky_tests" in filled else [],
            costs=[Cost(*row) for row in connection.execute(COSTS, span)] if usage else [],
            sizes=_sizes(connection.execute(SIZES, span)) if usage else [],
            tables=tables,
            answers=answer(connection, filled, *span),
        )


def recoveries(runs: Iterable[Run]) -> list[int]:
    """Seconds from each failure to the end of the next success of the workflow on the same branch."""
    found: list[int] = []
    failures: dict[tuple[str, str, str | None], list[int]] = defaultdict(list)
    for run in runs:
        red = failures[run.project, run.workflow, run.branch]
        if run.result == "failed" and run.ended is not None:
            red.append(run.ended)
        elif run.result == "succeeded" and run.ended is not None:
            found += [max(0, run.ended - ended) for ended in red]
            red.clear()
    return found


def _seconds(text: str | None) -> int | None:
    """Seconds since 1970 of a time as the tap writes it."""
    return int(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()) if text else None


def _span(runs: Sequence[Run], until: datetime) -> tuple[date, timedelta]:
    """The first day of the report, and the length of its steps."""
    today = until.date()
    first = min((datetime.fromtimestamp(run.began, timezone.utc).date() for run in runs), default=today)
    if (today - first).days < MOST_DAYS:
        return first, timedelta(days=1)
    monday = max(first, today - timedelta(weeks=MOST_WEEKS - 1))
    return monday - timedelta(days=monday.weekday()), timedelta(weeks=1)


def _jobs(rows: Iterable[tuple[str, str, str, str, int, int, str | None]]) -> list[Job]:
    """Jobs by name, from their runs in the order of their start."""
    seconds: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    commits: dict[tuple[str, str, str], dict[str, list[tuple[str, int, int]]]] = defaultdict(lambda: defaultdict(list))
    known = list(rows)
    names = {(workflow, name) for _, workflow, name, *_ in known}
    alike = Counter((workflow, _numberless(name)) for workflow, name in names)
    for project, workflow, name, status, started, stopped, revision in known:
        # Of a matrix one line tells enough.
        family = workflow, _numberless(name)
        job = project, workflow, family[1] if alike[family] > MATRIX else name
        if status == "success" or status in FAILED_JOB:
            seconds[job].append(stopped - started)
            if revision:
                commits[job][revision].append((status, started, stopped - started))
    jobs = []
    for job, taken in seconds.items():
        flakes = {revision: _flakes(runs) for revision, runs in commits[job].items()}
        flaky = [lost for lost in flakes.values() if lost]
        jobs.append(Job(*job, taken, len(flakes), len(flaky), sum(map(sum, flaky))))
    return jobs


def _numberless(name: str) -> str:
    """A job's name without the numbers that tell the jobs of a matrix apart."""
    return re.sub(r"\d+", "*", name)


def _flakes(runs: Sequence[tuple[str, int, int]]) -> list[int]:
    """How long those runs of a job on one commit took that failed before one that passed."""
    return [
        taken
        for place, (status, started, taken) in enumerate(runs)
        if status != "success"
        and any(later == "success" and at - started <= FLAKY.total_seconds() for later, at, _ in runs[place + 1 :])
    ]


def _sizes(rows: Iterable[tuple[str, str, str, float | None, float, float, float]]) -> list[Size]:
    """The jobs that do not fit, the dearest first: at most 40 % used of all, or 80 % and more of something."""
    found = []
    for project, job, resource_class, median_cpu, cpu, ram, credits_used in rows:
        if (median_cpu or 0) >= 80 or ram >= 80:
            verdict = "too small"
        elif cpu <= 40 and ram <= 40:
            verdict = "too large"
        else:
            continue
        found.append(Size(project, job, resource_class, verdict, cpu, ram, credits_used * CREDIT_PRICE))
    return found


def _tables(connection: sqlite3.Connection) -> list[Table]:
    """The tables, in the order of their making."""
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    tables = []
    for name in names:
        columns = {row[1] for row in connection.execute(f'PRAGMA table_info("{name}")')}
        moments = [
            column for column in ("stopped_at", "updated_at", "updated-at", "created_at", "_date") if column in columns
        ]
        newest = f'max("{moments[0]}")' if moments else "NULL"
        look = f'SELECT count(*), {newest} FROM "{name}"'  # noqa: S608 - names of the database's own
        tables.append(Table(name, *connection.execute(look).fetchone()))
    return tables
