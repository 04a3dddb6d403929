"""The report's HTML: sections of figures, each with a sentence that says what they mean."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, timedelta
from html import escape
from pathlib import Path

from demo.report import answers_page, charts, html
from demo.report.figures import Figures, Job, Run, read, recoveries
from demo.report.numbers import percentile

STYLE = Path(__file__).with_name("page.css")
#: How many workflows get charts, and how many rows a ranking has.
CHARTED, RANKED = 6, 8
RESULTS = {"succeeded": "good", "failed": "bad", "canceled": "other"}
LEGEND = " ".join(
    f'<span class="key"><i class="{mark}"></i>{name}</span>'
    for name, mark in {**RESULTS, "median": "solid", "95th percentile": "dashed"}.items()
)


def write(database: Path, page: Path, as_of: datetime) -> None:
    """Write the report of a database whose tables, one a stream, hold what CircleCI showed at that moment."""
    figures = read(database, as_of)
    span = f"{html.day(figures.since)} to {html.day(figures.until.date())}"
    body = "\n".join(
        [
            "<header><h1>How the builds are doing</h1>",
            f'<p class="soft">{span} {figures.until.year}, as of {figures.until:%H:%M} UTC.</p></header>',
            _glance(figures),
            _contents(sections := [text for text in _sections(figures) if text]),
            *sections,
        ]
    )
    page.write_text(
        "<!DOCTYPE html>\n"
        '<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # The browser itself sees to it that the page asks for nothing and runs nothing.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"\n<title>How the builds are doing: {span}</title>\n"
        f"<style>\n{STYLE.read_text(encoding='utf-8')}</style></head>\n"
        f"<body><main>\n{body}\n</main></body></html>\n",
        encoding="utf-8",
    )


def _sections(figures: Figures) -> Iterator[str]:
    """The sections, empty where there is nothing to tell."""
    answers = figures.answers
    yield _workflows(figures)
    yield answers_page.failures(answers.failures)
    yield answers_page.steps(answers.steps)
    yield _slowest(figures.jobs)
    yield _flakiest(figures.jobs)
    yield _flaky_tests(figures)
    yield answers_page.waits(answers)
    yield answers_page.deployments(answers.deployments, max(1, len(figures.steps) * figures.step.days) / 7)
    yield answers_page.changes(answers.changes)
    yield _costs(figures)
    yield _tables(figures)


def _contents(sections: Iterable[str]) -> str:
    """Links to the sections, for the keyboard and for long pages."""
    found = [re.search('<h2 id="(.*?)">(.*?)</h2>', text) for text in sections]
    links = "".join(f'<li><a href="#{heading[1]}">{heading[2]}</a></li>' for heading in found if heading)
    return f'<nav aria-label="Sections"><ul>{links}</ul></nav>'


def _glance(figures: Figures) -> str:
    """The few figures that say most."""
    counts = Counter(run.result for run in figures.runs)
    recovered = recoveries(figures.runs)
    tiles = [
        (html.count(len(figures.runs)), "runs of workflows"),
        (_success(figures.runs), "succeeded"),
        (_success(run for run in figures.runs if run.is_default), "succeeded on the default branch"),
        (html.count(counts["failed"]), "failures"),
        (html.time(sum(recovered) / len(recovered) if recovered else None), "mean time to recovery"),
    ]
    if figures.costs:
        tiles.append((html.dollars(sum(cost.dollars for cost in figures.costs)), "cost, seats left out"))
    shown = "".join(f'<div class="tile"><b>{value}</b><span>{what}</span></div>' for value, what in tiles)
    return f'<section class="grid tiles" aria-label="At a glance">{shown}</section>'


def _workflows(figures: Figures) -> str:
    """Charts for the workflows that run most, a table for the rest."""
    grouped: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in figures.runs:
        grouped[run.project, run.workflow].append(run)
    ranked = sorted(grouped.items(), key=lambda item: (-len(item[1]), item[0]))
    cards = "".join(_workflow(figures, *names, runs) for names, runs in ranked[:CHARTED])
    more = [
        [html.named(workflow, project), html.count(len(runs)), _success(runs), *_typical(_seconds(runs))]
        for (project, workflow), runs in ranked[CHARTED:]
    ]
    return html.section(
        "Workflows",
        "The share that succeeded leaves out canceled runs. A duration includes waiting for approvals.",
        f'<p class="soft">{LEGEND}</p><div class="grid cards">{cards}</div>',
        html.table(["Other workflows", "#Runs", "#Succeeded", "#Median", "+95 % within"], more) if more else "",
    )


def _workflow(figures: Figures, project: str, workflow: str, runs: Sequence[Run]) -> str:
    """One workflow: how often it ran with which result, and how long it took, over time."""
    steps, each = figures.steps, "day" if figures.step == timedelta(days=1) else "week"
    by_step: dict[date, list[Run]] = defaultdict(list)
    for run in runs:
        by_step[figures.step_of(run.began)].append(run)
    counts = {result: [sum(run.result == result for run in by_step[step]) for step in steps] for result in RESULTS}
    taken = [_seconds(by_step[step]) for step in steps]
    unit, divisor = ("hours", 3600) if (percentile(_seconds(runs), 0.5) or 0) >= 5400 else ("minutes", 60)
    durations = {
        name: [
            None if (value := percentile(seconds, share)) is None else round(value / divisor, 2) for seconds in taken
        ]
        for name, share in (("median", 0.5), ("95th percentile", 0.95))
    }
    median, high = _typical(_seconds(runs))
    name = f"{escape(workflow)} of {escape(project)}"
    return (
        f'<article class="card"><h3>{escape(workflow)} <small>{escape(project)}</small></h3>'
        f'<p class="soft">{html.count(len(runs))} runs, {_success(runs)} succeeded'
        f" ({_success(run for run in runs if run.is_default)} on the default branch), median {median},"
        f" 95{html.GAP}% within {high}</p>"
        f"<h4>Runs per {each}</h4>"
        f"{charts.stacked_bars(f'Runs of {name} per {each}, by result', steps, counts)}"
        f"<h4>Duration in {unit}</h4>"
        f"{charts.lines(f'Duration of {name} per {each}, in {unit}', steps, durations)}</article>"
    )


def _slowest(jobs: Sequence[Job]) -> str:
    """The jobs that take longest."""
    ranked = sorted(jobs, key=lambda job: -(percentile(job.seconds, 0.5) or 0))[:RANKED]
    longest = max((percentile(job.seconds, 0.5) or 0 for job in ranked), default=0)
    rows = [
        [
            html.named(job.name, f"{job.workflow}, {job.project}"),
            html.bar(percentile(job.seconds, 0.5) or 0, longest, "good"),
            *_typical(job.seconds),
            html.count(len(job.seconds)),
        ]
        for job in ranked
    ]
    return html.section(
        "The slowest jobs",
        "By the median of the runs that succeeded or failed. A job that a rerun lists again counts once.",
        html.table(["Job", "|", "#Median", "+95 % within", "#Runs"], rows),
    )


def _flakiest(jobs: Sequence[Job]) -> str:
    """The jobs that fail and then pass without a change."""
    ranked = sorted((job for job in jobs if job.flaky_commits), key=lambda job: -job.flaky_commits / job.commits)
    ranked = ranked[:RANKED]
    worst = max((job.flaky_commits / job.commits for job in ranked), default=0)
    rows = [
        [
            html.named(job.name, f"{job.workflow}, {job.project}"),
            html.bar(job.flaky_commits / job.commits, worst, "bad"),
            f"{100 * job.flaky_commits / job.commits:.0f}{html.GAP}%",
            f"{html.count(job.flaky_commits)} of {html.count(job.commits)}",
            html.time(job.wasted),
        ]
        for job in ranked
    ]
    return html.section(
        "The flakiest jobs",
        "They failed, and passed on the same commit within 14 days."
        if rows
        else "No job failed and then passed on the same commit.",
        html.table(["Job", "|", "#Flaky", "+Commits", "#Time lost"], rows) if rows else "",
    )


def _flaky_tests(figures: Figures) -> str:
    """The tests that CircleCI calls flaky, where that is loaded."""
    if not figures.flaky_tests:
        return ""
    worst = max(test.times for test in figures.flaky_tests)
    rows = [
        [
            html.named(test.name, f"{test.job}, {test.project}"),
            html.bar(test.times, worst, "bad"),
            html.count(test.times),
            html.time(test.wasted),
        ]
        for test in figures.flaky_tests
    ]
    return html.section(
        "Flaky tests",
        "As CircleCI counts them: passed and failed on the same commit, in the last 14 days.",
        html.table(["Test", "|", "#Times", "#Time lost"], rows),
    )


def _costs(figures: Figures) -> str:
    """What the projects cost, and which jobs have the wrong size, where usage is loaded."""
    if not figures.costs:
        return ""
    highest = max(cost.dollars for cost in figures.costs)
    costs = [
        [
            escape(cost.project),
            html.bar(cost.dollars, highest, "good"),
            html.dollars(cost.dollars),
            html.count(round(cost.credits)),
            html.count(cost.jobs),
        ]
        for cost in figures.costs
    ]
    sizes = [
        [
            html.named(size.job, f"{size.resource_class}, {size.project}"),
            size.verdict,
            f"{size.cpu:.0f}{html.GAP}%",
            f"{size.ram:.0f}{html.GAP}%",
            html.dollars(size.dollars),
        ]
        for size in figures.sizes[:RANKED]
    ]
    return html.section(
        "Cost by project",
        "Credits without those for users' seats, at 0.0006 dollars each. Not an invoice.",
        html.table(["Project", "|", "#Cost", "#Credits", "+Jobs"], costs),
        "<h3>Jobs whose resource class does not fit</h3>"
        '<p class="soft">Too large: at their peak they use at most 40 % of CPU and of RAM.'
        " Too small: half of the time 80 % of the CPU, or at their peak 80 % of the RAM.</p>"
        + html.table(["Job", "Verdict", "+CPU", "+RAM", "#Cost"], sizes)
        if sizes
        else "",
    )


def _tables(figures: Figures) -> str:
    """What the database holds."""
    rows = [
        [f"<code>{escape(table.name).replace('_', '_<wbr>')}</code>", html.count(table.rows), html.moment(table.newest)]
        for table in figures.tables
        if table.rows
    ]
    empty = [escape(table.name) for table in figures.tables if not table.rows]
    return html.section(
        "The tables",
        f"As of {figures.until:%d %B %Y, %H:%M} UTC. Newest is the last end, change or beginning in the table.",
        html.table(["Table", "#Rows", "#Newest"], rows),
        f'<p class="soft">Empty: {", ".join(empty)}.</p>' if empty else "",
    )


def _seconds(runs: Iterable[Run]) -> list[int]:
    return [run.seconds for run in runs if run.seconds is not None]


def _success(runs: Iterable[Run]) -> str:
    """The share that succeeded."""
    counts = Counter(run.result for run in runs)
    judged = counts["succeeded"] + counts["failed"]
    return f"{100 * counts['succeeded'] / judged:.0f}{html.GAP}%" if judged else html.NONE


def _typical(seconds: Sequence[int]) -> tuple[str, str]:
    """The median and the 95th percentile."""
    return html.time(percentile(seconds, 0.5)), html.time(percentile(seconds, 0.95))
