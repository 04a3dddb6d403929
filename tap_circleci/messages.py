"""The only writer to standard output: SCHEMA, RECORD, STATE and ACTIVATE_VERSION, always whole lines."""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import singer

from tap_circleci.bookmarks import State
from tap_circleci.concurrency import Clock
from tap_circleci.discover import Selected, schema_of
from tap_circleci.errors import PipeClosed
from tap_circleci.paging import Row, usable_id
from tap_circleci.records import Path, converter
from tap_circleci.streams import STREAMS

LOGGER = logging.getLogger()

STATE_EVERY = 1.0
"""Seconds between two STATE messages, at least."""


class Messages:
    """Writes messages for the selected streams; used by one thread.

    `rows` counts the RECORDs by stream, `unfit` the values and fields that did not fit, `keyless` the rows without a
    usable key.
    """

    def __init__(self, selected: Selected, clock: Clock) -> None:
        self._selected = selected
        self._clock = clock
        self._converters = {
            name: converter(schema_of(name), schema, STREAMS[name].secrets, self._reporter(name))
            for name, schema in selected.schemas.items()
        }
        self._last_state: dict[str, Any] | None = None
        self._state_at = clock.now()
        self.rows: Counter[str] = Counter(dict.fromkeys(selected.schemas, 0))
        self.keyless: Counter[str] = Counter()
        self.unfit: Counter[tuple[str, Path, str]] = Counter()

    def schema(self, name: str) -> None:
        """Announce a stream."""
        stream = STREAMS[name]
        bookmarks = [stream.replication_key] if stream.replication_key else None
        _write(
            singer.SchemaMessage(
                stream=name,
                schema=self._selected.schemas[name],
                key_properties=list(stream.key),
                bookmark_properties=bookmarks,
            )
        )

    def convert(self, name: str, row: Row) -> Row | None:
        """The record that a row makes, or None (and counted) where its key is not usable."""
        record: Row = self._converters[name](row)
        if all(usable_id(record[column]) for column in STREAMS[name].key):
            return record
        self.keyless[name] += 1
        return None

    def record(self, name: str, record: Row, extracted: datetime, version: int | None = None) -> None:
        """Write a record that was read at that time."""
        _write(singer.RecordMessage(stream=name, record=record, version=version, time_extracted=extracted))
        self.rows[name] += 1

    def activate(self, name: str, version: int) -> None:
        """Tell the target that rows of other versions are gone."""
        _write(singer.ActivateVersionMessage(name, version))

    def state(self, state: State, *, now: bool = False) -> None:
        """Write the state if the last one is a while ago and was another, or `now`."""
        moment = self._clock.now()
        if not now and moment - self._state_at < STATE_EVERY:
            return
        value = state.as_json()
        if now or value != self._last_state:
            _write(singer.StateMessage(value))
            self._last_state, self._state_at = value, moment

    def _reporter(self, name: str) -> Any:
        def report(path: Path, problem: str) -> None:
            self.unfit[name, path, problem] += 1
            if self.unfit[name, path, problem] == 1:
                LOGGER.warning("%s: the field %s %s; it is not sent on.", name, ".".join(path), problem)

        return report


def print_json(text: str) -> None:
    """Write a catalog or an answer for people to read."""
    with _whole_lines():
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def _write(message: singer.messages.Message) -> None:
    with _whole_lines():
        singer.write_message(message)


@contextmanager
def _whole_lines() -> Iterator[None]:
    """Turn a closed pipe or a full disk into `PipeClosed`."""
    try:
        yield
    except OSError as error:
        # What Python still holds for standard output goes nowhere, lest its exit complains of it once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, ConnectionError):  # BrokenPipeError is one
            raise PipeClosed("The target closed the pipe: nothing more can be written.") from None
        raise PipeClosed(f"Standard output cannot be written: {error.strerror}.") from None
