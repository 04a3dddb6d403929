"""Makes text from outside safe to show: quoted, printable, short, and without the token."""

import json
import re
from functools import lru_cache
from urllib.parse import quote

UNPAIRED = re.compile("[\ud800-\udfff]")
"""Lone surrogates, which JSON can spell and no encoding can hold."""

HIDDEN = "***"
PART = 12
"""Consecutive characters of a secret that are masked wherever they occur."""
LONGEST = 4_000
"""Characters of one line of the log."""


def type_name(value: object) -> str:
    """What a JSON value is, in words."""
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)


def quoted(value: object, secret: str = "") -> str:
    """A value as JSON on one line, at most 60 characters long and without the secret."""
    try:
        text = json.dumps(value, default=str)
    except RecursionError:
        return f"{type_name(value)} nested too deeply"
    text = mask(text, secret)
    return text if len(text) <= 60 else text[:57] + "..."


NAMED = 10
"""How many names of one kind are listed."""


def other_spelling(name: str) -> str:
    """The other spelling of a field that the API may use: `a_b` for `a-b`, and the other way round."""
    return name.translate(_OTHER_SPELLING)


_OTHER_SPELLING = str.maketrans("-_", "_-")


def first_few(names: list[str]) -> str:
    """The first names of a list that may be long, and how many more there are."""
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def counted(count: int, things: str) -> str:
    """A number of things: `1 list` and `2 lists` of `lists`."""
    return f"{count} {things.removesuffix('s') if count == 1 else things}"


def printable(text: str, secret: str = "") -> str:
    """A text that is safe to show on one line: characters that move the cursor, are invisible or change the direction
    of writing are escaped, the secret is masked, and a very long text is cut."""
    text = mask(text, secret)
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]}... ({len(text) - LONGEST} more characters)"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def mask(text: str, secret: str) -> str:
    """A text with the secret masked, and each part of it of 12 characters or more, also in the spellings of JSON and
    URLs. A shorter secret is masked as a whole."""
    if not secret:
        return text
    shown: list[str] = []
    end = 0
    for match in _parts_of(secret).finditer(text):
        if match.start() > end or not shown:  # adjacent parts are masked as one
            shown += [text[end : match.start()], HIDDEN]
        end = max(end, match.end(1))
    return "".join(shown) + text[end:]


@lru_cache(maxsize=1)
def _parts_of(secret: str) -> re.Pattern[str]:
    """A pattern for the places where a part of the secret begins, also within another part."""
    parts = set()
    for spelled in (secret, json.dumps(secret)[1:-1], quote(secret, safe="", errors="backslashreplace")):
        size = min(PART, len(spelled))
        parts |= {spelled[start : start + size] for start in range(len(spelled) - size + 1)}
    longest_first = sorted(parts, key=len, reverse=True)
    return re.compile(f"(?=({'|'.join(map(re.escape, longest_first))}))")
