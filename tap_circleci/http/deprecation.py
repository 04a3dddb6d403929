"""What an answer says about the end of its route: deprecated (RFC 9745), to be removed (RFC 8594), or gone (410)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone

from tap_circleci.values.times import http_date

GONE = "CircleCI has removed this route (410)"


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
