"""The README's tables and examples, held against the code."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from importlib.metadata import version
from pathlib import Path

from tap_circleci.config import check, keys
from tap_circleci.discover import EXTRA
from tap_circleci.streams import STREAMS
from tests.circleci import Fault, Server, World
from tests.tap import DEFAULT, run, sync

NOW = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)
ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def table(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    section = README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def fenced(mark: str) -> str:
    """The code block after a mark."""
    found = re.search(rf"<!-- {mark} -->\n```\w*\n(.*?)```", README, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_config_table_names_every_key_and_default():
    """Each key that the tap reads is in the table with its default, and no other."""
    rows = {key.strip("`"): default.strip("`") for key, default, _ in table("Configuration")}
    known = keys(EXTRA)
    assert list(rows) == [key.name for key in known]
    for key in known:
        if key.required:
            assert rows[key.name] == "required"
        elif key.default not in (None, []):
            shown = key.default if isinstance(key.default, str) else json.dumps(key.default)
            assert rows[key.name].replace("<version>", version("tap-circleci")) == shown


def test_the_stream_table_is_that_of_the_code():
    """Endpoint, key, replication and parent of each of the eleven streams are as the code has them."""
    for row, stream in zip(table("Streams"), map(STREAMS.get, DEFAULT), strict=True):
        query = "&".join(f"{name}={'' if '{' in value else value}" for name, value in stream.params.items())
        replication = stream.replication_method + (f", `{stream.replication_key}`" if stream.replication_key else "")
        assert row == [
            f"`{stream.name}`",
            f"`GET {stream.path}{'?' + query if query else ''}`",
            ", ".join(f"`{column}`" for column in stream.key),
            replication,
            f"`{stream.parent}`" if stream.parent else "",
        ]


def test_the_sample_config_is_the_one_shown_and_is_sound():
    """README and sample_config.json show the same config, which is accepted but for its token."""
    sample = (ROOT / "sample_config.json").read_text(encoding="utf-8")
    assert sample in README
    check({**json.loads(sample), "token": "x"}, "sample_config.json", keys(EXTRA))


def test_the_state_shown_is_what_a_run_writes():
    """A sync of one organization and project ends with the state in the README."""
    world = World(NOW)
    project = world.add_project("gh/acme/api")
    world.organizations[0]["id"]
    world.add_environment(world.organizations[0], "production", NOW - timedelta(days=9), NOW - timedelta(days=2))
    world.add_schedule(project, "nightly", NOW - timedelta(days=9), NOW - timedelta(days=1))
    world.add_pipeline(
        project,
        NOW - timedelta(hours=2),
        updated_at="2026-03-10T10:00:00Z",
        workflows=[{"stopped_at": timedelta(minutes=9)}],
    )
    with Server(world) as server:
        state = sync(server).state
    shown = json.loads(fenced("state"))
    text = json.dumps(state).replace(world.organizations[0]["id"], *shown["bookmarks"]["deploy"])
    assert json.loads(text) == shown


def test_the_errors_shown_are_what_users_see(tmp_path: Path):
    """The sentences in the README are those of the tap."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"token": "x", "project_slugs": "gh/a/b", "max_workers": "many"}))
    seen = run(["--config", str(config)]).criticals()
    with Server(World(NOW)) as server:
        server.script("/me", [Fault(401, {}, {"message": "You must log in first."})])
        seen += sync(server, project_slugs="gh/a/b").criticals()
        seen += sync(server, project_slugs="gh/a/b", streams=["jobs"]).criticals()
    shown = [line.removeprefix("CRITICAL ") for line in fenced("errors").splitlines()]
    assert [line.replace(f"{tmp_path}/", "") for line in seen] == shown


def test_the_changelog_tells_of_this_version():
    """The version of the package has its entry."""
    assert f"## [{version('tap-circleci')}] - " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
