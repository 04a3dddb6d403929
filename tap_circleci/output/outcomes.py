"""Judges the result of each list: what is missing is reported, and a service that is down ends the run."""

import logging

from tap_circleci.client import Client, who_am_i
from tap_circleci.errors import (
    INCIDENTS,
    EndlessList,
    Forbidden,
    LinkExpired,
    LocalError,
    NotFound,
    NotOffered,
    Unavailable,
)
from tap_circleci.output.report import Report

LOGGER = logging.getLogger(__name__)

FAILURES_TO_ASK = 20
"""Failures in a row after which `GET /me` is requested, to see whether the service answers at all."""
FAILURES_TO_END = 100
"""Failures in a row after which the service counts as down, even if `GET /me` answers."""
MISSING_TO_ASK = 5
"""404s in a row after which `GET /me` checks the token; then again after five times as many."""
NO_PROJECT = "None of the projects in project_slugs can be read: they do not exist, or the token does not see them."


class Outcomes:
    """Judges each list that was read, and ends the run when nothing more can be read.

    Used by the one thread that writes.
    """

    def __init__(self, report: Report, client: Client) -> None:
        self._report = report
        self._client = client
        self._in_a_row = 0
        self._missing, self._ask_at = 0, MISSING_TO_ASK

    def judge(
        self, name: str, stream: str, owner: str, problem: LocalError | None, *, may_be_endless: bool = False
    ) -> bool:
        """Report the problem of a list. Returns whether it counts as read: complete, gone or forbidden.

        `name` is the name of the list, `owner` its project or organization.
        `may_be_endless`: a list that does not end counts as read. Raises `Unavailable` for a service that is down.
        """
        if isinstance(problem, NotFound):
            self._report.not_found(stream, owner)
            self._count_missing()
        elif isinstance(problem, LinkExpired):
            self._report.not_found(stream, owner)
        elif isinstance(problem, NotOffered):
            self._report.not_offered(stream, owner, str(problem))
        elif isinstance(problem, Forbidden):
            self._report.forbidden(name, stream, owner, problem)
        elif isinstance(problem, EndlessList) and may_be_endless:
            LOGGER.warning("%s", problem)
        elif problem is not None:
            self._report.broken(name, stream, problem)
            self._count_failure()
            return False
        else:
            self._missing, self._ask_at = 0, MISSING_TO_ASK
        self._in_a_row = 0
        return True

    def judge_project(self, slug: str, problem: LocalError | None) -> bool:
        """Report why a project that the user names cannot be read; returns whether it can be read."""
        if isinstance(problem, (NotFound, Forbidden)):
            self._report.project_skipped(slug, problem)
        elif problem is not None:
            self._report.broken(f"Project {slug}", "projects", problem)
            self._count_failure()
        return problem is None

    def failed(self, sentence: str) -> None:
        """Record a failure; raises `Unavailable` after too many in a row."""
        self._report.failed(sentence)
        self._count_failure()

    def left_out(self, sentence: str) -> None:
        """Warn about something that the user named and that is left out: with `strict` a failure."""
        self._report.left_out(sentence)

    def _count_missing(self) -> None:
        """Count a 404 and sometimes check the token: an invalid one gets 404 on project routes."""
        self._missing += 1
        if self._missing == self._ask_at:
            self._ask_at *= 5
            who_am_i(self._client)

    def _count_failure(self) -> None:
        self._in_a_row += 1
        if self._in_a_row == FAILURES_TO_END:
            raise Unavailable(
                f"{FAILURES_TO_END} resources in a row could not be read: the service seems to be down. {INCIDENTS}"
            )
        if self._in_a_row % FAILURES_TO_ASK == 0:
            who_am_i(self._client)
