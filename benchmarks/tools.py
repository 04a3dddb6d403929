"""What the sections share: things in processes of their own, runs of the tap, tables."""

import gc
import json
import multiprocessing
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Generic, TypeVar

from tests.circleci import TOKEN, Server, World

T = TypeVar("T")

NOW = datetime(2025, 6, 2, 12, tzinfo=timezone.utc)
"""The service's time when a measurement begins."""
FILES = Path(__file__).parents[1] / "run" / "bench"
TAP = Path(sys.executable).with_name("tap-circleci")
WALK = ("pipelines", "workflows", "jobs")

_RECORD = re.compile(rb'\{"type": "RECORD", "stream": "(\w+)"')
_STATE = b'{"type": "STATE"'


class Remote(Generic[T]):
    """A thing in a process of its own, of which functions can be asked; used as a context manager."""

    def __init__(self, make: Callable[[], AbstractContextManager[T]]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, self._theirs = context.Pipe()
        self._process = context.Process(target=_keep, args=(make, self._theirs), daemon=True)

    def __enter__(self) -> "Remote[T]":
        self._process.start()
        self._theirs.close()  # so that its end shows
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join(5)
        self._process.kill()

    def ask(self, question: Callable[..., Any], *details: Any) -> Any:
        """What `question(thing, *details)` gives over there."""
        self._pipe.send((question, details))
        answer = self._pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer


def _keep(make: Callable[[], AbstractContextManager[Any]], pipe: Connection) -> None:
    with suppress(EOFError), make() as thing:
        while True:
            question, details = pipe.recv()
            try:
                answer = question(thing, *details)
            except Exception as error:
                answer = error
            pipe.send(answer)


# The service


def service(world: Callable[..., World], *details: Any, **options: Any) -> Remote[Server]:
    """Our CircleCI with the world that `world(*details)` builds over there."""
    return Remote(partial(_server, world, details, options))


def _server(world: Callable[..., World], details: Iterable[Any], options: dict[str, Any]) -> Server:
    server = Server(world(*details), **options)
    gc.freeze()  # else a collection takes the longer the larger the world is, and a measurement with it
    return server


def url(server: Server) -> str:
    """Where it answers."""
    return server.url


def slugs(server: Server) -> list[str]:
    """All its projects."""
    return [row["slug"] for row in server.world.projects.values()]


def forget(server: Server, now: datetime | None = None, latency: float | None = None) -> None:
    """Forget what was asked, and perhaps go to another time, at another pace."""
    server.reset()
    server.world.now = now or server.world.now
    server.latency = server.latency if latency is None else latency


@dataclass(frozen=True)
class Traffic:
    """What a run asked: requests, those of them for a URL asked before, and seconds from the first to the last."""

    calls: int
    repeated: int
    status: Counter[int]
    seconds: float


def traffic(server: Server) -> Traffic:
    """What was asked since `forget`."""
    asked = list(server.requests)
    times = [request.at for request in asked]
    return Traffic(
        len(asked),
        len(asked) - len({request.path for request in asked}),
        Counter(request.status for request in asked),
        max(times) - min(times) + server.latency,
    )


# The tap


@dataclass
class Run:
    """One run of the tap: seconds of the clock and of the processor, peak memory in MB, and what it wrote."""

    seconds: float
    cpu: float
    peak: float
    rows: Counter[str]
    lines: int
    size: int
    states: int
    states_size: int
    state: dict[str, Any]


def config(url: str, slugs: Iterable[str], **more: Any) -> dict[str, Any]:
    """A config for all that the service at this URL has of these projects."""
    return {"token": TOKEN, "base_url": url, "project_slugs": list(slugs), "start_date": "2000-01-01", **more}


def arguments(settings: dict[str, Any], streams: Iterable[str], state: dict[str, Any] | None) -> list[str]:
    """The command line for a run, whose files are written."""
    selected = [
        {"tap_stream_id": name, "metadata": [{"breadcrumb": [], "metadata": {"selected": True}}]} for name in streams
    ]
    files: dict[str, Any] = {"config": settings, "catalog": {"streams": selected}, "state": state}
    FILES.mkdir(parents=True, exist_ok=True)
    line = []
    for name, value in files.items():
        if value is not None:
            path = FILES / f"{name}.json"
            path.touch(0o600)
            path.write_text(json.dumps(value))
            line += [f"--{name}", str(path)]
    return line


def run(
    settings: dict[str, Any],
    streams: Iterable[str] = WALK,
    state: dict[str, Any] | None = None,
    watch: Callable[[int], None] = lambda pid: None,
    tap: Path = TAP,
) -> Run:
    """Run the tap; `watch` gets the id of its process."""
    return launch(arguments(settings, streams, state), watch, tap)


def start_up(tap: Path = TAP) -> Run:
    """What the tap costs before it does anything."""
    return launch(["--discover"], tap=tap)


def launch(
    line: list[str],
    watch: Callable[[int], None] = lambda pid: None,
    tap: Path = TAP,
    environment: Mapping[str, str] = os.environ,
) -> Run:
    """Run the tap with this command line; `watch` gets the id of its process."""
    FILES.mkdir(parents=True, exist_ok=True)
    log, began = FILES / "tap.log", time.monotonic()
    done = Run(0, 0, 0, Counter(), 0, 0, 0, 0, {})
    command: list[str | Path] = [tap, *line]
    with (
        log.open("w") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=environment) as process,
    ):
        watch(process.pid)
        assert process.stdout
        state = b"{}"
        for text in process.stdout:
            done.lines += 1
            done.size += len(text)
            if record := _RECORD.match(text):
                done.rows[record[1].decode()] += 1
            elif text.startswith(_STATE):
                state = text
                done.states += 1
                done.states_size += len(text)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"the tap ended with {process.returncode}; see {log}")
    done.seconds = time.monotonic() - began
    done.cpu, done.peak = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
    done.state = json.loads(state).get("value", {})
    return done


# The report


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a Markdown table; numbers stand to the right."""
    lines = [[_shown(cell) for cell in row] for row in rows]
    numbers = [all(re.fullmatch(r"[->\d].*|", line[place]) for line in lines) for place in range(len(head))]
    print("|", " | ".join(head), "|")
    print("|" + "|".join("---:" if number else "---" for number in numbers) + "|")
    for line in lines:
        print("|", " | ".join(line), "|", flush=True)
    print(flush=True)


def _shown(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:,.2f}" if abs(cell) < 100 else f"{cell:,.0f}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)
