"""Patterns of names: `*` matches any characters, `?` one, and a pattern after `!` excludes what it matches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class JobNames:
    """The names of the jobs that the user wants; all names where there are no patterns."""

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
        """The patterns, each once and sorted, so that equal sets of patterns compare equal."""
        return tuple(sorted({*self.wanted, *(f"!{pattern}" for pattern in self.unwanted)}))

    def matches(self, name: str) -> bool:
        """Whether a job of this name is wanted: no pattern excludes it, and one of the others, if any, matches."""
        if any(matches(name, pattern) for pattern in self.unwanted):
            return False
        return not self.wanted or any(matches(name, pattern) for pattern in self.wanted)


def matches(name: str, pattern: str) -> bool:
    """Whether a name matches a pattern: `*` matches any characters, `?` one character, and a bracket itself."""
    return fnmatchcase(name, pattern.replace("[", "[[]"))
