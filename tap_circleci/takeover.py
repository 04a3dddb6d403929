"""States of other origin, told by their shape and rewritten into ours: 1.0.x of this tap, and tap-circle-ci 2.0.0."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from tap_circleci.errors import BadInput
from tap_circleci.slugs import normalise
from tap_circleci.streams import ROOT, STREAMS, walk_streams
from tap_circleci.text import quoted
from tap_circleci.times import EPOCH, brief, iso

OLD_PERIOD = timedelta(days=32)
"""In 1.0.x every pipeline that could change was looked at this often."""

Json = Mapping[str, Any]


def taken_over(raw: Json, path: str) -> tuple[Json, list[str]]:
    """The state in our form, and sentences on what of another tap's state, read from `path`, was of use.

    Raises `BadInput` for a project of 1.0.x that cannot be rewritten; what else is wrong is left for the reader.
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


def _from_version_1_0(marks: Json, path: str) -> Json:
    found: dict[str, Any] = {name: values for name, values in marks.items() if name != "walks"}
    wrong = []
    for stream in walk_streams():
        values = marks.get(stream.name) or {}
        if not isinstance(values, dict) or not isinstance(marks["walks"], dict):
            return marks
        entries = {slug: {str(stream.replication_key): value} for slug, value in values.items()}
        for slug, walk in marks["walks"].items():
            try:
                entry = _entry_1_0(walk, stream.name)
            except (AttributeError, KeyError, TypeError, ValueError):
                wrong.append(f"{path}: bookmarks.walks.{slug} must be as version 1.0 writes it, found {quoted(walk)}.")
                continue
            entries[slug] = {**entries.get(slug, {}), **entry}
        found[stream.name] = {slug: entry for slug, entry in entries.items() if entry}
    if wrong:
        raise BadInput(*dict.fromkeys(wrong))
    return {name: values for name, values in found.items() if values}


def _entry_1_0(walk: Json, name: str) -> dict[str, Any]:
    """What a project's entry says of one stream. Raises what a thing of another shape makes it raise."""
    if not walk.keys() <= {"synced_at", "looked_back_to", "pending_from", "open", "retry"}:
        raise ValueError("a key that version 1.0 does not write")
    entry: dict[str, Any] = {}
    steps = list(_steps_1_0(walk, name))
    if steps:
        entry["seen"] = steps
    if name == ROOT.name and walk.get("pending_from") is not None:
        entry["pending"] = walk["pending_from"]
    retry = walk.get("retry")
    if isinstance(retry, list) and name != ROOT.name:  # as 1.0.0 wrote it: for all streams
        entry["retry"] = retry
    elif isinstance(retry, dict):
        entry["retry"] = [pipeline for pipeline, streams in retry.items() if name in streams]
    elif retry is not None:
        raise ValueError("not a list of pipelines")
    return entry


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


# tap-circle-ci 2.0.0: a plain timestamp per slug, and one per pipeline


def _is_tap_circle_ci(marks: Json) -> bool:
    """Whether the marks are those of tap-circle-ci: plain times where we keep objects, or named by no parent."""
    names = [stream.name for stream in walk_streams()]
    plain = (value for name in names if isinstance(marks.get(name), dict) for value in marks[name].values())
    return any(isinstance(value, str) for value in plain) or any(
        key in ("currently_syncing", STREAMS[name].replication_key)
        for name, values in marks.items()
        if name in STREAMS and name not in names and isinstance(values, dict)
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
            found[name] = {slug: _entry_tap_circle_ci(slug, value, remarks) for slug, value in values.items()}
        elif values:
            remarks.append(f"{len(values)} marks of tap-circle-ci under bookmarks.{name} are not needed any more.")
    return found, remarks


def _entry_tap_circle_ci(slug: str, value: object, remarks: list[str]) -> object:
    if not isinstance(value, str):
        return value
    name = normalise(slug)
    if name is not None:
        remarks.append(
            f"The state of tap-circle-ci is taken over for {name}: {ROOT.name} up to {value} are not sent again;"
            " what lies below them, which it left incomplete, starts at start_date."
        )
    return {str(ROOT.replication_key): value, "seen": [{"as_of": value, "looked_back_to": brief(EPOCH)}]}
