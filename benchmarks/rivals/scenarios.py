"""What is compared: each function puts the taps into one situation and reports how they fare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import mean, median
from typing import TypeVar

from benchmarks.rivals.report import Report
from benchmarks.rivals.runs import Run, Verdict, judge, lost, merge, sync
from benchmarks.rivals.service import DAY, Service
from benchmarks.rivals.taps import COMMON, Ours, Tap
from tests.circleci import STREAMS, Row, moment, stamp

T = TypeVar("T")


@dataclass(frozen=True)
class Sizes:
    """How large the worlds are (in pipelines) and how often is measured."""

    timed: int = 100
    slow: int = 200
    weighed: int = 300
    history: int = 2000
    killed: int = 150
    troubled: int = 60
    hours: int = 24
    rounds: int = 3
    patience: float = 90


QUICK = Sizes(timed=30, slow=30, weighed=100, history=300, killed=60, troubled=30, hours=6, rounds=1, patience=60)


def side_by_side(work: Callable[[Tap], T], taps: Sequence[Tap]) -> list[T]:
    """Do this with all taps at once, where time is not what is measured."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(work, taps))


def verdict_of(tap: Tap, service: Service, runs: Sequence[Run], tables: Sequence[str] = COMMON) -> Verdict:
    """How what these runs delivered compares with the truth of this moment."""
    return judge(merge(runs), tap.truth(service, tables))


def in_words(run: Run, verdict: Verdict) -> str:
    """The end of a run and what is amiss."""
    ended = "does not end" if run.status is None else f"exit {run.status}"
    missing = f"{verdict.missing} of {verdict.wanted} rows missing" if verdict.missing else "all rows"
    return ", ".join([ended, missing, *([f"{verdict.stale} rows not true"] if verdict.stale else [])])


# Rows


def rows(report: Report, taps: Sequence[Tap], sizes: Sizes) -> None:
    """Every table of a company's five weeks, and of a world of oddities."""

    def work(tap: Tap) -> tuple[str, Verdict, str, set[str], Run, Verdict]:
        with Service("demo") as service:
            run = sync(tap, service, tables=STREAMS)
            tables, truth = merge([run]), tap.truth(service, STREAMS)
            verdict, fields = judge(tables, truth), lost(tables, truth)
            known = {row["id"] for row in truth["workflows"]}
            jobs = list(tables.get("jobs", {}).values())
            joined = sum(row.get("_workflow_id") in known for row in jobs)
        with Service("odd") as service:
            odd = sync(tap, service, tables=STREAMS)
            tables, truth = merge([odd]), tap.truth(service, STREAMS)
            fields |= lost(tables, truth)
            return in_words(run, verdict), verdict, f"{joined} of {len(jobs)}", fields, odd, judge(tables, truth)

    found = side_by_side(work, taps)
    report.part("Rows, first sync of a company's five weeks")
    ours = found[0][1]
    report.row(
        "a company's five weeks: how the first sync ends",
        [words for words, *_ in found],
        "" if ours.true else found[0][0],
    )
    for table in STREAMS:
        short = "" if len(set(ours.by_table[table].split(" of "))) == 1 else "not all rows"
        report.row(f"`{table}`", [verdict.by_table.get(table, "no such table") for _, verdict, *_ in found], short)
    joined = [cell for _, _, cell, *_ in found]
    report.row("jobs that can be joined to their workflow", joined, _part_of(joined[0], "not all"))
    short = ", ".join(sorted(found[0][3]))
    report.row("fields lost", [_fields(fields) for _, _, _, fields, *_ in found], short)
    oddities = [in_words(run, verdict) for *_, run, verdict in found]
    report.row("a world of the API's oddities", oddities, "" if _good(*found[0][4:]) else oddities[0])


def _part_of(cell: str, complaint: str) -> str:
    have, _, wanted = cell.partition(" of ")
    return "" if have == wanted else complaint


def _good(run: Run, verdict: Verdict) -> bool:
    return run.status == 0 and verdict.true


def _fields(names: set[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names)) or "none"


# Time and calls


def speed(report: Report, taps: Sequence[Tap], sizes: Sizes) -> None:
    """First syncs at two latencies, and later ones."""
    report.part("Time and calls")
    with Service("history", pipelines=sizes.slow, per_day=10, latency=0.1) as service:
        _first_syncs(report, taps, service, f"{sizes.slow} pipelines at 100 ms a call", sizes.rounds, 1, (7, 20))
    with Service("history", pipelines=sizes.timed, per_day=10, latency=0.02) as service:
        label = f"{sizes.timed} pipelines at 20 ms a call"
        runs = _first_syncs(report, taps, service, label, sizes.rounds, min(sizes.rounds, 2), (1, 1))
        report.row(f"calls of a first sync of {sizes.timed} pipelines", [run.calls for run in runs])
        _later(report, taps, service, runs)


def _first_syncs(
    report: Report,
    taps: Sequence[Tap],
    service: Service,
    label: str,
    rounds: int,
    rounds_of_rivals: int,
    wanted: tuple[float, float],
) -> list[Run]:
    """Time first syncs, the taps in turn; the rivals' times hardly vary when most of it is latency."""
    runs: list[list[Run]] = [[] for _ in taps]
    wide: list[float] = []
    for number in range(rounds):
        for place, tap in enumerate(taps):
            if place == 0 or number < rounds_of_rivals:
                runs[place].append(sync(tap, service))
        wide.append(sync(taps[0], service, workers=32).seconds)
    narrow, *rivals = [[run.seconds for run in own] for own in runs]
    report.ratios(f"time of a first sync, {label}, ours with 8 requests at once", [narrow, *rivals], wanted[0])
    report.ratios(f"time of a first sync, {label}, ours with 32 requests at once", [wide, *rivals], wanted[1])
    return [own[-1] for own in runs]


def _later(report: Report, taps: Sequence[Tap], service: Service, before: list[Run]) -> None:
    """A sync with nothing new, and one a day and ten pipelines later."""
    labels = ("a minute later, nothing new", "a day and 10 pipelines later")
    histories = [[run] for run in before]
    for label, pipelines, seconds in ((labels[0], 0, 60), (labels[1], 10, DAY)):
        service.work(service.slugs[0], pipelines, seconds)
        for tap, runs in zip(taps, histories, strict=True):
            runs.append(sync(tap, service, state=runs[-1].state))
        latest = [runs[-1] for runs in histories]
        report.ratios(f"calls {label} (ours {latest[0].calls})", [[run.calls] for run in latest])
        report.ratios(f"time {label}, 20 ms a call", [[run.seconds] for run in latest])
    verdicts = [verdict_of(tap, service, runs) for tap, runs in zip(taps, histories, strict=True)]
    cells = [in_words(runs[-1], verdict) for runs, verdict in zip(histories, verdicts, strict=True)]
    report.row("rows after these three syncs", cells, "" if verdicts[0].true else cells[0])


def hourly(report: Report, taps: Sequence[Tap], sizes: Sizes) -> None:
    """A long history, then an hour and a pipeline later once more; ours every hour of a day, for the mean."""

    def work(tap: Tap) -> tuple[Run, list[Run], Verdict]:
        with Service("history", pipelines=sizes.history) as service:
            first = sync(tap, service, limit=sizes.patience, keep=isinstance(tap, Ours))
            runs = [first]
            for hour in range(sizes.hours if isinstance(tap, Ours) else 1 if first.status == 0 else 0):
                service.work(service.slugs[0], 2 if hour % 4 == 0 else 1, 3600)
                runs.append(sync(tap, service, state=runs[-1].state, limit=sizes.patience))
            return first, runs[1:], verdict_of(tap, service, runs) if isinstance(tap, Ours) else Verdict()

    found = side_by_side(work, taps)
    ours = [run.calls for run in found[0][1]]
    report.part(f"An hourly sync, {sizes.history} pipelines of history, 30 a day")
    calls = [[mean(run.calls for run in later or [first])] for first, later, _ in found]
    ended = "".join("1" if later else "0" for _, later, _ in found)
    label = f"calls of an hourly sync (ours {mean(ours):.0f} in the mean of {len(ours)}, at most {max(ours)})"
    report.ratios(label, calls, 50, ended)
    ends = [f"does not end in {sizes.patience:.0f} s" if run.status is None else "ends" for run, *_ in found]
    report.row("its first sync", ends, "" if found[0][0].status == 0 else ends[0])
    verdict = found[0][2]
    report.row(
        "rows after all of them", [in_words(found[0][1][-1], verdict), "", ""], "" if verdict.true else "not true"
    )
    states = [len(run.state_line) for run, *_ in found]
    report.ratios(f"size of the last state (ours {states[0]} bytes)", [[size] for size in states], 1, ended)
    report.ratios("bytes of all STATE lines", [[run.state_bytes] for run, *_ in found], 1, ended)
    memory = [run.memory for run, *_ in found]
    label = f"peak memory of the first sync (ours {memory[0] / 1024:.1f} MB)"
    report.ratios(label, [[size] for size in memory], 0.95, ended)  # one run differs that much from the next


def weight(report: Report, taps: Sequence[Tap], sizes: Sizes) -> None:
    """CPU and memory of first syncs, the three in turn."""
    runs: list[list[Run]] = [[] for _ in taps]
    with Service("history", pipelines=sizes.weighed) as service:
        for _ in range(sizes.rounds):
            for tap, own in zip(taps, runs, strict=True):
                own.append(sync(tap, service, keep=False))
    report.part(f"Weight, first sync of {sizes.weighed} pipelines")
    cpu = [[run.cpu / len(run.records) * 1000 for run in own] for own in runs]
    report.ratios(f"CPU seconds per 1,000 rows (ours {median(cpu[0]):.2f})", cpu, 2)
    memory = [[float(run.memory) for run in own] for own in runs]
    # A history that hardly fills any memory: the threads show, which is no shortfall. See `hourly` for a long one.
    report.ratios(f"peak memory (ours {median(memory[0]) / 1024:.1f} MB)", memory, 0)


# Change and trouble


def change(report: Report, taps: Sequence[Tap], sizes: Sizes) -> None:
    """Reruns and a late approval, in a company whose other work goes on as well."""
    found = side_by_side(_changes, taps)
    report.part("What changes later")
    for number, label in enumerate(
        (
            "a rerun of a pipeline of the same day, after the next sync",
            "an approval given while a newer workflow of its pipeline was there, after the next sync",
        )
    ):
        seen = ["noticed" if cells[number] else "not noticed" for cells in found]
        report.row(label, seen, "" if found[0][number] else "not noticed")
    days = [cells[2] for cells in found]
    report.row(
        "a rerun of a pipeline 3 days old is noticed by",
        [f"daily sync {day}" if day else "no daily sync" for day in days],
        "" if days[0] else "not noticed",
    )
    report.row("rows of everything after those daily syncs", [in_words(*cells[3]) for cells in found])
    report.row("calls of all these syncs", [cells[4] for cells in found])


def _changes(tap: Tap) -> tuple[bool, bool, int, tuple[Run, Verdict], int]:
    with Service("demo") as service:
        runs = [sync(tap, service)]

        def again() -> None:
            runs.append(sync(tap, service, state=runs[-1].state))

        def right(wanted: Row) -> bool:
            """Whether this workflow and its jobs are as they show now."""
            truth = tap.truth(service, ("workflows", "jobs"))
            own = {
                "workflows": [row for row in truth["workflows"] if row["id"] == wanted["id"]],
                "jobs": [row for row in truth["jobs"] if row["_workflow_id"] == wanted["id"]],
            }
            return judge(merge(runs), own).true

        now = moment(service.control(advance=0))
        waiting, at = _to_be_approved(tap, service, now)
        rerun = _rerun(tap, service, _finished(tap, service, now - timedelta(hours=10)))
        _rerun(tap, service, waiting["pipeline_id"])
        service.control(advance=1800)
        again()
        same_day = right(rerun)
        service.control(now=stamp(at + timedelta(minutes=10)))
        again()
        approved = right(waiting)

        rerun = _rerun(tap, service, _finished(tap, service, now - timedelta(days=3)))
        noticed = 0
        for day in range(1, 5):
            service.control(advance=DAY)
            again()
            noticed = noticed or (day if right(rerun) else 0)
        verdict = verdict_of(tap, service, runs, ("pipelines", "workflows", "jobs"))
        return same_day, approved, noticed, (runs[-1], verdict), sum(run.calls for run in runs)


def _finished(tap: Tap, service: Service, since: datetime) -> str:
    """The first pipeline created since then of which a workflow, the only one, has stopped."""
    rows = tap.truth(service, ("workflows",))["workflows"]
    counts = Counter(row["pipeline_id"] for row in rows)
    done = [row for row in rows if row["stopped_at"] and counts[row["pipeline_id"]] == 1]
    return min((row["created_at"], row["pipeline_id"]) for row in done if row["created_at"] > stamp(since))[1]


def _to_be_approved(tap: Tap, service: Service, now: datetime) -> tuple[Row, datetime]:
    """A young workflow that waits for an approval now and will have it in one to twelve hours, and when it ends."""
    held = [row for row in tap.truth(service, ("workflows",))["workflows"] if row["status"] == "on_hold"]
    service.control(now=stamp(now + timedelta(hours=12)))
    later = {row["id"]: row for row in tap.truth(service, ("workflows",))["workflows"]}
    service.control(now=stamp(now))
    young, soon = stamp(now - timedelta(hours=10)), stamp(now + timedelta(hours=1))
    ended = [later[row["id"]] for row in held if row["created_at"] > young]
    approved = next(row for row in ended if (row["stopped_at"] or "") > soon)
    return approved, moment(approved["stopped_at"])


def _rerun(tap: Tap, service: Service, pipeline: str) -> Row:
    """The new workflow of a pipeline that is rerun now."""
    before = {row["id"] for row in tap.truth(service, ("workflows",))["workflows"]}
    service.control(rerun=pipeline)
    return next(row for row in tap.truth(service, ("workflows",))["workflows"] if row["id"] not in before)


def killed(report: Report, taps: Sequence[Tap], sizes: Sizes) -> None:
    """Killed when a fifth, a half and four fifths of the rows have come, and started again."""
    report.part(f"Killed and started again, {sizes.killed} pipelines at 50 ms a call")
    options = {"pipelines": sizes.killed, "per_day": 10, "latency": 0.05}
    with Service("history", **options) as service:
        rows = sum(map(len, taps[0].truth(service, COMMON).values()))

    def work(task: tuple[Tap, float]) -> tuple[str, int, bool]:
        tap, part = task
        with Service("history", **options) as service:
            first = sync(tap, service, kill_after=int(rows * part))
            second = sync(tap, service, state=first.state)
            verdict = verdict_of(tap, service, [first, second])
            return in_words(second, verdict), first.calls + second.calls, _good(second, verdict)

    parts = (0.2, 0.5, 0.8)
    with ThreadPoolExecutor() as pool:
        whole = [pool.submit(_calls_of_a_first_sync, tap, options) for tap in taps]
        found = list(pool.map(work, [(tap, part) for part in parts for tap in taps]))
        needed = [future.result() for future in whole]
    for number, part in enumerate(parts):
        three = found[number * len(taps) :][: len(taps)]
        cells = [
            f"{words}, {max(calls - most, 0)} of {most} calls repeated"
            for (words, calls, _), most in zip(three, needed, strict=True)
        ]
        report.row(f"killed and started again after {part:.0%} of the rows", cells, "" if three[0][2] else three[0][0])


def _calls_of_a_first_sync(tap: Tap, options: dict[str, float]) -> int:
    with Service("history", **options) as service:
        return sync(tap, service).calls


def trouble(report: Report, taps: Sequence[Tap], sizes: Sizes) -> None:
    """The service limits, fails, refuses and forgets."""

    def limited(service: Service) -> None:
        service.control(rate_limit=40)

    def failing(service: Service) -> None:
        service.control(fault=[{"pattern": "/api/", "every": 10, "status": 503}])

    def refusing(seconds: int) -> Callable[[Service], None]:
        return lambda service: service.refuse(seconds)

    def aging(service: Service) -> None:
        pipelines = service.truth(service.slugs)["pipelines"]
        service.control(aged_out={pipelines[-5]["id"]: "missing"})

    def forbidding(service: Service) -> None:
        organizations = service.truth([])["collaborations"]
        service.control(forbidden=[organizations[1]["id"]])
        service.slugs = [slug for slug in service.slugs if slug.startswith(organizations[0]["slug"] + "/")]

    history = {"pipelines": sizes.troubled, "per_day": 10}
    situations: list[tuple[str, str, dict[str, float], Callable[[Service], None]]] = [
        ("at most 40 requests a second", "history", history, limited),
        ("one answer in ten is a 503", "history", history, failing),
        ("429 for 5 s, `Retry-After: 5`", "history", history, refusing(5)),
        ("429 for 45 s, `Retry-After: 45`", "history", history, refusing(45)),
        ("one pipeline aged out (404)", "history", history, aging),
        ("one of two organizations forbidden (403)", "demo", {}, forbidding),
    ]

    def work(task: tuple[Tap, int]) -> tuple[Run, Verdict]:
        tap, number = task
        _, world, options, disturb = situations[number]
        with Service(world, **options) as service:
            disturb(service)
            run = sync(tap, service, tables=STREAMS)
            return run, verdict_of(tap, service, [run], STREAMS)

    tasks = [(tap, number) for number in range(len(situations)) for tap in taps]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(work, tasks))
    report.part(f"Trouble, {sizes.troubled} pipelines")
    for number, (label, *_) in enumerate(situations):
        three = found[number * len(taps) :][: len(taps)]
        cells = [
            in_words(run, verdict) + (f", {run.refusals} calls refused" if run.refusals else "")
            for run, verdict in three
        ]
        report.row(label, cells, "" if _good(*three[0]) else cells[0])


ALL = (rows, speed, hourly, weight, change, killed, trouble)
