"""What became of the lists that were asked for: what is missing is told, and a service that is down ends the run."""

from __future__ import annotations

import logging

from tap_circleci.client import Client, who_am_i
from tap_circleci.errors import EndlessList, Forbidden, LocalError, NotFound, NotOffered, Refused
from tap_circleci.output.report import Report

LOGGER = logging.getLogger(__name__)

FAILURES_TO_ASK = 20
"""Failures without a success between them after which `GET /me` tells whether the service is there at all."""
FAILURES_TO_END = 100
"""Failures without a success between them until the service counts as down, whatever else it says."""


class Outcomes:
    """Judges each list that was read, and ends the run when nothing can be read any more.

    Used by the one thread that writes.
    """

    def __init__(self, report: Report, client: Client) -> None:
        self._report = report
        self._client = client
        self._in_a_row = 0

    def judge(self, what: str, where: str, problem: LocalError | None, *, may_be_endless: bool = False) -> bool:
        """Report what is wrong with a list. Returns whether it counts as read: whole, gone or forbidden.

        `what` names the list, `where` the project or stream under which things that are gone are counted.
        `may_be_endless`: a list that goes round in circles counts as read. Raises `Refused` for a service that is down.
        """
        if isinstance(problem, NotFound):
            self._report.count_not_found(where)
        elif isinstance(problem, NotOffered):
            self._report.not_offered(where, str(problem))
        elif isinstance(problem, Forbidden):
            self._report.forbidden(what, problem.status)
        elif isinstance(problem, EndlessList) and may_be_endless:
            LOGGER.warning("%s", problem)
        elif problem is not None:
            self.failed(f"{what} could not be read to the end: {problem}.")
            return False
        self._in_a_row = 0
        return True

    def failed(self, sentence: str) -> None:
        """Take note of something that was left out; raises `Refused` when nothing can be read any more."""
        self._report.failed(sentence)
        self._in_a_row += 1
        if self._in_a_row == FAILURES_TO_END:
            raise Refused(f"{FAILURES_TO_END} resources in a row could not be read: the service seems to be down.")
        if self._in_a_row % FAILURES_TO_ASK == 0:
            who_am_i(self._client)
