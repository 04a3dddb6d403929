"""Writes the organization-wide streams: stream after stream, with a state after each parent."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from tap_circleci.reading.organizations import Listing, Organizations
from tap_circleci.reading.paging import Extent
from tap_circleci.state.state import Mark
from tap_circleci.streams import Stream
from tap_circleci.sync.exports import write_exports
from tap_circleci.sync.run import Run, bookmark_key, higher, is_moment
from tap_circleci.values.rows import Ids
from tap_circleci.values.times import first_whole_day, iso, midnight, moments, whole_seconds, written
from tap_circleci.walk.builds import is_known, next_build
from tap_circleci.walk.seen import LATE

DELAY = timedelta(minutes=10)
"""How long after its turn a request may leave."""


def write_streams(run: Run, organizations: Organizations, streams: Sequence[Stream]) -> None:
    """Write the rows of organization-wide streams: the new ones of streams with a replication key, else all."""
    run.report.begin_part(f"reading {streams[0].name}")
    listings = organizations.read(stream for stream in streams if not stream.is_export)
    listing = next(listings, None)
    for stream in streams:
        run.state.currently_syncing = stream.name
        run.report.begin_part(f"reading {stream.name}")
        run.messages.schema(stream.name)
        if stream.is_export:
            write_exports(run, organizations, stream)
        version = run.version if stream.replication_key is None else None
        while listing is not None and listing.stream is stream:
            _write_listing(run, listing, version)
            listing = next(listings, None)
        if version is not None and organizations.is_whole(stream):
            run.prove_token()  # "no such list" may be a 404
            run.messages.activate(stream.name, version)


def _write_listing(run: Run, listing: Listing, version: int | None) -> None:
    """Write the rows of one stream below one parent."""
    stream = listing.stream
    run.messages.keyless[stream.name] += listing.broken
    key = bookmark_key(stream, listing.ids)
    mark = run.mark(stream.name, key)
    since = written(_since(run, stream, mark))
    date = listing.date or run.time.now()
    highest = ""
    for row in listing.rows:
        run.clock.check()
        record = run.messages.convert(stream.name, row)
        if record is None:
            continue
        value = (record[stream.replication_key] or "") if stream.replication_key else ""
        if is_moment(value) and value < since and not stream.timing.by_number:
            if run.state.mark(stream.name, key) == Mark():
                run.report.older[stream.name] += 1
            continue
        run.messages.record(stream.name, record, date, version)
        highest = higher(highest, value, date)
    if listing.is_whole:  # rows that were not read may be older than the highest value
        _keep(run, listing, key, highest, date)
    run.messages.state(run.state)
    run.report.tick()


def _keep(run: Run, listing: Listing, key: str, highest: str, date: datetime) -> None:
    """Keep the highest replication key value sent and the start date of the first sync, where the stream has them.

    `date` is the time at which the list was read.
    """
    stream = listing.stream
    if stream.replication_key is None:
        return
    before = run.state.mark(stream.name, key)
    start = run.mark(stream.name, key).start or run.start
    number: int | None = None
    if stream.timing.by_number:
        queued = moments(row.get(stream.replication_key) for row in listing.rows)
        number = next_build(listing.rows, run.time.certain(listing.date, queued) or date, before.next_build)
    run.state.keep(stream.name, key, replace(before, value=max(before.value, highest), start=start, next_build=number))


def _since(run: Run, stream: Stream, mark: Mark) -> datetime:
    """The replication key value from which rows are sent: the start date, or somewhat before the highest one sent.

    The service may show a change late, and pages are read one after another.
    """
    since = mark.start or run.start
    if mark.value:
        since = iso(mark.value) - max(stream.timing.look_back, LATE)
    return midnight(since) if stream.timing.whole_days else since


def extent_of(run: Run, stream: Stream, ids: Ids) -> Extent:
    """How much of a list is to be read: only what is new if the list can be limited or is sorted newest first."""
    mark = run.mark(stream.name, bookmark_key(stream, ids))
    since = _since(run, stream, mark)
    if stream.timing.by_number:
        return Extent({}, partial(is_known, mark.next_build, since))
    return Extent(_date_range(run, stream, since))


def _date_range(run: Run, stream: Stream, since: datetime) -> Mapping[str, str]:
    """The parameters that limit a list to rows between a time and now."""
    source = stream.source
    if source.from_param is None:
        return {}
    now = run.time.now()
    if stream.timing.history is not None:
        # As of a little later: midnight may come before the request leaves.
        since = max(since, first_whole_day(now + DELAY, stream.timing.history))
    since = min(since, now)  # a start date may be some minutes ahead of the service's clock
    until = {source.to_param: whole_seconds(now)} if source.to_param else {}
    return {source.from_param: whole_seconds(since), **until}
