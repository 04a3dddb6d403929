"""How near a sync comes to the time that the service's latency allows, and to the calls that the API forces."""

import argparse
from collections.abc import Callable
from datetime import timedelta
from statistics import median
from typing import Any

from benchmarks import worlds
from benchmarks.tools import NOW, WALK, Remote, Traffic, config, forget, run, service, slugs, table, traffic, url
from tests.circleci import STREAMS, Server, World

LATENCY = 0.05
INSIDE = [*WALK, "job_details", "tests", "artifacts"]
ORGANIZATION = [stream for stream in STREAMS if stream not in WALK]
HEAD = ["what", "workers", "seconds", "share of the optimum", "calls", "least calls", "asked twice"]


def speed(options: argparse.Namespace) -> None:
    """Print the table."""
    print(f"At {LATENCY * 1000:.0f} ms a call; the optimum is calls * latency / workers; wanted 0.85 or better.\n")
    repeat = options.repeat
    rows = [
        _case("first sync of 500 pipelines", worlds.plain, [500], 8, repeat),
        _case("first sync of 60 pipelines", worlds.plain, [60], 1, 1),
        _case("first sync of 500 pipelines", worlds.plain, [500], 16, repeat),
        _case("first sync of 500 pipelines", worlds.plain, [500], 32, repeat),
        _case("4 pipelines, 40 workflows each, 60 jobs each", worlds.wide, [], 8, repeat),
        _case("60 pipelines, with details, tests and artifacts", worlds.tested, [60], 8, repeat, INSIDE),
        _case("200 idle projects, synced before", worlds.idle, [], 8, repeat, again=True),
        _case("the eight other streams, 40 projects, 5 definitions each", worlds.company, [], 8, repeat, ORGANIZATION),
    ]
    table(HEAD, rows)


def _case(
    what: str,
    world: Callable[..., World],
    details: list[Any],
    workers: int,
    repeat: int,
    streams: Any = WALK,
    again: bool = False,
) -> list[object]:
    with service(world, *details) as remote:
        settings = config(remote.ask(url), remote.ask(slugs), max_workers=workers)
        state = run(settings, streams).state if again else None
        now = NOW + timedelta(hours=1) if again else NOW
        least = worlds.least_inside if streams is INSIDE else worlds.least
        fewest = 1 + len(settings["project_slugs"]) if again else remote.ask(least, streams)
        asked = [_asked(remote, now, settings, streams, state) for _ in range(repeat)]
    seconds = median(one.seconds for one in asked)
    share = median(one.calls * LATENCY / workers / one.seconds for one in asked)
    return [what, workers, seconds, share, asked[0].calls, fewest, max(one.repeated for one in asked)]


def _asked(remote: Remote[Server], now: Any, settings: dict[str, Any], streams: Any, state: Any) -> Traffic:
    remote.ask(forget, now, LATENCY)
    run(settings, streams, state)
    return remote.ask(traffic)
