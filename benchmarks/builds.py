"""What the queue times of all job runs cost by the list of builds: three months of 180 job runs a day."""

import argparse
from datetime import timedelta
from statistics import median

from benchmarks.tools import NOW, WALK, Remote, Run, config, forget, run, service, slugs, table, traffic, url
from tests.circleci import Server, World, history

DAYS, A_DAY, JOBS = 90, 30, 3
RUNS = DAYS * A_DAY * 2 * JOBS


def builds(options: argparse.Namespace) -> None:
    """Print the calls and seconds of a first sync of builds, of one an hour later, and of reruns found by them."""
    with service(_world) as remote:
        first, calls = [], 0
        for _ in range(options.repeat):
            first.append(_sync(remote, ["builds"]))
            calls = remote.ask(_lists)
        assert first[-1].rows["builds"] == RUNS
        remote.ask(forget, NOW + timedelta(hours=1))
        _sync(remote, ["builds"], first[-1])
        later = remote.ask(_lists)
        remote.ask(forget, NOW)
        walked = _sync(remote, WALK, find_reruns=True)
        taken = remote.ask(_lists)
        alone = remote.ask(traffic).calls - taken
        remote.ask(forget, NOW + timedelta(hours=1))
        _sync(remote, WALK, walked, find_reruns=True)
        found = remote.ask(_lists)
    rows = [
        [f"calls for the {RUNS:,} builds of a first sync", calls, f"{RUNS // 100 + 1}"],
        ["seconds of it", median(done.seconds for done in first), ""],
        ["peak memory of it, MB", median(done.peak for done in first), ""],
        ["calls of a sync an hour later", later, "1"],
        ["calls of a first walk, without find_reruns", alone, ""],
        ["calls more with find_reruns", taken, "1"],
        ["calls more with find_reruns, an hour later", found, "1"],
    ]
    table(["what", "figure", "wanted"], rows)


def _sync(remote: Remote[Server], streams: list[str] | tuple[str, ...], after: Run | None = None, **more: bool) -> Run:
    """A run of these streams, whose requests alone the server then knows."""
    remote.ask(forget)
    return run(config(remote.ask(url), remote.ask(slugs), **more), streams, after.state if after else None)


def _world() -> World:
    return history(DAYS * A_DAY, NOW, per_day=A_DAY, jobs=JOBS)


def _lists(server: Server) -> int:
    """How many pages of lists of builds were asked for."""
    return sum(request.path.startswith("/api/v1.1/") for request in server.requests)
