"""From an endpoint to its rows: the shapes of an answer, the ends of a list, the guard against endless lists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from tap_circleci.client import Client, a_page
from tap_circleci.errors import BadRequest, LocalError, NotFound, PageLost
from tap_circleci.slugs import escaped_slug, usable_id
from tap_circleci.streams import Stream

Row = dict[str, Any]

EMPTY_PAGES = 20
"""Pages without a row that are followed before a list counts as endless."""


@dataclass(frozen=True)
class Page:
    """Rows that no earlier page of the list had, the service's time, and what is odd.

    `more`: a further page can be asked for. `broken`: things in the list that are not rows. `warning`: why the list was
    ended early.
    """

    rows: tuple[Row, ...]
    date: datetime
    more: bool
    broken: int = 0
    warning: str | None = None


@dataclass(frozen=True)
class Rows:
    """A list below one parent as far as it could be read, with the ids of the parents in its rows.

    `problem`: why it is not whole. `date`: the service's time, if it told any.
    """

    rows: tuple[Row, ...]
    date: datetime | None
    broken: int = 0
    warnings: tuple[str, ...] = ()
    problem: LocalError | None = None


def path_of(stream: Stream, ids: Mapping[str, str]) -> str:
    """The path of the stream's list below the parent with these ids."""
    return stream.path.format_map(
        {name: escaped_slug(value) if name == "project_slug" else quote(value, safe="") for name, value in ids.items()}
    )


def params_of(stream: Stream, ids: Mapping[str, str]) -> dict[str, str]:
    """The parameters that tell the stream's list below the parent with these ids from others at the same path."""
    return {name: value.format_map(ids) for name, value in stream.params.items()}


def pages(client: Client, stream: Stream, ids: Mapping[str, str], page_size: int) -> Iterator[Page]:
    """The pages of the stream's list below one parent, one request for each that is drawn.

    Raises what `Client.get` raises for the first page; a later page that answers 404 is `PageLost`.
    """
    path = path_of(stream, ids)
    params = params_of(stream, ids)
    if stream.takes_page_size:
        params["page-size"] = str(page_size)
    seen: set[str] = set()
    tokens: set[str] = set()
    empty = 0
    while True:
        try:
            answer = client.get(path, params, stream.name, a_page)
        except NotFound as missing:
            if not tokens:
                raise
            raise PageLost(f"a page in the middle of the list is lost, and what is below it ({missing})") from None
        body = answer.body if isinstance(answer.body, dict) else {"items": answer.body}
        items = [item for item in body["items"] or [] if isinstance(item, dict)]
        names = [usable_id(item.get("id")) for item in items]
        repeated = seen.intersection(name for name in names if name)
        rows = _fresh(items, names, seen)
        token = str(body.get("next_page_token") or "")
        empty = 0 if any(names) else empty + 1
        warning = None
        if token and (token in tokens or (repeated and not rows) or empty == EMPTY_PAGES):
            place = path + "".join(f" {name}={value}" for name, value in sorted(params_of(stream, ids).items()))
            warning = f"the list at {place} goes round in circles; it was ended after {len(tokens) + 1} pages"
        broken = len(body["items"] or []) - len(items)
        more = bool(token) and warning is None
        yield Page(tuple(rows), answer.date, more, broken, warning)
        if not more:
            return
        tokens.add(token)
        params["page-token"] = token


def read(client: Client, stream: Stream, ids: Mapping[str, str], page_size: int) -> Rows:
    """The stream's list below one parent, all its pages; what can go wrong with this list alone is in the result."""
    added = {column: ids[name] for column, name in stream.adds.items()}
    filled = {column: ids[name] for column, name in stream.fills.items()}
    rows: list[Row] = []
    warnings: list[str] = []
    date: datetime | None = None
    broken = 0
    problem: LocalError | None = None
    try:
        for page in pages(client, stream, ids, page_size):
            rows += ({**row, **_lacking(row, filled), **added} for row in page.rows)
            broken += page.broken
            date = page.date
            warnings += [page.warning] if page.warning else []
    except BadRequest:
        if date is not None or not stream.none_if_refused:
            raise
    except NotFound as error:
        problem = None if stream.none_if_refused else error
    except LocalError as error:
        problem = error
    return Rows(tuple(rows), date, broken, tuple(warnings), problem)


def _lacking(row: Row, filled: Mapping[str, str]) -> Mapping[str, str]:
    """Those of the columns that the row leaves empty in both spellings, `a-b` and `a_b`."""
    return {
        column: value
        for column, value in filled.items()
        if not row.get(column) and not row.get(column.replace("-", "_"))
    }


def _fresh(items: list[Row], names: list[str | None], seen: set[str]) -> list[Row]:
    """The items whose id has not been seen; those without an id cannot be told apart and are all given."""
    rows = []
    for item, name in zip(items, names, strict=True):
        if name is None:
            rows.append(item)
        elif name not in seen:
            seen.add(name)
            rows.append(item)
    return rows
