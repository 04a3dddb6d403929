"""A server on loopback that sends exactly the bytes that a test gives, as slowly as the test says."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import chain, cycle
from pathlib import Path
from types import TracebackType
from typing import TypeVar

Me = TypeVar("Me", bound="Listener")
Write = Callable[[socket.socket], None]
HEAD = b"HTTP/1.1 200 OK\r\nDate: Tue, 10 Mar 2026 12:00:00 GMT\r\nContent-Type: application/json\r\n"


def answer(body: bytes, headers: str = "", status: str = "200 OK") -> bytes:
    """A whole answer."""
    lines = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return lines.encode("latin-1") + body


def drip(text: bytes, seconds: float, again: bytes = b"") -> Write:
    """Send a byte each so many seconds; at the end these, again and again."""

    def write(connection: socket.socket) -> None:
        for number in chain(text, cycle(again)):
            connection.sendall(bytes([number]))
            time.sleep(seconds)

    return write


class Listener:
    """Takes connections on a free port of loopback, each in a thread of its own, while used as a context manager."""

    def __init__(self, scheme: str = "http") -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self.url = f"{scheme}://127.0.0.1:{self.port}"

    def __enter__(self: Me) -> Me:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        """Serve one connection to its end."""
        raise NotImplementedError


class Wire(Listener):
    """Answers its requests with these in turn, the last one for ever; `requests` are what came, as it came.

    bytes are sent at once and keep the connection; a function writes to it, and then it is closed; None closes it.
    """

    def __init__(self, *answers: bytes | Write | None, tls: Path | None = None) -> None:
        super().__init__("https" if tls else "http")
        self._answers = list(answers)
        self._lock = threading.Lock()
        self._context = None
        if tls is not None:
            self._context = server_tls(tls)
        self.requests: list[str] = []
        self.connections = 0

    def headers(self, number: int = -1) -> dict[str, str]:
        """The headers of a request, their names in lower case."""
        lines = self.requests[number].split("\r\n\r\n")[0].split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def _converse(self, connection: socket.socket) -> None:
        self.connections += 1
        with suppress(OSError), connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            with connection:
                while self._exchange(connection):
                    pass

    def _exchange(self, connection: socket.socket) -> bool:
        text = b""
        while b"\r\n\r\n" not in text:
            block = connection.recv(65536)
            if not block:
                return False
            text += block
        head, _, body = text.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        while len(body) < length:
            body += connection.recv(65536)
        with self._lock:
            self.requests.append((head + b"\r\n\r\n" + body).decode("latin-1"))
            said = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(said, bytes):
            connection.sendall(said)
            return b"\r\nConnection: close" not in said
        if said is not None:
            said(connection)
        return False


class Proxy(Listener):
    """An HTTP proxy on loopback that connects every tunnel to one port, or answers with this status instead.

    `asked` are the hosts that were asked for, `heads` the requests for tunnels as they came.
    """

    def __init__(self, port: int, status: str = "200 Connection established") -> None:
        super().__init__()
        self._port = port
        self._status = status
        self.heads: list[str] = []

    @property
    def asked(self) -> list[str]:
        return [head.split(" ")[1] for head in self.heads]

    def _converse(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            text = b""
            while b"\r\n\r\n" not in text:
                text += connection.recv(65536)
            self.heads.append(text.decode("latin-1"))
            connection.sendall(f"HTTP/1.1 {self._status}\r\n\r\n".encode())
            if self._status.startswith("200"):
                with socket.create_connection(("127.0.0.1", self._port)) as onward:
                    back = threading.Thread(target=_pass_on, args=(onward, connection), daemon=True)
                    back.start()
                    _pass_on(connection, onward)
                    back.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    """Send on what comes, until nothing more does."""
    with suppress(OSError):
        while block := source.recv(65536):
            target.sendall(block)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def server_tls(pem: Path) -> ssl.SSLContext:
    """TLS settings of a server with the key and the certificate in this file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


def certificate(folder: Path, name: str = "127.0.0.1") -> Path:
    """A key and a certificate for this host that it has signed itself, in one file."""
    found = folder / f"{name}.pem"
    kind = "IP" if name[0].isdigit() else "DNS"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=test", "-addext", f"subjectAltName={kind}:{name}"]
    command += ["-keyout", str(folder / "key"), "-out", str(folder / "cert")]
    subprocess.run(command, check=True, capture_output=True)
    found.write_bytes((folder / "key").read_bytes() + (folder / "cert").read_bytes())
    return found
