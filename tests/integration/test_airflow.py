"""The DAGs in examples/ work with the real Airflow."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tap_circleci.streams import STREAMS
from tests.circleci import Fault, Server
from tests.circleci.extras import furnish, truth
from tests.integration.conftest import LATER, NOW, lively_world
from tests.integration.programs import ROOT, TAP, virtualenv, write_json
from tests.integration.warehouses import json_lines, latest
from tests.tap import DEFAULT, config_for, expected

EXTRAS = ("flaky_tests", "project_variables", "deploy_components", "context_restrictions")
"""Two below projects, which the groups read, and two below organizations, which the one task reads."""
TEST = """
import circleci
runs = [dag.test() for dag in (circleci.hourly, circleci.daily)]
for run in runs:
    for task in run.get_task_instances():
        print("TASK", run.dag_id, task.task_id, task.map_index, task.state)
raise SystemExit(any(run.state != "success" for run in runs))
"""


@pytest.fixture(scope="module")
def airflow() -> Path:
    """Airflow's folder of programs."""
    try:
        return virtualenv("airflow", "apache-airflow==3.3.2")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"Airflow cannot be installed: {error}.")


class Scheduler:
    """An Airflow with the DAGs, in a folder of its own."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.home = folder / "circleci"
        dags = folder / "dags"
        dags.mkdir()
        self.home.mkdir()
        shutil.copy(ROOT / "examples" / "airflow" / "circleci.py", dags)
        write_json(self.home / "target.json", {"destination_path": ".", "do_timestamp_file": False})
        target = virtualenv("target-jsonl", "target-jsonl==0.1.4")
        self._environment = {
            **os.environ,
            "PATH": os.pathsep.join([str(TAP.parent), str(target), os.environ["PATH"]]),
            "AIRFLOW_HOME": str(folder),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "CIRCLECI_HOME": str(self.home),
            "CIRCLECI_GROUPS": "3",
            "PYTHONPATH": str(dags),
        }
        self._python = programs / "python"
        self._folder = folder
        self._call([programs / "airflow", "db", "migrate"], 0)

    def run(self, status: int = 0) -> list[str]:
        """Run the DAGs to their end, and tell how each task ended."""
        lines = self._call([self._python, "-c", TEST], status).split("\n")
        return sorted(line for line in lines if line.startswith("TASK"))

    def _call(self, command: list, status: int) -> str:
        done = subprocess.run(
            command, cwd=self._folder, env=self._environment, check=False, capture_output=True, encoding="utf-8"
        )
        assert done.returncode == status, (done.stdout + done.stderr)[-5000:]
        return done.stdout

    @property
    def runs(self) -> Iterator[Path]:
        """The folders of the groups and of the organizations."""
        return (self.home / "runs").iterdir()


def test_each_group_has_its_state(airflow, tmp_path):
    """The DAGs load every row, each group by itself; a group that fails leaves the others alone and catches up."""
    scheduler = Scheduler(airflow, tmp_path)
    with Server(furnish(lively_world(NOW))) as server:
        slugs = [row["slug"] for row in server.world.projects.values()]
        write_json(scheduler.home / "config.json", config_for(server, lookback_days=60, extra_streams=EXTRAS))
        tasks = scheduler.run()
        assert len(tasks) > 3
        check(scheduler, server, slugs)
        first = server.calls
        server.world.advance(LATER)
        server.reset()
        server.fault = lambda path, _: Fault(400) if "gh/acme/infrastructure/pipeline" in path else None
        failed = [line for line in scheduler.run(status=1) if not line.endswith("success")]
        assert len(failed) == 1
        assert server.calls < first
        server.reset()
        scheduler.run()
        check(scheduler, server, slugs)
    states = [json.loads((folder / "state.json").read_text(encoding="utf-8")) for folder in scheduler.runs]
    walked = [slug for state in states for slug in state["bookmarks"].get("pipelines", {})]
    assert sorted(walked) == sorted(slugs)


def check(scheduler: Scheduler, server: Server, slugs: list[str]) -> None:
    """Compare what all groups have written with the truth."""
    wanted = {**server.world.truth(slugs), **truth(server.world, slugs)}
    for stream, rows in expected(wanted, (*DEFAULT, *EXTRAS)).items():
        files = [folder / f"{stream}.jsonl" for folder in scheduler.runs]
        have = latest(stream, (row for file in files for row in json_lines(file)), STREAMS[stream].key)
        assert have == latest(stream, rows.values(), STREAMS[stream].key), stream
