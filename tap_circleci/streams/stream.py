"""The parts of a stream: where it is read, what its rows are, and when it is read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from string import Formatter
from typing import Any

DOCS = "https://circleci.com/docs/api/v2/"
DOCS_V1 = "https://circleci.com/docs/api/v1/"


# How a list is divided into pages


@dataclass(frozen=True)
class ByToken:
    """Each page gives the token of the next one, until it gives none.

    `size_param` is the parameter by which the caller chooses how many rows a page has, if there is one.
    """

    param: str = "page-token"
    field: str = "next_page_token"
    size_param: str | None = None


@dataclass(frozen=True)
class ByOffset:
    """Each page is requested by the number of rows before it, until one is empty or, if `size` is known, not full.

    `size` is the number of rows per page, requested with `size_param`.
    """

    param: str = "offset"
    size_param: str | None = None
    size: int | None = None


Paging = ByToken | ByOffset


# Where the rows of an answer are


@dataclass(frozen=True)
class Items:
    """A bare array, or lists under one or more of these names, whose rows form one list."""

    names: tuple[str, ...] = ("items",)


@dataclass(frozen=True)
class OneRow:
    """The answer is one row."""

    may_be_empty: bool = False


@dataclass(frozen=True)
class FreeMap:
    """The answer is one row: this column has the whole object, whose keys are free. It may be empty."""

    column: str


@dataclass(frozen=True)
class Nested:
    """The answer is an object with a list of objects, each with a list of rows: `{"steps": [{"actions": [{…}]}]}`.

    `outer` maps a column of the rows to a field of the outer object.
    """

    outer_name: str
    inner_name: str
    outer: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Download:
    """The answer is a file on another host, at the address that the parent's row has under the id `address`.

    The row has the end of the file's text in the column `text`, and in `is_truncated` whether there is more.
    """

    address: str
    text: str = "output"
    is_truncated: str = "is_truncated"


@dataclass(frozen=True)
class ExportFiles:
    """There is no list: the service makes an export of some days, whose rows are in files."""


Answer = Items | OneRow | FreeMap | Nested | Download | ExportFiles


# The three parts of a stream


@dataclass(frozen=True)
class Source:
    """Where a stream is read.

    `path` and the values of `params` are templates over the ids that the ancestors' rows give; `docs` is the API's
    page. `hosts` maps the code hosts of slugs to the API's other spelling. `look_up` is the path of one row by its own
    id or slug. `from_param` and `to_param` limit the list to rows between two times. `not_offered` are statuses that
    mean "no such list". `is_hint`: the run can do without the list, so no answer to it ends the run.
    """

    path: str
    docs: str
    params: Mapping[str, str] = field(default_factory=dict)
    paging: Paging = ByToken()
    answer: Answer = Items()
    hosts: Mapping[str, str] = field(default_factory=dict)
    look_up: str | None = None
    from_param: str | None = None
    to_param: str | None = None
    not_offered: frozenset[int] = frozenset()
    is_hint: bool = False

    @property
    def address(self) -> tuple[str, ...]:
        """The ids of ancestors that distinguish one of its lists from the others, in order."""
        found = (name for text in (self.path, *self.params.values()) for _, name, _, _ in Formatter().parse(text))
        return tuple(dict.fromkeys(name for name in found if name))


@dataclass(frozen=True)
class Columns:
    """What the rows of a stream are.

    `identity` are the fields that distinguish the rows of a list; without them rows may be equal, and `index_column`
    numbers them. `child_context` maps a column to the name of its id for the children. `parent_columns` adds ancestors'
    ids to the rows (column -> id); `default_columns` does so only if the answer has no such field. `taken_up` copies a
    value out of an object inside the row (column -> path). `blank_columns` are texts of the key that may be empty.
    `secret_urls` are paths to URLs whose query is masked. `left_out` are fields that are dropped without a report.
    """

    identity: tuple[str, ...] = ("id",)
    index_column: str | None = None
    child_context: Mapping[str, str] = field(default_factory=dict)
    parent_columns: Mapping[str, str] = field(default_factory=dict)
    default_columns: Mapping[str, str] = field(default_factory=dict)
    taken_up: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    blank_columns: tuple[str, ...] = ()
    secret_urls: tuple[tuple[str, ...], ...] = ()
    left_out: tuple[str, ...] = ()


def _always(_row: Mapping[str, Any]) -> bool:
    return True


@dataclass(frozen=True)
class Timing:
    """When a stream is read.

    `status` is the column of the status. A row and everything below it no longer change if its status is in `final` or,
    for an open set of statuses, not in `unfinished`; `ended_at` is the column of that time. A stream without a status
    follows its parent. `once`: the list below a row never changes after that row is final, and is read once then; other
    lists are read at each look. `is_below` says whether a parent's row has a list. `by_job_name`: only below the jobs
    that `job_names` in the config matches. `configured_only`: only below the projects that the user names. `look_back`
    is how far before the bookmark an incremental list is read again; with `whole_days` rows are days, and it begins at
    midnight. `history` is how far back the list goes.
    `by_number`: the list is one of builds, newest first by numbers, so a later sync reads down to the number in the
    state.
    """

    status: str | None = None
    final: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    ended_at: str | None = None
    once: bool = False
    is_below: Callable[[Mapping[str, Any]], bool] = _always
    by_job_name: bool = False
    configured_only: bool = False
    look_back: timedelta = timedelta(0)
    whole_days: bool = False
    history: timedelta | None = None
    by_number: bool = False


@dataclass(frozen=True)
class Stream:
    """One table: its key, its parent, and the three parts above. `is_extra`: only if the config names it."""

    name: str
    source: Source
    key: tuple[str, ...] = ("id",)
    parent: str | None = None
    replication_key: str | None = None
    row: Columns = Columns()
    timing: Timing = Timing()
    is_extra: bool = False

    @property
    def replication_method(self) -> str:
        """INCREMENTAL for the streams that have a replication key, FULL_TABLE for the others."""
        return "INCREMENTAL" if self.replication_key else "FULL_TABLE"

    @property
    def is_export(self) -> bool:
        """Whether the service makes an export instead of a list."""
        return isinstance(self.source.answer, ExportFiles)

    @cached_property
    def needs(self) -> frozenset[str]:
        """The ids of ancestors that are needed to request a list or to complete its rows."""
        row = self.row
        return frozenset({*self.source.address, *row.parent_columns.values(), *row.default_columns.values()})

    @property
    def belongs_to_parent(self) -> bool:
        """Whether the key contains a parent's id, so that a row is new below each new parent."""
        return any(column in self.row.parent_columns for column in self.key)
