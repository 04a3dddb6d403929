"""The report's HTML: sections of figures, each with a sentence that says what they mean."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from html import escape
from pathlib import Path

from demo.report import charts
from demo.report.figures import Figures, Job, Run, percentile, read, recoveries

#: Numbers and their units stay on one line.
GAP = "\u00a0"
NONE = "\u2013"
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
    span = f"{_day(figures.since)} to {_day(figures.until.date())}"
    body = "\n".join(
        [
            "<header><h1>How the builds are doing</h1>",
            f'<p class="soft">{span} {figures.until.year}, as of {figures.until:%H:%M} UTC.</p></header>',
            _glance(figures),
            _workflows(figures),
            _slowest(figures.jobs),
            _flakiest(figures.jobs),
            _flaky_tests(figures),
            _costs(figures),
            _tables(figures),
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


def _glance(figures: Figures) -> str:
    """The few figures that say most."""
    counts = Counter(run.result for run in figures.runs)
    recovered = recoveries(figures.runs)
    tiles = [
        (_count(len(figures.runs)), "runs of workflows"),
        (_success(figures.runs), "succeeded"),
        (_time(percentile(_seconds(figures.runs), 0.5)), "median duration"),
        (_count(counts["failed"]), "failures"),
        (_time(sum(recovered) / len(recovered) if recovered else None), "mean time to recovery"),
    ]
    if figures.costs:
        tiles.append((_dollars(sum(cost.dollars for cost in figures.costs)), "cost, seats left out"))
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
        [_named(workflow, project), _count(len(runs)), _success(runs), *_typical(_seconds(runs))]
        for (project, workflow), runs in ranked[CHARTED:]
    ]
    return _section(
        "Workflows",
        "The share that succeeded leaves out canceled runs. A duration includes waiting for approvals.",
        f'<p class="soft">{LEGEND}</p><div class="grid cards">{cards}</div>',
        _table(["Other workflows", "#Runs", "#Succeeded", "#Median", "+95 % within"], more) if more else "",
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
        f'<p class="soft">{_count(len(runs))} runs, {_success(runs)} succeeded, median {median},'
        f" 95{GAP}% within {high}</p>"
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
            _named(job.name, f"{job.workflow}, {job.project}"),
            _bar(percentile(job.seconds, 0.5) or 0, longest, "good"),
            *_typical(job.seconds),
            _count(len(job.seconds)),
        ]
        for job in ranked
    ]
    return _section(
        "The slowest jobs",
        "By the median of the runs that succeeded or failed. A job that a rerun lists again counts once.",
        _table(["Job", "|", "#Median", "+95 % within", "#Runs"], rows),
    )


def _flakiest(jobs: Sequence[Job]) -> str:
    """The jobs that fail and then pass without a change."""
    ranked = sorted((job for job in jobs if job.flaky_commits), key=lambda job: -job.flaky_commits / job.commits)
    ranked = ranked[:RANKED]
    worst = max((job.flaky_commits / job.commits for job in ranked), default=0)
    rows = [
        [
            _named(job.name, f"{job.workflow}, {job.project}"),
            _bar(job.flaky_commits / job.commits, worst, "bad"),
            f"{100 * job.flaky_commits / job.commits:.0f}{GAP}%",
            f"{_count(job.flaky_commits)} of {_count(job.commits)}",
            _time(job.wasted),
        ]
        for job in ranked
    ]
    return _section(
        "The flakiest jobs",
        "They failed, and passed on the same commit within 14 days."
        if rows
        else "No job failed and then passed on the same commit.",
        _table(["Job", "|", "#Flaky", "+Commits", "#Time lost"], rows) if rows else "",
    )


def _flaky_tests(figures: Figures) -> str:
    """The tests that CircleCI calls flaky, where that is loaded."""
    if not figures.flaky_tests:
        return ""
    worst = max(test.times for test in figures.flaky_tests)
    rows = [
        [
            _named(test.name, f"{test.job}, {test.project}"),
            _bar(test.times, worst, "bad"),
            _count(test.times),
            _time(test.wasted),
        ]
        for test in figures.flaky_tests
    ]
    return _section(
        "Flaky tests",
        "As CircleCI counts them: passed and failed on the same commit, in the last 14 days.",
        _table(["Test", "|", "#Times", "#Time lost"], rows),
    )


def _costs(figures: Figures) -> str:
    """What the projects cost, and which jobs have the wrong size, where usage is loaded."""
    if not figures.costs:
        return ""
    highest = max(cost.dollars for cost in figures.costs)
    costs = [
        [
            escape(cost.project),
            _bar(cost.dollars, highest, "good"),
            _dollars(cost.dollars),
            _count(round(cost.credits)),
            _count(cost.jobs),
        ]
        for cost in figures.costs
    ]
    sizes = [
        [
            _named(size.job, f"{size.resource_class}, {size.project}"),
            size.verdict,
            f"{size.cpu:.0f}{GAP}%",
            f"{size.ram:.0f}{GAP}%",
            _dollars(size.dollars),
        ]
        for size in figures.sizes[:RANKED]
    ]
    return _section(
        "Cost by project",
        "Credits without those for users' seats, at 0.0006 dollars each. Not an invoice.",
        _table(["Project", "|", "#Cost", "#Credits", "+Jobs"], costs),
        "<h3>Jobs whose resource class does not fit</h3>"
        '<p class="soft">Too large: at their peak they use at most 40 % of CPU and of RAM.'
        " Too small: half of the time 80 % of the CPU, or at their peak 80 % of the RAM.</p>"
        + _table(["Job", "Verdict", "#CPU", "#RAM", "+Cost"], sizes)
        if sizes
        else "",
    )


def _tables(figures: Figures) -> str:
    """What the database holds."""
    rows = [
        [f"<code>{escape(table.name).replace('_', '_<wbr>')}</code>", _count(table.rows), _moment(table.newest)]
        for table in figures.tables
        if table.rows
    ]
    empty = [escape(table.name) for table in figures.tables if not table.rows]
    return _section(
        "The tables",
        f"As of {figures.until:%d %B %Y, %H:%M} UTC. Newest is the last end, change or beginning in the table.",
        _table(["Table", "#Rows", "#Newest"], rows),
        f'<p class="soft">Empty: {", ".join(empty)}.</p>' if empty else "",
    )


def _section(title: str, note: str, *parts: str) -> str:
    return f'<section><h2>{title}</h2><p class="soft">{note}</p>{"".join(parts)}</section>'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; | heads bars, # numbers, and + those that a narrow screen leaves out."""
    marks = {"|": "bar", "#": "number", "+": "number wide"}
    classes = [marks.get(title[0], "") for title in head]

    def line(tag: str, cells: Sequence[str]) -> str:
        inner = (
            f'<{tag} class="{name}">{cell}</{tag}>' if name else f"<{tag}>{cell}</{tag}>"
            for name, cell in zip(classes, cells, strict=True)
        )
        return f"<tr>{''.join(inner)}</tr>"

    titles = line("th", [title.lstrip("|#+") for title in head])
    body = "".join(line("td", row) for row in rows)
    return f'<div class="scroll"><table><thead>{titles}</thead><tbody>{body}</tbody></table></div>'


def _bar(value: float, most: float, colour: str) -> str:
    return f'<i class="{colour}" style="width:{100 * value / most if most else 0:.1f}%"></i>'


def _named(name: str, place: str) -> str:
    return f"{escape(name)}<small>{escape(place)}</small>"


def _seconds(runs: Iterable[Run]) -> list[int]:
    return [run.seconds for run in runs if run.seconds is not None]


def _success(runs: Iterable[Run]) -> str:
    """The share that succeeded."""
    counts = Counter(run.result for run in runs)
    judged = counts["succeeded"] + counts["failed"]
    return f"{100 * counts['succeeded'] / judged:.0f}{GAP}%" if judged else NONE


def _typical(seconds: Sequence[int]) -> tuple[str, str]:
    """The median and the 95th percentile."""
    return _time(percentile(seconds, 0.5)), _time(percentile(seconds, 0.95))


def _time(seconds: float | None) -> str:
    """A duration in the unit that suits it."""
    if seconds is None:
        return NONE
    for unit, length, most in (("s", 1, 100), ("min", 60, 6000), ("h", 3600, 360_000)):
        if seconds < most:
            value = seconds / length
            return f"{value:.0f}{GAP}{unit}" if unit == "s" or value >= 20 else f"{value:.1f}{GAP}{unit}"
    return f"{seconds / 86_400:.0f}{GAP}d"


def _count(number: int) -> str:
    return f"{number:,}".replace(",", "\u202f")


def _dollars(amount: float) -> str:
    return f"${amount:,.2f}" if amount < 100 else f"${amount:,.0f}"


def _day(day: date) -> str:
    return f"{day.day} {day:%B}"


def _moment(text: str | None) -> str:
    """A time of the database's, shorter."""
    return escape(text[:16].replace("T", " ")) if text else NONE
