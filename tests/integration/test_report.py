"""A real browser opens the demo's report: it is all there, asks for nothing, fits a phone, and heeds dark mode."""

from __future__ import annotations

import http.server
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from demo.__main__ import load
from demo.report import write
from tests.circleci import Server
from tests.integration import warehouses
from tests.integration.conftest import NOW, lively_world
from tests.integration.programs import debian
from tests.integration.test_targets import prepare, sync

QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--enable-logging=stderr",
    "--allow-file-access-from-files",
]
# A page around the report, which measures it as the browser shows it at a width.
FRAME = """<!DOCTYPE html><iframe src="report.html" style="border: 0; width: {width}px; height: 800px"></iframe>
<script>
addEventListener("load", () => {{
  const page = document.querySelector("iframe").contentDocument, style = getComputedStyle(page.body);
  const narrow = [...page.querySelectorAll("svg text")].map(text => text.getBoundingClientRect().height);
  const facts = {{
    width: page.documentElement.scrollWidth,
    tables: [...page.querySelectorAll(".scroll")].filter(box => box.scrollWidth > box.clientWidth).length,
    charts: page.querySelectorAll("svg[role=img]").length,
    drawn: page.querySelectorAll("svg:has(.series .rect), svg:has(.series .line)").length,
    smallest: Math.round(Math.min(...narrow)),
    paper: style.backgroundColor, ink: style.color,
  }};
  document.title = Object.entries(facts).map(([name, fact]) => `${{name}}=${{fact}}`).join("; ");
}});
</script>"""


@pytest.fixture(scope="module")
def chromium() -> str:
    """The browser, installed when it is not there."""
    return str(debian(partial(shutil.which, "chromium"), "chromium", "fonts-dejavu-core"))


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[str]]]:
    """A proxy that refuses everything, and what it was asked for."""
    asked: list[str] = []

    class Refuse(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(502)

        do_CONNECT = do_POST = do_GET  # noqa: N815 - the names that http.server calls

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuse) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"--proxy-server=http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """The report of what the tap loads from the demo's CircleCI."""
    folder = tmp_path_factory.mktemp("report")
    with Server(lively_world(NOW)) as server:
        prepare(server, folder, extra_streams="builds steps step_outputs tests", job_names=["*", "!browser-??"])
        sync(folder, warehouses.jsonl(folder))
    load(folder / "catalog.json", folder / "jsonl", folder / "circleci.db")
    write(folder / "circleci.db", folder / "report.html", NOW)
    return folder / "report.html"


def browse(chromium: str, page: Path, folder: Path, *options: str) -> tuple[str, list[str]]:
    """What the browser makes of a page, and what it writes to the console."""
    command = [chromium, *QUIET, f"--user-data-dir={folder / 'profile'}", *options, "--dump-dom", page.as_uri()]
    done = subprocess.run(command, check=True, capture_output=True, encoding="utf-8", timeout=60)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def facts(chromium: str, report: Path, folder: Path, width: int, *options: str) -> dict[str, str]:
    """What the page around the report measured."""
    frame = report.with_name(f"frame-{width}.html")
    frame.write_text(FRAME.format(width=width), encoding="utf-8")
    shown, _ = browse(chromium, frame, folder, *options)
    title = re.search("<title>(.*?)</title>", shown)
    assert title, shown[-2000:]
    return dict(fact.split("=", 1) for fact in title[1].split("; "))


def test_it_opens_without_an_error_and_asks_for_nothing(chromium, report, tmp_path, proxy):
    """All sections are there, the console is empty, and no request leaves the browser for the page."""
    option, asked = proxy
    shown, console = browse(chromium, report, tmp_path, option)
    titles = re.findall("<h2[^>]*>(.*?)</h2>", shown)
    assert titles == [
        "Workflows",
        "Why jobs fail",
        "The slowest steps",
        "The slowest jobs",
        "The flakiest jobs",
        "Waits",
        "Deployments",
        "The tables",
    ]
    assert "web-shop" in shown
    assert console == []
    assert [path for path in asked if "google" not in path] == []


def test_a_request_and_an_error_would_be_seen(chromium, tmp_path, proxy):
    """The test before this one can fail: a picture from elsewhere and a broken script are noticed."""
    page = tmp_path / "bad.html"
    page.write_text('<img src="http://pictures.example/a.png"><script>nothing()</script>', encoding="utf-8")
    option, asked = proxy
    _, console = browse(chromium, page, tmp_path, option)
    assert "http://pictures.example/a.png" in asked
    assert len(console) == 1


@pytest.mark.parametrize("width", [400, 1280])
def test_it_fits_its_width(chromium, report, tmp_path, width):
    """On a phone and on a desktop nothing is cut off, every chart is drawn, and its text is readable."""
    found = facts(chromium, report, tmp_path, width)
    assert int(found["width"]) <= width
    assert found["tables"] == "0"
    assert found["charts"] == found["drawn"] == "12"
    assert int(found["smallest"]) >= 11


def test_it_heeds_dark_mode(chromium, report, tmp_path):
    """In dark mode the text is light and the background is dark."""
    light = facts(chromium, report, tmp_path, 800)
    dark = facts(chromium, report, tmp_path, 800, "--blink-settings=preferredColorScheme=0")
    assert (light["paper"], light["ink"]) == ("rgb(255, 255, 255)", "rgb(27, 36, 48)")
    assert (dark["paper"], dark["ink"]) == ("rgb(18, 23, 30)", "rgb(232, 237, 243)")
