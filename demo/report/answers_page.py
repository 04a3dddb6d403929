"""The report's sections of answers: failures, slow steps, waits, deployments, costs of changes."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from demo.report import html
from demo.report.answers import Answers, Change, Deployments, FailureClass, Red, Step, Wait, dollars
from demo.report.numbers import percentile

#: How many rows a ranking has.
RANKED = 8


def failures(classes: Sequence[FailureClass]) -> str:
    """Why jobs fail, by class."""
    total, most = sum(one.jobs for one in classes), max((one.jobs for one in classes), default=0)
    rows = [
        [
            html.named(one.name, ", ".join(f"{reason} {number}" for reason, number in one.reasons)),
            html.bar(one.jobs, most, "bad"),
            html.count(one.jobs),
            html.share(one.jobs, total),
            html.time(one.seconds),
        ]
        for one in classes
    ]
    lines = "".join(
        f"<dt>{escape(one.name)}</dt><dd><code>{escape(one.line[:160])}</code></dd>" for one in classes if one.line
    )
    return html.section(
        "Why jobs fail",
        "By rules that look at status, exit code, output and tests; flaky ones passed later on the same commit."
        if rows
        else "No job failed.",
        html.table(["Class", "|", "#Jobs", "#Share", "+Time lost"], rows) if rows else "",
        f"<details><summary>The last line that told, of each class</summary><dl>{lines}</dl></details>"
        if lines
        else "",
    )


def steps(found: Sequence[Step]) -> str:
    """The steps that take longest."""
    if not found:
        return ""
    ranked = sorted(found, key=lambda step: -(percentile(step.seconds, 0.5) or 0))[:RANKED]
    longest = percentile(ranked[0].seconds, 0.5) or 0
    rows = [
        [
            html.named(step.name, f"{step.job}, {step.project}"),
            html.bar(percentile(step.seconds, 0.5) or 0, longest, "good"),
            html.time(percentile(step.seconds, 0.5)),
            html.time(percentile(step.seconds, 0.95)),
            _change(step),
        ]
        for step in ranked
    ]
    return html.section(
        "The slowest steps",
        "Of parallel runs the slowest counts. Change: the median of the last 14 days against that of the 14 before.",
        html.table(["Step", "|", "#Median", "+95 % within", "#Change"], rows),
    )


def _change(step: Step) -> str:
    """How much longer a step takes than before, where there are enough runs to tell."""
    recent, before = percentile(step.recent, 0.5), percentile(step.before, 0.5)
    if not recent or not before or min(len(step.recent), len(step.before)) < 5:
        return html.NONE
    return f"{100 * (recent / before - 1):+.0f}{html.GAP}%".replace("-", "\u2212")


def changes(found: Sequence[Change]) -> str:
    """What changes cost, and what of it for nothing."""
    if not found:
        return ""
    shown, rest = found[:RANKED], found[RANKED:]
    if rest:
        sums = (sum(one.credits for one in rest), sum(one.rerun_credits for one in rest))
        shown = [*shown, Change(f"{len(rest)} more", "all projects", *sums, sum(one.failed_credits for one in rest))]
    most = max(change.credits for change in shown)
    rows = [
        [
            html.named(change.name, change.project),
            html.bar(change.credits, most, "good"),
            html.dollars(dollars(change.credits)),
            html.share(change.rerun_credits, change.credits),
            html.share(change.failed_credits, change.credits),
        ]
        for change in shown
    ]
    return html.section(
        "Cost by change",
        "Pull requests; what has none stands under its branch. All rows together are the whole cost.",
        html.table(["Change", "|", "#Cost", "+Reruns", "#Failed"], rows),
    )


def waits(answers: Answers) -> str:
    """How long jobs wait for machines, runs for approvals, and everybody for a green default branch."""
    parts = [_queues(answers.queues), _approvals(answers.approvals), _reds(answers.reds)]
    if not any(parts):
        return ""
    return html.section(
        "Waits", "For a machine, for somebody's approval, and until the default branch is green.", *parts
    )


def _queues(found: Sequence[Wait]) -> str:
    if not found:
        return ""
    most = max(percentile(wait.seconds, 0.95) or 0 for wait in found)
    rows = [
        [
            escape(wait.name),
            html.bar(percentile(wait.seconds, 0.95) or 0, most, "good"),
            html.time(percentile(wait.seconds, 0.5)),
            html.time(percentile(wait.seconds, 0.95)),
            html.count(len(wait.seconds)),
        ]
        for wait in found
    ]
    return "<h3>For a machine</h3>" + html.table(["Resource class", "|", "#Median", "#95 % within", "+Jobs"], rows)


def _approvals(found: Sequence[Wait]) -> str:
    if not found:
        return ""
    rows = [
        [
            html.named(wait.name, wait.project),
            html.count(len(wait.seconds)),
            html.time(percentile(wait.seconds, 0.5)),
            html.time(percentile(wait.seconds, 0.95)),
            html.count(wait.waiting),
        ]
        for wait in found[:RANKED]
    ]
    head = ["Approval", "#Given", "#Median", "+95 % within", "#Waiting"]
    return "<h3>For an approval</h3>" + html.table(head, rows)


def _reds(found: Sequence[Red]) -> str:
    if not found:
        return ""
    most = max(sum(red.seconds) for red in found)
    rows = [
        [
            html.named(red.workflow, f"{red.project}, red now" if red.is_red else red.project),
            html.bar(sum(red.seconds), most, "bad"),
            html.time(sum(red.seconds)),
            html.count(len(red.seconds)),
            html.time(max(red.seconds)),
        ]
        for red in found[:RANKED]
    ]
    return "<h3>For a green default branch</h3>" + html.table(["Workflow", "|", "#Red", "#Times", "+Longest"], rows)


def deployments(found: Sequence[Deployments], weeks: float) -> str:
    """What CircleCI tells of DORA's keys."""
    if not found:
        return ""
    rows = [
        [
            html.named(one.environment, one.project),
            f"{one.succeeded / weeks:.1f}",
            html.time(percentile(one.lead_seconds, 0.5)),
            html.share(one.failed, one.succeeded + one.failed),
            html.time(sum(one.outages) / len(one.outages) if one.outages else None),
        ]
        for one in found[:RANKED]
    ]
    return html.section(
        "Deployments",
        "Jobs that deploy, publish or release, on the default branch and tags. Lead time: the median from push to"
        " deployment. Outage: from a failed deployment to the next that succeeds. What breaks later is not seen.",
        html.table(["Deployment", "#A week", "#Lead time", "#Failed", "+Outage"], rows),
    )
