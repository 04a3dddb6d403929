"""What time it is at CircleCI, of which several clocks tell and any may be wrong."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone

from tap_circleci.workers import Clock


class ServiceTime:
    """The service's time: what its first answer said and what has passed since, later answers, this machine's clock."""

    def __init__(self, told: datetime | None, clock: Clock) -> None:
        self._told = told
        self._clock = clock
        self._told_at = clock.now()

    def now(self) -> datetime:
        """The time by the service's first answer, or by this machine where it did not tell."""
        if self._told is None:
            return datetime.now(timezone.utc)
        return self._told + timedelta(seconds=self._clock.now() - self._told_at)

    @property
    def is_told(self) -> bool:
        """Whether the service's answers tell the time at all."""
        return self._told is not None

    def latest(self, date: datetime | None) -> datetime:
        """The latest time that any of the service's clocks tells; `date` is that of an answer that has just come."""
        return max(self._service_clocks(date), default=self.now())

    def certain(self, date: datetime | None, moments: Iterable[datetime]) -> datetime | None:
        """The latest moment that has surely passed, None if nothing tells.

        Of the service's clocks and this machine's, the earliest counts: one that is ahead would mark as read what has
        yet to happen. A row's time counts if it is later, since the row proves that it has passed; `moments` are those
        of the rows in the answer of that `date`. If the service tells no time, it is the latest time of a row, but none
        later than this machine's.
        """
        machine = datetime.now(timezone.utc)
        told = self._service_clocks(date)
        limit = max(told, default=machine)
        proved = max((moment for moment in moments if moment <= limit), default=None)
        if not told:
            later = any(moment > machine for moment in moments)
            return machine if later else proved
        earliest = min(*told, machine)
        return earliest if proved is None else max(earliest, proved)

    def _service_clocks(self, date: datetime | None) -> list[datetime]:
        clocks = [self.now()] if self._told is not None else []
        return clocks if date is None else [*clocks, date]
