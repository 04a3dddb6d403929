"""One request: authenticated, paced, retried, judged. The only module that sends requests to CircleCI.

`get` and `post` have five layers, each around the one before: send once (`_send`), when the rate limiter allows it
(`_paced`); send again after a 429 (`_allowed`); judge the reply (`replies.judge`); retry after a temporary failure
(`_retried`).
"""

import logging
import math
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tap_circleci.config import Config
from tap_circleci.errors import INCIDENTS, LocalError, NotFound, Refused, Unavailable, Unreadable, is_incident
from tap_circleci.http import transport
from tap_circleci.http.downloads import Downloads
from tap_circleci.http.headers import asked_to_wait, ending, remaining, until_reset
from tap_circleci.http.rate_limit import Permit, RateLimiter
from tap_circleci.http.replies import PROXY_ASKS, Answer, Expected, Reply, Shape, asked_for, judge, throttled
from tap_circleci.http.retries import Attempts, Retriable
from tap_circleci.http.traffic import Meter, Traffic
from tap_circleci.workers import Clock

__all__ = ["Answer", "Client", "Traffic", "has_id", "is_object", "who_am_i"]

LOGGER = logging.getLogger(__name__)

REFUSALS = 6
"""429s for one request after which the run ends."""
MAX_RATE_LIMIT_WAIT = 60.0
"""Seconds that one request may wait in all, and that all requests may wait in a row before one is served."""
QUIET = 60.0
"""Seconds between two lines about the rate limit in the log, at least."""
LARGEST_ERROR = 65_536
"""Bytes of the body of an error that are read for its message."""


@dataclass(frozen=True)
class _Request:
    """A request, the same in each attempt. `own_limit`: its route has a rate limit of its own. `is_hint`: the run can
    do without the answer."""

    method: str
    path: str
    label: str
    params: transport.Params | None = None
    body: Mapping[str, Any] | None = None
    own_limit: bool = False
    is_hint: bool = False

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f"{self.method} {self.path}"


@dataclass
class _Patience:
    """How often one request was refused, and how many seconds it may still wait for the rate limit."""

    refusals: int = 0
    left: float = MAX_RATE_LIMIT_WAIT


class Client:
    """Sends requests to CircleCI's API. Safe to use from many threads; each thread keeps its own connection."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._meter = Meter(clock)
        self._certificates = transport.Certificates()
        self._downloads = Downloads(config.user_agent, config.request_timeout, clock, self._meter, self._certificates)
        self._local = threading.local()
        self._lock = threading.Lock()
        self._sessions: list[transport.Session] = []
        self._proven_at = self._missed_at = self._logged_at = -math.inf
        self.base_url = config.base_url
        self.rate_limiter = RateLimiter(clock)

    def get(
        self,
        path: str,
        params: transport.Params,
        label: str,
        shape: Shape,
        *,
        forbidden: Collection[int] = (403,),
        not_offered: Collection[int] = (),
        own_limit: bool = False,
        is_hint: bool = False,
    ) -> Answer:
        """The JSON at `path` (from the root of the host, already escaped).

        Makes up to 5 attempts, also if the body does not have the expected `shape`, and waits up to a minute for the
        rate limit. `label` names the endpoint in metrics. Raises `NotFound`, `Forbidden` and `NotOffered` (for these
        statuses), `Rejected`, `Unreadable` (all attempts failed) for this resource, `Refused` for the run, `Stopped`. A
        route with an `own_limit` raises `Throttled` for a 429, and no other request waits for it. For a hint neither a
        401 (`Forbidden`) nor a wait that is too long (`Throttled`) ends the run.
        """
        request = _Request("GET", path, label, params=params, own_limit=own_limit, is_hint=is_hint)
        expected = Expected(shape, (401, *forbidden) if is_hint else forbidden, not_offered)
        patience = _Patience()

        def attempt() -> Answer:
            reply, permit = self._allowed(self._session(), request, patience)
            now = self._clock.now()
            if reply.status == 404:
                self._doubt(now)
            answer = judge(reply, expected, self._config.token, now)
            self._prove(permit)
            return answer

        return self._retried(request, attempt)

    def post(self, path: str, body: Mapping[str, Any], label: str, shape: Shape) -> Answer:
        """The answer to an order that the service must carry out once, not twice.

        So a request is repeated only if it was certainly not carried out: the connection could not be made, or the
        service itself reports a failure (408 and 5xx, except 502 and 504, with which a gateway says that it does not
        know). A request that may have been carried out is `Unreadable` at once: its answer is missing, cut or cannot be
        decoded. 429 is `Throttled`, and 401 is `Forbidden` like 403, since the route has its own limit and permission.
        Otherwise like `get`.
        """
        request = _Request("POST", path, label, body=body, own_limit=True)
        expected = Expected(shape, forbidden=(401, 403))

        def attempt() -> Answer:
            try:
                # A new connection: the service may close a kept one while the request is sent.
                with self._new_session() as fresh:
                    reply, _ = self._allowed(fresh, request, _Patience())
                return judge(reply, expected, self._config.token, self._clock.now())
            except Retriable as failure:
                if not failure.may_be_done:
                    raise
                raise Unreadable(
                    f"{request.name}: {failure}; CircleCI may have done it all the same, so it is not repeated"
                ) from None

        return self._retried(request, attempt)

    def download(self, url: str, label: str) -> Iterator[bytes]:
        """The file at a pre-signed address, in blocks: see `Downloads.read`."""
        return self._downloads.read(url, label)

    def _retried(self, request: _Request, attempt: Callable[[], Answer]) -> Answer:
        """The answer of the first attempt that succeeds; an error that ends the run ends all other requests, too."""
        try:
            return Attempts(request.name, self._clock, self._meter).until_it_succeeds(attempt)
        except Refused as reason:
            self.rate_limiter.close(reason)
            raise

    def _allowed(self, via: transport.Session, request: _Request, patience: _Patience) -> tuple[Reply, Permit]:
        """The first reply that is no 429, and the permit with which its request left."""
        while True:
            reply, permit = self._paced(via, request)
            if reply.status != 429:
                return reply, permit
            if request.own_limit:
                raise throttled(reply)
            asked = asked_to_wait(reply.headers)
            if request.is_hint and (asked or 0.0) > patience.left:
                self.rate_limiter.on_failure()  # no other request waits that long for a hint
                raise throttled(reply)
            if not self._wait_for_limit(asked, permit, patience):
                if request.is_hint:
                    raise throttled(reply)
                self._give_up(asked, patience)

    def _wait_for_limit(self, asked: float | None, permit: Permit, patience: _Patience) -> bool:
        """Make all requests wait as a 429 asks; gives whether the refused request may wait that long, too."""
        self._meter.refusal()
        wait, waited_before = self.rate_limiter.on_throttled(permit, asked)
        patience.refusals += 1
        patience.left = min(patience.left, MAX_RATE_LIMIT_WAIT - waited_before)
        if patience.refusals == REFUSALS or wait > patience.left:
            return False
        self._log_wait(f"CircleCI's rate limit is reached (429): all requests wait for {round(wait, 2):g} s")
        patience.left -= wait
        return True

    def _give_up(self, asked: float | None, patience: _Patience) -> None:
        """End the run for its rate limit after the rest of the allowed wait, so that instant restarts do not flood the
        API."""
        is_last = patience.refusals == REFUSALS
        rest = 0.0 if is_last else patience.left
        refused = f"CircleCI refused a request for its rate limit (429) {asked_for(asked)}"
        if rest:
            self._log_wait(f"{refused}; a run waits {MAX_RATE_LIMIT_WAIT:g} s at most: stopping in {rest:.0f} s")
        reason = Unavailable(
            f"{refused}; given up after"
            f" {f'{REFUSALS} refusals' if is_last else f'{MAX_RATE_LIMIT_WAIT:g} s of waiting'}."
            " Run again later, or with fewer max_workers."
        )
        self.rate_limiter.give_up(rest, reason)
        raise reason

    def _paced(self, via: transport.Session, request: _Request) -> tuple[Reply, Permit]:
        """The reply to one request, sent when it may leave. The caller reports a 429 to the rate limiter."""
        permit = self.rate_limiter.acquire()
        try:
            reply = self._send(via, request)
        except BaseException:
            self.rate_limiter.on_failure()
            raise
        if reply.status != 429:
            self._served(reply, permit, request)
        elif request.own_limit:
            self.rate_limiter.on_failure()  # it says nothing about the limit of the other requests
        return reply, permit

    def _served(self, reply: Reply, permit: Permit, request: _Request) -> None:
        """Report to the rate limiter how many more requests the service says it serves, for at most a minute."""
        if request.own_limit:
            self.rate_limiter.on_success(permit)
            return
        reset = until_reset(reply.headers)
        seconds = None if reset is None else min(reset, MAX_RATE_LIMIT_WAIT)
        if self.rate_limiter.on_success(permit, remaining(reply.headers), seconds):
            self._log_wait(f"CircleCI's rate limit is used up: all requests wait for {seconds or 0.0:.3g} s")

    def _log_wait(self, sentence: str) -> None:
        """Log a wait for the rate limit, at most once a minute: the summary has the counts."""
        now = self._clock.now()
        with self._lock:
            is_due = now >= self._logged_at + QUIET
            self._logged_at = now if is_due else self._logged_at
        if is_due:
            LOGGER.info("%s", sentence)

    def _send(self, via: transport.Session, request: _Request) -> Reply:
        """Send a request now, once. Raises `Retriable`, `Unreadable`, `Refused`."""
        try:
            with self._meter.call(request.label):
                response = transport.exchange(
                    via,
                    request.method,
                    self._config.base_url + request.path,
                    self._config.request_timeout,
                    params=request.params,
                    json=request.body,
                )
            with response:
                if clause := ending(response.status_code, response.headers):
                    self._meter.ending(request.label, clause)
                return Reply(request.name, response.status_code, response.headers, _body(response))
        except transport.Failed as failed:
            raise Retriable(str(failed), may_be_done=not failed.unsent) from None
        except transport.ProxyRefused as refused:
            raise Refused(_proxy_sentence(str(refused))) from None
        except transport.Untrusted as untrusted:
            raise self._untrusted(untrusted) from None
        except transport.TooLarge:
            raise Unreadable(f"{request.name}: the answer is larger than {transport.LARGEST // 2**20} MB") from None
        except UnicodeError:
            raise Unreadable(f"{request.name}: the page token that the service gave cannot be encoded") from None

    def _untrusted(self, reason: transport.Untrusted) -> Refused:
        return Refused(
            f"{self._config.base_url} cannot be trusted: {reason}; REQUESTS_CA_BUNDLE may name a file with the"
            " certificates to trust."
        )

    def _session(self) -> transport.Session:
        """The session of the calling thread."""
        kept: transport.Session | None = getattr(self._local, "session", None)
        if kept is None:
            kept = self._local.session = self._new_session()
            with self._lock:
                self._sessions.append(kept)
        return kept

    def _new_session(self) -> transport.Session:
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "Circle-Token": self._config.token,
            "User-Agent": self._config.user_agent,
        }
        try:
            return transport.session(self.base_url, headers, self._certificates)
        except transport.Untrusted as untrusted:
            raise self._untrusted(untrusted) from None

    def proven_at(self) -> float:
        """When the newest request with an answer left, by the clock: the token was valid then."""
        with self._lock:
            return self._proven_at

    def is_proven(self) -> bool:
        """Whether the token was valid after the newest 404, which an invalid one gets, too."""
        with self._lock:
            return self._missed_at < self._proven_at

    def _doubt(self, now: float) -> None:
        with self._lock:
            self._missed_at = max(self._missed_at, now)

    def _prove(self, permit: Permit) -> None:
        with self._lock:
            self._proven_at = max(self._proven_at, permit.left_at)

    def traffic(self) -> Traffic:
        """A copy of what was requested so far."""
        return self._meter.read()

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            for kept in self._sessions:
                kept.close()


def who_am_i(client: Client) -> Answer:
    """Whose token it is, `GET /me`: the first request, since a bad token gets 404 on project routes.

    https://circleci.com/docs/api/v2/#tag/User/operation/getCurrentUser
    """
    try:
        return client.get("/api/v2/me", {}, "me", has_id)
    except NotFound:
        raise Refused(
            "GET /api/v2/me answered 404: there is no CircleCI API at base_url, or the token is not a personal one."
        ) from None
    except Unreadable as error:
        if is_incident(str(error)):
            raise Unavailable(f"CircleCI at {client.base_url} is not working: {error}. {INCIDENTS}") from None
        raise Unavailable(f"CircleCI cannot be reached at {client.base_url}: {error}.") from None
    except LocalError as error:
        raise Refused(f"CircleCI does not say whose token it is: {error}.") from None


def is_object(body: Any) -> bool:
    """Whether a body is one resource: an object with at least one field."""
    return isinstance(body, dict) and bool(body)


def has_id(body: Any) -> bool:
    """Whether a body is one resource with an id."""
    return is_object(body) and bool(body.get("id"))


def _body(response: transport.Response) -> bytearray:
    """The whole body; of an error at most 64 KB, or nothing if that cannot be read."""
    if 200 <= response.status_code < 300:
        return transport.content(response)
    try:
        return transport.content(response, LARGEST_ERROR)
    except (transport.Failed, transport.TooLarge):
        return bytearray()  # the status is enough


def _proxy_sentence(said: str) -> str:
    if said.startswith("407"):
        return f"The proxy that the environment names {PROXY_ASKS}."
    return f"The proxy that the environment names refused the connection ({said})."
