"""The arithmetic of the walk, held against thousands of random histories."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tap_circleci import bookmarks
from tap_circleci.bookmarks import FINAL_WORKFLOW, MARGIN, Pass, State, Walk
from tap_circleci.errors import BadInput

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
DAY = timedelta(days=1)
STREAMS = ("pipelines", "workflows", "jobs")
PAGE = 4


@dataclass
class Workflow:
    """A workflow that is created and stops at some time."""

    name: int
    created: datetime
    stopped: datetime

    def at(self, now: datetime) -> str:
        return "success" if self.stopped <= now else "on_hold"


@dataclass
class Project:
    """A history of pipelines, oldest first, and what a target holds of it."""

    pipelines: list[tuple[datetime, list[Workflow]]]
    walk: Walk = field(default_factory=Walk)
    held: dict[int, tuple[str, datetime]] = field(default_factory=dict)

    def sync(self, now: datetime, lookback: timedelta, pages: int | None, start: datetime = START) -> bool:
        """Walk as the tap does, cut off after so many pages; tells whether it came to its end."""
        budget = [pages]
        rest = bookmarks.unfinished(self.walk, STREAMS, lookback, start)
        if rest is not None and not self._pass(rest, now, budget):
            return False
        return self._pass(bookmarks.fresh(self.walk, STREAMS, now, lookback, start), now, budget)

    def assert_true(self, now: datetime, lookback: timedelta, completed: list[datetime]) -> None:
        """What changed in time for one of the completed syncs is held as it was then, or newer."""
        for created, workflow in ((created, workflow) for created, of_one in self.pipelines for workflow in of_one):
            for changed in (workflow.created, workflow.stopped):
                age = changed - created
                due = changed if age <= lookback else changed + age
                if any(due <= moment for moment in completed):
                    assert workflow.name in self.held, (workflow, created, completed)
                    status, seen_at = self.held[workflow.name]
                    assert seen_at >= changed or status == workflow.at(now), (workflow, created, completed)

    def _pass(self, this: Pass, now: datetime, budget: list[int | None]) -> bool:
        visible = [item for item in reversed(self.pipelines) if item[0] <= now]
        for first in range(0, max(len(visible), 1), PAGE):
            if budget[0] == 0:
                return False
            budget[0] = budget[0] and budget[0] - 1
            page, following = visible[first : first + PAGE], visible[first + PAGE : first + 2 * PAGE]
            for created, workflows in page:
                for workflow in workflows:
                    if workflow.created <= now and self._is_wanted(this, created, workflow, now):
                        self.held[workflow.name] = (workflow.at(now), now)
            down_to = max((created for created, _ in following or page), default=None)
            self.walk = bookmarks.page_done(self.walk, this, down_to, None, {})
            if page and all(created < this.horizon for created, _ in page):
                break
        self.walk = bookmarks.pass_done(self.walk, this, None, {})
        return True

    @staticmethod
    def _is_wanted(this: Pass, created: datetime, workflow: Workflow, now: datetime) -> bool:
        taken = this.ranges["workflows"]
        stopped = workflow.stopped if workflow.stopped <= now else None
        return taken.takes(created) and not taken.workflow_is_settled(workflow.at(now), stopped, created)


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[datetime, list[Workflow]]]:
    """Pipelines at irregular times, with late ends and reruns up to 90 days later."""
    moment = START
    pipelines = []
    for number in range(draw(st.integers(1, 40))):
        moment += timedelta(minutes=draw(st.sampled_from([0, 1, 50, 300, 3000])))
        workflows = []
        for place in range(draw(st.integers(0, 3))):
            created = moment + draw(st.sampled_from([timedelta(0), timedelta(hours=20), 6 * DAY, 33 * DAY, 80 * DAY]))
            lasts = draw(st.sampled_from([timedelta(minutes=7), timedelta(hours=23), 5 * DAY]))
            workflows.append(Workflow(number * 10 + place, created, created + lasts))
        pipelines.append((moment, workflows))
    return pipelines


rhythms = st.lists(
    st.tuples(st.sampled_from([timedelta(minutes=20), timedelta(hours=1), DAY, 3 * DAY, 40 * DAY]), st.booleans()),
    min_size=1,
    max_size=40,
)
lookbacks = st.one_of(
    st.sampled_from([0.25, 1.0, 3.0]).map(lambda days: [days]), st.permutations([0.25, 1.0, 7.0, 40.0])
)


@settings(max_examples=600)
@given(histories(), rhythms, lookbacks, st.data())
def test_after_every_completed_sync_the_tables_are_complete_and_true_within_the_bounds(history, rhythm, widths, data):
    """Whatever the history, the syncs, their cuts and look-backs: all is there, and stale no longer than it was old."""
    project = Project(history)
    now = START
    completed: list[datetime] = []
    for number, (gap, cut) in enumerate(rhythm):
        now += gap
        lookback = timedelta(days=widths[number * len(widths) // len(rhythm)])
        if project.sync(now, lookback, data.draw(st.integers(1, 6)) if cut else None):
            completed.append(now)
            project.assert_true(now, timedelta(days=min(widths)), completed)


@settings(max_examples=1000)
@given(
    st.floats(0.01, 90),
    st.floats(0, 400),
    st.lists(st.sampled_from([0.04, 0.3, 1.0, 2.7]), min_size=1, max_size=5),
    st.sampled_from([0.25, 1.0, 7.0]),
)
def test_a_change_is_looked_at_before_its_pipeline_is_twice_as_old(age, offset, gaps, days):
    """A change at age A of its pipeline is within a walk's horizon at most A later, and the gap between two syncs."""
    lookback = timedelta(days=days)
    created = START + timedelta(days=offset)
    changed = created + timedelta(days=age)
    bound = changed + max(timedelta(days=age), lookback) + timedelta(days=max(gaps))
    synced_at = changed - timedelta(days=gaps[0] / 2)
    for gap in itertools.cycle(gaps):
        now = synced_at + timedelta(days=gap)
        assert now <= bound, "not looked at in time"
        if now >= changed and synced_at - bookmarks.depth(synced_at, now, lookback) <= created:
            return
        synced_at = now


def test_a_walk_without_anything_due_looks_back_by_the_usual_width():
    """Between two syncs an hour apart, only the usual look-back is due most of the time."""
    noon = datetime(2026, 3, 10, 13, tzinfo=timezone.utc)
    assert bookmarks.depth(noon, noon + timedelta(hours=1), DAY) == DAY


def test_look_backs_double_up_to_the_time_in_which_reruns_are_allowed():
    """The widths double and end with 128 days, looked through every 32, whatever the usual look-back is."""
    look_backs = bookmarks.look_backs(DAY)
    assert [width.days for width, _ in look_backs] == [2, 4, 8, 16, 32, 64, 128]
    assert bookmarks.look_backs(timedelta(days=7)) == look_backs[2:]
    assert {width / period for width, period in look_backs[:-1]} == {3}
    assert look_backs[-1][1].days == 32
    assert bookmarks.look_backs(timedelta(days=128)) == []


@pytest.mark.parametrize("status", sorted(FINAL_WORKFLOW))
def test_what_stopped_before_the_last_look_is_settled(status):
    """A workflow in a final state is settled once a walk that began after its end has looked at its pipeline."""
    walked = START + timedelta(hours=1)
    taken = bookmarks.Range(walked - DAY, walked, DAY, known_from=walked - DAY)
    stopped = walked - MARGIN - timedelta(seconds=1)
    assert taken.workflow_is_settled(status, stopped, walked - DAY)
    assert not taken.workflow_is_settled(status, walked - MARGIN, walked - DAY)
    assert not taken.workflow_is_settled(status, stopped, walked - DAY - timedelta(seconds=1))
    assert not taken.workflow_is_settled(status, None, walked)
    assert not taken.workflow_is_settled("running", stopped, walked - DAY)


def test_what_stopped_before_a_look_back_was_due_is_settled():
    """What the last walk did not reach is settled if a look-back that did was due after its end."""
    due = bookmarks.last_due(START, 2 * DAY / 3)
    taken = bookmarks.Range(START - 9 * DAY, START, DAY, known_from=START - DAY)
    created = due - timedelta(days=1.9)
    assert taken.workflow_is_settled("success", due - 2 * MARGIN, created)
    assert not taken.workflow_is_settled("success", due, created)
    assert not taken.workflow_is_settled("success", due - 2 * MARGIN, due - timedelta(days=2.1))


def test_a_wider_look_back_finds_what_a_narrower_one_passed_by():
    """Nothing counts as seen by the last walk for lying within a look-back that it did not have."""
    hour = timedelta(hours=1)
    rerun = Workflow(2, START + 30.2 * hour, START + 30.3 * hour)
    project = Project([(START + hour, [Workflow(1, START + hour, START + hour), rerun])])
    for number in range(2, 32):
        project.sync(START + number * hour, DAY, None)
    assert set(project.held) == {1}
    project.sync(START + 31.5 * hour, 7 * DAY, None)
    assert set(project.held) == {1, 2}


def test_a_stream_selected_later_starts_at_the_start_date_and_leaves_the_others_where_they_are():
    """jobs without a mark reach back to the start date while pipelines and workflows look back as usual."""
    walk = Walk({"pipelines": START + 50 * DAY, "workflows": START + 50 * DAY})
    this = bookmarks.fresh(walk, STREAMS, START + 50 * DAY + timedelta(hours=1), DAY, START)
    assert this.ranges["jobs"].horizon == START
    assert this.ranges["pipelines"].horizon > START + 40 * DAY


def test_a_stream_that_was_not_selected_knows_no_more_than_before():
    """A wide look-back of pipelines alone leaves what is known of the jobs where it was."""
    walk = Walk(dict.fromkeys(STREAMS, START), START - DAY)
    alone = bookmarks.fresh(walk, ["pipelines"], START + 40 * DAY, DAY, START - 50 * DAY)
    assert alone.horizon < START - 10 * DAY
    assert bookmarks.pass_done(walk, alone, None, {}).looked_back_to == START - DAY


def test_a_walk_that_was_cut_looked_back_no_further_than_it_did():
    """Taken up with a wider look-back, what was done before the cut counts as seen by the narrower one."""
    walk = Walk(dict.fromkeys(STREAMS, START), START - DAY)
    begun = bookmarks.fresh(walk, STREAMS, START + timedelta(hours=1), DAY, START - 50 * DAY)
    cut = bookmarks.page_done(walk, begun, START - timedelta(hours=20), None, {})
    rest = bookmarks.unfinished(cut, STREAMS, 7 * DAY, START - 50 * DAY)
    assert rest is not None
    assert rest.horizon == START - 7 * DAY
    assert bookmarks.pass_done(cut, rest, None, {}).looked_back_to == START - DAY


def test_a_pipeline_that_is_pending_for_ever_hides_no_younger_one():
    """What is older than any look-back does not count, and what is younger still does."""
    walk = Walk(dict.fromkeys(STREAMS, START), START - DAY, START - 200 * DAY)
    this = bookmarks.fresh(walk, STREAMS, START + timedelta(hours=1), DAY, START - 300 * DAY)
    pending = bookmarks.pass_done(walk, this, None, {}).pending_from
    assert pending == START + timedelta(hours=1) - bookmarks.LONGEST


def test_only_a_pipeline_that_may_be_seen_again_is_awaited():
    """One that is not in a final state makes newer ones be sent again, unless it is older than any look-back."""
    first = bookmarks.fresh(Walk(), STREAMS, START, DAY, START - 300 * DAY)
    assert first.awaits("pending", START - 100 * DAY)
    assert not first.awaits("pending", START - 200 * DAY)
    assert not first.awaits("created", START - 100 * DAY)


def test_look_backs_end_at_the_start_date():
    """Nothing older than the start date is looked at; a start date raised later hides no new rows."""
    walk = Walk(dict.fromkeys(STREAMS, START + DAY))
    early = bookmarks.fresh(walk, STREAMS, START + 400 * DAY, DAY, START)
    late = bookmarks.fresh(walk, STREAMS, START + 400 * DAY, DAY, START + 300 * DAY)
    assert early.horizon == START
    assert late.horizon == START + DAY


def test_a_state_is_read_as_it_was_written():
    """Whatever a run writes, the next run understands."""
    done = bookmarks.Open(START + DAY, START, frozenset({"jobs", "pipelines"}))
    walk = Walk({"pipelines": START}, START - DAY, START, done, {"p1": frozenset({"jobs", "workflows"})})
    state = State("project", {"deploy": {"o": bookmarks.written(START)}}, {"gh/acme/api": walk})
    again, remarks = bookmarks.read(state.as_json(), "state.json")
    assert again == state
    assert bookmarks.read({"type": "STATE", "value": state.as_json()}, "state.json")[0] == state
    assert remarks == []


def test_the_state_of_an_older_version_is_understood():
    """1.0.0 named the pipelines that could not be read, and not for which streams."""
    walk = {"synced_at": {"jobs": "2026-01-05T10:00:00Z"}, "retry": ["p1"]}
    state, _ = bookmarks.read({"bookmarks": {"walks": {"gh/acme/api": walk}}}, "state.json")
    assert state.walks["gh/acme/api"].retry == {"p1": frozenset({"workflows", "jobs"})}


def test_the_state_of_tap_circle_ci_is_taken_over():
    """Its timestamp per slug keeps the pipelines; its map of pipeline ids goes; workflows and jobs start anew."""
    state, remarks = bookmarks.read(
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
    moment = datetime(2026, 1, 5, 10, tzinfo=timezone.utc)
    assert state.walks == {"gh/acme/api": Walk({"pipelines": moment})}
    assert state.bookmarks == {"pipelines": {"gh/acme/api": bookmarks.written(moment)}}
    assert state.currently_syncing == "pipelines"
    assert "taken over for gh/acme/api" in " ".join(remarks)


@pytest.mark.parametrize(
    ("raw", "place"),
    [
        ({"bookmarks": []}, "bookmarks"),
        ({"bookmarks": {"users": {}}}, "bookmarks.users"),
        ({"bookmarks": {"pipelines": "2026-01-01"}}, "bookmarks.pipelines"),
        ({"bookmarks": {"pipelines": {"gh/acme/api": "yesterday"}}}, "bookmarks.pipelines.gh/acme/api"),
        ({"bookmarks": {"pipelines": {"replication_key": "updated_at"}}}, "bookmarks.pipelines.replication_key"),
        ({"bookmarks": {"pipelines": {"acme": "2026-01-01"}}}, "bookmarks.pipelines.acme"),
        ({"bookmarks": {"walks": {"gh/a/b": {"synced_at": {"jobs": 5}}}}}, "bookmarks.walks.gh/a/b.synced_at.jobs"),
        ({"bookmarks": {"walks": {"gh/a/b": {"open": {"streams": ["x"]}}}}}, "bookmarks.walks.gh/a/b.open.streams"),
        ({"bookmarks": {"walks": {"gh/a/b": {"retry": "p1"}}}}, "bookmarks.walks.gh/a/b.retry"),
        ({"bookmarks": {"walks": {"gh/a/b": {"retry": {"p1": []}}}}}, "bookmarks.walks.gh/a/b.retry.p1"),
        ({"bookmarks": {"walks": {"gh/a/b": {"retry": {"p1": [{}]}}}}}, "bookmarks.walks.gh/a/b.retry.p1"),
        ({"bookmarks": {"pipelines": {"gh/a/b": "0001-01-01"}}}, "bookmarks.pipelines.gh/a/b"),
        ({"currently_syncing": ["jobs"]}, "currently_syncing"),
        ({"bookmarks": {"walks": {"gh/a/b": {"done": True}}}}, "bookmarks.walks.gh/a/b.done"),
        ({"currently_syncing": "users"}, "currently_syncing"),
        ({"streams": []}, "streams"),
    ],
)
def test_a_state_that_cannot_be_understood_is_refused_by_name(raw, place):
    """What another tap or a hand wrote, and nobody can read, is named with its place in the file."""
    with pytest.raises(BadInput) as refused:
        bookmarks.read(raw, "state.json")
    assert f"state.json: {place} " in " ".join(refused.value.args)


def test_a_bookmark_never_gets_ahead_of_the_service_by_a_mistake_of_the_data():
    """A row that claims to be of next year does not move the bookmark, and does not keep the others from doing so."""
    highest = ""
    for value in (bookmarks.written(START), bookmarks.written(START + 300 * DAY), None):
        highest = bookmarks.higher(highest, value, START)
    assert highest == bookmarks.written(START)
