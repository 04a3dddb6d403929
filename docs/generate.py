"""`make docs`: what the docs and the Meltano example repeat of the code, written from it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tap_circleci.about import CAPABILITIES
from tap_circleci.config import KEYS, Key
from tap_circleci.discover import schema_of
from tap_circleci.streams import STREAMS, Stream
from tests.integration.targets import table

ROOT = Path(__file__).parent.parent
STREAMS_PAGE = ROOT / "docs" / "streams.md"
MELTANO = ROOT / "examples" / "meltano" / "meltano.yml"
OPERATIONS = ROOT / "docs" / "operations.md"
TARGETS = re.compile(r"(?<=\n\|---\|---\|---\|---\|---\|---\|---\|---\|---\|\n).*?(?=<!-- to here. -->\n)", re.DOTALL)
SETTINGS = re.compile(r"(?<=# Made by `make docs` from here:\n).*?(?=    # to here\.\n)", re.DOTALL)

HEAD = """\
# The streams and their columns

This page is made by `make docs` from `tap_circleci/streams/` and `tap_circleci/schemas/`; a test compares them.

The eleven streams that are always there come first, then those to be named in `extra_streams`. Keys are never null;
every other column may be. Date-times are UTC. `object` without columns below it is a free map, sent whole. Columns that
begin with `_`, and ids of parents, are added by the tap. What a stream costs in calls is in
[operations.md](operations.md#what-it-costs).
"""


def streams_page() -> str:
    """docs/streams.md: each stream with where it comes from, its key, and the meaning of every column."""
    return "\n".join([HEAD, *(_section(stream) for stream in STREAMS.values())])


def _section(stream: Stream) -> str:
    query = "&".join(f"{name}={value}" for name, value in stream.source.params.items())
    facts = [
        f"`{'POST' if stream.is_export else 'GET'} {stream.source.path}{'?' + query if query else ''}`"
        f" ([CircleCI's page]({stream.source.docs}))",
        "key " + ", ".join(f"`{column}`" for column in stream.key),
        f"INCREMENTAL by `{stream.replication_key}`" if stream.replication_key else "FULL_TABLE",
        *([f"below `{stream.parent}`"] if stream.parent else []),
        *(["only if `extra_streams` names it"] if stream.is_extra else []),
    ]
    rows = [
        f"| `{name}` | {kind} | {meaning.replace('|', chr(92) + '|')} |"
        for name, kind, meaning in _columns(schema_of(stream.name)["properties"])
    ]
    return "\n".join(
        [
            f"## {stream.name}",
            "",
            *(f"* {fact}" for fact in facts),
            "",
            "| column | type | meaning |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def _columns(properties: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str, str]]:
    """The columns with their types and meanings, each followed by those inside it."""
    for name, schema in properties.items():
        items = schema.get("items", {})
        yield above + name, _kind(schema), schema["description"]
        yield from _columns(schema.get("properties", {}), f"{above}{name}.")
        yield from _columns(items.get("properties", {}), f"{above}{name}[].")


def _kind(schema: Mapping[str, Any]) -> str:
    kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    (kind,) = (kind for kind in kinds if kind != "null")
    return str(schema.get("format", kind))


def meltano_settings() -> str:
    """The settings and capabilities of the tap's plugin definition for Meltano, as YAML."""
    lines = [
        f"    capabilities: [{', '.join(CAPABILITIES)}]",
        "    settings_group_validation:",
        f"    - [{', '.join(key.name for key in KEYS.values() if key.required)}]",
        "    settings:",
    ]
    for key in KEYS.values():
        lines += [
            f"    - name: {key.name}",
            f"      label: {key.name.replace('_', ' ').capitalize()}",
            f"      kind: {_meltano_kind(key)}",
            *(["      sensitive: true"] if key.secret else []),
            *([f"      value: {json.dumps(_meltano_value(key))}"] if _has_fixed_default(key) else []),
            f"      description: {json.dumps(key.description)}",
        ]
    return "\n".join([*lines, ""])


def _has_fixed_default(key: Key) -> bool:
    """Whether the default is worth naming: not none, and not the user agent, in which the version stands."""
    return key.default not in (None, []) and key.name != "user_agent"


def _meltano_kind(key: Key) -> str:
    """Meltano 4 cannot pass a decimal on, so numbers with decimals are strings."""
    if key.name == "start_date":
        return "date_iso8601"
    return key.json_type if key.json_type in ("integer", "boolean") else "string"


def _meltano_value(key: Key) -> Any:
    return str(key.default) if _meltano_kind(key) == "string" else key.default


def meltano_file() -> str:
    """The Meltano example with the settings as they are in the code."""
    return SETTINGS.sub(lambda _: meltano_settings(), MELTANO.read_text(encoding="utf-8"))


def operations_page() -> str:
    """docs/operations.md with the table of targets as they are tried."""
    lines = "".join(f"{line}\n" for line in table())
    return TARGETS.sub(lambda _: lines, OPERATIONS.read_text(encoding="utf-8"))


def main() -> None:
    """Write what is made."""
    STREAMS_PAGE.write_text(streams_page(), encoding="utf-8")
    MELTANO.write_text(meltano_file(), encoding="utf-8")
    OPERATIONS.write_text(operations_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
