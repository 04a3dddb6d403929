"""Text from outside: quoted, printable, short, and without the token."""

from __future__ import annotations

import functools
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_circleci.values.text import LONGEST, PART, first_few, mask, printable, quoted, type_name

TOKEN = "CCIPAT_abcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, "null"),
        (True, "a boolean"),
        (1, "a number"),
        (1.5, "a number"),
        ("", "a string"),
        ([], "a list"),
        ({}, "an object"),
    ],
)
def test_types_have_names(value, name):
    """Each JSON type has a name in words."""
    assert type_name(value) == name


def test_a_value_is_quoted_on_one_short_line_without_the_secret():
    """JSON, cut at 60 characters, after the secret has been masked in it."""
    assert quoted("a\nb") == r'"a\nb"'
    assert quoted({"k": TOKEN}, TOKEN) == '{"k": "***"}'
    assert len(quoted("x" * 99)) == 60
    assert "abcd" not in quoted("x" * 50 + TOKEN, TOKEN)
    assert quoted(functools.reduce(lambda inner, _: [inner], range(100_000), [])) == "a list nested too deeply"


def test_long_lists_are_cut():
    """The first ten names are shown, and how many more there are."""
    assert first_few(["a", "b"]) == "a, b"
    assert first_few([str(number) for number in range(12)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, \u00e9 and \U0001f600", "plain, \u00e9 and \U0001f600"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\x7f\x80\x9b", r"\x7f\x80\x9b"),
        ("\u200e\u200f\u061c\u202a\u202e\u2066\u2069", r"\u200e\u200f\u061c\u202a\u202e\u2066\u2069"),
        ("\u2028\u2029\ufeff\u200b", r"\u2028\u2029\ufeff\u200b"),
        ("half \ud83d", r"half \ud83d"),
    ],
)
def test_what_is_not_printable_is_escaped(text, shown):
    """Line ends, escape sequences, marks of direction, invisible characters and lone surrogates are escaped."""
    assert printable(text) == shown


def test_a_line_has_an_end():
    """A very long text is cut, and the rest is counted."""
    assert printable("x" * (LONGEST + 7)) == "x" * LONGEST + "... (7 more characters)"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"a {TOKEN} b {TOKEN}", "a *** b ***"),
        (f"a {TOKEN[:12]} b", "a *** b"),
        (f"a {TOKEN[3:25]} b {TOKEN[-12:]}", "a *** b ***"),
        (f"{TOKEN[:20]}{TOKEN[:20]}", "***"),
        (f"a {TOKEN[:11]} b", f"a {TOKEN[:11]} b"),
        (TOKEN.lower(), "ccipat***"),
        ("", ""),
    ],
)
def test_the_secret_and_its_parts_are_masked(text, shown):
    """Twelve characters of it or more are masked wherever they occur."""
    assert mask(text, TOKEN) == shown


@pytest.mark.parametrize("spell", [str, lambda text: json.dumps(text)[1:-1], lambda text: quote(text, safe="")])
def test_the_secret_is_masked_as_json_and_urls_spell_it(spell):
    """A token with quotes, backslashes, slashes or blanks is masked also as JSON and URLs write it."""
    secret = 'one"two/three\\four"five/six'
    assert mask(f"a {spell(secret)} b", secret) == "a *** b"


def test_a_short_secret_is_masked_as_a_whole_and_none_not_at_all():
    """A secret that is shorter than a part is masked only as a whole."""
    assert mask("abc ab abc", "abc") == "*** ab ***"
    assert mask("abc", "") == "abc"
    assert mask("a \ud800 b", "\ud800") == "a *** b"


@given(
    st.text(max_size=30),
    st.text(alphabet=[chr(code) for code in range(0x21, 0x7F)], min_size=1, max_size=60),
    st.data(),
)
def test_nothing_of_a_secret_is_left_whatever_is_around_it(around, secret, data):
    """No part of it that is long enough remains, as it is or as JSON and URLs write it."""
    size = min(PART, len(secret))
    start = data.draw(st.integers(0, len(secret) - size))
    part = secret[start : data.draw(st.integers(start + size, len(secret)))]
    for spell in (str, quote, lambda text: json.dumps(text)[1:-1]):
        shown = printable(around + (spell(part) if len(secret) > PART else spell(secret)) + around, secret)
        parts = [secret[at : at + size] for at in range(len(secret) - size + 1)]
        assert not [part for part in parts if part in shown.replace("***", "") and len(part) == PART]
        assert shown.isprintable()
