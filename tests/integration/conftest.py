"""A PostgreSQL for the tests, and the worlds that they load."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path

import pytest

from tests.circleci import World, demo_world
from tests.integration.programs import Command, debian
from tests.integration.warehouses import PostgresServer

NOW = datetime(2026, 3, 11, 12, tzinfo=timezone.utc)
LATER = timedelta(hours=6)


def lively_world(now: datetime) -> World:
    """The demo's world, in which more is under way: a build, an approval to come, and a rerun of a failed build."""
    world = demo_world(now)
    slug, at = "gh/acme/web-shop", now - timedelta(hours=1)
    hold = {"name": "approve", "type": "approval"}
    world.add_pipeline(
        slug,
        at,
        subject="Building, and waiting for an approval",
        workflows=[
            {"name": "long", "stopped_at": timedelta(hours=3), "jobs": 3},
            {"name": "deploy", "stopped_at": timedelta(hours=5), "jobs": ["build", hold, "deploy"]},
        ],
    )
    failed = {"stopped_at": timedelta(minutes=5), "status": "failed", "jobs": 3}
    world.rerun(world.add_pipeline(slug, at, subject="Failed at first", workflows=[failed]), now + timedelta(hours=1))
    return world


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL of the distribution's on a free port, with a user "postgres" that needs no password."""
    programs = debian(_initdb, "postgresql").parent
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    as_owner: Command = []
    if os.geteuid() == 0:  # as whom it refuses to run
        shutil.chown(folder, "postgres")
        as_owner = ["runuser", "-u", "postgres", "--"]
    control: Command = [*as_owner, programs / "pg_ctl", "--pgdata", folder / "data", "--wait"]
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    initialize = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
    run = partial(subprocess.check_call, cwd=folder, stdout=subprocess.DEVNULL)
    run([*as_owner, programs / "initdb", "--pgdata", folder / "data", *initialize])
    run([*control, "--log", folder / "log", "--options", options, "start"])
    try:
        yield PostgresServer(port, programs / "psql")
    finally:
        run([*control, "--mode=immediate", "stop"])
        shutil.rmtree(folder)


def _initdb() -> Path | None:
    """The newest initdb of Debian's PostgreSQL."""
    return max(Path("/usr/lib/postgresql").glob("*/bin/initdb"), default=None)
