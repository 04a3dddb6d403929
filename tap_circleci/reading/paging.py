"""From an endpoint to its rows: the shapes of an answer, the ends of a list, the guard against endless lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import quote

from tap_circleci.client import Answer, Client
from tap_circleci.errors import EndlessList, LocalError, NotFound, PageLost
from tap_circleci.streams import Stream
from tap_circleci.values.rows import Ids, Row, value_of
from tap_circleci.values.slugs import escaped_slug, usable_id, usable_slug

STALE_PAGES = 20
"""Pages in a row without a new row that are followed before a list counts as endless."""
EQUAL_PAGES = 500
"""The same for a list whose rows may be equal, so that equal pages need not be the same one again."""


@dataclass(frozen=True)
class Page:
    """Rows that no earlier page of the list had. `more`: a further page can be asked for.

    `date` is the service's time, `broken` how many things in the list are not rows.
    """

    rows: tuple[Row, ...]
    date: datetime | None
    more: bool
    broken: int = 0


@dataclass(frozen=True)
class Rows:
    """A list below one parent as far as it could be read, with the ids of the parents in its rows.

    `problem`: why it is not whole. `date`: the service's time at its beginning, if it told any.
    """

    rows: tuple[Row, ...]
    date: datetime | None
    broken: int = 0
    problem: LocalError | None = None


def context_of(stream: Stream, row: Row) -> dict[str, str]:
    """The ids that a row gives the lists below it, as far as they can stand in a path."""
    found = {
        name: (usable_slug if name == "project_slug" else usable_id)(value_of(row, column))
        for column, name in stream.child_context.items()
    }
    return {name: value for name, value in found.items() if value is not None}


def path_of(stream: Stream, ids: Ids) -> str:
    """The path of the stream's list below the parent with these ids."""
    return stream.path.format_map(
        {name: escaped_slug(value) if name == "project_slug" else quote(value, safe="") for name, value in ids.items()}
    )


def params_of(stream: Stream, ids: Ids) -> dict[str, str]:
    """The parameters that tell the stream's list below the parent with these ids from others at the same path."""
    return {name: value.format_map(ids) for name, value in stream.params.items()}


def title_of(stream: Stream, ids: Ids) -> str:
    """What a list is called in messages: `groups of gh/acme (5c6e4337-...)`, by the nearest ancestor with a slug."""
    owner = next(((slug, own_id) for slug, own_id in _OWNERS if slug in ids), None)
    if owner is None:
        names = list(ids.values())
    else:
        others = [value for name, value in ids.items() if name not in {name for pair in _OWNERS for name in pair}]
        names = [f"{ids[owner[0]]} ({ids.get(owner[1], 'id unknown')})", *others]
    return " ".join([stream.name, *(["of"] if names else []), *names])


_OWNERS = (("project_slug", "project_id"), ("organization_slug", "organization_id"))


def is_page(body: Any, rows_under: tuple[str, ...] = ("items",)) -> bool:
    """Whether a body is a page of a list: `{"items": [...]}` or a bare array (null stands for no items)."""
    if not isinstance(body, dict):
        return isinstance(body, list)
    return any(name in body for name in rows_under) and isinstance(_items(body, rows_under), list)


def is_row(body: Any) -> bool:
    """Whether a body is one row."""
    return isinstance(body, dict) and bool(body)


def _items(body: Any, rows_under: tuple[str, ...]) -> Any:
    if isinstance(body, list):
        return body
    found = next((body[name] for name in rows_under if name in body), None)
    return [] if found is None else found


def pages(
    client: Client, stream: Stream, ids: Ids, page_size: int, window: Mapping[str, str] | None = None
) -> Iterator[Page]:
    """The pages of the stream's list below one parent, one request for each that is drawn.

    `window` are further parameters. Raises what `Client.get` raises for the first page. A later page that answers 404
    is `PageLost`; a list that does not come to an end is `EndlessList`, after its last page.
    """
    path = path_of(stream, ids)
    params = {**params_of(stream, ids), **(window or {})}
    if stream.takes_page_size:
        params["page-size"] = str(page_size)
    shape = partial(is_page, rows_under=stream.rows_under)
    fresh = _unseen(stream)
    tokens: set[str] = set()
    stale = 0
    while True:
        answer = _page(client, stream, path, params, shape, later=bool(tokens))
        items = _items(answer.body, stream.rows_under)
        dicts = [item for item in items if isinstance(item, dict)]
        rows, has_news = fresh(dicts)
        token = str(answer.body.get("next_page_token") or "") if isinstance(answer.body, dict) else ""
        yield Page(tuple(rows), answer.date, bool(token), len(items) - len(dicts))
        if not token:
            return
        stale = 0 if has_news else stale + 1
        if token in tokens or stale > (STALE_PAGES if stream.identity else EQUAL_PAGES):
            place = path + "".join(f" {name}={value}" for name, value in sorted(params_of(stream, ids).items()))
            raise EndlessList(f"the list at {place} goes round in circles; it was ended after {len(tokens) + 1} pages")
        tokens.add(token)
        params["page-token"] = token


def _page(
    client: Client, stream: Stream, path: str, params: Mapping[str, str], shape: Callable[[Any], bool], *, later: bool
) -> Answer:
    try:
        return client.get(path, params, stream.name, shape, not_offered=() if later else stream.not_offered)
    except NotFound as missing:
        if not later:
            raise
        raise PageLost(f"a page in the middle of the list is lost, and what is below it ({missing})") from None


def _unseen(stream: Stream) -> Callable[[list[Row]], tuple[list[Row], bool]]:
    """A function from the items of a page to those that no page before had, and whether the page has news.

    Items without a value for the identity are all given. They are news only if the stream has no identity at all, and
    the page before was another one.
    """
    seen: set[tuple[str, ...]] = set()
    before: list[Row] = []

    def fresh(items: list[Row]) -> tuple[list[Row], bool]:
        nonlocal before
        rows, has_new = [], False
        for item in items:
            name = tuple(_text_of(value_of(item, column)) for column in stream.identity)
            if not any(name):
                rows.append(item)
            elif name not in seen:
                seen.add(name)
                rows.append(item)
                has_new = True
        is_news = has_new or (bool(rows) and not stream.identity and items != before)
        before = items
        return rows, is_news

    return fresh


def _text_of(value: Any) -> str:
    """A value that tells rows apart, as a text; "" for none."""
    return str(value) if isinstance(value, (str, int)) else ""


def read(client: Client, stream: Stream, ids: Ids, page_size: int, window: Mapping[str, str] | None = None) -> Rows:
    """The stream's list below one parent, all its pages; what can go wrong with this list alone is in the result."""
    rows: list[Row] = []
    date: datetime | None = None
    broken = 0
    problem: LocalError | None = None
    try:
        if stream.is_object:
            answer = client.get(path_of(stream, ids), params_of(stream, ids), stream.name, is_row)
            rows, date = [answer.body], answer.date
        else:
            for page in pages(client, stream, ids, page_size, window):
                rows += page.rows
                broken += page.broken
                date = date or page.date
    except LocalError as error:
        problem = error
    return Rows(tuple(_completed(stream, row, ids, place) for place, row in enumerate(rows)), date, broken, problem)


def _completed(stream: Stream, row: Row, ids: Ids, place: int) -> Row:
    """The row with the ids of its parents and its place in the list, as far as the stream has columns for them."""
    added: Row = {column: ids[name] for column, name in stream.parent_columns.items()}
    added |= {column: ids[name] for column, name in stream.default_columns.items() if not value_of(row, column)}
    added |= dict.fromkeys((column for column in stream.blank_columns if value_of(row, column) is None), "")
    if stream.index_column is not None:
        added[stream.index_column] = place
    return {**row, **added}
