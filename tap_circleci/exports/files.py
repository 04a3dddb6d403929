"""The rows of a file of an export: CSV as a warehouse unloads it, read as a stream.

A header line in upper case, values in quotes that are escaped by a backslash or doubled, backslashes doubled, and an
unquoted \\N for null. https://circleci.com/docs/usage-api/
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

LONGEST_LINE = 2**20
"""Characters of a line, and of a field. Longer ones are left out, so that memory stays bounded."""
ROWS_AT_ONCE = 250
"""Rows of a table: many, since the work on a table is that on its columns; few enough to take little memory."""
NULL = "\x1f"
"""Stands for null while Python's csv, which takes the backslash out of \\N, reads a line."""
_UNQUOTED_NULL = re.compile(r"\\N(?<![^,\n]\\N)(?![^,\r\n])")


@dataclass(frozen=True)
class LeftOut:
    """Rows of a file that cannot be read: how many, and what is wrong with the first of them."""

    rows: int = 0
    first: str = ""

    def __add__(self, other: LeftOut) -> LeftOut:
        return LeftOut(self.rows + other.rows, self.first or other.first)

    def __str__(self) -> str:
        return f"rows left out, since they cannot be read: {self.rows}; the first: {self.first}" if self.rows else ""

    def of(self, file: str) -> LeftOut:
        """The same, with the name of the file."""
        return replace(self, first=f"{file}, {self.first}") if self.rows else self


def tables(blocks: Iterable[bytes], known: Collection[str]) -> Iterator[Table | LeftOut]:
    """The rows of a file in tables, whose columns have the names in its header, some of which must be `known`.

    Memory is constant. A row that cannot be read costs that row only. Raises `Damaged` for a file that is no export,
    and for one that ends in the middle of a row.
    """
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE))  # 131,072 at first; for all readers of the process
    reader = csv.reader(map(_bounded, _lines(blocks)), escapechar="\\", strict=True)
    header = _header(reader)
    if header and not set(header).intersection(known):
        raise Damaged("it is no export: its first line names none of the columns")
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
        raise Damaged(f"it is no export: its first line is no CSV ({error})") from None
    return [name.strip().lower() for name in first]


def _rows(reader: Any, width: int) -> Iterator[list[str] | str]:
    """The values of each row, or what is wrong with it. After an error, Python's csv goes on with the next line."""
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
            yield f"line {reader.line_num + uncounted} is no CSV ({error})"
            continue
        is_last_wrong = False
        if len(row) == width:
            yield row
        elif row:  # no empty line
            yield f"line {reader.line_num + uncounted} has {len(row)} values, the header has {width} names"
    if is_last_wrong:
        raise Damaged("it ends in the middle of a row")


def _with_nulls(column: tuple[str, ...]) -> Column:
    return column if NULL not in column else [None if value == NULL else value for value in column]


class _TooLong(csv.Error):
    """A line has more characters than are read. Python's csv does not count it."""


def _bounded(line: str) -> str:
    if len(line) > LONGEST_LINE:
        raise _TooLong("more than a million characters")
    return line


def _lines(blocks: Iterable[bytes]) -> Iterator[str]:
    """The lines of a file, with \\n at their ends and every unquoted \\N made into a mark.

    In quotes a backslash never stands alone, so that \\N between commas or ends of lines is always outside of them.
    Of a line that is too long, only the beginning is kept.
    """
    decode = getincrementaldecoder("utf-8-sig")("replace").decode
    rest = ""
    for block in blocks:
        whole, end, rest = (rest + decode(block).replace("\0", "")).rpartition("\n")
        yield from StringIO(_UNQUOTED_NULL.sub(NULL, whole + end), newline="\n")
        rest = rest[: LONGEST_LINE + 1]
    yield _UNQUOTED_NULL.sub(NULL, rest + decode(b"", True))
