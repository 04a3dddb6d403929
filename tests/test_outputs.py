"""The output of failed steps: read as a stream, without escape sequences, its end kept."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tap_circleci.reading.outputs import LONGEST, end_of, messages
from tests.circleci import Row, Server, World
from tests.circleci.v1_1 import Output, step_rows
from tests.tap import EagerClock, Run, Tables, assert_same, expected, sync, tables

NOW = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)


def packed(texts: list[str], *, ascii_only: bool = True) -> bytes:
    """The JSON array that has these messages."""
    rows = [{"message": text, "time": "2026-03-10T12:00:00.000Z", "type": "out"} for text in texts]
    return json.dumps(rows, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")


def in_blocks(body: bytes, size: int) -> Iterator[bytes]:
    return (body[start : start + size] for start in range(0, len(body), size))


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        (["plain\n"], "plain\n"),
        (["\x1b[31mred\x1b[0m and \x1b[1;32mgreen\x1b[m"], "red and green"),
        (["\x1b[3", "1mcut between messages\x1b", "[0m"], "cut between messages"),
        (["\x1b]8;;https://ci.example\x07link\x1b]8;;\x1b\\ end"], "link end"),
        (["10 %\r20 %\r", "\n30 %\r\n"], "10 %\n20 %\n30 %\n"),
        (["\ttabs stay\x00\x08\x7f\x9b gone"], "\ttabs stay gone"),
        (["café 🚀 \u2028"], "café 🚀 \u2028"),
        (['"message": "no message"'], '"message": "no message"'),
        ([], ""),
    ],
)
def test_the_text_is_plain(texts, wanted, size):
    """Colours, links, control characters and carriage returns become plain text, wherever blocks and messages end."""
    assert end_of(in_blocks(packed(texts), size)) == (wanted, False)


TEXTS = st.lists(
    st.text(st.sampled_from('ab"\\\n\té🚀\u2028{}[]:,') | st.characters(codec="utf-8"), max_size=40), max_size=5
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(TEXTS, st.integers(1, 50), st.booleans())
def test_all_messages_are_found(texts, size, ascii_only):
    """The texts are those that json reads, with any messages and any division into blocks."""
    body = packed(texts, ascii_only=ascii_only)
    assert "".join(messages(in_blocks(body, size))) == "".join(row["message"] for row in json.loads(body))


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"null", b"<html>gone</html>", b'[{"message": null}]', b'[{"message": "cut']
)
def test_what_is_no_array_of_messages_is_no_error(body):
    """Another body has no text, or the text that can be read of it."""
    assert end_of([body])[0] in ("", "cut")


def test_the_end_is_kept_and_the_row_says_so():
    """Ten thousand characters are kept after cleaning, and the row says whether there were more."""
    assert end_of([packed(["\x1b[31mx\x1b[0m" * LONGEST])]) == ("x" * LONGEST, False)
    text, is_truncated = end_of([packed(["first", "y" * LONGEST])])
    assert (text, is_truncated) == ("y" * LONGEST, True)


@pytest.mark.parametrize("of_one_message", [True, False])
def test_memory_does_not_grow_with_the_output(of_one_message):
    """Thirty megabytes, in one message or in many, take a few hundred kilobytes."""

    def blocks() -> Iterator[bytes]:
        yield b'[{"message": "'
        for _ in range(500):
            yield b"z" * 65_000 + (b"" if of_one_message else b'"}, {"message": "')
        yield b'"}]'

    tracemalloc.start()
    try:
        assert end_of(blocks())[1]
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def failing() -> World:
    """A project with a job that failed, an hour before three hours ago."""
    world = World(NOW)
    project = world.add_project("gh/acme/api")
    job: Row = {"name": "test", "status": "failed"}
    flow = {"name": "build", "status": "failed", "stopped_at": timedelta(minutes=9), "jobs": [job]}
    world.add_pipeline(project, NOW - timedelta(hours=4), workflows=[flow])
    return world


def outputs(server: Server) -> Run:
    return sync(server, streams=["steps", "step_outputs"])


def test_the_address_and_the_script_stay_inside():
    """No signed address, script or token is in output or log, and no header of ours goes to the host of outputs."""
    with Server(failing()) as server:
        run = outputs(server)
        fetched = [request for request in server.requests if "action-output" in request.path]
    assert run.status == 0, run.log
    assert run.rows("steps")
    assert "hush" not in "\n".join(run.lines) + run.log
    assert "action-output" not in "\n".join(run.lines) + run.log
    assert fetched
    assert all("circle-token" not in request.headers for request in fetched)


@pytest.mark.parametrize("status", [403, 404, 410, 302])
def test_an_output_that_is_not_there_any_more_gives_no_row(status):
    """An address that has expired is counted, exit 0, and the next run does not request it again."""
    with Server(failing()) as server:
        first = outputs(server)
        row = first.rows("step_outputs")[0]
        server.world.lost_outputs[row["_job_id"], row["index"], row["step"]] = status
        again = outputs(server)
        assert (again.status, again.rows("step_outputs")) == (0, [])
        server.requests.clear()
        last = sync(server, streams=["steps", "step_outputs"], state=again.state)
        assert not [request for request in server.requests if "action-output" in request.path]
    assert last.status == 0, last.log


# Which jobs and which actions are asked


INSIDE = ("steps", "step_outputs")
HOLD: Row = {"name": "hold", "type": "approval", "job_number": 900_001}


def asked(server: Server) -> list[int]:
    """The numbers of the builds whose steps were asked for."""
    found = (re.fullmatch(r"/api/v1.1/project/github/acme/api/(\d+)", request.path) for request in server.requests)
    return [int(one[1]) for one in found if one]


def various() -> World:
    """A project with pipelines every five hours, of jobs that succeed and fail, and an approval."""
    world = World(NOW)
    project = world.add_project("gh/acme/api")
    for number in range(14):
        jobs: list[Row | str] = ["lint", HOLD, {"name": "test", "status": "failed" if number % 3 else "success"}]
        flow: Row = {"name": "build", "stopped_at": timedelta(minutes=30), "jobs": jobs}
        world.add_pipeline(project, NOW - timedelta(hours=4 + 5 * number), workflows=[flow])
    world.number_jobs()
    return world


def truth_of(world: World, name: str | None = None) -> Tables:
    base = world.truth(["gh/acme/api"])
    jobs = [row for row in base["jobs"] if name in (None, row["name"])]
    return {
        stream: rows for stream, rows in expected(step_rows(world, jobs, base["workflows"]), INSIDE).items() if rows
    }


def test_a_run_cut_after_any_state_goes_on_where_it_was():
    """The next run completes both tables, and requests no build again that the state says was read."""
    world = various()
    with Server(world, page_size=3) as server:
        first = sync(server, streams=INSIDE, clock=EagerClock())
        wanted = truth_of(world)
        assert len(wanted["step_outputs"]) > 5
        assert_same(tables(first.lines), wanted)
        states = [number for number, line in enumerate(first.lines) if '"type": "STATE"' in line]
        assert len(states) > 4
        for number in states:
            cut = first.lines[: number + 1]
            read = {row["job_number"] for row in tables(cut).get("steps", {}).values()}
            server.requests.clear()
            again = sync(server, streams=INSIDE, state=json.loads(cut[-1])["value"])
            assert again.status == 0, again.log
            assert not read & {*asked(server)}
            assert_same(tables(again.lines, tables(cut)), wanted)


@pytest.mark.parametrize("name", [None, "test"])
def test_job_names_limit_both_streams_and_an_approval_is_not_asked(name):
    """Steps and outputs are read once for each job of these names that has run, and for no other."""
    world = various()
    numbers = [job["job_number"] for job in world.truth(["gh/acme/api"])["jobs"] if job["name"] in (name, "test")]
    if name is None:
        numbers += [job["job_number"] for job in world.truth(["gh/acme/api"])["jobs"] if job["name"] == "lint"]
    with Server(world) as server:
        run = sync(server, streams=INSIDE, job_names=name)
        assert sorted(asked(server)) == sorted(numbers)
    assert run.status == 0, run.log
    assert_same(tables(run.lines), truth_of(world, name))


def test_steps_that_the_service_keeps_no_more_are_none():
    """A build of years ago has no steps: no rows, exit 0, and no second request."""
    world = various()
    world.steps_kept = timedelta(days=1)
    with Server(world) as server:
        run = sync(server, streams=INSIDE)
        assert 0 < len({row["_job_id"] for row in run.rows("steps")}) < len(asked(server))
        server.requests.clear()
        again = sync(server, streams=INSIDE, state=run.state)
        assert not asked(server)
    assert (run.status, again.status) == (0, 0)


@pytest.mark.parametrize(
    ("told", "has_row"),
    [
        ({"failed": None, "exit_code": 1, "has_output": True}, True),
        ({"failed": None, "exit_code": 137}, True),
        ({"failed": False, "exit_code": 1, "has_output": True}, True),
        ({"failed": True, "exit_code": None, "has_output": True}, True),
        ({"failed": True, "has_output": True}, True),
        ({"failed": None, "exit_code": 1, "has_output": False}, False),
        ({"failed": True, "exit_code": 1, "has_output": False}, False),
        ({"failed": None, "exit_code": 0, "has_output": True}, False),
        ({"failed": None, "exit_code": None, "has_output": True}, False),
        ({"has_output": True}, False),
    ],
)
def test_the_exit_code_decides_what_has_failed(told, has_row):
    """A step that failed, or ended with an exit code other than 0, and printed something has a row; no other has."""
    world = failing()
    (job,) = (job for rows in world.rows["jobs"].values() for job in rows)
    world.outputs[job["id"], 0, 103] = Output(["made it\n"])
    with Server(world) as server:
        place = f"{server.url}/action-output/{job['id']}/0/103"
        address = f"{place}?X-Amz-Date={NOW:%Y%m%dT%H%M%SZ}&X-Amz-Signature=hush-signature"
        action = {"index": 0, "step": 103, "name": "Run tests", "output_url": address, **told}
        world.actions = lambda run: [("Run tests", action)]
        run = outputs(server)
        fetched = [request for request in server.requests if "action-output" in request.path]
    assert run.status == 0, run.log
    assert len(run.rows("steps")) == 1
    assert [row["output"] for row in run.rows("step_outputs")] == ["made it\n"] * has_row
    assert len(fetched) == has_row
