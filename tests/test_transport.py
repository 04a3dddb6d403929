"""What one exchange promises beneath the client: files are unpacked as they come, whatever the blocks are."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tap_circleci.http.transport import BLOCK, Failed, session, unpacked

CONTENTS = st.one_of(
    st.binary(max_size=300),
    st.builds(lambda line, times: line * times, st.binary(min_size=1, max_size=9), st.integers(0, 60_000)),
)


def cut_up(whole: bytes, sizes: list[int]) -> Iterator[bytes]:
    """The bytes in blocks of these sizes, the last one for all that is left."""
    start = 0
    for size in sizes:
        if whole[start : start + size]:
            yield whole[start : start + size]
        start += size
    if whole[start:]:
        yield whole[start:]


@settings(max_examples=200)
@given(st.lists(CONTENTS, min_size=1, max_size=3), st.lists(st.integers(1, 70_000), max_size=9), st.booleans())
def test_a_gzip_file_is_unpacked_in_blocks_of_bounded_size(contents, sizes, padded):
    """Whatever is in it, however many members it has and however it comes."""
    packed = b"".join(map(gzip.compress, contents)) + (b"\0" * 7 if padded else b"")
    pieces = list(unpacked(cut_up(packed, sizes)))
    assert b"".join(pieces) == b"".join(contents)
    assert all(0 < len(piece) <= BLOCK for piece in pieces)


@given(CONTENTS, st.lists(st.integers(1, 70_000), max_size=9), st.data())
def test_a_cut_gzip_file_is_noticed(content, sizes, data):
    """Wherever it ends before its time, be it in the trailer."""
    packed = gzip.compress(content)
    end = data.draw(st.integers(2, len(packed) - 1))
    with pytest.raises(Failed):
        list(unpacked(cut_up(packed[:end], sizes)))


@given(CONTENTS.filter(lambda content: content[:2] != b"\x1f\x8b"), st.lists(st.integers(1, 70_000), max_size=9))
def test_what_is_no_gzip_file_comes_as_it_is(content, sizes):
    """No byte is lost of what is not packed, of none and of one either."""
    assert b"".join(unpacked(cut_up(content, sizes))) == content


def test_a_session_takes_proxies_and_certificates_from_the_environment_once(monkeypatch):
    """What counts for a host is settled when the session is made; loopback never goes through a proxy."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "inside.example")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/own.pem")
    made = [
        session(url, {}, on_loopback=on_loopback)
        for url, on_loopback in (
            ("https://circleci.com", False),
            ("https://inside.example", False),
            ("https://127.0.0.1", True),
        )
    ]
    assert [one.proxies.get("https") for one in made] == ["http://proxy.example:3128", None, None]
    assert [(one.verify, one.trust_env) for one in made] == [("/own.pem", False)] * 3
