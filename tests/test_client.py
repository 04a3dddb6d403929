"""One request: authenticated, paced, retried, checked and decoded, with each temporary fault of the service."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import subprocess
import threading
import time
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tap_circleci.cli import OUT_OF_MEMORY
from tap_circleci.client import Client
from tap_circleci.config import check
from tap_circleci.errors import (
    Damaged,
    Forbidden,
    LinkExpired,
    LocalError,
    NotFound,
    Refused,
    Rejected,
    TapError,
    Throttled,
    Unreadable,
)
from tests.circleci import Fault, Server
from tests.tap import PROGRAM, FastClock, assert_same, sync, tables
from tests.test_rate_limit import started
from tests.wire import HEAD, Proxy, Wire, answer, certificate, drip
from tests.worlds import PASSING, WALK, pipeline_ids, truth_of, world_of

TOKEN = "CCIPAT_abcdefghijklmnopqrstuvwxyz_0123456789"
PAGE = b'{"items": [], "next_page_token": null}'
FILE = b"A,B\n" + b"".join(b"%d,%d\n" % (number, number * number) for number in range(60_000))


def is_page(body) -> bool:
    items = body.get("items") if isinstance(body, dict) else body
    return isinstance(items, list)


def gzipped(content: bytes) -> bytes:
    """The same bytes at any time, so that all processes of a test run name the tests alike."""
    return gzip.compress(content, mtime=0)


def client_of(url: str, **settings: Any) -> Client:
    """A client whose waits take no time."""
    raw = {"token": TOKEN, "project_slugs": "gh/acme/api", "base_url": url, **settings}
    return Client(check(raw, "config.json"), FastClock())


def anything(_body: Any) -> bool:
    """Any JSON will do."""
    return True


@pytest.mark.parametrize("name", PASSING)
def test_what_passes_leaves_no_trace_in_the_tables(name):
    """Each temporary fault, on each route, is waited for and retried, and all rows are sent."""
    with Server(world_of()) as server:
        for route in ("/me", "/collaborations", "/private/project", "/pipeline", "/workflow", "/job"):
            server.script(rf"{route}($|\?)", [PASSING[name], PASSING[name]])
        clock = FastClock()
        run = sync(server, clock=clock)
        assert run.status == 0, run.log
        assert_same(tables(run.lines), truth_of(server.world))
    assert clock.waited > 1


def test_an_answer_that_does_not_come_is_asked_for_again():
    """A read ends after request_timeout, and the request is retried."""
    with Server(world_of(3)) as server:
        server.script("/workflow", [Fault(delay=60)])
        began = time.monotonic()
        run = sync(server, request_timeout=1)
        assert time.monotonic() - began < 50
        assert_same(tables(run.lines), truth_of(server.world))
    assert run.status == 0


def test_waits_are_as_long_as_the_service_says():
    """The wait is the seconds or the date in Retry-After, or the time in RateLimit-Reset."""
    for fault, seconds in (
        ("429 in seconds", 3),
        ("429 with a date", 20),
        ("429 with a reset", 4),
        ("nothing left", 5),
    ):
        with Server(world_of(1)) as server:
            server.script("/collaborations", [PASSING[fault]])
            clock = FastClock()
            sync(server, clock=clock, streams=["context"])
        assert clock.waited == pytest.approx(seconds, abs=1.0), fault


def test_a_limit_that_is_used_up_for_long_is_asked_about_after_a_minute():
    """RateLimit-Remaining: 0 with a Reset in an hour pauses the run for a minute, which is logged; then it goes on."""
    with Server(world_of(1)) as server:
        spent = {"RateLimit-Remaining": "0", "RateLimit-Reset": "3600"}
        server.script("/collaborations", [Fault(None, spent)])
        clock = FastClock()
        run = sync(server, clock=clock, streams=["context"])
    assert run.status == 0
    assert clock.waited == pytest.approx(60, abs=1.0)
    assert "used up: all requests wait for 60 s" in run.log


class HeldClock(FastClock):
    """A clock that does not move on before `moves` is set; `is_held`: somebody waits for that."""

    def __init__(self) -> None:
        super().__init__()
        self.is_held, self.moves = threading.Event(), threading.Event()

    def wait(self, seconds: float) -> None:
        self.is_held.set()
        self.moves.wait(60)
        super().wait(seconds)


def test_while_asked_to_wait_no_request_leaves():
    """After a 429 no worker sends a request until the wait is over; those in flight are completed."""
    clock, sent = HeldClock(), []

    def watch() -> None:
        clock.is_held.wait(60)
        sent.append(server.calls)
        time.sleep(0.3)  # in which those that do not wait would ask for all that is left
        sent.append(server.calls)
        clock.moves.set()

    with Server(world_of(60)) as server:
        server.script("/job", [None] * 20 + [Fault(429, {"Retry-After": "1"})])
        (watcher,) = started([watch])
        run = sync(server, clock=clock, max_workers=4)
        watcher.join()
    assert run.status == 0
    assert sent[1] - sent[0] < 4
    assert server.calls - sent[1] > 20


def test_a_rate_limit_without_end_ends_the_run():
    """After six refusals, or a minute of waiting, exit 1 says how long the service asked to wait."""
    for asked, attempts in (("2", 6), ("3600", 1), ("40", 2)):
        with Server(world_of()) as server:
            server.script("/workflow", [Fault(429, {"Retry-After": asked})] * 99)
            clock = FastClock()
            run = sync(server, clock=clock, streams=WALK, max_workers=1)
            refused = [request for request in server.requests if request.status == 429]
        assert run.status == 1
        assert len(refused) == attempts
        assert f"asked to wait {asked} s" in run.criticals()[-1]
        first = {"3600": "asked to wait 3600 s; a run waits 60 s at most: stopping in 60 s"}
        assert first.get(asked, f"all requests wait for {asked} s") in run.log
        assert clock.waited <= 61


def test_six_refusals_of_two_seconds_each_are_waited_for_almost_a_minute():
    """A wait that was too short twice gets longer: 2, 2, 5, 20 and 29 seconds."""
    with Wire(answer(b"", "Retry-After: 2\r\n", "429 No")) as wire:
        client = client_of(wire.url)
        with pytest.raises(Refused, match="given up after 6 refusals"):
            client.get("/x", {}, "x", is_page)
    assert client._clock.waited == pytest.approx(58, abs=1)
    assert client.rate_limiter.waited == pytest.approx(58, abs=1)


def test_an_incident_has_one_line_a_minute_and_a_count():
    """If a third of the requests is refused once, the log has one line a minute, not one for each refusal."""
    with Server(world_of(60)) as server:
        numbers = itertools.count(1)
        server.fault = lambda path, nth: (
            Fault(429, {"Retry-After": "1"}) if nth == 1 and not next(numbers) % 3 else None
        )
        clock = FastClock()
        run = sync(server, clock=clock, streams=WALK)
        refused = sum(request.status == 429 for request in server.requests)
    assert run.status == 0
    assert refused > 30
    assert 1 <= run.log.count("rate limit is reached") <= 1 + clock.waited / 60
    assert f"{refused} refused for the rate limit (429)" in run.log


def test_the_wait_that_ends_a_run_is_counted():
    """A wait of more than a minute ends the run after a minute, and that minute counts as waited."""
    with Wire(answer(b"", "Retry-After: 90\r\n", "429 No")) as wire:
        client = client_of(wire.url)
        with pytest.raises(Refused, match="asked to wait 90 s; given up after 60 s of waiting"):
            client.get("/x", {}, "x", is_page)
    assert client.rate_limiter.waited == pytest.approx(60, abs=1)


def test_an_answer_for_which_there_is_no_memory_ends_the_run_in_a_sentence(tmp_path: Path):
    """If memory runs out, the run ends with exit 1 and one sentence, without a traceback."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    packed = b"".join([*(packer.compress(b" " * 2**20) for _ in range(200)), packer.flush()])
    with Wire(answer(packed, "Content-Encoding: gzip\r\n")) as wire:
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"token": TOKEN, "project_slugs": "gh/acme/api", "base_url": wire.url}))
        ended = subprocess.run(
            ["bash", "-c", f"ulimit -v 300000; exec {PROGRAM} --config {config} --get /me"],
            capture_output=True,
            text=True,
            check=False,
        )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if "CRITICAL" in line]
    assert line.endswith(OUT_OF_MEMORY)


def test_a_bad_token_is_named_at_once():
    """GET /me answers 401: exit 1 after one call, and the token is shown nowhere."""
    with Server(world_of()) as server:
        run = sync(server, token="wr0ng-t0ken")
        assert server.calls == 1
    assert run.status == 1
    assert "does not accept the token" in run.criticals()[0]
    assert "wr0ng" not in run.log


def test_a_token_that_is_revoked_in_the_middle_ends_all_requests():
    """After a 401 no request is sent any more, also none that is earlier in the order of the output."""
    with Server(world_of(100)) as server:
        slow, name = pipeline_ids(server.world)[38:40]
        server.fault = lambda path, nth: Fault(401) if name in path else Fault(delay=1) if slow in path else None
        run = sync(server, streams=WALK, max_workers=2)
        asked = [request.path for request in server.requests]
    assert run.status == 1
    assert "does not accept the token" in run.criticals()[0]
    assert len(asked) - next(number for number, path in enumerate(asked) if name in path) <= 4


def test_the_token_is_hidden_where_an_answer_is_cut():
    """A message of the API that repeats the token shows no part of it."""
    with Server(world_of(1)) as server:
        server.script("/me$", [Fault(400, {}, {"message": "x" * 190 + server.world.token})])
        run = sync(server)
    assert run.status == 1
    assert server.world.token[:8] not in run.log


def test_a_service_that_knows_nobody_is_named_at_once():
    """If GET /me answers 404 (a project token, or no CircleCI there), the run ends with exit 1 after one call."""
    with Server(world_of()) as server:
        server.script("/me", [Fault(404)])
        run = sync(server)
        assert server.calls == 1
    assert run.status == 1
    assert "no CircleCI API at base_url, or the token is not a personal one" in run.criticals()[0]


@pytest.mark.parametrize("status", [400, 405, 409, 410, 414, 415, 422, 451, 304, 302])
def test_a_status_without_a_reaction_of_its_own_leaves_out_one_resource(status):
    """It is named in the API's own words with exit 1, the rest is delivered, and the next run requests it again."""
    with Server(world_of()) as server:
        ids = pipeline_ids(server.world)
        server.script(f"/pipeline/{ids[5]}/workflow", [Fault(status, {}, {"message": "Bad\n id."})])
        run = sync(server, streams=WALK)
        rejected = [request for request in server.requests if request.status == status]
        again = sync(server, streams=WALK, state=run.state)
    assert (run.status, len(rejected), len(run.criticals())) == (1, 1, 1)
    said = {302: "a redirect (302)", 304: "304."}.get(status, f"{status}: Bad id.")
    assert f"{ids[5]}/workflow: {said}" in run.criticals()[0]
    assert (len(run.rows("pipelines")), len(run.rows("workflows"))) == (10, 9)
    assert again.status == 0
    assert ids[5] in [row["pipeline_id"] for row in again.rows("workflows")]


def test_a_token_without_an_owner_ends_the_run():
    """If GET /me does not say whose token it is, the run ends with exit 1 after one call."""
    for status, said in ((400, "GET /api/v2/me: 400"), (403, "GET /api/v2/me: 403"), (304, "GET /api/v2/me: 304")):
        with Server(world_of()) as server:
            server.script("/me", [Fault(status)])
            run = sync(server)
            assert server.calls == 1
        assert run.status == 1
        assert f"does not say whose token it is: {said}" in run.criticals()[0]


def test_a_proxy_that_asks_for_a_password_is_named():
    """A 407 is reported as the proxy's answer, and no other request is sent."""
    with Wire(answer(b"", status="407 Proxy Authentication Required"), answer(PAGE)) as wire:
        client = client_of(wire.url)
        for _ in range(2):
            with pytest.raises(Refused, match=r"A proxy .* asks for a user name and password \(407\)"):
                client.get("/x", {}, "x", is_page)
        assert len(wire.requests) == 1


def test_a_404_shows_whether_the_token_was_proven_since():
    """`answered_at` of a 404 is after `proven_at` until a request that left later has an answer."""
    good, gone = answer(PAGE), answer(b"", status="404 No")
    with Wire(gone, good, gone, answer(b"[]"), answer(b"", status="403 No"), good) as wire:
        client = client_of(wire.url)
        assert client.proven_at() == -math.inf
        with pytest.raises(NotFound) as first:
            client.get("/x", {}, "x", is_page)
        client.get("/x", {}, "x", is_page)
        proven_at = client.proven_at()
        assert first.value.answered_at < proven_at
        with pytest.raises(NotFound) as second:
            client.get("/x", {}, "x", is_page)
        assert second.value.answered_at > client.proven_at() == proven_at
        client.post("/x", {}, "x", anything)
        with pytest.raises(Forbidden):
            client.get("/x", {}, "x", is_page)
        assert client.proven_at() == proven_at
        client.get("/x", {}, "x", is_page)
        assert client.proven_at() > second.value.answered_at


def test_a_page_token_that_is_no_text_is_a_page_that_is_lost():
    """Half a character as a page token gives a sentence and exit 1; the pages before it are delivered."""
    with Server(world_of(5)) as server:
        items = server.world.pipelines([server.world.project("gh/acme/api")["id"]])
        page = json.dumps({"items": items, "next_page_token": "\ud83d"})
        server.fault = lambda path, nth: Fault(200, {}, page) if path.endswith("/api/pipeline") else None
        run = sync(server, streams=WALK)
    assert run.status == 1
    assert len(run.rows("pipelines")) == 5
    assert "page token" in run.criticals()[0]


def test_a_redirect_is_never_followed():
    """A redirect is an error, also one without a valid address, so the token goes to no other host."""
    with Server(world_of()) as elsewhere:
        for location in (f"{elsewhere.url}/api/v2/me", "http://[::1", "/caf\xe9"):
            with Server(world_of()) as server:
                server.script("/me$", [Fault(302, {"Location": location})])
                run = sync(server)
            assert elsewhere.calls == 0
            assert run.status == 1
            assert "redirect" in run.criticals()[0]


def test_a_missing_certificate_file_is_named(tmp_path, monkeypatch):
    """If the file in REQUESTS_CA_BUNDLE does not exist, the run ends with a sentence before any request."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "nowhere.pem"))
    with Server(world_of()) as server:
        run = sync(server, base_url="https://circleci.invalid")
    assert run.status == 1
    assert "nowhere.pem" in run.criticals()[0]


def test_a_date_of_which_nothing_can_be_reckoned_is_none():
    """If the Date header is at the end of time, this machine's clock is used."""
    with Server(world_of(1)) as server:
        server.fault = lambda path, nth: Fault(None, {"Date": "Fri, 31 Dec 9999 23:59:59 GMT"})
        run = sync(server)
    assert run.status == 0, run.log


# The wire


def test_an_answer_has_the_time_of_the_service():
    """`date` is the service's if it is plausible, and None otherwise."""
    dated = HEAD + b"Content-Length: 2\r\n\r\n[]"
    far = answer(b"[]", "Date: Tue, 10 Mar 2200 12:00:00 GMT\r\n")
    with Wire(dated, answer(b"[]"), far) as wire:
        client = client_of(wire.url)
        dates = [client.get("/x", {}, "x", is_page).date for _ in range(3)]
    assert [date and date.isoformat() for date in dates] == ["2026-03-10T12:00:00+00:00", None, None]


@pytest.mark.parametrize(
    "endless",
    [
        drip(HEAD + b"X-Long: ", 0.01, b"x"),
        drip(HEAD + b"Content-Length: 99999\r\n\r\n", 0.01, b" "),
        drip(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", 0.01, b"1\r\n \r\n"),
        drip(b"", 0.01, b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    ],
    ids=["headers", "body", "chunks", "hints"],
)
def test_an_answer_that_drips_is_a_failed_attempt(endless):
    """A whole answer may take five times request_timeout, also if its bytes come one by one."""
    with Wire(endless, answer(PAGE)) as wire:
        found = client_of(wire.url, request_timeout=0.5).get("/x", {}, "x", is_page)
        assert len(wire.requests) == 2
    assert found.body == json.loads(PAGE)


def test_an_answer_that_is_slow_but_comes_within_its_time_is_taken():
    """An answer whose bytes come slowly is accepted if all of it comes within its time."""
    with Wire(drip(answer(PAGE), 0.001)) as wire:
        client_of(wire.url, request_timeout=5).get("/x", {}, "x", is_page)
        assert len(wire.requests) == 1


def test_a_body_of_any_size_takes_bounded_memory_and_ends_in_a_sentence():
    """300 MB of blanks in a megabyte of gzip are refused at 256 MB, after one attempt."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    packed = b"".join([*(packer.compress(b" " * 2**20) for _ in range(300)), packer.flush()])
    with Wire(answer(packed, "Content-Encoding: gzip\r\n")) as wire:
        client = client_of(wire.url)
        tracemalloc.start()
        try:
            with pytest.raises(Unreadable, match="GET /x: the answer is larger than 256 MB"):
                client.get("/x", {}, "x", is_page)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(wire.requests) == 1
    assert peak < 320 * 2**20


@pytest.mark.parametrize(
    "deep", [b'{"message":' * 5000, b'{"message":' + b"[" * 5000 + b"]" * 5000 + b"}", b"[" * 10**6]
)
def test_the_body_of_an_error_may_be_nested_as_deeply_as_it_likes(deep):
    """Each status from 400 to 409 has its reaction also if its body is nested too deeply to be decoded."""
    for status in range(400, 410):
        expected = {401: Refused, 403: Forbidden, 404: NotFound, 407: Refused, 408: Unreadable}.get(status, Rejected)
        with Wire(answer(deep, status=f"{status} No")) as wire, pytest.raises(expected):
            client_of(wire.url).get("/x", {}, "x", is_page)


@pytest.mark.parametrize("body", [b"cut", b"\x1f\x8bbroken", b"x" * 10**6], ids=["cut", "damaged", "large"])
def test_an_error_whose_body_cannot_be_read_is_what_its_status_says(body):
    """A 404 whose body is cut, damaged or endless is still a 404."""
    whole = f"HTTP/1.1 404 No\r\nContent-Length: {len(body) + 5}\r\nConnection: close\r\n\r\n".encode() + body
    with Wire(whole) as wire, pytest.raises(NotFound):
        client_of(wire.url).get("/x", {}, "x", is_page)
    assert len(wire.requests) == 1


@pytest.mark.parametrize(
    "early", [b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", b"HTTP/1.1 102 Processing\r\n\r\n"]
)
def test_preliminary_answers_end_nothing(early):
    """Informational answers (1xx) are skipped, any number of them, and the connection is kept."""
    with Wire(early + answer(PAGE), b"HTTP/1.1 100 Continue\r\n\r\n" + early * 3 + answer(PAGE)) as wire:
        client = client_of(wire.url)
        for _ in range(2):
            assert client.get("/x", {}, "x", is_page).body["items"] == []
        assert wire.connections == 1


@pytest.mark.parametrize("how", ["gzip", "chunked", "two members", "identity"])
def test_a_connection_is_used_again_however_the_body_comes(how):
    """The body is read to its end, so that the next request needs no new connection."""
    sent = {
        "gzip": answer(gzipped(PAGE), "Content-Encoding: gzip\r\n"),
        "chunked": HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"%x\r\n" % len(PAGE) + PAGE + b"\r\n0\r\n\r\n",
        "two members": answer(gzipped(PAGE[:5]) + gzipped(PAGE[5:]) + b"\0" * 9),
        "identity": answer(PAGE),
    }[how]
    with Wire(sent) as wire:
        client = client_of(wire.url)
        assert [client.get("/x", {}, "x", is_page).body for _ in range(3)] == [json.loads(PAGE)] * 3
        assert (wire.connections, wire.headers()["accept-encoding"]) == (1, "gzip")


@pytest.mark.parametrize(
    "cut",
    [
        answer(gzipped(PAGE)[:-9]),
        HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\r\n",
        HEAD + b"Connection: close\r\n\r\n{",
        None,
    ],
)
def test_a_cut_body_is_asked_for_again(cut):
    """A body that ends early counts as a failed attempt."""

    with Wire(cut, answer(PAGE)) as wire:
        client = client_of(wire.url)
        assert client.get("/x", {}, "x", is_page).body["items"] == []
        assert (len(wire.requests), client.traffic().retries) == (2, 1)


def test_no_cookie_is_kept_or_parsed(monkeypatch):
    """A service that sets a new cookie with each answer makes the requests neither larger nor slower."""
    monkeypatch.setattr(CookieJar, "_cookies_from_attrs_set", lambda *_: pytest.fail("a cookie was parsed"))
    with Wire(answer(PAGE, "set-cookie: a=b\r\nSet-Cookie: c=d; Path=/\r\n")) as wire:
        client = client_of(wire.url)
        for _ in range(2):
            client.get("/x", {}, "x", is_page)
        assert "cookie" not in wire.headers()


def test_a_certificate_that_does_not_verify_is_not_tried_again(tmp_path: Path, monkeypatch):
    """One attempt and a sentence with the reason; with the certificate in REQUESTS_CA_BUNDLE, also on loopback, all is
    well."""
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    pem = certificate(tmp_path)
    with Wire(answer(PAGE), tls=pem) as wire:
        client = client_of(wire.url)
        for _ in range(2):
            with pytest.raises(Refused, match=r"cannot be trusted: self.signed certificate; REQUESTS_CA_BUNDLE"):
                client.get("/x", {}, "x", is_page)
        assert (wire.connections, client.traffic().retries) == (1, 0)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pem))
        assert client_of(wire.url).get("/x", {}, "x", is_page).body["items"] == []
    with Wire(answer(PAGE), tls=certificate(tmp_path, "127.0.0.9")) as wire:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "127.0.0.9.pem"))
        with pytest.raises(Refused, match="IP address mismatch"):
            client_of(wire.url).get("/x", {}, "x", is_page)


def test_an_answer_over_tls_that_drips_or_is_whole_is_treated_alike(tmp_path: Path, monkeypatch):
    """The time limit for a whole answer also holds over TLS, and the connection is closed if the service says so."""
    pem = certificate(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pem))
    endless = drip(HEAD + b"Content-Length: 99999\r\n\r\n", 0.01, b" ")
    with Wire(endless, answer(PAGE, "Connection: close\r\n"), tls=pem) as wire:
        client = client_of(wire.url, request_timeout=0.8)
        for _ in range(2):
            assert client.get("/x", {}, "x", is_page).body["items"] == []
        assert (len(wire.requests), wire.connections) == (3, 3)


@pytest.fixture
def circleci_behind_a_proxy(tmp_path: Path, monkeypatch):
    """A CircleCI over TLS at https://circleci.test, which only a proxy reaches; `REQUESTS_CA_BUNDLE` trusts it."""
    pem = certificate(tmp_path, "circleci.test")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pem))
    for variable in ("NO_PROXY", "no_proxy", "https_proxy"):
        monkeypatch.delenv(variable, raising=False)
    with Wire(answer(PAGE), tls=pem) as wire, Proxy(wire.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("http://", "http://me:hush@"))
        yield wire, proxy


def test_a_proxy_of_the_environment_is_used_with_its_password_and_without_the_token(circleci_behind_a_proxy):
    """Requests go through a tunnel: the proxy gets its own password, CircleCI the token; the connection is kept."""
    wire, proxy = circleci_behind_a_proxy
    client = client_of("https://circleci.test")
    for _ in range(3):
        assert client.get("/x", {}, "x", is_page).body == json.loads(PAGE)
    assert (proxy.asked, wire.connections, len(wire.requests)) == (["circleci.test:443"], 1, 3)
    assert "Proxy-Authorization: Basic bWU6aHVzaA==" in proxy.heads[0]
    assert TOKEN not in proxy.heads[0]
    assert "proxy-authorization" not in wire.headers()
    assert wire.headers()["circle-token"] == TOKEN


def test_a_file_comes_through_the_proxy_too(circleci_behind_a_proxy):
    """A download uses the same certificates and proxies."""
    _, proxy = circleci_behind_a_proxy
    assert b"".join(client_of("https://circleci.test").download("https://circleci.test/f", "file")) == PAGE
    assert proxy.asked == ["circleci.test:443"]


@pytest.mark.parametrize(
    ("name", "said"), [("other.test", "ostname mismatch"), ("circleci.test", "self.signed certificate")]
)
def test_a_proxy_changes_nothing_about_who_is_trusted(name, said, circleci_behind_a_proxy, tmp_path, monkeypatch):
    """A certificate for another host, or of an unknown authority, ends the run, and for a file only the file."""
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    pem = certificate(tmp_path, name)
    if name == "other.test":
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pem))
    else:
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with Wire(answer(PAGE), tls=pem) as wire, Proxy(wire.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        client = client_of("https://circleci.test")
        with pytest.raises(Unreadable, match=said):
            list(client.download("https://circleci.test/f", "file"))
        with pytest.raises(Refused, match=said):
            client.get("/x", {}, "x", is_page)
        assert (wire.requests, client.traffic().retries) == ([], 0)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (
            "407 Proxy Authentication Required",
            r"The proxy that the environment names asks for a user name and password",
        ),
        ("403 Forbidden", r"The proxy that the environment names refused the connection \(403 Forbidden\)"),
    ],
)
def test_a_proxy_that_refuses_is_named_at_once(status, said, monkeypatch):
    """A proxy that refuses gets one request; for a download only that file counts as failed."""
    for variable in ("NO_PROXY", "no_proxy", "https_proxy"):
        monkeypatch.delenv(variable, raising=False)
    with Proxy(0, status) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        client = client_of("https://circleci.test")
        with pytest.raises(Unreadable, match=f"the proxy that the environment names answered {status}"):
            list(client.download("https://files.test/f", "file"))
        for _ in range(2):
            with pytest.raises(Refused, match=said):
                client.get("/x", {}, "x", is_page)
        assert proxy.asked == ["files.test:443", "circleci.test:443"]


def test_a_proxy_that_fails_is_tried_again(monkeypatch):
    """If the proxy answers 502, there are five attempts, and the sentence names the proxy."""
    for variable in ("NO_PROXY", "no_proxy", "https_proxy"):
        monkeypatch.delenv(variable, raising=False)
    with Proxy(0, "502 Bad Gateway") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with pytest.raises(Unreadable, match="the proxy that the environment names answered 502 Bad Gateway in each"):
            client_of("https://circleci.test").get("/x", {}, "x", is_page)
        assert len(proxy.asked) == 5


def test_no_thread_parses_the_certificates_for_itself(tmp_path: Path, monkeypatch):
    """All sessions share one TLS context with only the named certificates, whose file may be removed after the first
    request."""
    pem = certificate(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pem))
    with Wire(answer(PAGE, "Connection: close\r\n"), tls=pem) as wire:
        client = client_of(wire.url)
        client.get("/x", {}, "x", is_page)
        pem.unlink()
        with ThreadPoolExecutor(8) as threads:
            bodies = list(threads.map(lambda _: client.get("/x", {}, "x", is_page).body, range(16)))
        client.post("/x", {}, "x", anything)
        list(client.download(f"{wire.url}/f", "file"))
    assert bodies == [json.loads(PAGE)] * 16
    assert len(client._certificates.context().get_ca_certs()) == 1


@pytest.mark.parametrize(("said", "shown"), [("a\n b", ": a b"), ({"a": 1}, ': {"a": 1}'), (None, ": null"), ("", "")])
def test_a_message_of_the_api_is_quoted_whatever_it_is(said, shown):
    """A message that is no text is quoted as JSON."""
    body = json.dumps({"message": said}).encode()
    with Wire(answer(body, status="409 No")) as wire, pytest.raises(Rejected) as rejected:
        client_of(wire.url).get("/x", {}, "x", is_page)
    assert str(rejected.value) == f"GET /x: 409{shown}"


def test_a_route_with_a_limit_or_a_right_of_its_own_ends_nothing_else():
    """429 is `Throttled` with the wait, 401 is `Forbidden`; the next request leaves at once."""
    with Wire(answer(b"", "Retry-After: 600\r\n", "429 No"), answer(b"", status="401 No"), answer(PAGE)) as wire:
        client = client_of(wire.url)
        with pytest.raises(Throttled, match="asked to wait 600 s") as throttled:
            client.get("/x", {}, "x", is_page, own_limit=True)
        with pytest.raises(Forbidden, match="401"):
            client.get("/x", {}, "x", is_page, forbidden=(401, 403))
        client.get("/x", {}, "x", is_page)
    assert throttled.value.seconds == 600
    assert client._clock.waited == 0


# Asking for something to be done


def test_a_post_carries_the_body_the_token_and_nothing_more():
    """JSON goes out under the usual headers, and the answer comes back decoded."""
    with Wire(answer(b'{"id": 1}', status="201 Created")) as wire:
        found = client_of(wire.url).post("/x", {"start": "é"}, "x", anything)
        head, _, body = wire.requests[0].partition("\r\n\r\n")
        assert head.startswith("POST /x HTTP/1.1\r\n")
        assert wire.headers().keys() - {"host"} == {
            "user-agent",
            "accept",
            "accept-encoding",
            "circle-token",
            "content-length",
            "content-type",
        }
    assert json.loads(body.encode("latin-1")) == {"start": "é"}
    assert found.body == {"id": 1}


@pytest.mark.parametrize("status", ["408 No", "500 No", "503 No", "599 No"])
def test_a_post_that_was_not_carried_out_is_repeated(status):
    """If the service itself says that it failed, there are five attempts."""
    with Wire(answer(b"", status=status), answer(b"{}")) as wire:
        client_of(wire.url).post("/x", {}, "x", anything)
        assert len(wire.requests) == 2
    with Wire(answer(b"", status=status)) as wire, pytest.raises(Unreadable, match="in each of 5 attempts"):
        client_of(wire.url).post("/x", {}, "x", anything)
    assert len(wire.requests) == 5


def test_a_post_that_never_left_is_repeated():
    """If no connection can be made, there are five attempts, and then a sentence."""
    with Wire(None) as wire:
        url = wire.url
    client = client_of(url)
    with pytest.raises(Unreadable, match="connection refused in each of 5 attempts"):
        client.post("/x", {}, "x", anything)
    assert client.traffic().retries == 4


@pytest.mark.parametrize(
    "said",
    [
        None,
        lambda connection: time.sleep(0.5),
        lambda connection: connection.sendall(HEAD),
        answer(b"{"),
        answer(b"[]"),
        answer(b"", status="502 No"),
        answer(b"", status="504 No"),
    ],
    ids=["closed", "timeout", "cut", "no JSON", "wrong shape", "502", "504"],
)
def test_a_post_that_may_have_been_carried_out_is_not_repeated(said):
    """If it is unknown whether the service has done it, there is one request and a sentence that says so."""
    with Wire(said) as wire:
        with pytest.raises(Unreadable, match="CircleCI may have done it all the same, so it is not repeated"):
            client_of(wire.url, request_timeout=0.2).post("/x", {}, "x", lambda body: isinstance(body, dict))
        assert len(wire.requests) == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [("429 No", Throttled), ("401 No", Forbidden), ("403 No", Forbidden), ("404 No", NotFound), ("400 No", Rejected)],
)
def test_a_post_that_is_refused_is_reported_once(status, error):
    """Each refusal has its reaction; none is repeated, and none ends the run."""
    with Wire(answer(b'{"message": "because"}', "Retry-After: 7\r\n", status)) as wire:
        client = client_of(wire.url)
        with pytest.raises(error):
            client.post("/x", {}, "x", anything)
        assert len(wire.requests) == 1
        assert client.rate_limiter.acquire() is not None


def test_a_post_goes_over_a_connection_of_its_own():
    """A POST does not fail because the service has closed a kept connection."""
    with Wire(answer(PAGE), answer(b"{}")) as wire:
        client = client_of(wire.url)
        client.get("/x", {}, "x", is_page)
        client.post("/x", {}, "x", anything)
        assert wire.connections == 2


# Files of other hosts


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (FILE, ""),
        (gzipped(FILE), ""),
        (gzipped(FILE), "Content-Encoding: gzip\r\nContent-Type: text/csv\r\n"),
        (gzipped(gzipped(FILE)), "Content-Encoding: gzip\r\n"),
        (gzipped(FILE[:999]) + gzipped(FILE[999:]), ""),
    ],
    ids=["plain", "file", "transport", "both", "members"],
)
def test_a_file_comes_unpacked_however_it_is_packed(body, headers):
    """The bytes are those of the file, in blocks of bounded size."""
    with Wire(answer(body, headers)) as wire:
        given_blocks = list(client_of("https://circleci.invalid").download(f"{wire.url}/f?sig=s", "file"))
    assert b"".join(given_blocks) == FILE
    assert max(map(len, given_blocks)) <= 65536


def test_an_empty_file_is_no_cut_one():
    """A file of no bytes is read as empty, not as broken."""
    with Wire(answer(b"")) as wire:
        assert list(client_of("https://circleci.invalid").download(wire.url, "file")) == []


def test_a_file_is_asked_for_with_our_user_agent_and_nothing_else(monkeypatch, tmp_path: Path):
    """The request has no token, no cookie, no netrc entry and no Accept header."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password hush\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    cookie = "Set-Cookie: a=b; Path=/\r\n"
    with Wire(answer(PAGE, cookie)) as api, Wire(answer(b"", cookie, "503 No"), answer(FILE, cookie)) as host:
        client = client_of(api.url, user_agent="ours/1")
        client.get("/x", {}, "x", is_page)
        for _ in range(2):
            assert b"".join(client.download(f"{host.url}/f?X-Amz-Signature=a%2Fb", "file")) == FILE
        assert api.headers()["circle-token"] == TOKEN
        for number in range(3):
            assert host.headers(number) == {"host": host.url.removeprefix("http://"), "user-agent": "ours/1"}
        assert host.requests[0].startswith("GET /f?X-Amz-Signature=a%2Fb HTTP/1.1\r\n")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_an_expired_address_is_reported_at_once(status):
    """An expired address is reported after one attempt, so that the caller can ask for a fresh one."""
    with Wire(answer(b"<Error/>", status=f"{status} No"), answer(PAGE)) as wire:
        client = client_of(wire.url)
        with pytest.raises(LinkExpired, match=rf"^the file at 127\.0\.0\.1: .*\({status}\)$"):
            list(client.download(f"{wire.url}/f?sig=secret", "file"))
        assert len(wire.requests) == 1
        client.get("/x", {}, "x", is_page)


@pytest.mark.parametrize(
    "first",
    [
        None,
        answer(b"", "Retry-After: 3\r\n", "503 No"),
        answer(b"", status="429 No"),
        lambda connection: connection.sendall(answer(FILE)[:-10]),
        lambda connection: connection.sendall(answer(gzipped(FILE))[:-10]),
        answer(gzipped(FILE)[:-10]),
        answer(gzipped(FILE)[:9000] + b"damaged" * 50 + gzipped(FILE)[9350:]),
        lambda connection: connection.sendall(answer(FILE)[:300_000]),
    ],
    ids=["closed", "503", "429", "cut", "cut gzip", "short gzip", "damaged gzip", "half"],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_download_that_breaks_off_goes_on_where_it_was(first, packed):
    """No byte is lost and none is given twice, at whatever byte the connection broke."""
    with Wire(first, answer(gzipped(FILE) if packed else FILE)) as wire:
        client = client_of("https://circleci.invalid")
        assert b"".join(client.download(wire.url, "file")) == FILE
        assert (len(wire.requests), client.traffic().retries) == (2, 1)


def test_a_download_that_breaks_off_each_time_ends_in_a_sentence():
    """After five attempts a sentence names the file without its query; the bytes that came were given."""
    with Wire(lambda connection: connection.sendall(answer(FILE)[:200_000])) as wire:
        with pytest.raises(Unreadable) as broken:
            list(client_of("https://circleci.invalid").download(f"{wire.url}/f?sig=secret", "file"))
        assert len(wire.requests) == 5
    assert str(broken.value).startswith("the file at 127.0.0.1: the answer ended early")
    assert "secret" not in str(broken.value)


@pytest.mark.parametrize(
    "packed",
    [gzipped(FILE)[:-9], gzipped(FILE)[:-8] + b"checksum"],
    ids=["short", "damaged"],
)
def test_a_file_that_is_damaged_each_time_is_told_from_one_that_breaks_off(packed):
    """A whole gzip file that cannot be decompressed is `Damaged`; one whose end may be missing is `Unreadable`."""
    last = answer(packed, "Connection: close\r\n")  # each attempt needs a connection of its own
    cut = last.replace(b"Content-Length: " + str(len(packed)).encode() + b"\r\n", b"")
    assert cut != last
    for replies, error in [([last] * 5, Damaged), ([last] * 4 + [last[:-9]], Unreadable), ([cut] * 5, Unreadable)]:
        with Wire(*[lambda connection, reply=reply: connection.sendall(reply) for reply in replies]) as wire:
            with pytest.raises(error) as problem:
                list(client_of("https://circleci.invalid").download(f"{wire.url}/f?sig=secret", "file"))
            assert len(wire.requests) == 5
        assert (type(problem.value), "secret" in str(problem.value)) == (error, False)


@pytest.mark.parametrize("other", [FILE[:-300_000] + b"!" * 300_000, FILE[:100_000], b"X" + FILE[1:]])
def test_a_file_that_changes_between_two_attempts_is_not_mixed(other):
    """If the second attempt does not begin with the bytes that were given, the file is an error."""
    part = len(FILE) - 100_000
    source = Wire(lambda connection: connection.sendall(answer(FILE)[:part]), answer(other))
    with source as wire, pytest.raises(Unreadable, match="it changed while it was read"):
        list(client_of("https://circleci.invalid").download(wire.url, "file"))


@pytest.mark.parametrize(
    "url",
    [
        "http://files.example.com/f",
        "ftp://127.0.0.1/f",
        "//127.0.0.1/f",
        "https://",
        "https://[::1",
        "https://user:pass@127.0.0.1/f",
        "https://127.0.0.1:99999/f",
        "https://exämple.com/f",
        "\ud83d",
        "",
        None,
        7,
    ],
)
def test_an_address_that_is_not_safe_is_not_asked(url):
    """Plain http to another machine, a password or no URL gives a sentence for this file and no request."""
    client = client_of("https://circleci.invalid")
    with pytest.raises(Unreadable) as refused:
        list(client.download(url, "file"))
    assert client.traffic().calls.total() == 0
    assert "pass" not in str(refused.value)


def test_a_redirect_of_a_file_is_not_followed():
    """A redirect of a file is an error, to whatever address it leads."""
    with Wire(answer(FILE)) as elsewhere, Wire(answer(b"", f"Location: {elsewhere.url}\r\n", "302 Found")) as wire:
        with pytest.raises(Unreadable, match="redirect"):
            list(client_of("https://circleci.invalid").download(wire.url, "file"))
        assert elsewhere.requests == []


def test_a_file_may_take_as_long_as_it_needs():
    """More than five times the timeout is allowed while blocks come, also for a slow reader."""

    def slowly(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 180000\r\n\r\n")
        for _ in range(18):
            connection.sendall(b"x" * 10_000)
            time.sleep(0.15)

    client = client_of("https://circleci.invalid", request_timeout=0.5)
    with Wire(slowly) as wire:
        assert sum(map(len, client.download(wire.url, "file"))) == 180_000
    with Wire(answer(FILE)) as wire:
        found = b""
        for block in client.download(wire.url, "file"):
            found += block
            time.sleep(0.25)
    assert found == FILE
    assert client.traffic().retries == 0


def test_a_file_that_drips_is_a_failed_attempt():
    """A download that is slower than the limit is a failed attempt."""
    with Wire(drip(answer(FILE), 0.02), answer(FILE)) as wire:
        client = client_of("https://circleci.invalid", request_timeout=0.5)
        assert b"".join(client.download(wire.url, "file")) == FILE
        assert client.traffic().retries == 1


def test_a_file_is_read_in_constant_memory():
    """A file of 64 MB, packed, takes a few blocks."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    packed = b"".join([*(packer.compress(b"a,b,c\n" * 2**17) for _ in range(85)), packer.flush()])
    with Wire(answer(packed)) as wire:
        client = client_of("https://circleci.invalid")
        tracemalloc.start()
        try:
            size = sum(map(len, client.download(wire.url, "file")))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert size == 85 * 6 * 2**17
    assert peak < 4 * 2**20


def test_a_stop_ends_a_download(tmp_path: Path):
    """A run that is asked to stop reads no further block."""
    with Wire(answer(FILE)) as wire:
        client = client_of("https://circleci.invalid")
        source = client.download(wire.url, "file")
        next(source)
        client._clock.stop(15)
        with pytest.raises(BaseException, match="15"):
            list(source)


HEADERS = st.sampled_from(
    ["Retry-After", "RateLimit-Remaining", "RateLimit-Reset", "X-RateLimit-Reset", "Date", "Location"]
)
VALUES = st.sampled_from(
    ["0", "-1", "1e400", "nan", "inf", "3600", "x", "", "Tue, 10 Mar 2026 12:00:00 GMT", "\xe9", "9" * 400]
)
STATUSES = st.sampled_from(
    ["200 OK", "201 C", "204 N", "206 P", "301 M", "304 N", "400 B", "404 N", "418 T", "429 R", "500 E", "999 X"]
)
BODIES = st.sampled_from(
    [PAGE, b"", b"[]", b"null", b"\x1f\x8b", b"\xff\xfe", b"[" * 9999, b"1" * 5000, gzipped(PAGE)[:-1]]
)


@settings(max_examples=300)
@given(
    STATUSES,
    st.dictionaries(HEADERS, VALUES),
    BODIES | st.binary(max_size=40),
    st.sampled_from(["get", "post", "download"]),
)
def test_any_answer_gives_a_value_or_a_sentence(status, headers, body, how):
    """Whatever comes over the wire, the client gives a value or one of our own errors, within bounded attempts."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with Wire(answer(body, lines, status)) as wire:
        client = client_of(wire.url)
        try:
            if how == "get":
                client.get("/x", {}, "x", is_page)
            elif how == "post":
                client.post("/x", {}, "x", is_page)
            else:
                list(client.download(wire.url, "x"))
        except TapError as error:
            assert error.args
            assert how == "get" or isinstance(error, LocalError | Refused)
        assert len(wire.requests) <= 6
        client.close()
