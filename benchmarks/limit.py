"""How much of a rate limit the tap makes use of, and how often it is refused."""

import argparse

from benchmarks import worlds
from benchmarks.tools import config, forget, run, service, slugs, table, traffic, url

PIPELINES, A_SECOND, LATENCY = 500, 40, 0.02


def limit(options: argparse.Namespace) -> None:
    """Print the table."""
    with service(worlds.plain, PIPELINES, rate_limit=A_SECOND, latency=LATENCY) as remote:
        remote.ask(forget)
        run(config(remote.ask(url), remote.ask(slugs)))
        asked = remote.ask(traffic)
    rows = [
        ["answers a second", asked.status[200] / asked.seconds, A_SECOND],
        ["share of refusals", f"{asked.status[429] / asked.calls:.1%}", ""],
    ]
    print(f"{asked.calls:,} requests of 8 workers at {LATENCY * 1000:.0f} ms; 429 beyond {A_SECOND} in any second.\n")
    table(["what", "figure", "at most"], rows)
