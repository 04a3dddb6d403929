"""Times: parsed from the API, a state or a config, and formatted for Singer messages. All are UTC."""

import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from functools import lru_cache

from dateutil.parser import isoparse, parse

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
BEGINNING = datetime.min.replace(tzinfo=timezone.utc)
"""Before anything."""
CLOCK_TOLERANCE = timedelta(minutes=5)
"""A replication key value may be this far ahead of the answer that it came in: the clocks of machines differ."""
PLAUSIBLE_YEARS = range(2011, 2100)
"""CircleCI was founded in 2011; a clock with another year is wrong."""
_USUAL = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{3}(?:[0-9]{3})?)?Z")
"""The format of CircleCI's times. Python parses it in less than half of the time that dateutil takes."""
_TWO_WAYS = re.compile(r":\d\d[\d.]*\s*(?![ap]m\b)[a-z]+\s*[+-]\s*\d", re.ASCII | re.IGNORECASE)
"""A zone such as GMT+3, which has two meanings: east or west of Greenwich."""
_NAMED_OFFSET = re.compile(r"( [+-]\d{4}) [A-Z]+", re.ASCII)
"""The zone as Go writes it, `+0000 UTC`: only the offset counts."""


def iso(text: str) -> datetime:
    """The time in an ISO 8601 text; without a zone it is UTC. Raises ValueError."""
    return _as_utc(_read(text))


def lenient(text: str) -> datetime:
    """The time in a text of the API, ISO 8601 or not; without a zone it is UTC. Raises ValueError."""
    try:
        found = _read(text)
    except ValueError:
        found = _parsed(text)
    return _as_utc(found)


def moment(value: object) -> datetime | None:
    """The time in a value of the API, or None if there is none or it cannot be parsed.

    A time up to the beginning of 1970 counts as none: services write that, or year 1 as Go does, for a time that is not
    set.
    """
    try:
        found = lenient(value) if isinstance(value, str) and value else None
    except ValueError:
        return None
    return None if found is None or found <= EPOCH else found


def moments(values: Iterable[object]) -> list[datetime]:
    """The times in those values of the API that have one."""
    return [found for value in values if (found := moment(value)) is not None]


def written(time: datetime) -> str:
    """A time as singer writes it: six decimals, Z. Such texts sort like the times themselves."""
    return f"{time.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def whole_seconds(time: datetime) -> str:
    """A time as the API's parameters have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def midnight(time: datetime) -> datetime:
    """The beginning of the day of a time."""
    return time.replace(hour=0, minute=0, second=0, microsecond=0)


def first_whole_day(now: datetime, history: timedelta) -> datetime:
    """The first day that is still complete at a service that keeps this much history."""
    return midnight(now - history) + timedelta(days=1)


def brief(time: datetime) -> str:
    """A time in as few characters as possible, for a state."""
    return f"{time.replace(tzinfo=None).isoformat()}Z"


@lru_cache(maxsize=8)
def http_date(text: str | None) -> datetime | None:
    """The time in an HTTP header; None if it cannot be parsed or its year is not plausible."""
    try:
        date = parsedate_to_datetime(text or "")
        if date.tzinfo is None and re.search("[A-Za-z]$", text or ""):
            return None  # a zone that is not known
        date = _as_utc(date)
    except (ValueError, TypeError, OverflowError):
        return None
    return date if date.year in PLAUSIBLE_YEARS else None


def _read(text: str) -> datetime:
    if _USUAL.fullmatch(text):
        with suppress(ValueError):  # dateutil gives the reason, and accepts 24:00 in every version of Python
            return datetime.fromisoformat(text[:-1]).replace(tzinfo=timezone.utc)
    return isoparse(text)


def _as_utc(time: datetime) -> datetime:
    if time.tzinfo is None:
        return time.replace(tzinfo=timezone.utc)
    try:
        return time.astimezone(timezone.utc)
    except OverflowError:
        raise ValueError("a date out of range") from None


def _parsed(text: str) -> datetime:
    if _TWO_WAYS.search(text):
        raise ValueError("a zone that can be read in two ways")
    # dateutil completes a partial date from a default: two defaults then give two different dates.
    found = []
    for default in (datetime(2000, 1, 1), datetime(2001, 2, 2)):
        try:
            found.append(parse(_NAMED_OFFSET.sub(r"\1", text), default=default, tzinfos=_offset))
        except (ValueError, OverflowError):  # ParserError is a ValueError
            raise ValueError("not a date") from None
    if found[0] != found[1]:
        raise ValueError("part of a date")
    return found[0]


def _offset(zone: str | None, seconds: int | None) -> int | None:
    """The offset of a zone from UTC; a name alone, such as EST or that of this machine's zone, may mean several."""
    if zone and seconds is None:
        raise ValueError("a zone that is not known")
    return seconds
