"""The files of an export: CSV as a warehouse unloads it, read as a stream, and what tells its rows apart.

A header line in upper case, values in quotes that are escaped by a backslash or doubled, backslashes doubled, and an
unquoted \\N for null. https://circleci.com/docs/usage-api/
"""

from __future__ import annotations

import csv
import re
from codecs import getincrementaldecoder
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from io import StringIO
from typing import Any

from tap_circleci.errors import Unreadable
from tap_circleci.times import moment, written

Row = dict[str, Any]

LONGEST_LINE = 2**20
"""Characters of one line; what has longer ones is no export."""
NULL = "\x1f"
"""Stands for null while Python's csv, which takes the backslash out of \\N, reads a line."""
_UNQUOTED_NULL = re.compile(r"\\N(?<![^,\n]\\N)(?![^,\r\n])")
_WITHOUT_ZONE = re.compile(r"(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d:\d\d)(?:\.(\d+))?)?", re.ASCII)
_FLAGS = {"Y": "true", "y": "true", "N": "false", "n": "false"}

DAY = "job_run_date"
JOB = "job_id"


@dataclass(frozen=True)
class Columns:
    """What is to be known of the columns: those that are date-times or booleans, and those that identify a row."""

    times: tuple[str, ...]
    flags: tuple[str, ...]
    identity: tuple[str, ...]
    known: frozenset[str]

    @classmethod
    def of(cls, properties: Mapping[str, Mapping[str, Any]], identity: tuple[str, ...]) -> Columns:
        """The columns of a schema."""
        times = tuple(name for name, field in properties.items() if field.get("format") == "date-time")
        flags = tuple(name for name, field in properties.items() if "boolean" in field["type"])
        return cls(times, flags, identity, frozenset(properties))


def rows(blocks: Iterable[bytes], columns: Columns) -> Iterator[Row]:
    """The rows of a file, by the names in its header: texts, or None for null; times without a zone as UTC.

    Memory is constant. Raises `Unreadable` for what is no export.
    """
    reader = csv.reader(_lines(blocks), escapechar="\\", strict=True)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        if header and not columns.known.intersection(header):
            raise Unreadable(f"a file is no export: the first of its lines begins with {header[0][:40]!r}")
        times = [name for name in columns.times if name in header]
        flags = [name for name in columns.flags if name in header]
        for values in reader:
            if not values:  # an empty line
                continue
            if len(values) != len(header):
                raise Unreadable(
                    f"line {reader.line_num} of a file has {len(values)} values, its header {len(header)} names"
                )
            row: Row = dict(zip(header, [None if value == NULL else value for value in values], strict=True))
            for name in times:
                row[name] = _as_utc(row[name])
            for name in flags:
                row[name] = _FLAGS.get(row[name], row[name])
            yield row
    except csv.Error as error:
        raise Unreadable(f"line {reader.line_num} of a file is no CSV: {error}") from None


def _lines(blocks: Iterable[bytes]) -> Iterator[str]:
    """The lines of a file, with \\n at their ends and every unquoted \\N made into a mark.

    In quotes a backslash never stands alone, so that \\N between commas or ends of lines is always outside of them.
    """
    decode = getincrementaldecoder("utf-8-sig")("replace").decode
    rest = ""
    for block in blocks:
        whole, end, rest = (rest + decode(block).replace("\0", "")).rpartition("\n")
        if len(rest) > LONGEST_LINE:
            raise Unreadable("a file is no export: it has a line of more than a million characters")
        yield from StringIO(_UNQUOTED_NULL.sub(NULL, whole + end), newline="\n")
    yield _UNQUOTED_NULL.sub(NULL, rest + decode(b"", True))


@lru_cache(maxsize=4096)  # jobs of one workflow, pipeline or project share most of their times
def _as_utc(text: str | None) -> str | None:
    """A time or a day without a zone, always in one spelling, in UTC; other texts as they are."""
    found = text and _WITHOUT_ZONE.fullmatch(text)
    return f"{found[1]}T{found[2] or '00:00:00'}.{(found[3] or '')[:6]:0<6}Z" if found else text


def day_of(row: Row, otherwise: datetime) -> str:
    """The day of a row's job at midnight, or where the row tells none, the first of that month."""
    return _midnight(row.get(DAY)) or written(otherwise.replace(day=1, hour=0, minute=0, second=0, microsecond=0))


@lru_cache(maxsize=1024)
def _midnight(text: str | None) -> str | None:
    found = moment(text)
    return None if found is None else written(found.replace(hour=0, minute=0, second=0, microsecond=0))


def digest_of(row: Row, columns: Columns) -> str:
    """The same 32 characters for the same identity, whatever is measured and however often it is exported."""
    parts = [row.get(name) or "" for name in columns.identity]
    return blake2b("\0".join(parts).encode("utf-8", "replace"), digest_size=16).hexdigest()
