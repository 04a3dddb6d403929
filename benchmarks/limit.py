"""How much of a rate limit the tap makes use of, and how often it is refused."""

import argparse
import time
from bisect import bisect
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from threading import Thread

from benchmarks import worlds
from benchmarks.tools import WALK, Remote, arguments, config, launch, service, slugs, table, url
from tests.circleci import Server
from tests.circleci.limits import FixedWindow, RateLimit, SlidingWindow, TokenBucket

HEAD = ["limit", "workers", "ms", "served", "seconds", "of what is allowed", "wanted", "refused", "first burst"]


@dataclass(frozen=True)
class Case:
    """A limit, and who reads so many pipelines under it.

    `wanted` is the share of the limit to use at least, `starts` are the seconds after which each tap starts,
    `changes` sizes of the limit after so many seconds.
    """

    name: str
    limit: RateLimit
    wanted: float
    workers: int = 8
    latency: float = 0.05
    pipelines: int = 330
    starts: tuple[float, ...] = (0,)
    changes: tuple[tuple[float, int], ...] = ()


def _cases() -> list[Case]:
    return [
        Case("200 in any 10 s", RateLimit(SlidingWindow(200, 10), 10), 0.92, latency=0.02),
        Case("100 in any 10 s", RateLimit(SlidingWindow(100, 10), 10), 0.92),
        Case("40 in any second", RateLimit(SlidingWindow(40, 1), 1), 0.85, 16, 0.02),
        Case("10 in any second", RateLimit(SlidingWindow(10, 1), 1), 0.85, latency=0.1),
        Case("3 in any second", RateLimit(SlidingWindow(3, 1), 1), 0.85, pipelines=100),
        Case("600 in each minute", RateLimit(FixedWindow(600, 60)), 0.87, pipelines=500),
        Case("10 a second, 100 saved", RateLimit(TokenBucket(100, 10)), 0.95),
        Case(
            "40, 20, 40 in any second",
            RateLimit(SlidingWindow(40, 1), 1),
            0.8,
            pipelines=990,
            changes=((25, 20), (75, 40)),
        ),
        Case("100 in any 10 s, two taps", RateLimit(SlidingWindow(100, 10), 10), 0.95, pipelines=165, starts=(0, 0)),
        Case("the same, one 2 s later", RateLimit(SlidingWindow(100, 10), 10), 0.8, pipelines=165, starts=(0, 2)),
        Case("600 in each minute, told", RateLimit(FixedWindow(600, 60), told="X-RateLimit-"), 0.95, pipelines=500),
        Case("40 in any second, no header", RateLimit(SlidingWindow(40, 1), None), 0.85, 16, 0.02),
    ]


def limit(options: argparse.Namespace) -> None:
    """Print the table."""
    print(
        "Refusals say how long to wait unless noted. Allowed is the limit's rate for as long as the run took, and what"
        " a token bucket had saved; where minutes count, what all but the last allow; of two taps, until one of them"
        " ends. At most 2 % are to be refused but for the first burst.\n"
    )
    table(HEAD, [_measured(case) for case in _cases()])


def _measured(case: Case) -> list[object]:
    with service(worlds.plain, case.pipelines, rate_limit=case.limit, latency=case.latency) as remote:
        settings = config(remote.ask(url), remote.ask(slugs), max_workers=case.workers)
        Thread(target=_change, args=(remote, case), daemon=True).start()
        line = arguments(settings, WALK, None)
        with ThreadPoolExecutor() as taps:
            ends = list(taps.map(partial(_launch, line), case.starts))
        served, refused = remote.ask(_answers)
    seconds = served[-1] - served[0]
    alone = bisect(served, min(ends))  # from then on some of the taps are missing
    burst = sum(moment < refused[0] + 0.5 for moment in refused)
    share = _share(case, served[:alone])
    counted = f"{(len(refused) - burst) / len(served):.1%}"
    return [
        case.name,
        case.workers,
        case.latency * 1000,
        len(served),
        seconds,
        f"{share:.1%}",
        f"{case.wanted:.0%}",
        counted,
        burst,
    ]


def _launch(line: list[str], after: float) -> float:
    """When the tap ended."""
    time.sleep(after)
    launch(line)
    return time.monotonic()


def _answers(server: Server) -> tuple[list[float], list[float]]:
    """When requests came that were served, and those that were refused."""
    requests = sorted(server.requests, key=lambda request: request.at)
    refused = [request.at for request in requests if request.status == 429]
    return [request.at for request in requests if request.status != 429], refused


def _change(remote: Remote[Server], case: Case) -> None:
    began = time.monotonic()
    for seconds, most in case.changes:
        time.sleep(began + seconds - time.monotonic())
        remote.ask(_resize, most)


def _resize(server: Server, most: int) -> None:
    assert isinstance(server.rate_limit, RateLimit)
    assert isinstance(server.rate_limit.kind, SlidingWindow)
    server.rate_limit.kind.most = most


def _share(case: Case, served: list[float]) -> float:
    kind, seconds = case.limit.kind, served[-1] - served[0]
    if isinstance(kind, TokenBucket):
        return (len(served) - kind.burst) / (kind.a_second * seconds)
    if isinstance(kind, FixedWindow):
        windows = [moment // kind.seconds for moment in served]
        full = [window for window in windows if window < windows[-1]]
        return len(full) / (kind.most * len(set(full)))
    allowed, most, since = 0.0, kind.most, 0.0
    for until, changed in (*case.changes, (seconds, 0)):
        allowed += most * (min(until, seconds) - since) / kind.seconds
        most, since = changed, min(until, seconds)
    return len(served) / allowed
