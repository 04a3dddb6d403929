"""The config file as one checked, frozen value."""

import json
import os
import re
import stat
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tap_circleci.errors import BadInput
from tap_circleci.streams import EXTRA
from tap_circleci.values.hosts import is_loopback
from tap_circleci.values.patterns import JobNames
from tap_circleci.values.slugs import ProjectSlugs, normalise, pasted, sort_out
from tap_circleci.values.text import quoted, type_name
from tap_circleci.values.times import iso

VERSION = version("tap-circleci")
CLOUD = "https://circleci.com"
FIRST_SYNC = timedelta(days=365)
"""How far back a first sync goes without a start date."""


@dataclass(frozen=True)
class Config:
    """The checked settings: one field for each of the `KEYS`, which describe them.

    Times are UTC. `start_date` is None where the config has none. `project_slugs` is empty where the config has none,
    which only --check and --get allow.
    """

    token: str = field(repr=False)
    project_slugs: ProjectSlugs
    start_date: datetime | None
    base_url: str
    max_workers: int
    lookback_days: timedelta
    request_timeout: float
    page_size: int
    user_agent: str
    activate_version: bool
    extra_streams: tuple[str, ...]
    job_names: JobNames
    find_reruns: bool
    strict: bool


@dataclass(frozen=True)
class Key:
    """One key of the config file.

    `read` converts a JSON value, or raises; `accepted` says which JSON values are accepted, after "must be".
    `json_type` is the type in a form or a schema, `default` the JSON value of a key that is left out.
    """

    name: str
    read: Callable[[Any], Any]
    accepted: str
    description: str
    json_type: str | tuple[str, ...] = "string"
    default: Any = None
    required: bool = False
    secret: bool = False


def load_json(path: str, what: str) -> dict[str, Any]:
    """The JSON object in a file; `what` is its role in the sentence of a `BadInput`."""
    text = load_text(path, what)
    if not text.strip():
        raise BadInput(f"The {what} file {path} is empty.")
    return parsed(text, path, what)


def load_text(path: str, what: str) -> str:
    """The text in a file. Raises `BadInput`."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadInput(f"The {what} file {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise BadInput(f"The {what} file {path} is not JSON in UTF-8.") from None


def parsed(text: str, path: str, what: str) -> dict[str, Any]:
    """The JSON object in the text of a file. Raises `BadInput`."""
    try:
        content = json.loads(text)
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
    """Whether every user of this machine may read the file, which holds a secret."""
    return os.name == "posix" and bool(Path(path).stat().st_mode & stat.S_IROTH)


def unknown(raw: Mapping[str, Any]) -> list[str]:
    """The names of keys in `raw` that mean nothing here, quoted for a sentence."""
    return [quoted(name, token_of(raw)) for name in sorted(raw.keys() - KEYS.keys())]


def check(raw: Mapping[str, Any], path: str, optional: Collection[str] = ()) -> Config:
    """The config in `raw`, read from `path`. Raises `BadInput` with one sentence for every mistake.

    `optional` are required keys that may be left out here.
    """
    values: dict[str, Any] = {}
    mistakes: list[str] = []
    for name, key in KEYS.items():
        try:
            values[name] = _value_of(replace(key, required=False) if name in optional else key, raw, path)
        except BadInput as wrong:
            mistakes += wrong.args
    if mistakes:
        raise BadInput(*mistakes)
    return Config(**values)


def extra_streams_of(raw: Mapping[str, Any], path: str) -> Collection[str]:
    """The value of `extra_streams`, or its default. Raises `BadInput`."""
    names: Collection[str] = _value_of(KEYS["extra_streams"], raw, path)
    return names


def _value_of(key: Key, raw: Mapping[str, Any], path: str) -> Any:
    """The value of one key of the config, or its default. Raises `BadInput`.

    A text with a number is a number, since some runners pass all values as texts. null, "" and an empty list mean the
    same as a missing key.
    """
    given = raw.get(key.name)
    is_list = "array" in key.json_type
    value = _listed(given) if is_list else given
    if value is None or (is_list and value == []) or (isinstance(value, str) and not value.strip()):
        if key.required:
            raise BadInput(f"{path}: {key.name} is missing; it must be {key.accepted}.")
        return None if key.default is None else key.read(key.default)
    try:
        if is_list and not isinstance(value, list):
            raise _Wrong
        return key.read(value)
    except _Wrong as wrong:
        # The token may be in a wrong place.
        values = wrong.said or ", ".join(quoted(part, token_of(raw)) for part in wrong.parts or (given,))
        found = "" if key.secret else f", found {values}"
        raise BadInput(f"{path}: {key.name} must be {key.accepted}{found}.") from None


def token_of(raw: Mapping[str, Any]) -> str:
    """The value under `token`, valid or not; it is never shown."""
    token = raw.get("token")
    return token.strip() if isinstance(token, str) else ""


class _Wrong(Exception):
    """A value that is not accepted. The sentence quotes `parts` instead of the whole value, or says `said` instead."""

    def __init__(self, *parts: object, said: str = "") -> None:
        super().__init__(*parts)
        self.parts = parts
        self.said = said


def _text_of(characters: str) -> Callable[[object], str]:
    """A reader of texts that have only these characters, apart from blanks around them."""

    def read(value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(f"[{characters}]+", value.strip()):
            raise _Wrong
        return value.strip()

    return read


def _listed(value: object) -> object:
    """The items of a list in JSON, in JSON inside a text, or in a text that blanks, commas or newlines divide; any
    other value unchanged."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return value
    if isinstance(value, str):
        return [item for item in re.split(r"[\s,]+", value) if item]
    if isinstance(value, list):
        return [item.strip() if isinstance(item, str) else item for item in value]
    return value


def _slugs(value: list[Any]) -> ProjectSlugs:
    slugs, wrong = [], []
    for item in value:
        slug = normalise(pasted(item.removeprefix("!"))) if isinstance(item, str) else None
        if slug is None:
            wrong.append(item)
        else:
            slugs.append((slug, item.startswith("!")))
    if wrong:
        raise _Wrong(*wrong)
    if any("*" in slug.rpartition("/")[0] for slug, _ in slugs):
        raise _Wrong(said="a * outside the project's name")
    found = sort_out(slugs)
    if found.excluded and not found.single and not found.patterns:
        raise _Wrong(said="only slugs to leave out")
    return found


def _streams(value: list[Any]) -> tuple[str, ...]:
    unknown = [name for name in value if name != "all" and name not in EXTRA]
    if unknown:
        raise _Wrong(*unknown)
    return tuple(name for name in EXTRA if name in value or "all" in value)


def _job_names(value: list[Any]) -> JobNames:
    wrong = [pattern for pattern in value if not isinstance(pattern, str) or not pattern.removeprefix("!").strip()]
    if wrong:
        raise _Wrong(*wrong)
    return JobNames.of(value)


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
    if parts.scheme == "http" and not is_loopback(host):
        raise _Wrong
    path = re.sub(r"(/api)?(/v2)?/*$", "", parts.path.rstrip("/"))
    return f"{parts.scheme}://{parts.netloc}{path}"


def _number_to(most: float) -> Callable[[object], float]:
    """A reader of numbers above 0 and up to `most`."""

    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise _Wrong
        try:
            number = float(value)
        except (ValueError, OverflowError):
            raise _Wrong from None
        if not 0 < number <= most:
            raise _Wrong
        return number

    return read


def _whole_to(most: int) -> Callable[[object], int]:
    """A reader of whole numbers from 1 to `most`."""

    def read(value: object) -> int:
        number = _number_to(most)(value)
        if not number.is_integer():
            raise _Wrong
        return int(number)

    return read


def _lookback(value: object) -> timedelta:
    return timedelta(days=_number_to(180)(value)) or timedelta(microseconds=1)


def _boolean(value: object) -> bool:
    text = str(value).strip().lower()
    if text not in ("true", "false"):
        raise _Wrong
    return text == "true"


def _flag(name: str, description: str) -> Key:
    return Key(name, _boolean, "true or false", description, json_type="boolean", default=False)


def _count(name: str, most: int, default: int, description: str) -> Key:
    accepted = f"a whole number from 1 to {most}"
    return Key(name, _whole_to(most), accepted, description, json_type="integer", default=default)


_KEYS = (
    Key(
        "token",
        _text_of(r"\x21-\x7e"),
        "a personal API token (printable characters without blanks)",
        "A personal API token of CircleCI; never logged, and sent to base_url only.",
        required=True,
        secret=True,
    ),
    Key(
        "project_slugs",
        _slugs,
        "slugs such as gh/acme/api or circleci/<organization id>/<project id>, addresses from the browser, patterns"
        " such as gh/acme/* or !gh/acme/old-*, separated by blanks or commas or as a JSON list",
        "The projects whose pipelines, workflows and jobs are synced: slugs, addresses from the browser or patterns,"
        " separated by blanks, commas or newlines, or as a JSON list.",
        json_type=("string", "array"),
        default=[],
        required=True,
    ),
    Key(
        "start_date",
        _date,
        "an ISO 8601 date such as 2026-01-31 or 2026-01-31T12:00:00Z",
        "The start of the first sync of each stream; one year ago unless given.",
    ),
    Key(
        "base_url",
        _base_url,
        "an https URL such as https://circleci.example.com (plain http for a loopback address only)",
        "The root of a CircleCI Server.",
        default=CLOUD,
    ),
    _count("max_workers", 64, 8, "Requests at once, 1 to 64."),
    Key(
        "lookback_days",
        _lookback,
        "a number of days above 0 and up to 180",
        "Each sync re-checks pipelines that were younger than this many days at the last sync.",
        json_type="number",
        default=1,
    ),
    Key(
        "request_timeout",
        _number_to(3600),
        "a number of seconds above 0 and up to 3600",
        "Seconds for connecting and for each read; a whole answer may take five times that.",
        json_type="number",
        default=60,
    ),
    _count("page_size", 50, 50, "Rows per page where the API lets the caller choose, 1 to 50."),
    Key(
        "user_agent",
        _text_of(r"\x20-\x7e"),
        "a text of printable ASCII characters",
        "The User-Agent header of each request.",
        default=f"tap-circleci/{VERSION}",
    ),
    _flag(
        "activate_version",
        "Send ACTIVATE_VERSION after each full table that was read completely, so that a target removes deleted rows.",
    ),
    Key(
        "extra_streams",
        _streams,
        f"all, or names among {', '.join(EXTRA)}, separated by blanks or commas or as a JSON list",
        "Streams beyond the eleven default ones: names separated by blanks, commas or newlines, a JSON list, or all.",
        json_type=("string", "array"),
        default=[],
    ),
    Key(
        "job_names",
        _job_names,
        "patterns of job names such as build* or !lint, separated by blanks or commas or as a JSON list",
        "The jobs to which the streams below jobs are limited: patterns with * and ?, ! before those to leave out;"
        " names with blanks as a JSON list. All jobs unless given.",
        json_type=("string", "array"),
        default=[],
    ),
    _flag("find_reruns", "Find reruns of old pipelines in each sync with API v1.1: a few calls for each project."),
    _flag("strict", "End with exit status 1 if something that the config or the catalog names had to be left out."),
)
KEYS = {key.name: key for key in _KEYS}
"""Every key of the config, in the order of the documentation."""
