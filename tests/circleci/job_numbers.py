"""The numbers of a project's job runs, given in the order in which they start, as the service does.

A rerun takes the next number, however old its pipeline is. An approval takes one, too, and does not show it.
"""

import heapq
from bisect import insort
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from threading import Lock
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True, order=True)
class JobRun:
    """A run of a job, the time at which it takes its number, and the workflow that ran it: none for old builds."""

    number: int
    at: str
    job: Row
    workflow: Row | None


class JobNumbers:
    """Numbers for the runs of each project: those that have begun have one at once, the others when they begin."""

    def __init__(self) -> None:
        #: The runs that have a number, but for approvals, by project and in the order of the numbers.
        self.runs: defaultdict[str, list[JobRun]] = defaultdict(list)
        self._by_number: dict[tuple[str, int], JobRun] = {}
        self._waiting: defaultdict[str, list[tuple[str, int, Row, Row | None]]] = defaultdict(list)
        self._begun: defaultdict[str, list[tuple[str, int, Row, Row | None]]] = defaultdict(list)
        self._numbers: defaultdict[str, Iterator[int]] = defaultdict(lambda: count(1))
        self._places = count()
        self._lock = Lock()

    def enter(self, project: str, at: str, job: Row, workflow: Row | None) -> None:
        """Take in a run of a job that begins at this time; one that brings a number keeps it."""
        if "job_number" not in job:
            heapq.heappush(self._waiting[project], (at, next(self._places), job, workflow))
        elif job.get("type") != "approval":
            self._keep(project, JobRun(job["job_number"], at, job, workflow))

    def give(self, project: str, now: str) -> None:
        """Number what has begun by now, the earliest first."""
        waiting = self._waiting[project]
        with self._lock:
            while waiting and waiting[0][0] <= now:
                entry = heapq.heappop(waiting)
                self._begun[project].append(entry)
                at, _, job, workflow = entry
                number = next(self._numbers[project])
                if job.get("type") != "approval" and "job_number" not in job:
                    job["job_number"] = number
                    self._keep(project, JobRun(number, at, job, workflow))

    def renew(self, now: str) -> None:
        """Number everything anew, in the order of the starts up to now."""
        for project, begun in self._begun.items():
            for _, _, job, _ in begun:
                job.pop("job_number", None)
            given = {id(job) for _, _, job, _ in begun}
            self.runs[project] = [run for run in self.runs[project] if id(run.job) not in given]
            heapq.heapify(entries := [*begun, *self._waiting[project]])
            self._waiting[project] = entries
            self._numbers[project] = count(1)
            begun.clear()
        self._by_number = {(project, run.number): run for project, runs in self.runs.items() for run in runs}
        for project in [*self._waiting]:
            self.give(project, now)

    def run(self, project: str, number: int) -> JobRun | None:
        """The run of this number."""
        return self._by_number.get((project, number))

    def _keep(self, project: str, run: JobRun) -> None:
        insort(self.runs[project], run, key=lambda known: known.number)
        self._by_number[project, run.number] = run
