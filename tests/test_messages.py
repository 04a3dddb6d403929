"""Standard output: whole lines, states that take up little of it, and a sentence when it cannot be written."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import subprocess
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from tap_circleci.discover import Selected
from tap_circleci.output.messages import Messages
from tap_circleci.state import state as states
from tests.circleci import Server, World, demo_world, history
from tests.tap import PROGRAM, EagerClock, FastClock, config_for, plain, sync

NOW = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_target_that_reads_slowly_gets_everything(unbuffered):
    """The output is complete also on a pipe that does not block, as some runners leave it."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with subprocess.Popen([PROGRAM, "--discover"], stdout=writer, env=environment) as process:
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            text = b""
            while block := pipe.read(2000):
                text += block
                time.sleep(0.01)
    assert process.returncode == 0
    assert len(json.loads(text)["streams"]) == 11


@pytest.mark.parametrize("lines", [0, 1, 40])
def test_a_closed_pipe_ends_the_run_with_a_sentence(tmp_path: Path, lines):
    """If the target ends first, the run ends with exit 1 and one CRITICAL line, without a traceback."""
    config = tmp_path / "config.json"
    with Server(demo_world(NOW)) as server:
        config.write_text(json.dumps(config_for(server)))
        config.chmod(0o600)
        with subprocess.Popen([PROGRAM, "-c", str(config)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            for _ in range(lines):
                process.stdout.readline()
            process.stdout.close()
            log = plain(process.stderr.read().decode())
            assert process.wait(timeout=20) == 1
    assert [line for line in log.splitlines() if line.startswith("CRITICAL")] == [
        "CRITICAL The target ended and no longer reads the output; its own log says why."
    ]
    assert "Traceback" not in log
    assert "Exception ignored" not in log


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_ends_the_run_with_a_sentence(tmp_path: Path):
    """If stdout cannot be written, the run ends with exit 1 and the reason."""
    with Path("/dev/full").open("wb") as full:
        found = subprocess.run([PROGRAM, "--discover"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert found.returncode == 1
    assert plain(found.stderr) == "CRITICAL Standard output cannot be written: No space left on device.\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("--discover 2> /dev/full", 0),
        ("--config /nowhere 2> /dev/full", 1),
        ("--discover > /dev/full 2> /dev/full", 1),
        ("--version > /dev/full", 1),
        ("--version > /dev/full 2> /dev/full", 1),
    ],
)
def test_a_log_on_a_full_disk_does_not_change_the_exit_status(command, status):
    """The exit status is that of the output, and never Python's 120."""
    line = f"PYTHONUNBUFFERED= exec {PROGRAM} {command}"
    found = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert found.returncode == status
    assert "Traceback" not in found.stderr
    assert "Exception" not in found.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_file_that_may_not_grow_ends_the_run_with_a_sentence(tmp_path: Path, unbuffered):
    """An incomplete write to a file ends the run with exit 1."""
    whole = subprocess.run([PROGRAM, "--discover"], stdout=subprocess.PIPE, check=True).stdout
    limit = len(whole) // 1024  # within the last of its lines that are written at once
    limited = f"ulimit -f {limit}; PYTHONUNBUFFERED={unbuffered} exec {PROGRAM} --discover > {tmp_path / 'out'}"
    found = subprocess.run(["bash", "-c", limited], stderr=subprocess.PIPE, text=True, check=False)
    assert found.returncode == 1
    assert plain(found.stderr) == "CRITICAL Standard output cannot be written: File too large.\n"


def test_a_closed_standard_output_ends_in_a_sentence():
    """Without a standard output the run ends with exit 1 and a sentence."""
    found = subprocess.run(
        ["bash", "-c", f"exec {PROGRAM} --discover >&-"], stderr=subprocess.PIPE, text=True, check=False
    )
    assert found.returncode == 1
    assert plain(found.stderr) == "CRITICAL Standard output is closed.\n"


class BusyClock(FastClock):
    """Time that passes a little whenever somebody looks."""

    def now(self) -> float:
        self.waited += 0.001
        return super().now()


def test_the_state_of_many_projects_takes_up_little_of_the_output():
    """With hundreds of projects, STATE messages are at most 8 % of all bytes, and come at least once a minute."""
    world = World(NOW)
    for number in range(250):
        project = world.add_project(f"gh/acme/service-{number}")
        for place in range(4):
            world.add_pipeline(project, NOW - timedelta(hours=1 + place), workflows=[{"stopped_at": MINUTE, "jobs": 3}])
    clock = BusyClock()
    with Server(world) as server:
        run = sync(server, clock=clock)
        again = sync(server, state=run.state, clock=BusyClock())
    states = [line for line in run.lines if line.startswith('{"type": "STATE"')]
    assert len(states[-1]) > 100_000
    assert sum(map(len, states)) - len(states[-1]) <= 0.08 * sum(map(len, run.lines))
    assert len(states) - 1 <= clock.waited / 1.0
    assert len([line for line in again.lines if line.startswith('{"type": "STATE"')]) <= 1 + clock.waited / 60


def test_a_state_that_grows_all_at_once_takes_up_little_of_the_output():
    """STATE messages stay within 5 % of the output, except for one a minute, also when the state suddenly grows."""
    clock, written_at, sizes = FastClock(), 0.0, []
    with contextlib.redirect_stdout(io.StringIO()) as output:
        messages = Messages(Selected({}), clock)
        state, _ = states.read({}, "")
        for number in range(600):
            messages.record("schedule", {"id": "x" * 9000}, NOW)
            for more in range(200 if number % 200 == 100 else 1):
                state.note("schedule", f"gh/acme/service-{number}-{more}", "2026-03-10T12:00:00.000000Z")
            clock.wait(2.0)
            messages.state(state)
            lines = output.getvalue().splitlines()
            if lines[-1].startswith('{"type": "STATE"'):
                sizes.append(sum(len(line) for line in lines if line.startswith('{"type": "STATE"')))
                assert sizes[-1] <= 0.05 * sum(map(len, lines)) or clock.now() - written_at >= 60
                written_at = clock.now()
    assert len(sizes) >= 12


def test_a_state_is_small():
    """The state of a project takes less than 1,000 bytes, however long its history is."""
    with Server(history(300, NOW)) as server:
        first = sync(server, streams=("pipelines", "workflows", "jobs"))
        server.world.advance(timedelta(hours=1))
        again = sync(server, streams=("pipelines", "workflows", "jobs"), state=first.state)
    for run in (first, again):
        assert len(json.dumps(run.state["bookmarks"])) < 1000


def test_a_changed_state_is_written_within_a_minute_however_large_it_is():
    """A run that is cut loses the work of at most a minute."""
    with Server(history(400, NOW)) as server:
        run = sync(server, streams=("pipelines",), clock=EagerClock())
    kinds = [json.loads(line)["type"] for line in run.lines]
    assert kinds.count("STATE") >= 400 // 20
