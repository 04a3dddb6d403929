"""Patterns of names: `*` stands for any characters, `?` for one, `!` before a pattern leaves out what it matches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class JobNames:
    """The names of jobs that the user wants; all of them where nothing is said."""

    wanted: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()

    @staticmethod
    def of(patterns: Iterable[str]) -> JobNames:
        """The names that patterns such as `build*` and `!lint` mean."""
        stripped = [pattern.strip() for pattern in patterns]
        return JobNames(
            tuple(pattern for pattern in stripped if not pattern.startswith("!")),
            tuple(pattern[1:].strip() for pattern in stripped if pattern.startswith("!")),
        )

    @property
    def patterns(self) -> tuple[str, ...]:
        """The patterns, each once and in an order of their own, so that equal ones compare equal."""
        return tuple(sorted({*self.wanted, *(f"!{pattern}" for pattern in self.unwanted)}))

    def matches(self, name: str) -> bool:
        """Whether a job of this name is wanted: by no pattern left out and, if there are any other, by one named."""
        if any(matches(name, pattern) for pattern in self.unwanted):
            return False
        return not self.wanted or any(matches(name, pattern) for pattern in self.wanted)


def matches(name: str, pattern: str) -> bool:
    """Whether a name fits a pattern: `*` stands for any characters, `?` for one, and a bracket for itself."""
    return fnmatchcase(name, pattern.replace("[", "[[]"))
