"""The rows of an export that is ready: its files, one after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any

from tap_circleci.client import Client
from tap_circleci.discover import schema_of
from tap_circleci.errors import Damaged, LinkExpired, LocalError, Unreadable
from tap_circleci.exports.answers import Ready, StatusAnswer, Unknown, status_of
from tap_circleci.exports.files import LeftOut, tables
from tap_circleci.exports.keys import Equals, Keys
from tap_circleci.output.records import Records, Table, table_converter
from tap_circleci.state.state import Export
from tap_circleci.streams import Stream
from tap_circleci.values.rows import Ids
from tap_circleci.workers import Clock

FRESH_ADDRESSES = 5
"""How often new addresses are fetched without reading another file."""
WAITS = (0.0, 5.0, 10.0, 20.0)
"""Seconds before new addresses are fetched: none at first, since addresses may expire during a large file."""
BLOCKS_AT_ONCE = 8
"""Blocks of a file that a thread passes on at once: half a megabyte, since each transfer costs time."""

InPool = Callable[[Callable[[], Any]], Any]
"""Gives the result of work that a thread of the pool does, so that this thread can be stopped."""


@dataclass(frozen=True)
class Batch:
    """Records of an export, and when CircleCI said that it was ready, if the answer had a date."""

    ids: Ids
    records: Records
    date: datetime | None


@dataclass(frozen=True)
class Whole:
    """All files were read; some rows may have been skipped."""

    left_out: LeftOut


@dataclass(frozen=True)
class Broken:
    """A file is complete but cannot be read, for this reason."""

    reason: str


@dataclass(frozen=True)
class _Done:
    """The files that were read completely, their rows without a job, and the rows that were skipped."""

    names: tuple[str, ...] = ()
    equals: Equals = field(default_factory=Counter)
    left_out: LeftOut = field(default_factory=LeftOut)

    def with_file(self, name: str, equals: Equals, left_out: LeftOut) -> _Done:
        """The same with one more file."""
        return _Done((*self.names, name), equals, self.left_out + left_out)


class ExportRows:
    """Reads the rows of exports of one stream, with the fields of the schema that is `wanted`; in the thread that
    writes."""

    def __init__(
        self, stream: Stream, wanted: Mapping[str, Any], client: Client, in_pool: InPool, clock: Clock
    ) -> None:
        schema = schema_of(stream.name)
        self._stream = stream
        self._client = client
        self._in_pool = in_pool
        self._clock = clock
        self._columns = schema["properties"]
        self._keys = Keys(stream, self._columns)
        self._convert = table_converter(schema, wanted)

    def read(self, ids: Ids, export: Export, ready: Ready) -> Generator[Batch, None, Whole | Broken | StatusAnswer]:
        """Give the rows of all files, and at the end the outcome.

        If the address of a file has expired, the file is read again from its beginning at a new one: its rows come
        again with the same keys.
        """
        done, furthest, tries = _Done(), 0, 0
        while left := _unread(ready, done):
            name, url = left[0]
            place = f"file {len(done.names) + 1}"
            try:
                equals, left_out = yield from self._file(url, ids, export, ready.date, done.equals)
            except LinkExpired as expired:
                tries += 1
                answer = self._fresh(ids, export, tries, str(expired))
                if not isinstance(answer, Ready):
                    return answer
                ready, done = answer, _still_done(done, answer)
                continue
            except Damaged as damaged:
                return Broken(f"{place} cannot be read: {damaged}")
            except LocalError as problem:
                return Unknown(problem)
            done = done.with_file(name, equals, left_out.of(place))
            if len(done.names) > furthest:  # new addresses may have other names, so the same file may come again
                furthest, tries = len(done.names), 0
        return Whole(done.left_out)

    def _file(
        self, url: str, ids: Ids, export: Export, date: datetime | None, equals: Equals
    ) -> Generator[Batch, None, tuple[Equals, LeftOut]]:
        """Give the rows of one file, and at the end all rows without a job so far and the skipped rows."""
        equals, left_out = equals.copy(), LeftOut()
        for part in tables(self._blocks(url), self._columns):
            match part:
                case LeftOut():
                    left_out += part
                case Table():
                    table, own = self._keys.of(part, ids, export.start, equals)
                    equals.update(own)
                    yield Batch(ids, self._convert(table), date)
        return equals, left_out

    def _blocks(self, url: str) -> Iterator[bytes]:
        """The file at that address, read and decompressed by threads of the pool. This thread converts its rows: more
        threads would not speed that up, since it is all work of the processor."""
        found = self._client.download(url, self._stream.name)
        while some := self._in_pool(lambda: list(islice(found, BLOCKS_AT_ONCE))):
            yield from some

    def _fresh(self, ids: Ids, export: Export, tries: int, problem: str) -> StatusAnswer:
        """CircleCI's answer to a request for new addresses; after too many `tries` the `problem`."""
        if tries == FRESH_ADDRESSES:
            return Unknown(Unreadable(problem))
        self._in_pool(partial(self._clock.wait, WAITS[tries - 1]))
        answer: StatusAnswer = self._in_pool(partial(status_of, self._client, self._stream, ids, export))
        is_empty = isinstance(answer, Ready) and not answer.urls
        return Unknown(Unreadable("CircleCI no longer has an address for a file")) if is_empty else answer


def _unread(ready: Ready, done: _Done) -> list[tuple[str, str]]:
    """The names and addresses of the files that have not been read."""
    return [(name, url) for name, url in zip(_names(ready.urls), ready.urls, strict=True) if name not in done.names]


def _still_done(done: _Done, ready: Ready) -> _Done:
    """The part of `done` that is valid for the files at these addresses: nothing if they are other files."""
    return done if set(done.names) <= set(_names(ready.urls)) else _Done()


def _names(urls: Sequence[str]) -> tuple[str, ...]:
    """The names of the files: their addresses without the signatures."""
    names = tuple(url.partition("?")[0] for url in urls)
    return names if len(set(names)) == len(names) else tuple(urls)
