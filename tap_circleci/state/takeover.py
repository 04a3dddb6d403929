"""Converts the state of tap-circle-ci 2.0.0, recognized by its shape.

It has a time for each project slug under `pipelines`, a map of pipeline ids under `workflows`, and times under the name
of a field in the other streams.
"""

from collections.abc import Mapping
from typing import Any

from tap_circleci.streams import ROOT, STREAMS, WALK_NAMES
from tap_circleci.values.slugs import normalise
from tap_circleci.values.times import EPOCH, brief

Json = Mapping[str, Any]


def is_tap_circle_ci(bookmarks: Json) -> bool:
    """Whether bookmarks are those of tap-circle-ci: times in place of our objects, or without a parent."""
    plain = (
        entry for name in WALK_NAMES if isinstance(bookmarks.get(name), dict) for entry in bookmarks[name].values()
    )
    return any(isinstance(entry, str) for entry in plain) or any(
        key in ("currently_syncing", STREAMS[name].replication_key)
        for name, entries in bookmarks.items()
        if name in STREAMS and name not in WALK_NAMES and isinstance(entries, dict)
        for key in entries
    )


def from_tap_circle_ci(bookmarks: Json) -> tuple[Json, list[str]]:
    """The bookmarks in our form, and sentences about what is used and what is ignored.

    The pipelines up to the time of a slug were sent. Workflows and jobs may be incomplete, so they are read again.
    """
    found: dict[str, Any] = {}
    remarks: list[str] = []
    for name, entries in bookmarks.items():
        if name not in STREAMS or not isinstance(entries, dict):
            found[name] = entries
        elif name == ROOT.name:
            found[name] = {slug: _entry(value) for slug, value in entries.items()}
            remarks += [
                f"State of tap-circle-ci used for {known}: {ROOT.name} up to {value} are not sent again;"
                " workflows and jobs, which may be incomplete, are read from start_date."
                for slug, value in entries.items()
                if isinstance(value, str) and (known := normalise(slug)) is not None
            ]
        elif entries:
            remarks.append(f"State of tap-circle-ci: bookmarks.{name} is not needed; ignored.")
    return found, remarks


def _entry(value: object) -> object:
    if not isinstance(value, str):
        return value
    return {str(ROOT.replication_key): value, "seen": [{"as_of": value, "looked_back_to": brief(EPOCH)}]}
