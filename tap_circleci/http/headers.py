"""What the headers of an answer say: about the rate limit, and about the end of the route.

A 429 may carry `Retry-After`, in seconds or as a date; any answer `RateLimit-Remaining` and `RateLimit-Reset`, in
seconds, or both with `X-` before them: https://circleci.com/docs/guides/toolkit/api-developers-guide. A route that is
deprecated has `Deprecation` (RFC 9745), one that will be removed `Sunset` (RFC 8594).
"""

import math
from collections.abc import Mapping
from datetime import datetime, timezone

from tap_circleci.values.times import http_date

A_DAY = 86_400.0
GONE = "CircleCI has removed this route (410)"


def asked_to_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that the service asks to wait before the next request; None if it does not say."""
    text = headers.get("Retry-After", "").strip()
    seconds: float | None
    try:
        seconds = float(text)
    except ValueError:
        until = http_date(text)
        seconds = (until - _date_of(headers)).total_seconds() if until else None
    if seconds is None or not math.isfinite(seconds) or seconds <= 0:
        seconds = until_reset(headers)
    return seconds


def remaining(headers: Mapping[str, str]) -> float | None:
    """How many more requests the service says it serves until the limit is reset."""
    return _number(headers, "Remaining")


def until_reset(headers: Mapping[str, str]) -> float | None:
    """Seconds until the limit is reset; a figure of more than a day is seconds since 1970."""
    seconds = _number(headers, "Reset")
    if seconds is not None and seconds > A_DAY:
        seconds -= _date_of(headers).timestamp()
    return seconds if seconds and seconds > 0 else None


def _date_of(headers: Mapping[str, str]) -> datetime:
    return http_date(headers.get("Date")) or datetime.now(timezone.utc)


def _number(headers: Mapping[str, str], name: str) -> float | None:
    for header in (f"RateLimit-{name}", f"X-RateLimit-{name}"):
        try:
            number = float(headers.get(header, ""))
        except ValueError:
            continue
        if math.isfinite(number):
            return number
    return None


def ending(status: int, headers: Mapping[str, str]) -> str | None:
    """A clause about the end of the route; None where the answer says nothing about it."""
    if status == 410:
        return GONE
    deprecation, sunset = headers.get("Deprecation"), headers.get("Sunset")
    if deprecation is None and sunset is None:
        return None
    since, end = _deprecated_at(deprecation or ""), http_date(sunset)
    since_date = f" since {since:%Y-%m-%d}" if since else ""
    end_date = f" and will be removed on {end:%Y-%m-%d}" if end else ""
    return f"CircleCI says that this route is deprecated{since_date}{end_date}"


def _deprecated_at(text: str) -> datetime | None:
    """The date in a Deprecation header: `@` and seconds since 1970, or in drafts of the RFC an HTTP date or `true`."""
    seconds = text.strip().removeprefix("@")
    if seconds.isdecimal() and len(seconds) <= len("9999999999"):
        return datetime.fromtimestamp(int(seconds), timezone.utc)
    return http_date(text)
