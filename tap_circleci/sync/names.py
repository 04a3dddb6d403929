"""Finds patterns of names in the config, such as `job_names`, that match nothing in a first sync."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from tap_circleci.config import Config
from tap_circleci.streams import STREAMS
from tap_circleci.values.patterns import matches
from tap_circleci.values.rows import Row
from tap_circleci.values.text import counted, first_few


class NamesRead:
    """Collects the names of the rows that the patterns may match."""

    def __init__(self, config: Config, selected: Collection[str]) -> None:
        self._config = config
        self._keys = {
            child.parent: child.timing.names
            for child in map(STREAMS.__getitem__, selected)
            if child.timing.names is not None
        }
        self._names: dict[str, set[str]] = {}

    def add(self, stream: str, row: Row) -> None:
        """Record a row of a stream that was read."""
        key = self._keys.get(stream)
        if key is not None:
            self._names.setdefault(key, set()).add(str(row.get("name")))

    def unmatched(self) -> Iterator[str]:
        """A sentence for each pattern that matches none of them."""
        for key, names in self._names.items():
            for pattern in getattr(self._config, key).wanted:
                if not any(matches(name, pattern) for name in names):
                    found = f"the {counted(len(names), 'names')} that were read: {first_few(sorted(names))}"
                    yield f"{key}: {pattern} matches none of {found}."
