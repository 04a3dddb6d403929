"""`--get`: prints the JSON at a path of the API, or the items of all pages of a list."""

import logging
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tap_circleci.client import Client
from tap_circleci.config import Config
from tap_circleci.errors import BadInput
from tap_circleci.output.messages import print_json
from tap_circleci.values.text import quoted
from tap_circleci.workers import Clock

LOGGER = logging.getLogger(__name__)

MOST_PAGES = 10_000
"""Pages of a list that are read at most: 200,000 items of most lists."""


def get(config: Config, clock: Clock, target: str, *, every_page: bool) -> None:
    """Print the JSON at a path of the API such as `/me` or `project/gh/acme/api/pipeline?branch=main`.

    With `every_page` the items of all pages of the list are printed as one. Raises `TapError`.
    """
    path, params = _address(config, target)
    client = Client(config, clock)
    try:
        body = client.get(path, params, "get", _anything).body
        if every_page:
            if not _is_page(body):
                raise BadInput(f"{quoted(target)} is not a list with pages; leave out --all.")
            body = _whole_list(client, path, params, body)
    finally:
        client.close()
    print_json(body)


def _address(config: Config, target: str) -> tuple[str, Mapping[str, list[str]]]:
    """The path and the parameters that the user asks for. Raises `BadInput`."""
    try:
        parts = urlsplit(target.removeprefix(config.base_url))
    except ValueError:
        raise BadInput(f"--get takes a path of the API such as /me, not {quoted(target, config.token)}.") from None
    if parts.scheme or parts.netloc:
        raise BadInput(f"--get takes a path of the API at {config.base_url}, not a URL of another host.")
    path = "/" + parts.path.lstrip("/")
    return path if path.startswith("/api/") else "/api/v2" + path, parse_qs(parts.query, keep_blank_values=True)


def _whole_list(client: Client, path: str, params: Mapping[str, list[str]], first: Any) -> Any:
    """The items of all pages: an array where the first page is one, else an object like it without the page token.

    A list that does not end is cut off with a warning.
    """
    page, items = first, _items(first)
    requested: set[str] = set()
    while token := _token(page):
        if token in requested or len(requested) + 1 == MOST_PAGES:
            LOGGER.warning("The list does not end; reading stopped after %d pages.", len(requested) + 1)
            break
        requested.add(token)
        page = client.get(path, {**params, "page-token": [token]}, "get", _is_page).body
        items += _items(page)
    return items if isinstance(first, list) else {"items": items}


def _items(page: Any) -> list[Any]:
    return list(page if isinstance(page, list) else page.get("items") or [])


def _token(page: Any) -> str:
    return str(page.get("next_page_token") or "") if isinstance(page, dict) else ""


def _is_page(body: Any) -> bool:
    """Whether a body is a page of a list."""
    return isinstance(body, list) or (isinstance(body, dict) and isinstance(body.get("items", 0), (list, type(None))))


def _anything(_body: Any) -> bool:
    return True
