"""What is logged: one printable line for each record, without the token."""

from __future__ import annotations

import io
import logging
import sys
from pathlib import Path

import pytest

from tap_circleci.output.logs import protect
from tap_circleci.output.terminal import TerminalLine
from tests.circleci import Fault, Server, demo_world
from tests.tap import run, running, sync
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
    """Whoever logs, and whatever handlers are there: what moves the cursor is escaped and the token masked."""
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
    """Whoever tries the tap with the token "x" can read what it says."""
    protect("x")
    assert logging.makeLogRecord({"msg": "max_workers"}).getMessage() == "max_workers"


def test_the_live_line_is_as_safe_as_the_log(monkeypatch):
    """What stands on the terminal's last line goes the same way."""
    output = io.StringIO()
    monkeypatch.setattr(sys, "stderr", output)
    protect("t0ken-that-nobody-may-see")
    TerminalLine().show("gh/a/\x1b[2J\nb t0ken-that-nobody")
    assert output.getvalue() == "\r\x1b[Kgh/a/\\x1b[2J\\nb ***"


def test_what_the_service_names_can_forge_no_line():
    """Ids, slugs, names of fields, logins and messages with everything in them: each line of the log is ours."""
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
    """A service that repeats twelve characters or more of the token in a message is not quoted with them."""
    world = world_of(1)
    world.token = "CCIPAT_abcdefghijklmnopqrstuvwxyz"
    with Server(world) as server:
        server.script("/pipeline", [Fault(400, {}, {"message": f"no token {world.token[part]}!"})])
        found = sync(server, streams=WALK)
    assert found.status == 1
    assert "no token ***!" in found.log
    assert world.token[part] not in found.log


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


def test_the_log_tells_why_a_pipeline_is_read_or_not_to_whoever_asks(monkeypatch):
    """TAP_CIRCLECI_LOGLEVEL=debug brings a line for each pipeline listed: due or not, as of when, the next look."""
    with Server(world_of(3)) as server:
        assert "DEBUG" not in sync(server).log
        monkeypatch.setenv("TAP_CIRCLECI_LOGLEVEL", "debug")
        lines = [line for line in sync(server).log.splitlines() if line.startswith("DEBUG")]
    assert len(lines) == 3
    assert all("sent: True; due and in the tables as of: {" in line and "; next look: " in line for line in lines)


def test_a_level_that_is_none_is_told_in_a_sentence(monkeypatch):
    """The environment is an input like the config."""
    monkeypatch.setenv("TAP_CIRCLECI_LOGLEVEL", "chatty")
    (sentence,) = run(["--about"]).criticals()
    assert sentence == ('TAP_CIRCLECI_LOGLEVEL must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL, found "chatty".')
