"""What is new, done, due and settled: the state and its arithmetic, without a clock and without output.

A state looks like this:

    {"currently_syncing": null,
     "bookmarks": {
       "deploy":    {"<organization id>": "<highest updated_at sent>"},
       "schedule":  {"gh/acme/api": "<highest updated-at sent>"},
       "pipelines": {"gh/acme/api": "<highest updated_at sent>"},
       "workflows": {"gh/acme/api": "<highest created_at sent>"},
       "walks": {"gh/acme/api": {
          "synced_at": {"pipelines": T, "workflows": T, "jobs": T},
          "looked_back_to": T,
          "pending_from": T,
          "open": {"streams": [...], "from": T, "down_to": T, "horizon": T},
          "retry": {"<pipeline id>": ["workflows", "jobs"]}}}}}

`synced_at` is when the last complete walk through the project began, by the service's clock: as of then, the stream's
rows are all sent and true; it looked at all pipelines created since `looked_back_to`, of which the oldest that was not
in a final state was created at `pending_from`. `open` is a walk that began at `from` and is done, newest first, down to
`down_to`; it looks back to `horizon`. `retry` names pipelines below which something could not be read, by stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from tap_circleci.errors import BadInput
from tap_circleci.slugs import normalise
from tap_circleci.streams import STREAMS, WALK
from tap_circleci.text import quoted, type_name
from tap_circleci.times import EPOCH, brief, iso, written

FIRST_SYNC = timedelta(days=365)
"""How far back a first sync goes when the user names no date."""
LONGEST = timedelta(days=128)
"""The widest look-back, due every quarter of it: reruns are allowed for 90 days, and so each of them is looked at."""
MARGIN = timedelta(minutes=5)
"""What stopped so shortly before a walk began may not have been told to it yet."""
TOLERANCE = MARGIN
"""How far ahead of the service's clock a mark may be: what stopped within the margin counts as not seen anyway."""
MOST_RETRIES = 20
"""Pipelines of one project that the state names for another try; with more, the walk stays open instead."""
FINAL_PIPELINE = ("created", "errored")  # no sets: whatever the API sends is looked for here
FINAL_WORKFLOW = ("success", "failed", "error", "canceled", "unauthorized", "not_run")


# The arithmetic of one stream in one project


def look_backs(lookback: timedelta) -> list[tuple[timedelta, timedelta]]:
    """The widths of the look-backs beyond the usual one, narrow to wide, and how often each is due.

    The widths are halves of the longest whatever the usual one is, so that they stay the same when the user changes it.
    """
    found = []
    width, period = LONGEST, LONGEST / 4
    while width > lookback:
        found.append((width, period))
        width /= 2
        period = width / 3
    return found[::-1]


def last_due(moment: datetime, period: timedelta) -> datetime:
    """The last time, up to `moment`, at which a look-back of that period was due: a multiple of it from the epoch."""
    return moment - (moment - EPOCH) % period


def depth(synced_at: datetime, now: datetime, lookback: timedelta) -> timedelta:
    """How far behind `synced_at` a walk at `now` looks: the widest look-back that is due, or the usual one.

    With a period of a third of the width, a change on a pipeline of age A is seen before the pipeline is older than
    2 A: take the width w between 1.5 A and 3 A. One is due within w/3, which is A at most, and then the pipeline is not
    older than A + w/3, which is w at most.
    """
    due = lookback
    for width, period in look_backs(lookback):
        if last_due(now, period) > synced_at:
            due = width
    return due


@dataclass(frozen=True)
class Range:
    """Which pipelines of a project one stream takes in a walk, and what below them is settled.

    From `horizon` on, and only those created no later than `newest`. All is settled that was final when it was last
    looked at: at `synced_at` for pipelines created since `known_from`, for older ones at a look-back before. Pipelines
    created before `pending_from` were in a final state themselves.
    """

    horizon: datetime
    synced_at: datetime | None
    lookback: timedelta
    newest: datetime | None = None
    known_from: datetime | None = None
    pending_from: datetime | None = None

    def takes(self, created_at: datetime | None) -> bool:
        """Whether a pipeline of this age is looked at; one of unknown age always is."""
        if created_at is None:
            return True
        return self.horizon <= created_at and (self.newest is None or created_at <= self.newest)

    def pipeline_is_settled(self, state: object, updated_at: datetime | None, created_at: datetime | None) -> bool:
        """Whether a pipeline was sent in its final state before; `updated_at` need not tell when it came to that."""
        if created_at is not None and self.pending_from is not None and self.pending_from <= created_at:
            return False
        return state in FINAL_PIPELINE and _before(updated_at, self.synced_at)

    def workflow_is_settled(self, status: object, stopped_at: datetime | None, created_at: datetime | None) -> bool:
        """Whether a workflow of a pipeline of that `created_at` was sent, with its jobs, in its final state before."""
        return status in FINAL_WORKFLOW and created_at is not None and _before(stopped_at, self._looked_at(created_at))

    def _looked_at(self, created_at: datetime) -> datetime | None:
        """The last time that for sure a walk looked at a pipeline: what it could tell was sent."""
        if self.synced_at is None:
            return None
        if self.known_from is not None and self.known_from <= created_at:
            return self.synced_at
        looks = [
            last_due(min(self.synced_at, created_at + width), period) for width, period in look_backs(self.lookback)
        ]
        return max(looks, default=None)


def _before(moment: datetime | None, look: datetime | None) -> bool:
    return moment is not None and look is not None and moment < look - MARGIN


# What the state keeps of one project

Owed = Mapping[str, frozenset[str]]
"""Pipeline ids, and for which streams what is below them could not be read."""


@dataclass(frozen=True)
class Open:
    """A walk that is not finished: it began at `started` and is done, for these streams, down to `down_to`.

    What is done of it was looked at as far back as `horizon`, if it is known.
    """

    started: datetime
    down_to: datetime
    streams: frozenset[str]
    horizon: datetime | None = None


@dataclass(frozen=True)
class Walk:
    """The marks of one project. Each stream's walk at its `synced_at` looked back to `looked_back_to` or further.

    No pipeline but those created since `pending_from` was last seen in a state that is not final.
    """

    synced_at: Mapping[str, datetime] = field(default_factory=dict)
    looked_back_to: datetime | None = None
    pending_from: datetime | None = None
    open: Open | None = None
    retry: Owed = field(default_factory=dict)


@dataclass(frozen=True)
class Pass:
    """One way down the list of a project's pipelines: when it began and which pipelines each stream takes.

    `extends`: it only brings an unfinished walk, whose rest cannot be read, up to date.
    """

    started: datetime
    ranges: Mapping[str, Range]
    extends: bool = False

    @property
    def horizon(self) -> datetime:
        """Nothing older than this is taken by any stream."""
        return min(taken.horizon for taken in self.ranges.values())

    @property
    def further(self) -> timedelta | None:
        """How far it looks behind the last walk, if that is further than on every sync."""
        depths = [
            taken.synced_at - taken.horizon
            for taken in self.ranges.values()
            if taken.synced_at is not None and taken.newest is None and taken.synced_at - taken.horizon > taken.lookback
        ]
        return max(depths, default=None)

    def awaits(self, state: object, created_at: datetime) -> bool:
        """Whether a pipeline is to be sent again once it is in a final state, if any look-back may see that."""
        own = self.ranges.get(WALK[0])
        looked_at = own is not None and own.takes(created_at) and created_at >= self.started - LONGEST
        return looked_at and state not in FINAL_PIPELINE


def unfinished(walk: Walk, selected: Iterable[str], lookback: timedelta, start_date: datetime | None) -> Pass | None:
    """The pass that finishes the open walk, if there is one for any of the selected streams."""
    if walk.open is None:
        return None
    streams = walk.open.streams.intersection(selected)
    if not streams:
        return None
    started, down_to = walk.open.started, walk.open.down_to
    ranges = {stream: _range(walk, stream, started, lookback, start_date) for stream in streams}
    return Pass(started, {stream: replace(taken, newest=down_to) for stream, taken in ranges.items()})


def fresh(walk: Walk, selected: Iterable[str], now: datetime, lookback: timedelta, start_date: datetime | None) -> Pass:
    """The pass over what is new or due at `now`, once no walk is open.

    If one still is, because its rest cannot be read, the pass goes no deeper than what is done of it.
    """
    streams = list(selected)
    ranges = {stream: _range(walk, stream, now, lookback, start_date) for stream in streams}
    done = walk.open
    rest = done.streams.intersection(streams) if done is not None else frozenset()
    if done is not None:
        for stream in rest:
            horizon = max(done.started - depth(done.started, now, lookback), done.down_to)
            known_from = done.horizon and max(done.horizon, done.down_to)
            ranges[stream] = Range(
                horizon, done.started, lookback, known_from=known_from, pending_from=walk.pending_from
            )
    return Pass(now, ranges, extends=bool(rest))


def _range(walk: Walk, stream: str, now: datetime, lookback: timedelta, start_date: datetime | None) -> Range:
    """What a stream takes at `now`: from the start date at first, later what is new or due.

    The start date counts for the first sync only; later it merely ends the look-backs, never the new rows.
    """
    start = now - FIRST_SYNC if start_date is None else start_date
    synced_at = walk.synced_at.get(stream)
    if synced_at is None:
        return Range(start, None, lookback)
    horizon = synced_at - depth(synced_at, now, lookback)
    horizon = max(horizon, min(start, synced_at))
    return Range(horizon, synced_at, lookback, known_from=walk.looked_back_to, pending_from=walk.pending_from)


def page_done(walk: Walk, this: Pass, down_to: datetime | None, pending: datetime | None, retry: Owed) -> Walk:
    """The marks after a page of a pass that is now done down to `down_to`, the newest of what is still to come.

    `pending` is when the oldest pipeline of the pass so far was created that is not in a final state.
    """
    if this.extends or down_to is None:
        return walk
    finishes = [taken.newest for taken in this.ranges.values() if taken.newest is not None]
    done = Open(this.started, min([down_to, *finishes]), frozenset(this.ranges), _looked_back_to(walk, this))
    return replace(walk, open=done, pending_from=_earlier(walk.pending_from, pending), retry=retry)


def pass_done(walk: Walk, this: Pass, pending: datetime | None, retry: Owed) -> Walk:
    """The marks after a pass that went all the way down."""
    pending = _earlier(_still_pending(walk, this), pending)
    if this.extends and walk.open is not None:
        done = replace(walk.open, started=this.started, horizon=_looked_back_to(walk, this))
        return replace(walk, open=done, pending_from=pending, retry=retry)
    synced_at = {**walk.synced_at, **dict.fromkeys(this.ranges, this.started)}
    marks = {stream: synced_at[stream] for stream in WALK if stream in synced_at}
    looked_back_to = _looked_back_to(walk, this)
    if marks.keys() > this.ranges.keys():  # the other streams may have looked less far
        looked_back_to = max(looked_back_to, walk.looked_back_to or this.started)
    return Walk(marks, looked_back_to, pending, None, retry)


def _still_pending(walk: Walk, this: Pass) -> datetime | None:
    """The mark of what was pending before a pass, unless the pass has seen all of that again.

    What is older than the longest look-back stays as it is, and does not count.
    """
    if walk.pending_from is None:
        return None
    own = this.ranges.get(WALK[0])
    before = max(walk.pending_from, this.started - LONGEST)
    seen_again = own is not None and own.newest is None and own.horizon <= before
    return None if seen_again else before


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    return min((moment for moment in (one, other) if moment is not None), default=None)


def _looked_back_to(walk: Walk, this: Pass) -> datetime:
    """From when on all streams of a pass look at all pipelines, in it or in the unfinished walk that it takes up."""
    horizon = max(taken.horizon for taken in this.ranges.values())
    takes_up = this.extends or any(taken.newest is not None for taken in this.ranges.values())
    return max(horizon, walk.open.horizon or this.started) if takes_up and walk.open is not None else horizon


# The state as a whole


@dataclass
class State:
    """What one run leaves to the next. Changed by the one thread that writes."""

    currently_syncing: str | None = None
    bookmarks: dict[str, dict[str, str]] = field(default_factory=dict)
    walks: dict[str, Walk] = field(default_factory=dict)

    def note(self, stream: str, key: str, value: str) -> None:
        """Take note of the highest replication key value that has been sent, if there was any."""
        if value:
            marks = self.bookmarks.setdefault(stream, {})
            marks[key] = max(value, marks.get(key, ""))

    def as_json(self) -> dict[str, Any]:
        """The value of a STATE message."""
        marks: dict[str, Any] = {stream: dict(keys) for stream, keys in self.bookmarks.items() if keys}
        if self.walks:
            marks["walks"] = {slug: _walk_as_json(walk) for slug, walk in self.walks.items()}
        return {"currently_syncing": self.currently_syncing, "bookmarks": marks}

    def latest(self) -> tuple[str, datetime] | None:
        """The mark that is furthest in time, with its place in the state, for a look whether it is in the future."""
        moments = [
            (iso(value), f"bookmarks.{stream}.{key}")
            for stream, keys in self.bookmarks.items()
            for key, value in keys.items()
        ]
        for slug, walk in self.walks.items():
            moments += [(moment, f"bookmarks.walks.{slug}.synced_at.{name}") for name, moment in walk.synced_at.items()]
            if walk.open is not None:
                moments.append((walk.open.started, f"bookmarks.walks.{slug}.open.from"))
        if not moments:
            return None
        moment, place = max(moments)
        return place, moment


def higher(highest: str, value: str | None, now: datetime) -> str:
    """The higher of two replication key values, "" for none.

    A `value` that lies in the service's future is a mistake of the data; it must not hide the rows to come.
    """
    return highest if value is None or value > written(now + TOLERANCE) else max(highest, value)


def _walk_as_json(walk: Walk) -> dict[str, Any]:
    value: dict[str, Any] = {}
    if walk.synced_at:
        value["synced_at"] = {stream: brief(moment) for stream, moment in walk.synced_at.items()}
    for name in ("looked_back_to", "pending_from"):
        moment = getattr(walk, name)
        if moment is not None:
            value[name] = brief(moment)
    if walk.open is not None:
        streams = [stream for stream in WALK if stream in walk.open.streams]
        value["open"] = {"streams": streams, "from": brief(walk.open.started), "down_to": brief(walk.open.down_to)}
        if walk.open.horizon is not None:
            value["open"]["horizon"] = brief(walk.open.horizon)
    if walk.retry:
        value["retry"] = {name: [stream for stream in WALK if stream in owed] for name, owed in walk.retry.items()}
    return value


# Reading a state: what can be understood is used, what cannot is named


def read(raw: Mapping[str, Any], path: str) -> tuple[State, list[str]]:
    """The state in `raw`, read from `path`, and sentences on what another tap's state gave.

    Understands our own states and those of tap-circle-ci 2.0.0: there a timestamp per slug proves that the pipelines
    up to it were sent, while workflows and jobs, which it sent incompletely and with stale statuses, start anew. A
    whole STATE message stands for its value. Raises `BadInput` for anything else.
    """
    reader = _Reader(path)
    state = reader.state(raw["value"] if raw.get("type") == "STATE" and isinstance(raw.get("value"), dict) else raw)
    if reader.mistakes:
        raise BadInput(*reader.mistakes)
    return state, reader.remarks


_WALK_KEYS = frozenset({"synced_at", "looked_back_to", "pending_from", "open", "retry"})


class _Reader:
    """Reads one state and collects what is wrong with it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.mistakes: list[str] = []
        self.remarks: list[str] = []

    def state(self, raw: Mapping[str, Any]) -> State:
        state = State()
        for key in raw.keys() - {"bookmarks", "currently_syncing"}:
            self._wrong(key, raw[key], "nothing that this tap writes")
        syncing = raw.get("currently_syncing")
        if isinstance(syncing, str) and syncing in STREAMS:
            state.currently_syncing = WALK[0] if syncing in WALK else syncing
        elif syncing:
            self._wrong("currently_syncing", syncing, "one of this tap's streams or null")
        marks = self._object("bookmarks", raw.get("bookmarks"))
        for slug, value in self._object("bookmarks.walks", marks.get("walks")).items():
            name = self._slug(f"bookmarks.walks.{slug}", slug)
            state.walks[name] = self._walk(f"bookmarks.walks.{slug}", value)
        for stream in marks.keys() - {"walks"}:
            if stream not in STREAMS:
                self._wrong(f"bookmarks.{stream}", marks[stream], "one of this tap's streams")
                continue
            self._stream(state, stream, self._object(f"bookmarks.{stream}", marks[stream]))
        return state

    def _stream(self, state: State, stream: str, marks: Mapping[str, Any]) -> None:
        """The bookmarks of one stream, ours or those of tap-circle-ci."""
        anew = 0
        for key, value in marks.items():
            place = f"bookmarks.{stream}.{key}"
            if key == "currently_syncing" and isinstance(value, str):
                anew += 1  # where tap-circle-ci was in the stream; the stream is read from its beginning
                continue
            moment = self._mark(place, value)
            if moment is None:
                continue
            name = self._name(place, stream, key)
            if name is None:
                anew += 1
                continue
            state.bookmarks.setdefault(stream, {})[name] = written(moment)
            if stream == "pipelines" and name not in state.walks:
                state.walks[name] = Walk({"pipelines": moment})
                self.remarks.append(
                    f"The state of tap-circle-ci is taken over for {name}: pipelines up to {brief(moment)} are not"
                    " sent again; workflows and jobs, which it left incomplete, start at start_date."
                )
        if anew:
            self.remarks.append(f"{anew} marks of tap-circle-ci under bookmarks.{stream} are not needed any more.")

    def _name(self, place: str, stream: str, key: str) -> str | None:
        """The key of a bookmark of ours; None for one of tap-circle-ci, per pipeline or for the stream as a whole."""
        if stream == "pipelines":
            return self._slug(place, key)
        if key == STREAMS[stream].replication_key:
            return None
        if stream == "deploy":
            return key
        return (normalise(key) or key) if stream in ("schedule", "workflows") and "/" in key else None

    def _walk(self, place: str, value: object) -> Walk:
        marks = self._object(place, value)
        for key in marks.keys() - _WALK_KEYS:
            self._wrong(f"{place}.{key}", marks[key], "one of " + ", ".join(sorted(_WALK_KEYS)))
        synced_at = {}
        for stream, text in self._object(f"{place}.synced_at", marks.get("synced_at")).items():
            moment = self._mark(f"{place}.synced_at.{stream}", text)
            if stream not in WALK:
                self._wrong(f"{place}.synced_at.{stream}", text, "one of " + ", ".join(WALK))
            elif moment is not None:
                synced_at[stream] = moment
        looked_back_to, pending_from = (
            self._moment_if_any(f"{place}.{key}", marks.get(key)) for key in ("looked_back_to", "pending_from")
        )
        done = self._open(f"{place}.open", marks.get("open"))
        return Walk(synced_at, looked_back_to, pending_from, done, self._owed(f"{place}.retry", marks.get("retry")))

    def _owed(self, place: str, value: object) -> Owed:
        owed = {}
        if isinstance(value, list) and all(isinstance(name, str) for name in value):
            value = {name: [*WALK[1:]] for name in value}  # as 1.0.0 wrote it
        for name, streams in self._object(place, value).items():
            if isinstance(streams, list) and streams and all(stream in WALK[1:] for stream in streams):
                owed[name] = frozenset(streams)
            else:
                self._wrong(f"{place}.{name}", streams, "a list of " + ", ".join(WALK[1:]))
        return owed

    def _open(self, place: str, value: object) -> Open | None:
        marks = self._object(place, value)
        if not marks:
            return None
        started = self._mark(f"{place}.from", marks.get("from"))
        down_to = self._moment(f"{place}.down_to", marks.get("down_to"))
        streams = marks.get("streams")
        if not isinstance(streams, list) or not streams or not all(stream in WALK for stream in streams):
            self._wrong(f"{place}.streams", streams, "a list of " + ", ".join(WALK))
            return None
        if started is None or down_to is None:
            return None
        horizon = self._moment_if_any(f"{place}.horizon", marks.get("horizon"))
        return Open(started, down_to, frozenset(streams), horizon)

    def _object(self, place: str, value: object) -> Mapping[str, Any]:
        if isinstance(value, dict):
            return value
        if value is not None:
            self._wrong(place, value, f"an object, not {type_name(value)}")
        return {}

    def _moment(self, place: str, value: object) -> datetime | None:
        try:
            return iso(value if isinstance(value, str) else "")
        except ValueError:
            self._wrong(place, value, "an ISO 8601 date-time")
            return None

    def _moment_if_any(self, place: str, value: object) -> datetime | None:
        return None if value is None else self._moment(place, value)

    def _mark(self, place: str, value: object) -> datetime | None:
        """A moment at which a service can have said something."""
        moment = self._moment(place, value)
        if moment is not None and moment < EPOCH:
            self._wrong(place, value, "a date-time after 1970")
            return None
        return moment

    def _slug(self, place: str, text: str) -> str:
        slug = normalise(text)
        if slug is None:
            self._wrong(place, text, "the bookmark of a project slug such as gh/acme/api")
        return slug or text

    def _wrong(self, place: str, value: object, wanted: str) -> None:
        self.mistakes.append(f"{self._path}: {place} must be {wanted}, found {quoted(value)}.")
