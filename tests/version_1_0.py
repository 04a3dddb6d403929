"""The walk of version 1.0.2 over a random history, for the states that it leaves: a compact copy of its arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tap_circleci.values.times import EPOCH, brief
from tests.lives import DAY, PAGE, Pipeline, Project, Sync
from tests.worlds import WALK

MARGIN = timedelta(minutes=5)
WIDEST = 128 * DAY


def look_backs(lookback: timedelta) -> list[tuple[timedelta, timedelta]]:
    """The widths of its look-backs, narrow to wide, and how often each was due."""
    found = []
    width, period = WIDEST, WIDEST / 4
    while width > lookback:
        found.append((width, period))
        width /= 2
        period = width / 3
    return found[::-1]


def last_due(moment: datetime, period: timedelta) -> datetime:
    return moment - (moment - EPOCH) % period


def depth(synced_at: datetime, now: datetime, lookback: timedelta) -> timedelta:
    due = lookback
    for width, period in look_backs(lookback):
        if last_due(now, period) > synced_at:
            due = width
    return due


@dataclass(frozen=True)
class Range:
    """What it took for one stream in one pass."""

    horizon: datetime
    synced_at: datetime | None
    lookback: timedelta
    known_from: datetime | None
    newest: datetime | None = None

    def takes(self, created: datetime) -> bool:
        return self.horizon <= created and (self.newest is None or created <= self.newest)

    def looked_at(self, created: datetime) -> datetime | None:
        if self.synced_at is None or (self.known_from is not None and self.known_from <= created):
            return self.synced_at
        looks = (last_due(min(self.synced_at, created + width), period) for width, period in look_backs(self.lookback))
        return max(looks, default=None)


@dataclass
class Version10:
    """What it kept of a project, as its state names it, and its syncs."""

    synced_at: dict[str, datetime] = field(default_factory=dict)
    looked_back_to: datetime | None = None
    pending_from: datetime | None = None
    open: dict[str, Any] | None = None
    retry: dict[str, set[str]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The entry of a project under `walks`."""
        value: dict[str, Any] = {"synced_at": {name: brief(at) for name, at in self.synced_at.items()}}
        if self.looked_back_to is not None:
            value["looked_back_to"] = brief(self.looked_back_to)
        if self.pending_from is not None:
            value["pending_from"] = brief(self.pending_from)
        if self.open is not None:
            value["open"] = {
                name: brief(one) if isinstance(one, datetime) else list(one) for name, one in self.open.items()
            }
        if self.retry:
            value["retry"] = {name: [one for one in WALK if one in streams] for name, streams in self.retry.items()}
        return value

    def sync(self, project: Project, how: Sync) -> None:
        """Finish an open walk, then read what is new or due."""
        budget = [how.pages]
        if self.open is not None and set(how.streams) & set(self.open["streams"]):
            started, down_to = self.open["from"], self.open["down_to"]
            taken = {
                name: self._range(name, started, how, down_to) for name in how.streams if name in self.open["streams"]
            }
            if not self._pass(project, how, started, taken, budget, extends=False):
                return
        taken = {name: self._range(name, how.at, how) for name in how.streams}
        rest = set(how.streams) & set(self.open["streams"]) if self.open is not None else set()
        for name in rest:
            assert self.open is not None
            horizon = max(self.open["from"] - depth(self.open["from"], how.at, how.lookback), self.open["down_to"])
            known = self.open["horizon"] and max(self.open["horizon"], self.open["down_to"])
            taken[name] = Range(horizon, self.open["from"], how.lookback, known)
        if self._pass(project, how, how.at, taken, budget, extends=bool(rest)):
            for name in how.streams:
                project.completed.setdefault(name, []).append(how.at)

    def _range(self, name: str, now: datetime, how: Sync, newest: datetime | None = None) -> Range:
        synced_at = self.synced_at.get(name)
        if synced_at is None:
            return Range(how.start, None, how.lookback, None, newest)
        horizon = max(synced_at - depth(synced_at, now, how.lookback), min(how.start, synced_at))
        return Range(horizon, synced_at, how.lookback, self.looked_back_to, newest)

    def _pass(
        self,
        project: Project,
        how: Sync,
        started: datetime,
        taken: Mapping[str, Range],
        budget: list[int | None],
        *,
        extends: bool,
    ) -> bool:
        visible = [pipeline for pipeline in reversed(project.pipelines) if pipeline.created <= how.at]
        horizon = min(one.horizon for one in taken.values())
        before = self.pending_from
        pending: datetime | None = None
        for first in range(0, max(len(visible), 1), PAGE):
            if budget[0] == 0:
                return False
            budget[0] = budget[0] and budget[0] - 1
            page, following = visible[first : first + PAGE], visible[first + PAGE : first + 2 * PAGE]
            for pipeline in page:
                self._look(project, pipeline, how, taken, before)
                own = taken.get(WALK[0])
                if own is not None and own.takes(pipeline.created) and pipeline.at(how.at) != "created":
                    pending = min(pipeline.created, pending or pipeline.created)
            down_to = max((pipeline.created for pipeline in following or page), default=None)
            if not extends and down_to is not None:
                ends = [one.newest for one in taken.values() if one.newest is not None]
                self.open = {
                    "streams": [name for name in WALK if name in taken],
                    "from": started,
                    "down_to": min([down_to, *ends]),
                    "horizon": self._looked_back(taken, started, extends),
                }
                self.pending_from = min(filter(None, (before, pending)), default=None)
            if page and all(pipeline.created < horizon for pipeline in page):
                break
        own = taken.get(WALK[0])
        again = own is not None and own.newest is None and before is not None and own.horizon <= before
        self.pending_from = min(filter(None, (None if again else before, pending)), default=None)
        looked_back_to = self._looked_back(taken, started, extends)
        if extends and self.open is not None:
            self.open = {**self.open, "from": started, "horizon": looked_back_to}
            return False
        self.synced_at |= dict.fromkeys(taken, started)
        if self.synced_at.keys() > taken.keys():
            looked_back_to = max(looked_back_to, self.looked_back_to or started)
        self.looked_back_to, self.open = looked_back_to, None
        return True

    def _looked_back(self, taken: Mapping[str, Range], started: datetime, extends: bool) -> datetime:
        horizon = max(one.horizon for one in taken.values())
        takes_up = extends or any(one.newest is not None for one in taken.values())
        if takes_up and self.open is not None:
            return max(horizon, self.open["horizon"] or started)
        return horizon

    def _look(
        self, project: Project, pipeline: Pipeline, how: Sync, taken: Mapping[str, Range], pending: datetime | None
    ) -> None:
        owed = self.retry.get(str(pipeline.name), set())
        for name, one in taken.items():
            if not one.takes(pipeline.created) and name not in owed:
                continue
            if name == WALK[0]:
                is_old = one.synced_at is not None and pipeline.created < one.synced_at - MARGIN
                if pipeline.at(how.at) == "setup" or not is_old or (pending and pending <= pipeline.created):
                    project.held[name, pipeline.name] = (pipeline.at(how.at), how.at)
                continue
            if how.fails(pipeline):
                self.retry.setdefault(str(pipeline.name), set()).add(name)
                continue
            look = None if name in owed else one.looked_at(pipeline.created)
            self.retry.get(str(pipeline.name), set()).discard(name)
            for workflow in pipeline.workflows:
                settled = look is not None and workflow.stopped <= how.at and workflow.stopped < look - MARGIN
                if workflow.created <= how.at and not settled:
                    project.held[name, workflow.name] = (workflow.at(how.at), how.at)
        self.retry = {name: streams for name, streams in self.retry.items() if streams}
