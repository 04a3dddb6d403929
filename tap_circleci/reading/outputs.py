"""The end of a step's output as plain text, read as a stream, since an output may have hundreds of megabytes.

The file is a JSON array: `[{"message": "…", "time": "…", "type": "out"}, …]`. https://circleci.com/docs/api/v1/#single-job
"""

import json
import re
from codecs import getincrementaldecoder
from collections.abc import Iterable, Iterator

from tap_circleci.values.text import UNPAIRED

LONGEST = 10_000
"""Characters at the end of an output that are kept."""
_LONGEST_SEQUENCE = 256
"""Characters of the longest escape sequence that may still be incomplete."""
_SEQUENCE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]"  # colours and moves of the cursor
    r"|\][^\x07\x1b]*(?:\x07|\x1b\\)"  # titles and links
    r"|[ -/]*[0-~])"  # character sets and the like
)
_UNFINISHED = re.compile(r"(?:\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]*\x1b?|[ -/]*)|\r)\Z")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_BEGIN = re.compile(r'"message"\s*:\s*"')
"""It never occurs inside a string, since quotes are escaped there."""
_LONGEST_BEGIN = 64
_INSIDE = re.compile(
    r"""(?:[^"\\]+|\\[^u]
    |\\u(?![dD][89abAB])[0-9a-fA-F]{4}
    |\\u[dD][89abAB][0-9a-fA-F]{2}(?:\\u[0-9a-fA-F]{4}|(?=[^\\]|\\[^u]))  # two halves of a character, or one alone
    )*""",
    re.VERBOSE | re.DOTALL,
)
_LONGEST_ESCAPE = 12


def end_of(blocks: Iterable[bytes]) -> tuple[str, bool]:
    """The last characters of all messages together, and whether there were more.

    Escape sequences and control characters are removed, except newline and tab.
    """
    kept, rest, count = "", "", 0
    for piece in messages(blocks):
        text, rest = _split(rest + piece)
        clean = _plain(text)
        count += len(clean)
        kept = (kept + clean)[-LONGEST:]
    clean = _plain(rest)
    return (kept + clean)[-LONGEST:], count + len(clean) > LONGEST


def _split(text: str) -> tuple[str, str]:
    """The complete part of a text, and the part that may continue in the next piece."""
    unfinished = _UNFINISHED.search(text, max(0, len(text) - _LONGEST_SEQUENCE))
    end = unfinished.start() if unfinished else len(text)
    return text[:end], text[end:]


def _plain(text: str) -> str:
    lines = _SEQUENCE.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROL.sub("", lines)


def messages(blocks: Iterable[bytes]) -> Iterator[str]:
    """The texts under `message` in a JSON array of objects, long ones in pieces; none for any other file."""
    decode = getincrementaldecoder("utf-8-sig")("replace").decode
    buffer, is_inside = "", False
    for block in blocks:
        buffer += decode(block)
        while True:
            if not is_inside:
                begin = _BEGIN.search(buffer)
                if begin is None:
                    buffer = buffer[-_LONGEST_BEGIN:]
                    break
                buffer, is_inside = buffer[begin.end() :], True
            inside = _INSIDE.match(buffer)
            end = inside.end() if inside else 0
            is_inside = buffer[end : end + 1] != '"'
            if is_inside and len(buffer) - end > _LONGEST_ESCAPE:
                end += 1  # not an escape of JSON
            yield _decoded(buffer[:end])
            buffer = buffer[end:]
            if is_inside and len(buffer) <= _LONGEST_ESCAPE:
                break  # the string continues in the next block


def _decoded(text: str) -> str:
    """The decoded content of a JSON string."""
    try:
        found: str = json.loads(f'"{text}"', strict=False)
    except ValueError:
        return text
    return UNPAIRED.sub("\ufffd", found)
