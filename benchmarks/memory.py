"""How large the tap gets, and how much of what it writes is state."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from benchmarks import worlds
from benchmarks.speed import INSIDE
from benchmarks.tools import TAP, WALK, Run, config, run, service, slugs, table, url
from tests.circleci import World

FEW, MANY, BULKY = 200, 6_000, 40


def memory(options: argparse.Namespace) -> None:
    """Print the table."""
    few = [_first_sync(FEW) for _ in range(options.repeat)]
    small, large = median(done.peak for done in few), _first_sync(MANY)
    bulky = _first_sync(BULKY, worlds.wide)
    tested = [_first_sync(count, _with_many_tests, INSIDE) for count in (12, 36)]
    taps = {"": TAP, **({f"; {options.beside}": Path(options.beside)} if options.beside else {})}
    wide = {name: _first_sync(10, worlds.well_tested, ["pipelines", "tests"], 100, tap) for name, tap in taps.items()}
    rows = [
        [f"peak memory, {FEW} pipelines", f"{small:.1f} MB", ""],
        [f"peak memory, {MANY:,} pipelines", f"{large.peak:.1f} MB", ""],
        ["ratio", large.peak / small, "< 1.2"],
        [f"peak memory, {BULKY} pipelines of 40 workflows, 60 jobs each", f"{bulky.peak:.1f} MB", ""],
        *(
            [f"peak memory, {done.rows['jobs']} jobs with 2,000 tests each", f"{done.peak:.1f} MB", ""]
            for done in tested
        ),
        ["ratio", tested[1].peak / tested[0].peak, "< 1.2"],
        *(
            [f"peak memory, 10 pipelines with ten lists of 5,000 tests each{name}", f"{done.peak:.1f} MB", "< 350 MB"]
            for name, done in wide.items()
        ),
        ["STATE lines, of all lines", f"{large.states / large.lines:.3%}", "< 2 %"],
        ["STATE bytes, of all bytes", f"{large.states_size / large.size:.3%}", "< 2 %"],
    ]
    table(["what", "figure", "wanted"], rows)


def _first_sync(
    pipelines: int,
    world: Callable[[int], World] = worlds.plain,
    streams: Sequence[str] = WALK,
    page_size: int = 20,
    tap: Path = TAP,
) -> Run:
    with service(world, pipelines, page_size=page_size) as remote:
        return run(config(remote.ask(url), remote.ask(slugs)), streams, tap=tap)


def _with_many_tests(pipelines: int) -> World:
    return worlds.tested(pipelines, jobs=2, tests=2000)
