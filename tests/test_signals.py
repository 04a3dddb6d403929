"""Signals and pipes: whole lines, no traceback, an end within seconds. Runs the installed command."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

import pytest

from tests.circleci import Fault, Server, demo_world
from tests.tap import config_for

NOW = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)
PROGRAM = str(Path(sys.executable).with_name("tap-circleci"))


@contextmanager
def running(server: Server, folder: Path, **settings: object) -> Iterator[subprocess.Popen[bytes]]:
    """The tap as a process of its own, its output and log in files."""
    config = folder / "config.json"
    config.write_text(json.dumps(config_for(server, **settings)))
    config.chmod(0o600)
    with (
        (folder / "out").open("wb") as out,
        (folder / "log").open("wb") as log,
        subprocess.Popen([PROGRAM, "-c", str(config)], stdout=out, stderr=log) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def until(condition, seconds: float = 20.0) -> None:
    """Wait for a condition, but not for ever."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_wait_of_minutes_within_two_seconds(tmp_path: Path, signum, status):
    """While the service asks to wait for ten minutes, SIGTERM and SIGINT end the run with their usual status."""
    with Server(demo_world(NOW)) as server:
        server.script("/job", [None] * 50 + [Fault(429, {"Retry-After": "600"})])
        with running(server, tmp_path) as process:
            until(lambda: any(request.status == 429 for request in server.requests))
            time.sleep(0.3)
            process.send_signal(signum)
            began = time.monotonic()
            assert process.wait(timeout=10) == status
            assert time.monotonic() - began < 2
    log = (tmp_path / "log").read_text()
    assert "Traceback" not in log
    assert f"CRITICAL Stopped by {signal.Signals(signum).name}." in log
    lines = (tmp_path / "out").read_text().split("\n")
    assert lines[-1] == ""
    assert json.loads(lines[-2])["type"] == "STATE"
    assert all(json.loads(line) for line in lines[:-1])


def test_a_signal_ends_a_run_whose_answer_does_not_come(tmp_path: Path):
    """A request that hangs holds nothing up."""
    with Server(demo_world(NOW)) as server:
        server.script("/workflow", [Fault(delay=30)])
        with running(server, tmp_path) as process:
            until(lambda: any("/workflow" in request.path for request in server.requests))
            process.terminate()
            assert process.wait(timeout=5) == 143
        server.reset()


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_signal_ends_a_run_whose_target_does_not_read(tmp_path: Path, unbuffered):
    """A pipe that is full and read by nobody holds nothing up, and has whole lines in it."""
    config = tmp_path / "config.json"
    with Server(demo_world(NOW)) as server:
        config.write_text(json.dumps(config_for(server)))
        config.chmod(0o600)
        with subprocess.Popen(
            [PROGRAM, "-c", str(config)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        ) as process:
            asked = -1
            while asked != server.calls or not asked:
                asked = server.calls
                time.sleep(0.5)
            process.terminate()
            assert process.wait(timeout=5) == 143
            assert process.stdout is not None
            lines = process.stdout.read().decode().split("\n")
    assert lines[-1] == ""
    assert all(json.loads(line) for line in lines[:-1])


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_target_that_reads_slowly_gets_everything(unbuffered):
    """Also from a pipe that refuses to wait, as some runners leave it, the output comes whole."""
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
    """When the target goes away, exit 1 and one CRITICAL line, no traceback."""
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
            log = process.stderr.read().decode()
            assert process.wait(timeout=20) == 1
    assert [line for line in log.splitlines() if line.startswith("CRITICAL")] == [
        "CRITICAL The target closed the pipe: nothing more can be written."
    ]
    assert "Traceback" not in log
    assert "Exception ignored" not in log


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_ends_the_run_with_a_sentence(tmp_path: Path):
    """When stdout cannot be written, exit 1 says why."""
    with Path("/dev/full").open("wb") as full:
        found = subprocess.run([PROGRAM, "--discover"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert found.returncode == 1
    assert found.stderr == "CRITICAL Standard output cannot be written: No space left on device.\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_file_that_may_not_grow_ends_the_run_with_a_sentence(tmp_path: Path, unbuffered):
    """A write that is cut short is not taken for a whole one."""
    whole = subprocess.run([PROGRAM, "--discover"], stdout=subprocess.PIPE, check=True).stdout
    limit = len(whole) // 1024  # within the last of its lines that are written at once
    limited = f"ulimit -f {limit}; PYTHONUNBUFFERED={unbuffered} exec {PROGRAM} --discover > {tmp_path / 'out'}"
    found = subprocess.run(["bash", "-c", limited], stderr=subprocess.PIPE, text=True, check=False)
    assert found.returncode == 1
    assert found.stderr == "CRITICAL Standard output cannot be written: File too large.\n"


def test_a_closed_standard_output_is_told():
    """Without anywhere to write to, exit 1 and a sentence."""
    found = subprocess.run(
        ["bash", "-c", f"exec {PROGRAM} --discover >&-"], stderr=subprocess.PIPE, text=True, check=False
    )
    assert found.returncode == 1
    assert found.stderr == "CRITICAL Standard output is closed: there is nowhere to write to.\n"


def test_the_token_stands_nowhere(tmp_path: Path):
    """Neither output nor log, however detailed, holds the token; it goes into one header only."""
    token = "t0ken-that-nobody-may-see"
    world = demo_world(NOW)
    world.token = token
    with Server(world) as server:
        server.script("/job", [Fault(500, {}, {"message": token}), Fault(400, {}, {"message": f"no {token}"})])
        with running(server, tmp_path) as process:
            assert process.wait(timeout=60) == 1
        for request in server.requests:
            assert token not in request.path
            assert [name for name, value in request.headers.items() if token in value] == ["circle-token"]
    assert token not in (tmp_path / "out").read_text()
    assert token not in (tmp_path / "log").read_text()


def test_the_progress_line_on_a_terminal_never_mixes_with_the_output(tmp_path: Path):
    """On a terminal, stderr has one live line that makes way for the log; stdout has messages only."""
    pty = pytest.importorskip("pty")
    config = tmp_path / "config.json"
    with Server(demo_world(NOW), latency=0.01) as server:
        config.write_text(json.dumps(config_for(server)))
        config.chmod(0o600)
        main, worker = pty.openpty()
        with (tmp_path / "out").open("wb") as out:
            process = subprocess.Popen([PROGRAM, "-c", str(config)], stdout=out, stderr=worker)
            os.close(worker)
            shown = b""
            while True:
                try:
                    shown += os.read(main, 65536)
                except OSError:
                    break
            assert process.wait() == 0
            os.close(main)
    assert b"\r\x1b[Kproject 1 of 5" in shown
    assert b" left" in shown
    for line in shown.split(b"\r\n")[:-1]:
        assert line.rpartition(b"\x1b[K")[2].startswith((b"INFO", b"WARNING"))
    assert all(json.loads(line)["type"] for line in (tmp_path / "out").read_text().splitlines())
