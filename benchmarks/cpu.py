"""What a record costs the processor, beside singer-python's own way from a row to a line."""

import argparse
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from pathlib import Path
from statistics import median
from typing import Any

import singer
from singer import metadata

from benchmarks import worlds
from benchmarks.tools import NOW, WALK, Remote, config, run, service, slugs, start_up, table, url
from tap_circleci.discover import discover, select
from tap_circleci.output.messages import Messages
from tap_circleci.workers import Clock
from tests.circleci import Server

PIPELINES = 1_000
Row = dict[str, Any]


def cpu(options: argparse.Namespace) -> None:
    """Print what a record costs, then what a sync costs."""
    with service(worlds.various) as remote:
        rows = remote.ask(_rows)
    print("Microseconds from a row to a written line; wanted: well under half of singer-python's.\n")
    with Remote(_nothing) as other:
        found = other.ask(_compared, rows, options.repeat)
    table(["stream", "rows", "tap", "singer-python", "ratio", "rows that differ", "where"], found)

    with service(worlds.plain, PIPELINES) as remote:
        settings = config(remote.ask(url), remote.ask(slugs))
        runs = [run(settings) for _ in range(options.repeat)]
    begin = median(start_up().cpu for _ in range(options.repeat))
    count = runs[0].rows.total()
    used = median(done.cpu for done in runs) - begin
    lines = [
        ["processor seconds to start", begin],
        [f"processor seconds for a first sync of {PIPELINES:,} pipelines beyond that", used],
        [f"per 1,000 of its {count:,} rows", used / count * 1000],
        ["rows a second, with no latency", count / median(done.seconds for done in runs)],
    ]
    table(["what", "figure"], lines)


def _nothing() -> AbstractContextManager[None]:
    return nullcontext()


def _rows(server: Server) -> dict[str, list[Row]]:
    """The rows of the walk as they come over the wire, with their parents' ids."""
    truth = server.world.truth(slugs(server))
    return {stream: truth[stream] for stream in WALK}


def _compared(_: None, rows: dict[str, list[Row]], repeat: int) -> list[list[object]]:
    """A line of the table for each stream."""
    messages = Messages(select(None, ""), Clock())
    found: list[list[object]] = []
    for name in WALK:
        entry = next(entry for entry in discover().streams if entry.tap_stream_id == name)
        schema, marks = entry.schema.to_dict(), metadata.to_map(entry.metadata)
        stock = singer.Transformer()

        def by_singer(row: Row, name: str = name, schema: Row = schema, marks: Any = marks, stock: Any = stock) -> Row:
            record: Row = stock.transform(row, schema, marks)
            singer.write_record(name, record, time_extracted=NOW)
            return record

        def by_tap(row: Row, name: str = name) -> Row:
            record: Row = messages.convert(name, row) or {}
            messages.record(name, record, NOW)
            messages.flush()
            return record

        ours, theirs = _cost(by_tap, rows[name], repeat), _cost(by_singer, rows[name], repeat)
        with _silence():
            differing = [_differing(by_tap(row), by_singer(row)) for row in rows[name]]
        places = Counter(place for one in differing for place in one)
        where = ", ".join(sorted(places)) or "nowhere"
        found.append([name, len(rows[name]), ours, theirs, ours / theirs, sum(map(bool, differing)), where])
    return found


def _cost(write: Callable[[Row], Row], rows: list[Row], repeat: int) -> float:
    """Microseconds a row, the median of some rounds."""
    rounds = []
    with _silence():
        for _ in range(repeat):
            began = time.process_time()
            for row in rows:
                write(row)
            rounds.append(time.process_time() - began)
    return median(rounds) / len(rows) * 1e6


def _silence() -> AbstractContextManager[object]:
    return redirect_stdout(Path(os.devnull).open("w"))


def _differing(ours: Row, theirs: Row) -> list[str]:
    """Where two records differ; that we write null for what a row lacks makes no difference."""
    one, other = dict(_leaves(ours)), dict(_leaves(theirs))
    return [".".join(path) for path in one.keys() | other.keys() if one.get(path) != other.get(path)]


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if parts is None:
        yield path, value
        return
    for name, part in parts:
        yield from _leaves(part, (*path, str(name)))
