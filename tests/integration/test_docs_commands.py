"""The commands of README and docs, run as they stand there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from tests.circleci import Server, World
from tests.integration.programs import ROOT, virtualenv, write_json

NOW = datetime(2026, 3, 11, 12, tzinfo=timezone.utc)
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


@pytest.fixture
def folder(tmp_path: Path):
    """A folder with the sample config for a CircleCI of ours, and the environment with tap and target on the PATH."""
    world = World(NOW)
    for slug in ("gh/acme/api", "gh/acme/web-shop"):
        project = world.add_project(slug)
        for hours in range(1, 31):
            world.add_pipeline(project, NOW - timedelta(hours=hours), workflows=[{"stopped_at": timedelta(minutes=9)}])
    sample = json.loads((ROOT / "sample_config.json").read_text(encoding="utf-8"))
    programs = [str(Path(sys.executable).parent), str(virtualenv("target-jsonl", "target-jsonl==0.1.4"))]
    with Server(world) as server:
        write_json(tmp_path / "config.json", {**sample, "token": world.token, "base_url": server.url})
        write_json(tmp_path / "target.json", {"do_timestamp_file": False})
        yield tmp_path, {**os.environ, "PATH": os.pathsep.join([*programs, os.environ["PATH"]])}


def fenced(mark: str) -> dict[str, list[str]]:
    """The code blocks after a mark, by the name of the page."""
    found = {
        page.name: re.findall(rf"<!-- {mark} -->\n```sh\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
        for page in PAGES
    }
    return {name: blocks for name, blocks in found.items() if blocks}


@pytest.mark.parametrize("page", fenced("run"))
def test_the_commands_of_a_page_work(folder, page):
    """Its commands to check, discover, sync twice, and look at the API and the log all succeed."""
    place, environment = folder
    for block in fenced("run")[page]:
        subprocess.run(["bash", "-euo", "pipefail", "-c", block], cwd=place, env=environment, check=True)
    if page == "README.md":
        state = json.loads((place / "state.json").read_text(encoding="utf-8"))
        assert set(state["bookmarks"]["pipelines"]) == {"gh/acme/api", "gh/acme/web-shop"}


def test_the_script_for_cron_keeps_the_state(folder):
    """Two runs of the script: the first reads all, the second only the four jobs that ended within two hours."""
    place, environment = folder
    ((script,),) = fenced("cron").values()
    ((catalogs,),) = fenced("catalogs").values()
    (place / "circleci.sh").write_text(script, encoding="utf-8")
    subprocess.run(["bash", "-euo", "pipefail", "-c", catalogs], cwd=place, env=environment, check=True)
    sizes = []
    for _ in range(2):
        subprocess.run(["bash", "circleci.sh", "hourly"], cwd=place, env=environment, check=True)
        files = (place / "hourly").glob("jobs*.jsonl")
        sizes.append(sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files))
    assert sizes == [60, 64]


def test_the_commands_for_meltano_work(folder):
    """A copy of the example, with the token and the projects in the environment, loads rows."""
    place, environment = folder
    ((block,),) = fenced("meltano").values()
    config = json.loads((place / "config.json").read_text(encoding="utf-8"))
    meltano = virtualenv("meltano", "meltano==4.4.1")
    environment = {
        **environment,
        "PATH": os.pathsep.join([environment["PATH"], str(meltano)]),
        "TAP_CIRCLECI_BASE_URL": config["base_url"],
    }
    (place / "examples").symlink_to(ROOT / "examples")
    block = block.replace("TAP_CIRCLECI_TOKEN=...", f"TAP_CIRCLECI_TOKEN={config['token']}")
    subprocess.run(["bash", "-euo", "pipefail", "-c", block], cwd=place, env=environment, check=True)
    assert (place / "my-project" / "output" / "jobs.jsonl").stat().st_size > 0
