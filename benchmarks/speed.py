"""How near a sync over TLS comes to the time that the latency allows, and to the calls that the API forces."""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import worlds
from benchmarks.tls import TRUST, TlsServer
from benchmarks.tools import (
    NOW,
    TAP,
    WALK,
    Remote,
    Run,
    Traffic,
    arguments,
    config,
    forget,
    launch,
    slugs,
    start_up,
    table,
    traffic,
    url,
)
from tests.circleci import STREAMS, Server, World

LATENCY = 0.05
INSIDE = [*WALK, "job_details", "tests", "artifacts"]
ORGANIZATION = [stream for stream in STREAMS if stream not in WALK]
HEAD = ["what", "workers", "seconds", "share of the optimum", "CPU ms a call", "MB", "calls", "least calls"]


@dataclass(frozen=True)
class Case:
    """A sync to be measured: all that a new user reads, or what comes an hour after that (`again`)."""

    what: str
    world: Callable[[], World]
    workers: int
    streams: Sequence[str] = WALK
    again: bool = False

    def least(self, server: Server) -> int:
        """The calls without which it cannot be done."""
        if self.again:
            return 1 + len(slugs(server))
        return worlds.least_inside(server, WALK) if self.streams is INSIDE else worlds.least(server, self.streams)


@dataclass(frozen=True)
class Measured:
    """One sync: what it cost and what it asked."""

    run: Run
    asked: Traffic


CASES = [
    Case("first sync of 60 pipelines", partial(worlds.plain, 60), 1),
    Case("first sync of 500 pipelines", partial(worlds.plain, 500), 8),
    Case("first sync of 500 pipelines", partial(worlds.plain, 500), 32),
    Case("first sync of 500 pipelines", partial(worlds.plain, 500), 64),
    Case("first sync of 4 pipelines, 40 workflows each, 60 jobs each", worlds.wide, 8),
    Case("first sync of 60 pipelines, with details, tests and artifacts", partial(worlds.tested, 60), 8, INSIDE),
    Case("the eight other streams, 40 projects, 5 definitions each", worlds.company, 8, ORGANIZATION),
    Case("2,000 quiet projects, synced an hour before", partial(worlds.idle, 2_000), 8, again=True),
]


def speed(options: argparse.Namespace) -> None:
    """Print a table for each tap; with `beside` they run by turns."""
    taps = {"": TAP, **({f"{options.beside}": Path(options.beside)} if options.beside else {})}
    print(f"Over TLS, gzip, {LATENCY * 1000:.0f} ms a call; the optimum is calls * latency / workers.\n")
    found: dict[str, list[list[object]]] = {name: [] for name in taps}
    begin = {name: median(start_up(tap).cpu for _ in range(options.repeat)) for name, tap in taps.items()}
    for case in CASES:
        for name, line in _compared(case, taps, begin, options.repeat):
            found[name].append(line)
    for name, lines in found.items():
        if name:
            print(f"`{name}`, by turns with the above:\n")
        table(HEAD, lines)


def _compared(
    case: Case, taps: Mapping[str, Path], begin: Mapping[str, float], repeat: int
) -> Iterator[tuple[str, list[object]]]:
    """A line of the table for each tap."""
    with Remote(partial(_service, case.world)) as remote:
        settings = config(remote.ask(url), remote.ask(slugs), max_workers=case.workers)
        least = remote.ask(case.least)
        states = {name: _prepared(remote, case, settings, tap) for name, tap in taps.items()}
        runs: dict[str, list[Measured]] = {name: [] for name in taps}
        for _ in range(repeat):
            for name, tap in taps.items():
                runs[name].append(_measured(remote, case, settings, tap, states[name]))
    for name, measured in runs.items():
        yield name, [case.what, case.workers, *_figures(case, measured, begin[name]), least]


def _figures(case: Case, measured: Sequence[Measured], begin: float) -> list[object]:
    calls = measured[0].asked.calls
    return [
        median(one.asked.seconds for one in measured),
        median(one.asked.calls * LATENCY / case.workers / one.asked.seconds for one in measured),
        median((one.run.cpu - begin) / calls * 1000 for one in measured),
        median(one.run.peak for one in measured),
        calls,
    ]


def _service(world: Callable[[], World]) -> TlsServer:
    return TlsServer(Server(world()))


def _prepared(remote: Remote[TlsServer], case: Case, settings: dict[str, Any], tap: Path) -> dict[str, Any] | None:
    """Have the service make its answers; the state to go on from, if the case is one of going on."""
    remote.ask(forget, NOW, 0.0)
    state = launch(arguments(settings, case.streams, None), tap=tap, environment=TRUST).state
    return state if case.again else None


def _measured(
    remote: Remote[TlsServer], case: Case, settings: dict[str, Any], tap: Path, state: dict[str, Any] | None
) -> Measured:
    now: datetime = NOW + timedelta(hours=1) if case.again else NOW
    remote.ask(forget, now, LATENCY)
    done = launch(arguments(settings, case.streams, state), tap=tap, environment=TRUST)
    return Measured(done, remote.ask(traffic))
