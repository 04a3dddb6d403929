"""Measure the tap against our own CircleCI and print a report in Markdown.

Machines differ and are shared: ratios tell more than seconds. Files go to run/bench.
"""

import argparse
import os
import platform
import time
from importlib import import_module

SECTIONS = {
    "speed": "Speed",
    "memory": "Memory",
    "cpu": "Processor",
    "usage": "Usage exports",
    "builds": "The list of builds",
    "walk": "The walk",
    "limit": "A rate limit",
    "soak": "A long run with faults",
}


def main() -> None:
    """Print the sections that are named, or all but the soak."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("section", nargs="*", help=f"{', '.join(SECTIONS)}; all but soak")
    parser.add_argument("--repeat", type=int, default=3, help="runs of which a figure is the median")
    parser.add_argument("--month", action="store_true", help="walk: a month of hourly syncs instead of a week")
    parser.add_argument("--beside", metavar="PROGRAM", help="speed, memory: another version's tap-circleci")
    options = parser.parse_args()
    if unknown := set(options.section) - SECTIONS.keys():
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    print("# Measurements\n")
    print(f"Python {platform.python_version()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}.\n")
    for name in options.section or [name for name in SECTIONS if name != "soak"]:
        print(f"## {SECTIONS[name]}\n", flush=True)
        began = time.monotonic()
        # Imported only now: a child's peak memory counts from that of this process, which must stay small.
        getattr(import_module(f"benchmarks.{name}"), name)(options)
        print(f"({time.monotonic() - began:.0f} s)\n", flush=True)


if __name__ == "__main__":
    main()
