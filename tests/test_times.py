"""Moments: read from many forms, written in one."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest
from dateutil.parser import isoparse
from hypothesis import given
from hypothesis import strategies as st

from tap_circleci.values.times import EPOCH, brief, http_date, iso, lenient, moment, written

NOON = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-10T12:00:00Z",
        "2026-03-10T12:00:00",
        "2026-03-10T13:00:00+01:00",
        "2026-03-10 12:00:00 UTC",
        "2026-03-10 12:00:00.000000000 +0000 UTC",
        "2026-03-10 14:00:00 +0200 CEST",
        "2026-03-10 12:00:00 +0000",
        "2026-03-10 07:00:00 -0500",
        "Tue, 10 Mar 2026 12:00:00 GMT",
        "Tue, 10 Mar 2026 07:00:00 -0500 (EST)",
        "Tue Mar 10 12:00:00 2026",
        "10 March 2026 12:00 PM",
    ],
)
def test_a_moment_is_understood_however_it_is_written(text):
    """ISO 8601 and the usual other forms are read; without a zone it is UTC."""
    assert lenient(text) == NOON == moment(text)
    assert lenient(text).tzinfo == timezone.utc


DAY, TIME = r"[0-9]{4}-[01][0-9]-[0-3][0-9]", r"[0-2][0-9]:[0-6][0-9]:[0-6][0-9]"
USUAL = rf"{DAY}T{TIME}(\.[0-9]{{3}}|\.[0-9]{{6}})?Z"
ANY = rf"{DAY}[T ]{TIME}([.,][0-9]{{1,9}})?(Z|z|[+-][01][0-9](:?[0-9]{{2}})?)?"


@given(st.from_regex(rf"{USUAL}|{ANY}", fullmatch=True) | st.datetimes().map(lambda time: f"{time.isoformat()}Z"))
def test_a_moment_is_what_dateutil_reads(text):
    """What Python reads itself, which is faster, equals what dateutil reads, in every version of Python."""

    def outcome(read: Callable[[str], datetime]) -> object:
        try:
            return read(text)
        except (ValueError, OverflowError) as error:
            return type(error)

    def by_dateutil(text: str) -> datetime:
        found = isoparse(text)
        return found.replace(tzinfo=timezone.utc) if found.tzinfo is None else found.astimezone(timezone.utc)

    expected = outcome(by_dateutil)
    assert outcome(iso) == (ValueError if expected is OverflowError and "T24" not in text else expected)


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-10 12:00 EST",
        "2026-03-10 12:00 CET",
        "2026-03-10 12:00 XYZ",
        "10 March 2026 12:00 PST",
        "2026-03-10 12:00 GMT+3",
        "2026-03-10 12:00 EST-05:00",
        "2026-03-10 12:00 Europe/Berlin",
        "12",
        "10:30",
        "March",
        "2026-02-30",
        "2026-03-10T12:00:00-99:00",
        "0001-01-01T00:00:00+05:00",
        "9999-12-31T23:59:59-05:00",
        "soon",
        "\ud83d",
        "1" * 9999,
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "EST5EDT"])
def test_what_is_no_moment_is_none(text, zone, monkeypatch):
    """Parts of a date, impossible dates and zones with several meanings are None, whatever this machine's zone is."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(ValueError):
                lenient(text)
            assert moment(text) is None
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("value", [None, "", 5, ["2026"], {"a": 1}, True])
def test_what_is_no_text_is_no_moment(value):
    """A value of the API that is not a text is None."""
    assert moment(value) is None


@given(st.datetimes(timezones=st.just(timezone.utc)))
def test_what_is_written_can_be_read(time):
    """Both forms are read as the same moment; texts in singer's form sort like the moments."""
    assert iso(written(time)) == time == iso(brief(time))
    assert (written(time) < written(NOON)) == (time < NOON)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0001-01-01T00:00:00Z", None),
        ("1969-12-31T23:59:59Z", None),
        ("1970-01-01", None),
        ("1970-01-01T00:00:01Z", EPOCH + timedelta(seconds=1)),
        ("1970-01-01 +01:00", None),
    ],
)
def test_the_zero_time_is_no_moment(text, found):
    """Year 1 and the beginning of 1970 count as unknown: services send them for a time that is not set."""
    assert moment(text) == found


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("Tue, 10 Mar 2026 12:00:00 GMT", NOON),
        ("Tuesday, 10-Mar-26 12:00:00 GMT", NOON),
        ("Tue Mar 10 12:00:00 2026", NOON),
        ("Tue, 10 Mar 2026 13:00:00 +0100", NOON),
        ("Tue, 10 Mar 2026 12:00:00 XYZ", None),
        ("Mon, 10 Mar 2200 12:00:00 GMT", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 -0500", None),
        ("Mon, 01 Jan 0001 00:00:00 +0500", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_an_http_date_has_a_plausible_year(text, date):
    """All forms that HTTP allows are read; a year before the service existed, or far ahead, is None."""
    assert http_date(text) == date


@given(st.text(max_size=40))
def test_no_text_makes_it_crash(text):
    """Any text gives a moment or None."""
    for found in (moment(text), http_date(text)):
        assert found is None or found.tzinfo is not None


def test_the_epoch_is_utc():
    """EPOCH is the beginning of 1970 in UTC."""
    assert EPOCH.utcoffset() == timedelta(0)
