"""The state that one run keeps for the next: its values, its JSON, and how that is read.

    {"currently_syncing": null,
     "bookmarks": {"<stream>": {"<project slug, or the parent's ids>": {
       "<replication key>": "<highest value sent>",       streams that have one
       "start_date": T,                                   those, and the streams of the walk
       "seen": [{"as_of": T, "looked_back_to": T, "since": T}, ...], "retry": ["<pipeline id>", ...],
                                                          the streams of the walk, see `seen.py`
       "pending": T, "pending_ids": ["<id>", ...],        its root, and what is read once below pipelines
       "recent": ["<digest>", ...],                       what is read once below pipelines
       "job_names": ["<pattern>", ...],                   streams that are limited to parents of some names
       "next_build": N,                                   the root of the walk, and lists that are read by numbers
       "builds_as_of": T,                                 the root of the walk
       "export": {"id": "<of the service>", "start": T, "end": T, "asked_at": T, "replaces_broken": true}}}}}
                                                          streams of exports

The stream alone decides which keys an entry has, and every key is always present: null or [] if there is no value.
Some runners merge two states key by key, objects within objects. Each entry then comes completely from one of the two
states, so its claims stay true.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from tap_circleci.config import load_text, parsed
from tap_circleci.state.takeover import from_tap_circle_ci, is_tap_circle_ci
from tap_circleci.streams import ROOT, STREAMS, WALK_NAMES, Stream, is_limited, is_read_once
from tap_circleci.values.checks import ANYTHING, TEXT, Entries, Items, Object, Shape, Value, check_shape
from tap_circleci.values.slugs import normalise, usable_id
from tap_circleci.values.times import EPOCH, brief, iso, written
from tap_circleci.walk.seen import Seen, Step

WITHOUT_STATE = "Restore the last state that the target printed, or leave out --state to read everything again."
"""What to do if a state is refused."""


@dataclass(frozen=True)
class Export:
    """An export that was ordered: its id at the service, and its first and last moment, both included.

    `asked_at` is the service's time at which it was ordered, None if an older state does not say. `replaces_broken`: it
    was ordered since the files of an earlier export of the same days could not be read.
    """

    id: str
    start: datetime
    end: datetime
    asked_at: datetime | None = None
    replaces_broken: bool = False


@dataclass(frozen=True)
class Mark:
    """What the state has about one stream below one parent.

    `value` is the highest replication key value sent, `start` the start date of the first sync, `seen` what the walk
    has read. `names` are the patterns of parents' names that limited the stream, None if they are unknown. `next_build`
    is the number at which the next run begins to read a list of builds, `builds_as_of` when that of `find_reruns` was
    last read, `export` the export that the next run reads.
    """

    value: str = ""
    start: datetime | None = None
    seen: Seen = field(default_factory=Seen)
    names: tuple[str, ...] | None = None
    next_build: int | None = None
    export: Export | None = None
    builds_as_of: datetime | None = None


@dataclass
class State:
    """What one run keeps for the next. Changed by the one thread that writes.

    `marks` are by stream and parent. `unknown` are the bookmarks of streams of other versions.
    """

    currently_syncing: str | None = None
    marks: dict[str, dict[str, Mark]] = field(default_factory=dict)
    unknown: dict[str, Any] = field(default_factory=dict)

    def mark(self, stream: str, key: str) -> Mark:
        """The mark of a stream below a parent; an empty mark if there is none."""
        return self.marks.get(stream, {}).get(key, Mark())

    def keep(self, stream: str, key: str, mark: Mark) -> None:
        """Replace the mark of a stream below a parent."""
        self.marks.setdefault(stream, {})[key] = mark

    def note(self, stream: str, key: str, value: str) -> None:
        """Keep a replication key value that was sent, if it is higher than the one before."""
        before = self.mark(stream, key)
        if value > before.value:
            self.keep(stream, key, replace(before, value=value))

    def as_json(self) -> dict[str, Any]:
        """The value of a STATE message."""
        bookmarks = {
            name: {key: _entry(stream, mark) for key, mark in self.marks[name].items()}
            for name, stream in STREAMS.items()
            if self.marks.get(name)
        }
        return {"currently_syncing": self.currently_syncing, "bookmarks": {**bookmarks, **self.unknown}}

    def latest(self) -> tuple[str, datetime] | None:
        """The latest time in the state and its place, to check whether it is in the future."""
        moments = (
            (moment, f"bookmarks.{name}.{key}.{place}")
            for name, marks in self.marks.items()
            for key, mark in marks.items()
            for place, moment in _past(STREAMS[name], mark)
        )
        moment, place = max(moments, default=(None, ""))
        return None if moment is None else (place, moment)


def _past(stream: Stream, mark: Mark) -> Iterator[tuple[str, datetime]]:
    """The times of a mark that are in the past when it is written."""
    if mark.value:
        yield str(stream.replication_key), iso(mark.value)
    if mark.start is not None:
        yield "start_date", mark.start
    for number, step in enumerate(mark.seen.steps):
        yield f"seen[{number}].as_of", step.as_of
    if mark.export is not None:
        yield "export.end", mark.export.end
        if mark.export.asked_at is not None:
            yield "export.asked_at", mark.export.asked_at


# Written


def _entry(stream: Stream, mark: Mark) -> dict[str, Any]:
    """A mark as JSON; the stream alone decides its keys."""
    entry: dict[str, Any] = {}
    is_walk = stream.name in WALK_NAMES
    if stream.replication_key is not None:
        entry[stream.replication_key] = mark.value or None
    if stream.replication_key is not None or is_walk:
        entry["start_date"] = _text(mark.start)
    if is_walk:
        steps = [
            {"as_of": brief(step.as_of), "looked_back_to": brief(step.looked_back_to), "since": _text(step.since)}
            for step in mark.seen.steps
        ]
        entry |= {"seen": steps, "retry": list(mark.seen.retry)}
        if stream is ROOT or is_read_once(stream):
            entry |= {"pending": _text(mark.seen.pending), "pending_ids": list(mark.seen.pending_ids)}
        if is_read_once(stream):
            entry["recent"] = list(mark.seen.recent)
    if is_limited(stream):
        entry["job_names"] = None if mark.names is None else list(mark.names)
    if stream is ROOT or stream.timing.by_number:
        entry["next_build"] = mark.next_build
    if stream is ROOT:
        entry["builds_as_of"] = _text(mark.builds_as_of)
    if stream.is_export:
        entry["export"] = _export_as_json(mark.export)
    return entry


def _export_as_json(export: Export | None) -> dict[str, Any]:
    return {
        "id": export and export.id,
        "start": export and brief(export.start),
        "end": export and brief(export.end),
        "asked_at": export and _text(export.asked_at),
        "replaces_broken": export and export.replaces_broken,
    }


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else brief(moment)


# Read


def load(path: str | None) -> tuple[State, list[str]]:
    """The state in a file, and warnings; a new state without a file. Raises `BadInput`.

    `tail -1` writes an empty file if a target has printed nothing.
    """
    if not path:
        return State(), []
    text = load_text(path, "state")
    if not text.strip():
        return State(), [f"The state file {path} is empty; starting without a state."]
    return read(parsed(text, path, "state"), path)


def read(raw: Mapping[str, Any], path: str) -> tuple[State, list[str]]:
    """The state in `raw`, read from `path`, and warnings: another tap's state, streams of another version.

    A whole STATE message is accepted for its value, and the output of `meltano state get` for the state in it. Raises
    `BadInput` with one sentence for each mistake.
    """
    for wrapped in (raw.get("value") if raw.get("type") == "STATE" else None, raw.get("singer_state")):
        raw = wrapped if isinstance(wrapped, dict) else raw
    bookmarks = raw.get("bookmarks")
    remarks: list[str] = []
    if isinstance(bookmarks, dict) and is_tap_circle_ci(bookmarks):
        bookmarks, remarks = from_tap_circle_ci(bookmarks)
    check_shape({**raw, "bookmarks": bookmarks}, _STATE, path)
    state = State()
    for name, entries in (bookmarks or {}).items():
        if name in STREAMS:
            for key, entry in (entries or {}).items():
                state.keep(name, normalise(key) or key, _mark(STREAMS[name], entry))
        else:
            remarks.append(f"{path}: bookmarks.{name} is not a stream of this version; it is kept as it is.")
            state.unknown[name] = entries
    syncing = raw.get("currently_syncing")
    if syncing in STREAMS:
        state.currently_syncing = ROOT.name if syncing in WALK_NAMES else syncing
    elif syncing:
        remarks.append(f"{path}: currently_syncing {syncing} is not a stream of this version; ignored.")
    return state, remarks


def _mark(stream: Stream, entry: Mapping[str, Any] | str | None) -> Mark:
    """The mark in an entry. Version 1.1 left out nulls, and wrote a text if the replication key value was alone."""
    if not isinstance(entry, dict):
        entry = {str(stream.replication_key): entry}
    value = _moment(entry.get(stream.replication_key or ""))
    names = entry.get("job_names")
    return Mark(
        "" if value is None else written(value),
        _moment(entry.get("start_date")),
        Seen(
            tuple(_step(step) for step in entry.get("seen") or ()),
            _moment(entry.get("pending")),
            tuple(entry.get("pending_ids") or ()),
            tuple(entry.get("retry") or ()),
            tuple(entry.get("recent") or ()),
        ),
        None if names is None else tuple(names),
        entry.get("next_build"),
        _export(entry.get("export") or {}),
        _moment(entry.get("builds_as_of")),
    )


def _step(step: Mapping[str, str]) -> Step:
    return Step(iso(step["as_of"]), iso(step["looked_back_to"]), _moment(step.get("since")))


def _export(export: Mapping[str, Any]) -> Export | None:
    if export.get("id") is None:
        return None
    start, end, asked_at = iso(export["start"]), iso(export["end"]), _moment(export.get("asked_at"))
    return Export(export["id"], start, end, asked_at, bool(export.get("replaces_broken")))


def _moment(value: str | None) -> datetime | None:
    return None if value is None else iso(value)


# Checked


def _is_moment(value: object) -> bool:
    try:
        return bool(iso(value if isinstance(value, str) else ""))
    except ValueError:
        return False


def _is_export(export: Mapping[str, str]) -> bool:
    values = [export.get(name) for name in ("id", "start", "end")]
    if None in values:
        return not any(values)
    return iso(export["start"]) <= iso(export["end"])


_MOMENT = Value("an ISO 8601 date-time", _is_moment)
_AFTER_1970 = Value("an ISO 8601 date-time after 1970", lambda value: _is_moment(value) and iso(value) >= EPOCH)
_FIELDS: Mapping[str, Shape] = {
    "start_date": _MOMENT,
    "seen": Items(
        Object(
            {"as_of": _AFTER_1970, "looked_back_to": _MOMENT, "since": _MOMENT}, frozenset({"as_of", "looked_back_to"})
        )
    ),
    "pending": _MOMENT,
    "pending_ids": Items(TEXT),
    "retry": Items(TEXT),
    "recent": Items(TEXT),
    "job_names": Items(TEXT),
    "next_build": Value("a whole number", lambda value: type(value) is int and value >= 0),
    "builds_as_of": _MOMENT,
    "export": Object(
        {
            "id": Value("the id of an export", lambda value: isinstance(value, str) and usable_id(value) is not None),
            "start": _AFTER_1970,
            "end": _AFTER_1970,
            "asked_at": _AFTER_1970,
            "replaces_broken": Value("true or false", lambda value: isinstance(value, bool)),
        },
        rule=Value("the id of an export with a start and an end after it, or null in all", _is_export),
    ),
}


def _shape_of_entry(stream: Stream, entry: object) -> Shape:
    if isinstance(entry, str) and stream.replication_key is not None and stream.name not in WALK_NAMES:
        return _AFTER_1970  # as version 1.1 wrote it
    fields = {**_FIELDS, str(stream.replication_key): _AFTER_1970}
    return Object({name: fields[name] for name in _entry(stream, Mark())})


def _shape_of_stream(name: str, _: object) -> Shape:
    if name not in STREAMS:
        return ANYTHING
    is_slug = Value("a project slug such as gh/acme/api", lambda key: normalise(key) is not None)
    return Entries(lambda _, entry: _shape_of_entry(STREAMS[name], entry), is_slug if name in WALK_NAMES else None)


_STATE = Object({"currently_syncing": TEXT, "bookmarks": Entries(_shape_of_stream)})
