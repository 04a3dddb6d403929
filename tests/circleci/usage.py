"""Usage exports as the service makes them: orders, states by script, and files on a host of its own."""

from __future__ import annotations

import gzip
import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from types import TracebackType
from typing import Any

from tests.circleci.server import Answer, Request, Server

COLUMNS = re.findall(
    r"\w+",
    """
    ORGANIZATION_ID ORGANIZATION_NAME ORGANIZATION_CREATED_DATE PROJECT_ID PROJECT_NAME PROJECT_CREATED_DATE
    LAST_BUILD_FINISHED_AT VCS_NAME VCS_URL VCS_BRANCH PIPELINE_ID PIPELINE_CREATED_AT PIPELINE_NUMBER
    IS_UNREGISTERED_USER PIPELINE_TRIGGER_SOURCE PIPELINE_TRIGGER_USER_ID WORKFLOW_ID WORKFLOW_NAME
    WORKFLOW_FIRST_JOB_QUEUED_AT WORKFLOW_FIRST_JOB_STARTED_AT WORKFLOW_STOPPED_AT IS_WORKFLOW_SUCCESSFUL JOB_NAME
    JOB_RUN_NUMBER JOB_ID JOB_RUN_DATE JOB_RUN_QUEUED_AT JOB_RUN_STARTED_AT JOB_RUN_STOPPED_AT JOB_BUILD_STATUS
    RESOURCE_CLASS OPERATING_SYSTEM EXECUTOR PARALLELISM JOB_RUN_SECONDS MEDIAN_CPU_UTILIZATION_PCT
    MAX_CPU_UTILIZATION_PCT MEDIAN_RAM_UTILIZATION_PCT MAX_RAM_UTILIZATION_PCT COMPUTE_CREDITS DLC_CREDITS
    USER_CREDITS STORAGE_CREDITS NETWORK_CREDITS LEASE_CREDITS LEASE_OVERAGE_CREDITS IPRANGES_CREDITS TOTAL_CREDITS
    """,
)
Cells = Mapping[str, str | None]


def job(day: datetime, number: int, organization: str = "", **cells: str | None) -> dict[str, str | None]:
    """The cells of a job run; others may be given by their columns' names."""
    midnight = day.replace(hour=0, minute=0, second=0, microsecond=0)

    def at(seconds: float) -> str:
        return (midnight + timedelta(seconds=seconds % 86_400)).isoformat(" ", "milliseconds")[:23]

    pipeline, workflow, begun = number // 4 * 9.5, number // 2 * 9.5 + 2, number * 4.321 + 3

    usual = {
        "ORGANIZATION_ID": organization,
        "ORGANIZATION_NAME": "acme",
        "ORGANIZATION_CREATED_DATE": "2020-01-01",
        "PROJECT_ID": f"project-{number % 7}",
        "PROJECT_NAME": f"api-{number % 7}",
        "PROJECT_CREATED_DATE": "2020-02-03",
        "LAST_BUILD_FINISHED_AT": at(86_000),
        "VCS_NAME": "GITHUB",
        "VCS_URL": "https://github.com/acme/api",
        "VCS_BRANCH": "main",
        "PIPELINE_ID": f"pipeline-{number // 4}",
        "PIPELINE_CREATED_AT": at(pipeline),
        "PIPELINE_NUMBER": str(number // 4),
        "IS_UNREGISTERED_USER": "false",
        "PIPELINE_TRIGGER_SOURCE": "webhook",
        "PIPELINE_TRIGGER_USER_ID": "user-1",
        "WORKFLOW_ID": f"workflow-{number // 2}",
        "WORKFLOW_NAME": "build",
        "WORKFLOW_FIRST_JOB_QUEUED_AT": at(workflow),
        "WORKFLOW_FIRST_JOB_STARTED_AT": at(workflow + 1),
        "WORKFLOW_STOPPED_AT": at(workflow + 600),
        "IS_WORKFLOW_SUCCESSFUL": "true",
        "JOB_NAME": "test",
        "JOB_RUN_NUMBER": str(number),
        "JOB_ID": f"job-{day:%Y%m%d}-{number}",
        "JOB_RUN_DATE": day.strftime("%Y-%m-%d"),
        "JOB_RUN_QUEUED_AT": at(begun),
        "JOB_RUN_STARTED_AT": at(begun + 2),
        "JOB_RUN_STOPPED_AT": at(begun + 122),
        "JOB_BUILD_STATUS": "success",
        "RESOURCE_CLASS": "large",
        "OPERATING_SYSTEM": "LINUX",
        "EXECUTOR": "docker",
        "PARALLELISM": "1",
        "JOB_RUN_SECONDS": "120",
        "MEDIAN_CPU_UTILIZATION_PCT": "41.5",
        "MAX_CPU_UTILIZATION_PCT": "99.25",
        "MEDIAN_RAM_UTILIZATION_PCT": None,
        "MAX_RAM_UTILIZATION_PCT": None,
        "COMPUTE_CREDITS": "40.000000",
        "DLC_CREDITS": "0",
        "USER_CREDITS": "0",
        "STORAGE_CREDITS": "0.25",
        "NETWORK_CREDITS": "0",
        "LEASE_CREDITS": "0",
        "LEASE_OVERAGE_CREDITS": "0",
        "IPRANGES_CREDITS": "0",
        "TOTAL_CREDITS": "40.25",
    }
    return {**usual, **cells}


def seat(day: datetime, organization: str = "", **cells: str | None) -> dict[str, str | None]:
    """The cells of a row for a user's seat, which has no job."""
    kept = ("ORGANIZATION_ID", "ORGANIZATION_NAME", "JOB_RUN_DATE")
    usual = {name: value for name, value in job(day, 0, organization).items() if name in kept}
    return {**dict.fromkeys(COLUMNS), **usual, "USER_CREDITS": "25000", "TOTAL_CREDITS": "25000", **cells}


def csv_of(rows: Sequence[Cells], columns: Sequence[str] = COLUMNS, *, doubled: bool = False) -> bytes:
    """A file as the warehouse unloads it: all in quotes, which are escaped or doubled, null as an unquoted \\N."""

    def cell(value: str | None) -> str:
        if value is None:
            return "\\N"
        return '"' + value.replace("\\", "\\\\").replace('"', '""' if doubled else '\\"') + '"'

    lines = [",".join(f'"{name}"' for name in columns)]
    lines += [",".join(cell(row.get(name)) for name in columns) for row in rows]
    return ("\n".join(lines) + "\n").encode()


class FileHost:
    """Files on another host than the API's, at addresses that may expire; `headers` are those of each request."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        #: Asked for each request with its number from 1: a status instead of the file, or "cut" for half of it.
        self.fault: Callable[[int], int | str | None] = lambda number: None
        #: The signature that is valid; None: any.
        self.valid: str | None = None
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self._lock = Lock()
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host._answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FileHost:
        Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        path, _, query = request.path.partition("?")
        with self._lock:
            self.headers.append({name.lower(): value for name, value in request.headers.items()})
            self.paths.append(path)
            fault = self.fault(len(self.paths))
        status = fault if isinstance(fault, int) else 200
        if self.valid is not None and query != f"signature={self.valid}":
            status = 403
        body = self.files[path] if status == 200 else b"<Error>AccessDenied</Error>"
        request.send_response(status)
        if 300 <= status < 400:
            request.send_header("Location", self.url + path)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body[: len(body) // 2] if fault == "cut" else body)


@dataclass
class Order:
    """An export that was asked for, at this time of the service's; `looks` is how often its state has been."""

    id: str
    organization: str
    start: datetime
    end: datetime
    at: datetime
    looks: int = 0


@dataclass
class Usage:
    """What a server answers about usage exports, from the moment at which it is attached to it.

    `jobs` are the rows by organization and day (2026-03-09). `states` are those that an order goes through, one a look,
    the last one for ever; `script` may give other states for the how-manieth order, from 1. `raw` may give an answer
    instead of the usual one: for a method and the how-manieth request of it.
    """

    server: Server
    host: FileHost
    jobs: dict[str, dict[str, list[Cells]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    states: Sequence[str] = ("created", "processing", "completed")
    script: Callable[[int], Sequence[str] | None] = lambda number: None
    raw: Callable[[str, int], Answer | None] = lambda method, number: None
    #: Orders, by their number from 1, that are asked for in vain, and the status for them.
    forgotten: dict[int, int] = field(default_factory=dict)
    #: Organizations whose administrator the token's owner is not, and the status for them.
    refused: dict[str, int] = field(default_factory=dict)
    files_per_export: int = 1
    #: Orders within an hour of the service's time, by each organization; None: any number.
    hourly: int | None = None
    packed: bool = True
    empty: Any = None
    write: Callable[[Sequence[Cells]], bytes] = csv_of
    signature: Callable[[int], str] = lambda number: "secret"
    #: Where the files are, by how often the order has been looked at.
    folder: Callable[[int], str] = lambda number: "files"
    orders: list[Order] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = Lock()
        self.server.aside = self._aside

    def add(self, organization: str, *rows: Cells) -> None:
        """Add rows to the days on which their jobs ran."""
        for row in rows:
            self.jobs[organization][str(row["JOB_RUN_DATE"])].append(row)

    def posts(self) -> list[dict[str, str]]:
        """The bodies of all orders that were sent, whatever became of them."""
        return [json.loads(request.body) for request in self.requests if request.method == "POST"]

    def _aside(self, request: Request) -> Answer | None:
        parts = request.path.strip("/").split("/")
        if parts[:3] != ["api", "v2", "organizations"] or "usage_export_job" not in parts:
            return None
        with self._lock:
            self.requests.append(request)
            number = sum(one.method == request.method for one in self.requests)
            return self.raw(request.method, number) or self._answer(request, parts[3], parts[5:])

    def _answer(self, request: Request, organization: str, rest: list[str]) -> Answer:
        if request.headers.get("circle-token") != self.server.world.token:
            return Answer(401, {"message": "You must log in first."})
        if organization in self.refused:
            return Answer(self.refused[organization], {"message": "Permission denied."})
        if request.method == "POST" and not rest:
            return self._order(organization, request.body)
        found = [order for order in self.orders if [order.id] == rest and order.organization == organization]
        return self._state(found[0]) if found and request.method == "GET" else Answer(404, {"message": "Not found."})

    def _order(self, organization: str, sent: bytes) -> Answer:
        now = self.server.world.now
        span = _span(sent, now)
        if span is None:
            return Answer(400, {"message": "Unexpected request body provided."})
        recent = [one for one in self.orders if one.organization == organization and one.at > now - timedelta(hours=1)]
        if self.hourly is not None and len(recent) >= self.hourly:
            return Answer(429, {"message": "Too many exports."}, {"Retry-After": "3600"})
        order = Order(f"export-{len(self.orders) + 1}", organization, *span, now)
        self.orders.append(order)
        body = json.loads(sent)
        return Answer(201, {"usage_export_job_id": order.id, "state": "created", **body, "download_urls": None})

    def _state(self, order: Order) -> Answer:
        number = self.orders.index(order) + 1
        if number in self.forgotten:
            return Answer(self.forgotten[number], {"message": "Not for you."})
        states = self.script(number) or self.states
        state = states[min(order.looks, len(states) - 1)]
        order.looks += 1
        said: dict[str, Any] = {"usage_export_job_id": order.id, "state": state, "download_urls": None}
        if state == "failed":
            said["error_reason"] = "the warehouse is closed"
        if state == "completed":
            said["download_urls"] = self._files(order)
        return Answer(200, said)

    def _files(self, order: Order) -> Any:
        days = [
            day for day in self.jobs[order.organization] if f"{order.start:%Y-%m-%d}" <= day <= f"{order.end:%Y-%m-%d}"
        ]
        rows = [row for day in sorted(days) for row in self.jobs[order.organization][day]]
        if not rows:
            return self.empty
        urls = []
        for number in range(self.files_per_export):
            path = f"/{order.id}/{self.folder(order.looks)}/{number}.csv.gz"
            content = self.write(rows[number :: self.files_per_export])
            self.host.files[path] = gzip.compress(content) if self.packed else content
            urls.append(f"{self.host.url}{path}?signature={self.signature(order.looks)}")
        return urls


def _span(sent: bytes, now: datetime) -> tuple[datetime, datetime] | None:
    """The start and the end that the body of an order asks for, None if the service would not take them.

    At most 31 days, at most a year back, and none that have not come yet.
    """
    try:
        body = json.loads(sent)
        start, end = (datetime.fromisoformat(body[name].replace("Z", "+00:00")) for name in ("start", "end"))
        is_taken = now - timedelta(days=365) <= start <= end <= now and end - start <= timedelta(days=31)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return (start, end) if is_taken and body.keys() <= {"start", "end", "shared_org_ids"} else None
