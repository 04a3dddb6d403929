"""What the headers of an answer say about the rate limit: how long to wait, how much is left, until when.

A 429 may carry `Retry-After`, in seconds or as a date; any answer `RateLimit-Remaining` and `RateLimit-Reset`, in
seconds, or both with `X-` before them. https://circleci.com/docs/guides/toolkit/api-developers-guide
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timezone

from tap_circleci.values.times import http_date

A_DAY = 86_400.0


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
