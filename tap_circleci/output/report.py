"""What the user is told on stderr: progress on the way, a summary and the failures at the end."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta

from singer import metrics

from tap_circleci.client import Client, Traffic
from tap_circleci.output.messages import Messages
from tap_circleci.output.terminal import TerminalLine
from tap_circleci.values.text import NAMED, first_few
from tap_circleci.workers import Clock

LOGGER = logging.getLogger(__name__)

EVERY = 5.0
"""Seconds between two lines of progress in a log."""
EVERY_LIVE = 0.25
"""Seconds between two looks of the line on a terminal."""


class Report:
    """Collects what happens in a run; used by the one thread that writes."""

    def __init__(self, clock: Clock, messages: Messages, client: Client) -> None:
        self._clock = clock
        self._messages = messages
        self._client = client
        self._began = self._told_at = clock.now()
        self._part, self._detail, self._share = "", "", 0.0
        self._line = TerminalLine() if TerminalLine.is_possible() else None
        self._retries = 0
        self._forbidden: list[str] = []
        self._projects_not_found: list[str] = []
        self._not_found: Counter[str] = Counter()
        self._not_offered: Counter[str] = Counter()
        self._looked_back: Counter[int] = Counter()
        self.older: Counter[str] = Counter()
        self.failures: list[str] = []

    def begin_part(self, part: str, detail: str = "", share: float = 0.0) -> None:
        """Say which part of the run is being written, where in it, and which share of the run is done."""
        self._part = part
        self.progress(detail, share)

    def progress(self, detail: str, share: float) -> None:
        """Say where in the same part the run has come to."""
        self._detail, self._share = detail, share

    def failed(self, sentence: str) -> None:
        """Take note of something that was left out."""
        self.failures.append(sentence)

    def forbidden(self, what: str, status: int) -> None:
        """Take note of what the token may not see, as this status says."""
        self._skip(self._forbidden, what, f"permission denied ({status}); skipped")

    def project_not_found(self, slug: str) -> None:
        """Take note of a configured project that is not there."""
        self._skip(self._projects_not_found, slug, "there is no such project, or the token does not see it (404)")

    def looked_back(self, days: int) -> None:
        """Take note of a project in which pipelines of up to this age were looked at."""
        self._looked_back[days] += 1

    def count_not_found(self, where: str) -> None:
        """Count something that the service does not have any more."""
        self._not_found[where] += 1

    def not_offered(self, where: str, answer: str) -> None:
        """Count a list that the service does not have; the first of each stream has a line."""
        if not self._not_offered[where]:
            LOGGER.info("%s: none here, says CircleCI (%s)", where, answer)
        self._not_offered[where] += 1

    @staticmethod
    def _skip(names: list[str], name: str, reason: str) -> None:
        """Add a name to those that are skipped; the first ones have a line each, the summary tells of all."""
        if len(names) < NAMED:
            LOGGER.warning("%s: %s", name, reason)
        names.append(name)

    def log_not_found(self, where: str) -> None:
        """Tell, in one line, how much was missing there."""
        if self._not_found[where]:
            LOGGER.info("%s: %d aged-out or deleted resources (404) read as empty", where, self._not_found[where])

    def tick(self) -> None:
        """Tell of the progress if the last time is a while ago: on the terminal's last line, or in the log."""
        now = self._clock.now()
        if now - self._told_at < (EVERY_LIVE if self._line else EVERY):
            return
        self._told_at = now
        if self._line:
            self._line.show(self._progress(now))
        else:
            LOGGER.info("%s", self._progress(now))

    def _progress(self, now: float) -> str:
        traffic = self._client.traffic()
        rows, calls, elapsed = self._messages.rows.total(), traffic.calls.total(), now - self._began
        left = ""
        if self._share > 0.001:
            left = f", about {timedelta(seconds=round(elapsed * (1 - self._share) / self._share))} left"
        rate = calls / max(elapsed, 0.001)
        trouble = ""
        if traffic.retries > self._retries:
            trouble = f"; {traffic.retries} calls repeated, at last for: {traffic.reason}"
            self._retries = traffic.retries
        if self.failures:
            trouble += f"; {len(self.failures)} failures, told at the end"
        return f"{self._part}{left}; so far {rows} rows, {calls} calls, {rate:.1f} calls/s{self._detail}{trouble}"

    def finish(self) -> None:
        """Write the metrics and the summary."""
        if self._line:
            self._line.close()
        for stream, rows in self._messages.rows.items():
            metrics.log(LOGGER, metrics.Point("counter", metrics.Metric.record_count, rows, {"endpoint": stream}))
        traffic = self._client.traffic()
        for label, calls in traffic.calls.items():
            tags = {"endpoint": label, "calls": calls}
            seconds = round(traffic.seconds[label] / calls, 4)
            metrics.log(LOGGER, metrics.Point("timer", metrics.Metric.http_request_duration, seconds, tags))
        for line in self._summary(traffic):
            LOGGER.info("%s", line)

    def _summary(self, traffic: Traffic) -> Iterable[str]:
        messages, elapsed = self._messages, self._clock.now() - self._began
        held = min(self._client.rate_limiter.waited, elapsed)
        yield "Rows: " + (", ".join(f"{name} {count}" for name, count in messages.rows.items()) or "none selected")
        yield (
            f"Calls: {traffic.calls.total()}, of them {traffic.retries} repeated after a failure,"
            f" {traffic.refusals} refused for the rate limit; held for it {held:.1f} s"
        )
        for days, count in sorted(self._looked_back.items()):
            yield f"Looked back {days} days, as is due now and then for late reruns, in {count} projects"
        for name, count in messages.keyless.items():
            if count:
                yield f"Skipped: {count} rows of {name} without a usable key"
        for (name, path, problem), count in messages.unfit.items():
            yield f"Not sent on: {name}.{'.'.join(path)} {problem} ({count} times)"
        for name, count in self.older.items():
            if count:
                yield f"Not sent on: {count} rows of {name} last changed before start_date"
        if self._forbidden:
            yield f"Skipped, since permission was denied: {first_few(self._forbidden)}"
        if self._projects_not_found:
            yield f"Skipped, since not there or not for this token (404): {first_few(self._projects_not_found)}"
        if self._not_found:
            names = [f"{count} of {name}" for name, count in self._not_found.items()]
            yield f"Read as empty, since aged out, deleted or not for this token (404): {first_few(names)}"
        if self._not_offered:
            names = [f"{count} of {name}" for name, count in self._not_offered.items()]
            yield f"Read as empty, since CircleCI says that it has none there: {first_few(names)}"
        yield f"Ended after {elapsed:.1f} s"
