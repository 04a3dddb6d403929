"""States of other origin, told by their shape and rewritten into ours: 1.0.x of this tap, and tap-circle-ci 2.0.0."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from tap_circleci.errors import BadInput
from tap_circleci.streams import ROOT, STREAMS, WALK, WALK_NAMES
from tap_circleci.values.slugs import normalise
from tap_circleci.values.text import quoted, type_name
from tap_circleci.values.times import EPOCH, brief, iso

OLD_PERIOD = timedelta(days=32)
"""In 1.0.x every pipeline that could change was looked at this often."""

Json = Mapping[str, Any]


def taken_over(raw: Json, path: str) -> tuple[Json, list[str]]:
    """The state in our form, and sentences on what of another tap's state, read from `path`, was of use.

    Raises `BadInput` for what is wrong with the projects of 1.0.x; what else is wrong is left for the reader.
    """
    marks = raw.get("bookmarks")
    if not isinstance(marks, dict):
        return raw, []
    if "walks" in marks:
        return {**raw, "bookmarks": _from_version_1_0(marks, path)}, []
    if _is_tap_circle_ci(marks):
        bookmarks, remarks = _from_tap_circle_ci(marks)
        return {**raw, "bookmarks": bookmarks}, remarks
    return raw, []


# 1.0.x: one entry a project under `walks`, with a moment for each stream

_STREAMS_1_0 = tuple(stream.name for stream in WALK if not stream.is_extra)
_KEYS_1_0 = ("looked_back_to", "open", "pending_from", "retry", "synced_at")


def _from_version_1_0(marks: Json, path: str) -> Json:
    wrong = [f"{path}: {place} must be {wanted}, found {quoted(value)}." for place, value, wanted in _mistakes(marks)]
    if wrong:
        raise BadInput(*wrong)
    found: dict[str, Any] = {name: values for name, values in marks.items() if name != "walks"}
    for name in _STREAMS_1_0:
        values = marks.get(name) or {}
        if not isinstance(values, dict):  # the reader names it
            continue
        entries = {normalise(key) or key: {str(STREAMS[name].replication_key): value} for key, value in values.items()}
        for key, walk in marks["walks"].items():
            slug = normalise(key) or key
            entries[slug] = {**entries.get(slug, {}), **_entry_1_0(walk, name)}
        found[name] = {slug: entry for slug, entry in entries.items() if entry}
    return {name: values for name, values in found.items() if values}


def _entry_1_0(walk: Json, name: str) -> dict[str, Any]:
    """What a project's entry says of one stream."""
    entry: dict[str, Any] = {}
    steps = list(_steps_1_0(walk, name))
    if steps:
        entry["seen"] = steps
    if name == ROOT.name and walk.get("pending_from") is not None:
        entry["pending"] = walk["pending_from"]
    retry = walk.get("retry") or {}
    if isinstance(retry, list):  # as 1.0.0 wrote it: for all streams
        retry = dict.fromkeys(retry, _STREAMS_1_0)
    names = [pipeline for pipeline, streams in retry.items() if name in streams and name != ROOT.name]
    return {**entry, "retry": names} if names else entry


def _steps_1_0(walk: Json, name: str) -> Iterator[dict[str, Any]]:
    synced_at = (walk.get("synced_at") or {}).get(name)
    open_walk = walk.get("open") or {"streams": ()}
    if name in open_walk["streams"]:
        # How far back a walk looked is not said by the first versions; a first one looked at everything.
        horizon = open_walk.get("horizon") or (None if synced_at else brief(EPOCH))
        if horizon is not None:
            since = max(open_walk["down_to"], horizon, key=iso)
            yield {"as_of": open_walk["from"], "looked_back_to": horizon, "since": since}
    if synced_at is None:
        return
    # Looks fell due by another schedule: what it did not see at the last walk, it saw within the period before.
    looked_back_to = walk.get("looked_back_to") or synced_at
    yield {"as_of": synced_at, "looked_back_to": looked_back_to, "since": looked_back_to}
    yield {"as_of": brief(iso(synced_at) - OLD_PERIOD), "looked_back_to": looked_back_to}


def _mistakes(marks: Json) -> Iterator[tuple[str, object, str]]:
    """The places that are not as version 1.0 writes them, each with what stands there and what should."""
    walks = marks["walks"]
    if not isinstance(walks, dict):
        yield "bookmarks.walks", walks, f"an object, not {type_name(walks)}"
        return
    for slug, walk in walks.items():
        place = f"bookmarks.walks.{slug}"
        if normalise(slug) is None:
            yield place, slug, "the bookmark of a project slug such as gh/acme/api"
        if isinstance(walk, dict):
            yield from ((f"{place}.{key}", walk[key], wanted) for key, wanted in _wrong_keys(walk))
            yield from ((f"{place}.{key}", value, wanted) for key, value, wanted in _wrong_values(walk))
        else:
            yield place, walk, f"an object, not {type_name(walk)}"


def _wrong_keys(walk: Json) -> Iterator[tuple[str, str]]:
    for key in walk.keys() - set(_KEYS_1_0):
        yield key, "one of " + ", ".join(_KEYS_1_0)
    for key in ("synced_at", "open"):
        if not isinstance(walk.get(key, {}), dict) and walk[key] is not None:
            yield key, f"an object, not {type_name(walk[key])}"
    retry = walk.get("retry")
    if isinstance(retry, list):
        is_right = all(isinstance(name, str) for name in retry)
    else:
        is_right = retry is None or isinstance(retry, dict)
    if not is_right:
        yield "retry", "a list of pipeline ids, or an object"


def _wrong_values(walk: Json) -> Iterator[tuple[str, object, str]]:
    """The values that are not as they should be, in objects that are some."""
    moments = {key: walk[key] for key in ("looked_back_to", "pending_from") if walk.get(key) is not None}
    synced_at, opened, retry = (
        walk[key] if isinstance(walk.get(key), dict) else {} for key in ("synced_at", "open", "retry")
    )
    for name, value in synced_at.items():
        moments[f"synced_at.{name}"] = value
        if name not in _STREAMS_1_0:
            yield f"synced_at.{name}", value, "one of " + ", ".join(_STREAMS_1_0)
    lists = {f"retry.{name}": (streams, _STREAMS_1_0[1:]) for name, streams in retry.items()}
    if opened:
        lists["open.streams"] = (opened.get("streams"), _STREAMS_1_0)
        moments |= {f"open.{key}": opened.get(key) for key in ("from", "down_to")}
        moments |= {"open.horizon": opened["horizon"]} if opened.get("horizon") is not None else {}
    for key, (value, names) in lists.items():
        if not isinstance(value, list) or not value or not all(name in names for name in value):
            yield key, value, "a list of " + ", ".join(names)
    for key, value in moments.items():
        found = _moment(value)
        if found is None:
            yield key, value, "an ISO 8601 date-time"
        elif found < EPOCH and (key == "open.from" or key in (f"synced_at.{name}" for name in synced_at)):
            yield key, value, "a date-time after 1970"


def _moment(value: object) -> datetime | None:
    try:
        return iso(value if isinstance(value, str) else "")
    except ValueError:
        return None


# tap-circle-ci 2.0.0: a plain timestamp per slug, and one per pipeline


def _is_tap_circle_ci(marks: Json) -> bool:
    """Whether the marks are those of tap-circle-ci: plain times where we keep objects, or named by no parent."""
    plain = (value for name in WALK_NAMES if isinstance(marks.get(name), dict) for value in marks[name].values())
    return any(isinstance(value, str) for value in plain) or any(
        key in ("currently_syncing", STREAMS[name].replication_key)
        for name, values in marks.items()
        if name in STREAMS and name not in WALK_NAMES and isinstance(values, dict)
        for key in values
    )


def _from_tap_circle_ci(marks: Json) -> tuple[Json, list[str]]:
    """The pipelines up to the time of a slug were sent; workflows and jobs were left incomplete, so they start anew."""
    found: dict[str, Any] = {}
    remarks: list[str] = []
    for name, values in marks.items():
        if name not in STREAMS or not isinstance(values, dict):
            found[name] = values
        elif name == ROOT.name:
            found[name] = {slug: _entry_tap_circle_ci(value) for slug, value in values.items()}
            remarks += [
                f"The state of tap-circle-ci is taken over for {known}: {ROOT.name} up to {value} are not sent again;"
                " what lies below them, which it left incomplete, starts at start_date."
                for slug, value in values.items()
                if isinstance(value, str) and (known := normalise(slug)) is not None
            ]
        elif values:
            remarks.append(f"{len(values)} marks of tap-circle-ci under bookmarks.{name} are not needed any more.")
    return found, remarks


def _entry_tap_circle_ci(value: object) -> object:
    if not isinstance(value, str):
        return value
    return {str(ROOT.replication_key): value, "seen": [{"as_of": value, "looked_back_to": brief(EPOCH)}]}
