"""Describes the tap as JSON for hubs and other programs, with the same names as Meltano's SDK taps."""

from importlib.metadata import metadata
from typing import Any

from tap_circleci.config import KEYS, VERSION, Key
from tap_circleci.streams import STREAMS, Stream

CAPABILITIES = ("about", "activate-version", "catalog", "discover", "properties", "state")


def about() -> dict[str, Any]:
    """Name, description, version, capabilities, the settings as a JSON schema, and the streams."""
    return {
        "name": "tap-circleci",
        "description": metadata("tap-circleci")["Summary"],
        "version": VERSION,
        "capabilities": list(CAPABILITIES),
        "settings": {
            "type": "object",
            "properties": {key.name: _setting(key) for key in KEYS.values()},
            "required": [key.name for key in KEYS.values() if key.required],
        },
        "streams": [_stream(stream) for stream in STREAMS.values()],
    }


def _setting(key: Key) -> dict[str, Any]:
    setting: dict[str, Any] = {"description": key.description}
    setting["type"] = key.json_type if isinstance(key.json_type, str) else list(key.json_type)
    if "array" in setting["type"]:
        setting["items"] = {"type": "string"}
    if key.default is not None and not key.required:
        setting["default"] = key.default
    if key.secret:
        setting["secret"] = True
    return setting


def _stream(stream: Stream) -> dict[str, Any]:
    return {
        "name": stream.name,
        "key_properties": list(stream.key),
        "replication_method": stream.replication_method,
        "replication_key": stream.replication_key,
        "parent": stream.parent,
        "extra": stream.is_extra,
        "docs": stream.source.docs,
    }
