"""From the schema files to a catalog, and from a catalog to the selected streams and fields."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from singer import metadata
from singer.catalog import Catalog, CatalogEntry
from singer.schema import Schema

from tap_circleci.errors import BadInput
from tap_circleci.streams import EXTRA, STREAMS, Stream
from tap_circleci.values.checks import TEXT, Items, Object, Value, check_shape

Breadcrumb = tuple[str, ...]


@dataclass(frozen=True)
class Selected:
    """What the user selects: a schema for each selected stream, reduced to the selected fields.

    `full_table` are the incremental streams that the catalog wants read from the start date in each run.
    """

    schemas: Mapping[str, Mapping[str, Any]]
    full_table: frozenset[str] = frozenset()

    def __contains__(self, name: str) -> bool:
        return name in self.schemas


def schema_of(name: str) -> dict[str, Any]:
    """The JSON schema that ships with the package for this stream."""
    text = (files("tap_circleci") / "schemas" / f"{name}.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def discover(extra: Collection[str] = ()) -> Catalog:
    """The catalog of the default streams and of these extra ones, each selected by default. It needs no request."""
    return Catalog([_entry(STREAMS[name]) for name in _offered(extra)])


def _offered(extra: Collection[str]) -> list[str]:
    return [name for name in STREAMS if name not in EXTRA or name in extra]


def _entry(stream: Stream) -> CatalogEntry:
    schema = schema_of(stream.name)
    keys = [stream.replication_key] if stream.replication_key else None
    mdata = metadata.to_map(
        metadata.get_standard_metadata(schema, stream.name, list(stream.key), keys, stream.replication_method)
    )
    metadata.write(mdata, (), "selected-by-default", True)
    if stream.parent:
        metadata.write(mdata, (), "parent-tap-stream-id", stream.parent)
    if stream.replication_key:
        metadata.write(mdata, ("properties", stream.replication_key), "inclusion", "automatic")
    return CatalogEntry(
        tap_stream_id=stream.name,
        stream=stream.name,
        key_properties=list(stream.key),
        schema=Schema.from_dict(schema),
        replication_key=stream.replication_key,
        replication_method=stream.replication_method,
        metadata=metadata.to_list(mdata),
    )


def select(raw: Mapping[str, Any] | None, path: str, extra: Collection[str] = ()) -> Selected:
    """What the catalog in `raw`, read from `path`, selects; without one the default streams and these extra ones.

    `selected` is read from a stream's metadata or, in old catalogs, from its schema. If no stream has it, all that are
    not deselected by default are selected. Raises `BadInput` with one sentence for every mistake.
    """
    if raw is None:
        return Selected({name: schema_of(name) for name in _offered(extra)})
    check_shape(raw, _CATALOG, path)
    names = [_name(entry) for entry in raw["streams"]]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput(f"{path}: streams names {', '.join(twice)} more than once.")
    entries = {_name(entry): _entry_of(entry) for entry in raw["streams"]}
    explicit = any(entry.selected is not None for entry in entries.values())
    schemas = {}
    for name in STREAMS:
        entry = entries.get(name)
        if entry is not None and (entry.selected if explicit else entry.selected_by_default):
            schemas[name] = _reduced(STREAMS[name], schema_of(name), entry.marks)
    full_table = {name for name in schemas if STREAMS[name].replication_key and entries[name].is_full_table}
    return Selected(schemas, frozenset(full_table))


FULL_TABLE = "FULL_TABLE"
METHODS = (FULL_TABLE, "INCREMENTAL")

_METHOD = Value(" or ".join(METHODS), lambda value: value == "" or str(value).upper() in METHODS)
_SELECTED = Value("true or false", lambda value: isinstance(value, bool))
_METADATA = Items(
    Object(
        {
            "breadcrumb": Items(TEXT),
            "metadata": Object({"selected": _SELECTED, "replication-method": _METHOD}, is_open=True),
        },
        required=frozenset({"breadcrumb", "metadata"}),
        is_open=True,
    )
)
_STREAM = Object(
    {"schema": Object({}, is_open=True), "metadata": _METADATA, "replication_method": _METHOD},
    is_open=True,
    rule=Value("an object whose tap_stream_id is a stream that --about lists", lambda entry: _name(entry) in STREAMS),
)
_CATALOG = Object({"streams": Items(_STREAM)}, required=frozenset({"streams"}), is_open=True)

Marks = Mapping[Breadcrumb, Mapping[str, Any]]
"""The metadata of a stream by breadcrumb; that of the stream itself under ()."""


@dataclass(frozen=True)
class _Entry:
    """What a catalog says about one stream. `selected` is None if it neither selects nor deselects it."""

    marks: Marks
    selected: bool | None
    is_full_table: bool

    @property
    def selected_by_default(self) -> bool:
        return bool(self.marks.get((), {}).get("selected-by-default", True))


def _name(entry: Mapping[str, Any]) -> str:
    return str(entry.get("tap_stream_id") or entry.get("stream"))


def _entry_of(entry: Mapping[str, Any]) -> _Entry:
    schema = entry.get("schema") or {}
    marks = _old_marks(schema)
    for item in entry.get("metadata") or ():
        crumb = tuple(item["breadcrumb"])
        marks[crumb] = {**marks.get(crumb, {}), **item["metadata"]}
    own = marks.get((), {})
    selected = own.get("selected")
    if selected is None and isinstance(schema.get("selected"), bool):
        selected = schema["selected"]
    method = own.get("replication-method") or entry.get("replication_method") or ""
    return _Entry(marks, selected, method.upper() == FULL_TABLE)


def _old_marks(schema: Mapping[str, Any]) -> dict[Breadcrumb, Mapping[str, Any]]:
    """The selection of fields in the schema, as in old catalogs."""
    properties = schema.get("properties")
    fields = properties.items() if isinstance(properties, dict) else ()
    return {
        ("properties", name): {"selected": field["selected"]}
        for name, field in fields
        if isinstance(field, dict) and isinstance(field.get("selected"), bool)
    }


def _reduced(stream: Stream, schema: dict[str, Any], marks: Marks) -> dict[str, Any]:
    """The schema without the fields that are deselected; keys and replication keys always stay."""
    automatic = {("properties", name) for name in (*stream.key, stream.replication_key) if name}

    def keep(crumb: Breadcrumb) -> bool:
        mark = marks.get(crumb, {})
        if crumb in automatic:
            return True
        if mark.get("inclusion") == "unsupported":
            return False
        said = mark.get("selected")
        return bool(mark.get("selected-by-default", True) if said is None else said)

    def reduced(part: dict[str, Any], crumb: Breadcrumb) -> dict[str, Any]:
        if "items" in part:
            return {**part, "items": reduced(part["items"], (*crumb, "items"))}
        if "properties" not in part:
            return part
        named = {name: (*crumb, "properties", name) for name in part["properties"]}
        kept = {name: reduced(part["properties"][name], place) for name, place in named.items() if keep(place)}
        return {**part, "properties": {name: field for name, field in kept.items() if field.get("properties") != {}}}

    return reduced(schema, ())
