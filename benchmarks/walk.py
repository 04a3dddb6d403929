"""What the walk costs in a long life: a first sync, then one every hour, with a short history and with a long one."""

import argparse
import io
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import timedelta
from statistics import mean, median
from typing import Any

from benchmarks import worlds
from benchmarks.tools import (
    FILES,
    NOW,
    WALK,
    Remote,
    arguments,
    config,
    forget,
    run,
    service,
    slugs,
    table,
    traffic,
    url,
)
from tap_circleci import main
from tests.circleci import Server

SHORT, LONG = 2_000, 20_000
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LOOKBACK_DAYS = [0.25, 1, 3, 7]
SETTINGS = [{"lookback_days": days, "find_reruns": finds} for finds in (False, True) for days in LOOKBACK_DAYS]

Figures = dict[str, float]


@dataclass(frozen=True)
class Hours:
    """Hourly syncs: calls and seconds of each, and after how many hours a workflow was first told as stopped."""

    calls: list[int]
    seconds: list[float]
    told: dict[str, int]


def walk(options: argparse.Namespace) -> None:
    """Print what syncs cost by the length of the history, then by lookback_days and find_reruns."""
    hours = 720 if options.month else 168
    with Remote(_tap) as tap:
        with service(worlds.busy, SHORT, hours) as remote:
            short, settings, state = _begun(remote)
            lives = [_life(remote, tap, {**settings, **one}, state, hours) for one in SETTINGS]
            late = remote.ask(worlds.late_changes)
        with service(worlds.busy, LONG, hours) as remote:
            long, settings, state = _begun(remote)
            long |= _told(_life(remote, tap, settings, state, hours))
    short |= _told(lives[LOOKBACK_DAYS.index(1)])

    print(f"One project with 30 pipelines a day, no latency; {hours} hourly syncs. Wanted: under 65 calls an hour,")
    print("state under 1,000 bytes, and nothing but the first sync grows with the history.\n")
    lines = [[name, few, long[name], long[name] / few] for name, few in short.items()]
    table(["what", f"{SHORT:,} pipelines", f"{LONG:,} pipelines", "ratio"], lines)

    print("Calls of an hourly sync by its settings, and for pipelines of some ages, within how many hours it shows")
    print("at worst that one of their workflows was run again or approved:\n")
    ages = [f"{age / DAY:g} d old" for age in worlds.LATE]
    found = [
        [*map(str, one.values()), mean(life.calls), median(life.calls), max(life.calls), *_delays(life, late)]
        for one, life in zip(SETTINGS, lives, strict=True)
    ]
    table([*SETTINGS[0], "calls, mean", "median", "most", *ages], found)


def _begun(remote: Remote[Server]) -> tuple[Figures, dict[str, Any], dict[str, Any]]:
    """The first sync and one with nothing new: figures, config and state."""
    settings = config(remote.ask(url), remote.ask(slugs))
    figures: Figures = {}
    state: dict[str, Any] = {}
    for what in ("the first sync", "a sync a second later"):
        remote.ask(forget)
        done = run(settings, WALK, state or None)
        state = done.state
        figures[f"calls of {what}"] = remote.ask(traffic).calls
        figures[f"seconds of {what}"] = done.seconds
        remote.ask(forget, NOW + timedelta(seconds=1))
    figures["bytes of state"] = len(json.dumps(state["bookmarks"]))
    return figures, settings, state


def _life(
    remote: Remote[Server], tap: Remote[None], settings: dict[str, Any], state: dict[str, Any], hours: int
) -> Hours:
    """Sync every hour."""
    life = Hours([], [], {})
    for hour in range(1, hours + 1):
        remote.ask(forget, NOW + hour * HOUR)
        seconds, stopped, state = tap.ask(_sync, arguments(settings, WALK, state))
        life.calls.append(remote.ask(traffic).calls)
        life.seconds.append(seconds)
        for name in stopped:
            life.told.setdefault(name, hour)
    return life


def _told(life: Hours) -> Figures:
    return {
        "calls of an hourly sync, mean": mean(life.calls),
        "calls of an hourly sync, median": median(life.calls),
        "calls of an hourly sync, most": max(life.calls),
        "seconds of an hourly sync, median, without start-up": median(life.seconds),
    }


def _delays(life: Hours, late: dict[str, tuple[timedelta, float]]) -> Iterator[str]:
    """For each age of a pipeline, the most hours until a change on it was told; twice the age is granted to each."""
    end = len(life.calls)
    for age in worlds.LATE:
        due = {name: at for name, (old, at) in late.items() if old == age and 0 < at < end - age / HOUR}
        worst = max((life.told.get(name, end) - at for name, at in due.items()), default=None)
        more = "> " if due.keys() - life.told.keys() else ""
        yield "" if worst is None else f"{more}{worst:.1f}"


@contextmanager
def _tap() -> Iterator[None]:
    """A process in which the tap runs again and again, with a log of its own."""
    FILES.mkdir(parents=True, exist_ok=True)
    with (FILES / "walk.log").open("w") as log:
        os.dup2(log.fileno(), 2)
        yield


def _sync(_: None, line: list[str]) -> tuple[float, set[str], dict[str, Any]]:
    """One run: seconds, the ids of the workflows told as stopped, the state."""
    output, began = io.StringIO(), time.monotonic()
    try:
        with redirect_stdout(output):
            main(line)
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"the tap ended with {end.code}; see {FILES / 'walk.log'}") from None
    seconds = time.monotonic() - began
    messages = list(map(json.loads, output.getvalue().splitlines()))
    rows = [message["record"] for message in messages if message.get("stream") == "workflows" and "record" in message]
    return seconds, {row["id"] for row in rows if row["stopped_at"]}, messages[-1]["value"]
