"""What was read, up to which time, and what is due, compared with thousands of random histories."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from datetime import datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tap_circleci.streams import STREAMS, family_of
from tap_circleci.values.patterns import JobNames
from tap_circleci.walk import schedule
from tap_circleci.walk.descent import Descent, Look
from tap_circleci.walk.schedule import LAST_CHANGE, MARGIN, OLDEST_LOOK, last_due, next_due
from tap_circleci.walk.seen import (
    LATE,
    MOST_PENDING,
    MOST_RECENT,
    MOST_STEPS,
    Listed,
    Plan,
    Seen,
    Step,
    digest_of,
    is_complete,
    start_of,
)
from tests.lives import (
    DAY,
    FAILURES,
    HOUR,
    LOOKBACKS,
    MINUTE,
    NAMES,
    ONCE,
    PATTERNS,
    PAUSES,
    SELECTIONS,
    SLUG,
    START,
    ZERO,
    Failing,
    Late,
    Pipeline,
    Project,
    Sync,
    histories,
    pipeline_of,
    workflow_of,
)
from tests.worlds import WALK

LONG_AGO = START - 1000 * DAY
ROOT_NAME = WALK[0]


def plan(steps: Seen | None = None, now: datetime = START, days: float = 1, start: datetime = LONG_AGO) -> Plan:
    """A walk at `now` by clocks that are right."""
    return Plan(steps or Seen(), start, now, now, timedelta(days=days))


def after(this: Plan, down_to: datetime | None = None, retry: tuple[str, ...] = (), **pending: datetime) -> Seen:
    """What was seen after a walk that has listed these pipelines as not final."""
    return this.after(down_to, Listed(pending), retry)


# Whole lives


def lives(number: int) -> int:
    """How many random lives a test goes through; a share of them, in percent, where the tree of streams is another."""
    return max(1, number * int(os.environ.get("LIVES", "100")) // 100)


CUTS = st.tuples(PAUSES, st.booleans(), SELECTIONS)


@settings(max_examples=lives(100), deadline=None)
@given(histories(), st.lists(CUTS, min_size=1, max_size=30), LOOKBACKS, st.booleans(), st.data())
def test_after_every_completed_sync_the_tables_are_complete_and_true_within_the_bounds(
    history, rhythm, widths, selects, data
):
    """With any history, cuts, look-backs and streams, no row is missing, and none is out of date for longer than the
    bound."""
    project = Project(history)
    now = START
    for number, (pause, is_cut, streams) in enumerate(rhythm):
        now += pause
        days = widths[number * len(widths) // len(rhythm)]
        cut = data.draw(st.integers(1, 30)) if is_cut else None
        project.sync(Sync(now, timedelta(days=days), cut=cut, streams=streams if selects else NAMES))
        project.assert_true(timedelta(days=min(widths)))


TROUBLE = {
    "names": PATTERNS,
    "cut": st.integers(1, 30),
    "lost": st.integers(1, 4),
    "dies": st.integers(1, 60),
    "failing": FAILURES,
    "pace": st.sampled_from([MINUTE, 20 * MINUTE]),
    "lag": st.sampled_from([MINUTE, MARGIN - timedelta(seconds=1)]),
    "ahead": st.sampled_from([10 * MINUTE, 2 * DAY, 60000 * DAY]),
    "behind": st.sampled_from([MINUTE, 10 * MINUTE, 2 * DAY, 100 * DAY, None]),
}
TROUBLES = st.lists(st.sampled_from([*TROUBLE, "failing", "failing"]), max_size=2).flatmap(
    lambda names: st.fixed_dictionaries({name: TROUBLE[name] for name in names})
)
"""Two at most in one run, so that many runs come to their end."""


@settings(max_examples=lives(150), deadline=None)
@given(histories(25), st.lists(st.tuples(PAUSES, SELECTIONS, TROUBLES), min_size=1, max_size=20), LOOKBACKS)
def test_no_trouble_loses_a_row_or_leaves_one_stale_beyond_the_bound(history, rhythm, widths):
    """This holds with lost pages, failures, refusals, dead tokens, slow walks, other job names and wrong clocks."""
    project = Project(history)
    now = START
    for number, (pause, streams, troubles) in enumerate(rhythm):
        days = widths[number * len(widths) // len(rhythm)]
        now += pause
        now = project.sync(Sync(now, timedelta(days=days), streams=streams, **troubles)) + troubles.get("lag", ZERO)
        project.assert_true(timedelta(days=min(widths)))
        if project.is_whole and not {"lost", "failing"} & troubles.keys():
            assert not any(project.seen[name].retry for name in streams)


@settings(max_examples=lives(80), deadline=None)
@given(histories(25), st.lists(st.tuples(PAUSES, SELECTIONS), min_size=1, max_size=25), LOOKBACKS, st.integers(0, 25))
def test_a_clock_that_is_behind_makes_looks_late_by_as_much_and_loses_nothing(history, rhythm, widths, number):
    """If all clocks are behind by a quarter of an hour, each look is late by that much at most."""
    project = Project(history)
    now, behind = START, 15 * MINUTE
    for place, (pause, streams) in enumerate(rhythm):
        now += pause
        days = widths[place * len(widths) // len(rhythm)]
        clocks = {"ahead": -behind, "behind": behind} if place >= number else {}
        project.sync(Sync(now, timedelta(days=days), streams=streams, **clocks))
        project.assert_true(timedelta(days=min(widths)), slack=behind)


@settings(max_examples=lives(80), deadline=None)
@given(histories(), st.lists(CUTS, min_size=1, max_size=20), st.sampled_from([0, 1, 5, 20]), st.data())
def test_nothing_before_the_start_date_is_read_and_nothing_since_then_is_lost(history, rhythm, days, data):
    """The start date of the first walk counts in every walk, also if the config has another one later."""
    project = Project(history)
    start = START + days * DAY
    now = start
    for number, (pause, is_cut, streams) in enumerate(rhythm):
        now += pause
        cut = data.draw(st.integers(1, 30)) if is_cut and number else None
        moved = data.draw(st.sampled_from([start, START - 99 * DAY, now - DAY, now])) if number else start
        project.sync(Sync(now, DAY, cut=cut, streams=streams if number else NAMES, start=moved))
        project.assert_true(DAY, start)
    read = {name for _, name in project.held}
    assert not [one for one in history if one.created < start and any(thing.name in read for thing in one.thing.all)]


@settings(max_examples=lives(80), deadline=None)
@given(histories(), st.lists(CUTS, min_size=6, max_size=25), LOOKBACKS, st.data())
def test_steps_are_few_and_in_order(history, rhythm, widths, data):
    """There are four at most, each below the one above it, and the last reaches down to the oldest pipeline that was
    read."""
    project = Project(history)
    now = START
    for number, (pause, is_cut, streams) in enumerate(rhythm):
        now += pause
        days = widths[number * len(widths) // len(rhythm)]
        cut = data.draw(st.integers(1, 30)) if is_cut else None
        project.sync(Sync(now, timedelta(days=days), cut=cut, streams=streams))
        for one in project.seen.values():
            since = [step.since for step in one.steps]
            assert len(since) <= MOST_STEPS
            assert None not in since[:-1]
            assert all(upper > lower for upper, lower in itertools.pairwise(filter(None, since)))
            assert all(step.looked_back_to <= step.as_of <= now for step in one.steps)
            assert len(one.pending_ids) <= MOST_PENDING
            assert len(one.recent) <= MOST_RECENT


@settings(max_examples=lives(120), deadline=None)
@given(histories(), st.lists(CUTS, min_size=1, max_size=30), LOOKBACKS, st.data())
def test_a_list_that_never_changes_is_asked_once_for_each_pipeline(history, rhythm, widths, data):
    """It is requested once, also for a pipeline that shows late, has a long setup or is selected later, except after a
    cut."""
    project = Project(history)
    now = START
    asked: Counter[tuple[str, str]] = Counter()
    for number, (pause, is_cut, streams) in enumerate(rhythm):
        now += pause
        days = widths[number * len(widths) // len(rhythm)]
        cut = data.draw(st.integers(1, 30)) if is_cut else None
        before = project.asked.copy()
        project.sync(Sync(now, timedelta(days=days), cut=cut, streams=streams))
        if project.is_whole:
            asked += Counter({key: count for key, count in (project.asked - before).items() if key[0] in ONCE})
    assert max(asked.values(), default=1) == 1, asked


@settings(max_examples=lives(50), deadline=None)
@given(histories(), st.sampled_from([HOUR, 5 * HOUR, DAY]), st.integers(1, 60), st.sampled_from([0.0, 1.0, 3.0]))
def test_what_lies_below_a_final_row_is_not_asked_again_once_that_is_two_hours_old(history, pause, syncs, days):
    """In regular syncs a list is requested at each look until its parent has ended, and then a few times at most."""
    project = Project(history)
    now = START
    asked_late: dict[tuple[str, str], int] = {}
    for _ in range(syncs):
        now += pause
        asked = project.asked.copy()
        project.sync(Sync(now, timedelta(days=days)))
        for key in project.asked - asked:
            assert project.asked[key] - asked[key] == 1, "twice in one sync"
            parent = project.parent(key)
            if STREAMS[key[0]].timing.once and parent.stream.timing.status:
                assert parent.versions[1].told <= now, "before its parent's end was told"
            ended_at = project.ended_at(key)
            if ended_at is not None and ended_at <= now:
                asked_late[key] = asked_late.get(key, 0) + 1
    most = 3 + LATE // pause
    assert all(count <= most for count in asked_late.values()), asked_late


def ended(pipelines: int) -> list[Pipeline]:
    """Pipelines every hour, each with a job that has long run."""
    late, found = Late(), []
    for number in range(pipelines):
        created = START + number * HOUR
        workflow = workflow_of(f"w{number}", created, HOUR, late, [("build", 1.0, True)])
        found.append(pipeline_of(number, created, created, late, [workflow]))
    return found


@pytest.mark.parametrize("streams", [NAMES, WALK, WALK[:2]])
def test_a_token_that_dies_anywhere_loses_nothing(streams):
    """If the token is invalid from any request on, a run with a good token completes the tables."""
    for dies in range(120):
        project = Project(ended(12))
        project.sync(Sync(START + 9 * DAY, DAY, dies=dies, streams=streams))
        project.sync(Sync(START + 9 * DAY + HOUR, DAY, streams=streams))
        project.assert_true(DAY)
        assert project.done.keys() == set(streams)


@pytest.mark.parametrize("status", [500, 403])
@pytest.mark.parametrize("stream", NAMES[1:])
def test_more_failures_than_the_state_keeps_claim_nothing(status, stream):
    """If nothing of a stream could be read, the next sync sends all of it, and the others were sent before."""
    project = Project(ended(50))
    project.sync(Sync(START + 9 * DAY, DAY, failing=Failing(status, stream, 1, 0)))
    assert project.done.keys() == set(NAMES) - {one.name for one in family_of(STREAMS[stream])}
    project.assert_true(DAY)
    project.sync(Sync(START + 9 * DAY + HOUR, DAY))
    assert project.done.keys() == set(NAMES)
    project.assert_true(DAY)


def test_a_life_of_hourly_syncs_looks_at_a_pipeline_a_few_dozen_times():
    """Each sync of its first day looks at a pipeline, and later ones once each time it is twice as old."""
    project = Project([pipeline_of(0, START, START, Late(), ())])
    for hour in range(1, 24 * 200):
        project.sync(Sync(START + hour * HOUR, DAY, streams=WALK))
    assert project.looks < 24 + 2 + 12


# When looks fall due

MOMENTS = st.floats(0, 400).map(lambda days: START + timedelta(days=days))
AGES = st.one_of(st.floats(0, 0.1), st.floats(0, 3), st.floats(0, 200)).map(lambda days: timedelta(days=days))


def looks(created: datetime) -> list[datetime]:
    """All looks that ever fall due at a pipeline."""
    found = []
    due = next_due(created, created)
    while due is not None:
        found.append(due)
        due = next_due(created, due)
    return found


@settings(max_examples=600, deadline=None)
@given(MOMENTS)
def test_a_pipeline_is_at_most_twice_as_old_at_its_next_look(created):
    """Looks begin five minutes after creation, their ages at most double, and the last is between 90 and 180 days."""
    ages = [look - created for look in looks(created)]
    assert ages[0] == MARGIN
    assert all(younger < older <= 2 * younger for younger, older in itertools.pairwise(ages))
    assert all(age < LAST_CHANGE for age in ages[:-1])
    assert LAST_CHANGE <= ages[-1] <= OLDEST_LOOK == 2 * LAST_CHANGE
    assert LAST_CHANGE == 90 * DAY
    assert len(ages) < 32


@settings(max_examples=600, deadline=None)
@given(MOMENTS, AGES)
def test_the_last_look_and_the_next_stand_on_either_side_of_a_moment(created, age):
    """`last_due` and `next_due` are neighbours in one series, for any moment."""
    moment = created + age
    series = [created, *looks(created)]
    assert last_due(created, moment) == max(look for look in series if look <= moment)
    assert next_due(created, moment) == min((look for look in series if look > moment), default=None)
    for look in series[1:]:
        assert last_due(created, look) == look
        assert next_due(created, look - timedelta(microseconds=1)) == look


def test_no_moment_is_shared_by_two_periods():
    """Looks of one period are due at shared times and those of two periods never, so no walk makes all of them."""
    periods = [schedule.SHORTEST_PERIOD * 2**power for power in range(15)]
    assert periods[-1] == 16 * DAY
    micro = timedelta(microseconds=1)
    halves = [Fraction(period // micro, 2) for period in periods]
    for one, other in itertools.combinations(halves, 2):
        # Odd multiples of the shorter half are never odd multiples of one that is longer by a power of two.
        assert (other / one).denominator == 1 or (other / one) % 2 != 1
    start = START.replace(hour=5)
    shared = [schedule._shared(start + number * 7 * HOUR, period) for number in range(2000) for period in periods[8:]]
    owners: dict[datetime, set[int]] = {}
    for place, look in enumerate(shared):
        owners.setdefault(look, set()).add(place % len(periods[8:]))
    assert {len(owner) for owner in owners.values()} == {1}


STEPS = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 60), st.floats(0, 200)), max_size=4)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Any steps that can be, newest first, and a walk some time after them."""
    as_of, since = START, START + draw(st.floats(-2, 1)) * DAY
    steps = []
    for age, back, below in draw(STEPS):
        since = min(since, as_of) - below * DAY
        steps.append(Step(as_of, as_of - back * DAY, since))
        as_of -= age * DAY
    if steps and draw(st.booleans()):
        steps[-1] = Step(steps[-1].as_of, steps[-1].looked_back_to)
    start = draw(st.sampled_from([LONG_AGO, START - 60 * DAY, START - 3 * DAY]))
    now = START + draw(st.one_of(st.floats(0, 0.1), st.floats(0, 200))) * DAY
    return plan(Seen(tuple(steps)), now, draw(st.sampled_from([0, 0.25, 1, 7, 40])), start)


@settings(max_examples=700, deadline=None)
@given(plans(), AGES)
def test_nothing_below_the_horizon_is_due(this, age):
    """No pipeline that was created before a walk's horizon is looked at, so its list may end there."""
    for created in (this.horizon - age - timedelta(microseconds=1), this.now - age, this.now - 3 * age):
        assert created >= this.horizon or not this.is_due(created)


@settings(max_examples=700, deadline=None)
@given(plans(), AGES)
def test_everything_is_looked_at_from_the_moment_on_that_a_step_will_claim(this, age):
    """Each pipeline that a new step will claim to have looked at is due."""
    bound = this.covers_from
    for created in (bound, bound + age, this.now - age):
        assert created < bound or this.is_due(created)


@settings(max_examples=700, deadline=None)
@given(plans(), AGES)
def test_a_walk_that_has_passed_a_pipeline_claims_no_later_look_than_was_made(this, age):
    """A pipeline's time after a walk is now if it was looked at, and otherwise not later than before."""
    created = this.now - age
    if not this.reaches(created):
        return
    claimed = plan(after(this), this.now).as_of(created)
    assert claimed is not None
    if this.is_due(created):
        assert claimed <= this.now
    else:
        before = this.as_of(created)
        assert before is not None
        assert claimed <= before


@settings(max_examples=500, deadline=None)
@given(
    st.floats(0.01, 90),
    st.floats(0, 400),
    st.lists(st.sampled_from([0.04, 0.3, 1.0, 2.7]), min_size=1, max_size=5),
    st.sampled_from([0.25, 1.0, 7.0]),
)
def test_a_change_is_looked_at_before_its_pipeline_is_twice_as_old(age, offset, gaps, days):
    """A change at age A is looked at no later than A and the gap between two syncs after it."""
    lookback = timedelta(days=days)
    created = START + timedelta(days=offset)
    changed = created + timedelta(days=age)
    bound = changed + max(timedelta(days=age), lookback) + timedelta(days=max(gaps))
    one = Seen((Step(changed - timedelta(days=gaps[0] / 2), created - 100 * DAY),))
    for gap in itertools.cycle(gaps):
        now = one.steps[0].as_of + timedelta(days=gap)
        assert now <= bound, "not looked at in time"
        this = plan(one, now, days)
        if now >= changed and this.is_due(created):
            assert created >= this.horizon
            return
        one = after(this)


# Single cases


def test_a_walk_without_anything_due_looks_back_by_the_usual_width():
    """If no older pipeline is due, a walk lists only the pipelines of the look-back."""
    hours = [START + number * HOUR for number in range(24 * 32)]
    depths = [(now + HOUR - plan(Seen((Step(now, now - DAY),)), now + HOUR).horizon) / DAY for now in hours]
    assert min(depths) < 1.5
    assert sorted(depths)[len(depths) // 2] < 3
    assert max(depths) > 90


@pytest.mark.parametrize("days", [0.25, 1, 40])
def test_a_step_covers_what_was_created_after_it_down_to_the_next(days):
    """The highest step that covers a pipeline says up to which time it was read; below the last step none does."""
    top = Step(START, START - 2 * DAY, START - DAY)
    below = Step(START - 3 * DAY, START - 9 * DAY, START - 5 * DAY)
    this = plan(Seen((top, below)), START + MINUTE, days)
    assert this.as_of(START - 1 * HOUR) == START
    assert this.as_of(START - DAY) == START - 3 * DAY
    assert this.as_of(START - 5 * DAY) is None
    assert this.is_due(START - 5 * DAY)
    assert this.as_of(None) is None
    assert this.is_due(None)


def test_below_what_was_looked_at_the_last_look_that_was_due_counts():
    """A pipeline that the last walk did not look at is read up to the last time at which it was due."""
    created = START - 50 * DAY
    this = plan(Seen((Step(START, START - DAY),)), START + HOUR)
    assert this.as_of(created) == last_due(created, START) < START
    assert this.as_of(START - DAY) == START


def test_a_pipeline_that_is_named_for_another_try_is_not_there_and_due():
    """All below a pipeline in `retry` is read again, whatever its step says."""
    this = plan(Seen((Step(START, START - DAY),), retry=("p1",)), START + HOUR)
    assert this.as_of(START - 2 * HOUR, "p1") is None
    assert this.is_due(START - 500 * DAY, "p1")
    assert not this.is_due(START - 500 * DAY, "p2")


def test_what_ended_two_hours_before_the_last_look_is_complete():
    """A final state counts if the walk that read it began two hours after it, since it may be corrected."""
    assert timedelta(hours=2) == LATE
    as_of = START + DAY
    ended = as_of - LATE - timedelta(seconds=1)
    assert is_complete(ended, as_of)
    assert not is_complete(as_of - LATE, as_of)
    assert not is_complete(None, as_of)
    assert not is_complete(ended, None)


@pytest.mark.parametrize("days", [0, 1])
def test_what_changed_within_the_look_back_and_shows_two_hours_late_is_looked_at(days):
    """Pipelines are looked at for two hours longer than the look-back, since their changes may show late."""
    this = plan(Seen((Step(START, START),)), START + timedelta(seconds=1), days=days)
    assert this.is_due(START - days * DAY - LATE)
    assert this.covers_from == START - days * DAY - LATE


def test_a_wider_look_back_finds_what_a_narrower_one_passed_by():
    """A pipeline that only the new look-back covers does not count as looked at by the last walk."""
    narrow = after(plan(Seen((Step(START, START - DAY),)), START + HOUR))
    wide = plan(narrow, START + 2 * HOUR, days=7)
    created = START - 3 * DAY
    assert wide.is_due(created)
    assert wide.as_of(created) == last_due(created, START + HOUR) < START
    assert plan(after(wide), START + 3 * HOUR).as_of(created) == START + 2 * HOUR


def test_a_stream_selected_later_starts_at_the_start_date_and_leaves_the_others_where_they_are():
    """jobs without steps begin at the start date, while pipelines and workflows look back as usual."""
    known = Seen((Step(START + 50 * DAY, START + 49 * DAY),))
    now = START + 50 * DAY + HOUR
    plans = {name: plan(known if name != WALK[2] else None, now, start=START) for name in WALK}
    descent = Descent(SLUG, plans, JobNames())
    assert descent.horizon == plans[WALK[2]].horizon == START
    assert plans[WALK[0]].horizon > START + 40 * DAY
    (look,) = looks_at(descent, START + 10 * DAY)
    assert set(look.as_of) == {WALK[2]}
    assert not look.judged.is_sent
    assert plans[WALK[2]].covers_from == START


def test_a_walk_that_was_cut_looked_back_no_further_than_it_did():
    """If a walk is resumed with a wider look-back, the part before the cut counts with the narrower one."""
    before = Seen((Step(START, START - DAY),))
    cut = after(plan(before, START + HOUR), START - 20 * HOUR)
    assert cut.steps == (Step(START + HOUR, START - DAY - LATE, START - 20 * HOUR), *before.steps)
    rest = plan(cut, START + 2 * HOUR, days=7)
    assert rest.as_of(START - 30 * HOUR) == last_due(START - 30 * HOUR, START)
    assert rest.is_due(START - 3 * DAY)
    assert after(rest).steps == (Step(START + 2 * HOUR, START - 7 * DAY - LATE),)


def test_steps_that_nothing_is_left_of_are_gone():
    """A step is removed when a walk has come below it."""
    before = Seen((Step(START, START - DAY, START - HOUR), Step(START - DAY, START - 2 * DAY)))
    cut = after(plan(before, START + HOUR), START - HOUR)
    assert [step.since for step in cut.steps] == [START - HOUR, None]
    assert [step.as_of for step in cut.steps] == [START + HOUR, START - DAY]


def test_more_than_four_steps_are_four_that_claim_less():
    """The second and third become one with the earlier `as_of` and the later `looked_back_to`."""
    steps = Seen(tuple(Step(START - n * DAY, START - (9 - n) * DAY, START - n * 10 * DAY) for n in range(1, 5)))
    five = after(plan(steps, START + HOUR), START - 9 * DAY)
    assert len(five.steps) == MOST_STEPS == 4
    top, merged, *rest = five.steps
    assert top.as_of == START + HOUR
    assert merged == Step(START - 2 * DAY, START - 7 * DAY, START - 20 * DAY)
    assert rest == list(steps.steps[2:])


def test_without_a_clock_nothing_is_claimed_and_what_failed_is_kept():
    """A walk at an unknown time changes no step."""
    before = Seen((Step(START, START - DAY),), START - HOUR, ("p1",), (), ("digest",))
    this = Plan(before, START - 9 * DAY, START + HOUR, None, DAY)
    assert after(this, None, ("p2",), p3=START) == Seen(before.steps, before.pending, ("p1",), ("p2",), ("digest",))


def test_the_moment_of_a_step_is_one_that_has_passed():
    """Clocks that are ahead make a walk look at more pipelines, and claim no later time."""
    this = Plan(Seen(), START - 9 * DAY, START + DAY, START, DAY)
    assert after(this).steps[0].as_of == START


# Pipelines that are not in a final state


def row_of(created: datetime, state: str = "created", name: str = "p1") -> dict[str, str]:
    return {"id": name, "state": state, "created_at": created.isoformat(), "updated_at": created.isoformat()}


def looks_at(descent: Descent, created: datetime, state: str = "created") -> list[Look]:
    """What a descent decides on a page with one pipeline."""
    turn = descent.page([row_of(created, state)], None, more=False)
    return [one for one in turn.decisions if isinstance(one, Look)]


def test_a_pipeline_that_is_pending_for_ever_hides_no_younger_one():
    """After a whole walk a pending pipeline older than any look no longer counts, and a younger one does."""
    this = plan(Seen((Step(START, START - DAY),), START - 400 * DAY), START + HOUR)
    assert after(this).pending == START + HOUR - OLDEST_LOOK
    assert after(this, START - 300 * DAY).pending == this.seen.pending  # the walk has not come to it yet


def test_what_is_pending_stays_so_until_it_has_been_listed_again():
    """Only a walk that has passed a pending pipeline may remove it."""
    pending = START - 30 * DAY
    this = plan(Seen((Step(START, START - DAY),), pending, ("p1",)), START + 2 * MINUTE)
    assert this.horizon > pending
    assert after(this).pending == pending
    assert after(this).pending_ids == ("p1",)
    assert after(this, p2=START - HOUR).pending == pending
    assert set(after(this, p2=START - HOUR).pending_ids) == {"p1", "p2"}
    deep = plan(this.seen, START + 2 * MINUTE, days=40)
    assert after(deep).pending is None
    assert after(deep).pending_ids == ()
    assert after(deep, START - 20 * DAY).pending == pending
    assert after(deep, pending).pending == pending
    assert after(deep, p2=START - HOUR).pending == START - HOUR
    assert after(deep, p2=START - HOUR).pending_ids == ("p2",)


def test_a_pending_pipeline_that_has_been_listed_in_its_final_state_is_forgotten():
    """Its id is removed, also if the walk has not reached the others."""
    this = plan(Seen((Step(START, START - DAY),), START - 30 * DAY, ("p1", "p2")), START + 2 * MINUTE)
    descent = Descent(SLUG, {ROOT_NAME: this}, JobNames())
    descent.page([row_of(START - 30 * DAY, name="p1"), row_of(START - 31 * DAY, name="p3")], None, more=False)
    (done,) = descent.ended(whole=True)
    assert done.listed.settled == {"p1"}
    assert this.after(None, done.listed, ()).pending_ids == ("p2",)


def test_many_pending_pipelines_are_kept_as_one_date():
    """If there are more than twenty, all pipelines since the oldest of them count as pending."""
    pending = {f"p{number}": START - number * HOUR for number in range(MOST_PENDING + 1)}
    few = after(plan(), None, (), **{name: pending[name] for name in list(pending)[:MOST_PENDING]})
    many = after(plan(), None, (), **pending)
    assert len(few.pending_ids) == MOST_PENDING
    assert many.pending_ids == ()
    assert many.pending == START - MOST_PENDING * HOUR
    assert plan(many).was_pending(START - HOUR, "another")
    assert not plan(few).was_pending(START - HOUR, "another")
    assert plan(few).was_pending(START - HOUR, "p1")


@pytest.mark.parametrize(("state", "days", "is_pending"), [("pending", 100, 1), ("pending", 200, 0), ("created", 9, 0)])
def test_only_a_pipeline_that_may_be_seen_again_is_awaited(state, days, is_pending):
    """A pipeline that is not in a final state is kept as pending, unless it is older than any look."""
    descent = Descent(SLUG, {ROOT_NAME: plan()}, JobNames())
    descent.page([row_of(START - days * DAY, state)], None, more=False)
    (done,) = descent.ended(whole=True)
    assert len(done.listed.pending) == is_pending


@pytest.mark.parametrize("ids", [("p1",), ()])
def test_what_was_pending_is_sent_again(ids):
    """Its id, or without ids the date, shows that it was pending, since `updated_at` does not change."""
    before = Seen((Step(START, START - DAY),), START - 5 * HOUR, ids)
    for hours, name, is_sent in ((5, "p1", True), (4, "p2", not ids), (6, "p3", False)):
        descent = Descent(SLUG, {ROOT_NAME: plan(before, START)}, JobNames())
        turn = descent.page([row_of(START - hours * HOUR, name=name)], None, more=False)
        assert any(isinstance(one, Look) and one.judged.is_sent for one in turn.decisions) == is_sent


# Lists that never change


def test_digests_distinguish_the_recent_pipelines():
    """Pipelines of the last two hours may still appear in the list, so the state has digests of those that have."""
    as_of = START + 2 * MINUTE
    before = Seen((Step(START, START - DAY),), recent=(digest_of("p1"),))
    this = plan(before, as_of)
    assert this.has_read_once(START - HOUR, "p1")
    assert not this.has_read_once(START - HOUR, "p2")
    assert this.has_read_once(START - LATE - MINUTE, "p2")
    assert not plan(Seen(before.steps, retry=("p3",)), as_of).has_read_once(START - DAY, "p3")
    assert not plan(Seen(before.steps, START - DAY, ("p4",)), as_of).has_read_once(START - DAY, "p4")


def test_the_recent_pipelines_of_a_walk_that_was_cut_are_kept_with_those_before():
    """Until a walk has listed them all, earlier digests stay, up to 64 in all."""
    before = Seen((Step(START, START - DAY),), recent=("old",))
    this = plan(before, START + HOUR)
    assert this.after(START, Listed({}, recent=("new",)), ()).recent == ("new", "old")
    assert this.after(None, Listed({}, recent=("new",)), ()).recent == ("new",)
    many = tuple(f"{number}" for number in range(MOST_RECENT + 5))
    assert this.after(START, Listed({}, recent=many), ()).recent == many[:MOST_RECENT]


# The start date


def test_looks_end_at_the_start_date():
    """No pipeline from before the start date is looked at, and a later start date in the config hides no new rows."""
    one = Seen((Step(START + DAY, START),))
    early = plan(one, START + 400 * DAY, start=START)
    late = plan(one, START + 400 * DAY, start=start_of(one, None, START + 300 * DAY))
    assert early.horizon == START
    assert late.horizon == START + DAY
    assert not early.is_due(START - MINUTE)
    assert not late.is_due(START + DAY - MINUTE)
    assert late.is_due(START + DAY)
