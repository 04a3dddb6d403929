"""CircleCI's answers when an export is ordered, and when its status is requested.

https://circleci.com/docs/api/v2/#tag/Usage
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from tap_circleci.client import Client
from tap_circleci.errors import Forbidden, LocalError, NotFound, NotOffered, Rejected, Throttled
from tap_circleci.exports.plan import Span
from tap_circleci.state.state import Export
from tap_circleci.streams import Stream
from tap_circleci.streams.addresses import path_of
from tap_circleci.values.rows import Ids
from tap_circleci.values.slugs import usable_id
from tap_circleci.values.text import quoted
from tap_circleci.values.times import whole_seconds


@dataclass(frozen=True)
class Ready:
    """The files of the export are at these addresses. `date` is the service's time, if the answer had one."""

    urls: tuple[str, ...]
    date: datetime | None


@dataclass(frozen=True)
class NotReady:
    """CircleCI is still making the export."""


@dataclass(frozen=True)
class Limited:
    """Too many requests of this kind (429); `seconds` is how long to wait at least."""

    seconds: float


@dataclass(frozen=True)
class Failed:
    """The export will never be ready: it failed, or CircleCI does not know it. `reason` continues "the export"."""

    reason: str


@dataclass(frozen=True)
class Denied:
    """The token has no permission for exports of this organization (401 or 403)."""

    problem: Forbidden


@dataclass(frozen=True)
class Unknown:
    """The request failed for another reason, so that the status of the export is unknown."""

    problem: LocalError


OrderAnswer = Export | Limited | Denied | Unknown
StatusAnswer = Ready | NotReady | Limited | Failed | Denied | Unknown


def order(client: Client, stream: Stream, ids: Ids, span: Span, now: datetime) -> OrderAnswer:
    """Order an export of these days; `now` is the service's time."""
    body = {"start": whole_seconds(span.start), "end": whole_seconds(span.end)}
    try:
        answer = client.post(path_of(stream, ids), body, stream.name, _is_export)
    except LocalError as problem:
        return _refusal(problem)
    asked_at = min(answer.date or now, now).replace(microsecond=0)  # one of the clocks may be ahead
    return Export(str(answer.body["usage_export_job_id"]), span.start, span.end, asked_at)


def status_of(client: Client, stream: Stream, ids: Ids, export: Export) -> StatusAnswer:
    """Request the status of an export."""
    path = f"{path_of(stream, ids)}/{quote(export.id, safe='')}"
    try:
        answer = client.get(path, {}, stream.name, _is_status, forbidden=(401, 403), own_limit=True)
    except (NotFound, NotOffered, Rejected) as problem:
        return Failed(f"no longer exists ({problem})")
    except LocalError as problem:
        return _refusal(problem)
    body = answer.body
    if body["state"] == "completed":
        return Ready(tuple(body.get("download_urls") or ()), answer.date)
    if body["state"] == "failed":
        return Failed(f"failed ({quoted(body['error_reason']) if body.get('error_reason') else 'no reason given'})")
    return NotReady()


def _refusal(problem: LocalError) -> Limited | Denied | Unknown:
    if isinstance(problem, Throttled):
        return Limited(problem.seconds or 0.0)
    return Denied(problem) if isinstance(problem, Forbidden) else Unknown(problem)


def _is_export(body: Any) -> bool:
    return isinstance(body, dict) and usable_id(body.get("usage_export_job_id")) is not None


def _is_status(body: Any) -> bool:
    if not isinstance(body, dict) or not isinstance(body.get("state"), str):
        return False
    urls = body.get("download_urls") or []
    return isinstance(urls, list) and all(isinstance(url, str) for url in urls)
