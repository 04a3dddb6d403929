"""The list of a project's builds, newest first by number: which of them are known, and where the next sync begins.

A build is one run of a job. Every run, also of a rerun, gets the project's next number, however old its pipeline is:
https://circleci.com/docs/api/v1/#recent-builds-for-a-single-project
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from tap_circleci.values.rows import Row
from tap_circleci.values.times import moment

SETTLED = timedelta(minutes=5)
"""A build counts as finished this long after its stop."""
LONGEST = timedelta(days=2)
"""A build counts as finished this long after it was queued, whatever its status: a job runs five hours at most."""


def number_of(build: Row) -> int | None:
    """The number of a build, if it is one."""
    number = build.get("build_num")
    return number if isinstance(number, int) and not isinstance(number, bool) and number >= 0 else None


def is_known(next_build: int | None, since: datetime, build: Row) -> bool | None:
    """Whether a build was listed before, or for a first sync (no `next_build`) was queued before the start date.

    None for a build without a number or, in a first sync, without a time.
    """
    if next_build is not None:
        number = number_of(build)
        return None if number is None else number < next_build
    queued_at = moment(build.get("queued_at"))
    return None if queued_at is None else queued_at < since


def next_build(builds: Iterable[Row], now: datetime, before: int | None) -> int | None:
    """The number at which the next sync begins: that of the lowest unfinished build, else the next one."""
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
    """Whether a build no longer changes; also true if it has no times or is too old to be running."""
    stopped_at = moment(build.get("stop_time"))
    if stopped_at is not None:
        return stopped_at <= now - SETTLED
    queued_at = moment(build.get("queued_at"))
    return queued_at is None or queued_at <= now - LONGEST
