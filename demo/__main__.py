"""`make run`: read CircleCI into a real target, and answer a question from what was loaded.

With a config.json in the current folder it is the real CircleCI, without one our own on loopback.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from demo.report import read as read_figures
from demo.report import write as write_report
from demo.report.answers import Answers, dollars
from demo.report.numbers import percentile
from tests.circleci import TOKEN, demo_world
from tests.integration.programs import ROOT, Command, discover, pour, tap_command, virtualenv, write_json

PURPOSE = """\
tap-circleci reads what ran in CircleCI (pipelines, workflows, jobs, their costs, flaky tests) and prints it
for any Singer target, which keeps it in tables. This shows a sync with a real target, the tables, a few questions that
SQL answers from them, and at the end a page to open in the browser."""
QUESTION = "How often does each workflow succeed, and how long does it take?"
ANSWER = """
WITH ended AS (
    SELECT coalesce(project.name, workflows.project_slug) AS project, workflows.name AS workflow, status,
           (julianday(stopped_at) - julianday(workflows.created_at)) * 24 * 60 AS minutes
    FROM workflows LEFT JOIN project ON project.slug = workflows.project_slug
    WHERE stopped_at IS NOT NULL AND status IN ('success', 'failed', 'error')
), ranked AS (
    SELECT *, count(*) OVER (PARTITION BY project, workflow) AS runs,
           row_number() OVER (PARTITION BY project, workflow ORDER BY minutes) AS place
    FROM ended
)
SELECT project, workflow, runs,
       printf('%.0f %%', 100.0 * sum(status = 'success') / runs) AS "success rate",
       printf('%.1f min', avg(CASE WHEN place IN ((runs + 1) / 2, (runs + 2) / 2) THEN minutes END)) AS "median time"
FROM ranked GROUP BY project, workflow, runs ORDER BY runs DESC LIMIT 20
"""
EXTRA_STREAMS = [
    "insights_workflows",
    "insights_workflow_runs",
    "flaky_tests",
    "tests",
    "builds",
    "steps",
    "step_outputs",
    "usage",
]
#: A matrix of 64 jobs a run would take most of the calls.
JOB_NAMES = ["*", "!browser-??"]
ANSWERS = {
    f"{QUESTION} (By SQL, without workflows that were canceled or have not ended.)": ANSWER,
    "Which tests fail now and then on the same commit, and how much time did that take? (flaky_tests)": """
SELECT coalesce(project.name, _project_slug) AS project, job_name AS job, classname || '.' || test_name AS test,
       times_flaked AS "flaked", printf('%.0f min', time_wasted / 60.0) AS "time wasted"
FROM flaky_tests LEFT JOIN project ON project.slug = _project_slug ORDER BY times_flaked DESC, test LIMIT 5
""",
    "What did each workflow cost? (usage: credits times the price of your plan, here 0.0006 USD)": """
SELECT project_name AS project, workflow_name AS workflow, count(*) AS "job runs",
       printf('%.0f', sum(total_credits)) AS credits,
       printf('%.2f USD', sum(total_credits - coalesce(user_credits, 0)) * 0.0006) AS cost
FROM usage WHERE job_id IS NOT NULL GROUP BY project, workflow ORDER BY sum(total_credits) DESC LIMIT 8
""",
    "Which jobs are larger than they need to be: at most 40 % of CPU and RAM used? (usage)": """
SELECT project_name AS project, job_name AS job, resource_class AS "resource class", count(*) AS runs,
       printf('%.0f %%', avg(max_cpu_utilization_pct)) AS "CPU, at most",
       printf('%.0f %%', avg(max_ram_utilization_pct)) AS "RAM, at most",
       printf('%.2f USD', sum(total_credits - coalesce(user_credits, 0)) * 0.0006) AS cost
FROM usage GROUP BY project, job, resource_class
HAVING avg(max_cpu_utilization_pct) <= 40 AND avg(max_ram_utilization_pct) <= 40
ORDER BY sum(total_credits) DESC LIMIT 5
""",
}


def main() -> int:
    """Sync once, show what came, and give the exit status."""
    say(PURPOSE)
    real = Path("config.json")
    if real.exists():
        say("Reading your CircleCI, as config.json says.")
        folder = Path("run")
        folder.mkdir(exist_ok=True)
        return sync(real, folder, datetime.now(timezone.utc))
    folder = Path("run", "demo")
    folder.mkdir(parents=True, exist_ok=True)
    with our_circleci(folder) as (config, as_of):
        return sync(config, folder, as_of)


def sync(config: Path, folder: Path, as_of: datetime) -> int:
    """Run the tap into target-jsonl, load the files into SQLite, and show the tables as of that moment."""
    first = not (folder / "state.json").exists()
    target = [virtualenv("target-jsonl", "target-jsonl==0.1.4") / "target-jsonl"]
    data, catalog, database = folder / "data", folder / "catalog.json", folder / "circleci.db"
    data.mkdir(exist_ok=True)
    settings = {"destination_path": str(data), "do_timestamp_file": False}
    target += ["--config", write_json(folder / "target.json", settings)]
    say("What streams are there? All of them are selected in the catalog.")
    command(["tap-circleci", "--config", config, "--discover"], ">", catalog)
    discover(config, catalog)
    tap = tap_command(folder, config)
    say(
        "The first sync reads everything:" if first else "There is a state of an earlier sync: only what is new or due."
    )
    command(tap, "|", *target, ">", folder / "states.jsonl")
    poured = pour(tap, target, folder, lambda line: None if "METRIC" in line else print(f"    {line}", flush=True))

    before = counts(database)
    load(catalog, data, database)
    after, (read, calls) = counts(database), metrics(folder / "tap.log")
    if not poured.well:
        say(
            f"Not all went well: the tap ended with status {poured.tap}, the target with {poured.target};"
            f" see {folder}/tap.log and {folder}/target.log."
        )
        if not after.total():
            return poured.tap or poured.target
    say("What the database holds now:")
    table(
        ["table", "rows", "new", "read this time"],
        [[name, str(rows), str(rows - before.get(name, 0)), str(read[name])] for name, rows in after.items()],
    )
    with closing(sqlite3.connect(database)) as connection:
        for question, sql in ANSWERS.items():
            try:
                answer = connection.execute(sql)
            except sqlite3.OperationalError:  # a stream that this catalog does not select
                continue
            rows = [[str(value) for value in row] for row in answer]
            if rows:
                say(question)
                table([column[0] for column in answer.description], rows)
    page = folder / "report.html"
    write_report(database, page, as_of)
    tell(read_figures(database, as_of).answers)
    new = after.total() - before.total()
    say(
        f"The first sync: {new} rows by {calls} calls."
        if first
        else f"Incremental: {new} new rows since the last sync, {read.total()} read, by {calls} calls."
    )
    for what, where in (
        ("Page", f"{page.resolve().as_uri()} (open it in a browser)"),
        ("Data", f"{database} (SQLite: the latest row of each key; from {data}/*.jsonl, what the target wrote)"),
        ("State", f"{folder / 'state.json'} (run again: only what is new; without it everything is read again)"),
        ("Logs", f"{folder / 'tap.log'}, {folder / 'target.log'}"),
    ):
        print(f"{what:6} {where}")
    return poured.tap or poured.target


def tell(answers: Answers) -> None:
    """Print the answers that take more than a query; the page has all of them."""
    total = sum(one.jobs for one in answers.failures)
    tables: dict[str, tuple[list[str], list[list[str]]]] = {
        "Why do jobs fail? (jobs, steps, step_outputs, builds, tests: by the rules of the dbt models)": (
            ["class", "jobs", "share", "most usual reason", "a line that told"],
            [
                [one.name, str(one.jobs), f"{100 * one.jobs / total:.0f} %", one.reasons[0][0], one.line[:60]]
                for one in answers.failures
            ],
        ),
        "What did each change cost, and what of it for reruns? (usage, builds)": (
            ["change", "project", "cost", "reruns"],
            [
                [one.name, one.project, f"{dollars(one.credits):.2f} USD", f"{dollars(one.rerun_credits):.2f} USD"]
                for one in answers.changes[:5]
            ],
        ),
        "Where do jobs wait for a machine? (usage or builds)": (
            ["resource class", "jobs", "median", "95 % within"],
            [
                [
                    wait.name,
                    str(len(wait.seconds)),
                    *(f"{percentile(wait.seconds, part):.0f} s" for part in (0.5, 0.95)),
                ]
                for wait in answers.queues
            ],
        ),
    }
    for question, (head, rows) in tables.items():
        if rows:
            say(question)
            table(head, rows)


@contextmanager
def our_circleci(folder: Path) -> Iterator[tuple[Path, datetime]]:
    """Serve the demo's CircleCI and give the config for it and its time.

    Its world is made anew for each run, the same each time, since the day of the first run is kept; only its clock
    moves on.
    """
    born = folder / "world.txt"
    if not born.exists():
        born.write_text((datetime.now(timezone.utc) - timedelta(days=1)).isoformat(), encoding="utf-8")
    yesterday = datetime.fromisoformat(born.read_text(encoding="utf-8"))
    first = not (folder / "state.json").exists()
    say("There is no config.json here, so a CircleCI of our own stands in for the real one, with made-up data.")
    print(
        "This first run shows it as it was a day ago, later runs show it as of now: so they have something new to read."
        if first
        else "This run shows it as of now."
    )
    if datetime.now(timezone.utc) > yesterday + timedelta(days=7):
        print(f"Its made-up work is over by now: remove {folder} to begin anew.")
    serve: Command = [sys.executable, "-m", "tests.circleci", "--now", yesterday.isoformat()]
    with subprocess.Popen(serve, cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8") as server:
        try:
            url = server.stdout.readline().strip()
            if not first:
                orders = json.dumps({"now": "now"}).encode()
                urllib.request.urlopen(f"{url}/_control", orders).close()  # noqa: S310 - our own server
            start_date = (yesterday - timedelta(days=31)).isoformat()
            settings = {
                "token": TOKEN,
                "extra_streams": EXTRA_STREAMS,
                "job_names": JOB_NAMES,
                "start_date": start_date,
            }
            slugs = [project["slug"] for project in demo_world(yesterday).projects.values()]
            config = write_json(folder / "config.json", {**settings, "project_slugs": slugs, "base_url": url})
            yield config, yesterday if first else datetime.now(timezone.utc)
        finally:
            server.terminate()


def load(catalog: Path, data: Path, database: Path) -> None:
    """Make the database from the target's files: a table a stream, of each key the row that came last."""
    draft = database.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    with closing(sqlite3.connect(draft)) as connection, connection:
        for stream in json.loads(catalog.read_text(encoding="utf-8"))["streams"]:
            name, columns = stream["stream"], list(stream["schema"]["properties"])
            keys = next(
                entry["metadata"]["table-key-properties"] for entry in stream["metadata"] if not entry["breadcrumb"]
            )
            connection.execute(f"CREATE TABLE {name} ({quoted(columns)}, PRIMARY KEY ({quoted(keys)}))")
            lines = data / f"{name}.jsonl"
            if lines.exists():
                with lines.open(encoding="utf-8") as file:
                    rows = ([plain(row.get(column)) for column in columns] for row in map(json.loads, file))
                    marks = ", ".join("?" * len(columns))
                    connection.executemany(f"REPLACE INTO {name} VALUES ({marks})", rows)  # noqa: S608 - the tap's names
    draft.replace(database)


def quoted(names: Iterable[str]) -> str:
    """Names of columns as SQL has them."""
    return ", ".join(f'"{name}"' for name in names)


def plain(value: Any) -> Any:
    """A value as SQLite can hold it: objects and lists as JSON."""
    return json.dumps(value) if isinstance(value, (dict, list)) else value


def counts(database: Path) -> Counter[str]:
    """How many rows each table has."""
    if not database.exists():
        return Counter()
    with closing(sqlite3.connect(database)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        count = "SELECT count(*) FROM {}"
        return Counter({name: connection.execute(count.format(name)).fetchone()[0] for name in names})


def metrics(log: Path) -> tuple[Counter[str], int]:
    """The rows of each stream and the number of calls, from the METRIC lines of the tap's log."""
    rows: Counter[str] = Counter()
    calls = 0
    for line in log.read_text(encoding="utf-8").splitlines():
        if "METRIC: " in line:
            metric = json.loads(line.split("METRIC: ", 1)[1])
            calls += metric["tags"].get("calls", 0)
            if metric["metric"] == "record_count":
                rows[metric["tags"]["endpoint"]] += metric["value"]
    return rows, calls


def say(text: str) -> None:
    """Begin a paragraph."""
    print(f"\n{text}", flush=True)


def command(words: Command, *more: str | Path) -> None:
    """Show a command line, programs by their bare names."""
    names = ("bin/tap-circleci", "bin/target-jsonl")
    shown = [Path(word).name if str(word).endswith(names) else str(word) for word in (*words, *more)]
    print("  $", " ".join(shown), flush=True)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print an aligned table, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, ["-" * width for width in widths], *rows):
        cells = (
            text.rjust(width) if rows and rows[0][place][:1].isdigit() else text.ljust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  " + "  ".join(cells).rstrip())


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
