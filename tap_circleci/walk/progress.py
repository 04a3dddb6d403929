"""How far the walk of one project has come, and so what the state may claim about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from tap_circleci.streams import STREAMS, family_of
from tap_circleci.walk.descent import Descent, Look, PageDone
from tap_circleci.walk.seen import Seen

MOST_RETRIES = 20
"""Pipelines that the state keeps for a retry, per stream of a project. With more, the stream's steps do not change."""

Lacking = Mapping[str, float | None]
"""The streams that could not be read completely below a pipeline. A time is that of a 404: it counts as "nothing there"
once the token was accepted later, since CircleCI also answers 404 to a token that is no longer valid."""


@dataclass
class Progress:
    """What the state may claim about a project, by stream. Changed by the one thread that writes.

    `retries` are the pipelines below which something could not be read. The claims of `stopped` streams no longer
    change: too much failed, or the service refuses them in the whole project.
    """

    seen: dict[str, Seen]
    retries: dict[str, dict[str, float | None]] = field(default_factory=dict)
    stopped: set[str] = field(default_factory=set)

    @staticmethod
    def of(seen: Mapping[str, Seen]) -> Progress:
        """The beginning of a walk, after what was seen before."""
        return Progress(dict(seen), {name: dict.fromkeys(one.retry) for name, one in seen.items()})

    def looked(self, look: Look, lacking: Lacking) -> None:
        """A pipeline was looked at."""
        for name in look.as_of:
            retry = self.retries.setdefault(name, {})
            retry.pop(look.pipeline_id, None)
            if name in lacking:
                retry[look.pipeline_id] = lacking[name]

    def full(self) -> frozenset[str]:
        """The streams that are to stop, since they have more failed pipelines than the state keeps."""
        full = {name for name, retry in self.retries.items() if len(retry) > MOST_RETRIES}
        return frozenset(full - self.stopped)

    def stop(self, names: Iterable[str]) -> frozenset[str]:
        """Stop changing the claims of these streams and of all below them; gives those that stop now."""
        families = {one.name for name in names for one in family_of(STREAMS[name])}
        new = frozenset(families & self.seen.keys() - self.stopped)
        self.stopped |= new
        return new

    def passed(self, descent: Descent, page: PageDone) -> None:
        """All pipelines created after the page's `down_to` were looked at, or with `is_last` all that are due."""
        if page.down_to is None and not page.is_last:
            return
        down_to = None if page.is_last else page.down_to
        for name, plan in descent.plans.items():
            if name not in self.stopped:
                self.seen[name] = plan.after(down_to, page.listed, self._retry(name))

    def ended(self) -> None:
        """The pipelines that failed earlier were looked at, too."""
        for name in self.retries.keys() - self.stopped:
            self.seen[name] = replace(self.seen[name], retry=self._retry(name))

    def settle(self, proven_at: float) -> None:
        """Accept every 404 from before this time: the token was still valid."""
        for name, retry in self.retries.items():
            for pipeline_id in [one for one, since in retry.items() if since is not None and since < proven_at]:
                del retry[pipeline_id]
            if name not in self.stopped:
                self.seen[name] = replace(self.seen[name], retry=self._retry(name))

    @property
    def is_doubted(self) -> bool:
        """Whether there is a 404 that an invalid token may have caused."""
        return any(since is not None for retry in self.retries.values() for since in retry.values())

    def _retry(self, name: str) -> tuple[str, ...]:
        return tuple(self.retries.get(name, ()))[:MOST_RETRIES]


def merged(one: Lacking, other: Lacking) -> Lacking:
    """What is lacking in either; a certain failure outweighs a 404."""
    if not other:  # as for nearly every row
        return one
    found = dict(one)
    for name, since in other.items():
        before = found.get(name, since)
        found[name] = None if before is None or since is None else max(before, since)
    return found
