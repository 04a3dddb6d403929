"""--check and --get: looking at CircleCI without a sync."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.circleci import Fault, Server, World, demo_world, history
from tests.circleci.extras import furnish
from tests.tap import Run, config_for, run, sync

NOW = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)


def look(server: Server, folder: Path, *argv: str, **settings: Any) -> Run:
    config = folder / "config.json"
    config.write_text(json.dumps(config_for(server, **settings)))
    config.chmod(0o600)
    return run(["--config", str(config), *argv])


def test_check_says_what_the_config_gives(tmp_path: Path):
    """It logs whose token it is, the organizations and each slug; a forbidden stream is named and does not fail it."""
    world = demo_world(NOW)
    world.forbidden.add(("groups", world.organizations[0]["id"]))
    world.forbidden |= {(stream, world.project("gh/acme/api")["id"]) for stream in ("pipelines", "schedule")}
    with Server(world) as server:
        found = look(server, tmp_path, "--check")
    assert (found.status, found.lines) == (0, ())
    assert found.log.splitlines()[-1] == "INFO The config works."
    closed = ("groups of gh/acme", "pipelines of gh/acme/api", "schedule of gh/acme/api")
    for part in (
        "of ada",
        "gh/acme",
        "Projects: gh/",
        *(f"WARNING {name}: permission denied (403)" for name in closed),
    ):
        assert part in found.log


def test_check_and_get_need_nothing_but_a_token(tmp_path: Path):
    """Without project_slugs, --check prints the slugs that the token sees, ready for the config, and works."""
    world = demo_world(NOW)
    with Server(world) as server:
        found = look(server, tmp_path, "--check", project_slugs=None)
        me = look(server, tmp_path, "--get", "/me", project_slugs=None)
        (line,) = [line for line in found.log.splitlines() if "put this into the config: " in line]
        slugs = json.loads("{" + line.partition("config: ")[2] + "}")["project_slugs"]
        again = look(server, tmp_path, "--check", project_slugs=slugs)
    assert (found.status, me.status, again.status) == (0, 0, 0), found.log
    assert sorted(slugs.split()) == sorted(row["slug"] for row in world.projects.values())
    assert "project_slugs is missing, and a sync needs it" in found.log
    assert "project_slugs is missing" not in again.log


def test_check_shows_a_pattern_for_each_organization_of_many_projects(tmp_path: Path):
    """With more than fifty projects it shows patterns, and tries the streams in twenty of them."""
    world = World(NOW)
    for number in range(60):
        world.add_project(f"gh/acme/service-{number}")
    world.add_project("gh/other/api")
    with Server(world) as server:
        found = look(server, tmp_path, "--check", project_slugs=None)
        by_pattern = look(server, tmp_path, "--check", project_slugs="gh/acme/*")
        calls = server.calls
    assert 'put this into the config: "project_slugs": "gh/acme/* gh/other/*"' in found.log
    assert "Streams are tried in the first 20 of 61 projects" in found.log
    assert "Projects: gh/acme/service-0" in by_pattern.log
    assert calls < 300


def test_check_says_which_extra_streams_can_be_read(tmp_path: Path):
    """It lists those that extra_streams names, the others, and those that are refused, with the reason."""
    world = furnish(demo_world(NOW))
    with Server(world) as server:
        server.fault = lambda path, nth: Fault(403) if path.endswith("/checkout-key") else None
        named = ("webhooks job_details", "gh/acme/api")
        found = look(server, tmp_path, "--check", extra_streams=named[0], project_slugs=named[1])
    assert found.status == 0
    lines = found.log.splitlines()
    assert "INFO Extra streams that can be read: job_details, webhooks" in lines
    (others,) = [line for line in lines if line.startswith("INFO Also readable, if extra_streams names them: tests, ")]
    assert "deploy_versions" in others
    assert "checkout_keys" not in others
    assert "INFO Extra streams that cannot be read: checkout_keys (403: permission denied)" in lines
    (not_tried,) = [line for line in lines if line.startswith("INFO Not tried: ")]
    assert "usage (CircleCI makes only a few exports an hour)" in not_tried
    assert "Signature" not in found.log


@pytest.mark.parametrize(("status", "said"), [(None, "can be read"), (403, "cannot be read (403: permission denied)")])
def test_check_says_whether_the_older_api_can_be_read(tmp_path: Path, status, said):
    """Some of the extra streams need API v1.1, which the service may switch off."""
    with Server(furnish(demo_world(NOW))) as server:
        server.fault = lambda path, nth: Fault(status) if status and path.startswith("/api/v1.1/") else None
        found = look(server, tmp_path, "--check", project_slugs="gh/acme/api")
    assert f"INFO API v1.1: {said}" in found.log.splitlines()


@pytest.mark.parametrize("extra", [None, "job_details"])
def test_check_says_about_how_many_calls_a_first_sync_makes(tmp_path: Path, extra):
    """The estimate is within a half of the true number for a project of even pace."""
    world = history(300, NOW)
    with Server(world) as server:
        log = look(server, tmp_path, "--check", extra_streams=extra).log
        server.reset()
        assert sync(server, extra_streams=extra).status == 0
        calls = server.calls
    found = re.search(r"A first sync makes about (\d+) calls \((\d+) pipelines\)", log)
    assert found is not None
    assert int(found[1]) == pytest.approx(calls, rel=0.5)
    assert int(found[2]) == pytest.approx(300, rel=0.1)


def test_check_fails_where_a_sync_would_miss_something(tmp_path: Path):
    """A pattern without an organization, no project, a bad token or an endless rate limit is exit 1 with a sentence."""
    with Server(demo_world(NOW)) as server:
        slugs = look(server, tmp_path, "--check", project_slugs="gh/acme/nope gh/nobody/* gh/acme/api")
        nothing = look(server, tmp_path, "--check", project_slugs="gh/acme/nothing-*")
        token = look(server, tmp_path, "--check", token="wrong")
        server.fault = lambda path, nth: Fault(429) if "/context" in path else None
        limited = look(server, tmp_path, "--check")
    assert slugs.status == 1
    assert "Check failed: 1 problem, listed below." in slugs.log
    assert "WARNING gh/acme/nope: there is no such project, or the token does not see it (404)" in slugs.log
    assert "the token sees no organization gh/nobody; it sees gh/acme, circleci/" in slugs.criticals()[0]
    assert nothing.status == 1
    assert "names no project" in nothing.criticals()[0]
    assert token.status == 1
    assert "does not accept the token" in token.criticals()[0]
    assert limited.status == 1
    assert "rate limit (429)" in limited.criticals()[0]
    assert "config" not in limited.log.splitlines()[-2]


@pytest.mark.parametrize("slugs", ["gh/lost/api", "gh/lost/api gh/lost/web", "gh/lost/*"])
@pytest.mark.parametrize("status", [403, 404])
def test_an_organization_that_the_token_has_lost_fails_whatever_names_it(tmp_path: Path, slugs, status):
    """With slugs or a pattern, in --check or a sync, the exit status is 1."""
    with Server(demo_world(NOW)) as server:
        server.fault = lambda path, nth: Fault(status) if "/gh/lost/" in path else None
        checked = look(server, tmp_path, "--check", project_slugs=slugs)
        synced = sync(server, project_slugs=slugs)
    assert checked.status == 1
    assert checked.criticals()
    assert synced.criticals()
    assert synced.status == 1


def test_get_prints_one_answer_or_all_pages(tmp_path: Path):
    """The path may lack /api/v2 and have a query; one page is printed as it is, or all items."""
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
    assert no_list.criticals() == ['"/me" is not a list with pages; leave out --all.']
    assert "a path of the API such as /me" in broken.criticals()[0]
    assert "--all needs --get" in alone.criticals()[0]
    assert nothing.lines == ()
    assert "not a URL of another host" in other.criticals()[0]
    assert "404" in missing.criticals()[0]


def test_get_ends_a_list_without_an_end(tmp_path: Path):
    """After a repeated token it prints a warning and the items so far."""
    with Server(demo_world(NOW)) as server:
        server.fault = lambda path, nth: Fault(200, {}, {"items": [{"id": "same"}], "next_page_token": "t"})
        found = look(server, tmp_path, "--get", "/x", "--all")
        calls = server.calls
    assert found.status == 0
    assert calls == 2
    assert f"WARNING The list does not end; reading stopped after {calls} pages." in found.log
    assert len(json.loads("\n".join(found.lines))["items"]) == calls


def test_get_reads_a_later_page_that_is_a_bare_array(tmp_path: Path):
    """Its items follow those of the first page, and the list ends there."""
    with Server(demo_world(NOW)) as server:
        pages = [{"items": [{"id": "a"}], "next_page_token": "t"}, [{"id": "b"}]]
        server.script("/x", [Fault(200, {}, page) for page in pages])
        found = look(server, tmp_path, "--get", "/x", "--all")
    assert found.status == 0
    assert json.loads("\n".join(found.lines)) == {"items": [{"id": "a"}, {"id": "b"}]}
