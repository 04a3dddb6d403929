"""The log of a run: progress, and at the end a summary, metrics and failures."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from singer import metrics

from tap_circleci.client import Client, Traffic
from tap_circleci.errors import Forbidden, LocalError, Rejected, TapError, Unavailable
from tap_circleci.output.messages import Messages
from tap_circleci.output.tally import Broken, Skips
from tap_circleci.output.terminal import TerminalLine
from tap_circleci.values.text import NAMED, counted, first_few
from tap_circleci.workers import Clock

LOGGER = logging.getLogger(__name__)

EVERY = 5.0
"""Seconds between two lines of progress in a log."""
EVERY_LIVE = 0.25
"""Seconds between two updates of the line on a terminal."""
WORTH_A_WORD = 1.0
"""Seconds of waiting for the rate limit from which the progress mentions it."""
NOT_OFFERED = "CircleCI does not offer this here"
NOT_FOUND = "404: aged out, deleted, or not visible to the token"


@dataclass(frozen=True)
class Result:
    """The result of a run: a sentence for each thing that could not be delivered, and the signal that ended it.

    `retry_helps`: a later run may succeed. `figures` are for programs; None if the run was not a sync.
    """

    failures: Sequence[str] = ()
    retry_helps: bool = False
    signum: int = 0
    figures: Mapping[str, float] | None = None


class Report:
    """Collects what happens in a run; used by the one thread that writes.

    `is_strict`: something that the user named and the run left out is a failure.
    """

    def __init__(self, clock: Clock, messages: Messages, client: Client, *, is_strict: bool = False) -> None:
        self._clock = clock
        self._messages = messages
        self._client = client
        self._is_strict = is_strict
        self._began = self._shown_at = self._share_at = clock.now()
        self._part, self._detail, self._share, self._first_share = "", "", 0.0, 0.0
        self._line = TerminalLine() if TerminalLine.is_possible() else None
        self._retries = 0
        self._skipped, self._empty, self._broken = Skips(), Skips(), Broken()
        self._projects_skipped: dict[str, str] = {}
        self._looked_back: Counter[int] = Counter()
        self._failures: dict[str, None] = {}
        self._retry_helps = False
        self._left_out: dict[str, None] = {}
        self.older: Counter[str] = Counter()

    def begin_part(self, part: str, detail: str = "", share: float = 0.0) -> None:
        """Set the progress: the part of the run, the place in it, and the share of the run that is done."""
        self._part = part
        self.progress(detail, share)

    def progress(self, detail: str, share: float) -> None:
        """Set the progress within the same part."""
        if share <= self._first_share:
            self._first_share, self._share_at = share, self._clock.now()
        self._detail, self._share = detail, share

    @property
    def failures(self) -> list[str]:
        """A sentence for each kind of thing that could not be delivered."""
        return [*self._broken.sentences(), *self._strict_failures(), *self._failures]

    def failed(self, *sentences: str) -> None:
        """Record something that could not be delivered."""
        self._failures |= dict.fromkeys(sentences)

    def ended_by(self, error: TapError) -> None:
        """Record the error that ended the run."""
        self.failed(*error.args)
        self._retry_helps |= isinstance(error, Unavailable)

    def broken(self, name: str, stream: str, problem: LocalError) -> None:
        """Record a list that could not be read to the end."""
        self._broken.add(name, stream, str(problem))
        self._retry_helps |= not isinstance(problem, Rejected)

    def left_out(self, sentence: str) -> None:
        """Record something that the user named and that is left out, and log it once."""
        if sentence not in self._left_out:
            LOGGER.warning("%s", sentence)
        self._left_out[sentence] = None

    def forbidden(self, name: str, stream: str, owner: str, problem: Forbidden) -> None:
        """Record a list that the token may not read, or may not read to its end."""
        reason = f"permission denied ({problem.status})"
        if problem.is_rest:
            reason += " for the rest of the list, after its first pages"
        if self._skipped.add(reason, stream, owner):
            lists = f"{stream} of {owner}" if owner else stream
            first = "" if name == lists else f" (first: {name})"
            LOGGER.warning("%s: %s; skipped%s", lists, reason, first)

    def project_skipped(self, slug: str, problem: LocalError) -> None:
        """Record a named project that does not exist or that the token may not read."""
        reason = "there is no such project, or the token does not see it (404)"
        if isinstance(problem, Forbidden):
            reason = f"permission denied ({problem.status})"
        if slug not in self._projects_skipped and len(self._projects_skipped) < NAMED:
            LOGGER.warning("%s: %s; skipped", slug, reason)
        self._projects_skipped[slug] = reason

    def looked_back(self, days: int) -> None:
        """Record a project in which pipelines up to this age were re-checked."""
        self._looked_back[days] += 1

    def not_found(self, stream: str, owner: str) -> None:
        """Count a list that the service no longer has."""
        self._empty.add(NOT_FOUND, stream, owner)

    def not_offered(self, stream: str, owner: str, answer: str) -> None:
        """Count a list that the service does not offer; the first of each stream is logged."""
        if not self._empty.knows(NOT_OFFERED, stream):
            LOGGER.info("%s of %s: %s (%s)", stream, owner, NOT_OFFERED, answer)
        self._empty.add(NOT_OFFERED, stream, owner)

    def log_not_found(self, owner: str) -> None:
        """Log, in one line, how many lists of a project were not found."""
        found = self._empty.of(owner)
        if found:
            LOGGER.info("%s: read as empty: %s (%s)", owner, ", ".join(found), NOT_FOUND)

    def log_skips(self) -> None:
        """Log which lists were not read, and which routes end."""
        for line in self._left():
            LOGGER.info("%s", line)
        self._log_endings(self._client.traffic())

    def _log_endings(self, traffic: Traffic) -> None:
        """Log once for each route that it is deprecated or gone, and what to do."""
        for label, clause in traffic.endings.items():
            LOGGER.warning("%s: %s; install the newest tap-circleci, or report this if it is installed", label, clause)

    def tick(self) -> None:
        """Show the progress if the last one is old enough: on the terminal's last line, or in the log."""
        now = self._clock.now()
        if now - self._shown_at < (EVERY_LIVE if self._line else EVERY):
            return
        self._shown_at = now
        if self._line:
            self._line.show(self._progress(now))
        else:
            LOGGER.info("%s", self._progress(now))

    def _progress(self, now: float) -> str:
        traffic = self._client.traffic()
        calls = traffic.calls.total()
        rate = calls / max(now - self._began, 0.001)
        so_far = f"{counted(self._messages.rows.total(), 'rows')}, {counted(calls, 'calls')}, {rate:.1f} calls/s"
        where = self._part + (self._pause(now) or self._time_left(now))
        return f"{where}; so far {so_far}{self._detail}{self._trouble(traffic)}"

    def _pause(self, now: float) -> str:
        """How long requests still wait for the rate limit."""
        waiting = self._client.rate_limiter.waiting()
        seconds = 0.0 if waiting is None else waiting[1] - now
        return f", waiting for the rate limit, {seconds:.0f} s" if seconds >= WORTH_A_WORD else ""

    def _time_left(self, now: float) -> str:
        """The time left, from the pace since the share of the work was first known."""
        done = self._share - self._first_share
        if done <= 0.001:
            return ""
        seconds = (now - self._share_at) * (1 - self._share) / done
        return f", about {timedelta(seconds=round(seconds))} left"

    def _trouble(self, traffic: Traffic) -> str:
        words = ""
        if traffic.retries > self._retries:
            words = f"; {traffic.retries} retries, last reason: {traffic.reason}"
            self._retries = traffic.retries
        failures = len(self._failures) + self._broken.total
        return words + (f"; {counted(failures, 'failures')}, listed at the end" if failures else "")

    def finish(self) -> None:
        """Write the summary and the metrics."""
        if self._line:
            self._line.close()
        traffic = self._client.traffic()
        self._log_endings(traffic)
        for line in self._summary(traffic):
            LOGGER.info("%s", line)
        self._write_metrics(traffic)

    def result(self, signum: int = 0) -> Result:
        """The result of the run; `signum` is the signal that ended it, if any."""
        traffic = self._client.traffic()
        failures = self.failures
        figures = {
            "rows": self._messages.rows.total(),
            "calls": traffic.calls.total(),
            "skips": self._skipped.total + len(self._projects_skipped) + len(self._left_out),
            "failures": len(self._failures) + self._broken.total,
            "seconds_waited": round(self._waited(), 1),
            "seconds": round(self._clock.now() - self._began, 1),
        }
        return Result(failures, self._retry_helps or bool(signum), signum, figures)

    def _waited(self) -> float:
        """Seconds of waiting for the rate limit."""
        return min(self._client.rate_limiter.waited, self._clock.now() - self._began)

    def _write_metrics(self, traffic: Traffic) -> None:
        for stream, rows in self._messages.rows.items():
            metrics.log(LOGGER, metrics.Point("counter", metrics.Metric.record_count, rows, {"endpoint": stream}))
        for label, calls in traffic.calls.items():
            tags = {"endpoint": label, "calls": calls}
            seconds = round(traffic.seconds[label] / calls, 4)
            metrics.log(LOGGER, metrics.Point("timer", metrics.Metric.http_request_duration, seconds, tags))

    def _summary(self, traffic: Traffic) -> Iterable[str]:
        messages, elapsed = self._messages, self._clock.now() - self._began
        yield "Rows: " + (", ".join(f"{name} {count}" for name, count in messages.rows.items()) or "none selected")
        yield (
            f"Calls: {traffic.calls.total()}, of them {traffic.retries} retries,"
            f" {traffic.refusals} refused for the rate limit (429); waited {self._waited():.1f} s for the rate limit"
        )
        for days, count in sorted(self._looked_back.items()):
            yield f"Re-checked pipelines up to {days} days old in {counted(count, 'projects')} (scheduled)"
        yield from self._dropped()
        yield from self._left()
        yield f"Ended after {elapsed:.1f} s"

    def _dropped(self) -> Iterable[str]:
        """The rows and fields that were read and not sent."""
        for name, count in self._messages.keyless.items():
            if count:
                yield f"Skipped: {counted(count, 'rows')} of {name} without a usable key"
        for (name, path, problem), count in self._messages.unfit.items():
            yield f"Dropped: {name}.{'.'.join(path)} ({problem}; {counted(count, 'times')})"
        for name, count in self.older.items():
            if count:
                yield f"Not sent: {counted(count, 'rows')} of {name} last changed before start_date"

    def _left(self) -> Iterable[str]:
        """The lists that were not read."""
        for line in self._skipped.lines():
            yield f"Skipped: {line}"
        for line in self._projects_lines():
            yield f"Skipped: {line}"
        for line in self._empty.lines():
            yield f"Read as empty: {line}"

    def _projects_lines(self) -> Iterable[str]:
        """The projects that were skipped, a line for each reason."""
        for reason in dict.fromkeys(self._projects_skipped.values()):
            yield f"{first_few([slug for slug, why in self._projects_skipped.items() if why == reason])}: {reason}"

    def _strict_failures(self) -> Iterable[str]:
        """With `strict`, a sentence for each thing that the user named and the run left out."""
        if self._is_strict:
            yield from self._left_out
            for line in (*self._skipped.lines(), *self._projects_lines()):
                yield f"Left out (a failure with strict): {line}."
