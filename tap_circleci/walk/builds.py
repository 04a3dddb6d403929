"""The list of a project's builds, which comes newest first by number: what of it is known, and from where to read on.

A build is one run of a job. Every run, a rerun's too, gets the project's next number, however old its pipeline is:
https://circleci.com/docs/api/v1/#recent-builds-for-a-single-project
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from tap_circleci.values.rows import Row
from tap_circleci.values.times import moment

SETTLED = timedelta(minutes=5)
"""A build counts as finished so long after it has stopped."""
LONGEST = timedelta(days=2)
"""A build that is not finished so long after it was queued never will be: no job runs longer than five hours."""


def number_of(build: Row) -> int | None:
    """The number of a build, if it is one."""
    number = build.get("build_num")
    return number if isinstance(number, int) and not isinstance(number, bool) and number >= 0 else None


def is_known(next_build: int | None, since: datetime, build: Row) -> bool | None:
    """Whether a build was listed before, or for a first sync (no `next_build`) was queued before the start date.

    None for a build that does not tell: it has no number, or no time.
    """
    if next_build is not None:
        number = number_of(build)
        return None if number is None else number < next_build
    queued_at = moment(build.get("queued_at"))
    return None if queued_at is None else queued_at < since


def next_build(builds: Iterable[Row], now: datetime, before: int | None) -> int | None:
    """The number from which the next sync reads on: the lowest build that was not yet finished, else the next one."""
    numbers = []
    unfinished = []
    for build in builds:
        number = number_of(build)
        if number is None:
            continue
        numbers.append(number)
        if not _is_finished(build, now):
            unfinished.append(number)
    return min(unfinished, default=max((number + 1 for number in numbers), default=before))


def _is_finished(build: Row, now: datetime) -> bool:
    """Whether nothing more will come of a build; also where it has no times, or is too old to run still."""
    stopped_at = moment(build.get("stop_time"))
    if stopped_at is not None:
        return stopped_at <= now - SETTLED
    queued_at = moment(build.get("queued_at"))
    return queued_at is None or queued_at <= now - LONGEST
