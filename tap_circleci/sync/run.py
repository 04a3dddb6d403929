"""What all parts of one sync need: the settings, the client, the clock, and the outputs."""

from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from typing import Any

from tap_circleci.client import Client, who_am_i
from tap_circleci.config import Config
from tap_circleci.discover import Selected
from tap_circleci.http.service_time import ServiceTime
from tap_circleci.output.messages import Messages
from tap_circleci.output.outcomes import Outcomes
from tap_circleci.output.report import Report
from tap_circleci.state.state import Mark, State
from tap_circleci.streams import Stream
from tap_circleci.values.rows import Ids
from tap_circleci.values.slugs import normalise
from tap_circleci.values.times import CLOCK_TOLERANCE, EPOCH, written
from tap_circleci.workers import Clock, Pool, result


@dataclass(frozen=True)
class Run:
    """One sync, in the thread that writes.

    `start` is the start date of streams that are read for the first time. `version` is the version of the full tables,
    None if they have none.
    """

    config: Config
    selected: Selected
    state: State
    client: Client
    pool: Pool
    clock: Clock
    time: ServiceTime
    messages: Messages
    report: Report
    outcomes: Outcomes
    start: datetime
    version: int | None

    def wait(self, future: Future[Any]) -> Any:
        """The result of a future; meanwhile the run shows its progress and can be stopped."""
        return result(future, self.clock, self.report.tick)

    def prove_token(self) -> None:
        """Check that the token is still valid, if there were 404s since its last proof: see `errors.NotFound`."""
        if not self.client.is_proven():
            self.wait(self.pool.submit((), partial(who_am_i, self.client)))

    def mark(self, stream: str, key: str) -> Mark:
        """What the state has about a stream below a parent; an empty mark if the catalog says FULL_TABLE."""
        return Mark() if stream in self.selected.full_table else self.state.mark(stream, key)


def version_of(state: State) -> int:
    """The version of the full tables of a run, which must never be lower than in the run before.

    Milliseconds by this machine's clock, since a single answer may have a wrong Date; at least the latest time in the
    state of an earlier run.
    """
    latest = state.latest()
    machine = datetime.now(timezone.utc)
    return int(max(machine, latest[1] if latest else machine).timestamp() * 1000)


def bookmark_key(stream: Stream, ids: Ids) -> str:
    """The key of a list's bookmark: the ids that distinguish it from the stream's other lists."""
    names = [ids[name] for name in stream.source.address if name in ids]
    return "/".join([normalise(names[0]) or names[0], *names[1:]]) if names else ""


def higher(highest: str, value: str | None, date: datetime) -> str:
    """The higher of two replication key values, "" for none.

    A `value` that is no moment, or later than the service's time in the answer (`date`), is an error in the data; it
    must not hide later rows.
    """
    if not value or not is_moment(value) or value > written(date + CLOCK_TOLERANCE):
        return highest
    return max(highest, value)


def is_moment(value: str) -> bool:
    """Whether a replication key value can be the time of a change: services write year 1 or 1970 if there is none."""
    return value > written(EPOCH)
