"""The only writer to standard output: SCHEMA, RECORD, STATE and ACTIVATE_VERSION, always whole lines."""

import io
import json
import logging
import os
import select
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Any

import singer

from tap_circleci.discover import Selected, schema_of
from tap_circleci.errors import PipeClosed
from tap_circleci.output.records import Path, Records, converter
from tap_circleci.state.state import State
from tap_circleci.streams import STREAMS, Stream
from tap_circleci.values.rows import Row, value_of
from tap_circleci.values.slugs import usable_id
from tap_circleci.values.times import written
from tap_circleci.workers import Clock

LOGGER = logging.getLogger(__name__)

PIPE_BUF: int = getattr(select, "PIPE_BUF", 512)
"""Bytes that a pipe accepts as a whole or not at all; the minimum of POSIX if the system does not say."""
FULL_PIPE_SECONDS = 0.01
"""Seconds between two attempts to write to a full pipe that does not block."""
STATE_SECONDS = 1.0
"""Seconds between two STATE messages, at least."""
MAX_STATE_SECONDS = 60.0
"""Seconds after which a changed state is written, whatever its size."""
STATE_SHARE = 0.04
"""The share of all bytes that STATE messages may have before that."""


class Messages:
    """Writes messages for the selected streams; used by one thread.

    `rows` counts the RECORDs by stream, `unfit` the fields that were dropped, `keyless` the rows without a usable key.
    """

    def __init__(self, selected: Selected, clock: Clock) -> None:
        self._selected = selected
        self._clock = clock
        self._converters = {
            name: converter(
                schema_of(name),
                schema,
                STREAMS[name].row.secret_urls,
                partial(self._misfit, name),
                left_out=STREAMS[name].row.left_out,
            )
            for name, schema in selected.schemas.items()
            if not STREAMS[name].is_export
        }
        self._unwritten: list[str] = []
        self._last_state: dict[str, Any] | None = None
        self._state_at = clock.now()
        self._bytes = self._state_bytes = 0
        self._state_size = 0  # of the last state that was serialized
        self.rows: Counter[str] = Counter(dict.fromkeys(selected.schemas, 0))
        self.keyless: Counter[str] = Counter()
        self.unfit: Counter[tuple[str, Path, str]] = Counter()

    def schema(self, name: str) -> None:
        """Announce a stream."""
        stream = STREAMS[name]
        bookmarks = [stream.replication_key] if stream.replication_key else None
        self._add(
            singer.SchemaMessage(
                stream=name,
                schema=self._selected.schemas[name],
                key_properties=list(stream.key),
                bookmark_properties=bookmarks,
            )
        )

    def convert(self, name: str, row: Row) -> Row | None:
        """The record for a row, or None if its key is not usable; such rows are counted."""
        record: Row = self._converters[name](row)
        if all(_is_usable(STREAMS[name], column, row, record) for column in STREAMS[name].key):
            return record
        self.keyless[name] += 1
        return None

    def record(self, name: str, record: Row, extracted: datetime, version: int | None = None) -> None:
        """Write a record that was read at that time."""
        message: dict[str, Any] = {"type": "RECORD", "stream": name, "record": record}
        if version is not None:
            message["version"] = version
        # The same text as singer's, in half of the time; most messages of a run are records.
        message["time_extracted"] = written(extracted)
        self._unwritten.append(json.dumps(message, allow_nan=False) + "\n")
        self.rows[name] += 1

    def records(self, name: str, records: Records, extracted: datetime) -> None:
        """Write records that were read at that time, and report the fields that did not fit."""
        for (path, problem), times in records.misfits.items():
            self._misfit(name, path, problem, times)
        head = f'{{"type": "RECORD", "stream": "{name}", "record": {{'
        tail = f'}}, "time_extracted": "{written(extracted)}"}}\n'
        self._unwritten += [head, f"{tail}{head}".join(records.fields), tail]  # one string: each list item costs
        self.rows[name] += len(records.fields)

    def activate(self, name: str, version: int) -> None:
        """Make the target drop the rows of other versions."""
        self._add(singer.ActivateVersionMessage(name, version))

    def state(self, state: State, *, now: bool = False) -> None:
        """Write the state if it has changed and the last one is old enough, or in any case `now`.

        A large state is written less often, so that it remains a small part of the output.
        """
        self.flush()
        moment = self._clock.now()
        since = moment - self._state_at
        is_due = now or since >= MAX_STATE_SECONDS
        if not is_due and (since < STATE_SECONDS or not self._has_room(self._state_size)):
            return
        value = state.as_json()
        line = singer.messages.format_message(singer.StateMessage(value)) + "\n"
        self._state_size = len(line)
        if now or (value != self._last_state and (is_due or self._has_room(len(line)))):
            self._unwritten.append(line)
            self.flush()
            self._state_bytes += len(line)
            self._last_state, self._state_at = value, moment

    def _has_room(self, size: int) -> bool:
        """Whether a state of this size leaves STATE messages a small part of the output."""
        return self._state_bytes + size <= STATE_SHARE * (self._bytes + size)

    def flush(self) -> None:
        """Write the messages that were added. Called after each unit of work: a write for each line would cost more
        than the line, since the thread releases the interpreter lock in every write."""
        lines = "".join(self._unwritten)
        self._unwritten = [lines]  # until they are written: without memory for that, no later state may claim them
        if lines:
            _put(lines)
            self._bytes += len(lines)
        self._unwritten = []

    def _add(self, message: singer.messages.Message) -> None:
        self._unwritten.append(singer.messages.format_message(message) + "\n")

    def _misfit(self, name: str, path: Path, problem: str, times: int = 1) -> None:
        """Count a field that does not fit; the first one with this problem has a line."""
        if not self.unfit[name, path, problem]:
            LOGGER.warning("%s: dropped the field %s (%s)", name, ".".join(path), problem)
        self.unfit[name, path, problem] += times


def _is_usable(stream: Stream, column: str, row: Row, record: Row) -> bool:
    """Whether a row has a text or a number for this column of its key, and its record has it, too.

    It must not be empty, except in `blank_columns`.
    """
    given, value = value_of(row, column), record[column]
    if value is None or isinstance(given, bool) or not isinstance(given, (str, int)):
        return False
    if column in stream.row.blank_columns:
        return True
    if column in stream.row.identity and column != "id":  # a name, which is never part of a path
        return str(value).strip() != ""
    return usable_id(value) is not None


def print_json(value: Any) -> None:
    """Write a catalog or an answer that people read."""
    _put(json.dumps(value, indent=2) + "\n")


def _put(lines: str) -> None:
    """Write whole lines to standard output. Raises `PipeClosed` for a closed pipe or a full disk."""
    if sys.stdout is None:
        raise PipeClosed("Standard output is closed.")
    try:
        for block in _blocks(lines.encode()):
            _write(block)
    except OSError as error:
        if isinstance(error, ConnectionError):  # BrokenPipeError is one
            raise PipeClosed("The target ended and no longer reads the output; its own log says why.") from None
        raise PipeClosed(f"Standard output cannot be written: {error.strerror}.") from None


def _blocks(lines: bytes) -> Iterator[bytes]:
    """The lines in blocks that a pipe accepts as a whole or not at all, except for longer lines. So if a run ends while
    its target does not read, no part of a line remains in the pipe."""
    start = 0
    while start < len(lines):
        end = lines.rfind(b"\n", start, start + PIPE_BUF) + 1 or lines.index(b"\n", start) + 1
        yield lines[start:end]
        start = end


def _write(block: bytes) -> None:
    """Write a whole block to standard output without Python's buffering, which may lose the rest of an incomplete
    write."""
    try:
        output = sys.stdout.fileno()
    except io.UnsupportedOperation:  # another Python object has replaced it
        sys.stdout.write(block.decode())
        return
    while block:
        try:
            block = block[os.write(output, block) :]
        except BlockingIOError:
            time.sleep(FULL_PIPE_SECONDS)
