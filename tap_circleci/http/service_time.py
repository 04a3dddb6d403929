"""What time it is at CircleCI: several clocks say so, and any of them may be wrong."""

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone

from tap_circleci.workers import Clock


class ServiceTime:
    """The service's time: by its first answer (`first`), by later answers, or by this machine's clock."""

    def __init__(self, first: datetime | None, clock: Clock) -> None:
        self._first = first
        self._clock = clock
        self._first_at = clock.now()

    def now(self) -> datetime:
        """The time by the service's first answer, or by this machine if that answer had no date."""
        if self._first is None:
            return datetime.now(timezone.utc)
        return self._first + timedelta(seconds=self._clock.now() - self._first_at)

    @property
    def is_known(self) -> bool:
        """Whether the service's answers have a date."""
        return self._first is not None

    def latest(self, date: datetime | None) -> datetime:
        """The latest time of all the service's clocks; `date` is that of an answer that has just come."""
        return max(self._service_clocks(date), default=self.now())

    def certain(self, date: datetime | None, moments: Iterable[datetime]) -> datetime | None:
        """The latest time that has certainly passed, None if it is unknown.

        The earliest of the service's clocks and this machine's counts: a clock that is ahead would mark events as read
        that have not happened yet. `moments` are the times of the rows in the answer of that `date`. A row that is
        later than this machine's clock shows that this clock is behind; then the row's time counts, unless one of the
        service's clocks is earlier. If the service's answers have no date, the latest row counts, but at most this
        machine's time.
        """
        machine = datetime.now(timezone.utc)
        clocks = self._service_clocks(date)
        limit = min(clocks, default=machine)
        proved = max((moment for moment in moments if moment <= limit), default=None)
        if not clocks:
            later = any(moment > machine for moment in moments)
            return machine if later else proved
        earliest = min(*clocks, machine)
        return earliest if proved is None else max(earliest, proved)

    def _service_clocks(self, date: datetime | None) -> list[datetime]:
        clocks = [self.now()] if self._first is not None else []
        return clocks if date is None else [*clocks, date]
