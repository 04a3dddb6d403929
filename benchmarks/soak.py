"""A long run through a service where one answer in twenty goes wrong: does anything pile up?"""

import argparse
import random
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks import worlds
from benchmarks.tools import config, run, service, slugs, table, traffic, url
from tests.circleci import Fault, Server

PIPELINES = 16_350
FAULTS = [
    Fault(503),
    Fault(502, body="<html>Bad gateway</html>"),
    Fault(408),
    Fault(body='{"items": ['),
    Fault(broken="reset"),
    Fault(broken="closed"),
    Fault(broken="cut"),
]


@dataclass
class Watch:
    """Samples of a process, one a second: memory in MB, threads, open sockets."""

    memory: list[float] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    sockets: list[int] = field(default_factory=list)

    def start(self, pid: int) -> None:
        """Sample this process until it ends."""
        threading.Thread(target=self._sample, args=(Path(f"/proc/{pid}"),), daemon=True).start()

    def _sample(self, process: Path) -> None:
        with suppress(OSError, LookupError):  # until it ends
            while not threading.Event().wait(1):
                told = dict(re.findall(r"(\w+):\s+(\d+)", (process / "status").read_text()))
                self.memory.append(int(told["VmRSS"]) / 1024)
                self.threads.append(int(told["Threads"]))
                self.sockets.append(sum(map(_is_socket, (process / "fd").iterdir())))


def _is_socket(link: Path) -> bool:
    with suppress(OSError):  # closed meanwhile
        return str(link.readlink()).startswith("socket:")
    return False


def soak(options: argparse.Namespace) -> None:
    """Print the table."""
    watch = Watch()
    with service(worlds.plain, PIPELINES) as remote:
        settings = config(remote.ask(url), remote.ask(slugs), max_workers=16)
        remote.ask(_disturb)
        done = run(settings, watch=watch.start)
        asked, truth = remote.ask(traffic), remote.ask(_count)
    tenth = max(1, len(watch.memory) // 10)
    parts = [watch.memory[place : place + tenth] for place in (tenth, 5 * tenth, 9 * tenth)]
    begin, middle, end = (median(part) for part in parts)
    rows = [
        ["requests", asked.calls],
        ["of them a second, third … time, after a fault", asked.repeated],
        ["seconds", done.seconds],
        ["rows written / rows there are", f"{done.rows.total():,} / {truth:,}"],
        ["memory after a tenth, half and all of it, MB", f"{begin:.1f}, {middle:.1f}, {end:.1f}"],
        ["threads at most (16 workers)", max(watch.threads)],
        ["sockets at most", max(watch.sockets)],
    ]
    table(["what", "figure"], rows)


def _disturb(server: Server) -> None:
    server.fault = _one_in_twenty(random.Random(20))


def _one_in_twenty(chance: random.Random) -> Callable[[str, int], Fault | None]:
    """Faults for one request in twenty, though not for the fourth attempt at the same."""
    return lambda path, nth: chance.choice(FAULTS) if nth < 4 and chance.random() < 0.05 else None


def _count(server: Server) -> int:
    """How many rows there are."""
    return sum(map(len, server.world.truth(slugs(server)).values())) - 2
