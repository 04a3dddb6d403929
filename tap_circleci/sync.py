"""The one loop that joins what is read with what is written: stream after stream, with a state after each unit."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import groupby
from typing import Any

from tap_circleci import bookmarks
from tap_circleci.bookmarks import State, Walk
from tap_circleci.client import Client, who_am_i
from tap_circleci.config import VERSION, Config
from tap_circleci.discover import Selected
from tap_circleci.errors import BadInput, Forbidden, NotFound, PipeClosed, TapError
from tap_circleci.messages import Messages
from tap_circleci.organizations import Listing, Organizations
from tap_circleci.paging import Rows
from tap_circleci.report import Report
from tap_circleci.slugs import normalise
from tap_circleci.streams import STREAMS, WALK
from tap_circleci.text import first_few
from tap_circleci.times import EPOCH, written
from tap_circleci.walk import PageDone, PassDone, ProjectDone, Unit, Walker
from tap_circleci.workers import Clock, Pool, result

LOGGER = logging.getLogger(__name__)

VERSIONED = frozenset({"collaborations", "context", "groups", "project", "pipeline_definition", "trigger"})
"""The full tables whose rows can vanish, and of which the target may be told so."""


def sync(config: Config, selected: Selected, state: State, clock: Clock) -> list[str]:
    """Send everything that is selected and new; gives a sentence for each thing that had to be left out.

    Raises `Stopped`. However the run ends, what was finished stands in the last STATE.
    """
    client = Client(config, clock)
    pool = Pool(config.max_workers)
    messages = Messages(selected, clock)
    report = Report(clock, messages, client)
    run = _Run(config, selected, state, client, pool, clock, messages, report)
    try:
        run.everything()
    except TapError as error:
        report.failures += error.args
    finally:
        pool.close()
        client.close()
        report.finish()
    return report.failures


@dataclass
class _Ledger:
    """What one project has come to: its marks, what failed, and by stream the highest replication key value sent.

    `stuck`: something is missing that the marks cannot name, so they stay where they are.
    """

    walk: Walk
    retry: dict[str, frozenset[str]] = field(default_factory=dict)
    highest: dict[str, str] = field(default_factory=dict)
    stuck: bool = False


class _Run:
    """One sync, in the thread that writes."""

    def __init__(
        self,
        config: Config,
        selected: Selected,
        state: State,
        client: Client,
        pool: Pool,
        clock: Clock,
        messages: Messages,
        report: Report,
    ) -> None:
        self._config = config
        self._selected = selected
        self._state = state
        self._client = client
        self._pool = pool
        self._clock = clock
        self._messages = messages
        self._report = report
        self._organizations = Organizations(config, client, pool, clock, report)
        self._now = EPOCH

    def everything(self) -> None:
        """All selected streams, beginning with the one that an earlier run was at."""
        self._now = who_am_i(self._client).date
        self._refuse_the_future()
        names = [name for name in STREAMS if name in self._selected and name not in WALK]
        if any(name in self._selected for name in WALK):
            names.append(WALK[0])
        LOGGER.info(
            "tap-circleci %s: streams %s", VERSION, ", ".join(name for name in STREAMS if name in self._selected)
        )
        if not names:
            LOGGER.warning("No stream is selected.")
        at = self._state.currently_syncing
        turn = names.index(at) if at in names else 0
        try:
            for is_walk, group in groupby(names[turn:] + names[:turn], key=WALK.__contains__):
                if is_walk:
                    self._walk()
                else:
                    self._streams(list(group))
            self._state.currently_syncing = None
        except PipeClosed:
            raise
        except BaseException:
            self._messages.state(self._state, now=True)
            raise
        self._messages.state(self._state, now=True)

    def _refuse_the_future(self) -> None:
        limit = self._now + bookmarks.TOLERANCE
        latest = self._state.latest()
        if latest is not None and latest[1] > limit:
            raise BadInput(
                f"The state's {latest[0]} is {latest[1].isoformat()}, in the future: CircleCI's clock says"
                f" {self._now.isoformat()}."
            )
        if self._config.start_date is not None and self._config.start_date > limit:
            raise BadInput(
                f"start_date is {self._config.start_date.isoformat()}, in the future: CircleCI's clock says"
                f" {self._now.isoformat()}."
            )

    def _wait(self, future: Future[Any]) -> Any:
        return result(future, self._clock, self._report.tick)

    # The organization-wide streams

    def _streams(self, names: list[str]) -> None:
        """All rows of organization-wide streams, new ones only where they have a replication key."""
        listings = self._organizations.read(names)
        listing = next(listings, None)
        for name in names:
            self._state.currently_syncing = name
            self._report.at(name)
            self._messages.schema(name)
            version = None
            if self._config.activate_version and name in VERSIONED:
                version = int(self._now.timestamp() * 1000)
            while listing is not None and listing.stream.name == name:
                self._listing(listing, version)
                listing = next(listings, None)
            if version is not None and self._organizations.is_whole(name):
                self._messages.activate(name, version)

    def _listing(self, listing: Listing, version: int | None) -> None:
        """The rows of one stream below one parent."""
        stream = listing.stream
        name = stream.name
        self._messages.keyless[name] += listing.broken
        slug = listing.ids.get("project_slug", "")
        key = normalise(slug) or slug or listing.ids.get("organization_id", "")
        since = self._since(name, key)
        date = listing.date or self._now
        highest = ""
        for row in listing.rows:
            record = self._messages.convert(name, row)
            if record is None:
                continue
            value = (record[stream.replication_key] or "") if stream.replication_key else ""
            if value and value < since:
                self._report.older[name] += key not in self._state.bookmarks.get(name, {})
                continue
            self._messages.record(name, record, date, version)
            highest = bookmarks.higher(highest, value, date)
        if listing.complete:  # the rows that could not be read may be older
            self._state.note(name, key, highest)
        self._messages.flush()
        self._messages.state(self._state)
        self._report.tick()

    def _since(self, name: str, key: str) -> str:
        """The replication key value from which on rows are sent: the bookmark, or the start date at first."""
        marked = self._state.bookmarks.get(name, {}).get(key)
        if marked is not None:
            return marked
        return written(self._config.start_date or self._now - bookmarks.FIRST_SYNC)

    # The walk through pipelines, workflows and jobs

    def _walk(self) -> None:
        """All that is new or due in the projects that the user names."""
        self._state.currently_syncing = WALK[0]
        selected = [name for name in WALK if name in self._selected]
        for name in selected:
            self._messages.schema(name)
        slugs = self._organizations.slugs()
        self._announce(slugs)
        missing = 0
        walker = Walker(self._config, self._client, self._pool, self._wait, selected)
        number = 0
        ledger = None
        for event in walker.events(slugs, dict(self._state.walks)):
            if ledger is None:
                number += 1
                self._report.at(f"project {number} of {len(slugs)}", f"; {event.slug}", (number - 1) / len(slugs))
                walk = self._state.walks.get(event.slug, Walk())
                ledger = _Ledger(walk, dict(walk.retry))
            if isinstance(event, Unit):
                self._unit(event, ledger)
            elif isinstance(event, PageDone):
                self._page_done(event, ledger)
                back_to = f" back to {event.down_to:%Y-%m-%d %H:%M}" if event.down_to else ""
                self._report.come(f"; {event.slug}{back_to}", (number - 1 + event.share) / len(slugs))
            elif isinstance(event, PassDone):
                missing += self._pass_done(event, ledger)
            else:
                self._project_done(event, ledger)
                ledger = None
            self._messages.flush()
            self._report.tick()
        if slugs and missing == len(slugs):
            self._report.failed("None of the projects in project_slugs exists, or the token sees none of them.")

    def _announce(self, slugs: list[str]) -> None:
        """Say what is walked, and since when."""
        walks = self._state.walks
        since = self._config.start_date or self._now - bookmarks.FIRST_SYNC
        begun = [slug for slug in slugs if slug in walks and walks[slug].open is not None]
        first = [slug for slug in slugs if slug not in walks]
        known = [min(walks[slug].synced_at.values()) for slug in slugs if slug in walks and walks[slug].synced_at]
        LOGGER.info("Projects: %d", len(slugs))
        if first:
            LOGGER.info("For the first time, from %s on: %s", since.isoformat(), first_few(first))
        if begun:
            LOGGER.info("An earlier run was cut off and is taken up: %s", first_few(begun))
        if known:
            LOGGER.info("What is new or due in %d projects since %s", len(known), min(known).isoformat())

    def _unit(self, unit: Unit, ledger: _Ledger) -> None:
        """A pipeline, its workflows and their jobs, depth first."""
        pipelines, workflows, jobs = WALK
        tree = self._wait(unit.tree) if unit.tree is not None else None
        if unit.wanted:
            self._send(pipelines, unit.pipeline, unit.date, ledger)
        if tree is None:
            return
        name = str(unit.pipeline["id"])
        failed = set() if self._heard(tree.workflows, f"the workflows of pipeline {name}", unit.slug) else {*unit.asked}
        self._messages.keyless[workflows] += tree.workflows.broken
        for branch in tree.branches:
            if branch.wanted:
                self._send(workflows, branch.workflow, tree.workflows.date or unit.date, ledger)
            if branch.jobs is None:
                continue
            below: Rows = self._wait(branch.jobs)
            for row in below.rows:
                self._send(jobs, row, below.date or unit.date, ledger)
            self._messages.keyless[jobs] += below.broken
            what = f"the jobs of workflow {branch.workflow['id']} of pipeline {name}"
            failed.update(() if self._heard(below, what, unit.slug) else {jobs})
        owed = (ledger.retry.pop(name, frozenset()) - unit.in_full) | failed
        if owed:
            ledger.retry[name] = owed
            ledger.stuck = ledger.stuck or len(ledger.retry) > bookmarks.MOST_RETRIES

    def _heard(self, below: Rows, what: str, slug: str) -> bool:
        """Whether a list is whole, or lacks only what is gone or forbidden; what is wrong is told."""
        for warning in below.warnings:
            LOGGER.warning("%s", warning)
        if isinstance(below.problem, NotFound):
            self._report.missing(slug)
        elif isinstance(below.problem, Forbidden):
            self._report.forbidden(f"{what} ({slug})")
        elif below.problem is not None:
            self._report.failed(f"{slug}: {what} could not be read to the end: {below.problem}.")
            return False
        self._report.read()
        return True

    def _send(self, name: str, row: dict[str, Any], date: datetime, ledger: _Ledger) -> None:
        if name not in self._selected:
            return
        record = self._messages.convert(name, row)
        if record is None:
            return
        self._messages.record(name, record, date)
        replication_key = STREAMS[name].replication_key
        if replication_key is not None:
            ledger.highest[name] = bookmarks.higher(ledger.highest.get(name, ""), record[replication_key], date)

    def _page_done(self, event: PageDone, ledger: _Ledger) -> None:
        self._messages.keyless[WALK[0]] += event.broken
        if event.warning:
            LOGGER.warning("%s", event.warning)
        if not ledger.stuck:
            walk = bookmarks.page_done(ledger.walk, event.this, event.down_to, event.pending, dict(ledger.retry))
            self._checkpoint(event.slug, ledger, walk)

    def _pass_done(self, event: PassDone, ledger: _Ledger) -> bool:
        """Take note of the end of a pass; tells whether the project does not exist."""
        if event.problem is None:
            self._report.read()
            if event.this is not None and event.this.further is not None:
                self._report.further[event.this.further.days] += 1
            if not ledger.stuck and event.this is not None:
                walk = bookmarks.pass_done(ledger.walk, event.this, event.pending, dict(ledger.retry))
                self._checkpoint(event.slug, ledger, walk)
            return False
        if isinstance(event.problem, NotFound):
            self._report.absent(event.slug)
            return True
        if isinstance(event.problem, Forbidden):
            self._report.forbidden(f"the pipelines of {event.slug}")
        else:
            LOGGER.warning("%s: the walk stays open: %s", event.slug, event.problem)
            self._report.failed(f"{event.slug}: the pipelines could not be read to the end: {event.problem}.")
        return False

    def _project_done(self, event: ProjectDone, ledger: _Ledger) -> None:
        self._report.missing_in(event.slug)
        if not ledger.stuck:
            self._checkpoint(event.slug, ledger, replace(ledger.walk, retry=dict(ledger.retry)))

    def _checkpoint(self, slug: str, ledger: _Ledger, walk: Walk) -> None:
        """Vouch for all that has been sent of a project so far."""
        ledger.walk = walk
        if walk == Walk():
            return
        self._state.walks[slug] = walk
        for name, value in ledger.highest.items():
            self._state.note(name, slug, value)
        self._messages.state(self._state)
