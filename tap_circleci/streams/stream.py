"""What a stream is: where it is read, what a row of it is, and when it is read. One value for each difference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
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
    """Each page is asked for by the number of rows before it, until one is empty or, where `size` is known, not full.

    `size` is the number of rows that is asked for with `size_param`.
    """

    param: str = "offset"
    size_param: str | None = None
    size: int | None = None


Paging = ByToken | ByOffset


# Where the rows of an answer are


@dataclass(frozen=True)
class Items:
    """A list under one of these names, or under several of them, whose rows are one list; or a bare array."""

    names: tuple[str, ...] = ("items",)


@dataclass(frozen=True)
class OneRow:
    """The answer is one row."""

    may_be_empty: bool = False


@dataclass(frozen=True)
class FreeMap:
    """The answer is one row: an object whose keys are free, which this column holds whole. It may be empty."""

    column: str


@dataclass(frozen=True)
class Nested:
    """The answer is an object with a list of objects, each with a list of rows: `{"steps": [{"actions": [{…}]}]}`.

    `outer` are fields of the outer objects that the rows get, by the column.
    """

    outer_name: str
    inner_name: str
    outer: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Download:
    """The answer is a file on another host, at the address that the parent's row gives as this id.

    The row has the end of its text in the column `text`, and whether that is not all of it in `is_truncated`.
    """

    address: str
    text: str = "output"
    is_truncated: str = "is_truncated"


@dataclass(frozen=True)
class Export:
    """There is no list: the service is asked for an export of some days, whose rows are in files."""


Answer = Items | OneRow | FreeMap | Nested | Download | Export


# The three parts of a stream


@dataclass(frozen=True)
class Source:
    """Where a stream is read.

    `path` and the values of `params` are templates over the ids that the ancestors' rows give; `docs` is the API's
    page. `hosts` are the names of code hosts where the API spells them another way than slugs do. `look_up` is where
    one row can be had by its own id or slug. `from_param` and `to_param` limit the list to rows from a moment to
    another. `not_offered` are statuses that mean that there is no such list.
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

    @property
    def address(self) -> tuple[str, ...]:
        """The ids of ancestors that tell one of its lists from the others, in order."""
        found = (name for text in (self.path, *self.params.values()) for _, name, _, _ in Formatter().parse(text))
        return tuple(dict.fromkeys(name for name in found if name))


@dataclass(frozen=True)
class Columns:
    """What a row of a stream is.

    `identity` are the fields that tell the rows of a list apart; with none of them, rows may be equal, and
    `index_column` numbers them. `child_context` maps a column to the id that it is to the children.
    `parent_columns` puts ancestors' ids into the rows (column -> id), `default_columns` does so only where the answer
    has no such field, `taken_up` takes a value out of an object inside the row (column -> path).
    `blank_columns` are texts of the key that the API may leave empty. `secret_urls` are paths to URLs whose query is
    masked, `left_out` are fields that are left out without a word.
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

    `status` is one of `final` once nothing changes any more below the row, since `ended_at`. Where the statuses are an
    open set, `unfinished` has those that are not final instead. A stream without a status follows its parent.
    `once`: its list below a row never changes once that row is final, and is read once then; otherwise it is read at
    each look. `is_below` tells whether a parent's row has a list at all. `names` is the key of the config that limits
    the stream to parents of some names. `configured_only`: only below the projects that the user names.
    `look_back` is how far before the bookmark an incremental list is read again, from the beginning of a day where rows
    stand for `whole_days`; `history` is how far back it goes at all.
    `number`: the list comes newest first, and this column has numbers that only grow, so that a later sync reads it
    only down to the number that is kept.
    """

    status: str | None = None
    final: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    ended_at: str | None = None
    once: bool = False
    is_below: Callable[[Mapping[str, Any]], bool] = _always
    names: str | None = None
    configured_only: bool = False
    look_back: timedelta = timedelta(0)
    whole_days: bool = False
    history: timedelta | None = None
    number: str | None = None


@dataclass(frozen=True)
class Stream:
    """One table: its key, its parent, and the three parts above. `is_extra`: only if the user asks for it."""

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
        """Whether the service is asked for an export instead of a list."""
        return isinstance(self.source.answer, Export)

    @property
    def needs(self) -> frozenset[str]:
        """The ids of ancestors without which a list cannot be asked for, or its rows not be told apart."""
        row = self.row
        return frozenset({*self.source.address, *row.parent_columns.values(), *row.default_columns.values()})

    @property
    def belongs_to_parent(self) -> bool:
        """Whether a row is another one below another parent, so that it is new when the parent is."""
        return any(column in self.row.parent_columns for column in self.key)
