"""The live line on a terminal. Runs the installed command."""

from __future__ import annotations

import fcntl
import json
import os
import re
import struct
import subprocess
import termios
import threading
from datetime import datetime, timezone
from pathlib import Path

import pytest

from tests.circleci import Fault, Server, demo_world
from tests.tap import PROGRAM, config_for, until

COLUMNS = 50
NOW = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)


def test_the_progress_line_on_a_terminal_never_mixes_with_the_output(tmp_path: Path):
    """On a terminal stderr has one live line, which each line of the log replaces; stdout has only messages."""
    pty = pytest.importorskip("pty")
    config = tmp_path / "config.json"
    with Server(demo_world(NOW), latency=0.01) as server:
        config.write_text(json.dumps(config_for(server)))
        config.chmod(0o600)
        main, worker = pty.openpty()
        fcntl.ioctl(worker, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
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
    assert b"\r\x1b[Kreading project 1 of 5" in shown
    assert b" left" in shown
    live = [part for part in re.split(rb"\r\n|\r", shown) if part.startswith(b"\x1b[K") and b"reading" in part]
    assert max(len(part.removeprefix(b"\x1b[K")) for part in live) == COLUMNS - 1
    for line in shown.split(b"\r\n")[:-1]:
        assert line.rpartition(b"\x1b[K")[2].startswith((b"INFO", b"WARNING"))
    assert all(json.loads(line)["type"] for line in (tmp_path / "out").read_text().splitlines())


def test_a_run_goes_on_when_its_terminal_is_closed(tmp_path: Path):
    """A run in the background outlives its terminal: all rows come, exit 0."""
    pty = pytest.importorskip("pty")
    config = tmp_path / "config.json"
    gate = threading.Event()
    with Server(demo_world(NOW)) as server:
        server.script("/workflow", [None] * 9 + [Fault(gate=gate)])
        config.write_text(json.dumps(config_for(server)))
        config.chmod(0o600)
        main, worker = pty.openpty()
        with (tmp_path / "out").open("wb") as out:
            command = [PROGRAM, "-c", str(config)]
            process = subprocess.Popen(command, stdout=out, stderr=worker, start_new_session=True)
            os.close(worker)
            until(lambda: b"\x1b[K" in os.read(main, 65536))  # the live line
            os.close(main)
            gate.set()
            assert process.wait() == 0
    assert json.loads((tmp_path / "out").read_text().splitlines()[-1])["value"]["currently_syncing"] is None
