"""What half a million job runs of a usage export cost: memory, and rows a second on one core."""

import argparse
import csv
import gzip
import io
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from statistics import median

from benchmarks.tools import NOW, Remote, Run, config, run, start_up, table
from tap_circleci.streams import STREAMS
from tests.circleci import Answer, Request, Server, World
from tests.circleci.usage import FileHost, csv_of, job

FEW, MANY = 5_000, 500_000
BLOCK = 10_000
STREAM = next(stream.name for stream in STREAMS.values() if stream.is_export)


def usage(options: argparse.Namespace) -> None:
    """Print the table."""
    few = [_sync(FEW) for _ in range(options.repeat)]
    many = [_sync(MANY) for _ in range(options.repeat)]
    small, large = median(done.peak for done in few), median(done.peak for done in many)
    begin = median(start_up().cpu for _ in range(options.repeat))
    used = median(done.cpu for done in many) - begin
    alone = MANY * median(_csv_alone() for _ in range(options.repeat)) / FEW
    rows = [
        [f"peak memory, {FEW:,} rows", f"{small:.1f} MB", ""],
        [f"peak memory, {MANY:,} rows", f"{large:.1f} MB", ""],
        ["ratio", large / small, "< 1.3"],
        ["rows a second of one processor", MANY / used, "> 20,000"],
        ["time, as a multiple of what gzip and csv alone take for the same rows", used / alone, ""],
        ["rows a second", MANY / median(done.seconds for done in many), ""],
    ]
    table(["what", "figure", "wanted"], rows)


def _csv_alone() -> float:
    """Processor seconds for gzip and csv alone, which tell how fast the machine is at the moment."""
    packed = _file(FEW)
    began = time.process_time()
    for _ in csv.reader(io.StringIO(gzip.decompress(packed).decode()), escapechar="\\"):
        pass
    return time.process_time() - began


def _sync(rows: int) -> Run:
    with Remote(partial(_service, rows)) as remote:
        done = run(config(remote.ask(_url), ["gh/acme/api"], start_date="2025-06-01"), [STREAM])
    assert done.rows[STREAM] == rows
    return done


def _jobs() -> Iterator[dict[str, str | None]]:
    """Job runs that differ from each other in their names, measures and credits, as real ones do."""
    chance = random.Random(8)
    for number in range(BLOCK):
        seconds, name = chance.expovariate(1 / 200), chance.choice(["build", "lint", "unit-tests", "deploy"])
        computed, stored = f"{seconds * chance.choice([10, 20, 40]) / 60:.6f}", f"{chance.random():.6f}"
        yield job(
            NOW - timedelta(days=1),
            number,
            VCS_BRANCH=f"change-{chance.randrange(900)}",
            PIPELINE_TRIGGER_USER_ID=f"{chance.getrandbits(64):016x}",
            JOB_NAME=f"{name}-{chance.randrange(4)}",
            JOB_BUILD_STATUS=chance.choice(["success", "success", "success", "failed", "canceled"]),
            RESOURCE_CLASS=chance.choice(["small", "medium", "large"]),
            JOB_RUN_SECONDS=f"{seconds:.0f}",
            MEDIAN_CPU_UTILIZATION_PCT=f"{chance.random() * 100:.4f}",
            MAX_CPU_UTILIZATION_PCT=f"{chance.random() * 100:.4f}",
            MEDIAN_RAM_UTILIZATION_PCT=f"{chance.random() * 100:.4f}",
            MAX_RAM_UTILIZATION_PCT=f"{chance.random() * 100:.4f}",
            COMPUTE_CREDITS=computed,
            STORAGE_CREDITS=stored,
            TOTAL_CREDITS=f"{float(computed) + float(stored):.6f}",
        )


def _url(server: Server) -> str:
    return server.url


@contextmanager
def _service(rows: int) -> Iterator[Server]:
    """A service with one export, ready at once, of so many job runs in one file."""
    world = World(NOW)
    world.add_project("gh/acme/api")
    with Server(world) as server, FileHost() as host:
        host.files["/export.csv.gz"] = _file(rows)

        def answer(request: Request) -> Answer | None:
            if "usage_export_job" not in request.path:
                return None
            urls = [f"{host.url}/export.csv.gz"]
            return Answer(201, {"usage_export_job_id": "export", "state": "completed", "download_urls": urls})

        server.aside = answer
        yield server


def _file(rows: int) -> bytes:
    """A gzip file of some parts, each with jobs of its own."""
    header, _, block = csv_of(list(_jobs())).partition(b"\n")
    parts = [gzip.compress(header + b"\n")]
    for part in range(-(-rows // BLOCK)):
        lines = block.replace(b'"job-', b'"job-%d-' % part)
        if rows < BLOCK:
            lines = b"".join(lines.splitlines(keepends=True)[:rows])
        parts.append(gzip.compress(lines, 1))
    return b"".join(parts)
