"""Compare our tap with the other two for CircleCI; exits 1 where ours is not as far ahead as it should be."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.rivals.report import Report, put
from benchmarks.rivals.runs import LOGS
from benchmarks.rivals.scenarios import ALL, QUICK, Sizes
from benchmarks.rivals.service import ROOT, Service
from benchmarks.rivals.taps import Meltano, Official, Ours


def main() -> int:
    """Install, compare, show the table."""
    names = [scenario.__name__ for scenario in ALL]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rivals", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into docs/comparison.md")
    parser.add_argument("--quick", action="store_true", help="small worlds, one round: to see whether it runs")
    parser.add_argument("--only", choices=names, nargs="+", default=names, help="some of the scenarios")
    options = parser.parse_args()
    for log in LOGS.glob("*.log"):
        log.unlink()
    with tempfile.TemporaryDirectory() as folder:
        taps = [kind(Path(folder)) for kind in (Ours, Official, Meltano)]
        with Service("odd") as service:
            for tap in taps:
                tap.prepare(service)
        report = Report(taps)
        for scenario in ALL:
            if scenario.__name__ in options.only:
                began = time.monotonic()
                scenario(report, taps, QUICK if options.quick else Sizes())
                print(f"{scenario.__name__}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    if options.write:
        put(report.table(), ROOT / "docs" / "comparison.md")
    print(report.table())
    for shortfall in report.shortfalls:
        print(f"Not as wanted: {shortfall}.", file=sys.stderr)
    return 1 if report.shortfalls else 0


if __name__ == "__main__":
    sys.exit(main())
