"""One request: authenticated, paced, retried, checked, decoded. The only place that asks CircleCI anything."""

from __future__ import annotations

import json
import logging
import math
import random
import threading
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import backoff

from tap_circleci.config import Config, is_loopback
from tap_circleci.errors import (
    Forbidden,
    LinkExpired,
    LocalError,
    NotFound,
    NotOffered,
    Refused,
    Rejected,
    Throttled,
    Unavailable,
    Unreadable,
)
from tap_circleci.http.limit_headers import asked_to_wait, remaining, until_reset
from tap_circleci.http.rate_limit import Permit, RateLimiter
from tap_circleci.http.transport import (
    LARGEST,
    Failed,
    Params,
    Response,
    Session,
    TooLarge,
    Untrusted,
    blocks,
    content,
    exchange,
    session,
    unpacked,
)
from tap_circleci.values.text import mask, quoted
from tap_circleci.values.times import http_date
from tap_circleci.workers import Clock

LOGGER = logging.getLogger(__name__)

ATTEMPTS = 5
"""Attempts at a request that fails in a way that may pass: 408, 5xx, the network, a broken body."""
REFUSALS = 6
"""429 answers to one request until the run ends."""
MAX_RATE_LIMIT_WAIT = 60.0
"""Seconds that one request is told to wait in all, and that all may wait in a row until one is served."""
QUIET = 60.0
"""Seconds between two lines about the rate limit in the log."""
LARGEST_ERROR = 65_536
"""Bytes of the body of an error that are read for its message."""
REDIRECTS = frozenset({300, 301, 302, 303, 305, 307, 308})
"""Statuses that name another address. 304 does not: nothing here asks whether a resource has changed."""
EXPIRED = frozenset({400, 401, 403, 404, 410})
"""What hosts of files answer to a pre-signed address that is not valid any more."""

Shape = Callable[[Any], bool]


@dataclass(frozen=True)
class Answer:
    """A decoded body and when the service answered.

    `date` is the service's time, to the second; None where the answer tells none, or one that cannot be.
    """

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


class _Retriable(Exception):
    """A failure that another attempt may mend; `after` is how long the service asked to wait, in seconds.

    `may_be_done`: the service may have done what it was asked for.
    """

    def __init__(self, reason: str, after: float = 0.0, *, may_be_done: bool = False) -> None:
        super().__init__(reason)
        self.after = after
        self.may_be_done = may_be_done


@dataclass(frozen=True)
class _Reply:
    """An answer before it is judged; the body of an error may be cut or missing."""

    name: str
    status: int
    headers: Mapping[str, str]
    body: bytes | bytearray


class Client:
    """Reads from CircleCI's API. Safe to use from many threads, each of which keeps a connection of its own."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._local = threading.local()
        self._lock = threading.Lock()
        self._sessions: list[Session] = []
        self._traffic = Traffic()
        self._proven_at = self._told_at = -math.inf
        self.base_url = config.base_url
        self.rate_limiter = RateLimiter(clock)

    def get(
        self,
        path: str,
        params: Params,
        label: str,
        shape: Shape,
        *,
        forbidden: Collection[int] = (403,),
        not_offered: Collection[int] = (),
        own_limit: bool = False,
    ) -> Answer:
        """The JSON that the service has at `path` (from the root of the host, already escaped).

        Makes up to 5 attempts, also when the body is not of the `shape` that is expected, and waits up to a minute for
        the rate limit.
        `label` names the endpoint in metrics. Raises `NotFound`, `Forbidden` and `NotOffered` (for these statuses),
        `Rejected`, `Unreadable` (all attempts failed) for this resource, `Refused` for the run, `Stopped`. A route with
        an `own_limit` raises `Throttled` for a 429, and holds nobody else up.
        """
        attempts = _Attempts(self, f"GET {path}")
        refusals = 0
        wait_left = MAX_RATE_LIMIT_WAIT
        while True:
            try:
                reply, permit = self._ask(self._session(), "GET", path, label, own_limit=own_limit, params=params)
                if reply.status != 429:
                    answer = self._read(reply, shape, forbidden, not_offered)
                    self._prove(permit.left_at)
                    return answer
            except _Retriable as retriable:
                attempts.failed(retriable)
                continue
            if own_limit:
                raise _throttled(reply)
            refusals += 1
            self._count(refusals=1)
            asked = asked_to_wait(reply.headers)
            pause, waited_before = self.rate_limiter.on_throttled(permit, asked)
            wait_left = min(wait_left, MAX_RATE_LIMIT_WAIT - waited_before)
            self._tell(f"CircleCI's rate limit is reached (429): all requests wait for {pause:.3g} s")
            if refusals == REFUSALS or pause > wait_left:
                self._give_up(asked, refusals, 0.0 if refusals == REFUSALS else wait_left)
            wait_left -= pause

    def post(self, path: str, body: Mapping[str, Any], label: str, shape: Shape) -> Answer:
        """What the service answers when it is asked to do something, and has done so: once, not twice.

        So only what has not been done for sure is asked for again: the connection could not be made, or the service
        itself says that it failed (408, 5xx but for 502 and 504, with which a gateway says that it does not know). What
        may have been done is `Unreadable` at once: a cut or undecodable answer, or none. 429 is `Throttled`, and 401
        `Forbidden` like 403, since the limit and the right are those of the route. Otherwise like `get`.
        """
        attempts = _Attempts(self, f"POST {path}")
        while True:
            try:
                # A connection of its own: one that was kept may be closed by the service while the request is sent.
                with self._new_session() as fresh:
                    reply, _ = self._ask(fresh, "POST", path, label, own_limit=True, body=body)
                if reply.status == 429:
                    raise _throttled(reply)
                return self._read(reply, shape, (401, 403))
            except _Retriable as retriable:
                if retriable.may_be_done:
                    raise Unreadable(
                        f"POST {path}: {retriable}; it may have been done all the same, so it is not asked for again"
                    ) from None
                attempts.failed(retriable)

    def download(self, url: str, label: str) -> Iterator[bytes]:
        """The file at a pre-signed address of any host, unpacked if it is gzip, in blocks of bounded size.

        The request carries our user agent and nothing else; the query of the address is a secret. A download that
        breaks off is begun anew, five attempts in all, and goes on where it was: no byte is given twice. Each read is
        bounded, the whole is not, unless it drips. Raises `LinkExpired` (a fresh address may work; what has been given
        by then will come again from its start) and `Unreadable`, which also means a file that is not what it was in the
        attempt before; `Refused` for a certificate that cannot be verified; `Stopped`.
        """
        host, on_loopback = _file_host(url)
        name = f"the file at {host}"
        attempts = _Attempts(self, name)
        given = digest = 0
        headers = {"User-Agent": self._config.user_agent}
        with session(url, headers, on_loopback=on_loopback, download=True) as files:
            while True:
                position = check = 0
                try:
                    with self._exchange(files, "GET", url, label) as response:
                        _judge_file(_Reply(name, response.status_code, response.headers, b""))
                        for block in unpacked(unpacked(blocks(response))):  # the file, and perhaps its transport
                            self._clock.check()
                            known = block[: max(given - position, 0)]
                            fresh = block[len(known) :]
                            position += len(block)
                            check = zlib.crc32(known, check)
                            if known and position >= given and check != digest:
                                raise Unreadable(f"{name}: it has changed while it was read")
                            if fresh:
                                digest = zlib.crc32(fresh, digest)
                                given += len(fresh)
                                yield fresh
                    if position < given:
                        raise Unreadable(f"{name}: it has changed while it was read")
                    return
                except Failed as failed:
                    attempts.failed(_Retriable(str(failed)))
                except _Retriable as retriable:
                    attempts.failed(retriable)
                except Untrusted as untrusted:
                    raise Unreadable(f"{name}: its host cannot be trusted: {untrusted}") from None

    def _give_up(self, asked: float | None, refusals: int, wait_left: float) -> None:
        """End the run for its rate limit, after what is left of the allowed wait: instant restarts must not hammer the
        API."""
        told = "without saying for how long" if asked is None else f"and asked to wait {asked:g} s"
        limit = f"{REFUSALS} refusals" if refusals == REFUSALS else f"{MAX_RATE_LIMIT_WAIT:g} s of waiting"
        reason = Unavailable(
            f"CircleCI refused a request for its rate limit (429) {told}; given up after {limit}."
            " Run again later, or with fewer max_workers."
        )
        self._clock.wait(wait_left)
        self.rate_limiter.close(reason)
        raise reason

    def _ask(
        self,
        via: Session,
        method: str,
        path: str,
        label: str,
        *,
        own_limit: bool,
        params: Params | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> tuple[_Reply, Permit]:
        """`_send` with a permit. Reports the outcome to the rate limiter, except for a 429, which `get` reports."""
        permit = self.rate_limiter.acquire()
        try:
            reply = self._send(via, method, path, label, params=params, body=body)
        except BaseException:
            self.rate_limiter.on_failure()
            raise
        if own_limit and reply.status == 429:
            self.rate_limiter.on_failure()  # it tells nothing of the limit of the others
        elif own_limit:
            self.rate_limiter.on_success(permit)
        elif reply.status != 429:
            self._heed_limit(reply, permit)
        return reply, permit

    def _send(
        self,
        via: Session,
        method: str,
        path: str,
        label: str,
        *,
        params: Params | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> _Reply:
        name = f"{method} {path}"
        try:
            with self._exchange(via, method, self._config.base_url + path, label, params, body) as response:
                status, headers = response.status_code, response.headers
                if 200 <= status < 300:
                    return _Reply(name, status, headers, content(response))
                try:
                    said = content(response, LARGEST_ERROR)
                except (Failed, TooLarge):
                    said = bytearray()  # its status says enough
                return _Reply(name, status, headers, said)
        except Failed as failed:
            raise _Retriable(str(failed), may_be_done=not failed.unsent) from None
        except Untrusted as untrusted:
            reason = Refused(
                f"{self._config.base_url} cannot be trusted: {untrusted}; REQUESTS_CA_BUNDLE may name a file with the"
                " certificates to trust."
            )
            self.rate_limiter.close(reason)  # no other request would fare better
            raise reason from None
        except TooLarge:
            raise Unreadable(f"{name}: the answer is larger than {LARGEST // 2**20} MB") from None
        except UnicodeError:
            raise Unreadable(f"{name}: the page token that the service gave is no text") from None

    def _exchange(
        self,
        via: Session,
        method: str,
        url: str,
        label: str,
        params: Params | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Response:
        """An answer, its body unread, counted and timed until its headers came."""
        began = self._clock.now()
        try:
            return exchange(via, method, url, self._config.request_timeout, params=params, json=body)
        finally:
            self._count(label=label, seconds=self._clock.now() - began)

    def _read(
        self, reply: _Reply, shape: Shape, forbidden: Collection[int], not_offered: Collection[int] = ()
    ) -> Answer:
        status, name = reply.status, reply.name
        if 200 <= status < 300:
            date = http_date(reply.headers.get("Date"))
            return Answer(_decode(reply, shape), date)
        if _is_retriable(status):
            raise _retriable(reply)
        said = self._said(reply)
        if status in forbidden:
            raise Forbidden(f"{name}: {status}{said}", status)
        if status in not_offered:
            raise NotOffered(f"{name}: {status}{said}")
        if status == 401:
            reason = Refused(
                f"CircleCI does not accept the token (401{said}): it is wrong, expired, or a project token;"
                " a personal API token is needed."
            )
            self.rate_limiter.close(reason)  # no other request would fare better
            raise reason
        if status == 404:
            raise NotFound(f"{name}: 404{said}", self._clock.now())
        if status == 407:
            reason = Refused(f"A proxy in front of {self._config.base_url} asks for a user name and password (407).")
            self.rate_limiter.close(reason)
            raise reason
        if status in REDIRECTS:
            raise Rejected(f"{name}: a redirect ({status}), which is never followed with the token; check base_url")
        raise Rejected(f"{name}: {status}{said}")

    def _heed_limit(self, reply: _Reply, permit: Permit) -> None:
        """Hand on how many more requests the service says it serves, and for how many seconds, a minute at most."""
        reset = until_reset(reply.headers)
        seconds = None if reset is None else min(reset, MAX_RATE_LIMIT_WAIT)
        if self.rate_limiter.on_success(permit, remaining(reply.headers), seconds) and seconds:
            self._tell(f"CircleCI's rate limit is used up: all requests wait for {seconds:.3g} s")

    def _tell(self, sentence: str) -> None:
        """Log a wait for the rate limit, once a minute at most: the summary has the counts."""
        now = self._clock.now()
        with self._lock:
            is_due = now >= self._told_at + QUIET
            self._told_at = now if is_due else self._told_at
        if is_due:
            LOGGER.info("%s", sentence)

    def _said(self, reply: _Reply) -> str:
        """The API's own message, fit for a sentence."""
        try:
            message = json.loads(reply.body)["message"]
        except (ValueError, LookupError, TypeError, RecursionError):
            return ""
        text = message if isinstance(message, str) else quoted(message)
        text = mask(" ".join(text.split()), self._config.token)  # before a cut can leave a part of it
        return f": {text[:200]}" if text else ""

    def _session(self) -> Session:
        """The connection of the thread that asks."""
        kept: Session | None = getattr(self._local, "session", None)
        if kept is None:
            kept = self._local.session = self._new_session()
            with self._lock:
                self._sessions.append(kept)
        return kept

    def _new_session(self) -> Session:
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "Circle-Token": self._config.token,
            "User-Agent": self._config.user_agent,
        }
        return session(self._config.base_url, headers, on_loopback=self._config.on_loopback)

    def proven_at(self) -> float:
        """When the newest request left, by the clock, to which `get` has an answer: the token was valid then."""
        with self._lock:
            return self._proven_at

    def _prove(self, left_at: float) -> None:
        with self._lock:
            self._proven_at = max(self._proven_at, left_at)

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

    def _repeat(self, reason: str, seconds: float) -> None:
        """Count an attempt that failed, and wait for the next."""
        self._count(retries=1, reason=reason)
        self._clock.wait(seconds)

    def traffic(self) -> Traffic:
        """What has been asked so far, in figures that stay as they are while others ask on."""
        with self._lock:
            return replace(self._traffic, calls=self._traffic.calls.copy(), seconds=self._traffic.seconds.copy())

    def close(self) -> None:
        """Give the connections back."""
        with self._lock:
            for kept in self._sessions:
                kept.close()


class _Attempts:
    """The attempts at one request that fails in a way that may pass."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._name = name
        self._waits = _growing_waits()
        self._failures = 0

    def failed(self, retriable: _Retriable) -> None:
        """Wait for the next attempt; after the last one raise `Unreadable`."""
        self._failures += 1
        if self._failures == ATTEMPTS:
            raise Unreadable(f"{self._name}: {retriable} in each of {ATTEMPTS} attempts") from None
        self._client._repeat(str(retriable), max(next(self._waits), retriable.after))


def who_am_i(client: Client) -> Answer:
    """Whose token it is, `GET /me`; first of all requests, since a bad token answers 404 on project routes.

    https://circleci.com/docs/api/v2/#tag/User/operation/getCurrentUser
    """
    try:
        return client.get("/api/v2/me", {}, "me", has_id)
    except NotFound:
        raise Refused(
            "GET /api/v2/me answered 404: there is no CircleCI API at base_url, or the token is not a personal one."
        ) from None
    except Unreadable as error:
        raise Unavailable(f"CircleCI cannot be reached at {client.base_url}: {error}.") from None
    except LocalError as error:
        raise Refused(f"CircleCI does not tell whose token it is: {error}.") from None


def _growing_waits() -> Iterator[float]:
    """1, 2, 4, 8 … seconds, each between half and the whole of it."""
    doubling = backoff.expo(base=2, factor=1, max_value=30)
    next(doubling)
    for seconds in doubling:
        yield seconds / 2 + random.uniform(0, seconds / 2)  # noqa: S311 - nothing secret about it


def is_object(body: Any) -> bool:
    """Whether a body is one resource, with anything in it."""
    return isinstance(body, dict) and bool(body)


def has_id(body: Any) -> bool:
    """Whether a body is one resource with an id."""
    return is_object(body) and bool(body.get("id"))


def _decode(reply: _Reply, shape: Shape) -> Any:
    try:
        body = json.loads(reply.body, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        raise _Retriable(f"status {reply.status} with a body that is not JSON", may_be_done=True) from None
    if not shape(body):
        raise _Retriable(f"status {reply.status} with JSON of an unexpected shape", may_be_done=True)
    return body


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float | str:
    """A number as a float, or as its text where a float cannot hold it."""
    number = float(text)
    return number if math.isfinite(number) else text


def _is_retriable(status: int) -> bool:
    """Whether this status may be another one in a moment."""
    return status == 408 or status >= 500


def _retriable(reply: _Reply) -> _Retriable:
    """That another attempt may be answered otherwise; a gateway does not know what became of the request."""
    after = min(asked_to_wait(reply.headers) or 0.0, MAX_RATE_LIMIT_WAIT)
    return _Retriable(f"status {reply.status}", after, may_be_done=reply.status in (502, 504))


def _throttled(reply: _Reply) -> Throttled:
    asked = asked_to_wait(reply.headers)
    told = "without saying for how long" if asked is None else f"and asked to wait {asked:g} s"
    return Throttled(f"{reply.name}: refused for a rate limit of its own (429) {told}", asked)


def _file_host(url: str) -> tuple[str, bool]:
    """The host of a file, and whether it is this machine. Raises `Unreadable` for an address that is not used."""
    try:
        parts = urlsplit(url if isinstance(url, str) and url.isascii() else "")
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    if not host or "@" in parts.netloc:
        raise Unreadable("a file that the service offers: its address is no URL that can be used")
    on_loopback = is_loopback(host)
    if parts.scheme != "https" and not (parts.scheme == "http" and on_loopback):
        raise Unreadable(f"the file at {host}: its address does not begin with https")
    return host, on_loopback


def _judge_file(reply: _Reply) -> None:
    """Let a file through; anything else that its host may answer is raised."""
    if reply.status in EXPIRED:
        raise LinkExpired(f"{reply.name}: its address is not valid any more ({reply.status})")
    if reply.status == 429 or _is_retriable(reply.status):
        raise _retriable(reply)
    if not 200 <= reply.status < 300:
        why = " a redirect, which is never followed" if reply.status in REDIRECTS else ""
        raise Unreadable(f"{reply.name}: its host answered{why} ({reply.status})")
