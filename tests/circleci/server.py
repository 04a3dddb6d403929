"""A CircleCI to talk to: a World behind real HTTP on loopback, which fails as told and remembers what it was asked."""

import base64
import binascii
import json
import re
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import format_datetime
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal
from urllib.parse import parse_qsl, unquote

from tests.circleci.limits import RateLimit, SlidingWindow
from tests.circleci.world import Row, World, age
from tests.wire import server_tls

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MOST = 50
SIZED = ("deploy", "project", "deploy_components")
"""The lists of which the caller chooses the size of a page."""
NULL_TOKEN: Mapping[str, str | None] = {"next_page_token": None}
REASONS = {status.value: status.phrase for status in HTTPStatus}


def http_date(moment: datetime) -> str:
    """The time as HTTP headers tell it."""
    return format_datetime(moment.astimezone(timezone.utc), usegmt=True)


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one answer; what is not given stays as it would have been.

    The answer waits for the `gate`, then for `delay` seconds. With a status, it is that of an error; a text goes out as
    it is, anything else as JSON; headers come on top of the usual ones. `broken`: the connection is "reset", "closed"
    without an answer, or closed after half of the body ("cut").
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    delay: float = 0
    gate: threading.Event | None = None
    broken: Literal["reset", "closed", "cut"] | None = None


@dataclass(slots=True)
class Request:
    """One request as it came (header names in lower case), and the status it was answered with: 0 for none."""

    at: float
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    status: int = 0


@dataclass(frozen=True)
class Answer:
    """A status and what goes out as JSON, or as it is when it is a text or comes piece by piece."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


class RefusedError(Exception):
    """Ends the handling of a request with an error of the API's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.answer = Answer(status, {"message": message})


class Server:
    """Serves a world on a free port (or this one) of 127.0.0.1, while used as a context manager.

    `latency` is in seconds, `page_size` holds where the caller chooses none, `rate_limit` is answers in any second,
    or a limit of another kind. All of them, the world and the faults may be changed while it runs. With a file of a
    key and its certificate it serves over TLS.
    """

    def __init__(
        self,
        world: World,
        *,
        latency: float = 0.0,
        page_size: int = 20,
        rate_limit: int | RateLimit | None = None,
        port: int = 0,
        tls: Path | None = None,
    ) -> None:
        self.world = world
        self.latency = latency
        self.page_size = page_size
        self.rate_limit = rate_limit
        #: Asked for every request with its path and the how-manieth of exactly this path it is, from 1.
        self.fault: Callable[[str, int], Fault | None] | None = None
        #: May give answers outside the API, which are neither counted nor disturbed.
        self.aside: Callable[[Request], Answer | None] | None = None
        self._lock = threading.Lock()
        self._at_once = 0
        self._sockets: set[socket.socket] = set()
        self._listener = self._bind(port)
        self.port: int = self._listener.getsockname()[1]
        self._tls = server_tls(tls) if tls else None
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.reset()

    def __enter__(self) -> "Server":
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()
        self._listener.close()

    # For tests

    def reset(self) -> None:
        """Forget the requests, the counts and the faults."""
        with self._lock:
            self.fault = None
            self.requests: list[Request] = []
            self.connections = 0
            self.most_at_once = 0
            self._asked: Counter[str] = Counter()
            self._limits: dict[int, RateLimit] = {}
            self._scripts: list[tuple[re.Pattern[str], deque[Fault | None]]] = []

    @property
    def calls(self) -> int:
        """How many requests came."""
        return len(self.requests)

    def script(self, pattern: str, faults: Sequence[Fault | None]) -> None:
        """Give the next requests whose path with query matches these faults in turn; None is the usual answer."""
        self._scripts.append((re.compile(pattern), deque(faults)))

    def down(self) -> None:
        """Break all connections and refuse new ones; the port stays ours."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._sockets:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self._listener = self._bind(self.port)

    def up(self) -> None:
        """Accept connections, on the same port as ever."""
        self._listener.listen(128)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    # The wire

    @staticmethod
    def _bind(port: int) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        return listener

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        """Answer what comes over one connection until either side has enough."""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._sockets.add(connection)
            self.connections += 1
        with suppress(OSError), connection, self._secured(connection) as wire, wire.makefile("rb") as stream:
            while (request := _read(stream)) and self._exchange(wire, request):
                pass
        with self._lock:
            self._sockets.discard(connection)

    def _secured(self, connection: socket.socket) -> socket.socket:
        return self._tls.wrap_socket(connection, server_side=True) if self._tls else connection

    def _exchange(self, connection: socket.socket, request: Request) -> bool:
        """Answer one request; False when the connection is to end."""
        answer, fault = self.aside and self.aside(request), Fault()
        if answer is None:
            answer, fault = self._counted(request)
        if fault.broken == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if fault.broken in ("reset", "closed"):
            return False
        closing = request.headers.get("connection", "").lower() == "close"
        if isinstance(answer.body, Iterator):
            return self._stream(connection, answer, cut=fault.broken == "cut")
        sent = self._encode(answer, {"Connection": "close"} if closing else {})
        if fault.broken == "cut":
            head, gap, body = sent.partition(b"\r\n\r\n")
            connection.sendall(head + gap + body[: len(body) // 2])
            return False
        connection.sendall(sent)
        return not closing

    def _stream(self, connection: socket.socket, answer: Answer, cut: bool) -> bool:
        """Send a body as it comes, or the beginning of it, and end the connection."""
        headers = {"Date": http_date(self.world.now), "Content-Type": "application/json", "Connection": "close"}
        lines = [f"HTTP/1.1 {answer.status} {REASONS.get(answer.status, '')}", *map(": ".join, headers.items())]
        connection.sendall("\r\n".join([*lines, "Transfer-Encoding: chunked", "", ""]).encode())
        for number, chunk in enumerate(answer.body):
            connection.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            if cut and number:
                return False
        connection.sendall(b"0\r\n\r\n")
        return False

    def _counted(self, request: Request) -> tuple[Answer, Fault]:
        """The answer to one request of the API's, with all delays and faults, remembered in `requests`."""
        with self._lock:
            self.requests.append(request)
            self._asked[request.path] += 1
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            fault = self._due(request.path)
        try:
            if fault.gate:
                fault.gate.wait()
            if fault.delay or self.latency:
                time.sleep(fault.delay + self.latency)
            answer = self._faulted(request, fault)
            request.status = 0 if fault.broken in ("reset", "closed") else answer.status
            return answer, fault
        finally:
            with self._lock:
                self._at_once -= 1

    def _due(self, path: str) -> Fault:
        for pattern, faults in self._scripts:
            if faults and pattern.search(path):
                return faults.popleft() or Fault()
        return (self.fault and self.fault(path, self._asked[path])) or Fault()

    def _faulted(self, request: Request, fault: Fault) -> Answer:
        if fault.status is None:
            served, told = self._admit()
            usual = self.answer(request) if served else Answer(429, "Rate limited.")
            status, body, headers = usual.status, usual.body, {**usual.headers, **told}
        else:
            status, body, headers = fault.status, {"message": REASONS.get(fault.status, "Error")}, {}
        return Answer(status, body if fault.body is None else fault.body, {**headers, **fault.headers})

    def _admit(self) -> tuple[bool, Mapping[str, str]]:
        """Whether the rate limit lets one more through, and what it has answers say."""
        with self._lock:
            limit = self.rate_limit
            if isinstance(limit, int):
                limit = self._limits.setdefault(limit, RateLimit(SlidingWindow(limit, 1), 1))
            return limit.answer(time.monotonic()) if limit else (True, {})

    def _encode(self, answer: Answer, more: Mapping[str, str]) -> bytes:
        if isinstance(answer.body, str):
            kind = "text/html" if answer.body.startswith("<") else "text/plain"
            body = answer.body.encode()
        else:
            kind = "application/json"
            body = json.dumps(answer.body, ensure_ascii=False).encode()
        headers = {
            "Date": http_date(self.world.now),
            "Content-Type": f"{kind};charset=utf-8",
            "Content-Length": str(len(body)),
            **answer.headers,
            **more,
        }
        lines = [f"HTTP/1.1 {answer.status} {REASONS.get(answer.status, '')}", *map(": ".join, headers.items()), "", ""]
        return "\r\n".join(lines).encode() + body

    # The API

    def answer(self, request: Request) -> Answer:
        """What the service answers when all is well with it."""
        path, _, query = request.path.partition("?")
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if request.headers.get("circle-token") != self.world.token:
            if parts[:3] == ["api", "v2", "project"]:
                return Answer(404, {"message": "Project not found"})
            return Answer(401, {"message": "You must log in first."})
        try:
            if request.method != "GET":
                raise RefusedError(404, "Route Not Found.")
            return Answer(200, self._resource(parts, dict(parse_qsl(query, keep_blank_values=True))))
        except RefusedError as refused:
            return refused.answer

    def _resource(self, parts: list[str], query: dict[str, str]) -> Any:  # noqa: PLR0912 - a table of routes
        match parts:
            case ["api", "v2", "me"]:
                return self.world.me
            case ["api", "v2", "me", "collaborations"]:
                return self.world.organizations
            case ["api", "v2", "context"]:
                owner = self.world.organization(query.get("owner-slug", "")) or {"id": query.get("owner-id")}
                return self._list("context", owner["id"], query, unknown=403)
            case ["api", "v2", "deploy", "environments"]:
                return self._list("deploy", query.get("org-id"), query, last={"next_page_token": ""})
            case ["api", "v2", "organizations", organization, "groups"]:
                return self._list("groups", organization, query, unknown=403)
            case ["api", "private", "project"]:
                return self._list("project", query.get("organization-id"), query)
            case ["api", "v2", "projects", project, "pipeline-definitions"]:
                return self._list("pipeline_definition", project, query, last={})
            case ["api", "v2", "projects", project, "pipeline-definitions", definition, "triggers"]:
                if definition not in [row["id"] for row in self.world.seen("pipeline_definition", project)]:
                    raise RefusedError(404, "Not found.")
                return self._list("trigger", definition, query, last={})
            case ["api", "v2", "project", *slug] if len(slug) == 3:
                return self._project("lookup", slug)
            case ["api", "v2", "project", *slug, "schedule"] if len(slug) == 3:
                return self._list("schedule", self._project("schedule", slug)["id"], query)
            case ["api", "v2", "project", *slug, "pipeline"] if len(slug) == 3:
                return self._pipelines([self._project("pipelines", slug)], query)
            case ["api", "v2", "pipeline"]:
                owner = self.world.organization(query.get("org-slug", ""))
                if owner is None:
                    raise RefusedError(404, "Organization not found")
                owned = [row for row in self.world.projects.values() if row["organization_id"] == owner["id"]]
                return self._pipelines(owned, query)
            case ["api", "v2", "pipeline", pipeline]:
                return self._found(self.world.pipeline(pipeline))
            case ["api", "v2", "workflow", workflow]:
                return self._found(self.world.workflow(workflow))
            case ["api", "v2", "pipeline", pipeline, "workflow"]:
                return self._list("workflows", pipeline, query)
            case ["api", "v2", "workflow", workflow, "job"]:
                return self._list("jobs", workflow, query, last={})
        raise RefusedError(404, "Route Not Found.")

    @staticmethod
    def _found(row: Row | None) -> Row:
        if row is None:
            raise RefusedError(404, "Not found.")
        return row

    def _project(self, stream: str, slug: list[str]) -> Row:
        row = self.world.project("/".join(slug))
        if row is None:
            raise RefusedError(404, "Project not found")
        self._refuse(stream, row["id"])
        return row

    def _refuse(self, stream: str, identifier: str) -> None:
        status = self.world.refusal(stream, identifier)
        if status:
            messages = {400: "Unsupported provider.", 403: "Permission denied.", 404: "Not found."}
            raise RefusedError(status, messages[status])

    def _list(
        self,
        stream: str,
        parent: str | None,
        query: Mapping[str, str],
        *,
        unknown: int = 404,
        last: Mapping[str, str | None] = NULL_TOKEN,
        paged: bool = True,
    ) -> Row:
        """A page of the rows below one parent; `last` is what the end of the list looks like."""
        if not parent or not UUID.fullmatch(parent):
            raise RefusedError(400, f"Invalid or missing id: {parent!r}.")
        self._refuse(stream, parent)
        if not self.world.knows(stream, parent):
            raise RefusedError(unknown, "Permission denied." if unknown == 403 else "Not found.")
        rows = self.world.seen(stream, parent)
        if stream == "schedule" and self.world.underscores:
            rows = [_underscored(row) for row in rows]
        size = _chosen(query) or self.page_size if stream in SIZED else self.page_size
        return page(rows, query, size if paged else len(rows), last)

    def _pipelines(self, projects: Sequence[Row], query: Mapping[str, str]) -> Row:
        """A page of pipelines; its token tells the last one shown, so that new ones do not shift the pages."""
        below, _, identifier = _opened(query, r"[^ ]+ [^ ]+").partition(" ")
        ids = [row["id"] for row in projects]
        rows = self.world.pipelines(ids, (below, identifier) if below else None, self.page_size + 1)
        page = rows[: self.page_size]
        return {"items": page, "next_page_token": _token(" ".join(age(page[-1]))) if rows[len(page) :] else None}


def page(rows: Sequence[Row], query: Mapping[str, str], size: int, last: Mapping[str, str | None]) -> Row:
    """The page of a list that a request asks for; `last` is what the end of the list looks like."""
    start = int(_opened(query, r"\d+") or 0)
    end = start + size
    return {"items": rows[start:end], **({"next_page_token": _token(str(end))} if rows[end:] else last)}


def _read(stream: BinaryIO) -> Request | None:
    """The next request, or None when no more comes."""
    words = stream.readline().decode("latin-1").split()
    if len(words) != 3:
        return None
    headers = {}
    while line := stream.readline().decode("latin-1").strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = stream.read(int(headers.get("content-length", 0)))
    return Request(time.monotonic(), words[0], words[1], headers, body)


def _token(place: str) -> str:
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def _opened(query: Mapping[str, str], shape: str) -> str:
    """The place in a list that a page token tells, "" without one."""
    token = query.get("page-token", "")
    try:
        place = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    except (binascii.Error, ValueError):
        place = ""
    if token and not re.fullmatch(shape, place):
        raise RefusedError(400, "Invalid page token.")
    return place


def _chosen(query: Mapping[str, str]) -> int:
    """The page size asked for, 0 without one."""
    size = query.get("page-size", "0")
    if not size.isdigit():
        raise RefusedError(400, "Invalid page-size.")
    if int(size) > MOST:
        raise RefusedError(500, "Internal server error.")
    return int(size)


def _underscored(schedule: Row) -> Row:
    renamed = {key.replace("-", "_"): value for key, value in schedule.items()}
    return renamed | {"timetable": {key.replace("-", "_"): value for key, value in schedule["timetable"].items()}}
