"""From an endpoint to its rows: the ends of lists, endless lists, and odd ids."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.circleci import Answer, Fault, Request, Row, Server
from tests.tap import Run, assert_same, expected, kept, sync, tables
from tests.worlds import WALK, furnished, pipeline_ids, world_of

SLUG = "gh/acme/api"


def pages_of(lists: list[tuple[list[Row], str | None]]) -> Callable[[Request], Answer]:
    """Answers a list with these pages, each at the token that the one before gave."""
    places = {token: number for number, (_, token) in enumerate(lists, start=1)}

    def answer(request: Request) -> Answer:
        token = request.path.partition("page-token=")[2].partition("&")[0]
        items, following = lists[places[token] if token else 0]
        return Answer(200, {"items": items, "next_page_token": following})

    return answer


@pytest.mark.parametrize(("stream", "path"), [("tests", "/tests"), ("artifacts", "/artifacts")])
def test_a_list_whose_rows_have_no_id_is_read_to_its_end(stream, path):
    """More than twenty full pages are delivered if other fields, or none, distinguish their rows."""
    rows = [{"name": f"t{number}", "path": f"p{number}", "node_index": 0} for number in range(60)]
    answer = pages_of([(rows[2 * n : 2 * n + 2], f"t{n + 1}" if n < 29 else None) for n in range(30)])
    with Server(world_of(1)) as server:
        server.aside = lambda request: answer(request) if path in request.path else None
        run = sync(server, extra_streams=stream)
    assert run.status == 0, run.log
    assert len(run.rows(stream)) == 2 * 60


def test_rows_that_are_equal_are_numbered_and_all_there():
    """Two equal results of one test are two rows, if the pages differ."""
    one = {"name": "t", "classname": "c", "result": "success"}
    answer = pages_of([([one, one], "t1"), ([one], None)])
    with Server(world_of(1)) as server:
        server.aside = lambda request: answer(request) if "/tests" in request.path else None
        run = sync(server, extra_streams="tests")
    assert [row["_index"] for row in run.rows("tests")] == [0, 1, 2] * 2


def sync_pipelines(server: Server, first: Run | None = None) -> Run:
    return sync(server, streams=WALK, state=first.state if first else None)


@pytest.mark.parametrize("kind", ["known rows", "no rows"])
@pytest.mark.parametrize("stale", [1, 5, 19])
def test_pages_of_pipelines_without_news_are_followed(stale, kind):
    """Up to 20 pages in a row with no new rows, under fresh page tokens, do not end a list."""
    with Server(world_of(60)) as server:
        world = server.world
        rows = world.pipelines([world.project(SLUG)["id"]])
        again = rows[:20] if kind == "known rows" else []
        lists = [rows[:20], *[again] * stale, rows[20:40], *[again] * stale, rows[40:]]
        answer = pages_of([(page, f"t{n + 1}" if n < len(lists) - 1 else None) for n, page in enumerate(lists)])
        server.aside = lambda request: answer(request) if "/api/pipeline" in request.path else None
        run = sync_pipelines(server)
        truth = expected(world.truth([SLUG]), WALK)
    assert run.status == 0, run.log
    assert_same(tables(run.lines), truth)
    assert kept(run.state, "pipelines", SLUG)["seen"][-1]["since"] is None


@pytest.mark.parametrize("kind", ["known rows", "no rows", "the same token"])
def test_a_list_of_pipelines_that_is_ended_by_a_guard_is_taken_up_by_the_next_run(kind):
    """After twenty pages without new rows, or a repeated token, the run ends with exit 1 and the state says what is
    left."""
    with Server(world_of(60)) as server:
        world = server.world
        rows = world.pipelines([world.project(SLUG)["id"]])
        calls = []

        def circles(request: Request) -> Answer | None:
            if "/api/pipeline" not in request.path:
                return None
            calls.append(request.path)
            token = "same" if kind == "the same token" else f"t{len(calls)}"
            page = rows[:20] if len(calls) == 1 else rows[20:40] if kind != "no rows" and len(calls) == 2 else []
            page = page or (rows[:20] if kind != "no rows" else [])
            return Answer(200, {"items": page, "next_page_token": token})

        server.aside = circles
        first = sync_pipelines(server)
        assert first.status == 1
        assert "does not end" in first.criticals()[0]
        assert len(calls) <= 23
        assert all(kept(first.state, stream, SLUG)["seen"][-1]["since"] is not None for stream in WALK)
        server.aside = None
        world.advance(timedelta(hours=1))
        second = sync_pipelines(server, first)
        truth = expected(world.truth([SLUG]), WALK)
    assert second.status == 0
    assert_same(tables(second.lines, tables(first.lines)), truth)
    assert kept(second.state, "pipelines", SLUG)["seen"][-1]["since"] is None


def test_a_list_below_a_pipeline_that_goes_round_in_circles_is_not_whole():
    """If the workflows of a pipeline never end, those that came are sent, exit 1, and the next run reads it again."""
    with Server(world_of(3)) as server:
        name = pipeline_ids(server.world)[1]
        row = dict(server.world.rows["workflows"][name][0])
        server.fault = lambda path, nth: (
            Fault(200, {}, {"items": [row], "next_page_token": "again"}) if name in path else None
        )
        first = sync_pipelines(server)
        assert first.status == 1
        assert kept(first.state, "jobs", SLUG)["retry"] == [name]
        server.fault = None
        second = sync_pipelines(server, first)
        truth = expected(server.world.truth([SLUG]), WALK)
    assert second.status == 0
    assert_same(tables(second.lines, tables(first.lines)), truth)


@pytest.mark.parametrize("odd", [["a"], {"id": "a"}, True, 1.5, "  "])
@pytest.mark.parametrize("stream", WALK[:2])
def test_an_id_that_is_no_text_or_number_is_skipped_and_counted(stream, odd):
    """A list, an object or true as an id gives no row and no request below it; the rest is delivered."""
    with Server(world_of(4)) as server:
        world = server.world
        name = pipeline_ids(world)[1]
        listed = (
            world.pipelines([world.project(SLUG)["id"]]) if stream == "pipelines" else world.rows["workflows"][name]
        )
        rows = [{**row, "id": odd} if place == len(listed) // 3 else row for place, row in enumerate(listed)]
        page = Fault(200, {}, {"items": rows, "next_page_token": None})
        place = "/api/pipeline" if stream == "pipelines" else f"{name}/workflow"
        server.fault = lambda path, nth: page if place in path else None
        run = sync_pipelines(server)
    assert run.status == 0, run.log
    assert len(run.rows(stream)) == 3
    assert f"Skipped: 1 row of {stream} without a usable key" in run.log


def test_a_project_keeps_its_own_organization():
    """The organization that the API names for a project is kept; if it names none, the parent is used."""
    world = world_of(1)
    listed = dict(world.project(SLUG))
    rows = [{**listed, "organization_id": "their own"}, {**listed, "id": "p2", "organization_id": None}]
    with Server(world) as server:
        page = {"items": rows, "next_page_token": None}
        server.fault = lambda path, nth: Fault(200, {}, page) if "private/project" in path else None
        run = sync(server, streams=["project"])
    assert run.status == 0, run.log
    assert [row["organization_id"] for row in run.rows("project")] == ["their own", world.organizations[0]["id"]]


def test_a_definition_whose_triggers_cannot_be_asked_for_has_none():
    """A 400 or 404 for the triggers of one definition means that there are none."""
    world = world_of(1)
    for status in (400, 404):
        definition = world.add_definition(world.project("gh/acme/api"), f"answers {status}")
        (world.unsupported if status == 400 else world.missing).add(("trigger", definition["id"]))
    with Server(world) as server:
        run = sync(server, streams=["trigger"])
    assert run.status == 0, run.log
    assert run.rows("trigger") == []


def test_triggers_that_end_in_a_400_are_not_all_there_are():
    """Only the first page of a definition's triggers may answer 400 and mean that there are none."""
    with Server(furnished(world_of(1)), page_size=1) as server:
        world = server.world
        definition = world.rows["pipeline_definition"][world.project("gh/acme/api")["id"]][0]
        for number in range(3):
            world.add_trigger(definition, f"trigger-{number}", {})
        server.fault = lambda path, nth: Fault(400) if "/triggers?page-token" in path else None
        run = sync(server, streams=["trigger"])
    assert run.status == 1
    assert "/triggers: 400" in run.criticals()[0]


def test_a_list_that_goes_round_in_circles_ends():
    """A repeated token, or the same page again and again, ends the list with a warning."""
    for body, most in (({"items": [], "next_page_token": "same"}, 6), (None, 26)):
        with Server(world_of(5)) as server:
            page = {"items": [{"id": "p", "name": "n", "slug": "gh/acme/api"}], "next_page_token": "t"}
            count = iter(range(1000))
            server.fault = lambda path, nth, body=body, count=count, page=page: (
                Fault(200, {}, body or {**page, "next_page_token": f"t{next(count)}"})
                if "private/project" in path
                else None
            )
            run = sync(server, streams=["project"])
            assert server.calls < most
        assert run.status == 0
        assert "does not end" in run.log


@pytest.mark.parametrize(("empty", "status", "pipelines"), [(20, 0, 5), (21, 1, 2)])
def test_twenty_pages_with_nothing_new_are_followed_and_no_more(empty, status, pipelines):
    """Twenty empty pages in a row with fresh tokens are followed to the page after them."""
    world = world_of(5)
    rows = world.pipelines([world.project("gh/acme/api")["id"]])
    pages = [rows[:2], *[[]] * empty, rows[2:]]
    bodies = [{"items": items, "next_page_token": f"t{number}"} for number, items in enumerate(pages)]
    bodies[-1]["next_page_token"] = None
    with Server(world) as server:
        server.script(r"/project/gh/acme/api/pipeline", [Fault(200, {}, body) for body in bodies])
        run = sync(server, streams=["pipelines"])
    assert (run.status, len(run.rows("pipelines"))) == (status, pipelines)


def test_ids_are_data_and_never_path():
    """Null, empty and dotted ids are skipped and counted; odd characters are escaped."""
    world = world_of(3)
    names = pipeline_ids(world)
    with Server(world) as server:
        page = {"items": [{"id": name} for name in (None, "", "..", "a/b?c#d e", names[0])], "next_page_token": None}
        server.script("/project/gh/acme/api/pipeline", [Fault(200, {}, page)])
        server.script("/pipeline/a", [Fault(404)])
        run = sync(server, streams=WALK)
        asked = [request.path for request in server.requests if request.path.endswith("/workflow")]
    assert run.status == 0
    assert sorted(asked) == sorted(f"/api/v2/pipeline/{name}/workflow" for name in ("a%2Fb%3Fc%23d%20e", names[0]))
    assert "Skipped: 3 rows of pipelines without a usable key" in run.log
