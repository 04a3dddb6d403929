"""Serve a sample CircleCI until SIGTERM, steered over HTTP by another process.

POST /_control takes a JSON object with any of these, and answers with the settings:
  {"now": "2025-06-02T12:00:00Z", "advance": 3600, "latency": 0.05, "rate_limit": 40, "reset": true,
   "fault": [{"pattern": "/workflow", "every": 7, "status": 503, "headers": {}, "body": "..."}],
   "add_pipeline": "gh/acme/web", "rerun": "<pipeline id>",
   "forbidden": ["<organization id>"], "missing": [["tests", "<job id>"]], "unsupported": [],
   "aged_out": {"<pipeline id>": "missing"}, "underscores": true, "hyphens": true, "insights_delay": 86400,
   "usage": {"states": ["processing", "completed"], "hourly": 10, "refused": {"<organization id>": 403}},
   "v1_status": 410, "gone": ["workflows"], "add_build": "gh/acme/web", "outputs_kept": 300,
   "signature": "the one that is valid from now on"}
GET /_stats tells what was asked, with the headers that the host of the exports' files got,
GET /_truth?slugs=gh/acme/web,gh/acme/api the rows as they show now, with &extras=all also those of the opt-in streams.
"""

import argparse
import json
import re
import signal
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.circleci.demo import demo_world, history, job_runs, odd_world
from tests.circleci.extras import Server, World, truth
from tests.circleci.server import UUID, Answer, Fault, Request
from tests.circleci.usage import FileHost, Usage
from tests.circleci.world import moment, stamp


def main() -> None:
    """Serve as the command line says."""
    options = _options()
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    server = Server(
        _world(options), latency=options.latency, rate_limit=options.rate_limit, port=options.port, tls=options.tls
    )
    with server, FileHost() as host:
        usage = Usage(server, host, states=["completed"])
        for organization, cells in job_runs(server.world) if options.world == "demo" else ():
            usage.add(organization, cells)
        exports = server.aside
        server.aside = lambda request: _aside(server, usage, request) or exports(request)
        print(server.url, flush=True)
        if options.ready:
            draft = options.ready.with_name(options.ready.name + ".draft")
            draft.write_text(server.url + "\n")
            draft.replace(options.ready)
        signal.sigwait(ends)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.circleci", description="Serve a sample CircleCI.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--rate-limit", type=int, help="answers within any second")
    parser.add_argument("--world", choices=("demo", "history", "odd"), default="demo")
    parser.add_argument("--pipelines", type=int, default=500, help="history: in each project")
    parser.add_argument("--projects", type=int, default=1, help="history: how many")
    parser.add_argument("--per-day", type=float, default=30, help="history: pipelines a day")
    parser.add_argument("--now", type=_time, default="now", help="the service's time, ISO 8601 or now; it stands still")
    parser.add_argument("--tls", type=Path, help="serve over TLS with the key and the certificate in this file")
    parser.add_argument("--ready", type=Path, help="write the URL to this file once it answers")
    return parser.parse_args()


def _time(text: str) -> datetime:
    if text == "now":
        return datetime.now(timezone.utc)
    told = moment(text)
    return told if told.tzinfo else told.replace(tzinfo=timezone.utc)


def _world(options: argparse.Namespace) -> World:
    if options.world == "demo":
        return demo_world(options.now)
    if options.world == "odd":
        return odd_world(options.now)
    return history(options.pipelines, options.now, per_day=options.per_day, projects=options.projects)


def _aside(server: Server, usage: Usage, request: Request) -> Answer | None:
    """The answer to a request that steers or watches the server, None for one of the API's."""
    url = urlsplit(request.path)
    if url.path == "/_control":
        return _control(server, usage, json.loads(request.body))
    if url.path == "/_stats":
        return Answer(200, _stats(server, usage))
    if url.path == "/_truth":
        query = parse_qs(url.query)
        slugs = [slug for slug in query.get("slugs", [""])[0].split(",") if slug]
        extras = truth(server.world, slugs) if "extras" in query else {}
        return Answer(200, server.world.truth(slugs) | extras)
    return None


def _control(server: Server, usage: Usage, orders: dict[str, Any]) -> Answer:
    world = server.world
    carry_out: dict[str, Callable[[Any], object]] = {
        "reset": lambda _: server.reset(),
        "now": lambda text: setattr(world, "now", _time(text)),
        "advance": lambda length: world.advance(timedelta(seconds=length)),
        "latency": lambda length: setattr(server, "latency", length),
        "rate_limit": lambda most: setattr(server, "rate_limit", most),
        "fault": lambda rules: setattr(server, "fault", _faults(rules)),
        "add_pipeline": lambda slug: world.add_pipeline(
            slug, world.now, workflows=[{"stopped_at": timedelta(minutes=5), "jobs": 3}]
        ),
        "rerun": lambda identifier: world.rerun(world.index[identifier][1], world.now),
        "forbidden": lambda marks: setattr(world, "forbidden", _marks(marks)),
        "missing": lambda marks: setattr(world, "missing", _marks(marks)),
        "unsupported": lambda marks: setattr(world, "unsupported", _marks(marks)),
        "underscores": lambda on: setattr(world, "underscores", on),
        "hyphens": lambda on: setattr(world, "hyphens", on),
        "insights_delay": lambda length: setattr(world, "insights_delay", timedelta(seconds=length)),
        "v1_status": lambda status: setattr(world, "v1_status", status),
        "gone": lambda fields: setattr(world, "gone", set(fields)),
        "add_build": lambda slug: world.add_build(slug, world.now),
        "outputs_kept": lambda length: setattr(world, "outputs_kept", timedelta(seconds=length)),
        "usage": lambda settings: [setattr(usage, name, settings[name]) for name in settings],
        "signature": lambda text: _sign(usage, text),
        "aged_out": lambda fates: setattr(world, "aged_out", dict(fates)),
        "ping": lambda _: None,
    }
    unknown = orders.keys() - carry_out.keys()
    if unknown:
        return Answer(400, {"message": f"Unknown: {', '.join(sorted(unknown))}."})
    for name, act in carry_out.items():
        if name in orders:
            act(orders[name])
    return Answer(200, {"now": stamp(world.now), "latency": server.latency, "rate_limit": server.rate_limit})


def _marks(marks: list[str | list[str]]) -> set[str | tuple[str, ...]]:
    """Ids, and pairs of a stream's name and an id, as a world takes them."""
    return {mark if isinstance(mark, str) else tuple(mark) for mark in marks}


def _sign(usage: Usage, text: str) -> None:
    """Let addresses told from now on be valid, and those told before no more."""
    usage.signature = lambda _: text
    usage.host.valid = text


def _faults(rules: list[dict[str, Any]]) -> Callable[[str, int], Fault | None]:
    """What the rules do to requests: every so-manieth that matches a rule's pattern gets the rule's fault."""
    known = [
        (
            re.compile(rule.pop("pattern", "")),
            int(rule.pop("every", 1)),
            count(1),
            Fault(**rule),
        )
        for rule in map(dict, rules)
    ]

    def fault(path: str, nth: int) -> Fault | None:
        for pattern, every, matched, due in known:
            if pattern.search(path) and next(matched) % every == 0:
                return due
        return None

    return fault


def _stats(server: Server, usage: Usage) -> dict[str, Any]:
    requests = list(server.requests)
    return {
        "calls": len(requests),
        "by_route": Counter(_route(request.path) for request in requests),
        "most_at_once": server.most_at_once,
        "connections": server.connections,
        "status": Counter(str(request.status) for request in requests),
        "exports": usage.posts(),
        "files": [
            {"path": path, "headers": headers}
            for path, headers in zip(usage.host.paths, usage.host.headers, strict=False)
        ],
    }


def _route(path: str) -> str:
    """The path without its query, slugs and ids."""
    start = r"(/v(?:2|1\.1)/(?:project|insights(?:/time-series|/pages)?))"
    bare = re.sub(start + r"/[^/]+/[^/]+/(?!summary$)[^/]+", r"\1/{slug}", urlsplit(path).path)
    bare = re.sub(r"(/insights(?:/time-series)?/{slug}/workflows)/[^/]+", r"\1/{name}", bare)
    return re.sub(r"/\d+(?=/|$)", "/{number}", UUID.sub("{id}", bare))


if __name__ == "__main__":
    main()
