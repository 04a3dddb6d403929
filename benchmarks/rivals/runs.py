"""One run of a tap: what it cost, what it wrote, and how that compares with the truth."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.rivals.service import ROOT, Service, Truth
from benchmarks.rivals.taps import COMMON, Tap
from benchmarks.tls import TRUST
from tap_circleci.streams import STREAMS
from tests.circleci import Row, moment

LOGS = ROOT / "run" / "rivals"
#: Starts a tap from a small process, since a program's peak memory counts that of the one which started it.
LAUNCHER = """
import json, os, signal, sys, time
began = time.monotonic()
tap = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
signal.signal(signal.SIGTERM, lambda *_: os.kill(tap, signal.SIGKILL))
_, status, usage = os.wait4(tap, 0)
told = {
    "seconds": time.monotonic() - began,
    "status": os.waitstatus_to_exitcode(status),
    "cpu": usage.ru_utime + usage.ru_stime,
    "memory": usage.ru_maxrss,
}
with open(sys.argv[1], "w") as file:
    json.dump(told, file)
"""
#: Ids of parents that the truth tells of schedules as well, which the API's own `project-slug` tells already.
NOT_ADDED = {"schedule.organization_id", "schedule.project_id"}

Tables = dict[str, dict[str, Row]]


@dataclass
class Run:
    """What one run cost and what it wrote. `status` is None for one that had to be killed at its time limit."""

    tap: Tap
    status: int | None = None
    seconds: float = 0.0
    cpu: float = 0.0
    memory: int = 0
    calls: int = 0
    refusals: int = 0
    state_bytes: int = 0
    state_line: str = ""
    records: list[str] = field(default_factory=list)

    @property
    def state(self) -> Any:
        """The value of the last STATE."""
        return json.loads(self.state_line)["value"] if self.state_line else None

    def rows(self) -> Iterator[tuple[str, Row]]:
        """The delivered rows, each with the name of our table."""
        for line in self.records:
            message = json.loads(line)
            yield self.tap.renamed.get(message["stream"], message["stream"]), message["record"]


def sync(
    tap: Tap,
    service: Service,
    *,
    state: Any = None,
    tables: Collection[str] = COMMON,
    workers: int = 8,
    limit: float = 180,
    kill_after: int | None = None,
    keep: bool = True,
) -> Run:
    """Run a tap to its end, or until so many rows have come; without `keep`, its rows are only counted."""
    run = Run(tap)
    command = tap.command(service, tables, state, workers)
    before = service.stats()
    LOGS.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile() as told, (LOGS / f"{tap.name}.log").open("a") as log:
        launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, told.name]
        process = subprocess.Popen([*launcher, *command], stdout=subprocess.PIPE, stderr=log, text=True, env=TRUST)
        overdue = threading.Event()
        timer = threading.Timer(limit, lambda: (overdue.set(), process.terminate()))
        timer.start()
        assert process.stdout
        for line in process.stdout:
            _take(line, run, keep)
            if len(run.records) == kill_after:
                process.terminate()
        process.wait()
        timer.cancel()
        vars(run).update(json.loads(Path(told.name).read_text()))
    if overdue.is_set():
        run.status = None
    after = service.stats()
    run.calls = after["calls"] - before["calls"]
    run.refusals = after["status"].get("429", 0) - before["status"].get("429", 0)
    return run


def _take(line: str, run: Run, keep: bool) -> None:
    """Take note of one line; the last one of a killed tap may be half a line."""
    kind = line[:24].replace(" ", "")
    if not line.endswith("\n"):
        return
    if kind.startswith('{"type":"STATE"'):
        run.state_bytes += len(line)
        run.state_line = line
    elif kind.startswith('{"type":"RECORD"'):
        run.records.append(line if keep else "")


def merge(runs: Iterable[Run]) -> Tables:
    """What a target holds after these runs, upserted by our keys as far as the rows have their columns."""
    tables: Tables = {}
    for run in runs:
        for table, row in run.rows():
            tables.setdefault(table, {})[key_of(table, row, row)] = row
    return tables


def key_of(table: str, row: Row, like: Row) -> str:
    """The values of our key of a table, less the columns that the other row, if there is one, does not have."""
    return " ".join(str(row[column]) for column in STREAMS[table].key if not like or column in like)


@dataclass
class Verdict:
    """How delivered tables compare with the truth: rows there should be, that are missing, that tell an old status."""

    wanted: int = 0
    missing: int = 0
    stale: int = 0
    by_table: dict[str, str] = field(default_factory=dict)

    @property
    def true(self) -> bool:
        """Whether nothing is amiss."""
        return not self.missing and not self.stale


def judge(tables: Tables, truth: Truth) -> Verdict:
    """Compare row by row."""
    verdict = Verdict()
    for table, rows in truth.items():
        have = tables.get(table, {})
        like = next(iter(have.values()), {})
        wanted = {key_of(table, row, like): row for row in rows}
        found = wanted.keys() & have.keys()
        verdict.wanted += len(wanted)
        verdict.missing += len(wanted) - len(found)
        verdict.stale += sum(_told(have[key]) != _told(wanted[key]) for key in found)
        verdict.by_table[table] = f"{len(found)} of {len(wanted)}"
    return verdict


def _told(row: Row) -> list[Any]:
    """What a row says about how it went with a pipeline, workflow or job."""
    stopped_at = row.get("stopped_at")
    return [row.get("state"), row.get("status"), moment(stopped_at).timestamp() if stopped_at else None]


def lost(tables: Tables, truth: Truth) -> set[str]:
    """The fields that have a value in the truth and none in the delivered row of the same key."""
    names: set[str] = set()
    for table, rows in truth.items():
        have = tables.get(table, {})
        like = next(iter(have.values()), {})
        for row in rows:
            delivered = have.get(key_of(table, row, like))
            if delivered is not None:
                names.update(_lost(table, row, delivered))
    return names - NOT_ADDED


def _lost(name: str, value: Any, delivered: Any) -> Iterator[str]:
    if value in (None, "", [], {}):
        return
    if delivered is None or (delivered in ([], {}) and value):
        yield name
    elif isinstance(value, dict) and isinstance(delivered, dict):
        for key, item in value.items():
            yield from _lost(f"{name}.{key}", item, delivered.get(key))
    elif isinstance(value, list) and isinstance(delivered, list):
        for item, other in zip(value, delivered, strict=False):
            yield from _lost(name, item, other)
