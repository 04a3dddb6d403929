"""The table of a comparison, and what of it is not as wanted."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from statistics import median

from benchmarks.rivals.runs import Run
from benchmarks.rivals.taps import Tap

MARKS = re.compile(r"(<!-- rivals -->\n).*?(<!-- /rivals -->)", re.DOTALL)


class Report:
    """Collects rows, in each of which the first cell is about our tap, and what is not as wanted."""

    def __init__(self, taps: Sequence[Tap]) -> None:
        self._taps = taps
        self._rows: list[list[str]] = []
        self._better: list[list[str]] = [[] for _ in taps[1:]]
        self.shortfalls: list[str] = []

    def part(self, title: str) -> None:
        """Begin a part of the table."""
        self._rows.append([f"**{title}**", *[""] * len(self._taps)])

    def row(self, label: str, cells: Sequence[object], short: str = "") -> None:
        """Add a row; `short` says what about our tap is not as wanted, if anything."""
        self._rows.append([label, *map(str, cells)])
        if short:
            self.shortfalls.append(f"{label}: {short}")

    def ratios(self, label: str, figures: Sequence[Sequence[float]], wanted: float = 1.0, ended: str = "111") -> None:
        """Add a row of medians as multiples of ours; ours is to be `wanted` times less than the best rival's.

        A rival that did not end (a 0 in its place in `ended`) costs at least what it had cost by then.
        """
        ours, *rivals = (median(values) for values in figures)
        best = min(rivals) / ours
        short = "" if best >= wanted else f"the best rival's is {times(best)} ours, wanted are {times(wanted)}"
        for figure, better in zip(rivals, self._better, strict=True):
            better.extend([label] if figure < ours else [])
        over = ["" if done == "1" else "> " for done in ended[1:]]
        self.row(label, ["1", *(more + times(rival / ours) for more, rival in zip(over, rivals, strict=True))], short)

    def table(self) -> str:
        """The whole as Markdown."""
        better = ["**Better than ours**", "", *("; ".join(labels) or "nothing counted here" for labels in self._better)]
        machine = (
            f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
        )
        heading = f"Measured on {date.today().isoformat()} with {machine}."
        return "\n".join([heading, "", *self._markdown([*self._rows, better]), ""])

    def _markdown(self, rows: Sequence[Sequence[str]]) -> list[str]:
        names = [f"{tap.name} {tap.version}" for tap in self._taps]
        return ["| " + " | ".join(cells) + " |" for cells in (["", *names], ["---"] * (len(names) + 1), *rows)]


def put(table: str, path: Path) -> None:
    """Put a table between the marks in a file."""
    old = path.read_text(encoding="utf-8")
    path.write_text(MARKS.sub(lambda marks: marks[1] + table + marks[2], old), encoding="utf-8")


def times(ratio: float) -> str:
    """A ratio for people: 0.85, 7.4, 130."""
    return f"{ratio:.0f} x" if ratio >= 20 else f"{ratio:.2g} x" if ratio < 10 else f"{ratio:.3g} x"


def ending(run: Run, limit: float) -> str:
    """How a run ended, in words."""
    if run.status is None:
        return f"does not end in {limit:.0f} s"
    return "" if run.status == 0 else f"exit {run.status}"
