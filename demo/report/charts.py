"""Charts as inline SVG, drawn by pygal and coloured by the page's style sheet; no script, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any
from xml.etree import ElementTree

import pygal

#: Drawn about as wide as a phone is, so that the text is readable there and larger elsewhere.
LOOK: Mapping[str, Any] = {
    "width": 340,
    "height": 120,
    "margin": 4,
    "explicit_size": False,
    "js": (),
    "css": (),
    "show_legend": False,
    "show_minor_x_labels": False,
    "truncate_label": -1,
    "no_data_text": "",
    "style": pygal.style.Style(label_font_size=12, major_label_font_size=12),
}


def stacked_bars(title: str, steps: Sequence[date], series: Mapping[str, Sequence[int]]) -> str:
    """How many of what at each step."""
    chart = pygal.StackedBar(**LOOK, spacing=1, value_formatter=lambda value: f"{value:.0f}")
    highest = max(map(sum, zip(*series.values(), strict=True)), default=0)
    return _drawn(chart, title, series, steps, _round_labels(highest, whole=True))


def lines(title: str, steps: Sequence[date], series: Mapping[str, Sequence[float | None]]) -> str:
    """Values at each step, where there are any."""
    chart = pygal.Line(**LOOK, dots_size=1.6, value_formatter=lambda value: f"{value:g}")
    highest = max((value for values in series.values() for value in values if value is not None), default=0)
    return _drawn(chart, title, series, steps, _round_labels(highest))


def _drawn(
    chart: Any, title: str, series: Mapping[str, Sequence[float | None]], steps: Sequence[date], labels: list[float]
) -> str:
    """The chart's SVG without what only scripts need, with a title for those who cannot see it."""
    chart.x_labels = [f"{step.day} {step:%b}" for step in steps]
    chart.x_labels_major = chart.x_labels[:: max(1, -(-len(steps) // 5))]
    chart.y_labels = labels
    for name, values in series.items():
        chart.add(name, values)
    root = chart.render_tree()
    for parent in list(root.iter()):
        for child in list(parent):
            # Comments have no text as tag; these overlays are for scripts.
            is_comment, role = not isinstance(child.tag, str), child.get("class", "")
            if (
                is_comment
                or child.tag in ("defs", "desc", "title")
                or role.endswith(("text-overlay", "tooltip-overlay"))
            ):
                parent.remove(child)
    for element in root.iter():
        for name in ("id", "style", "xmlns"):
            element.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", title)
    return ElementTree.tostring(root, encoding="unicode")


def _round_labels(highest: float, whole: bool = False) -> list[float]:
    """Three to six round values from 0 to above the highest; of things that are counted, whole numbers."""
    if highest <= 0:
        return [0, 1]
    power = 1
    while highest > power * 10:
        power *= 10
    steps = [step * power for step in (0.5, 1, 2, 2.5, 5)]
    step = next(step for step in steps if highest <= 4 * step and not (whole and step % 1))
    count = int(-(-highest // step))
    return [number * step for number in range(count + 1)]
