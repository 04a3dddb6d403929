"""Writes the streams that are read from exports: a state as soon as an export is ordered, then its rows."""

from dataclasses import replace

from tap_circleci.exports.orders import Collected, Ended, Event, Exports, Made, Stage
from tap_circleci.exports.plan import Due, due, span_of
from tap_circleci.exports.rows import Batch
from tap_circleci.reading.organizations import Organizations
from tap_circleci.state.state import Export
from tap_circleci.streams import Stream
from tap_circleci.streams.addresses import owner_of, title_of
from tap_circleci.sync.run import Run, bookmark_key
from tap_circleci.values.rows import Ids
from tap_circleci.values.times import iso, midnight, written


def write_exports(run: Run, organizations: Organizations, stream: Stream) -> None:
    """Write the rows of the exports of all organizations."""
    wanted = run.selected.schemas[stream.name]
    exports = Exports(stream, wanted, run.client, run.pool, run.wait, run.clock, run.time.now)
    for event in exports.events([_due(run, stream, ids) for ids in organizations.parents(stream)]):
        _write(run, stream, event)
        run.report.tick()


def _write(run: Run, stream: Stream, event: Event) -> None:
    """Write the rows of an event, keep its effect in the state, and report it."""
    title = title_of(stream, event.ids)
    owner = owner_of(event.ids)
    match event:
        case Made(ids, export):
            _keep(run, stream, ids, export)
            run.messages.state(run.state, now=True)  # CircleCI makes only a few exports an hour
        case Stage(_, export, doing):
            run.report.begin_part(f"{doing} of {owner or title}, {span_of(export)}")
        case Batch(_, records, date):
            run.messages.records(stream.name, records, date or run.time.now())
            run.messages.flush()
        case Collected(ids, export, left_out):
            run.outcomes.judge(title, stream.name, owner, None)
            if left_out:
                run.report.failed(f"{title}, {span_of(export)}: {left_out}.")
            _keep(run, stream, ids, None)
            run.state.note(stream.name, bookmark_key(stream, ids), written(midnight(export.end)))
            run.messages.state(run.state)
        case Ended(_, problem):
            run.outcomes.judge(title, stream.name, owner, problem)
            run.messages.state(run.state)


def _keep(run: Run, stream: Stream, ids: Ids, export: Export | None) -> None:
    """Keep the export that the next run is to read, and the start date of the first sync."""
    key = bookmark_key(stream, ids)
    start = run.mark(stream.name, key).start or run.start
    run.state.keep(stream.name, key, replace(run.state.mark(stream.name, key), export=export, start=start))


def _due(run: Run, stream: Stream, ids: Ids) -> Due:
    """What is due for one organization. An export counts as ordered now if the state does not say when it was."""
    key, now = bookmark_key(stream, ids), run.time.now()
    mark = run.mark(stream.name, key)
    kept = run.state.mark(stream.name, key).export
    if kept is not None:
        kept = replace(kept, asked_at=min(kept.asked_at or now, now))
        _keep(run, stream, ids, kept)
    return due(stream, ids, now, mark.start or run.start, iso(mark.value) if mark.value else None, kept)
