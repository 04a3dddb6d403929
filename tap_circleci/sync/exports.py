"""The streams of exports as they are written: orders and rows, with a state as soon as an export is paid for."""

from __future__ import annotations

from dataclasses import replace

from tap_circleci.exports.orders import Batch, Collected, Discarded, Due, Ended, Exports, Made, planned
from tap_circleci.reading.organizations import Organizations
from tap_circleci.state.state import Export
from tap_circleci.streams import Stream
from tap_circleci.streams.addresses import owner_of, title_of
from tap_circleci.sync.run import Run, bookmark_key
from tap_circleci.values.rows import Ids
from tap_circleci.values.times import iso, midnight, written


def write_exports(run: Run, organizations: Organizations, stream: Stream) -> None:
    """Write what the exports of all organizations give."""
    wanted = run.selected.schemas[stream.name]
    exports = Exports(stream, wanted, run.client, run.pool, run.wait, run.clock, run.time.now)
    for event in exports.events([_due(run, stream, ids) for ids in organizations.parents(stream)]):
        key = bookmark_key(stream, event.ids)
        if isinstance(event, Made):
            _keep(run, stream, key, event.export)
            run.messages.state(run.state, now=True)  # it is paid for
        elif isinstance(event, Discarded):
            _keep(run, stream, key, None)
        elif isinstance(event, Batch):
            run.messages.records(stream.name, event.records, event.date or run.time.now())
            run.messages.flush()
        else:
            problem = event.problem if isinstance(event, Ended) else None
            run.outcomes.judge(title_of(stream, event.ids), stream.name, owner_of(event.ids), problem)
            if isinstance(event, Collected):
                _keep(run, stream, key, None)
                run.state.note(stream.name, key, written(midnight(event.export.end)))
            run.messages.state(run.state)
        run.report.tick()


def _due(run: Run, stream: Stream, ids: Ids) -> Due:
    """What is to be exported of one organization."""
    key = bookmark_key(stream, ids)
    mark = run.mark(stream.name, key)
    bookmark = iso(mark.value) if mark.value else None
    kept = run.state.mark(stream.name, key).export
    return Due(ids, *planned(stream, run.time.now(), mark.start or run.start, bookmark, kept))


def _keep(run: Run, stream: Stream, key: str, export: Export | None) -> None:
    """Keep the export that is to be collected, and the start date of the first sync."""
    start = run.mark(stream.name, key).start or run.start
    run.state.keep(stream.name, key, replace(run.state.mark(stream.name, key), export=export, start=start))
