"""States of other origin: read as far as they prove anything, in the middle of any life."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tap_circleci.errors import BadInput
from tap_circleci.state import state
from tap_circleci.walk.seen import MOST_RETRIES, Seen, Step
from tests.circleci import Server, history
from tests.lives import LOOKBACKS, PAUSES, SELECTIONS, START, Project, Sync, histories
from tests.tap import assert_same, expected, kept, sync, tables
from tests.version_1_0 import Version10
from tests.worlds import NOW, WALK

SLUG = "gh/acme/api"
T = "2026-01-05T10:00:00Z"
EARLIER = "2026-01-04T10:00:00Z"
OPEN = "2026-01-06T10:00:00Z"


def when(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def read(walk: Any, **marks: Any) -> dict[str, Seen]:
    """What a state of 1.0.x with this entry keeps of the project."""
    found, remarks = state.read({"bookmarks": {**marks, "walks": {SLUG: walk}}}, "state.json")
    assert remarks == []
    return found.seen.get(SLUG, {})


def below(at: str, looked_back_to: str | None = None) -> tuple[Step, Step]:
    """The steps of a completed walk of 1.0.x."""
    edge = when(looked_back_to or at)
    return Step(when(at), edge, edge), Step(when(at) - timedelta(days=32), edge)


# 1.0.x


def test_a_completed_walk_of_1_0_is_two_steps():
    """Back to where the last walk looked it counts as of that walk, below as of 32 days earlier."""
    found = read({"synced_at": dict.fromkeys(WALK, T), "looked_back_to": EARLIER, "pending_from": EARLIER})
    assert found == {
        "pipelines": Seen(below(T, EARLIER), pending=when(EARLIER)),
        "workflows": Seen(below(T, EARLIER)),
        "jobs": Seen(below(T, EARLIER)),
    }


def test_the_first_versions_did_not_say_how_far_they_looked_back():
    """Without `looked_back_to` nothing counts as looked at by the last walk."""
    assert read({"synced_at": {"jobs": T}}) == {"jobs": Seen(below(T))}


@pytest.mark.parametrize("horizon", [None, EARLIER])
def test_a_first_walk_that_was_cut_is_one_step(horizon):
    """What a first walk had done down to somewhere counts, also in a state that names no horizon."""
    cut = {"streams": ["pipelines", "jobs"], "from": OPEN, "down_to": T, **({"horizon": horizon} if horizon else {})}
    edge = when(horizon or "1970-01-01T00:00:00Z")
    step = Step(when(OPEN), edge, when(T))
    assert read({"open": cut}) == {"pipelines": Seen((step,)), "jobs": Seen((step,))}


@pytest.mark.parametrize("horizon", [None, EARLIER])
def test_a_later_walk_that_was_cut_lies_on_top_of_the_last_whole_one(horizon):
    """Only its own streams, and only where the state says how far it looked back."""
    cut = {"streams": ["jobs"], "from": OPEN, "down_to": T, **({"horizon": horizon} if horizon else {})}
    found = read({"synced_at": {"workflows": T, "jobs": T}, "looked_back_to": EARLIER, "open": cut})
    top = [Step(when(OPEN), when(EARLIER), when(T))] if horizon else []
    assert found == {"workflows": Seen(below(T, EARLIER)), "jobs": Seen((*top, *below(T, EARLIER)))}


def test_streams_that_differ_keep_what_each_has_seen():
    """A stream that was selected later has a moment of its own, or none."""
    found = read({"synced_at": {"pipelines": OPEN, "jobs": T}, "looked_back_to": EARLIER})
    assert found == {"pipelines": Seen(below(OPEN, EARLIER)), "jobs": Seen(below(T, EARLIER))}


@pytest.mark.parametrize(
    ("retry", "jobs", "workflows"),
    [
        (["p1", "p2"], ("p1", "p2"), ("p1", "p2")),
        ({"p1": ["jobs"], "p2": ["workflows", "jobs"]}, ("p1", "p2"), ("p2",)),
    ],
)
def test_what_1_0_could_not_read_is_tried_again(retry, jobs, workflows):
    """1.0.0 named pipelines, later versions also the streams."""
    found = read({"synced_at": dict.fromkeys(WALK, T), "retry": retry})
    assert {name: one.retry for name, one in found.items()} == {"pipelines": (), "workflows": workflows, "jobs": jobs}


def test_the_bookmarks_of_1_0_are_kept():
    """The highest values sent stand beside what was seen, and the streams outside the walk stay as they are."""
    marks = {"pipelines": {"github/acme/api": T}, "workflows": {SLUG: EARLIER}, "deploy": {"o1": T}}
    found, _ = state.read({"bookmarks": {**marks, "walks": {SLUG: {"synced_at": {"jobs": T}}}}}, "state.json")
    full = {name: text.replace("Z", ".000000Z") for name, text in (("T", T), ("E", EARLIER))}
    assert found.bookmarks == {
        "pipelines": {SLUG: full["T"]},
        "workflows": {SLUG: full["E"]},
        "deploy": {"o1": full["T"]},
    }
    assert state.read(found.as_json(), "state.json")[0] == found


@pytest.mark.parametrize(
    ("walk", "place"),
    [
        ({"synced_at": {"jobs": 5}}, ".synced_at.jobs"),
        ({"synced_at": []}, ".synced_at"),
        ({"synced_at": {"jobs": "yesterday"}}, ".synced_at.jobs"),
        ({"synced_at": {"users": T}}, ".synced_at.users"),
        ({"synced_at": {"tests": T}}, ".synced_at.tests"),
        ({"synced_at": {"jobs": "0001-01-01T00:00:00Z"}}, ".synced_at.jobs"),
        ({"looked_back_to": 5, "synced_at": {"jobs": T}}, ".looked_back_to"),
        ({"pending_from": "soon"}, ".pending_from"),
        ({"open": {"streams": ["x"], "from": T, "down_to": T}}, ".open.streams"),
        ({"open": {"streams": [{}], "from": T, "down_to": T}}, ".open.streams"),
        ({"open": {"streams": "jobs", "from": T, "down_to": T}}, ".open.streams"),
        ({"open": {"streams": ["jobs"], "from": T}}, ".open.down_to"),
        ({"open": {"streams": ["jobs"], "from": "0001-01-01", "down_to": T}}, ".open.from"),
        ({"open": {"streams": ["jobs"], "from": OPEN, "down_to": T, "horizon": 5}}, ".open.horizon"),
        ({"open": "jobs"}, ".open"),
        ({"retry": "p1"}, ".retry"),
        ({"retry": [5]}, ".retry"),
        ({"retry": {"p1": []}}, ".retry.p1"),
        ({"retry": {"p1": [{}]}}, ".retry.p1"),
        ({"retry": {"p1": "jobs"}}, ".retry.p1"),
        ({"retry": {"p1": ["pipelines"]}}, ".retry.p1"),
        ({"done": True}, ".done"),
        ([], ""),
        (None, ""),
    ],
)
def test_an_entry_of_1_0_that_cannot_be_understood_is_refused_by_name(walk, place):
    """What no version wrote is named with its place in the file, once."""
    with pytest.raises(BadInput) as refused:
        read(walk)
    assert len(refused.value.args) == 1, refused.value.args
    assert refused.value.args[0].startswith(f"state.json: bookmarks.walks.gh/acme/api{place} must be ")


@pytest.mark.parametrize(
    ("walks", "place"),
    [([], "walks"), ("x", "walks"), (None, "walks"), ({"acme": {"synced_at": {"jobs": T}}}, "walks.acme")],
)
def test_walks_that_are_none_are_refused_by_name(walks, place):
    """Also where the whole is of another shape, or a key is no slug."""
    with pytest.raises(BadInput) as refused:
        state.read({"bookmarks": {"walks": walks}}, "state.json")
    assert [sentence.split(" must")[0] for sentence in refused.value.args] == [f"state.json: bookmarks.{place}"]


def test_all_mistakes_in_a_state_of_1_0_are_told_at_once():
    """Nobody has to start five times to learn of five mistakes."""
    with pytest.raises(BadInput) as refused:
        read({"synced_at": {"jobs": 5, "users": T}, "open": {"streams": []}, "retry": {"p1": []}, "x": 1})
    assert len(refused.value.args) == 7


OLD = st.lists(st.tuples(PAUSES, st.booleans(), SELECTIONS, st.booleans(), st.integers(0, 6)), min_size=1, max_size=20)


def converted(old: Version10) -> dict[str, Seen]:
    """What the state of 1.0.2 says to this version, through its JSON and ours."""
    first, _ = state.read({"bookmarks": {"walks": {SLUG: old.as_json()}}}, "state.json")
    again, _ = state.read(first.as_json(), "state.json")
    assert again.as_json() == first.as_json()
    return again.seen.get(SLUG, {})


@settings(max_examples=250, deadline=None)
@given(histories(30), OLD, OLD, LOOKBACKS.filter(lambda widths: min(widths) > 0), st.booleans())
def test_a_life_that_begins_with_1_0_2_goes_on_complete_and_true(history, before, after, widths, selects):
    """Its states, cut anywhere, with streams that differ and pipelines that failed: nothing missing, nothing late."""
    project, old = Project(history), Version10()
    now = START
    rhythm = [*before, *after]
    for number, (pause, cut, streams, fails, pages) in enumerate(rhythm):
        now += pause
        how = Sync(
            now,
            timedelta(days=widths[number * len(widths) // len(rhythm)]),
            streams=streams if selects else WALK,
            pages=pages if cut else None,
            failing=(3, pages % 3) if fails else None,
        )
        if number < len(before):
            if len(old.retry) > MOST_RETRIES - 10:
                how = Sync(how.at, how.lookback, streams=how.streams, pages=how.pages)
            old.sync(project, how)
            continue
        if number == len(before):
            project.seen = converted(old)
        project.sync(how)
        for stream in project.completed:
            project.seen.setdefault(stream, Seen())
        project.assert_true(now, timedelta(days=min(widths)))


# tap-circle-ci 2.0.0


def test_the_state_of_tap_circle_ci_is_taken_over():
    """Its timestamp per slug keeps the pipelines; its map of pipeline ids goes; workflows and jobs start anew."""
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
    assert found.seen == {SLUG: {"pipelines": Seen((step,))}}
    assert found.bookmarks == {"pipelines": {SLUG: "2026-01-05T10:00:00.000000Z"}}
    assert found.currently_syncing == "pipelines"
    said = " ".join(remarks)
    assert "taken over for gh/acme/api" in said
    assert "2 marks of tap-circle-ci under bookmarks.workflows are not needed any more" in said
    assert state.read(found.as_json(), "state.json") == (found, [])


@pytest.mark.parametrize("stream", ["deploy", "schedule"])
def test_a_state_of_tap_circle_ci_is_known_by_its_other_streams_as_well(stream):
    """One that was made without pipelines has times by the name of a field: they are of no use."""
    key = {"deploy": "updated_at", "schedule": "updated-at"}[stream]
    found, remarks = state.read({"bookmarks": {stream: {key: T}}}, "state.json")
    assert found.bookmarks == {}
    assert "1 marks of tap-circle-ci" in remarks[0]


@pytest.mark.parametrize(
    ("marks", "place"),
    [
        ({"pipelines": {SLUG: "yesterday"}}, "bookmarks.pipelines.gh/acme/api"),
        ({"pipelines": {"replication_key": "updated_at"}}, "bookmarks.pipelines.replication_key"),
        ({"pipelines": {"acme": "2026-01-01"}}, "bookmarks.pipelines.acme"),
        ({"pipelines": {SLUG: "0001-01-01"}}, "bookmarks.pipelines.gh/acme/api"),
        ({"pipelines": {SLUG: T}, "users": {}}, "bookmarks.users"),
    ],
)
def test_a_state_of_tap_circle_ci_that_cannot_be_understood_is_refused_by_name(marks, place):
    """What is neither a time nor a slug is named with its place."""
    with pytest.raises(BadInput) as refused:
        state.read({"bookmarks": marks}, "state.json")
    assert f"state.json: {place}" in " ".join(refused.value.args)


def test_pipelines_that_tap_circle_ci_has_synced_are_not_sent_again():
    """Its state spares the rows of pipelines, while workflows and jobs come anew."""
    with Server(history(30, NOW)) as server:
        taken = {"bookmarks": {"pipelines": {"gh/acme/big": (NOW - timedelta(minutes=1)).isoformat()}}}
        run = sync(server, state=taken, streams=WALK)
        truth = expected(server.world.truth(["gh/acme/big"]), WALK[1:])
    assert not run.rows("pipelines")
    assert_same(tables(run.lines), truth)
    assert all(len(kept(run.state, stream, "gh/acme/big")["seen"]) == 1 for stream in WALK)


def test_a_state_of_1_0_spares_what_it_proves():
    """A sync right after one of 1.0.2 asks for the last day's pipelines and sends no row again."""
    walk = {"synced_at": dict.fromkeys(WALK, NOW.isoformat()), "looked_back_to": "2000-01-01T00:00:00Z"}
    with Server(history(60, NOW)) as server:
        server.world.advance(timedelta(hours=1))
        run = sync(server, state={"bookmarks": {"walks": {"gh/acme/big": walk}}}, streams=WALK)
        assert server.calls < 80
    assert run.status == 0, run.log
    assert not [row for stream in WALK for row in run.rows(stream)]
