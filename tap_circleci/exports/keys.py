"""The keys of exports' rows: the day, a digest of the fields that never change, and the ids of the parents."""

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from tap_circleci.output.records import Column, Table, date_time, integer
from tap_circleci.streams import Stream
from tap_circleci.values.rows import Ids
from tap_circleci.values.slugs import usable_id
from tap_circleci.values.times import midnight, moment, written

DAY = "job_run_date"
JOB = "job_id"

Equals = Counter[tuple[str, str]]
"""How often a day and a digest occurred in rows without a job, which may be equal. Such rows are few."""


class Keys:
    """Gives the rows of one stream their keys, the same in each export."""

    def __init__(self, stream: Stream, properties: Mapping[str, Any]) -> None:
        self._stream = stream
        self._spelled = {name: _spelling(properties[name]) for name in stream.row.identity}

    def of(self, table: Table, ids: Ids, start: datetime, before: Equals) -> tuple[Table, Equals]:
        """The table with its keys, none of them null or empty, and the count of its own rows without a job.

        `ids` are those of the parents, `start` is the first day of the export, `before` the earlier rows without a job.
        """
        dates, identities = days(table, start), self.digests(table)
        own: Equals = Counter()
        names = []
        for day, digest, job in zip(dates, identities, table[JOB], strict=True):
            if usable_id(job) is None:
                own[day, digest] += 1
                names.append(f"{digest}-{before[day, digest] + own[day, digest]}")
            else:
                names.append(digest)
        keys: dict[str, Column] = {"_date": dates, "_id": names}
        for column, name in self._stream.row.default_columns.items():
            keys[column] = [ids[name] if usable_id(value) is None else value for value in table[column]]
        return Table({**table.columns, **keys}, table.rows), own

    def digests(self, table: Table) -> list[str]:
        """For each row a digest of its identity, 32 characters, independent of the spelling of times and numbers."""
        columns = [map(spelled, table[name]) for name, spelled in self._spelled.items()]
        return [_digest("\0".join(values)) for values in zip(*columns, strict=True)]


def days(table: Table, start: datetime) -> list[str]:
    """The day of each row's job at midnight; for a row without one, the first of the month in which the export
    starts."""
    first = written(midnight(start).replace(day=1))
    return [_midnight(text) or first for text in table[DAY]]


@lru_cache(maxsize=64)
def _midnight(text: str | None) -> str | None:
    found = moment(text)
    return None if found is None else written(midnight(found))


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()


def _spelling(schema: Mapping[str, Any]) -> Callable[[str | None], str]:
    """A function from a value of this type to one spelling, "" for null; a value that does not fit is not changed."""
    convert = date_time if schema.get("format") == "date-time" else integer if "integer" in schema["type"] else None

    def spelled(value: str | None) -> str:
        if not value or convert is None:
            return value or ""
        try:
            return str(convert(value))
        except (ValueError, OverflowError):
            return value

    return spelled
