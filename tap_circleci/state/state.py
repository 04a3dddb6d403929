"""The state: what one run leaves to the next, its JSON, and the reading of it.

    {"currently_syncing": null,
     "bookmarks": {
       "<stream>": {"<project slug, or the parent's ids>": "<highest replication key value sent>"},
       "<stream of exports>": {"<parent's id>": {
          "<replication key>": "<last day sent>",
          "export": {"id": "<of the service>", "start": T, "end": T}}},
       "<stream of the walk>": {"<project slug>": {
          "<replication key>": "<highest value sent>",
          "seen": [{"as_of": T, "looked_back_to": T, "since": T}, ...],
          "pending": T,
          "retry": ["<pipeline id>", ...],
          "start_date": T}}}}

`seen`, `pending`, `retry` and `start_date` are explained in `seen.py`. `export` is one that was asked for and is still
to be collected; without it, the last day stands alone as in the other streams. What is not known is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tap_circleci.errors import BadInput
from tap_circleci.state.takeover import taken_over
from tap_circleci.streams import ROOT, STREAMS, WALK, WALK_NAMES, Stream
from tap_circleci.values.slugs import normalise, usable_id
from tap_circleci.values.text import quoted, type_name
from tap_circleci.values.times import EPOCH, brief, iso, written
from tap_circleci.walk.seen import Seen, Step

_SEEN_KEYS = ("seen", "pending", "retry", "start_date")
_STEP_KEYS = ("as_of", "looked_back_to", "since")


@dataclass(frozen=True)
class Export:
    """An export that the service was asked for: its id, and the moments from and to which it goes, both included."""

    id: str
    start: datetime
    end: datetime


@dataclass
class State:
    """What one run leaves to the next. Changed by the one thread that writes.

    `bookmarks` are the highest replication key values sent, by stream and parent; `seen` is what the streams of the
    walk have read, by project and stream; `exports` are those that are still to be collected, by stream and parent.
    """

    currently_syncing: str | None = None
    bookmarks: dict[str, dict[str, str]] = field(default_factory=dict)
    seen: dict[str, dict[str, Seen]] = field(default_factory=dict)
    exports: dict[str, dict[str, Export]] = field(default_factory=dict)

    def note(self, stream: str, key: str, value: str) -> None:
        """Take note of the highest replication key value that has been sent, if there was any."""
        if value:
            values = self.bookmarks.setdefault(stream, {})
            values[key] = max(value, values.get(key, ""))

    def as_json(self) -> dict[str, Any]:
        """The value of a STATE message."""
        marks: dict[str, dict[str, Any]] = {
            name: dict(values) for name, values in self.bookmarks.items() if values and name not in WALK_NAMES
        }
        for name, exports in self.exports.items():
            for key, export in exports.items():
                entry = marks.setdefault(name, {})
                mark = {str(STREAMS[name].replication_key): entry[key]} if key in entry else {}
                kept = {"id": export.id, "start": brief(export.start), "end": brief(export.end)}
                entry[key] = {**mark, "export": kept}
        for stream in WALK:
            values = self.bookmarks.get(stream.name, {})
            found = {}
            for slug in dict.fromkeys((*values, *self.seen)):
                entry = {str(stream.replication_key): values[slug]} if slug in values else {}
                entry |= _seen_as_json(self.seen.get(slug, {}).get(stream.name, Seen()))
                if entry:
                    found[slug] = entry
            if found:
                marks[stream.name] = found
        return {"currently_syncing": self.currently_syncing, "bookmarks": marks}

    def latest(self) -> tuple[str, datetime] | None:
        """The moment that is furthest in time, with its place in the state, for a look whether it is in the future."""
        moments = [
            (iso(value), f"bookmarks.{stream}.{key}")
            for stream, values in self.bookmarks.items()
            for key, value in values.items()
        ]
        moments += [
            (export.end, f"bookmarks.{stream}.{key}.export.end")
            for stream, exports in self.exports.items()
            for key, export in exports.items()
        ]
        moments += [
            (step.as_of, f"bookmarks.{stream}.{slug}.seen")
            for slug, streams in self.seen.items()
            for stream, seen in streams.items()
            for step in seen.steps
        ]
        if not moments:
            return None
        moment, place = max(moments)
        return place, moment


def _seen_as_json(seen: Seen) -> dict[str, Any]:
    value: dict[str, Any] = {}
    if seen.steps:
        value["seen"] = [
            {
                "as_of": brief(step.as_of),
                "looked_back_to": brief(step.looked_back_to),
                **({} if step.since is None else {"since": brief(step.since)}),
            }
            for step in seen.steps
        ]
    if seen.pending is not None:
        value["pending"] = brief(seen.pending)
    if seen.retry:
        value["retry"] = list(seen.retry)
    if seen.start is not None:
        value["start_date"] = brief(seen.start)
    return value


def read(raw: Mapping[str, Any], path: str) -> tuple[State, list[str]]:
    """The state in `raw`, read from `path`, and sentences on what an older or another tap's state gave.

    A whole STATE message stands for its value, and what `meltano state get` prints for the state in it. Raises
    `BadInput` for what cannot be understood, one sentence each.
    """
    for wrapped in (raw.get("value") if raw.get("type") == "STATE" else None, raw.get("singer_state")):
        raw = wrapped if isinstance(wrapped, dict) else raw
    value, remarks = taken_over(raw, path)
    reader = _Reader(path)
    state = reader.state(value)
    if reader.mistakes:
        raise BadInput(*reader.mistakes)
    return state, remarks


class _Reader:
    """Reads one state and collects what is wrong with it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.mistakes: list[str] = []

    def state(self, raw: Mapping[str, Any]) -> State:
        state = State()
        self._only("", raw, ("bookmarks", "currently_syncing"))
        syncing = raw.get("currently_syncing")
        if isinstance(syncing, str) and syncing in STREAMS:
            state.currently_syncing = ROOT.name if syncing in WALK_NAMES else syncing
        elif syncing:
            self._wrong("currently_syncing", syncing, "one of this tap's streams or null")
        for name, marks in self._object("bookmarks", raw.get("bookmarks")).items():
            place = f"bookmarks.{name}"
            if name not in STREAMS:
                self._unknown(place, "this tap's streams")
                continue
            for key, value in self._object(place, marks).items():
                self._entry(state, STREAMS[name], key, value, f"{place}.{key}")
        return state

    def _entry(self, state: State, stream: Stream, key: str, value: object, place: str) -> None:
        """What is kept of one stream below one parent."""
        if stream.is_export and isinstance(value, dict):
            self._export(state, stream, key, value, place)
            return
        if stream.name not in WALK_NAMES:
            self._bookmark(state, stream, normalise(key) or key, value, place)
            return
        slug = normalise(key)
        if slug is None:
            self._wrong(place, key, "the bookmark of a project slug such as gh/acme/api")
            return
        entry = self._object(place, value)
        known = (*_SEEN_KEYS, *([stream.replication_key] if stream.replication_key else []))
        self._only(place, entry, known)
        if stream.replication_key and entry.get(stream.replication_key) is not None:
            self._bookmark(state, stream, slug, entry[stream.replication_key], f"{place}.{stream.replication_key}")
        state.seen.setdefault(slug, {})[stream.name] = Seen(
            tuple(self._steps(f"{place}.seen", entry.get("seen"))),
            self._moment_if_any(f"{place}.pending", entry.get("pending")),
            tuple(self._ids(f"{place}.retry", entry.get("retry"))),
            self._moment_if_any(f"{place}.start_date", entry.get("start_date")),
        )

    def _export(self, state: State, stream: Stream, key: str, entry: Mapping[str, Any], place: str) -> None:
        """The last day sent, and an export that is still to be collected."""
        name = str(stream.replication_key)
        self._only(place, entry, (name, "export"))
        if entry.get(name) is not None:
            self._bookmark(state, stream, key, entry[name], f"{place}.{name}")
        if entry.get("export") is None:
            return
        place = f"{place}.export"
        export = self._object(place, entry["export"])
        self._only(place, export, ("end", "id", "start"))
        export_id = export.get("id")
        if not isinstance(export_id, str) or usable_id(export_id) is None:
            self._wrong(f"{place}.id", export_id, "the id of an export")
            return
        start = self._moment(f"{place}.start", export.get("start"))
        end = self._moment(f"{place}.end", export.get("end"))
        if start is None or end is None:
            return
        if not EPOCH <= start <= end:
            self._wrong(f"{place}.end", export["end"], "a date-time after that of start, and start one after 1970")
            return
        state.exports.setdefault(stream.name, {})[key] = Export(export_id, start, end)

    def _bookmark(self, state: State, stream: Stream, key: str, value: object, place: str) -> None:
        moment = self._moment(place, value)
        if moment is None:
            return
        if moment < EPOCH:
            self._wrong(place, value, "a date-time after 1970")
            return
        state.bookmarks.setdefault(stream.name, {})[key] = written(moment)

    def _steps(self, place: str, value: object) -> Iterator[Step]:
        for number, item in enumerate(self._list(place, value)):
            here = f"{place}[{number}]"
            step = self._object(here, item)
            self._only(here, step, _STEP_KEYS)
            as_of = self._moment(f"{here}.as_of", step.get("as_of"))
            looked_back_to = self._moment(f"{here}.looked_back_to", step.get("looked_back_to"))
            since = self._moment_if_any(f"{here}.since", step.get("since"))
            if as_of is not None and as_of < EPOCH:
                self._wrong(f"{here}.as_of", step["as_of"], "a date-time after 1970")
            if as_of is not None and looked_back_to is not None:
                yield Step(as_of, looked_back_to, since)

    def _ids(self, place: str, value: object) -> Iterable[str]:
        names = self._list(place, value)
        if not all(isinstance(name, str) for name in names):
            self._wrong(place, value, "a list of pipeline ids")
            return ()
        return names

    def _only(self, place: str, entry: Mapping[str, Any], known: Iterable[str]) -> None:
        for name in entry.keys() - set(known):
            self._unknown(f"{place}.{name}".removeprefix("."), ", ".join(sorted(known)))

    def _unknown(self, place: str, known: str) -> None:
        self.mistakes.append(f"{self._path}: {place} is not known; known are {known}.")

    def _object(self, place: str, value: object) -> Mapping[str, Any]:
        if isinstance(value, dict):
            return value
        if value is not None:
            self._wrong(place, value, f"an object, not {type_name(value)}")
        return {}

    def _list(self, place: str, value: object) -> list[Any]:
        if isinstance(value, list):
            return value
        if value is not None:
            self._wrong(place, value, f"a list, not {type_name(value)}")
        return []

    def _moment(self, place: str, value: object) -> datetime | None:
        try:
            return iso(value if isinstance(value, str) else "")
        except ValueError:
            self._wrong(place, value, "an ISO 8601 date-time")
            return None

    def _moment_if_any(self, place: str, value: object) -> datetime | None:
        return None if value is None else self._moment(place, value)

    def _wrong(self, place: str, value: object, wanted: str) -> None:
        self.mistakes.append(f"{self._path}: {place} must be {wanted}, found {quoted(value)}.")
