"""--check and --get: looking at CircleCI without a sync."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tests.circleci import Fault, Server, demo_world, history
from tests.tap import Run, config_for, run

NOW = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)


def look(server: Server, folder: Path, *argv: str, **settings: Any) -> Run:
    config = folder / "config.json"
    config.write_text(json.dumps(config_for(server, **settings)))
    config.chmod(0o600)
    return run(["--config", str(config), *argv])


def test_check_tells_what_the_config_gives(tmp_path: Path):
    """Whose token, which organizations, each slug; forbidden streams are named and no reason to fail."""
    world = demo_world(NOW)
    world.forbidden.add(("groups", world.organizations[0]["id"]))
    world.forbidden |= {(stream, world.project("gh/acme/api")["id"]) for stream in ("pipelines", "schedule")}
    with Server(world) as server:
        found = look(server, tmp_path, "--check")
    assert (found.status, found.lines) == (0, ())
    assert found.log.splitlines()[-1] == "INFO The config works."
    closed = ("groups of gh/acme (403", "pipelines of gh/acme/api (403", "schedule of gh/acme/api (403")
    for part in ("of ada", "gh/acme", "Projects: gh/", *closed):
        assert part in found.log


def test_check_tells_which_extra_streams_can_be_read(tmp_path: Path):
    """Also those deep below a project: of each list, one below the first row that was found."""
    with Server(demo_world(NOW)) as server:
        found = look(server, tmp_path, "--check", extra_streams="webhooks job_details", project_slugs="gh/acme/api")
    assert found.status == 0
    readable = [line for line in found.log.splitlines() if "Can be read: " in line]
    assert [line.partition("Can be read: ")[2] for line in readable] == [
        "webhooks of gh/acme/api",
        "job_details of jobs of workflows of pipelines of gh/acme/api",
    ]


def test_check_fails_where_a_sync_would_miss_something(tmp_path: Path):
    """A slug that is not there, a pattern without organization, a bad token: exit 1 and a sentence each."""
    with Server(demo_world(NOW)) as server:
        slugs = look(server, tmp_path, "--check", project_slugs="gh/acme/nope gh/nobody/* gh/acme/api")
        nothing = look(server, tmp_path, "--check", project_slugs="gh/acme/nothing-*")
        token = look(server, tmp_path, "--check", token="wrong")
    assert slugs.status == 1
    assert "The config does not work: 2 things, told below." in slugs.log
    assert sorted(sentence.split(" (")[0].split(":")[0] for sentence in slugs.criticals()) == [
        "Project gh/acme/nope cannot be had",
        "gh/nobody/*",
    ]
    assert nothing.status == 1
    assert "names no project" in nothing.criticals()[0]
    assert token.status == 1
    assert "does not accept the token" in token.criticals()[0]


def test_get_prints_one_answer_or_all_pages(tmp_path: Path):
    """A path with or without /api/v2, a query, one page as it is or all items."""
    with Server(history(45, NOW)) as server:
        me = look(server, tmp_path, "--get", "/me")
        server.script("/pipeline", [Fault(500)])
        page = look(server, tmp_path, "--get", "/api/v2/project/gh/acme/big/pipeline")
        everything = look(server, tmp_path, "--get", "project/gh/acme/big/pipeline", "--all")
        array = look(server, tmp_path, "--get", "me/collaborations", "--all")
        private = look(
            server, tmp_path, "--get", f"/api/private/project?organization-id={server.world.organizations[0]['id']}"
        )
    assert json.loads("\n".join(me.lines))["login"] == "ada"
    assert len(json.loads("\n".join(page.lines))["items"]) == 20
    assert len(json.loads("\n".join(everything.lines))["items"]) == 45
    assert isinstance(json.loads("\n".join(array.lines)), list)
    assert len(json.loads("\n".join(private.lines))["items"]) == 1


def test_get_sends_the_token_to_no_other_host_and_says_what_went_wrong(tmp_path: Path):
    """A URL of another host is refused before any request; a 404 is a sentence."""
    with Server(demo_world(NOW)) as server:
        other = look(server, tmp_path, "--get", "https://elsewhere.example/me")
        assert server.calls == 0
        broken = look(server, tmp_path, "--get", "http://[")
        alone = look(server, tmp_path, "--all")
        assert server.calls == 0
        missing = look(server, tmp_path, "--get", "/nope")
        nothing = look(server, tmp_path, "--get", "")
        before = server.calls
        no_list = look(server, tmp_path, "--get", "/me", "--all")
        assert server.calls == before + 1
    assert {other.status, missing.status, broken.status, alone.status, nothing.status, no_list.status} == {1}
    assert no_list.criticals() == ['"/me" is no list with pages; leave out --all.']
    assert "a path of the API such as /me" in broken.criticals()[0]
    assert "--all belongs to --get" in alone.criticals()[0]
    assert nothing.lines == ()
    assert "not a URL of another host" in other.criticals()[0]
    assert "404" in missing.criticals()[0]
