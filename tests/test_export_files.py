"""The files of exports: their dialect, their types, and what tells their rows apart."""

from __future__ import annotations

import random
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_circleci.discover import schema_of
from tap_circleci.errors import Unreadable
from tap_circleci.exports.files import LONGEST_LINE, ROWS_AT_ONCE, days, digests, tables
from tap_circleci.output.records import Table
from tap_circleci.streams import STREAMS
from tests.circleci.usage import COLUMNS, csv_of, job, seat

USAGE = next(stream for stream in STREAMS.values() if stream.is_export)
KNOWN = schema_of(USAGE.name)["properties"]
TIMES = {name for name, column in KNOWN.items() if column.get("format") == "date-time"}
DAY = datetime(2026, 3, 9, tzinfo=timezone.utc)


def read_tables(text: str | bytes, size: int = 65536) -> list[Table]:
    """A file that comes in blocks of this size."""
    content = text.encode() if isinstance(text, str) else text
    return list(tables((content[start : start + size] for start in range(0, len(content), size)), KNOWN))


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
        try:
            return next(list(row.values()) for row in read(",".join(names[:count]) + "\n" + line))
        except Unreadable as error:
            if count == len(names) or "values" not in str(error):
                raise
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
    """Null is an unquoted \\N, quotes come escaped or doubled, and what stands in quotes stays as it is."""
    assert values(line) == found


TEXTS = st.none() | st.text(
    st.sampled_from('N\\",\n\r x\u2028é') | st.characters(codec="utf-8", exclude_characters="\0\x1f"), max_size=12
)


@given(table=st.lists(st.tuples(TEXTS, TEXTS, TEXTS), max_size=5), doubled=st.booleans(), size=st.integers(1, 40))
def test_any_text_comes_through(table, doubled, size):
    """Whatever the texts are and wherever blocks end, rows are read as they were written."""
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
        (b"<html><body>Maintenance</body></html>", "no export"),
        (b'"JOB_NAME","JOB_ID"\n"a"\n', "1 values, its header 2 names"),
        (b'"JOB_NAME"\n"a","b"\n', "2 values, its header 1 names"),
        (b'"JOB_NAME"\n"it ends here', "no CSV"),
        (b'"JOB_NAME"\n"a"b\n', "no CSV"),
        (b"x" * (LONGEST_LINE + 70000), "more than a million"),
    ],
)
def test_what_is_no_export_is_not_read_as_one(content, reason):
    """A page of HTML, a file that is cut or damaged, and a line without an end are told, not guessed at."""
    with pytest.raises(Unreadable, match=reason):
        read(content)


def test_an_empty_file_and_empty_lines_have_no_rows():
    """Nothing, only a header, and lines at the end of a file are no rows and no mistake."""
    assert read(b"") == read(csv_of([])) == []
    assert len(read(csv_of([job(DAY, 1)]) + b"\n\n")) == 1


def test_a_row_keeps_its_digest_whatever_is_measured():
    """Measures, renamed projects, spellings of times and the order of columns do not change it; who it is does."""

    def digest(**cells: str | None) -> str:
        (found,) = read_tables(csv_of([job(DAY, 5, **cells)], sorted(COLUMNS)))
        return digests(found, USAGE.row.identity, TIMES)[0]

    usual = digest()
    assert usual == "5f8c69e6a84bcfd713dfa52af9c85a45"  # as in tables that are there
    same = {"TOTAL_CREDITS": "1", "PROJECT_NAME": "new", "VCS_BRANCH": "x", "JOB_BUILD_STATUS": "failed"}
    assert digest(**same) == usual
    assert digest(JOB_RUN_STARTED_AT="2026-03-09 05:00:03") == digest(JOB_RUN_STARTED_AT="2026-03-09 05:00:03.000")
    assert digest(EXECUTOR=None) == digest(EXECUTOR="")
    changed = [digest(**{name.upper(): "2026-03-09 05:00:04" if "_at" in name else "x"}) for name in USAGE.row.identity]
    assert len({usual, *changed}) == 1 + len(USAGE.row.identity)


def test_the_day_of_a_row_is_that_of_its_job():
    """A day, a time and a broken date; without one, the first of the month in which the export begins."""
    told = ["2026-03-09", "2026-03-09 23:59:59", "soon", "0001-01-01", None]
    (table,) = read_tables(csv_of([seat(DAY, JOB_RUN_DATE=day) for day in told]))
    found = days(table, DAY)
    assert [day[:10] for day in found] == ["2026-03-09", "2026-03-09", "2026-03-01", "2026-03-01", "2026-03-01"]
    assert {day[10:] for day in found} == {"T00:00:00.000000Z"}
