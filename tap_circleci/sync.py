"""The one loop that joins what is read with what is written: stream after stream, with a state after each unit."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby
from typing import Any

from tap_circleci.client import Client, who_am_i
from tap_circleci.config import VERSION, Config
from tap_circleci.discover import Selected
from tap_circleci.errors import BadInput, NotFound, PipeClosed, TapError
from tap_circleci.exports import Batch, Collected, Discarded, Due, Ended, Exports, Made, planned
from tap_circleci.messages import Messages
from tap_circleci.organizations import Listing, Organizations
from tap_circleci.outcomes import Outcomes
from tap_circleci.paging import Ids, title_of
from tap_circleci.report import Report
from tap_circleci.seen import MOST_RETRIES, Seen
from tap_circleci.service_time import ServiceTime
from tap_circleci.slugs import normalise
from tap_circleci.state import State
from tap_circleci.streams import ROOT, STREAMS, WALK, WALK_NAMES, Stream
from tap_circleci.text import first_few
from tap_circleci.times import CLOCK_TOLERANCE, EPOCH, first_whole_day, iso, midnight, whole_seconds, written
from tap_circleci.walk import Branch, ListEnded, Node, PageDone, Pipeline, ProjectWalk, Walker
from tap_circleci.workers import Clock, Pool, result

LOGGER = logging.getLogger(__name__)

FIRST_SYNC = timedelta(days=365)
"""How far back a first sync goes when the user names no date."""
OVERLAP = timedelta(minutes=10)
"""How far before a bookmark a list is read again: its pages are read one after the other, and clocks differ."""
CLOCK_BEHIND = timedelta(minutes=30)
"""How far the clock of one answer may be behind that of an earlier run, so that a state is not refused for it."""


def sync(config: Config, selected: Selected, state: State, clock: Clock) -> list[str]:
    """Send everything that is selected and new; gives a sentence for each thing that had to be left out.

    Raises `Stopped`. However the run ends, what was finished stands in the last STATE.
    """
    client = Client(config, clock)
    pool = Pool(config.max_workers)
    messages = Messages(selected, clock)
    report = Report(clock, messages, client)
    try:
        LOGGER.info("tap-circleci %s: streams %s", VERSION, ", ".join(selected.schemas) or "none")
        report.begin_part("asking whose token it is")
        me = result(pool.submit((), partial(who_am_i, client)), clock, report.tick)
        time = ServiceTime(me.date, clock)
        _Run(config, selected, state, client, pool, clock, time, messages, report).everything()
    except TapError as error:
        report.failures += error.args
    finally:
        pool.close()
        client.close()
        report.finish()
    return report.failures


@dataclass
class _Project:
    """What the walk of one project has come to.

    `seen` is what the state vouches for, `retries` the pipelines below which something failed, by stream, `highest` the
    highest replication key values sent. `is_stuck`: more has failed than can be named, so the state stays where it is.
    """

    seen: dict[str, Seen]
    retries: dict[str, dict[str, None]]
    highest: dict[str, str] = field(default_factory=dict)
    is_stuck: bool = False


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
        time: ServiceTime,
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
        self._outcomes = Outcomes(report, client)
        self._organizations = Organizations(config, client, pool, self._wait, self._outcomes, self._window)
        self._time = time
        self._begun = time.now()
        # By a clock that has come to it for certain: one that is years ahead would leave everything out.
        self._start = config.start_date or (time.certain(None, ()) or self._begun) - FIRST_SYNC

    def everything(self) -> None:
        """All selected streams, beginning with the one that an earlier run was at."""
        names = list(dict.fromkeys(ROOT.name if name in WALK_NAMES else name for name in self._selected.schemas))
        if not self._time.is_told:
            LOGGER.warning("CircleCI's answers do not tell the time: what is new is judged by the rows alone.")
        self._refuse_the_future()
        if not names:
            LOGGER.warning("No stream is selected.")
        at = self._state.currently_syncing
        turn = names.index(at) if at in names else 0
        try:
            for is_walk, group in groupby(names[turn:] + names[:turn], key=lambda name: name == ROOT.name):
                if is_walk:
                    self._walk([stream.name for stream in WALK if stream.name in self._selected])
                else:
                    self._streams([STREAMS[name] for name in group])
            self._state.currently_syncing = None
        except PipeClosed:
            raise
        except BaseException:
            self._messages.state(self._state, now=True)
            raise
        self._messages.state(self._state, now=True)

    def _refuse_the_future(self) -> None:
        """Raise `BadInput` for a state or a start date that CircleCI's clock has not come to."""
        if not self._time.is_told:
            return
        now = self._begun
        latest = self._state.latest()
        marks = [("start_date", self._config.start_date)] if self._config.start_date else []
        marks += [(f"The state's {latest[0]}", latest[1])] if latest else []
        for name, moment in marks:
            if moment > now + CLOCK_BEHIND:
                raise BadInput(
                    f"{name} is {whole_seconds(moment)}, in the future: CircleCI's clock says {whole_seconds(now)}."
                )

    def _wait(self, future: Future[Any]) -> Any:
        return result(future, self._clock, self._report.tick)

    # The organization-wide streams

    def _streams(self, streams: list[Stream]) -> None:
        """All rows of organization-wide streams, new ones only where they have a replication key."""
        self._report.begin_part(f"reading {streams[0].name}")
        listings = self._organizations.read(stream for stream in streams if not stream.is_export)
        listing = next(listings, None)
        for stream in streams:
            self._state.currently_syncing = stream.name
            self._report.begin_part(f"reading {stream.name}")
            self._messages.schema(stream.name)
            if stream.is_export:
                self._exports(stream)
            version = None
            if self._config.activate_version and stream.replication_key is None:
                version = int(self._begun.timestamp() * 1000)
            while listing is not None and listing.stream is stream:
                self._listing(listing, version)
                listing = next(listings, None)
            if version is not None and self._organizations.is_whole(stream):
                self._messages.activate(stream.name, version)

    def _listing(self, listing: Listing, version: int | None) -> None:
        """The rows of one stream below one parent."""
        stream = listing.stream
        self._messages.keyless[stream.name] += listing.broken
        key = _bookmark_key(stream, listing.ids)
        since = written(self._since(stream, listing.ids))
        date = listing.date or self._time.now()
        highest = ""
        for row in listing.rows:
            record = self._messages.convert(stream.name, row)
            if record is None:
                continue
            value = (record[stream.replication_key] or "") if stream.replication_key else ""
            if _is_moment(value) and value < since:
                if key not in self._state.bookmarks.get(stream.name, {}):
                    self._report.older[stream.name] += 1
                continue
            self._messages.record(stream.name, record, date, version)
            highest = self._higher(highest, value, date)
        if listing.is_whole:  # the rows that could not be read may be older
            self._state.note(stream.name, key, highest)
        self._messages.state(self._state)
        self._report.tick()

    def _since(self, stream: Stream, ids: Ids) -> datetime:
        """The replication key value from which on rows are sent: somewhat before the bookmark, or the start date."""
        bookmark = self._bookmark(stream, ids)
        return self._start if bookmark is None else bookmark - max(stream.look_back, OVERLAP)

    def _bookmark(self, stream: Stream, ids: Ids) -> datetime | None:
        """The bookmark of a list; None at first, and where the catalog wants the whole table in each run."""
        value = self._state.bookmarks.get(stream.name, {}).get(_bookmark_key(stream, ids))
        return None if value is None or stream.name in self._selected.full_table else iso(value)

    def _window(self, stream: Stream, ids: Ids) -> Mapping[str, str]:
        """The parameters that limit a list to what is new, where it can be limited."""
        if stream.from_param is None or stream.to_param is None:
            return {}
        now, since = self._time.now(), self._since(stream, ids)
        if stream.history is not None:
            since = max(since, first_whole_day(now, stream.history))
        return {stream.from_param: whole_seconds(since), stream.to_param: whole_seconds(now)}

    def _higher(self, highest: str, value: str | None, date: datetime) -> str:
        """The higher of two replication key values, "" for none.

        A `value` that lies in the service's future, by an answer of that `date`, or before 1970 is a mistake of the
        data; it must not hide the rows to come.
        """
        if not value or not _is_moment(value) or value > written(date + CLOCK_TOLERANCE):
            return highest
        return max(highest, value)

    # What the service exports into files

    def _exports(self, stream: Stream) -> None:
        """The rows of the days that have ended since the last sync, of all organizations."""
        wanted = self._selected.schemas[stream.name]
        exports = Exports(stream, wanted, self._client, self._pool, self._wait, self._clock, self._time.now)
        kept = self._state.exports.setdefault(stream.name, {})
        for event in exports.events([self._due(stream, ids) for ids in self._organizations.parents(stream)]):
            key = _bookmark_key(stream, event.ids)
            if isinstance(event, Made):
                kept[key] = event.export
                self._messages.state(self._state, now=True)  # it is paid for
            elif isinstance(event, Discarded):
                kept.pop(key)
            elif isinstance(event, Batch):
                self._messages.records(stream.name, event.records, event.date or self._time.now())
                self._messages.flush()
            else:
                problem = event.problem if isinstance(event, Ended) else None
                self._outcomes.judge(title_of(stream, event.ids), stream.name, problem)
                if isinstance(event, Collected):
                    kept.pop(key)
                    self._state.note(stream.name, key, written(midnight(event.export.end)))
                self._messages.state(self._state)
            self._report.tick()

    def _due(self, stream: Stream, ids: Ids) -> Due:
        """What is to be exported of one organization."""
        kept = self._state.exports.get(stream.name, {}).get(_bookmark_key(stream, ids))
        return Due(ids, *planned(stream, self._time.now(), self._start, self._bookmark(stream, ids), kept))

    # The walk through the pipelines of the projects and what lies below them

    def _walk(self, selected: list[str]) -> None:
        """All that is new or due in the projects that the user names."""
        self._state.currently_syncing = ROOT.name
        for name in selected:
            self._messages.schema(name)
        self._report.begin_part("finding the projects")
        slugs = self._organizations.slugs()
        self._announce(slugs)
        walker = Walker(self._config, self._client, self._pool, self._wait, self._time, self._start, selected)
        seen = {
            slug: {name: one for name, one in streams.items() if name not in self._selected.full_table}
            for slug, streams in self._state.seen.items()
        }
        missing = number = 0
        project: _Project | None = None
        for event in walker.events(slugs, seen):
            if project is None:
                slug, number = slugs[number], number + 1
                self._report.begin_part(
                    f"reading project {number} of {len(slugs)}", f"; {slug}", (number - 1) / len(slugs)
                )
                before = seen.get(slug, {})
                project = _Project(dict(before), {name: dict.fromkeys(one.retry) for name, one in before.items()})
            if isinstance(event, Pipeline):
                self._pipeline(event, project)
            elif isinstance(event, PageDone):
                self._page_done(event, project)
                back_to = f" back to {event.down_to:%Y-%m-%d %H:%M}" if event.down_to else ""
                share = (number - 1 + event.share) / len(slugs)
                self._report.progress(f"; {event.walk.slug}{back_to}", share)
            elif isinstance(event, ListEnded):
                missing += self._list_ended(event)
            else:
                self._project_done(event.slug, project)
                project = None
            self._messages.flush()
            self._report.tick()
        if slugs and missing == len(slugs):
            self._outcomes.failed("None of the projects in project_slugs exists, or the token sees none of them.")

    def _announce(self, slugs: list[str]) -> None:
        """Say what is walked, and since when."""
        steps = {slug: [one.steps for one in self._state.seen.get(slug, {}).values() if one.steps] for slug in slugs}
        first = [slug for slug in slugs if not steps[slug]]
        cut = [slug for slug in slugs if any(len(one) > 1 or one[-1].since is not None for one in steps[slug])]
        known = [min(one[0].as_of for one in steps[slug]) for slug in slugs if steps[slug]]
        LOGGER.info("Projects: %d", len(slugs))
        if first:
            LOGGER.info("For the first time, from %s on: %s", whole_seconds(self._start), first_few(first))
        if cut:
            LOGGER.info("An earlier run was cut off and is taken up: %s", first_few(cut))
        if known:
            LOGGER.info("Read before, so only what is new or due since %s: %d", whole_seconds(min(known)), len(known))

    def _pipeline(self, event: Pipeline, project: _Project) -> None:
        """A pipeline and what lies below it, depth first."""
        name = str(event.node.row.get("id"))
        failed = self._node(ROOT.name, event.node, event.date or self._time.now(), event.walk, project, set())
        for stream in event.asked:
            retry = project.retries.setdefault(stream, {})
            retry.pop(name, None)
            if stream in failed:
                retry[name] = None
        failures = len({name for retry in project.retries.values() for name in retry})
        if failures > MOST_RETRIES and not project.is_stuck:
            project.is_stuck = True
            LOGGER.warning(
                "%s: more than %d pipelines could not be read whole; from here on the next run reads it again",
                event.walk.slug,
                MOST_RETRIES,
            )

    def _node(
        self,
        stream: str,
        node: Node,
        date: datetime,
        walk: ProjectWalk,
        project: _Project,
        done: set[Future[Branch]],
    ) -> frozenset[str]:
        """Send a row, if it is wanted, and the lists below it that are not `done`; gives the streams that lack rows."""
        failed: frozenset[str] = frozenset()
        if node.is_wanted:
            self._send(stream, node.row, date, project)
        for future in node.lists:
            branch: Branch = self._wait(future)
            if future in done:
                continue
            done.add(future)
            if not self._outcomes.judge(f"{walk.slug}: {branch.name}", walk.slug, branch.rows.problem):
                failed |= branch.wanted
            if branch.stream.name in self._selected:
                self._messages.keyless[branch.stream.name] += branch.rows.broken
            for child in branch.nodes:
                failed |= self._node(branch.stream.name, child, branch.rows.date or date, walk, project, done)
        return failed

    def _send(self, name: str, row: dict[str, Any], date: datetime, project: _Project) -> None:
        record = self._messages.convert(name, row)
        if record is None:
            return
        self._messages.record(name, record, date)
        replication_key = STREAMS[name].replication_key
        if replication_key is not None:
            project.highest[name] = self._higher(project.highest.get(name, ""), record[replication_key], date)

    def _page_done(self, event: PageDone, project: _Project) -> None:
        if ROOT.name in self._selected:
            self._messages.keyless[ROOT.name] += event.broken
        if project.is_stuck or (event.down_to is None and not event.is_last):
            return
        down_to = None if event.is_last else event.down_to
        for name, plan in event.walk.plans.items():
            pending = event.pending if name == ROOT.name else None
            project.seen[name] = plan.after(down_to, pending, tuple(project.retries.get(name, ())))
        self._checkpoint(event.walk.slug, project)

    def _list_ended(self, event: ListEnded) -> bool:
        """Take note of the end of a project's list; tells whether the project does not exist."""
        if event.further is not None:
            self._report.looked_back(event.further.days)
        if isinstance(event.problem, NotFound):
            self._report.project_not_found(event.slug)
            return True
        self._outcomes.judge(f"{event.slug}: the {ROOT.name}", event.slug, event.problem)
        return False

    def _project_done(self, slug: str, project: _Project) -> None:
        self._report.log_not_found(slug)
        if project.is_stuck:
            return
        for name, retry in project.retries.items():
            before = project.seen.get(name, Seen())
            project.seen[name] = replace(before, retry=tuple(retry))
        self._checkpoint(slug, project)

    def _checkpoint(self, slug: str, project: _Project) -> None:
        """Vouch for all that has been sent of a project so far."""
        kept = self._state.seen.setdefault(slug, {})
        kept |= {name: one for name, one in project.seen.items() if one != Seen() or name in kept}
        if not kept:
            del self._state.seen[slug]
        for name, value in project.highest.items():
            self._state.note(name, slug, value)
        self._messages.state(self._state)


def _bookmark_key(stream: Stream, ids: Ids) -> str:
    """What a list's bookmark stands under: the ids that tell it from the stream's other lists."""
    names = [ids[name] for name in stream.address if name in ids]
    return "/".join([normalise(names[0]) or names[0], *names[1:]]) if names else ""


def _is_moment(value: str) -> bool:
    """Whether a replication key value can be a time of a change: services in Go write year 1 where there is none."""
    return value >= written(EPOCH)
