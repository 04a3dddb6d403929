"""The files of exports: their dialect, their types, and what distinguishes their rows."""

from __future__ import annotations

import csv
import random
from collections import Counter
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_circleci.discover import schema_of
from tap_circleci.errors import Damaged
from tap_circleci.exports.files import LONGEST_LINE, ROWS_AT_ONCE, LeftOut, tables
from tap_circleci.exports.keys import Keys, days
from tap_circleci.output.records import Table
from tap_circleci.streams import STREAMS
from tap_circleci.values.slugs import usable_id
from tests.circleci.usage import COLUMNS, csv_of, job, seat

USAGE = next(stream for stream in STREAMS.values() if stream.is_export)
KNOWN = schema_of(USAGE.name)["properties"]
KEYS = Keys(USAGE, KNOWN)
DAY = datetime(2026, 3, 9, tzinfo=timezone.utc)


def parts(text: str | bytes, size: int = 65536) -> list[Table | LeftOut]:
    """What a file gives that comes in blocks of this size."""
    content = text.encode() if isinstance(text, str) else text
    return list(tables((content[start : start + size] for start in range(0, len(content), size)), KNOWN))


def read_tables(text: str | bytes, size: int = 65536) -> list[Table]:
    """The tables of a file in which every row can be read."""
    found = parts(text, size)
    assert not [part for part in found if isinstance(part, LeftOut)]
    return [part for part in found if isinstance(part, Table)]


def left_out(text: str | bytes) -> LeftOut:
    """What is left out of a file."""
    return sum((part for part in parts(text) if isinstance(part, LeftOut)), LeftOut())


def names_in(text: str | bytes) -> list[str | None]:
    """The names of the jobs in the rows that are read, in order."""
    return [name for part in parts(text) if isinstance(part, Table) for name in part["job_name"]]


def read(text: str | bytes, size: int = 65536) -> list[dict[str, str | None]]:
    """The rows of a file that comes in blocks of this size."""
    found = read_tables(text, size)
    return [
        dict(zip(table.columns, values, strict=True))
        for table in found
        for values in zip(*table.columns.values(), strict=True)
    ]


def values(line: str) -> list[str | None]:
    """What a line under a header of as many names as it needs is read as."""
    names = ["JOB_NAME", "VCS_BRANCH", "WORKFLOW_NAME", "RESOURCE_CLASS"]
    for count in range(1, len(names) + 1):
        content = ",".join(names[:count]) + "\n" + line
        if not left_out(content).rows:
            return list(read(content)[0].values())
    raise AssertionError


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('"a","b"', ["a", "b"]),
        ('\\N,"b"', [None, "b"]),
        ('"a",\\N', ["a", None]),
        ('"a",\\N,\\N\r\n', ["a", None, None]),
        ("\\N,\\N\n", [None, None]),
        ('"N"', ["N"]),
        ('"a","\\\\N"', ["a", "\\N"]),
        ('"C:\\\\New"', ["C:\\New"]),
        ('"a,\\\\N,b"', ["a,\\N,b"]),
        ('"he said \\"hi\\""', ['he said "hi"']),
        ('"he said ""hi"""', ['he said "hi"']),
        ('"a, b",c', ["a, b", "c"]),
        ('"one\ntwo",\\N', ["one\ntwo", None]),
        ('"one\r\ntwo",\\N', ["one\r\ntwo", None]),
        ('"one\\\ntwo"', ["one\ntwo"]),
        ('"ends in \\\\",\\N', ["ends in \\", None]),
        ('"",x', ["", "x"]),
        ("N,\\N", ["N", None]),
        ('"\u2028 is no end of a line","\x0b"', ["\u2028 is no end of a line", "\x0b"]),
    ],
)
def test_the_dialect_is_that_of_the_warehouse(line, found):
    """Null is an unquoted \\N, quotes come escaped or doubled, and quoted text stays as it is."""
    assert values(line) == found


TEXTS = st.none() | st.text(
    st.sampled_from('N\\",\n\r x\u2028é') | st.characters(codec="utf-8", exclude_characters="\0\x1f"), max_size=12
)


@given(table=st.lists(st.tuples(TEXTS, TEXTS, TEXTS), max_size=5), doubled=st.booleans(), size=st.integers(1, 40))
def test_any_text_comes_through(table, doubled, size):
    """Rows are read as they were written, with any text and any division into blocks."""
    names = ("JOB_NAME", "VCS_BRANCH", "WORKFLOW_NAME")
    content = csv_of([dict(zip(names, line, strict=True)) for line in table], names, doubled=doubled)
    assert [tuple(row.values()) for row in read(content, size)] == table


def test_columns_are_found_by_their_names():
    """Shuffled columns, another case, a mark at the beginning of the file and a missing column make no difference."""
    one = job(DAY, 5)
    shuffled = random.Random(3).sample(COLUMNS, len(COLUMNS))
    assert read(csv_of([one], shuffled)) == read(csv_of([one]))
    assert read(b"\xef\xbb\xbf" + csv_of([one]).replace(b"JOB_NAME", b"job_name")) == read(csv_of([one]))
    without = [name for name in COLUMNS if name != "TOTAL_CREDITS"]
    assert read(csv_of([one], without)) == [
        {name: value for name, value in read(csv_of([one]))[0].items() if name != "total_credits"}
    ]


def test_a_file_comes_in_tables_of_bounded_size():
    """No table is longer than the bound, however many rows the file has, and a missing column is null in each."""
    found = read_tables(csv_of([{"JOB_NAME": str(number)} for number in range(2 * ROWS_AT_ONCE + 1)], ["JOB_NAME"]))
    assert [table.rows for table in found] == [ROWS_AT_ONCE, ROWS_AT_ONCE, 1]
    assert [name for table in found for name in table["job_name"]] == [str(n) for n in range(2 * ROWS_AT_ONCE + 1)]
    assert list(found[2]["vcs_branch"]) == [None]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<html><body>Maintenance</body></html>", "not an export"),
        (b'"JOB_NAME"\n"it ends here', "ends in the middle of a row"),
        (b'"JOB_NAME"x,\n"a"\n', "its first line is not CSV"),
        (b"x" * (LONGEST_LINE + 70000), "its first line is not CSV .more than a million characters"),
    ],
)
def test_what_is_no_export_is_not_read_as_one(content, reason):
    """A page of HTML, a file that is cut and one without a header are damaged as a whole."""
    with pytest.raises(Damaged, match=reason):
        parts(content)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('"a"', "line 3 has 1 values, the header has 2 names"),
        ('"a","b","c"', "line 3 has 3 values, the header has 2 names"),
        ('"a"b,"c"', "line 3 is not CSV"),
        ('"a","' + "x" * (LONGEST_LINE + 70000) + '"', "line 3 is not CSV (more than a million characters)"),
        ('"a",' + "x" * (LONGEST_LINE + 70000), "line 3 is not CSV (more than a million characters)"),
        ("x," * LONGEST_LINE, "line 3 is not CSV (more than a million characters)"),
    ],
)
@pytest.mark.parametrize("times", [1, 3 * ROWS_AT_ONCE])
def test_a_row_that_cannot_be_read_costs_that_row_only(line, reason, times):
    """Such rows are left out and the first is named by its line; every other row is read."""
    if len(line) > LONGEST_LINE and times > 1:
        times = 2
    content = '"JOB_NAME","JOB_ID"\n"first","1"\n' + (line + "\n") * times + '"last","2"\n'
    assert names_in(content) == ["first", "last"]
    found = left_out(content)
    assert found.rows == times
    assert reason in found.first


@pytest.mark.parametrize("size", [131_073, LONGEST_LINE - 100])
def test_a_field_may_be_as_long_as_a_line(size):
    """Python's csv takes 131,072 characters by default."""
    assert names_in(b'"JOB_NAME"\n"' + b"x" * size + b'"\n"b"\n') == ["x" * size, "b"]


def test_the_limit_of_a_field_is_never_lowered():
    """The limit is the process's, so a higher one that the program has set stays."""
    before = csv.field_size_limit(2 * LONGEST_LINE)
    try:
        assert names_in(b'"JOB_NAME"\n"a"\n') == ["a"]
        assert csv.field_size_limit() == 2 * LONGEST_LINE
    finally:
        csv.field_size_limit(before)


def test_an_empty_file_and_empty_lines_have_no_rows():
    """An empty file, a header alone and empty lines at the end are no rows and no mistakes."""
    assert read(b"") == read(csv_of([])) == []
    assert len(read(csv_of([job(DAY, 1)]) + b"\n\n")) == 1


def test_a_row_keeps_its_digest_whatever_is_measured():
    """Measures, renamed projects, spellings of times and numbers, and the order of columns do not change it."""

    def digest(**cells: str | None) -> str:
        (found,) = read_tables(csv_of([job(DAY, 5, **cells)], sorted(COLUMNS)))
        return KEYS.digests(found)[0]

    usual = digest()
    assert usual == "5f8c69e6a84bcfd713dfa52af9c85a45"  # as in tables that are there
    same = {"TOTAL_CREDITS": "1", "PROJECT_NAME": "new", "VCS_BRANCH": "x", "JOB_BUILD_STATUS": "failed"}
    assert digest(**same) == digest(JOB_RUN_NUMBER="5.000000") == usual
    assert digest(JOB_RUN_STARTED_AT="2026-03-09 05:00:03") == digest(JOB_RUN_STARTED_AT="2026-03-09 05:00:03.000")
    assert digest(EXECUTOR=None) == digest(EXECUTOR="")
    changed = [digest(**{name.upper(): "2026-03-09 05:00:04" if "_at" in name else "x"}) for name in USAGE.row.identity]
    assert len({usual, *changed}) == 1 + len(USAGE.row.identity)


CELLS = st.none() | st.sampled_from(["", "\0", " ", ".", "..", "x", "\x1f", "0001-01-01", "24:00", "\ufffd"])


@given(cells=st.dictionaries(st.sampled_from([*COLUMNS]), CELLS), times=st.integers(1, 3))
def test_keys_are_never_null_or_empty(cells, times):
    """Each row has a key that targets accept, also if its values are empty, blank or NUL."""
    (table,) = read_tables(csv_of([seat(DAY, **cells)] * times))
    found, own = KEYS.of(table, {"organization_id": "acme"}, DAY, Counter())
    keys = list(zip(*(found[column] for column in USAGE.key), strict=True))
    assert all(value and value.strip() for key in keys for value in key)
    assert len(set(keys)) == (times if own else 1)
    assert bool(own) == (usable_id(table["job_id"][0]) is None)


def test_the_day_of_a_row_is_that_of_its_job():
    """A day, a time and a broken date; without one, the first of the month in which the export begins."""
    told = ["2026-03-09", "2026-03-09 23:59:59", "soon", "0001-01-01", None]
    (table,) = read_tables(csv_of([seat(DAY, JOB_RUN_DATE=day) for day in told]))
    found = days(table, DAY)
    assert [day[:10] for day in found] == ["2026-03-09", "2026-03-09", "2026-03-01", "2026-03-01", "2026-03-01"]
    assert {day[10:] for day in found} == {"T00:00:00.000000Z"}
