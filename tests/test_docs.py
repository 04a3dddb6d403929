"""README and docs, compared with the code: tables, examples, links and commands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from importlib.metadata import version
from pathlib import Path

import pytest

from docs.generate import OPERATIONS, STREAMS_PAGE, operations_page, streams_page
from tap_circleci.config import KEYS, check, unknown
from tap_circleci.discover import schema_of
from tap_circleci.streams import STREAMS
from tests.circleci import Fault, Server, World
from tests.integration.targets import TARGETS
from tests.tap import DEFAULT, config_for, kept, run, sync
from tests.test_architecture import MODULES

NOW = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)
ROOT = Path(__file__).parent.parent
PAGES = {
    path.name: path.read_text(encoding="utf-8")
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))
    if path.name != "CHANGELOG.md"
}
MARKS = ("run", "catalogs", "cron", "meltano", "reset", "make")
"""The marks of commands that are run, here or in tests/integration."""


def section(page: str, heading: str) -> str:
    """The text below a heading."""
    return PAGES[page].partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def cells(text: str) -> list[list[str]]:
    """The cells of all tables in a text, without the heads."""
    tables = re.findall(r"^\|.*\n\|[ :|-]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    rows = [line for table in tables for line in table.splitlines()]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def fenced(page: str, mark: str) -> list[str]:
    """The code blocks after a mark."""
    return re.findall(rf"<!-- {mark} -->\n```\w*\n(.*?)```", PAGES[page], re.DOTALL)


def named_streams(table: list[list[str]]) -> list[str]:
    """The streams in the first column of a table."""
    return [name for row in table for name in re.findall(r"`(\w+)`", row[0])]


def test_the_readme_is_read_in_five_minutes():
    """The README has at most 140 lines."""
    assert len(PAGES["README.md"].splitlines()) <= 140


def test_the_config_table_names_every_key_and_default():
    """Each key that the tap reads is in the table with its default, and no other."""
    rows = {key.strip("`"): default.strip("`") for key, default, _ in cells(section("README.md", "Configuration"))}
    assert list(rows) == list(KEYS)
    for key in KEYS.values():
        if key.required:
            assert rows[key.name] == "required"
        elif key.default not in (None, []):
            shown = key.default if isinstance(key.default, str) else json.dumps(key.default)
            assert rows[key.name].replace("<version>", version("tap-circleci")) == shown


@pytest.mark.parametrize(("page", "heading"), [("README.md", "Streams"), ("operations.md", "What it costs")])
def test_every_stream_is_described_once(page, heading):
    """The README says what its rows are, operations.md what it costs."""
    assert sorted(named_streams(cells(section(page, heading)))) == sorted(
        path.stem for path in (ROOT / "tap_circleci" / "schemas").iterdir()
    )


def test_incremental_streams_are_listed_with_their_replication_key():
    """The README's table of the eleven says how each is replicated."""
    always = [row for row in cells(section("README.md", "Streams")) if len(row) == 3]
    told = {name: row[2] for row in always for name in named_streams([row])}
    assert sorted(told) == sorted(DEFAULT)
    for name, replication in told.items():
        stream = STREAMS[name]
        key = f", `{stream.replication_key}`" if stream.replication_key else ""
        assert replication.startswith(stream.replication_method + key), name


def test_the_page_of_streams_is_that_of_the_code():
    """docs/streams.md is what `make docs` writes: every stream and every column with type and meaning."""
    assert STREAMS_PAGE.read_text(encoding="utf-8") == streams_page()


def test_the_table_of_targets_is_that_of_the_tests():
    """`make docs` was run: each target that is tried has its row, with what is to be installed and what it does."""
    assert OPERATIONS.read_text(encoding="utf-8") == operations_page()
    rows = cells(section("operations.md", "Targets"))
    assert [tuple(re.findall("`(.+?)`", row[0])) for row in rows] == [target.packages for target in TARGETS.values()]


def test_the_longest_names_are_told():
    """Databases cut names that are too long: the page says how long they are."""
    columns = [name for stream in STREAMS for name in schema_of(stream)["properties"]]
    lengths = [str(max(len(name) for name in names)) for names in (STREAMS, columns)]
    (shown,) = re.findall(r"a table has (\d+) characters, that of a column (\d+)", section("operations.md", "Targets"))
    assert list(shown) == lengths


def test_the_sample_config_is_the_one_shown_and_is_sound():
    """README and sample_config.json show the same config, which is accepted but for its token."""
    sample = (ROOT / "sample_config.json").read_text(encoding="utf-8")
    assert sample in PAGES["README.md"]
    (stitch,) = fenced("coming-from-other-taps.md", "stitch")
    for text in (sample, stitch):
        check({**json.loads(text), "token": "x"}, "config.json")
        assert not unknown(json.loads(text))
    assert all(isinstance(value, str) for value in json.loads(stitch).values())


def small_world() -> World:
    """One organization with one project, with a pipeline, an environment and a schedule."""
    world = World(NOW)
    project = world.add_project("gh/acme/api")
    world.add_environment(world.organizations[0], "production", NOW - timedelta(days=9), NOW - timedelta(days=2))
    world.add_schedule(project, "nightly", NOW - timedelta(days=9), NOW - timedelta(days=1))
    ended = {"stopped_at": timedelta(minutes=9)}
    world.add_pipeline(project, NOW - timedelta(hours=2), updated_at="2026-03-10T10:00:00Z", workflows=[ended])
    return world


def test_the_state_shown_is_what_a_run_writes():
    """A sync of one organization and project ends with the state in docs/state.md."""
    with Server(small_world()) as server:
        state = sync(server).state
        organization = server.world.organizations[0]["id"]
    (block,) = fenced("state.md", "state")
    shown = json.loads(block)
    assert json.loads(json.dumps(state).replace(organization, *shown["bookmarks"]["deploy"])) == shown


def test_the_example_of_costs_counts_right():
    """The calls are one for 20 pipelines, one for each pipeline's workflows, each workflow's jobs and each job's
    details."""
    world = World(NOW)
    project = world.add_project("gh/acme/api")
    for number in range(40):
        at = NOW - timedelta(days=2, hours=number)
        world.add_pipeline(project, at, workflows=[{"stopped_at": timedelta(minutes=9), "jobs": 6}])
    with Server(world) as server:
        sync(server, streams=["pipelines", "workflows", "jobs", "job_details"], extra_streams="job_details")
        paths = [request.path.split("?")[0] for request in server.requests]
    assert sum(path.endswith("/pipeline") for path in paths) == 2
    assert sum(path.endswith("/workflow") for path in paths) == 40
    assert sum(bool(re.search("/workflow/[^/]+/job$", path)) for path in paths) == 40
    assert sum(bool(re.search(r"/job/\d+$", path)) for path in paths) == 240


def test_the_debug_line_shown_is_what_a_run_writes(monkeypatch):
    """The line in docs/operations.md is that of a second sync."""
    (block,) = fenced("operations.md", "debug")
    with Server(small_world()) as server:
        state = sync(server).state
        monkeypatch.setenv("TAP_CIRCLECI_LOGLEVEL", "debug")
        (line,) = (line for line in sync(server, state=state).log.splitlines() if line.startswith("DEBUG"))
    without_id = re.compile(r"pipeline [\w-]+")
    assert without_id.sub("", line) == without_id.sub("", block.strip())


def test_a_stream_that_is_taken_out_of_the_state_is_read_again_and_no_other(tmp_path: Path, monkeypatch):
    """The commands in docs/state.md reset one stream and one project, and nothing else."""
    (block,) = fenced("state.md", "reset")
    (lines,) = re.findall(r"<<'END'\n(.*)END\n", block, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    with Server(small_world()) as server:
        server.world.advance(timedelta(days=20))
        (tmp_path / "state.json").write_text(json.dumps(sync(server).state))
        exec(lines, {})  # noqa: S102 - our own
        state = json.loads((tmp_path / "state.json").read_text())
        assert kept(state, "workflows", "gh/acme/api")
        again = sync(server, state=state)
    assert {name: len(again.rows(name)) for name in ("pipelines", "workflows", "jobs", "schedule", "deploy")} == {
        "pipelines": 0,
        "workflows": 0,
        "jobs": 1,
        "schedule": 1,
        "deploy": 1,
    }


@pytest.fixture
def cron(tmp_path: Path, monkeypatch) -> Path:
    """A folder with the catalogs and the script for cron, and a target that prints the states that it is given."""
    target = tmp_path / "bin" / "target-jsonl"
    target.parent.mkdir()
    target.write_text('#!/bin/sh\nsed -n \'s/^{"type": "STATE", "value": \\(.*\\)}$/\\1/p\'\n', encoding="utf-8")
    target.chmod(0o755)
    monkeypatch.setenv("PATH", f"{target.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    (tmp_path / "target.json").write_text("{}", encoding="utf-8")
    (script,) = fenced("operations.md", "cron")
    (tmp_path / "circleci.sh").write_text(script, encoding="utf-8")
    return tmp_path


def cron_run(folder: Path, server: Server, which: str) -> subprocess.CompletedProcess[str]:
    """Make the catalogs if they are not there, and run the script."""
    (folder / "config.json").write_text(json.dumps(config_for(server)), encoding="utf-8")
    if not (folder / "hourly").exists():
        (block,) = fenced("operations.md", "catalogs")
        subprocess.run(["bash", "-euo", "pipefail", "-c", block], cwd=folder, check=True)
    return subprocess.run(
        ["bash", "circleci.sh", which], cwd=folder, check=False, capture_output=True, encoding="utf-8"
    )


def test_the_hourly_and_the_daily_run_of_cron_share_no_stream(cron):
    """The hourly run reads the walk, the daily one all the rest, each with a state of its own."""
    with Server(small_world()) as server:
        for which in ("hourly", "daily"):
            assert cron_run(cron, server, which).returncode == 0
    states = [json.loads((cron / which / "state.json").read_text(encoding="utf-8")) for which in ("hourly", "daily")]
    assert [sorted(state["bookmarks"]) for state in states] == [
        ["jobs", "pipelines", "workflows"],
        ["deploy", "schedule"],
    ]


def test_the_script_for_cron_keeps_the_state_and_prints_the_log_of_a_run_that_fails(cron):
    """A run that cannot begin leaves the state as it was, exits with 1, and prints why."""
    with Server(small_world()) as server:
        assert cron_run(cron, server, "hourly").stdout == ""
        state = (cron / "hourly" / "state.json").read_text(encoding="utf-8")
        server.script("/me", [Fault(401, {}, {"message": "You must log in first."})])
        failed = cron_run(cron, server, "hourly")
    assert failed.returncode == 1
    assert "CircleCI does not accept the token" in failed.stdout
    assert (cron / "hourly" / "state.json").read_text(encoding="utf-8") == state


def test_the_errors_shown_are_what_users_see(tmp_path: Path):
    """The sentences in the README are those of the tap."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"token": "x", "project_slugs": "gh/a/b", "max_workers": "many"}))
    seen = run(["--config", str(config)]).criticals()
    with Server(World(NOW)) as server:
        server.script("/me", [Fault(401, {}, {"message": "You must log in first."})])
        seen += sync(server, project_slugs="gh/a/b").criticals()
        seen += sync(server, project_slugs="gh/a/b", streams=["jobs"]).criticals()
    (block,) = fenced("README.md", "errors")
    shown = [line.removeprefix("CRITICAL ") for line in block.splitlines()]
    assert [line.replace(f"{tmp_path}/", "") for line in seen] == shown


@pytest.mark.parametrize("page", sorted(PAGES))
def test_links_lead_somewhere(page):
    """Each file that a page links to is there, and so is the heading."""
    folder = next(path.parent for path in (ROOT / page, ROOT / "docs" / page) if path.exists())
    for link in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if not link.startswith("https://"):
            name, _, heading = link.partition("#")
            path = (folder / name).resolve() if name else folder / page
            assert path.exists(), link
            if heading:
                titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
                assert heading in [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles], link


def test_the_description_of_the_package_has_no_link_into_the_repository():
    """The package index shows the README's words without its pictures and its links into the repository."""
    command = [sys.executable, "-W", "ignore", "setup.py", "--long-description"]
    shown = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, encoding="utf-8").stdout
    assert re.findall(r"\]\((?!https://)", shown) == []
    assert "](https://www.singer.io)" in shown
    assert "coming from other taps" in shown


@pytest.mark.parametrize("page", sorted(PAGES))
def test_commands_are_tried(page):
    """The mark of each block of commands says how it is tested, and each target of make exists."""
    blocks = re.findall(r"(?:<!-- (\w+) -->\n)?```sh\n(.*?)```", PAGES[page], re.DOTALL)
    assert [text for mark, text in blocks if mark not in (*MARKS, "install")] == []
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"\bmake (\w+)(?=`|$|\s{2,})", PAGES[page], re.MULTILINE)) <= set(targets)


def test_the_drawing_of_the_layers_names_the_modules():
    """CONTRIBUTING.md names each module, except those that only start the program and the live line."""
    drawn = section("CONTRIBUTING.md", "How the code is laid out")
    names = {name.removesuffix(".__init__").rpartition(".")[2] for name in MODULES}
    assert {name for name in names if not re.search(rf"\b{name}\b", drawn)} == {"terminal", "__init__", "__main__"}


def test_the_changelog_has_this_version():
    """The version of the package has its entry."""
    assert f"## [{version('tap-circleci')}] - " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
