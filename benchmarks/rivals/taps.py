"""The three taps: how each is installed, told what to read, and what its rows are called in our tables."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.rivals.service import ROOT, START, Service, Truth
from benchmarks.tls import BUNDLE, TRUST
from tests.circleci import STREAMS, TOKEN

#: What all three have.
COMMON = ("pipelines", "workflows", "jobs", "context")


class Tap:
    """One of the taps. `tables` are ours that it can fill; `renamed` are its own names for some of them."""

    name: str
    version: str
    tables: Collection[str] = STREAMS
    renamed: ClassVar[Mapping[str, str]] = {}

    def __init__(self, folder: Path) -> None:
        self._folder = folder / self.name
        self._folder.mkdir()
        self._home = ROOT / ".venvs" / f"rival-{self.name}"
        self._files = 0

    def prepare(self, service: Service) -> None:
        """Put the tap into a virtualenv of its own, unless it is there; in need of a catalog, let it discover."""
        if not (self._home / "ready").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", self._home], check=True)
            self._pip(*self.requirements())
            (self._home / "ready").touch()

    def requirements(self) -> list[str]:
        """What pip is to install."""
        return [f"{self.name}=={self.version}"]

    def command(self, service: Service, tables: Collection[str], state: Any, workers: int) -> list[str]:
        """The command line that syncs these tables of all projects of the service."""
        raise NotImplementedError

    def truth(self, service: Service, tables: Collection[str]) -> Truth:
        """The rows that a perfect tap would have delivered by now for what this one is asked for."""
        rows = service.truth(service.slugs)
        return {table: rows[table] for table in tables if table in self.tables}

    def _pip(self, *arguments: str) -> None:
        pip = [self._home / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*pip, *arguments], check=True)

    def _program(self, name: str) -> str:
        return str(self._home / "bin" / name)

    def _file(self, content: Any) -> str:
        """A file of its own with this as JSON."""
        self._files += 1
        path = self._folder / f"{self._files}.json"
        path.write_text(json.dumps(content))
        path.chmod(0o600)
        return str(path)

    def _arguments(self, config: Any, state: Any, catalog: Any = None) -> list[str]:
        given = {"--config": config, "--state": state, "--catalog": catalog}
        return [part for name, value in given.items() if value is not None for part in (name, self._file(value))]

    def _discover(self, command: list[str]) -> None:
        self._catalog = subprocess.run(command, check=True, capture_output=True, env=TRUST).stdout

    def _selected(self, tables: Collection[str]) -> Any:
        """The catalog with these tables selected."""
        catalog = json.loads(self._catalog)
        for stream in catalog["streams"]:
            for entry in stream["metadata"]:
                if not entry["breadcrumb"]:
                    entry["metadata"]["selected"] = stream["tap_stream_id"] in tables
        return catalog


class Ours(Tap):
    """The tap of this repository, as it is now and as a user installs it."""

    name = "tap-circleci"
    version = ""

    def prepare(self, service: Service) -> None:
        """Install anew what may have changed; what it depends on stays."""
        super().prepare(service)
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder)
            for name in ("setup.py", "pyproject.toml", "README.md"):
                shutil.copy(ROOT / name, source)
            shutil.copytree(ROOT / "tap_circleci", source / "tap_circleci")
            self._pip(folder)
        told = subprocess.run([self._program(self.name), "--version"], check=True, capture_output=True, text=True)
        self.version = told.stdout.split()[-1]
        self._discover([self._program(self.name), "--discover"])

    def requirements(self) -> list[str]:
        """Nothing but what comes along with it."""
        return ["setuptools"]

    def command(self, service: Service, tables: Collection[str], state: Any, workers: int) -> list[str]:
        """Ours has them all."""
        config = {
            "token": TOKEN,
            "project_slugs": service.slugs,
            "base_url": service.url,
            "start_date": START,
            "max_workers": workers,
        }
        return [self._program(self.name), *self._arguments(config, state, self._selected(tables))]


class Official(Tap):
    """tap-circle-ci, whose host is part of its code: a script of ours sends its requests elsewhere."""

    name = "tap-circle-ci"
    version = "2.0.0"
    _SCRIPT = """
import sys
import requests
from tap_circle_ci import main

ELSEWHERE = sys.argv.pop(1)
send = requests.Session.request

def request(self, method, url, *args, **kwargs):
    return send(self, method, url.replace("https://circleci.com", ELSEWHERE, 1), *args, **kwargs)

requests.Session.request = request
main()
"""

    def prepare(self, service: Service) -> None:
        """Its discovery asks the service whose token it is."""
        super().prepare(service)
        (self._folder / "elsewhere.py").write_text(self._SCRIPT)
        self._discover([*self._redirected(service), "--discover", *self._arguments(self._config(service), None)])

    def command(self, service: Service, tables: Collection[str], state: Any, workers: int) -> list[str]:
        """It has all our tables."""
        return [*self._redirected(service), *self._arguments(self._config(service), state, self._selected(tables))]

    def _redirected(self, service: Service) -> list[str]:
        return [self._program("python"), str(self._folder / "elsewhere.py"), service.url]

    @staticmethod
    def _config(service: Service) -> Any:
        """By default it asks for pages of 200 environments, of which the API gives 50."""
        return {"token": TOKEN, "project_slugs": " ".join(service.slugs), "start_date": START, "page_size": 50}


class Meltano(Tap):
    """meltano-tap-circle-ci, which reads one organization as a whole."""

    name = "meltano-tap-circle-ci"
    version = "0.6.6"
    tables = COMMON
    renamed: ClassVar[Mapping[str, str]] = {"contexts": "context"}

    def prepare(self, service: Service) -> None:
        """Meltano's SDK trusts only the certificates of certifi, whatever the environment names."""
        super().prepare(service)
        ask = [self._program("python"), "-c", "import certifi; print(certifi.where())"]
        trusted = subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip()
        shutil.copy(BUNDLE, trusted)

    def command(self, service: Service, tables: Collection[str], state: Any, workers: int) -> list[str]:
        """Its tables are all selected unless told otherwise."""
        config = {"token": TOKEN, "org_slug": self._organization(service), "base_url": f"{service.url}/api/v2"}
        return [self._program("tap-circle-ci"), *self._arguments(config, state)]

    def truth(self, service: Service, tables: Collection[str]) -> Truth:
        """The rows of its one organization."""
        organization = self._organization(service)
        rows = service.truth([slug for slug in service.slugs if slug.startswith(f"{organization}/")])
        known = {row["slug"]: row["id"] for row in rows["collaborations"]}
        rows["context"] = [row for row in rows["context"] if row["organization_id"] == known[organization]]
        return {table: rows[table] for table in tables if table in self.tables}

    @staticmethod
    def _organization(service: Service) -> str:
        return service.slugs[0].rpartition("/")[0]
