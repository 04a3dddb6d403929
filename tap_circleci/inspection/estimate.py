"""About how many calls and minutes a first sync takes, from the first pages of the lists."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tap_circleci.config import FIRST_SYNC, Config
from tap_circleci.reading.paging import Page
from tap_circleci.streams import ORGANIZATIONS, PROJECTS, ROOT, Stream, children_of, is_needed
from tap_circleci.values.text import counted
from tap_circleci.values.times import moment

CALLS_PER_SECOND = 10
"""The calls of a sync with the default 8 workers if the service answers in 0.8 s."""
PAGE = 20
"""Pipelines on a page."""


@dataclass(frozen=True)
class Sample:
    """What was found: the number of organizations and projects, the first pages of the pipelines of the projects that
    were tried, and the number of rows in one list of each stream."""

    organizations: int
    projects: int
    tried: int
    pipelines: Sequence[Page]
    rows: Mapping[str, int]


def estimate(sample: Sample, config: Config) -> str:
    """A sentence with the calls and minutes of a first sync with this config."""
    now = next((page.date for page in sample.pipelines if page.date is not None), None)
    start = config.start_date or (now - FIRST_SYNC if now is not None else None)
    pipelines = sum(_since(page, start) for page in sample.pipelines) * sample.projects / max(sample.tried, 1)
    wanted = config.extra_streams
    calls = (
        1
        + sample.organizations * _calls_below(ORGANIZATIONS, sample, wanted)
        + sample.projects * (1 + _calls_below(PROJECTS, sample, wanted))
        + pipelines * (1 / PAGE + _calls_below(ROOT, sample, wanted))
    )
    minutes = max(round(calls / CALLS_PER_SECOND / 60), 1)
    return (
        f"A first sync makes about {round(calls)} calls ({round(pipelines)} pipelines), which takes about"
        f" {counted(minutes, 'minutes')} at {CALLS_PER_SECOND} calls a second"
    )


def _calls_below(stream: Stream, sample: Sample, wanted: Collection[str]) -> float:
    """The calls for the lists below one row of a stream."""
    return sum(
        1 + (0 if child is PROJECTS else sample.rows.get(child.name, 1) * _calls_below(child, sample, wanted))
        for child in children_of(stream)
        if is_needed(child, wanted)
    )


def _since(page: Page, start: datetime | None) -> float:
    """How many pipelines a project has since the start date: those on the page, or an extrapolation of their rate, up
    to the number of the newest pipeline."""
    created = [date for row in page.rows if (date := moment(row.get("created_at"))) is not None]
    shown = [date for date in created if start is None or date >= start]
    if not page.more or start is None or len(shown) < len(created) or len(created) < 2:
        return len(shown)
    span = max((max(created) - min(created)) / timedelta(seconds=1), 1.0)
    found = len(created) * ((max(created) - start) / timedelta(seconds=1)) / span
    number = page.rows[0].get("number")
    return min(found, number) if isinstance(number, int) else found
