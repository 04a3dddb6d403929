"""The state of tap-circle-ci 2.0.0: what it proves is used."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from tap_circleci.errors import BadInput
from tap_circleci.state import state
from tap_circleci.state.state import Mark, State
from tap_circleci.walk.seen import LATE, Seen, Step
from tests.circleci import Server, history
from tests.tap import assert_same, expected, kept, sync, tables
from tests.worlds import NOW, WALK

SLUG = "gh/acme/api"
T = "2026-01-05T10:00:00Z"


def when(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def test_the_state_of_tap_circle_ci_is_taken_over():
    """Its time for each slug is used for pipelines; its map of ids is ignored; workflows and jobs start again."""
    found, remarks = state.read(
        {
            "currently_syncing": "jobs",
            "bookmarks": {
                "pipelines": {"github/acme/api": "2026-01-05T10:00:00.000000Z"},
                "workflows": {"5c6e4337-15ba": "2026-01-05T10:00:00.000000Z", "currently_syncing": "5c6e4337-15ba"},
                "jobs": {"currently_syncing": "68a2ac4d"},
                "deploy": {"updated_at": "2026-01-05T10:00:00.000000Z"},
                "schedule": {"updated-at": "2026-01-05T10:00:00.000000Z"},
                "context": {},
            },
        },
        "state.json",
    )
    step = Step(when(T), datetime(1970, 1, 1, tzinfo=timezone.utc))
    assert found.marks == {"pipelines": {SLUG: Mark("2026-01-05T10:00:00.000000Z", seen=Seen((step,)))}}
    assert found.currently_syncing == "pipelines"
    said = " ".join(remarks)
    assert "State of tap-circle-ci used for gh/acme/api" in said
    assert "bookmarks.workflows is not needed; ignored" in said
    assert state.read(found.as_json(), "state.json") == (found, [])


@pytest.mark.parametrize("stream", ["deploy", "schedule"])
def test_a_state_of_tap_circle_ci_is_known_by_its_other_streams_as_well(stream):
    """A state without pipelines is recognized by times under the name of a field, which are ignored."""
    key = {"deploy": "updated_at", "schedule": "updated-at"}[stream]
    found, remarks = state.read({"bookmarks": {stream: {key: T}}}, "state.json")
    assert found == State()
    assert remarks == [f"State of tap-circle-ci: bookmarks.{stream} is not needed; ignored."]


@pytest.mark.parametrize(
    ("marks", "place"),
    [
        ({"pipelines": {SLUG: "yesterday"}}, "bookmarks.pipelines.gh/acme/api"),
        ({"pipelines": {"replication_key": "updated_at"}}, "bookmarks.pipelines.replication_key"),
        ({"pipelines": {"acme": "2026-01-01"}}, "bookmarks.pipelines.acme"),
        ({"pipelines": {SLUG: "0001-01-01"}}, "bookmarks.pipelines.gh/acme/api"),
    ],
)
def test_a_state_of_tap_circle_ci_that_cannot_be_understood_is_refused_by_name(marks, place):
    """A value that is neither a time nor a slug is named with its place."""
    with pytest.raises(BadInput) as refused:
        state.read({"bookmarks": marks}, "state.json")
    assert f"state.json: {place}" in " ".join(refused.value.args)


def test_pipelines_that_tap_circle_ci_has_synced_are_not_sent_again():
    """Only pipelines changed later than two hours before its time are sent, and all workflows and jobs."""
    with Server(history(30, NOW)) as server:
        mark = NOW - timedelta(minutes=1)
        taken = {"bookmarks": {"pipelines": {"gh/acme/big": mark.isoformat()}}}
        run = sync(server, state=taken, streams=WALK)
        truth = expected(server.world.truth(["gh/acme/big"]), WALK[1:])
        rows = server.world.pipelines([server.world.project("gh/acme/big")["id"]])
    late = {row["id"] for row in rows if row["updated_at"] >= (mark - LATE).isoformat()}
    assert {row["id"] for row in run.rows("pipelines")} == late
    assert 0 < len(late) < 5
    assert_same({name: rows for name, rows in tables(run.lines).items() if name in WALK[1:]}, truth)
    assert all(len(kept(run.state, stream, "gh/acme/big")["seen"]) == 1 for stream in WALK)
