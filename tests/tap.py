"""Runs the tap in this process against a server, and reads what it wrote."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import tap_circleci
from tap_circleci.discover import schema_of
from tap_circleci.streams import STREAMS
from tap_circleci.workers import Clock
from tests.circleci import Row, Server, moment

DEFAULT = tuple(name for name, stream in STREAMS.items() if not stream.is_extra)
"""The streams that are synced unless the user says otherwise."""
PROGRAM = str(Path(sys.executable).with_name("tap-circleci"))

Tables = dict[str, dict[tuple[Any, ...], Row]]


class FastClock(Clock):
    """Time that passes while somebody waits for it, and a microsecond whenever somebody looks: no real time.

    `waited` is how long the waits were in all.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waited = self._looked = 0.0

    def now(self) -> float:
        self._looked += 1e-6
        return self.waited + self._looked

    def wait(self, seconds: float) -> None:
        self.check()
        self.waited += max(seconds, 0.0)


class EagerClock(FastClock):
    """Time that passes a minute whenever somebody looks: every checkpoint becomes a STATE."""

    def now(self) -> float:
        self.waited += 60.0
        return super().now()


@dataclass(frozen=True)
class Run:
    """What one run left: its exit status, the lines on stdout, the log on stderr."""

    status: int
    lines: tuple[str, ...]
    log: str

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    @property
    def state(self) -> dict[str, Any] | None:
        return last_state(self.lines)

    def rows(self, stream: str) -> list[Row]:
        return [m["record"] for m in self.messages if m["type"] == "RECORD" and m["stream"] == stream]

    def criticals(self) -> list[str]:
        return [line.removeprefix("CRITICAL ") for line in self.log.splitlines() if line.startswith("CRITICAL")]


def plain(log: str) -> str:
    """What a process logged, without the times and the process: as it looks on a terminal."""
    return re.sub(r"^([A-Z]+) \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ \[\d+\] ", r"\1 ", log, flags=re.MULTILINE)


def last_state(lines: Iterable[str]) -> dict[str, Any] | None:
    """The value of the last STATE among the lines."""
    states = [line for line in lines if line.startswith('{"type": "STATE"')]
    return json.loads(states[-1])["value"] if states else None


def kept(state: Any, stream: str, slug: str) -> dict[str, Any]:
    """What a state keeps of one stream of one project."""
    return state["bookmarks"][stream][slug]


def tables(lines: Iterable[str], into: Tables | None = None) -> Tables:
    """What a target that upserts by key holds after these lines."""
    loaded: Tables = {} if into is None else into
    for line in lines:
        message = json.loads(line)
        if message["type"] == "RECORD":
            key = tuple(message["record"][column] for column in STREAMS[message["stream"]].key)
            loaded.setdefault(message["stream"], {})[key] = message["record"]
    return loaded


def run(argv: list[str], clock: Clock | None = None) -> Run:
    """Run a command line in this process."""
    output, log = io.StringIO(), io.StringIO()
    handler = logging.StreamHandler(log)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)}
    status: Any = 0
    try:
        with contextlib.redirect_stdout(output):
            tap_circleci.main(argv, clock or FastClock())
    except SystemExit as ended:
        status = ended.code
    finally:
        logging.getLogger().removeHandler(handler)
        for signum, action in before.items():
            signal.signal(signum, action)
    return Run(status, tuple(output.getvalue().splitlines()), log.getvalue())


def config_for(server: Server, **settings: Any) -> dict[str, Any]:
    """A config for the server's world, with all of its projects unless `settings` say otherwise."""
    slugs = [row["slug"] for row in server.world.projects.values()]
    base = {"token": server.world.token, "project_slugs": slugs, "base_url": server.url, "start_date": "2000-01-01"}
    return {key: value for key, value in {**base, **settings}.items() if value is not None}


def catalog_of(*streams: str) -> dict[str, Any]:
    """A catalog that selects these streams, as a runner would write it."""
    named = [stream for stream in streams if STREAMS[stream].is_extra]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.json"
        config.write_text(json.dumps({"extra_streams": named} if named else {}), encoding="utf-8")
        config.chmod(0o600)
        catalog = json.loads("\n".join(run(["--discover", "--config", str(config)]).lines))
    for entry in catalog["streams"]:
        for item in entry["metadata"]:
            if not item["breadcrumb"]:
                item["metadata"]["selected"] = entry["tap_stream_id"] in streams
    return catalog


def sync(
    server: Server,
    *,
    state: Any = None,
    catalog: Any = None,
    streams: Iterable[str] = (),
    clock: Clock | None = None,
    **settings: Any,
) -> Run:
    """Sync the server's world with these settings in the config; `streams` selects some only."""
    catalog = catalog_of(*streams) if streams else catalog
    with tempfile.TemporaryDirectory() as folder:
        argv = []
        for name, content in (("config", config_for(server, **settings)), ("catalog", catalog), ("state", state)):
            if content is not None:
                path = Path(folder) / f"{name}.json"
                path.write_text(json.dumps(content), encoding="utf-8")
                path.chmod(0o600)
                argv += [f"--{name}", str(path)]
        return run(argv, clock)


def expected(truth: Mapping[str, list[Row]], streams: Iterable[str] = DEFAULT) -> Tables:
    """The tables that a target should hold: the truth's rows in the shape of the schemas."""
    loaded: Tables = {}
    for stream in streams:
        properties = schema_of(stream)["properties"]
        for row in truth[stream]:
            record = {name: _expected(schema, row.get(name)) for name, schema in properties.items()}
            if stream == "trigger":
                webhook = (record["event_source"] or {}).get("webhook") or {}
                if webhook.get("url"):
                    webhook["url"] = webhook["url"].split("?")[0] + "?secret=**REDACTED**"
            loaded.setdefault(stream, {})[tuple(record[column] for column in STREAMS[stream].key)] = record
    return loaded


def _expected(schema: Mapping[str, Any], value: Any) -> Any:
    """A value as the target should get it."""
    if isinstance(value, str):
        value = value.replace("\0", "")
        if schema.get("format") == "date-time":
            return written(moment(value)) if value else None
        return value
    if isinstance(value, list):
        return [_expected(schema.get("items", {}), item) for item in value]
    if isinstance(value, dict):
        declared = schema.get("properties", {})
        return {name: _expected(declared.get(name, {}), item) for name, item in value.items()}
    return value


def written(time: datetime) -> str:
    """A time as records have it."""
    return time.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@contextmanager
def running(server: Server, folder: Path, **settings: object) -> Iterator[subprocess.Popen[bytes]]:
    """The tap as a process of its own, its output and log in the files `out` and `log`."""
    config = folder / "config.json"
    config.write_text(json.dumps(config_for(server, **settings)))
    config.chmod(0o600)
    with (
        (folder / "out").open("wb") as out,
        (folder / "log").open("wb") as log,
        subprocess.Popen([PROGRAM, "-c", str(config)], stdout=out, stderr=log) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for a condition, but not for ever."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def assert_same(loaded: Tables, wanted: Tables) -> None:
    """Compare tables row by row and field by field, with a message that names what differs."""
    for stream in wanted.keys() | loaded.keys():
        have, want = loaded.get(stream, {}), wanted.get(stream, {})
        missing, too_many = sorted(want.keys() - have.keys()), sorted(have.keys() - want.keys())
        assert not missing and not too_many, f"{stream}: missing {missing[:3]}, too many {too_many[:3]}"
        for key, row in want.items():
            assert have[key] == row, f"{stream} {key}"
