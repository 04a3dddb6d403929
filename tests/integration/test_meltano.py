"""The Meltano project in examples/ works with the real Meltano."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tap_circleci.about import CAPABILITIES
from tap_circleci.config import Config
from tap_circleci.streams import STREAMS
from tests.circleci import Server
from tests.integration.conftest import LATER, NOW, lively_world
from tests.integration.programs import ROOT, TAP, virtualenv
from tests.integration.warehouses import json_lines, latest
from tests.tap import expected

PROJECT = ROOT / "examples" / "meltano" / "meltano.yml"


@pytest.fixture(scope="module")
def meltano() -> Path:
    """Meltano's folder of programs."""
    return virtualenv("meltano", "meltano==4.4.1")


def test_the_definition_names_every_setting(meltano):
    """The plugin definition has exactly the tap's config keys, each with a kind and a description, the token hidden."""
    to_json = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1])), default=str))"
    project = json.loads(subprocess.check_output([meltano / "python", "-c", to_json, PROJECT]))
    plugin, *_ = project["plugins"]["extractors"]
    settings = {setting["name"]: setting for setting in plugin["settings"]}
    assert settings.keys() == {field.name for field in fields(Config)}
    assert all(setting["kind"] and setting["description"] for setting in settings.values())
    assert [name for name, setting in settings.items() if setting.get("sensitive")] == ["token"]
    assert set(plugin["capabilities"]) == set(CAPABILITIES)


def test_meltano_runs_it_twice(meltano, tmp_path):
    """`meltano run` loads every row, keeps the state, and reads only what is new the second time."""
    shutil.copy(PROJECT, tmp_path)
    with Server(lively_world(NOW)) as server:
        slugs = [row["slug"] for row in server.world.projects.values()]
        programs = [str(folder) for folder in (TAP.parent, virtualenv("target-jsonl", "target-jsonl==0.1.4"))]
        environment: dict[str, Any] = {
            **os.environ,
            "PATH": os.pathsep.join([*programs, os.environ["PATH"]]),
            "TAP_CIRCLECI_TOKEN": server.world.token,
            "TAP_CIRCLECI_PROJECT_SLUGS": " ".join(slugs),
            "TAP_CIRCLECI_BASE_URL": server.url,
            "TAP_CIRCLECI_LOOKBACK_DAYS": "1.5",
        }
        calls, logs = [], []
        for wait in (timedelta(), LATER):
            server.world.advance(wait)
            server.reset()
            command = [meltano / "meltano", "run", "tap-circleci", "target-jsonl"]
            done = subprocess.run(
                command, cwd=tmp_path, env=environment, check=False, stderr=subprocess.PIPE, encoding="utf-8"
            )
            assert done.returncode == 0, done.stderr[-5000:]
            calls.append(server.calls)
            logs.append(done.stderr)
        wanted = expected(server.world.truth(slugs))
    for stream, definition in STREAMS.items():
        have = latest(stream, json_lines(tmp_path / "output" / f"{stream}.jsonl"), definition.key)
        assert have.keys() == wanted.get(stream, {}).keys(), stream
    assert calls[0] > 1000
    assert calls[1] < 150
    assert all(server.world.token not in log for log in logs)
