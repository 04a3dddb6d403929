"""What is logged: one printable line for each record, without the token."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from tap_circleci.output.logs import protect
from tap_circleci.output.terminal import TerminalLine
from tests.circleci import Fault, Server, demo_world
from tests.tap import PROGRAM, Run, config_for, run, running, sync
from tests.worlds import NOW, WALK, world_of

EVIL = "x\nCRITICAL forged\r\x1b[2K\x9b1m\u202egnp\u2066\u200b\x85\u2028\0"
SHOWN = r"x\nCRITICAL forged\r\x1b[2K\x9b1m\u202egnp\u2066\u200b\x85\u2028\x00"


@pytest.fixture(autouse=True)
def _as_before():
    """Leave logging as it was."""
    before = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(before)


def test_every_logger_writes_one_printable_line():
    """With any logger and any handler, control characters are escaped and the token is masked."""
    token = "CCIPAT_abcdefghijklmnopqrstuvwxyz"
    output = io.StringIO()
    logger = logging.getLogger("any.library")
    logger.propagate = False
    logger.addHandler(logging.StreamHandler(output))
    protect(token)
    logger.warning("%s and %s", EVIL, token[4:20])
    logger.warning(EVIL)
    assert output.getvalue() == f"{SHOWN} and ***\n{SHOWN}\n"


def test_a_token_of_a_few_letters_spoils_no_word():
    """With a token such as "x" no word of the log is masked."""
    protect("x")
    assert logging.makeLogRecord({"msg": "max_workers"}).getMessage() == "max_workers"


def test_the_live_line_is_as_safe_as_the_log(monkeypatch):
    """The terminal's last line is masked and made printable in the same way."""
    output = io.StringIO()
    monkeypatch.setattr(sys, "stderr", output)
    protect("t0ken-that-nobody-may-see")
    TerminalLine().show("gh/a/\x1b[2J\nb t0ken-that-nobody")
    assert output.getvalue() == "\r\x1b[Kgh/a/\\x1b[2J\\nb ***"


def test_what_the_service_names_can_forge_no_line():
    """Ids, slugs, names of fields, logins and messages of the service never begin a line of the log."""
    world = world_of(3)
    organization = world.organization("gh/acme")
    organization["slug"] = f"gh/{EVIL}"
    rows = world.rows["pipelines"][world.project("gh/acme/api")["id"]]
    rows[0][EVIL] = 1
    rows[1]["id"] = EVIL
    world.me["login"] = EVIL
    with Server(world) as server:
        server.script("/context", [Fault(403, {}, {"message": EVIL})])
        server.fault = lambda path, nth: Fault(409, {}, {"message": EVIL}) if "CRITICAL" in path else None
        found = sync(server)
    assert found.status == 1
    assert r"\x1b[2K" in found.log
    for line in found.log.split("\n"):
        assert line.isprintable()
        assert line.startswith(("INFO ", "WARNING ", "CRITICAL ")) or not line
    assert not [line for line in found.log.split("\n") if line.startswith("CRITICAL forged")]


@pytest.mark.parametrize("part", [slice(None), slice(0, 12), slice(5, 18), slice(-12, None)])
def test_no_part_of_the_token_is_shown(part):
    """If the service repeats twelve characters or more of the token in a message, they are masked."""
    world = world_of(1)
    world.token = "CCIPAT_abcdefghijklmnopqrstuvwxyz"
    with Server(world) as server:
        server.script("/pipeline", [Fault(400, {}, {"message": f"no token {world.token[part]}!"})])
        found = sync(server, streams=WALK)
    assert found.status == 1
    assert "no token ***!" in found.log
    assert world.token[part] not in found.log


def test_the_token_is_shown_nowhere(tmp_path: Path):
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


def test_the_log_says_why_a_pipeline_is_read_or_not_on_request(monkeypatch):
    """TAP_CIRCLECI_LOGLEVEL=debug gives a line for each listed pipeline: due or not, as of when, next look."""
    with Server(world_of(3)) as server:
        assert "DEBUG" not in sync(server).log
        monkeypatch.setenv("TAP_CIRCLECI_LOGLEVEL", "debug")
        lines = [line for line in sync(server).log.splitlines() if line.startswith("DEBUG")]
    assert len(lines) == 3
    assert all("row sent: True; due, and in the tables as of: {" in line and "; next look: " in line for line in lines)


def test_an_unknown_level_ends_in_a_sentence(monkeypatch):
    """A wrong TAP_CIRCLECI_LOGLEVEL ends the run with exit 1 and a sentence."""
    monkeypatch.setenv("TAP_CIRCLECI_LOGLEVEL", "chatty")
    (sentence,) = run(["--about"]).criticals()
    assert sentence == ('TAP_CIRCLECI_LOGLEVEL must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL, found "chatty".')


def logged_by_a_process(folder: Path, **environment: str) -> str:
    """What a sync of a small world writes to a log that is no terminal."""
    with Server(world_of(1)) as server:
        config = folder / "config.json"
        config.write_text(json.dumps(config_for(server)))
        config.chmod(0o600)
        line = [PROGRAM, "--config", str(config)]
        found = subprocess.run(line, capture_output=True, text=True, check=True, env={**os.environ, **environment})
    return found.stderr


def test_each_line_that_no_terminal_shows_has_its_level_its_time_and_its_process(tmp_path: Path):
    """The level comes first, as runners expect; two runs in one log can be distinguished, and the first line names
    the run."""
    before = datetime.now(timezone.utc).replace(microsecond=0)
    lines = logged_by_a_process(tmp_path).splitlines()
    found = [re.fullmatch(r"(INFO|WARNING) (\S+) \[(\d+)\] (.+)", line) for line in lines]
    assert all(found)
    times = [datetime.strptime(match[2], "%Y-%m-%dT%H:%M:%S%z") for match in found]
    assert times == sorted(times)
    assert before <= times[0]
    assert times[-1] <= datetime.now(timezone.utc)
    (process,) = {match[3] for match in found}
    assert re.match(rf"tap-circleci \S+ \(run [0-9a-f]{{8}}, process {process}\): streams ", found[0][4])


def test_the_log_as_json_has_an_object_on_each_line(tmp_path: Path):
    """TAP_CIRCLECI_LOG=json: level, time, message, fields, and the fields by which Meltano knows the level."""
    lines = [json.loads(line) for line in logged_by_a_process(tmp_path, TAP_CIRCLECI_LOG="json").splitlines()]
    meltano = {"level", "pid", "logger_name", "ts", "thread_name", "app_name", "stream_name", "message"}
    assert all({"time", "fields", "run", *meltano} <= line.keys() for line in lines)
    assert len({(line["run"], line["pid"]) for line in lines}) == 1
    assert {line["level"] for line in lines} == {"INFO"}
    metrics = [line["fields"] for line in lines if line["message"].startswith("METRIC: ")]
    assert {"type": "counter", "metric": "record_count", "value": 1, "tags": {"endpoint": "pipelines"}} in metrics
    assert lines[-1]["fields"]["exit_status"] == 0


def test_a_traceback_is_one_line_of_json(tmp_path: Path, monkeypatch):
    """A traceback is in one JSON object on one line."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"token": "t0ken-that-nobody-may-see", "project_slugs": "gh/a/b"}))
    config.chmod(0o600)
    monkeypatch.setenv("TAP_CIRCLECI_LOG", "json")
    program = [
        "from tap_circleci import cli, main",
        "def broken(*_): raise LookupError('t0ken-that-nobody-may-see')",
        "cli.sync = broken",
        f"main(['--config', {str(config)!r}])",
    ]
    found = subprocess.run([sys.executable, "-c", "\n".join(program)], capture_output=True, text=True, check=False)
    (line,) = [json.loads(line) for line in found.stderr.splitlines()]
    assert (found.returncode, line["level"]) == (1, "CRITICAL")
    assert "LookupError: ***" in line["traceback"]


def test_the_last_line_of_a_sync_is_for_programs():
    """Exit status, whether a later run may succeed, rows, calls, skips, failures and seconds."""
    world = world_of(3)
    world.forbidden.add(("groups", world.organizations[0]["id"]))
    with Server(world) as server:
        done = result_of(sync(server))
        server.fault = lambda path, nth: Fault(503) if path.endswith("/job") else None
        later = result_of(sync(server))
        server.fault = lambda path, nth: Fault(400) if path.endswith("/job") else None
        never = result_of(sync(server))
        wrong = result_of(sync(server, token="wrong"))
        config = result_of(sync(server, max_workers="many"))
        absent = result_of(run(["--config", "/nowhere"]))
        server.fault = lambda path, nth: Fault(429) if path.endswith("/job") else None
        limited = result_of(sync(server))
    fields = ("exit_status", "retry_helps", "rows", "skips", "failures")
    assert [done[name] for name in fields] == [0, False, 14, 1, 0]
    assert done["calls"] > 10
    assert [later[name] for name in fields] == [1, True, 8, 1, 3]
    assert [never[name] for name in fields][:2] == [1, False]
    assert [wrong[name] for name in fields] == [1, False, 0, 0, 1]
    for unusable in (config, absent):
        assert (unusable["exit_status"], unusable["retry_helps"]) == (1, False)
    assert (limited["exit_status"], limited["retry_helps"]) == (1, True)
    assert limited["seconds_waited"] > 0


def result_of(found: Run) -> dict[str, Any]:
    """What the last line of a run says."""
    result: dict[str, Any] = json.loads(found.log.splitlines()[-1].removeprefix("INFO RESULT: "))
    assert result["exit_status"] == found.status
    return result


def test_an_unknown_format_ends_in_a_sentence(monkeypatch):
    """A wrong TAP_CIRCLECI_LOG ends the run with exit 1 and a sentence."""
    monkeypatch.setenv("TAP_CIRCLECI_LOG", "xml")
    (sentence,) = run(["--about"]).criticals()
    assert sentence == 'TAP_CIRCLECI_LOG must be one of text, json, found "xml".'
