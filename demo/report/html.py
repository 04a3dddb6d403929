"""Bits of the report's HTML: sections, tables, bars, and numbers with their units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from html import escape

#: Numbers and their units stay on one line.
GAP = "\u00a0"
NONE = "\u2013"


def section(title: str, note: str, *parts: str) -> str:
    """A section with a heading and a sentence that says what it shows."""
    name = title.lower().replace(" ", "-")
    heading = f'<h2 id="{name}">{title}</h2>'
    return f'<section aria-labelledby="{name}">{heading}<p class="soft">{note}</p>{"".join(parts)}</section>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; | heads bars, # numbers, and + those that a narrow screen leaves out."""
    marks = {"|": "bar", "#": "number", "+": "number wide"}
    classes = [marks.get(title[0], "") for title in head]

    def line(tag: str, cells: Sequence[str]) -> str:
        scope = ' scope="col"' if tag == "th" else ""
        first = f'<th scope="{"col" if tag == "th" else "row"}">{cells[0]}</th>'
        inner = (
            f"<td{_class(name)}></td>" if tag == "th" and not cell else f"<{tag}{_class(name)}{scope}>{cell}</{tag}>"
            for name, cell in zip(classes[1:], cells[1:], strict=True)
        )
        return f"<tr>{first}{''.join(inner)}</tr>"

    titles = [title.lstrip("|#+") for title in head]
    body = "".join(line("td", row) for row in rows)
    heads = line("th", titles)
    # A table that is wider than the screen is scrolled by the keyboard, too.
    region = f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(titles[0])}">'
    return f"{region}<table><thead>{heads}</thead><tbody>{body}</tbody></table></div>"


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def bar(value: float, most: float, colour: str) -> str:
    """A bar as long as a value is among the most."""
    return f'<i class="{colour}" aria-hidden="true" style="width:{100 * value / most if most else 0:.1f}%"></i>'


def named(name: str, place: str) -> str:
    """A name, and below it where it belongs."""
    return f"{escape(name)}<small>{escape(place)}</small>"


def time(seconds: float | None) -> str:
    """A duration in the unit that suits it."""
    if seconds is None:
        return NONE
    for unit, length, most in (("s", 1, 100), ("min", 60, 6000), ("h", 3600, 360_000)):
        if seconds < most:
            value = seconds / length
            return f"{value:.0f}{GAP}{unit}" if unit == "s" or value >= 20 else f"{value:.1f}{GAP}{unit}"
    return f"{seconds / 86_400:.0f}{GAP}d"


def count(number: int) -> str:
    """A number with narrow blanks between the thousands."""
    return f"{number:,}".replace(",", "\u202f")


def dollars(amount: float) -> str:
    """An amount of money."""
    return f"${amount:,.2f}" if amount < 100 else f"${amount:,.0f}"


def day(day: date) -> str:
    """A day without its year."""
    return f"{day.day} {day:%B}"


def moment(text: str | None) -> str:
    """A time of the database's, shorter."""
    return escape(text[:16].replace("T", " ")) if text else NONE


def share(part: float, whole: float) -> str:
    """A part of a whole in percent."""
    return f"{100 * part / whole:.0f}{GAP}%" if whole else NONE
