"""One HTTP exchange, bounded in time and size, without redirects and cookies. It does not know CircleCI."""

import io
import logging
import math
import re
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from http.client import HTTPResponse
from http.cookiejar import DefaultCookiePolicy
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests import exceptions
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.util import SKIP_HEADER
from urllib3.util.ssl_ import create_urllib3_context

from tap_circleci.values.hosts import is_loopback

Session = requests.Session
Response = requests.Response
Params = Mapping[str, str] | Mapping[str, list[str]]

BLOCK = 65_536
"""Bytes that are read and decompressed at once."""
WHOLE_ANSWER = 5
"""A whole answer may take this many times the timeout for one read."""
DRIP = 1_000
"""Bytes a second below which a download is too slow: each byte received extends its time by the inverse."""
LARGEST = 256 * 2**20
"""Bytes of a body at most, decompressed."""
GZIP = b"\x1f\x8b"
BROKEN = "the answer ended early or could not be decoded"
TUNNEL = re.compile(r"Tunnel connection failed: ((\d+).*)")
"""The message of http.client if a proxy does not answer CONNECT with 200."""

# urllib3 logs whole URLs, and the query of a file's URL is a secret.
logging.getLogger("urllib3").setLevel(logging.CRITICAL)


class Failed(Exception):
    """No usable answer came, perhaps only for now; `unsent`: the request certainly did not reach the service.

    `is_damaged`: the bytes that came, unless some are missing at the end, are not a valid gzip file.
    """

    def __init__(self, reason: str, *, unsent: bool = False, is_damaged: bool = False) -> None:
        super().__init__(reason)
        self.unsent = unsent
        self.is_damaged = is_damaged


class Untrusted(Exception):
    """The certificate of the other side could not be verified; a retry would not change that."""


class ProxyRefused(Exception):
    """The proxy that the environment names refused the request, with this status and message."""


class TooLarge(Exception):
    """A body larger than was allowed."""


class Certificates:
    """The certificates that the environment names, parsed once for all sessions. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """The TLS settings with these certificates. Raises `Untrusted` where they cannot be read."""
        with self._lock:
            self._context = self._context or _tls_context()
            return self._context


def _tls_context() -> ssl.SSLContext:
    """TLS settings that urllib3 would make for each connection: parsing the certificates takes 13 ms each time."""
    named = requests.Session().merge_environment_settings("", {}, None, None, None)["verify"]
    path = Path(named if isinstance(named, str) else DEFAULT_CA_BUNDLE_PATH)
    context = create_urllib3_context()
    try:
        context.load_verify_locations(*([None, path] if path.is_dir() else [path]))
    except FileNotFoundError:
        raise Untrusted(f"there are no certificates at {path}") from None
    except OSError as error:
        raise Untrusted(f"the certificates at {path} cannot be read ({error.strerror})") from None
    return context


def session(url: str, headers: Mapping[str, str], certificates: Certificates, *, download: bool = False) -> Session:
    """A session for one thread and the host of `url` that sends only these headers and those that HTTP needs.

    It follows no redirect, keeps no cookie and does not read `.netrc`. Proxies are those that the environment names
    now; requests to loopback never use a proxy. A `download` may take as long as it needs, unless it is too slow.
    Raises `Untrusted` if the certificates cannot be read.
    """
    made = _Session()
    made.headers.clear()
    made.headers.update({"Accept-Encoding": SKIP_HEADER, **headers})
    made.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
    on_loopback = is_loopback(urlsplit(url).hostname or "")
    made.proxies = {} if on_loopback else made.merge_environment_settings(url, {}, None, None, None)["proxies"]
    made.trust_env = False  # the environment is read here, once, and not for every request
    adapter = _Adapter(
        _FILE_POOLS if download else _ANSWER_POOLS, certificates.context() if url.startswith("https") else None
    )
    made.mount("https://", adapter)
    made.mount("http://", adapter)
    return made


def exchange(
    session: Session, method: str, url: str, timeout: float, *, params: Params | None = None, json: Any = None
) -> Response:
    """Send a request and give the answer before its body is read; use it as a context manager.

    `timeout` is in seconds, for the connection and for each read; the whole answer may take five times that. Raises
    `Failed`, `Untrusted` or `ProxyRefused`, and UnicodeError for parameters that cannot be encoded.
    """
    try:
        # `session.request` would merge the settings again for every request.
        request = requests.Request(method, url, headers=session.headers, params=params, json=json).prepare()
        return session.send(
            request, timeout=timeout, verify=True, proxies=session.proxies, allow_redirects=False, stream=True
        )
    except (OSError, HTTPError) as error:  # every error of requests is an OSError
        raise _failure(error) from None


def content(response: Response, largest: int = LARGEST) -> bytearray:
    """The whole body, decompressed. Raises `TooLarge`, `Failed`."""
    body = bytearray()
    for block in unpacked(blocks(response)):
        body += block
        if len(body) > largest:
            raise TooLarge
    return body


def blocks(response: Response) -> Iterator[bytes]:
    """The body as it was sent. Raises `Failed`, also if it is shorter than announced."""
    response.raw.enforce_content_length = True  # urllib3 does so by itself only from version 2 on
    while block := _block(response):
        yield block


def has_length(response: Response) -> bool:
    """Whether `blocks` notices that the end of a body is missing: its length is announced, or that of each chunk."""
    return "Content-Length" in response.headers or response.raw.chunked


def _block(response: Response) -> bytes:
    try:
        block: bytes = response.raw.read(BLOCK, decode_content=False)
    except (OSError, HTTPError) as error:
        raise _failure(error) from None
    return block


def unpacked(source: Iterable[bytes]) -> Iterator[bytes]:
    """The content of a gzip file in blocks of bounded size; any other file as it is.

    The first two bytes decide, and no header: so both a compressed file and compressed transport are recognized. Raises
    `Failed` if the file is cut or damaged.
    """
    rest = iter(source)
    head = b""
    while len(head) < len(GZIP) and (block := next(rest, b"")):
        head += block
    if not head.startswith(GZIP):
        yield from chain([head] if head else [], rest)
        return
    unpacker = zlib.decompressobj(zlib.MAX_WBITS + 16)
    for packed in chain([head], rest):
        block = packed
        while block:
            if unpacker.eof:  # a gzip file may have several members, and padding at its end
                block = block.lstrip(b"\0")
                if not block:
                    break
                unpacker = zlib.decompressobj(zlib.MAX_WBITS + 16)
            try:
                piece = unpacker.decompress(block, BLOCK)
            except zlib.error:
                raise Failed(BROKEN, is_damaged=True) from None
            if piece:
                yield piece
            block = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
    if not unpacker.eof:
        raise Failed(BROKEN, is_damaged=True)


class _Session(requests.Session):
    """A session that follows no redirect and does not parse its target."""

    def get_redirect_target(self, resp: Response) -> None:
        """None for every answer."""


class _Answer(HTTPResponse):
    """An answer whose headers and body come within a time limit; informational answers (1xx) are skipped."""

    seconds_per_byte = 0.0

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_Bounded(self.fp.detach(), sock, self.seconds_per_byte), BLOCK)

    def begin(self) -> None:
        """Read the status and the headers without the cookies: none is kept, and parsing one takes 20 µs."""
        super().begin()
        while 100 <= self.status < 200 and self.status != 101:
            self.headers = self.msg = None  # type: ignore[assignment]  # as before the first call
            super().begin()
        del self.headers["Set-Cookie"]


class _File(_Answer):
    """An answer that may take as long as it needs, unless it is too slow."""

    seconds_per_byte = 1 / DRIP


def _pools(answer: type[_Answer]) -> Mapping[str, type[HTTPConnectionPool]]:
    """Pools of connections whose answers are of this class, by scheme."""
    http = type("Http", (HTTPConnection,), {"response_class": answer})
    https = type("Https", (HTTPSConnection,), {"response_class": answer})
    return {
        "http": type("HttpPool", (HTTPConnectionPool,), {"ConnectionCls": http}),
        "https": type("HttpsPool", (HTTPSConnectionPool,), {"ConnectionCls": https}),
    }


_ANSWER_POOLS, _FILE_POOLS = _pools(_Answer), _pools(_File)


class _Adapter(HTTPAdapter):
    """Connections from these pools, with one TLS context for all of them."""

    def __init__(self, pools: Mapping[str, type[HTTPConnectionPool]], tls: ssl.SSLContext | None) -> None:
        self._pools = pools
        self._tls = tls
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Use our pools for direct connections."""
        super().init_poolmanager(*args, ssl_context=self._tls, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Use our pools for connections through an HTTP proxy; those through SOCKS need pools of another kind."""
        if proxy.lower().startswith("socks"):
            return super().proxy_manager_for(proxy, ssl_context=self._tls, **kwargs)
        manager = super().proxy_manager_for(proxy, ssl_context=self._tls, proxy_ssl_context=self._tls, **kwargs)
        manager.pool_classes_by_scheme = self._pools
        return manager

    def build_connection_pool_key_attributes(self, *args: Any, **kwargs: Any) -> Any:
        """Leave the certificates to the TLS context: requests 2.32.3 would replace them with its own."""
        host, _ = super().build_connection_pool_key_attributes(*args, **kwargs)
        return host, {}

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        """Leave the certificates to the TLS context: requests would add its own for each connection."""


class _Bounded(io.RawIOBase):
    """The bytes of a socket, with a limit on the total time: a server may send one byte at a time."""

    def __init__(self, source: io.RawIOBase, sock: socket.socket, seconds_per_byte: float) -> None:
        self._source = source
        self._sock = sock
        self._timeout = sock.gettimeout()
        self._left = math.inf if self._timeout is None else WHOLE_ANSWER * self._timeout
        self._seconds_per_byte = seconds_per_byte

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._left <= 0:
            raise TimeoutError("timed out")
        if self._timeout is not None:
            self._sock.settimeout(min(self._timeout, self._left))
        began = time.monotonic()
        count: int | None = self._source.readinto(buffer)
        self._left += (count or 0) * self._seconds_per_byte - (time.monotonic() - began)
        self._sock.settimeout(self._timeout)
        return count

    def close(self) -> None:
        self._source.close()
        super().close()


def _failure(error: Exception) -> Exception:
    """The error of a failed request, without its URL and headers."""
    causes = _causes(error)
    unverified = [cause for cause in causes if isinstance(cause, ssl.SSLCertVerificationError)]
    if unverified:
        return Untrusted((unverified[0].verify_message or str(unverified[0])).rstrip("."))
    tunnel = next(filter(None, (TUNNEL.match(str(cause)) for cause in causes)), None)
    if tunnel and tunnel[2].startswith("4"):
        return ProxyRefused(tunnel[1])
    unsent = any(isinstance(cause, (exceptions.ConnectTimeout, NewConnectionError)) for cause in causes)
    answered = f"the proxy that the environment names answered {tunnel[1]}" if tunnel else ""
    return Failed(answered or _reason(error, causes), unsent=unsent)


def _reason(error: Exception, causes: list[BaseException]) -> str:
    if isinstance(error, (exceptions.ProxyError, exceptions.InvalidProxyURL, exceptions.InvalidSchema)):
        return "the proxy that the environment names could not be reached"
    if any(isinstance(cause, (exceptions.Timeout, TimeoutError)) for cause in causes):
        return "timed out"
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed ({(cause.reason or 'no reason given').replace('_', ' ').lower()})"
    for cause in causes:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror.lower()
    reading = not isinstance(error, requests.RequestException)
    return BROKEN if reading else "the connection failed"


def _causes(error: BaseException) -> list[BaseException]:
    """An error and all its causes."""
    found: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        cause = waiting.pop(0)
        if isinstance(cause, BaseException) and not any(cause is known for known in found):
            found.append(cause)
            waiting += [getattr(cause, "reason", None), cause.__cause__, cause.__context__, *cause.args]
    return found
