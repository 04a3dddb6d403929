"""Runs the tap and real Singer programs as their users do: each in a virtualenv of its own, joined by pipes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TAP = Path(sys.executable).with_name("tap-circleci")

Command = Sequence["str | Path"]


@dataclass(frozen=True)
class Poured:
    """How both ends of `tap | target` ended."""

    tap: int
    target: int

    @property
    def well(self) -> bool:
        """Whether everything arrived."""
        return self.tap == self.target == 0


def virtualenv(name: str, *packages: str) -> Path:
    """The folder of programs of the virtualenv .venvs/NAME with these packages, made when it is not there yet."""
    folder = ROOT / ".venvs" / name
    programs, complete, content = folder / "bin", folder / "complete", "\n".join([sys.version, *packages])
    if not complete.exists() or complete.read_text(encoding="utf-8") != content:
        print(f"Installing {name} (once) ...", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [programs / "python", "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        subprocess.run([*pip, *packages], check=True)
        complete.write_text(content, encoding="utf-8")
    return programs


def debian(found: Callable[[], Path | str | None], *packages: str) -> Path:
    """What these packages of Debian bring: they are installed if it is not found, else the test is skipped."""
    if not found():
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            pytest.skip(f"There is no {packages[0]}, and only root can install it with apt-get.")
        for words in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
            done = subprocess.run(["apt-get", "--quiet=2", *words], check=False, capture_output=True, text=True)
        if not found():
            pytest.skip(f"{packages[0]} could not be installed: {done.stderr.strip()[-300:]}")
    return Path(found() or "")


def write_json(path: Path, content: Any) -> Path:
    """Write a file that only its owner may read: it may hold a token."""
    path.touch(mode=0o600)
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")
    return path


def discover(config: Path, catalog: Path) -> None:
    """Write the catalog, with all streams selected."""
    found = subprocess.run([TAP, "--config", config, "--discover"], check=True, stdout=subprocess.PIPE)
    content = json.loads(found.stdout)
    for stream in content["streams"]:
        for entry in stream["metadata"]:
            if not entry["breadcrumb"]:
                entry["metadata"]["selected"] = True
    write_json(catalog, content)


def tap_command(folder: Path, config: Path) -> Command:
    """The tap's command line, with the catalog and the state of a folder."""
    state = folder / "state.json"
    known = ["--state", state] if state.exists() else []
    return [TAP, "--config", config, "--catalog", folder / "catalog.json", *known]


def pour(tap: Command, target: Command, folder: Path, hear: Callable[[str], object] = str) -> Poured:
    """Run `tap | target` to the end, with logs in the folder; `hear` gets the tap's log line by line.

    When the target ended well, the last state that it printed becomes the folder's state.json: it vouches for what is
    stored, also when the tap could not deliver all.
    """
    states, state = folder / "states.jsonl", folder / "state.json"
    with (
        (folder / "tap.log").open("w", encoding="utf-8") as log,
        (folder / "target.log").open("w", encoding="utf-8") as target_log,
        states.open("w", encoding="utf-8") as output,
        subprocess.Popen(tap, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8") as source,
        subprocess.Popen(target, stdin=source.stdout, stdout=output, stderr=target_log) as sink,
    ):
        # Only the target holds the pipe's other end now: when it dies, the tap notices.
        source.stdout.close()
        for line in source.stderr:
            log.write(line)
            hear(line.rstrip())
    printed = [line for line in states.read_text(encoding="utf-8").split("\n") if line]
    if sink.returncode == 0 and printed:
        write_json(draft := state.with_suffix(".draft"), json.loads(printed[-1]))
        draft.replace(state)
    return Poured(source.returncode, sink.returncode)
