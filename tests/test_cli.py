"""The command line: what it prints, how it ends, and how it is ended. Most of it runs the installed command."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tap_circleci.streams import EXTRA
from tests.circleci import Fault, Server, demo_world
from tests.tap import PROGRAM, assert_same, config_for, plain, run, running, tables, until
from tests.worlds import NOW, truth_of, world_of


def config_in(folder: Path, content: object) -> str:
    """The path of a config file."""
    path = folder / "config.json"
    path.write_text(json.dumps(content))
    path.chmod(0o600)
    return str(path)


def python(*lines: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run these lines in a Python of their own."""
    program = [sys.executable, "-c", "\n".join(lines)]
    return subprocess.run(
        program, capture_output=True, text=True, check=False, env={**os.environ, **environment}, timeout=60
    )


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_wait_of_minutes_at_once(tmp_path: Path, signum, status):
    """While the service asks to wait for ten minutes, SIGTERM and SIGINT end the run with their usual status."""
    with Server(demo_world(NOW)) as server:
        server.script("/job", [None] * 50 + [Fault(429, {"Retry-After": "600"})])
        with running(server, tmp_path) as process:
            until(lambda: "asked to wait 600 s; a run waits 60 s at most" in (tmp_path / "log").read_text())
            process.send_signal(signum)
            assert process.wait(timeout=60) == status
    log = plain((tmp_path / "log").read_text())
    assert "Traceback" not in log
    assert f"CRITICAL Stopped by {signal.Signals(signum).name}." in log
    lines = (tmp_path / "out").read_text().split("\n")
    assert lines[-1] == ""
    assert json.loads(lines[-2])["type"] == "STATE"
    assert all(json.loads(line) for line in lines[:-1])


def test_a_signal_ends_a_run_whose_answer_does_not_come(tmp_path: Path):
    """A signal ends the run within seconds while a request waits for its answer."""
    with Server(demo_world(NOW)) as server:
        server.script("/workflow", [Fault(delay=30)])
        with running(server, tmp_path) as process:
            until(lambda: any("/workflow" in request.path for request in server.requests))
            process.terminate()
            assert process.wait(timeout=20) == 143
        server.reset()


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_signal_ends_a_run_whose_target_does_not_read(tmp_path: Path, unbuffered):
    """A signal ends the run also if the pipe is full, and the pipe has only whole lines."""
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
            assert process.wait(timeout=20) == 143
            assert process.stdout is not None
            lines = process.stdout.read().decode().split("\n")
    assert lines[-1] == ""
    assert all(json.loads(line) for line in lines[:-1])


@pytest.mark.parametrize("argv", [[], ["--config"], ["--config", "/nowhere"], ["--frobnicate"], ["--state", "x"]])
def test_a_wrong_command_line_ends_with_a_sentence(argv):
    """No config, a file that is not there, an unknown option: exit 1 and one CRITICAL line."""
    found = run(argv)
    assert (found.status, found.lines) == (1, ())
    assert len(found.criticals()) == 1


@pytest.mark.parametrize("argv", [["--discover", "--check"], ["--check", "--get", "/me"], ["--about", "--discover"]])
def test_two_things_at_once_end_with_a_sentence(argv):
    """Only one of --discover, --check, --get and --about is accepted."""
    found = run(argv)
    assert (found.status, found.lines) == (1, ())
    (sentence,) = found.criticals()
    assert "not allowed with argument" in sentence


def test_a_signal_in_the_middle_of_a_wait_ends_the_run():
    """A signal that comes while the same thread holds the lock of the stop cannot set it; the run ends all the same."""
    ended = python(
        "import os, signal, threading",
        "from tap_circleci import cli",
        "from tap_circleci.workers import Clock",
        "clock = Clock()",
        "cli._stop_on_signals(clock)",
        "with clock._stop._cond:",
        "    os.kill(os.getpid(), signal.SIGTERM)",
    )
    assert ended.returncode == 143


def test_ctrl_c_while_python_imports_is_no_bug():
    """Ctrl-C during any import ends the program with status 130 and no output."""
    for module in ("tap_circleci.cli", "tap_circleci.client", "singer", "urllib3", "tap_circleci.sync"):
        found = python(
            "import os, signal, sys",
            "class Press:",
            "    def find_spec(self, name, path=None, target=None):",
            f"        if name == {module!r}: os.kill(os.getpid(), signal.SIGINT)",
            "sys.meta_path.insert(0, Press())",
            "from tap_circleci import main",
            "main(['--version'])",
        )
        assert (found.returncode, found.stdout, found.stderr) == (130, "", ""), module


def test_importing_the_package_imports_nothing_else():
    """The package imports no other module of ours, so that `main` can first set the handler for Ctrl-C."""
    found = python(
        "import sys",
        "import tap_circleci",
        "print([name for name in sys.modules if name.split('.')[0] in ('requests', 'singer', 'dateutil')])",
        "print([name for name in sys.modules if name.startswith('tap_circleci.')])",
    )
    assert found.stdout == "[]\n[]\n", found.stderr


def test_a_machine_without_posix_signals_syncs(tmp_path: Path):
    """Without the names that only POSIX has, as on Windows, a run is complete, and SIGTERM still ends one in order."""
    with Server(demo_world(NOW)) as server:
        config = config_in(tmp_path, config_for(server))
        lines = [
            "import os, select, signal, sys",
            "del signal.SIGALRM, signal.setitimer, select.PIPE_BUF, select.poll, select.epoll, os.set_blocking",
            "sys.modules.update(dict.fromkeys(['fcntl', 'pwd', 'resource', 'termios']))",
            "from tap_circleci import main",
        ]
        found = python(*lines, f"main(['--config', {config!r}])")
        assert found.returncode == 0, found.stderr
        assert_same(tables(found.stdout.splitlines()), truth_of(server.world))
        refused = tmp_path / "refused"
        jobs = iter(range(10**6))

        def refuse(path: str, nth: int) -> Fault | None:
            if not path.endswith("/job") or next(jobs) < 50:
                return None
            refused.touch()
            return Fault(429, {"Retry-After": "600"})

        server.fault = refuse
        stop = [
            "import threading, time",
            "def stop():",
            f"    while not os.path.exists({str(refused)!r}): time.sleep(0.05)",
            "    os.kill(os.getpid(), signal.SIGTERM)",
            "threading.Thread(target=stop, daemon=True).start()",
        ]
        stopped = python(lines[0], *stop, *lines[1:], f"main(['--config', {config!r}])")
    assert stopped.returncode == 143
    assert json.loads(stopped.stdout.splitlines()[-1])["type"] == "STATE"


def test_a_machine_with_few_threads_left_does_with_those(tmp_path: Path):
    """If not all threads can be started, those that can do the work; without any, exit 1 and one sentence."""
    few = ["import resource, threading", "threading.stack_size(256 * 2**20)", "from tap_circleci import cli, main"]
    limit = "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()"
    with Server(world_of(5)) as server:
        config = config_in(tmp_path, config_for(server))
        for stacks in (3, 0):
            allowed = f"resource.setrlimit(resource.RLIMIT_AS, (used + {stacks} * 256 * 2**20 + 200 * 2**20,) * 2)"
            found = python(*few, limit, allowed, f"main(['--config', {config!r}])")
            assert "Traceback" not in found.stderr
            if stacks:
                assert re.search("WARNING Only [1-7] of 8 threads could be started", plain(found.stderr))
                assert_same(tables(found.stdout.splitlines()), truth_of(server.world))
            else:
                assert plain(found.stderr).endswith(
                    "CRITICAL The machine allows no thread: raise the limit of processes or memory.\n"
                )
            assert found.returncode == (0 if stacks else 1)


def test_a_bug_is_shown_with_its_traceback_and_without_the_token(tmp_path: Path):
    """An unforeseen error ends with exit 1; no line of its traceback looks like a line of the log."""
    token = "t0ken-that-nobody-may-see"
    config = config_in(tmp_path, {"token": token, "project_slugs": "gh/a/b"})
    found = python(
        "from tap_circleci import cli, main",
        "def broken(*_): raise LookupError('first\\nCRITICAL forged \x1b[2J " + token + "')",
        "cli.sync = broken",
        f"main(['--config', {config!r}])",
    )
    assert found.returncode == 1
    lines = plain(found.stderr).splitlines()
    assert lines[0] == "CRITICAL The tap has a bug; please report it, with these lines:"
    assert all(line.startswith("  ") for line in lines[1:])
    assert "  LookupError: first" in lines
    assert "  CRITICAL forged \\x1b[2J ***" in lines


def test_a_machine_without_memory_ends_in_a_sentence(tmp_path: Path):
    """If memory runs out, the run ends with exit 1 and a sentence that says what to do."""
    config = config_in(tmp_path, {"token": "t0ken", "project_slugs": "gh/a/b"})
    found = python(
        "from tap_circleci import cli, main",
        "def full(*_): raise MemoryError",
        "cli.sync = full",
        f"main(['--config', {config!r}])",
    )
    assert found.returncode == 1
    (line,) = plain(found.stderr).splitlines()
    assert line.startswith("CRITICAL The tap ran out of memory: give it more, or use fewer max_workers")


def test_what_the_tap_is_and_takes_is_shown_as_json():
    """--about needs no config and names all settings and streams, also the way hubs ask for it."""
    found = run(["--about", "--format=json"])
    told = json.loads("\n".join(found.lines))
    assert (found.status, told) == (0, json.loads("\n".join(run(["--about"]).lines)))
    assert told["name"] == "tap-circleci"
    assert f"tap-circleci {told['version']}" == subprocess.check_output([PROGRAM, "--version"], text=True).strip()
    assert {"catalog", "discover", "state"} <= set(told["capabilities"])
    assert told["settings"]["required"] == ["token", "project_slugs"]
    assert told["settings"]["properties"]["token"]["secret"] is True
    assert told["settings"]["properties"]["max_workers"]["default"] == 8
    catalog = json.loads("\n".join(run(["--discover"]).lines))["streams"]
    assert [(stream["name"], stream["key_properties"]) for stream in told["streams"] if not stream["extra"]] == [
        (entry["tap_stream_id"], entry["key_properties"]) for entry in catalog
    ]
    assert [stream["name"] for stream in told["streams"] if stream["extra"]] == list(EXTRA)


def test_help_shows_the_usual_calls():
    """Discover, the first sync, and each further one."""
    shown = subprocess.check_output([PROGRAM, "--help"], text=True)
    assert [line.split()[-1] for line in shown.splitlines() if line.startswith("  tap-circleci --config")] == [
        "catalog.json",
        "states.jsonl",
        "states.jsonl",
    ]


def test_a_token_that_is_no_text_ends_in_a_sentence(tmp_path: Path):
    """A token with half a character, which no encoding can hold, is a mistake of the config."""
    found = run(["--config", config_in(tmp_path, {"token": "half-a-character-\ud800", "project_slugs": "gh/a/b"})])
    assert (found.status, len(found.criticals())) == (1, 1)
    assert "token must be a personal API token" in found.criticals()[0]


def test_discovery_reads_nothing_of_a_config_but_the_extra_streams(tmp_path: Path):
    """Discovery adds the extra streams after the eleven; of the config it checks only their names."""
    usual = [entry["tap_stream_id"] for entry in json.loads("\n".join(run(["--discover"]).lines))["streams"]]
    assert len(usual) == 11
    for named, more in (("", []), ("webhooks, tests", ["tests", "webhooks"]), ("all", list(EXTRA))):
        config = config_in(tmp_path, {"max_workers": "x", "extra_streams": named})
        found = run(["--discover", "--config", config])
        assert found.status == 0
        entries = json.loads("\n".join(found.lines))["streams"]
        assert [entry["tap_stream_id"] for entry in entries] == usual + more
        assert all(entry["metadata"][0]["metadata"]["selected-by-default"] for entry in entries)
    wrong = run(["--discover", "--config", config_in(tmp_path, {"extra_streams": "nonsense"})])
    assert (wrong.status, wrong.lines, len(wrong.criticals())) == (1, (), 1)
    assert "extra_streams must be" in wrong.criticals()[0]
    assert '"nonsense"' in wrong.criticals()[0]
