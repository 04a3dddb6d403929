"""Our own CircleCI in a process of its own, over TLS, steered and watched by requests."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from benchmarks.tls import BUNDLE, certified
from tests.circleci import Row

ROOT = Path(__file__).parents[2]
#: The service's clock stands at this time, so that every comparison sees the same worlds.
NOW = "2025-06-04T16:00:00Z"
START = "2024-07-01T00:00:00Z"
DAY = 86_400

Truth = dict[str, list[Row]]


class Service:
    """Serves a world while used as a context manager."""

    def __init__(self, world: str, **options: float) -> None:
        self._command = [
            sys.executable,
            "-m",
            "tests.circleci",
            "--now",
            NOW,
            "--world",
            world,
            "--tls",
            str(certified()),
        ]
        for name, value in options.items():
            self._command += [f"--{name.replace('_', '-')}", str(value)]
        self._trusted = ssl.create_default_context(cafile=BUNDLE)
        self._over = threading.Event()

    def __enter__(self) -> Service:
        self._process = subprocess.Popen(self._command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        self.url = self._process.stdout.readline().strip()
        projects = self.truth([])["project"]
        self.slugs = [row["slug"] for row in projects]
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._process.terminate()
        self._process.wait()

    def _ask(self, path: str, body: bytes | None = None) -> Any:
        request = Request(self.url + path, body)  # noqa: S310 - it is https
        with urlopen(request, timeout=60, context=self._trusted) as answer:  # noqa: S310
            return json.load(answer)

    def control(self, **orders: Any) -> str:
        """Change the clock, the pace, the faults or the world, as the help of tests.circleci says; gives the time."""
        return str(self._ask("/_control", json.dumps(orders).encode())["now"])

    def refuse(self, seconds: int) -> None:
        """Tell the first request to come again in so many seconds, and refuse all others until just before."""
        refusal = {"status": 429, "headers": {"Retry-After": str(seconds)}, "body": "Rate limited."}
        self.control(fault=[{"pattern": "/api/", **refusal}])

        def relent() -> None:
            while not self._over.wait(0.05) and not self.stats()["calls"]:
                pass
            if not self._over.wait(seconds - 1):
                self.control(fault=[])

        threading.Thread(target=relent, daemon=True).start()

    def stats(self) -> dict[str, Any]:
        """What was asked since the last reset."""
        return dict(self._ask("/_stats"))

    def truth(self, slugs: list[str]) -> Truth:
        """The rows as they show now: pipelines, workflows and jobs of these projects, all of the rest."""
        return dict(self._ask("/_truth?slugs=" + ",".join(slugs)))

    def work(self, slug: str, pipelines: int, seconds: float) -> None:
        """Let some time pass in which so many pipelines are begun, the last one well before its end."""
        for _ in range(pipelines):
            self.control(advance=seconds / (pipelines + 1))
            self.control(add_pipeline=slug)
        self.control(advance=seconds / (pipelines + 1))
