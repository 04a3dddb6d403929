"""One GET: authenticated, paced, retried, checked, decoded. The only place that speaks HTTP."""

from __future__ import annotations

import json
import logging
import math
import random
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

import backoff
import requests

from tap_circleci.config import Config
from tap_circleci.errors import BadRequest, Forbidden, NotFound, Refused, Unreadable
from tap_circleci.rate_limit import RateLimiter
from tap_circleci.times import http_date
from tap_circleci.workers import Clock

LOGGER = logging.getLogger(__name__)

ATTEMPTS = 5
"""Attempts at a request that fails in a way that may pass: 408, 5xx, the network, a broken body."""
REFUSALS = 6
"""429 answers to one request until the run ends."""
MAX_RATE_LIMIT_WAIT = 60.0
"""Seconds that one request waits for the rate limit in all."""
WORTH_A_LINE = 5.0
"""Seconds without a request that need a word in the log."""
A_DAY = 86_400.0

Params = Mapping[str, str] | Mapping[str, list[str]]
Shape = Callable[[Any], bool]


@dataclass(frozen=True)
class Answer:
    """A decoded body and the service's time when it answered."""

    body: Any
    date: datetime | None


@dataclass
class Traffic:
    """What has been asked so far, `calls` and their `seconds` by the label of the endpoint.

    `retries` are requests repeated after a failure, the last of them for a `reason`; `refusals` are 429s.
    """

    calls: Counter[str] = field(default_factory=Counter)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    refusals: int = 0
    retries: int = 0
    reason: str = ""


class _Passing(Exception):
    """A failure that another attempt may mend; `after` is how long the service asked to wait, in seconds."""

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


class _Session(requests.Session):
    """A session that follows no redirect, and does not even try to understand where it leads."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """There never is one."""


class _TokenHeader(requests.auth.AuthBase):
    """Puts the token into the header of requests to the service, and keeps `.netrc` out of it."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Circle-Token"] = self._token
        return request


class Client:
    """Reads from CircleCI's API. Safe to use from many threads, each of which keeps a connection of its own."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._local = threading.local()
        self._lock = threading.Lock()
        self._sessions: list[requests.Session] = []
        self._traffic = Traffic()
        self.rate_limiter = RateLimiter(clock, config.max_workers)

    def get(self, path: str, params: Params, label: str, shape: Shape) -> Answer:
        """The JSON that the service has at `path` (from the root of the host, already escaped).

        Waits and tries again as often as is sensible, also when the body is not of the `shape` that is expected.
        `label` names the endpoint in metrics. Raises `NotFound`, `Forbidden`, `Unreadable` (all attempts failed) for
        this resource, `Refused` for the run, `Stopped`.
        """
        waits = _growing_waits()
        pauses = _growing_waits()
        failures = refusals = 0
        patience = MAX_RATE_LIMIT_WAIT
        while True:
            left_at = self.rate_limiter.acquire()
            try:
                response = self._send(path, params, label)
                if response.status_code != 429:
                    return self._read(response, path, shape)
            except _Passing as passing:
                failures += 1
                if failures == ATTEMPTS:
                    raise Unreadable(f"{_named(path)}: {passing} in each of {ATTEMPTS} attempts") from None
                self._count(retries=1, reason=str(passing))
                self._clock.wait(max(next(waits), passing.after))
                continue
            refusals += 1
            self._count(refusals=1)
            asked = _asked_to_wait(response)
            pause = next(pauses) if asked is None else asked
            if self.rate_limiter.on_throttled(left_at, pause):
                LOGGER.info(
                    "CircleCI's rate limit is reached (429): all requests wait for %g s%s",
                    round(pause, 1),
                    f", longer than this run does: it ends after {patience:.0f} s" if pause > patience else "",
                )
            if refusals == REFUSALS or pause > patience:
                self._give_up(asked, refusals, 0.0 if refusals == REFUSALS else patience)
            patience -= pause

    def _give_up(self, asked: float | None, refusals: int, patience: float) -> None:
        """End the run for its rate limit, after the patience that is left: a runner that starts us again at once
        must not make us knock at a closed door every second."""
        told = "without saying for how long" if asked is None else f"and asked to wait {asked:g} s"
        reason = Refused(
            f"CircleCI refused a request for its rate limit (429) {told}; given up at refusal {refusals}"
            f" and after at most {MAX_RATE_LIMIT_WAIT:g} s of waiting. Run again later, or with fewer max_workers."
        )
        self._clock.wait(patience)
        self.rate_limiter.close(reason)
        raise reason

    def _send(self, path: str, params: Params, label: str) -> requests.Response:
        began = self._clock.now()
        try:
            return self._session().get(
                self._config.base_url + path,
                params=params,
                timeout=self._config.request_timeout,
                allow_redirects=False,
            )
        except OSError as error:  # what requests raises, and a certificate file that is not there
            raise _Passing(_reason(error)) from None
        except UnicodeError:
            raise Unreadable(f"{_named(path)}: the page token that the service gave is no text") from None
        finally:
            self._count(label=label, seconds=self._clock.now() - began)

    def _read(self, response: requests.Response, path: str, shape: Shape) -> Answer:
        status = response.status_code
        date = _date_of(response)
        if 200 <= status < 300:
            self.rate_limiter.on_success()
            self._heed_limit(response, date or datetime.now(timezone.utc))
            return Answer(_decode(response, shape), date)
        if status == 408 or status >= 500:
            after = _asked_to_wait(response) or 0.0
            raise _Passing(f"status {status}", min(after, MAX_RATE_LIMIT_WAIT))
        said = self._said(response)
        if status == 401:
            reason = Refused(
                f"CircleCI does not accept the token (401{said}): it is wrong, expired, or a project token;"
                " a personal API token is needed."
            )
            self.rate_limiter.close(reason)  # no other request would fare better
            raise reason
        if status == 403:
            raise Forbidden(f"{_named(path)}: 403{said}")
        if status == 404:
            raise NotFound(f"{_named(path)}: 404{said}")
        if 300 <= status < 400:
            raise Refused(
                f"{_named(path)} answered with a redirect ({status}), which is never followed with the token;"
                " check base_url."
            )
        refusal = BadRequest if status == 400 else Refused
        raise refusal(f"CircleCI refused {_named(path)} ({status}{said}).")

    def _heed_limit(self, response: requests.Response, date: datetime) -> None:
        """Hold everybody when the service says that nothing is left of its limit, though no longer than a 429 could."""
        if _header(response, "Remaining") == 0:
            seconds = min(_until_reset(response, date) or 0.0, MAX_RATE_LIMIT_WAIT)
            if self.rate_limiter.pause(seconds) and seconds >= WORTH_A_LINE:
                LOGGER.info("CircleCI's rate limit is used up: all requests wait for %.3g s", seconds)

    def _said(self, response: requests.Response) -> str:
        """The API's own message, fit for a log line."""
        try:
            message = response.json()["message"]
        except (ValueError, LookupError, TypeError):
            return ""
        text = re.sub(r"[\x00-\x1f\x7f\s]+", " ", str(message)).strip().replace(self._config.token, "***")
        return f": {text[:200]}" if text else ""

    def _session(self) -> requests.Session:
        """The connection of the thread that asks."""
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = _Session()
            session.auth = _TokenHeader(self._config.token)
            session.headers.update({"Accept": "application/json", "User-Agent": self._config.user_agent})
            if not self._config.on_loopback:  # nothing of loopback goes through a proxy
                ours = session.merge_environment_settings(self._config.base_url, {}, None, None, None)
                session.proxies, session.verify = ours["proxies"], ours["verify"]
            session.trust_env = False  # the environment has been asked, once and not for every request
            self._local.session = session
            with self._lock:
                self._sessions.append(session)
        return session

    def _count(
        self, *, label: str = "", seconds: float = 0.0, retries: int = 0, reason: str = "", refusals: int = 0
    ) -> None:
        with self._lock:
            if label:
                self._traffic.calls[label] += 1
                self._traffic.seconds[label] += seconds
            self._traffic.retries += retries
            self._traffic.reason = reason or self._traffic.reason
            self._traffic.refusals += refusals

    def traffic(self) -> Traffic:
        """What has been asked so far, in figures that stay as they are while others ask on."""
        with self._lock:
            return replace(self._traffic, calls=self._traffic.calls.copy(), seconds=self._traffic.seconds.copy())

    def close(self) -> None:
        """Give the connections back."""
        with self._lock:
            for session in self._sessions:
                session.close()


def who_am_i(client: Client) -> Answer:
    """Whose token it is, `GET /me`; first of all requests, since a bad token answers 404 on project routes.

    https://circleci.com/docs/api/v2/#tag/User/operation/getCurrentUser
    """
    try:
        return client.get("/api/v2/me", {}, "me", an_object)
    except NotFound:
        raise Refused(
            "GET /api/v2/me answered 404: there is no CircleCI API at base_url, or the token is not a personal one."
        ) from None
    except Forbidden as error:
        raise Refused(f"CircleCI does not tell whose token it is: {error}.") from None
    except Unreadable as error:
        raise Refused(f"CircleCI cannot be reached: {error}.") from None


def _growing_waits() -> Iterator[float]:
    """1, 2, 4, 8 … seconds, each between half and the whole of it."""
    doubling = backoff.expo(base=2, factor=1, max_value=30)
    next(doubling)
    for seconds in doubling:
        yield seconds / 2 + random.uniform(0, seconds / 2)  # noqa: S311 - nothing secret about it


def _named(path: str) -> str:
    return f"GET {path}"


def _reason(error: OSError) -> str:
    """What happened to a request, without its URL and headers."""
    failures = requests.exceptions
    if isinstance(error, failures.SSLError):
        return "TLS failed: the certificate could not be verified"
    if isinstance(error, (failures.ProxyError, failures.InvalidProxyURL, failures.InvalidSchema)):
        return "the proxy that the environment names could not be reached"
    if isinstance(error, failures.Timeout) or "Read timed out" in str(error):
        return "timed out"
    if not isinstance(error, requests.RequestException):
        return str(error)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror.lower()
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, (failures.ChunkedEncodingError, failures.ContentDecodingError)):
        return "the answer ended early or could not be decoded"
    return "the connection failed"


def a_page(body: Any) -> bool:
    """Whether a body is a page of a list: `{"items": [...]}` or a bare array (null stands for no items)."""
    if isinstance(body, dict) and "items" in body:
        body = body["items"] if body["items"] is not None else []
    return isinstance(body, list)


def an_object(body: Any) -> bool:
    """Whether a body is one resource with an id."""
    return isinstance(body, dict) and bool(body.get("id"))


def _decode(response: requests.Response, shape: Shape) -> Any:
    try:
        body = json.loads(response.content, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        raise _Passing(f"status {response.status_code} with a body that is not JSON") from None
    if not shape(body):
        raise _Passing(f"status {response.status_code} with JSON of an unexpected shape")
    return body


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float | str:
    """A number as a float, or as its text where a float cannot hold it."""
    number = float(text)
    return number if math.isfinite(number) else text


def _date_of(response: requests.Response) -> datetime | None:
    """The service's time, to the second, None where the answer does not tell."""
    return http_date(response.headers.get("Date"))


def _asked_to_wait(response: requests.Response) -> float | None:
    """Seconds that the service asks to wait before the next request, if it says so."""
    text = response.headers.get("Retry-After", "").strip()
    seconds: float | None
    try:
        seconds = float(text)
    except ValueError:
        until = http_date(text)
        seconds = (until - (_date_of(response) or datetime.now(timezone.utc))).total_seconds() if until else None
    if seconds is None or not math.isfinite(seconds) or seconds <= 0:
        seconds = _until_reset(response, _date_of(response) or datetime.now(timezone.utc))
    return seconds


def _until_reset(response: requests.Response, date: datetime) -> float | None:
    """Seconds until the limit is fresh again; a figure of more than a day can only be an epoch."""
    seconds = _header(response, "Reset")
    if seconds is not None and seconds > A_DAY:
        seconds -= date.timestamp()
    return seconds if seconds and seconds > 0 else None


def _header(response: requests.Response, name: str) -> float | None:
    for header in (f"RateLimit-{name}", f"X-RateLimit-{name}"):
        try:
            number = float(response.headers.get(header, ""))
        except ValueError:
            continue
        if math.isfinite(number):
            return number
    return None
