"""From the schema files to a catalog, and from a catalog to what is selected."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from singer import metadata
from singer.catalog import Catalog, CatalogEntry
from singer.schema import Schema

from tap_circleci.errors import BadInput
from tap_circleci.streams import STREAMS, Stream
from tap_circleci.values.text import quoted, type_name

Breadcrumb = tuple[str, ...]


@dataclass(frozen=True)
class Selected:
    """What the user wants: a schema for each selected stream, reduced to the selected fields.

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


EXTRA = tuple(name for name, stream in STREAMS.items() if stream.is_extra)
"""The streams that are discovered and synced only for those who ask for them, in their order."""


def discover(extra: Collection[str] = ()) -> Catalog:
    """The catalog of the usual streams and of these extra ones, each selected by default. Asks nobody."""
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
    """What the catalog in `raw`, read from `path`, selects; without one the usual streams and these extra ones.

    `selected` counts in a stream's metadata and, the old way, in its schema. If no stream carries any, all are selected
    that are not deselected by default. Raises `BadInput`.
    """
    if raw is None:
        return Selected({name: schema_of(name) for name in _offered(extra)})
    mistakes: list[str] = []
    entries = dict(_entries(raw, path, mistakes))
    if mistakes:
        raise BadInput(*mistakes)
    explicit = any(_said(entry) is not None for entry in entries.values())
    schemas = {}
    for name in STREAMS:
        if name not in entries:
            continue
        marks = entries[name][0]
        wanted = _said(entries[name]) if explicit else marks.get((), {}).get("selected-by-default", True)
        if wanted:
            schemas[name] = _reduced(STREAMS[name], schema_of(name), marks)
    full_table = {name for name in schemas if STREAMS[name].replication_key and entries[name][2] == FULL_TABLE}
    return Selected(schemas, frozenset(full_table))


FULL_TABLE = "FULL_TABLE"
METHODS = (FULL_TABLE, "INCREMENTAL")

Entry = tuple[dict[Breadcrumb, Mapping[str, Any]], Mapping[str, Any], str | None]
"""The metadata by breadcrumb, the schema, and the replication method if it says one."""


def _entries(raw: Mapping[str, Any], path: str, mistakes: list[str]) -> Iterator[tuple[str, Entry]]:
    """The entries of a catalog by the stream's name; what is wrong is added to `mistakes`."""
    streams = raw.get("streams")
    if not isinstance(streams, list):
        mistakes.append(f"{path}: streams must be a list, found {quoted(streams)}.")
        return
    seen: set[str] = set()
    for number, entry in enumerate(streams):
        place = f"{path}: streams[{number}]"
        if not isinstance(entry, dict):
            mistakes.append(f"{place} must be an object, not {type_name(entry)}.")
            continue
        name = entry.get("tap_stream_id") or entry.get("stream")
        if not isinstance(name, str) or name not in STREAMS:
            mistakes.append(f"{place}.tap_stream_id must be one of {', '.join(STREAMS)}, found {quoted(name)}.")
            continue
        if name in seen:
            mistakes.append(f"{place}.tap_stream_id is {name} for the second time.")
        seen.add(name)
        schema = entry.get("schema")
        if schema is not None and not isinstance(schema, dict):
            mistakes.append(f"{place}.schema must be an object, not {type_name(schema)}.")
            schema = None
        marks = _metadata(entry.get("metadata"), f"{place}.metadata", mistakes)
        method = marks.get((), {}).get("replication-method") or entry.get("replication_method")
        if method and str(method).upper() not in METHODS:
            mistakes.append(f"{place}: the replication method must be {' or '.join(METHODS)}, found {quoted(method)}.")
        old = _old_marks(schema or {})
        marks = {crumb: {**old.get(crumb, {}), **marks.get(crumb, {})} for crumb in old.keys() | marks.keys()}
        yield name, (marks, schema or {}, str(method).upper() if method else None)


def _old_marks(schema: Mapping[str, Any]) -> dict[Breadcrumb, Mapping[str, Any]]:
    """The selection of fields as old catalogs write it, into the schema."""
    properties = schema.get("properties")
    fields = properties.items() if isinstance(properties, dict) else ()
    return {
        ("properties", name): {"selected": field["selected"]}
        for name, field in fields
        if isinstance(field, dict) and isinstance(field.get("selected"), bool)
    }


def _metadata(raw: Any, place: str, mistakes: list[str]) -> dict[Breadcrumb, Mapping[str, Any]]:
    if raw is None:
        return {}
    if not isinstance(raw, list):
        mistakes.append(f"{place} must be a list, not {type_name(raw)}.")
        return {}
    marks: dict[Breadcrumb, Mapping[str, Any]] = {}
    for number, item in enumerate(raw):
        crumb = item.get("breadcrumb") if isinstance(item, dict) else None
        mark = item.get("metadata") if isinstance(item, dict) else None
        if not isinstance(crumb, list) or not all(isinstance(part, str) for part in crumb):
            mistakes.append(f"{place}[{number}].breadcrumb must be a list of strings, found {quoted(crumb)}.")
        elif not isinstance(mark, dict):
            mistakes.append(f"{place}[{number}].metadata must be an object, found {quoted(mark)}.")
        elif not isinstance(mark.get("selected"), (bool, type(None))):
            mistakes.append(
                f"{place}[{number}].metadata.selected must be true or false, found {quoted(mark['selected'])}."
            )
        else:
            marks[tuple(crumb)] = mark
    return marks


def _said(entry: Entry) -> bool | None:
    """Whether the user has selected or deselected a stream; None if neither."""
    marks, schema, _ = entry
    said = marks.get((), {}).get("selected")
    if said is None and isinstance(schema.get("selected"), bool):
        said = schema["selected"]
    return said if isinstance(said, bool) else None


def _reduced(stream: Stream, schema: dict[str, Any], marks: Mapping[Breadcrumb, Mapping[str, Any]]) -> dict[str, Any]:
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
