"""The state: written and read again, refused by name, reset table by table."""

from __future__ import annotations

import copy
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tap_circleci.errors import BadInput
from tap_circleci.state import state
from tap_circleci.state.state import Export, Mark, State
from tap_circleci.streams import ROOT, STREAMS, WALK_NAMES, Stream, is_limited, is_read_once
from tap_circleci.values.times import written
from tap_circleci.walk.seen import Seen, Step
from tests.circleci import Server
from tests.tap import DEFAULT, EagerClock, assert_same, sync, tables
from tests.worlds import WALK, furnished, truth_of, world_of

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
DAY = timedelta(days=1)
SLUG = "gh/acme/api"

MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(2999, 1, 1), timezones=st.just(timezone.utc))
MAYBE = st.none() | MOMENTS
NAMES = st.lists(st.text(min_size=1), max_size=3).map(tuple)
STEPS = st.builds(Step, MOMENTS, MOMENTS, MAYBE)
SLUGS = st.sampled_from([SLUG, "gh/acme/web", "bb/acme/api", "circleci/AB/CD", "gh/a.b/ç"])
PARENTS = st.sampled_from(["o1", "gitlab/acme/api", SLUG, f"{SLUG}/build and test"])
EXPORTS = st.builds(
    lambda one, other, *rest: Export("x1", min(one, other), max(one, other), *rest),
    MOMENTS,
    MOMENTS,
    MAYBE,
    st.booleans(),
)
KEPT = [
    stream
    for stream in STREAMS.values()
    if stream.replication_key or stream.name in WALK_NAMES or stream.timing.by_number
]


def seen_of(stream: Stream) -> st.SearchStrategy[Seen]:
    """Anything that a stream of the walk can have seen."""
    once = is_read_once(stream)
    none = st.just(())
    pending, ids = (MAYBE, NAMES) if once or stream == ROOT else (st.none(), none)
    return st.builds(Seen, st.lists(STEPS, max_size=4).map(tuple), pending, ids, NAMES, NAMES if once else none)


@st.composite
def marks(draw: st.DrawFn, stream: Stream) -> Mark:
    """Any mark that a run can keep of a stream."""
    is_walk = stream.name in WALK_NAMES
    return Mark(
        draw(st.just("") | MOMENTS.map(written)) if stream.replication_key else "",
        draw(MAYBE),
        draw(seen_of(stream)) if is_walk else Seen(),
        draw(st.none() | NAMES) if is_limited(stream) else None,
        draw(st.none() | st.integers(0)) if stream == ROOT or stream.timing.by_number else None,
        draw(st.none() | EXPORTS) if stream.is_export else None,
        draw(MAYBE) if stream == ROOT else None,
    )


@st.composite
def states(draw: st.DrawFn) -> State:
    """Any state that a run can leave."""
    found = State(draw(st.sampled_from([None, *(name for name in STREAMS if name not in WALK_NAMES), ROOT.name])))
    for stream in draw(st.lists(st.sampled_from(KEPT), unique_by=lambda stream: stream.name)):
        keys = SLUGS if stream.name in WALK_NAMES else PARENTS
        found.marks[stream.name] = draw(st.dictionaries(keys, marks(stream), min_size=1))
    found.unknown = draw(st.dictionaries(st.sampled_from(["users", "walks"]), st.dictionaries(PARENTS, st.integers())))
    return found


def read(raw: Any) -> State:
    """The state in a JSON value, through its text."""
    return state.read(json.loads(json.dumps(raw)), "state.json")[0]


@settings(max_examples=100, deadline=None)
@given(states())
def test_a_state_is_read_as_it_was_written(before):
    """The next run understands every state that a run writes, also within its STATE message."""
    value = before.as_json()
    assert read(value) == read({"type": "STATE", "value": value}) == before
    assert set(value["bookmarks"]) <= {*STREAMS, *before.unknown}


def merged(new: Any, old: Any) -> Any:
    """Two JSON values as Meltano merges states: the new one into the old one, key by key, objects within objects."""
    for key, value in new.items():
        if isinstance(value, dict):
            merged(value, old.setdefault(key, {}))
        else:
            old[key] = value
    return old


@settings(max_examples=200, deadline=None)
@given(states(), states())
def test_two_states_merged_key_by_key_claim_what_one_of_them_claims(new, old):
    """Each entry of the merged state is that of the newer state, or where it has none, that of the older one."""
    found = read(merged(new.as_json(), old.as_json()))
    assert found.marks.keys() == {*new.marks, *old.marks}
    for name, kept in found.marks.items():
        assert kept == {**old.marks.get(name, {}), **new.marks.get(name, {})}
    assert found.currently_syncing == new.currently_syncing


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_an_entry_has_the_same_keys_whatever_is_kept(data):
    """A value at one place always has the same type, except under unknown names."""
    for stream in KEPT:
        empty, full = (
            State(marks={stream.name: {SLUG: mark}}).as_json()["bookmarks"][stream.name][SLUG]
            for mark in (Mark(), data.draw(marks(stream)))
        )
        assert empty.keys() == full.keys()
        for key, value in full.items():
            if isinstance(value, dict):
                assert empty[key].keys() == value.keys()
            else:
                assert (empty[key] == []) is isinstance(value, list) or key == "job_names"
                assert not isinstance(empty[key], dict)


def test_everything_of_a_stream_is_under_its_name():
    """There is one object for each parent, with every key that the stream can have."""
    found = State("context")
    found.keep("deploy", "o1", Mark(written(START), START - DAY))
    seen = Seen((Step(START, START - DAY, START - 2 * DAY), Step(START - DAY, START)), START - DAY, ("p0",), ("p1",))
    found.keep("pipelines", SLUG, Mark(written(START), seen=seen))
    found.keep("tests", SLUG, Mark(start=START, names=("build*", "!lint")))
    found.keep("usage", "o1", Mark(export=Export("x1", START - DAY, START)))
    found.keep("usage", "o2", Mark(written(START)))
    assert found.as_json() == {
        "currently_syncing": "context",
        "bookmarks": {
            "deploy": {"o1": {"updated_at": "2026-01-01T00:00:00.000000Z", "start_date": "2025-12-31T00:00:00Z"}},
            "pipelines": {
                SLUG: {
                    "updated_at": "2026-01-01T00:00:00.000000Z",
                    "start_date": None,
                    "seen": [
                        {
                            "as_of": "2026-01-01T00:00:00Z",
                            "looked_back_to": "2025-12-31T00:00:00Z",
                            "since": "2025-12-30T00:00:00Z",
                        },
                        {"as_of": "2025-12-31T00:00:00Z", "looked_back_to": "2026-01-01T00:00:00Z", "since": None},
                    ],
                    "pending": "2025-12-31T00:00:00Z",
                    "pending_ids": ["p0"],
                    "retry": ["p1"],
                    "next_build": None,
                    "builds_as_of": None,
                }
            },
            "tests": {
                SLUG: {
                    "start_date": "2026-01-01T00:00:00Z",
                    "seen": [],
                    "retry": [],
                    "job_names": ["build*", "!lint"],
                }
            },
            "usage": {
                "o1": {
                    "_date": None,
                    "start_date": None,
                    "export": {
                        "id": "x1",
                        "start": "2025-12-31T00:00:00Z",
                        "end": "2026-01-01T00:00:00Z",
                        "asked_at": None,
                        "replaces_broken": False,
                    },
                },
                "o2": {
                    "_date": "2026-01-01T00:00:00.000000Z",
                    "start_date": None,
                    "export": dict.fromkeys(("id", "start", "end", "asked_at", "replaces_broken")),
                },
            },
        },
    }


def test_the_highest_value_counts():
    """A bookmark never goes back, and an empty value makes none."""
    found = State(marks={"deploy": {"o1": Mark(start=START)}})
    for value in (written(START), written(START - DAY), ""):
        found.note("deploy", "o1", value)
    found.note("deploy", "o2", "")
    assert found.marks == {"deploy": {"o1": Mark(written(START), START)}}


def test_the_latest_moment_is_found_with_its_place():
    """The place of a moment in the future is named: a value, a start date, a step, an export."""
    found = State()
    assert found.latest() is None
    seen = Seen((Step(START, START), Step(START + DAY, START)))
    for name, mark, place in (
        ("deploy", Mark(written(START)), "updated_at"),
        ("jobs", Mark(seen=seen), "seen[1].as_of"),
        ("workflows", Mark(start=START + 2 * DAY), "start_date"),
        ("usage", Mark(export=Export("x", START, START + 3 * DAY)), "export.end"),
        ("usage", Mark(export=Export("x", START, START, START + 4 * DAY)), "export.asked_at"),
    ):
        found.keep(name, SLUG, mark)
        latest = found.latest()
        assert latest is not None
        assert latest[0] == f"bookmarks.{name}.{SLUG}.{place}"


# Version 1.1


def as_1_1(value: Any) -> Any:
    """A state as version 1.1 wrote it: nothing for what is null or empty, a text where the value is alone."""

    def short(value: Any) -> Any:
        if isinstance(value, list):
            return [short(item) for item in value]
        if not isinstance(value, dict):
            return value
        return {
            key: short(item) for key, item in value.items() if short(item) and key not in ("next_build", "job_names")
        }

    bookmarks: Any = {}
    for name, entries in value["bookmarks"].items():
        for key, entry in entries.items():
            found = short(entry)
            if name not in WALK_NAMES:
                found.pop("start_date", None)
                replication_key = STREAMS[name].replication_key
                found = found.get(replication_key) if found.keys() == {replication_key} else found
            if found:
                bookmarks.setdefault(name, {})[key] = found
    return {"currently_syncing": value["currently_syncing"], "bookmarks": bookmarks}


STATE_1_1 = {
    "currently_syncing": "pipelines",
    "bookmarks": {
        "deploy": {"o1": "2026-03-08T12:00:00.000000Z"},
        "insights_workflow_runs": {f"{SLUG}/build": "2026-03-08T12:00:00.000000Z"},
        "usage": {
            "o1": "2026-03-09T00:00:00.000000Z",
            "o2": {"export": {"id": "x1", "start": "2026-03-01T00:00:00Z", "end": "2026-03-09T23:59:59Z"}},
            "o3": {
                "_date": "2026-02-28T00:00:00.000000Z",
                "export": {"id": "x2", "start": "2026-03-01T00:00:00Z", "end": "2026-03-09T23:59:59Z"},
            },
        },
        "pipelines": {
            SLUG: {
                "updated_at": "2026-03-10T10:00:00.000000Z",
                "seen": [{"as_of": "2026-03-10T12:00:00Z", "looked_back_to": "2000-01-01T00:00:00Z"}],
                "pending": "2026-03-09T10:00:00Z",
                "start_date": "2000-01-01T00:00:00Z",
            },
            "gh/acme/empty": {"retry": ["p2"]},
        },
        "workflows": {SLUG: {"created_at": "2026-03-10T10:00:00.000000Z"}},
        "job_details": {
            SLUG: {
                "seen": [
                    {
                        "as_of": "2026-03-10T12:00:00Z",
                        "looked_back_to": "2000-01-01T00:00:00Z",
                        "since": "2026-03-01T00:00:00Z",
                    }
                ],
                "retry": ["p1"],
                "start_date": "2000-01-01T00:00:00Z",
            }
        },
    },
}


def test_a_state_of_1_1_is_read():
    """It has texts instead of some objects, lacks some keys, and has exports with and without a value."""
    ancient = datetime(2000, 1, 1, tzinfo=timezone.utc)
    noon, first = (datetime(2026, 3, *rest, tzinfo=timezone.utc) for rest in ((10, 12), (1,)))
    end = datetime(2026, 3, 9, 23, 59, 59, tzinfo=timezone.utc)
    pending = datetime(2026, 3, 9, 10, tzinfo=timezone.utc)
    found = read(STATE_1_1)
    assert found == State(
        "pipelines",
        {
            "deploy": {"o1": Mark("2026-03-08T12:00:00.000000Z")},
            "insights_workflow_runs": {f"{SLUG}/build": Mark("2026-03-08T12:00:00.000000Z")},
            "usage": {
                "o1": Mark("2026-03-09T00:00:00.000000Z"),
                "o2": Mark(export=Export("x1", first, end)),
                "o3": Mark("2026-02-28T00:00:00.000000Z", export=Export("x2", first, end)),
            },
            "pipelines": {
                SLUG: Mark("2026-03-10T10:00:00.000000Z", ancient, Seen((Step(noon, ancient),), pending)),
                "gh/acme/empty": Mark(seen=Seen(retry=("p2",))),
            },
            "workflows": {SLUG: Mark("2026-03-10T10:00:00.000000Z")},
            "job_details": {SLUG: Mark("", ancient, Seen((Step(noon, ancient, first),), retry=("p1",)))},
        },
    )
    assert as_1_1(found.as_json()) == STATE_1_1


def test_a_run_of_1_1_cut_after_any_state_is_completed():
    """What a state of 1.1 proves is not read again, and the rest is sent."""
    with Server(furnished(world_of(30)), page_size=5) as server:
        first = sync(server, clock=EagerClock())
        server.world.advance(timedelta(hours=3))
        truth = truth_of(server.world)
        cuts = [number for number, line in enumerate(first.lines, start=1) if '"STATE"' in line[:20]]
        assert len(cuts) > 10
        for number in cuts:
            again = sync(server, state=as_1_1(json.loads(first.lines[number - 1])["value"]))
            assert again.status == 0, again.log
            assert_same(tables(again.lines, tables(first.lines[:number])), truth)
    assert len(again.lines) < len(first.lines)


def entry(**fields: object) -> dict[str, object]:
    return {"bookmarks": {"jobs": {SLUG: fields}}}


STEP = {"as_of": "2026-01-01T00:00:00Z", "looked_back_to": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("raw", "place"),
    [
        ({"bookmarks": []}, "bookmarks"),
        ({"bookmarks": {"pipelines": "2026-01-01"}}, "bookmarks.pipelines"),
        ({"bookmarks": {"jobs": []}}, "bookmarks.jobs"),
        ({"bookmarks": {"jobs": {SLUG: 5}}}, "bookmarks.jobs.gh/acme/api"),
        ({"bookmarks": {"jobs": {"acme": {}}}}, "bookmarks.jobs.acme"),
        ({"bookmarks": {"deploy": {"o1": "yesterday"}}}, "bookmarks.deploy.o1"),
        ({"bookmarks": {"deploy": {"o1": []}}}, "bookmarks.deploy.o1"),
        ({"bookmarks": {"deploy": {"o1": {"start_date": 5}}}}, "bookmarks.deploy.o1.start_date"),
        ({"bookmarks": {"deploy": {"o1": {"seen": []}}}}, "bookmarks.deploy.o1.seen"),
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
        (entry(retry=[5]), "bookmarks.jobs.gh/acme/api.retry[0]"),
        (entry(retry=[None]), "bookmarks.jobs.gh/acme/api.retry[0]"),
        (entry(start_date="0"), "bookmarks.jobs.gh/acme/api.start_date"),
        ({"bookmarks": {"tests": {SLUG: {"job_names": "x"}}}}, "bookmarks.tests.gh/acme/api.job_names"),
        ({"bookmarks": {"pipelines": {SLUG: {"next_build": "7"}}}}, "bookmarks.pipelines.gh/acme/api.next_build"),
        ({"bookmarks": {"usage": {"o1": {"export": {"id": "x"}}}}}, "bookmarks.usage.o1.export"),
        ({"currently_syncing": ["jobs"]}, "currently_syncing"),
        ({"streams": []}, "streams"),
    ],
)
def test_a_state_that_cannot_be_understood_is_refused_by_name(raw, place):
    """Each value of another tap or an editor that cannot be read is named with its place."""
    with pytest.raises(BadInput) as refused:
        state.read(raw, "state.json")
    assert len(refused.value.args) == 1, refused.value.args
    told = refused.value.args[0].removeprefix(f"state.json: {place} ")
    assert told.startswith(("must be ", "must not be null", "is missing", "is not known; known are "))


def test_a_state_may_come_as_meltano_prints_it():
    """The output of `meltano state get`, and a whole STATE message, are read as the state in them."""
    marks = {"bookmarks": {"deploy": {"acme": "2026-03-10T12:00:00.000000Z"}}}
    found = [state.read(raw, "")[0] for raw in (marks, {"singer_state": marks}, {"type": "STATE", "value": marks})]
    assert found[0] == found[1] == found[2] != state.State()


def test_a_state_that_says_nothing_is_one():
    """Nulls and empty objects are read as the state before the first run."""
    for raw in ({}, {"bookmarks": None}, {"bookmarks": {}, "currently_syncing": None}, {"bookmarks": {"jobs": None}}):
        assert state.read(raw, "state.json") == (State(), [])


def test_both_spellings_of_a_host_mean_one_project():
    """A slug that begins with github/ is read as gh/."""
    found, _ = state.read({"bookmarks": {"jobs": {"github/acme/api": {"seen": [STEP]}}}}, "state.json")
    assert set(found.marks["jobs"]) == {SLUG}


def test_every_mistake_is_named_at_once():
    """All mistakes of a state are named in one run."""
    raw = {"currently_syncing": 1, "bookmarks": {"jobs": {SLUG: {"seen": 1, "x": 1}}, "deploy": {"o1": "x"}}, "y": 1}
    with pytest.raises(BadInput) as refused:
        state.read(raw, "state.json")
    assert len(refused.value.args) == 5


def test_what_another_version_keeps_is_named_and_kept():
    """A stream that this version does not know stays in the state as it is; a run does not begin there."""
    users = {"users": {"u1": {"name": [1, None]}}, "walks": 5}
    raw = {"currently_syncing": "users", "bookmarks": {**users, "deploy": {"o1": "2026-03-10T12:00:00.000000Z"}}}
    found, remarks = state.read(raw, "state.json")
    assert remarks == [
        "state.json: bookmarks.users is not a stream of this version; it is kept as it is.",
        "state.json: bookmarks.walks is not a stream of this version; it is kept as it is.",
        "state.json: currently_syncing users is not a stream of this version; ignored.",
    ]
    assert found.currently_syncing is None
    assert found.unknown == users
    assert found.as_json()["bookmarks"].keys() == {"deploy", *users}


@pytest.mark.parametrize("content", ["", " \n", "\ufeff"])
def test_an_empty_file_is_no_state(tmp_path: Path, content):
    """An empty file, as `tail -1` writes it if a target printed nothing, is a warning and a first sync."""
    path = tmp_path / "state.json"
    path.write_text(content, encoding="utf-8")
    assert state.load(str(path)) == (State(), [f"The state file {path} is empty; starting without a state."])
    assert state.load(None) == (State(), [])


def test_a_run_goes_on_with_a_state_of_another_version():
    """It warns, reads what is new, and keeps the unknown part in its own state."""
    with Server(furnished(world_of(3))) as server:
        first = sync(server)
        before = copy.deepcopy(first.state)
        before["bookmarks"]["users"] = {"u1": {"name": None}}
        again = sync(server, state={**before, "currently_syncing": "gh/acme/api"})
    assert again.status == 0
    assert again.state["bookmarks"]["users"] == before["bookmarks"]["users"]
    assert again.state["currently_syncing"] is None
    warned = [line for line in again.log.splitlines() if line.startswith("WARNING")]
    assert [line.split(": ")[1].split(" is ")[0] for line in warned] == [
        "bookmarks.users",
        "currently_syncing gh/acme/api",
    ]


def test_the_start_date_of_a_first_sync_without_rows_is_kept():
    """With a later start date in the config, a change to a row that was too old for the first sync is still sent."""
    world = furnished(world_of(3))
    streams = ("deploy", "schedule")
    world.advance(timedelta(hours=1))
    with Server(world) as server:
        first = sync(server, streams=streams, start_date=world.now.isoformat())
        world.advance(timedelta(hours=1))
        rows = {"deploy": world.rows["deploy"][world.organizations[0]["id"]][0]}
        rows["schedule"] = world.rows["schedule"][world.project("gh/acme/api")["id"]][0]
        for name, key in (("deploy", "updated_at"), ("schedule", "updated-at")):
            rows[name][key] = (world.now - timedelta(minutes=30)).isoformat()
        again = sync(server, streams=streams, state=first.state, start_date=world.now.isoformat())
    for name in streams:
        assert not first.rows(name)
        assert [row["id"] for row in again.rows(name)] == [rows[name]["id"]]


def test_a_start_date_some_minutes_ahead_asks_for_no_dates_that_end_before_they_start():
    """Insights get a start that is not after the end, as long as the start date is not refused."""
    world = furnished(world_of(3))
    streams = ("insights_workflows", "insights_workflow_runs")
    with Server(world) as server:
        ahead = (world.now + timedelta(minutes=20)).isoformat()
        found = sync(server, streams=streams, extra_streams=",".join(streams), start_date=ahead)
        asked = [parse_qs(urlsplit(request.path).query) for request in server.requests if "start-date" in request.path]
    assert found.status == 0
    assert asked
    assert all(query["start-date"] <= query["end-date"] for query in asked)
    kept = found.state["bookmarks"]["insights_workflow_runs"]
    assert {entry["start_date"][:19] for entry in kept.values()} == {ahead[:19]}


# Taking a table, or a project of it, out of the state


@pytest.mark.parametrize("stream", [*WALK, "deploy", "schedule"])
@pytest.mark.parametrize("by_key", [False, True], ids=["whole", "one key"])
def test_a_stream_taken_out_of_the_state_is_read_again_and_no_other(stream, by_key):
    """If `bookmarks.<stream>` or one key of it is removed, all its rows are sent again, and no other rows."""
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
