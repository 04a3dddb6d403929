"""From an endpoint to its rows: the shapes of an answer, the end of a list, the guard against endless lists.

The stream says how its list is divided into pages and where the rows of an answer are. This module knows no API by
name.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tap_circleci.client import Answer, Client
from tap_circleci.errors import EndlessList, Forbidden, LinkExpired, LocalError, Moved, NotFound, PageLost
from tap_circleci.reading.outputs import end_of
from tap_circleci.streams.addresses import params_of, path_of
from tap_circleci.streams.stream import ByOffset, ByToken, Download, FreeMap, Items, Nested, OneRow, Paging, Stream
from tap_circleci.values.rows import Ids, Row, inside, value_of

STALE_PAGES = 20
"""Pages in a row without a new row, after which a list counts as endless."""
EQUAL_PAGES = 500
"""The same for a list whose rows may be equal, so that two equal pages may be different pages."""


@dataclass(frozen=True)
class Page:
    """Rows that no earlier page of the list had. `more`: there is another page.

    `date` is the service's time, `broken` the number of items in the list that are not rows.
    """

    rows: tuple[Row, ...]
    date: datetime | None
    more: bool
    broken: int = 0


@dataclass(frozen=True)
class Rows:
    """The rows of a list below one parent that could be read, with the ids of the parents.

    `problem`: why the list is incomplete. `date`: the service's time at its first page, if the answer had one.
    """

    rows: tuple[Row, ...]
    date: datetime | None
    broken: int = 0
    problem: LocalError | None = None


def _never(_row: Row) -> None:
    return None


@dataclass(frozen=True)
class Extent:
    """How much of a list is to be read: parameters that limit it, and which rows are already known (None: unclear).

    A list that is sorted newest first is read until a page has known rows and no unknown ones.
    """

    params: Mapping[str, str] = field(default_factory=dict)
    is_known: Callable[[Row], bool | None] = _never


WHOLE = Extent()


# The rows of one answer


def rows_of(stream: Stream, body: Any) -> list[Any] | None:
    """The items at the place where the stream's answers have their rows; None for a body of another shape."""
    match stream.source.answer:
        case Items(names):
            return _listed(body, names)
        case OneRow(may_be_empty):
            return [body] if isinstance(body, dict) and (body or may_be_empty) else None
        case FreeMap(column):
            return [{column: body}] if isinstance(body, dict) else None
        case Nested(outer_name, inner_name, outer):
            return _nested(body, outer_name, inner_name, outer)
    return None


def _listed(body: Any, names: Sequence[str]) -> list[Any] | None:
    """The items of a bare array, or of the lists that the body has under these names; null means no rows."""
    if isinstance(body, list):
        return body
    if not isinstance(body, dict) or not any(name in body for name in names):
        return None
    lists = [body[name] for name in names if body.get(name) is not None]
    return [row for one in lists for row in one] if all(isinstance(one, list) for one in lists) else None


def _nested(body: Any, outer_name: str, inner_name: str, outer: Mapping[str, str]) -> list[Any] | None:
    """The rows of the inner lists, each with fields of the object around its list."""
    outers = body.get(outer_name) or [] if isinstance(body, dict) else None
    if not isinstance(outers, list):
        return None
    rows: list[Any] = []
    for one in outers:
        inner = one.get(inner_name) or [] if isinstance(one, dict) else None
        if not isinstance(inner, list):
            rows.append(None)  # counted as broken
            continue
        added = {column: one.get(name) for column, name in outer.items()}
        rows += [{**row, **added} if isinstance(row, dict) else row for row in inner]
    return rows


# The pages of a list


def pages(client: Client, stream: Stream, ids: Ids, page_size: int, extent: Extent = WHOLE) -> Iterator[Page]:
    """The pages of the stream's list below one parent; each is requested when the iterator reaches it.

    Raises what `Client.get` raises for the first page. A later page that answers 404 is `PageLost`; a list that does
    not end is `EndlessList`, after its last page.
    """
    path = path_of(stream, ids)
    fixed = {**params_of(stream, ids), **extent.params, **_size(stream.source.paging, page_size)}
    fresh = _unseen(stream)
    requested: set[str] = set()
    position: dict[str, str] = {}
    read = stale = 0
    while True:
        answer = _page(client, stream, path, {**fixed, **position}, later=bool(position))
        items = rows_of(stream, answer.body) or []
        dicts = [item for item in items if isinstance(item, dict)]
        rows, has_news = fresh(dicts)
        read += len(items)
        known = {extent.is_known(row) for row in dicts}
        is_known = True in known and False not in known
        position = {} if is_known else _next_page(stream, answer.body, len(items), read)
        yield Page(tuple(rows), answer.date, bool(position), len(items) - len(dicts))
        if not position:
            return
        place = "".join(position.values())
        stale = 0 if has_news else stale + 1
        if place in requested or stale > (STALE_PAGES if stream.row.identity else EQUAL_PAGES):
            where = path + "".join(f" {name}={value}" for name, value in sorted(params_of(stream, ids).items()))
            raise EndlessList(f"the list at {where} does not end; reading stopped after {len(requested) + 1} pages")
        requested.add(place)


def _size(paging: Paging, page_size: int) -> dict[str, str]:
    """The parameter that sets the size of a page, if there is one."""
    if paging.size_param is None:
        return {}
    return {paging.size_param: str(page_size if isinstance(paging, ByToken) else paging.size)}


def _next_page(stream: Stream, body: Any, count: int, read: int) -> dict[str, str]:
    """The parameter of the next page, empty at the end. This page has `count` rows, all pages so far have `read`."""
    paging = stream.source.paging
    if not isinstance(stream.source.answer, Items):
        return {}
    if isinstance(paging, ByOffset):
        return {} if not count or (paging.size and count < paging.size) else {paging.param: str(read)}
    token = str(body.get(paging.field) or "") if isinstance(body, dict) else ""
    return {paging.param: token} if token else {}


def _page(client: Client, stream: Stream, path: str, params: Mapping[str, str], *, later: bool) -> Answer:
    try:
        return client.get(
            path,
            params,
            stream.name,
            lambda body: rows_of(stream, body) is not None,
            not_offered=() if later else stream.source.not_offered,
            is_hint=stream.source.is_hint,
        )
    except Forbidden as refused:
        raise Forbidden(str(refused), refused.status, is_rest=later) from None
    except NotFound as missing:
        if not later:
            raise
        raise PageLost(f"a page in the middle of the list is lost, and so is everything after it ({missing})") from None


def _unseen(stream: Stream) -> Callable[[list[Row]], tuple[list[Row], bool]]:
    """A function from the items of a page to those that no earlier page had, and whether the page has new rows.

    Items without a value for the identity are always given. They count as new only if the stream has no identity and
    the page differs from the one before.
    """
    seen: set[tuple[str, ...]] = set()
    before: list[Row] = []

    def fresh(items: list[Row]) -> tuple[list[Row], bool]:
        nonlocal before
        rows, has_new = [], False
        for item in items:
            name = tuple(_text_of(value_of(item, column)) for column in stream.row.identity)
            if not any(name):
                rows.append(item)
            elif name not in seen:
                seen.add(name)
                rows.append(item)
                has_new = True
        is_news = has_new or (bool(rows) and not stream.row.identity and items != before)
        before = items
        return rows, is_news

    return fresh


def _text_of(value: Any) -> str:
    """A value of the identity as a text; "" for none."""
    return str(value) if isinstance(value, (str, int)) else ""


def read(client: Client, stream: Stream, ids: Ids, page_size: int, extent: Extent = WHOLE) -> Rows:
    """All pages of the stream's list below one parent; a problem of this list alone is in the result."""
    found = reading(client, stream, ids, page_size, extent)
    while True:
        try:
            next(found)
        except StopIteration as end:
            rows: Rows = end.value
            return rows


def reading(
    client: Client, stream: Stream, ids: Ids, page_size: int, extent: Extent = WHOLE
) -> Generator[int, None, Rows]:
    """Like `read` in steps of one request, each of which gives its number of rows; others can go first between them."""
    rows: list[Row] = []
    date: datetime | None = None
    broken = 0
    problem: LocalError | None = None
    if isinstance(stream.source.answer, Download):
        return _download(client, stream, stream.source.answer, ids)
    try:
        for page in pages(client, stream, ids, page_size, extent):
            rows += [_completed(stream, row, ids, len(rows) + place) for place, row in enumerate(page.rows)]
            broken += page.broken
            date = date or page.date
            yield len(page.rows)
    except LocalError as error:
        problem = error
    return Rows(tuple(rows), date, broken, problem)


def _download(client: Client, stream: Stream, answer: Download, ids: Ids) -> Rows:
    """The row that holds the text of a file; none for an empty one."""
    try:
        text, is_truncated = end_of(client.download(ids[answer.address], stream.name))
    except Moved as problem:  # an expired address may lead to such a redirect
        return Rows((), None, problem=LinkExpired(str(problem)))
    except LocalError as problem:
        return Rows((), None, problem=problem)
    row: Row = {answer.text: text, answer.is_truncated: is_truncated}
    return Rows((_completed(stream, row, ids, 0),) if text else (), None)


def _completed(stream: Stream, row: Row, ids: Ids, place: int) -> Row:
    """The row with the ids of its parents, the values from inside it that have columns, and its place in the list.

    What is never sent is not kept: most of a build, of which a project may have hundreds of thousands.
    """
    columns = stream.row
    dropped = {*columns.left_out} - columns.child_context.keys()
    added: Row = {column: ids[name] for column, name in columns.parent_columns.items()}
    added |= {column: ids[name] for column, name in columns.default_columns.items() if not value_of(row, column)}
    added |= dict.fromkeys((column for column in columns.blank_columns if value_of(row, column) is None), "")
    added |= {column: inside(row, path) for column, path in columns.taken_up.items()}
    if columns.index_column is not None:
        added[columns.index_column] = place
    return {**{name: value for name, value in row.items() if name not in dropped}, **added}
