"""The files of an export: CSV as a warehouse unloads it, read as a stream, and what tells its rows apart.

A header line in upper case, values in quotes that are escaped by a backslash or doubled, backslashes doubled, and an
unquoted \\N for null. https://circleci.com/docs/usage-api/
"""

from __future__ import annotations

import csv
import re
from codecs import getincrementaldecoder
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from io import StringIO
from itertools import islice

from tap_circleci.errors import Unreadable
from tap_circleci.output.records import Column, Table, date_time
from tap_circleci.values.times import midnight, moment, written

LONGEST_LINE = 2**20
"""Characters of one line; what has longer ones is no export."""
ROWS_AT_ONCE = 250
"""Rows of a table: many, since the work on a table is that on its columns; few enough to take little memory."""
NULL = "\x1f"
"""Stands for null while Python's csv, which takes the backslash out of \\N, reads a line."""
_UNQUOTED_NULL = re.compile(r"\\N(?<![^,\n]\\N)(?![^,\r\n])")

DAY = "job_run_date"
JOB = "job_id"


def tables(blocks: Iterable[bytes], known: Collection[str]) -> Iterator[Table]:
    """The rows of a file in tables, whose columns have the names in its header, some of which must be `known`.

    Memory is constant. Raises `Unreadable` for what is no export.
    """
    reader = csv.reader(_lines(blocks), escapechar="\\", strict=True)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        if header and not set(header).intersection(known):
            raise Unreadable("a file is no export: its first line names none of the columns")
        lines = filter(None, reader)  # without the empty ones
        while rows := list(islice(lines, ROWS_AT_ONCE)):
            for values in rows:
                if len(values) != len(header):
                    raise Unreadable(f"a row of a file has {len(values)} values, its header {len(header)} names")
            columns = map(_with_nulls, zip(*rows, strict=True))
            yield Table(dict(zip(header, columns, strict=True)), len(rows))
    except csv.Error as error:
        raise Unreadable(f"line {reader.line_num} of a file is no CSV: {error}") from None


def _with_nulls(column: tuple[str, ...]) -> Column:
    return column if NULL not in column else [None if value == NULL else value for value in column]


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


def days(table: Table, otherwise: datetime) -> list[str]:
    """The day of each row's job at midnight, or where the row tells none, the first of that month."""
    first = written(midnight(otherwise).replace(day=1))
    return [_midnight(text) or first for text in table[DAY]]


@lru_cache(maxsize=64)
def _midnight(text: str | None) -> str | None:
    found = moment(text)
    return None if found is None else written(midnight(found))


def digests(table: Table, identity: Iterable[str], times: Collection[str]) -> list[str]:
    """For each row 32 characters that are the same for the same identity, however often it is exported.

    The columns of the `identity` that are `times` count as the moments that they tell, in whatever spelling.
    """
    columns = [map(_spelled, table[name]) if name in times else table[name] for name in identity]
    return [_digest("\0".join([value or "" for value in values])) for values in zip(*columns, strict=True)]


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()


def _spelled(text: str | None) -> str | None:
    """A time in the one spelling of records; other texts as they are."""
    try:
        return None if text is None else date_time(text)
    except (ValueError, OverflowError):
        return text
