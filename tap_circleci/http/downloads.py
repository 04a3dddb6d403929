"""Reads a file at a pre-signed address of any host in blocks, and resumes after a broken connection."""

import zlib
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from tap_circleci.errors import Damaged, LinkExpired, Moved, Unreadable
from tap_circleci.http import transport
from tap_circleci.http.replies import REDIRECTS, Reply, is_retriable, retriable
from tap_circleci.http.retries import Attempts, Retriable
from tap_circleci.http.traffic import Meter
from tap_circleci.values.hosts import is_loopback
from tap_circleci.workers import Clock

EXPIRED = frozenset({400, 401, 403, 404, 410})
"""Statuses with which hosts of files answer to a pre-signed address that has expired."""


class Downloads:
    """Reads files. Each request carries our user agent and nothing else; the query of an address is a secret.

    Safe to use from many threads.
    """

    def __init__(
        self, user_agent: str, timeout: float, clock: Clock, meter: Meter, certificates: transport.Certificates
    ) -> None:
        self._headers = {"User-Agent": user_agent}
        self._timeout = timeout
        self._clock = clock
        self._meter = meter
        self._certificates = certificates

    def read(self, url: str, label: str) -> Iterator[bytes]:
        """The file, unpacked if it is gzip, in blocks of bounded size.

        A broken download is requested again, up to five attempts in all, and no byte is given twice. Each read has a
        time limit; the whole download has one only if the host sends very slowly. Raises `LinkExpired` (a fresh address
        may work; its file begins at the first byte again), `Damaged` if the last attempt gave a whole gzip file that
        cannot be unpacked, and `Unreadable`, also if the file changes between two attempts; `Stopped`.
        """
        name = f"the file at {_file_host(url)}"
        attempts = Attempts(name, self._clock, self._meter)
        given = _Given(name)
        try:
            with transport.session(url, self._headers, self._certificates, download=True) as files:
                while True:
                    try:
                        yield from given.fresh(self._blocks(files, url, label, name))
                        return
                    except transport.Failed as failed:
                        attempts.failed(Retriable(str(failed)), Damaged if failed.is_damaged else Unreadable)
                    except Retriable as failure:
                        attempts.failed(failure)
        except transport.Untrusted as untrusted:
            raise Unreadable(f"{name}: its host cannot be trusted: {untrusted}") from None
        except transport.ProxyRefused as refused:
            raise Unreadable(f"{name}: the proxy that the environment names answered {refused}") from None

    def _blocks(self, files: transport.Session, url: str, label: str, name: str) -> Iterator[bytes]:
        """The file from its beginning."""
        with self._meter.call(label):
            response = transport.exchange(files, "GET", url, self._timeout)
        with response:
            _judge(Reply(name, response.status_code, response.headers))
            file = transport.unpacked(transport.blocks(response))
            try:
                for block in transport.unpacked(file):  # perhaps also its transport was packed
                    self._clock.check()
                    yield block
            except transport.Failed as failed:
                if failed.is_damaged and not transport.has_length(response):  # its end may be missing
                    raise transport.Failed(str(failed)) from None
                raise


class _Given:
    """How much of a file has been given, and its checksum."""

    def __init__(self, name: str) -> None:
        self._changed = f"{name}: it changed while it was read"
        self._size = self._digest = 0

    def fresh(self, file: Iterable[bytes]) -> Iterator[bytes]:
        """The part of a file that has not been given yet; the file is read from its beginning."""
        position = check = 0
        for block in file:
            known = block[: max(self._size - position, 0)]
            fresh = block[len(known) :]
            position += len(block)
            check = zlib.crc32(known, check)
            if known and position >= self._size and check != self._digest:
                raise Unreadable(self._changed)
            if fresh:
                self._digest = zlib.crc32(fresh, self._digest)
                self._size += len(fresh)
                yield fresh
        if position < self._size:
            raise Unreadable(self._changed)


def _file_host(url: str) -> str:
    """The host of a file. Raises `Unreadable` for an address that cannot be used."""
    try:
        parts = urlsplit(url if isinstance(url, str) and url.isascii() else "")
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    if not host or "@" in parts.netloc:
        raise Unreadable("a file that the service offers: its address is not a usable URL")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise Unreadable(f"the file at {host}: its address does not begin with https")
    return host


def _judge(reply: Reply) -> None:
    """Accept a file; raise the error for any other answer of its host."""
    if reply.status in EXPIRED:
        raise LinkExpired(f"{reply.name}: its address has expired ({reply.status})")
    if reply.status == 429 or is_retriable(reply.status):
        raise retriable(reply)
    if not 200 <= reply.status < 300:
        if reply.status in REDIRECTS:
            raise Moved(f"{reply.name}: its host answered a redirect, which is never followed ({reply.status})")
        raise Unreadable(f"{reply.name}: its host answered ({reply.status})")
