"""What an answer means: a decoded body, or the error of its status. It does not know about connections."""

import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tap_circleci.errors import Forbidden, NotFound, NotOffered, Refused, Rejected, TapError, Throttled
from tap_circleci.http.headers import asked_to_wait
from tap_circleci.http.retries import Retriable
from tap_circleci.values.text import mask, quoted
from tap_circleci.values.times import http_date

REDIRECTS = frozenset({300, 301, 302, 303, 305, 307, 308})
"""Statuses that name another address. 304 is not among them: no request asks whether a resource has changed."""
GATEWAYS = frozenset({502, 504})
"""Statuses with which a gateway says that it does not know whether the request was carried out."""
LONGEST_ASKED = 60.0
"""Seconds to wait at most before a retry, even if the service asks for more."""
PROXY_ASKS = "asks for a user name and password (407): HTTPS_PROXY may carry them, http://user:password@host"

Shape = Callable[[Any], bool]
"""Says whether a decoded body has the expected shape."""


@dataclass(frozen=True)
class Answer:
    """A decoded body and when the service answered.

    `date` is the service's time, to the second; None if the answer has none or an impossible one.
    """

    body: Any
    date: datetime | None


@dataclass(frozen=True)
class Reply:
    """An answer before it is judged; the body of an error may be cut or missing. `name` is that of its request."""

    name: str
    status: int
    headers: Mapping[str, str]
    body: bytes | bytearray = b""


@dataclass(frozen=True)
class Expected:
    """The shape that the caller accepts, and the statuses that mean "forbidden" and "no such list" for its request."""

    shape: Shape
    forbidden: Collection[int] = (403,)
    not_offered: Collection[int] = ()


def judge(reply: Reply, expected: Expected, token: str, now: float) -> Answer:
    """The answer, or the error that its status stands for: `Retriable`, a `LocalError`, or `Refused` for the run.

    `token` is hidden in messages; `now` is the clock's time.
    """
    if 200 <= reply.status < 300:
        return Answer(_decode(reply, expected.shape), http_date(reply.headers.get("Date")))
    if is_retriable(reply.status):
        raise retriable(reply)
    raise _error(reply, expected, _said(reply, token), now)


def _error(reply: Reply, expected: Expected, said: str, now: float) -> TapError:
    name, status = reply.name, reply.status
    if status in expected.forbidden:
        return Forbidden(f"{name}: {status}{said}", status)
    if status in expected.not_offered:
        return NotOffered(f"{name}: {status}{said}")
    if status == 401:
        return Refused(
            f"CircleCI does not accept the token (401{said}): it is wrong, expired, or a project token;"
            " a personal API token is needed."
        )
    if status == 404:
        return NotFound(f"{name}: 404{said}", now)
    if status == 407:
        return Refused(f"A proxy between this machine and CircleCI {PROXY_ASKS}.")
    if status in REDIRECTS:
        return Rejected(f"{name}: a redirect ({status}), which is never followed with the token; check base_url")
    return Rejected(f"{name}: {status}{said}")


def is_retriable(status: int) -> bool:
    """Whether another attempt may get another status."""
    return status == 408 or status >= 500


def retriable(reply: Reply) -> Retriable:
    """The failure of an attempt that may be repeated."""
    after = min(asked_to_wait(reply.headers) or 0.0, LONGEST_ASKED)
    return Retriable(f"status {reply.status}", after, may_be_done=reply.status in GATEWAYS)


def throttled(reply: Reply) -> Throttled:
    """The refusal of a route that has a rate limit of its own."""
    asked = asked_to_wait(reply.headers)
    return Throttled(f"{reply.name}: refused for a rate limit of its own (429) {asked_for(asked)}", asked)


def asked_for(seconds: float | None) -> str:
    """The end of a sentence about a refusal: how long it asks to wait."""
    return "without saying for how long" if seconds is None else f"and asked to wait {seconds:g} s"


def _said(reply: Reply, token: str) -> str:
    """The API's own message, in a form for the end of a sentence."""
    try:
        message = json.loads(reply.body)["message"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    text = message if isinstance(message, str) else quoted(message)
    text = mask(" ".join(text.split()), token).rstrip(".")  # masked before it is cut: a part of the token could remain
    return f": {text[:200]}" if text else ""


def _decode(reply: Reply, shape: Shape) -> Any:
    try:
        body = json.loads(reply.body, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        raise Retriable(f"status {reply.status} with a body that is not JSON", may_be_done=True) from None
    if not shape(body):
        raise Retriable(f"status {reply.status} with JSON of an unexpected shape", may_be_done=True)
    return body


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float | str:
    """A number as a float, or as its text where a float cannot hold it."""
    number = float(text)
    return number if math.isfinite(number) else text
