"""The rows of a file of an export: CSV in a warehouse's format, read as a stream.

The header line is in upper case. Values are in quotes; quotes in them are escaped by a backslash or doubled, and
backslashes are doubled. An unquoted \\N is null. https://circleci.com/docs/usage-api/
"""

from __future__ import annotations

import csv
import re
from codecs import getincrementaldecoder
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from io import StringIO
from itertools import islice
from typing import Any

from tap_circleci.errors import Damaged
from tap_circleci.output.records import Column, Table
from tap_circleci.values.text import counted

LONGEST_LINE = 2**20
"""Characters of a line, and of a field. Longer ones are left out, so that memory stays bounded."""
ROWS_AT_ONCE = 250
"""Rows of a table: many, since a table is converted by columns, and few enough for little memory."""
NULL = "\x1f"
"""Replaces null while Python's csv, which removes the backslash of \\N, reads a line."""
_UNQUOTED_NULL = re.compile(r"\\N(?<![^,\n]\\N)(?![^,\r\n])")


@dataclass(frozen=True)
class LeftOut:
    """Rows of a file that cannot be read: their number, and the reason for the first of them."""

    rows: int = 0
    first: str = ""

    def __add__(self, other: LeftOut) -> LeftOut:
        return LeftOut(self.rows + other.rows, self.first or other.first)

    def __str__(self) -> str:
        return f"{counted(self.rows, 'rows')} skipped that cannot be read; the first: {self.first}" if self.rows else ""

    def of(self, file: str) -> LeftOut:
        """The same, with the name of the file."""
        return replace(self, first=f"{file}, {self.first}") if self.rows else self


def tables(blocks: Iterable[bytes], known: Collection[str]) -> Iterator[Table | LeftOut]:
    """The rows of a file in tables, whose columns have the names in its header, some of which must be `known`.

    Memory is constant. A row that cannot be read is skipped. Raises `Damaged` for a file that is not an export and for
    one that ends in the middle of a row.
    """
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE))  # 131,072 at first; for all readers of the process
    reader = csv.reader(map(_bounded, _lines(blocks)), escapechar="\\", strict=True)
    header = _header(reader)
    if header and not set(header).intersection(known):
        raise Damaged("it is not an export: its first line names none of the columns")
    rows = _rows(reader, len(header))
    while some := list(islice(rows, ROWS_AT_ONCE)):
        whole = [row for row in some if isinstance(row, list)]
        if whole:
            columns = map(_with_nulls, zip(*whole, strict=True))
            yield Table(dict(zip(header, columns, strict=True)), len(whole))
        if len(whole) < len(some):
            yield LeftOut(len(some) - len(whole), next(row for row in some if isinstance(row, str)))


def _header(reader: Iterator[list[str]]) -> list[str]:
    """The names in the first line that is not empty; none for an empty file."""
    try:
        first = next(filter(None, reader), [])
    except csv.Error as error:
        raise Damaged(f"it is not an export: its first line is not CSV ({error})") from None
    return [name.strip().lower() for name in first]


def _rows(reader: Any, width: int) -> Iterator[list[str] | str]:
    """The values of each row, or why it cannot be read. After an error, Python's csv continues with the next line."""
    is_last_wrong = False
    uncounted = 0
    while True:
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            is_last_wrong = True
            uncounted += isinstance(error, _TooLong)
            yield f"line {reader.line_num + uncounted} is not CSV ({error})"
            continue
        is_last_wrong = False
        if len(row) == width:
            yield row
        elif row:  # not an empty line
            yield f"line {reader.line_num + uncounted} has {len(row)} values, the header has {width} names"
    if is_last_wrong:
        raise Damaged("it ends in the middle of a row")


def _with_nulls(column: tuple[str, ...]) -> Column:
    return column if NULL not in column else [None if value == NULL else value for value in column]


class _TooLong(csv.Error):
    """A line is longer than is read. Python's csv does not count this line."""


def _bounded(line: str) -> str:
    if len(line) > LONGEST_LINE:
        raise _TooLong("more than a million characters")
    return line


def _lines(blocks: Iterable[bytes]) -> Iterator[str]:
    """The lines of a file, with \\n at their ends and every unquoted \\N replaced by `NULL`.

    In quotes every backslash is part of an escape, so \\N between commas or ends of lines is always unquoted. Of a line
    that is too long, only the beginning is kept.
    """
    decode = getincrementaldecoder("utf-8-sig")("replace").decode
    rest = ""
    for block in blocks:
        whole, end, rest = (rest + decode(block).replace("\0", "")).rpartition("\n")
        yield from StringIO(_UNQUOTED_NULL.sub(NULL, whole + end), newline="\n")
        rest = rest[: LONGEST_LINE + 1]
    yield _UNQUOTED_NULL.sub(NULL, rest + decode(b"", True))
