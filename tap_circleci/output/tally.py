"""Counts equal problems: one line for the first, a count for all of them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tap_circleci.errors import INCIDENTS, is_incident
from tap_circleci.values.text import NAMED, counted, first_few

LINES = 100
"""Projects or organizations that have their own line for the same problem of the same stream."""


class Skips:
    """Counts the skipped lists by reason, stream and owner (the project or organization)."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], Counter[str]] = {}

    def add(self, reason: str, stream: str, owner: str) -> bool:
        """Count one. Returns whether it is the first of its kind and is to be logged."""
        owners = self._counts.setdefault((reason, stream), Counter())
        owners[owner] += 1
        return owners[owner] == 1 and len(owners) <= LINES

    def knows(self, reason: str, stream: str) -> bool:
        """Whether a list of this stream was skipped for this reason."""
        return (reason, stream) in self._counts

    def of(self, owner: str) -> list[str]:
        """What was skipped of one project or organization: `3 lists of jobs`."""
        return [
            f"{counted(owners[owner], 'lists')} of {stream}"
            for (_, stream), owners in self._counts.items()
            if owners[owner]
        ]

    @property
    def total(self) -> int:
        """How many lists there are."""
        return sum(owners.total() for owners in self._counts.values())

    def lines(self) -> Iterator[str]:
        """One line for each reason and stream."""
        for (reason, stream), owners in self._counts.items():
            names = first_few([owner for owner in owners if owner])  # the list of organizations has no owner
            yield f"{counted(owners.total(), 'lists')} of {stream}{f' in {names}' if names else ''}: {reason}"


@dataclass
class _Failures:
    """Lists of one stream that failed for the same reason: the sentence and the reason of the first, their number, and
    some of their names."""

    sentence: str
    reason: str
    count: int = 0
    names: list[str] = field(default_factory=list)


class Broken:
    """Counts the lists that could not be read to the end, by stream and reason."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], _Failures] = {}

    def add(self, name: str, stream: str, problem: str) -> None:
        """Count one; `problem` may begin with the request: `GET /path: status 503 in each of 5 attempts`."""
        request, _, reason = problem.partition(": ")
        reason = reason if request.startswith(("GET ", "POST ")) else problem
        first = _Failures(f"{name} could not be read to the end: {problem}.", reason)
        group = self._groups.setdefault((stream, reason.partition(":")[0]), first)
        group.count += 1
        if group.count <= NAMED:
            group.names.append(name)

    @property
    def total(self) -> int:
        """How many lists there are."""
        return sum(group.count for group in self._groups.values())

    def sentences(self) -> Iterator[str]:
        """One sentence for each stream and reason."""
        for (stream, _), group in self._groups.items():
            if group.count == 1:
                yield group.sentence
                continue
            more = f" and {group.count - NAMED} more" if group.count > NAMED else ""
            advice = f" {INCIDENTS}" if is_incident(group.reason) else ""
            yield (
                f"{group.count} lists of {stream} could not be read to the end ({group.reason}):"
                f" {', '.join(group.names)}{more}.{advice}"
            )
