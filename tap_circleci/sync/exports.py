"""The streams of exports as they are written: orders and rows, with a state as soon as an export is paid for."""

from __future__ import annotations

from tap_circleci.exports.orders import Batch, Collected, Discarded, Due, Ended, Exports, Made, planned
from tap_circleci.reading.organizations import Organizations
from tap_circleci.reading.paging import owner_of, title_of
from tap_circleci.streams import Stream
from tap_circleci.sync.run import Run, bookmark_key
from tap_circleci.values.rows import Ids
from tap_circleci.values.times import midnight, written


def write_exports(run: Run, organizations: Organizations, stream: Stream) -> None:
    """Write what the exports of all organizations give."""
    wanted = run.selected.schemas[stream.name]
    exports = Exports(stream, wanted, run.client, run.pool, run.wait, run.clock, run.time.now)
    kept = run.state.exports.setdefault(stream.name, {})
    for event in exports.events([_due(run, stream, ids) for ids in organizations.parents(stream)]):
        key = bookmark_key(stream, event.ids)
        if isinstance(event, Made):
            kept[key] = event.export
            run.messages.state(run.state, now=True)  # it is paid for
        elif isinstance(event, Discarded):
            kept.pop(key)
        elif isinstance(event, Batch):
            run.messages.records(stream.name, event.records, event.date or run.time.now())
            run.messages.flush()
        else:
            problem = event.problem if isinstance(event, Ended) else None
            run.outcomes.judge(title_of(stream, event.ids), stream.name, owner_of(event.ids), problem)
            if isinstance(event, Collected):
                kept.pop(key)
                run.state.note(stream.name, key, written(midnight(event.export.end)))
            run.messages.state(run.state)
        run.report.tick()


def _due(run: Run, stream: Stream, ids: Ids) -> Due:
    """What is to be exported of one organization."""
    kept = run.state.exports.get(stream.name, {}).get(bookmark_key(stream, ids))
    return Due(ids, *planned(stream, run.time.now(), run.start, run.bookmark(stream, ids), kept))
