"""A CircleCI over TLS that costs little: each answer is made and packed once, with the headers of the real one.

A measurement over plain HTTP misses what is dearest: the certificates, the encryption, the headers, the unpacking.
"""

from __future__ import annotations

import gzip
import json
import os
import socket
import ssl
import time
from contextlib import suppress
from datetime import datetime
from functools import cache
from http import HTTPStatus
from pathlib import Path

import certifi

from benchmarks.tools import FILES
from tests.circleci import Request, Server, http_date
from tests.wire import Listener, certificate, server_tls

BUNDLE = FILES / "certificates.pem"
"""The certificates that a tap is to trust: those of certifi and ours."""
TRUST = {**os.environ, "REQUESTS_CA_BUNDLE": str(BUNDLE)}
"""The environment of a tap that trusts them."""
HEADERS = """\
HTTP/1.1 {status}
Access-Control-Allow-Origin: *
Content-Encoding: gzip
Content-Type: application/json;charset=utf-8
Date: {date}
Server: nginx
Set-Cookie: ring-session=aGVyZSB0aGUgcmVhbCBvbmUgaGFzIGEgbG9uZyB0ZXh0IG9mIGxldHRlcnM; Path=/; HttpOnly;\
 Expires={date}; Max-Age=1209600; Secure
Strict-Transport-Security: max-age=15724800
Vary: Origin
X-CircleCI-Identity: www-api-5f6f7c6b5d-x2x7k
X-Frame-Options: DENY
X-RateLimit-Limit: 1000
X-RateLimit-Remaining: 999
X-RateLimit-Reset: 0
X-Request-Id: 3f0e1d6a-1c44-4b0c-9d5b-7d3e0a6f2b11
X-Route: /api/v2/pipeline/:pipeline-id/workflow
Content-Length: {length}
Connection: keep-alive

"""


class TlsServer(Listener):
    """What a `Server` with the same world would answer, while used as a context manager.

    `latency` and the time of the world may be changed; `requests` are those since the last `reset`.
    """

    def __init__(self, server: Server, latency: float = 0.0) -> None:
        super().__init__("https")
        self.world = server.world
        self.latency = latency
        self._server = server
        self._made: dict[tuple[datetime, str], tuple[int, bytes]] = {}
        self._tls = server_tls(certified())
        self.reset()

    def reset(self) -> None:
        """Forget what was asked."""
        self.requests: list[Request] = []

    def _converse(self, connection: socket.socket) -> None:
        with suppress(OSError), self._tls.wrap_socket(connection, server_side=True) as stream:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while head := _head(stream):
                stream.sendall(self._answer(head))

    def _answer(self, head: bytes) -> bytes:
        request = Request(time.monotonic(), "GET", head.split(b" ", 2)[1].decode(), {}, b"")
        self.requests.append(request)
        key = self.world.now, request.path
        if key not in self._made:
            self._made[key] = self._make(request, head)
        request.status, sent = self._made[key]
        time.sleep(max(0.0, request.at + self.latency - time.monotonic()))
        return sent

    def _make(self, request: Request, head: bytes) -> tuple[int, bytes]:
        lines = [line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:]]
        request.headers.update({name.lower(): value.strip() for name, _, value in lines})
        answer = self._server.answer(request)
        body = gzip.compress(json.dumps(answer.body, ensure_ascii=False).encode())
        status = f"{answer.status} {HTTPStatus(answer.status).phrase}"
        headers = HEADERS.format(status=status, date=http_date(self.world.now), length=len(body))
        return answer.status, headers.replace("\n", "\r\n").encode() + body


def _head(stream: ssl.SSLSocket) -> bytes:
    """A request as it came, b"" when no more comes; none has a body."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        block = stream.recv(65_536)
        if not block:
            return b""
        head += block
    return head


@cache
def certified() -> Path:
    """A file of a key and a certificate of our own; `BUNDLE` now has the certificate as well."""
    FILES.mkdir(parents=True, exist_ok=True)
    pem = certificate(FILES)
    BUNDLE.write_text(Path(certifi.where()).read_text() + (FILES / "cert").read_text())
    return pem
