"""The config file as one checked, frozen value."""

from __future__ import annotations

import ipaddress
import json
import math
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tap_circleci.errors import BadInput
from tap_circleci.slugs import ProjectSlugs, normalise, sort_out
from tap_circleci.text import quoted, type_name
from tap_circleci.times import iso

VERSION = version("tap-circleci")
CLOUD = "https://circleci.com"


@dataclass(frozen=True)
class Config:
    """Everything that a user can set; the README's table says what each means. Times are UTC."""

    token: str = field(repr=False)
    project_slugs: ProjectSlugs
    start_date: datetime | None = None
    base_url: str = CLOUD
    max_workers: int = 8
    lookback_days: timedelta = timedelta(days=1)
    request_timeout: float = 60.0
    page_size: int = 50
    user_agent: str = f"tap-circleci/{VERSION}"
    activate_version: bool = False

    @property
    def on_loopback(self) -> bool:
        """Whether the service runs on this very machine."""
        return _is_loopback(urlsplit(self.base_url).hostname or "")


def load_json(path: str, what: str) -> dict[str, Any]:
    """The JSON object in a file; `what` names the file's role in the sentence of a `BadInput`."""
    try:
        with Path(path).open(encoding="utf-8-sig") as file:
            content = json.load(file)
    except OSError as error:
        raise BadInput(f"The {what} file {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise BadInput(f"The {what} file {path} is not JSON in UTF-8.") from None
    except RecursionError:
        raise BadInput(f"The {what} file {path} is nested too deeply.") from None
    except json.JSONDecodeError as error:
        raise BadInput(
            f"The {what} file {path} is not JSON: {error.msg} in line {error.lineno}, column {error.colno}."
        ) from None
    except ValueError:  # an integer of thousands of digits
        raise BadInput(f"The {what} file {path} holds a number that cannot be read.") from None
    if not isinstance(content, dict):
        raise BadInput(f"The {what} file {path} must hold a JSON object, not {type_name(content)}.")
    return content


def is_open_to_others(path: str) -> bool:
    """Whether everybody on this machine may read the file, which holds a secret."""
    return os.name == "posix" and bool(Path(path).stat().st_mode & stat.S_IROTH)


def check(raw: Mapping[str, Any], path: str) -> tuple[Config, list[str]]:
    """The config that `raw`, read from `path`, stands for, and the names of keys that mean nothing to this tap.

    Raises `BadInput` with one sentence for every mistake. Strings that hold a number are numbers: some runners send all
    values as strings. null and "" are the same as leaving the key out.
    """
    values: dict[str, Any] = {}
    mistakes: list[str] = []
    secret = str(raw.get("token") or "").strip()  # which may have been put in a wrong place as well
    for key, read in _READERS.items():
        value = raw.get(key)
        if value is None or (isinstance(value, str) and not value.strip()):
            if key in ("token", "project_slugs"):
                mistakes.append(f"{path}: {key} is missing; {_ACCEPTED[key]} is needed.")
            continue
        try:
            values[key] = read(value)
        except _Wrong as wrong:
            found = wrong.said or quoted(value if wrong.part is None else wrong.part, secret)
            mistakes.append(f"{path}: {key} must be {_ACCEPTED[key]}{'' if key == 'token' else f', found {found}'}.")
    if mistakes:
        raise BadInput(*mistakes)
    return Config(**values), [quoted(key, secret) for key in sorted(set(raw) - set(_READERS))]


class _Wrong(Exception):
    """A value that is not accepted; to be quoted is that `part` of it, or what is `said` in its place."""

    def __init__(self, part: object = None, said: str = "") -> None:
        super().__init__(part, said)
        self.part = part
        self.said = said


def _token(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[\x21-\x7e]+", value.strip()):
        raise _Wrong
    return value.strip()


def _slugs(value: object) -> ProjectSlugs:
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            raise _Wrong from None
    if isinstance(value, str):
        value = re.split(r"[\s,]+", value.strip(" \t\r\n,"))
    if not isinstance(value, list) or not value:
        raise _Wrong
    slugs = []
    for item in value:
        slug = normalise(item.strip().removeprefix("!")) if isinstance(item, str) else None
        if slug is None:
            raise _Wrong(item)
        slugs.append((slug, item.strip().startswith("!")))
    if any("*" in slug.rpartition("/")[0] for slug, _ in slugs):
        raise _Wrong(said="a * outside the project's name")
    found = sort_out(slugs)
    if not found.single and not found.patterns:
        raise _Wrong(said="only slugs to leave out")
    return found


def _date(value: object) -> datetime:
    if not isinstance(value, str):
        raise _Wrong
    try:
        return iso(value.strip())
    except ValueError:
        raise _Wrong from None


def _base_url(value: object) -> str:
    if not isinstance(value, str) or re.search(r"[\x00-\x20\x7f]", value.strip()):
        raise _Wrong
    try:
        parts = urlsplit(value.strip())
        host, _ = parts.hostname, parts.port
        (host or "").encode("idna")
    except ValueError:  # UnicodeError is one
        raise _Wrong from None
    if "@" in parts.netloc:
        raise _Wrong(said="a URL with a user name or password in it")  # which may be a secret: not quoted
    if not host or parts.query or parts.fragment or parts.scheme not in ("http", "https"):
        raise _Wrong
    if parts.scheme == "http" and not _is_loopback(host):
        raise _Wrong
    path = re.sub(r"(/api)?(/v2)?/*$", "", parts.path.rstrip("/"))
    return f"{parts.scheme}://{parts.netloc}{path}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _number(low: float, high: float, *, whole: bool = False, above_low: bool = False) -> Callable[[object], float]:
    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise _Wrong
        try:
            number = float(value)
        except (ValueError, OverflowError):
            raise _Wrong from None
        if not math.isfinite(number) or not low <= number <= high or (above_low and number == low):
            raise _Wrong
        if whole and number != int(number):
            raise _Wrong
        return number

    return read


def _whole(low: int, high: int) -> Callable[[object], int]:
    read = _number(low, high, whole=True)
    return lambda value: int(read(value))


def _lookback(value: object) -> timedelta:
    return timedelta(days=_number(0, 180, above_low=True)(value)) or timedelta(microseconds=1)


def _header(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[\x20-\x7e]+", value.strip()):
        raise _Wrong
    return value.strip()


def _boolean(value: object) -> bool:
    text = str(value).strip().lower()
    if text not in ("true", "false"):
        raise _Wrong
    return text == "true"


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "token": _token,
    "project_slugs": _slugs,
    "start_date": _date,
    "base_url": _base_url,
    "max_workers": _whole(1, 64),
    "lookback_days": _lookback,
    "request_timeout": _number(0, 3600, above_low=True),
    "page_size": _whole(1, 50),
    "user_agent": _header,
    "activate_version": _boolean,
}

_ACCEPTED = {
    "token": "a personal API token (printable characters without blanks)",
    "project_slugs": "slugs such as gh/acme/api or circleci/<organization id>/<project id>, patterns such as"
    " gh/acme/* or !gh/acme/old-*, separated by blanks or commas or as a JSON list",
    "start_date": "an ISO 8601 date such as 2026-01-31 or 2026-01-31T12:00:00Z",
    "base_url": "an https URL such as https://circleci.example.com (plain http for a loopback address only)",
    "max_workers": "a whole number from 1 to 64",
    "lookback_days": "a number of days above 0 and up to 180",
    "request_timeout": "a number of seconds above 0 and up to 3600",
    "page_size": "a whole number from 1 to 50",
    "user_agent": "a text of printable ASCII characters",
    "activate_version": "true or false",
}
