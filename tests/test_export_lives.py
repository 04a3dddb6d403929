"""Random lives of the usage of an organization: late, failed, lost and refused exports, and runs that are cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.circleci import Answer
from tests.circleci.usage import Order, Usage, job
from tests.tap import EagerClock, FastClock, Run, last_state
from tests.test_exports import A_DAY, NOW, expected_jobs, go, ids, jobs_in, kept_ids, service

A_RUN = timedelta(minutes=20)
"""Longer than any run: exports are given up after ten minutes."""


@dataclass(frozen=True)
class Fate:
    """What becomes of an order: the states that it goes through, or the status of each look at it."""

    states: tuple[str, ...] = ("completed",)
    status: int | None = None


GOOD = (Fate(), Fate(("created", "processing", "processing", "completed")))
HOPELESS = (Fate(("failed",)), Fate(status=404), Fate(status=410))
"""Those of which the first look shows that nothing will come of them."""
STUCK = (Fate(("processing",)), Fate(status=500))
FILE_TROUBLES = ("no files", "cut files", "addresses expire")
TROUBLES = (
    "",
    "",
    "no orders",
    "orders lost",
    "orders broken",
    "no looks",
    "no files",
    "cut files",
    "addresses expire",
)


@dataclass(frozen=True)
class Step:
    """A run: so long after the one before, in this trouble, with this share of its output lost. `is_eager`: with a
    STATE at each chance."""

    pause: timedelta
    trouble: str
    cut: float
    is_eager: bool


STEPS = st.builds(
    Step,
    st.sampled_from([timedelta(hours=hours) for hours in (0, 1, 13, 25, 24 * 8)]),
    st.sampled_from(TROUBLES),
    st.sampled_from([0.0, 0.0, 0.0, 0.1, 0.4, 0.6, 0.9]),
    st.booleans(),
)


def trouble(usage: Usage, kind: str) -> None:
    """Make the service and the host of the files behave so in the next run."""
    posts = {"no orders": Answer(429, {}), "orders lost": Answer(201, {}), "orders broken": Answer(422, {})}
    gets = {"no looks": Answer(429, {})}
    usage.raw = lambda method, number: posts.get(kind) if method == "POST" else gets.get(kind)
    faults: dict[str, int | str] = {"no files": 500, "cut files": "cut"}
    usage.host.fault = lambda number: 403 if kind == "addresses expire" and number % 2 else faults.get(kind)


def live_until(usage: Usage, moment: datetime) -> None:
    """Let the service's time pass, with a job run on each day that begins."""
    world, organization = usage.server.world, ids(usage)[0]
    while world.now < moment:
        next_day = (world.now + A_DAY).replace(hour=0, minute=0)
        world.advance(min(next_day, moment) - world.now)
        if world.now == next_day:
            usage.add(organization, job(world.now, 1, organization))


def check_orders(usage: Usage, new: Sequence[Order], state: Any, fates: Sequence[Fate], kind: str) -> None:
    """No days are ordered twice without need, in a run that began with this state and in this trouble."""
    kept = kept_ids(state).values() if state else ()
    before = [order for order in usage.orders if order.id in kept]
    for first, second in zip([*before, *new], [*before, *new][1:], strict=False):
        number = usage.orders.index(first) + 1
        fate = fates[number - 1] if number <= len(fates) else Fate()
        is_hopeless = fate in HOPELESS
        is_late = usage.server.world.now + A_RUN - first.at >= A_DAY
        needs_another = is_hopeless or (is_late and (fate != Fate() or kind in FILE_TROUBLES))
        assert needs_another or second.end > first.end, (first, second, fate)


@settings(max_examples=25)
@given(
    fates=st.lists(st.sampled_from([*GOOD, *HOPELESS, *STUCK]), max_size=8),
    steps=st.lists(STEPS, min_size=1, max_size=6),
)
def test_no_day_is_missing_and_none_is_ordered_twice_without_need(fates, steps):
    """After any failures and cuts, two runs without trouble send all that is missing, with exit 0."""
    with service() as usage:
        live_until(usage, NOW + timedelta(hours=1))
        usage.script = lambda number: fates[number - 1].states if number <= len(fates) else None
        usage.states = ("completed",)
        usage.forgotten = {number: fate.status for number, fate in enumerate(fates, 1) if fate.status is not None}
        lines: list[str] = []
        state = None
        for step in steps:
            live_until(usage, usage.server.world.now + step.pause)
            trouble(usage, step.trouble)
            done, new = one_run(usage, state, EagerClock() if step.is_eager else FastClock())
            check_orders(usage, new, state, fates, step.trouble)
            left = done.lines[: round(len(done.lines) * (1 - step.cut))]
            lines += left
            state = last_state(left) or state
        trouble(usage, "")
        fates = fates[: len(usage.orders)]  # what is ordered from now on comes
        usage.forgotten = {number: status for number, status in usage.forgotten.items() if number <= len(fates)}
        for _ in range(2):
            live_until(usage, usage.server.world.now + A_DAY + A_RUN)
            done, new = one_run(usage, state, FastClock())
            check_orders(usage, new, state, fates, "")
            lines += done.lines
            state = done.state
        assert done.status == 0
        assert not kept_ids(state)
        today = usage.server.world.now.strftime("job-%Y%m%d")
        assert jobs_in(lines) == {pair for pair in expected_jobs(usage) if not pair[1].startswith(today)}


def one_run(usage: Usage, state: Any, clock: FastClock) -> tuple[Run, list[Order]]:
    """A run that ends in order, and what it has ordered."""
    before = len(usage.orders)
    done = go(usage, state, clock)
    assert done.status in (0, 1)
    assert "Traceback" not in done.log
    return done, usage.orders[before:]
