"""The state: written and read again, refused by name, reset table by table."""

from __future__ import annotations

import copy
import json
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tap_circleci.errors import BadInput
from tap_circleci.state import state
from tap_circleci.state.state import State
from tap_circleci.streams import STREAMS, WALK_NAMES
from tap_circleci.values.times import written
from tap_circleci.walk.seen import Seen, Step
from tests.circleci import Server
from tests.tap import DEFAULT, assert_same, sync, tables
from tests.worlds import WALK, furnished, truth_of, world_of

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
DAY = timedelta(days=1)
SLUG = "gh/acme/api"

MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(2999, 1, 1), timezones=st.just(timezone.utc))
STEPS = st.builds(Step, MOMENTS, MOMENTS, st.none() | MOMENTS)
SEEN = st.builds(
    Seen,
    st.lists(STEPS, max_size=4).map(tuple),
    st.none() | MOMENTS,
    st.lists(st.text(min_size=1), max_size=3).map(tuple),
)
SLUGS = st.sampled_from([SLUG, "gh/acme/web", "bb/acme/api", "circleci/AB/CD", "gh/a.b/ç"])
KEYED = [stream.name for stream in STREAMS.values() if stream.replication_key]


@st.composite
def states(draw: st.DrawFn) -> State:
    """Any state that a run can leave."""
    found = State(draw(st.sampled_from([None, *STREAMS])))
    if found.currently_syncing in WALK_NAMES:
        found.currently_syncing = WALK[0]
    for name in draw(st.sets(st.sampled_from(KEYED))):
        keys = SLUGS if name in WALK_NAMES else st.sampled_from(["o1", "gitlab/acme/api", SLUG])
        found.bookmarks[name] = draw(st.dictionaries(keys, MOMENTS.map(written), min_size=1))
    for slug in draw(st.sets(SLUGS)):
        entries = draw(st.dictionaries(st.sampled_from(sorted(WALK_NAMES)), SEEN, min_size=1))
        found.seen[slug] = {name: one for name, one in entries.items() if one != Seen()}
    found.seen = {slug: entries for slug, entries in found.seen.items() if entries}
    return found


def known(found: State) -> State:
    """The state without entries that say nothing."""
    seen = {slug: {name: one for name, one in entries.items() if one != Seen()} for slug, entries in found.seen.items()}
    return State(found.currently_syncing, found.bookmarks, {slug: entries for slug, entries in seen.items() if entries})


@settings(max_examples=100, deadline=None)
@given(states())
def test_a_state_is_read_as_it_was_written(before):
    """Whatever a run writes, the next run understands, also within its message."""
    value = json.loads(json.dumps(before.as_json()))
    for raw in (value, {"type": "STATE", "value": value}):
        again, remarks = state.read(raw, "state.json")
        assert known(again) == before
        assert remarks == []
    assert set(value["bookmarks"]) <= set(STREAMS)


def test_everything_of_a_stream_stands_under_its_name():
    """The bookmark beside what was seen, by slug; moments as short as they can be."""
    one = Seen((Step(START, START - DAY, START - 2 * DAY),), START - DAY, ("p1",))
    found = State("context", {"pipelines": {SLUG: written(START)}, "deploy": {"o1": written(START)}}, {})
    found.seen[SLUG] = {"pipelines": one, "jobs": Seen((Step(START, START),))}
    assert found.as_json() == {
        "currently_syncing": "context",
        "bookmarks": {
            "deploy": {"o1": "2026-01-01T00:00:00.000000Z"},
            "pipelines": {
                SLUG: {
                    "updated_at": "2026-01-01T00:00:00.000000Z",
                    "seen": [
                        {
                            "as_of": "2026-01-01T00:00:00Z",
                            "looked_back_to": "2025-12-31T00:00:00Z",
                            "since": "2025-12-30T00:00:00Z",
                        }
                    ],
                    "pending": "2025-12-31T00:00:00Z",
                    "retry": ["p1"],
                }
            },
            "jobs": {SLUG: {"seen": [{"as_of": "2026-01-01T00:00:00Z", "looked_back_to": "2026-01-01T00:00:00Z"}]}},
        },
    }


def test_the_highest_value_counts():
    """A bookmark never goes back, and an empty value makes none."""
    found = State()
    for value in (written(START), written(START - DAY), ""):
        found.note("deploy", "o1", value)
    found.note("deploy", "o2", "")
    assert found.bookmarks == {"deploy": {"o1": written(START)}}


def test_the_latest_moment_is_found_with_its_place():
    """What lies in the future is refused by its name, bookmark or step."""
    found = State(None, {"deploy": {"o1": written(START)}}, {SLUG: {"jobs": Seen((Step(START + DAY, START),))}})
    assert found.latest() == (f"bookmarks.jobs.{SLUG}.seen", START + DAY)
    found.note("deploy", "o1", written(START + 2 * DAY))
    assert found.latest() == ("bookmarks.deploy.o1", START + 2 * DAY)
    assert State().latest() is None


def entry(**fields: object) -> dict[str, object]:
    return {"bookmarks": {"jobs": {SLUG: fields}}}


STEP = {"as_of": "2026-01-01T00:00:00Z", "looked_back_to": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("raw", "place"),
    [
        ({"bookmarks": []}, "bookmarks"),
        ({"bookmarks": {"users": {}}}, "bookmarks.users"),
        ({"bookmarks": {"pipelines": "2026-01-01"}}, "bookmarks.pipelines"),
        ({"bookmarks": {"jobs": []}}, "bookmarks.jobs"),
        ({"bookmarks": {"jobs": {SLUG: 5}}}, "bookmarks.jobs.gh/acme/api"),
        ({"bookmarks": {"jobs": {"acme": {}}}}, "bookmarks.jobs.acme"),
        ({"bookmarks": {"deploy": {"o1": "yesterday"}}}, "bookmarks.deploy.o1"),
        ({"bookmarks": {"deploy": {"o1": {}}}}, "bookmarks.deploy.o1"),
        ({"bookmarks": {"deploy": {"o1": "0001-01-01T00:00:00Z"}}}, "bookmarks.deploy.o1"),
        ({"bookmarks": {"pipelines": {SLUG: {"updated_at": "x"}}}}, "bookmarks.pipelines.gh/acme/api.updated_at"),
        (
            {"bookmarks": {"pipelines": {SLUG: {"updated_at": "0001-01-01T00:00:00Z"}}}},
            "bookmarks.pipelines.gh/acme/api.updated_at",
        ),
        (entry(updated_at="2026-01-01T00:00:00Z"), "bookmarks.jobs.gh/acme/api.updated_at"),
        (entry(done=True), "bookmarks.jobs.gh/acme/api.done"),
        (entry(seen={}), "bookmarks.jobs.gh/acme/api.seen"),
        (entry(seen=[5]), "bookmarks.jobs.gh/acme/api.seen[0]"),
        (entry(seen=[STEP, {**STEP, "as_of": "x"}]), "bookmarks.jobs.gh/acme/api.seen[1].as_of"),
        (entry(seen=[{"as_of": STEP["as_of"]}]), "bookmarks.jobs.gh/acme/api.seen[0].looked_back_to"),
        (entry(seen=[{**STEP, "since": 5}]), "bookmarks.jobs.gh/acme/api.seen[0].since"),
        (entry(seen=[{**STEP, "as_of": "0001-01-01T00:00:00Z"}]), "bookmarks.jobs.gh/acme/api.seen[0].as_of"),
        (entry(seen=[{**STEP, "until": STEP["as_of"]}]), "bookmarks.jobs.gh/acme/api.seen[0].until"),
        (entry(pending="soon"), "bookmarks.jobs.gh/acme/api.pending"),
        (entry(retry="p1"), "bookmarks.jobs.gh/acme/api.retry"),
        (entry(retry=[5]), "bookmarks.jobs.gh/acme/api.retry"),
        ({"currently_syncing": ["jobs"]}, "currently_syncing"),
        ({"currently_syncing": "users"}, "currently_syncing"),
        ({"streams": []}, "streams"),
    ],
)
def test_a_state_that_cannot_be_understood_is_refused_by_name(raw, place):
    """What another tap or a hand wrote, and nobody can read, is named with its place in the file."""
    with pytest.raises(BadInput) as refused:
        state.read(raw, "state.json")
    told = " ".join(refused.value.args)
    assert f"state.json: {place} must be " in told or f"state.json: {place} is not known; known are " in told


def test_a_state_may_come_as_meltano_prints_it():
    """What `meltano state get` prints, and a whole STATE message, stand for the state in them."""
    marks = {"bookmarks": {"deploy": {"acme": "2026-03-10T12:00:00.000000Z"}}}
    found = [state.read(raw, "")[0] for raw in (marks, {"singer_state": marks}, {"type": "STATE", "value": marks})]
    assert found[0] == found[1] == found[2] != state.State()


def test_a_state_that_says_nothing_is_one():
    """Nothing, null and empty objects are the state before the first run."""
    for raw in ({}, {"bookmarks": None}, {"bookmarks": {}, "currently_syncing": None}, {"bookmarks": {"jobs": None}}):
        assert state.read(raw, "state.json") == (State(), [])


def test_both_spellings_of_a_host_mean_one_project():
    """A hand that writes github/ is understood."""
    found, _ = state.read({"bookmarks": {"jobs": {"github/acme/api": {"seen": [STEP]}}}}, "state.json")
    assert set(found.seen) == {SLUG}


# Taking a table, or a project of it, out of the state


@pytest.mark.parametrize("stream", [*WALK, "deploy", "schedule"])
@pytest.mark.parametrize("by_key", [False, True], ids=["whole", "one key"])
def test_a_stream_taken_out_of_the_state_is_read_anew_and_no_other(stream, by_key):
    """`bookmarks.<stream>`, or one key of it, is taken out: its rows come again, all of them, and no other rows."""
    world = furnished(world_of(30))
    world_of(30, "gh/other/web", world)
    with Server(world) as server:
        first = sync(server)
        world.advance(timedelta(hours=1))
        usual = sync(server, state=first.state)
        marks = copy.deepcopy(first.state)
        slug = next(iter(marks["bookmarks"][stream]))
        if by_key:
            del marks["bookmarks"][stream][slug]
        else:
            del marks["bookmarks"][stream]
        reset = sync(server, state=marks)
        after = sync(server, state=reset.state)
        truth = truth_of(world)
    assert reset.status == 0, reset.log
    for name in DEFAULT:
        if name != stream:
            assert reset.rows(name) == usual.rows(name), name
    again = tables(reset.lines)[stream]
    columns = {"deploy": "organization_id", "schedule": "project-slug"}
    owner = columns.get(stream, "project_slug")
    wanted = {key: row for key, row in truth[stream].items() if not by_key or row[owner] == slug}
    wanted |= {key: row for key, row in truth[stream].items() if row in usual.rows(stream)}
    assert_same({stream: again}, {stream: wanted})
    assert after.rows(stream) == usual.rows(stream)
